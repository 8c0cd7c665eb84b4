//! Why a commit is not accepted, in words that say what is wrong with its signature. Pure.

/// What is wrong with the signature of a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it has no signature")]
    Unsigned,
    #[error("it has several signatures")]
    Several,
    #[error("it has {bytes} bytes, and at most {limit} are verified")]
    TooLarge { bytes: usize, limit: usize },
    #[error("its signature cannot be read: {0}")]
    Unreadable(String),
    #[error("its signature is neither an SSH nor an OpenPGP signature")]
    OtherKind,
    #[error("its signature is by the key {key}, which is not a trusted signer")]
    Unknown { key: String },
    #[error("its signature by the key {key} is not valid for its content")]
    Bad { key: String },
    #[error("its signature is by the trusted key {key}, which {why}")]
    Unfit { key: String, why: String },
    #[error("its signature by the key {key} {why}")]
    Weak { key: String, why: String },
    #[error("more than {limit} commits lead to it that were not verified before")]
    TooMany { limit: usize },
}
