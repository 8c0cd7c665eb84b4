//! Why a commit is not accepted: the errors of its signature. Pure.

/// An error of the signature of a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it has no signature")]
    Unsigned,
    #[error("it has several signatures")]
    Several,
    #[error("it has {bytes} bytes, more than the limit of {limit}")]
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
    InvalidKey { key: String, why: String },
    #[error("its signature by the key {key} {why}")]
    Weak { key: String, why: String },
    #[error("it has more than {limit} ancestors that were not verified before")]
    TooMany { limit: usize },
}
