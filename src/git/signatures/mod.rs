//! Signatures of commits: verifies commits against the trusted signers, and signs the commits of the agent.
//!
//! ```text
//! signers (files, own key) ─> keyring (pure) ┐
//! range (commits of the clone) ─────────────>├─> signed (pure) ─> ssh | openpgp (pure) ─> accepted or refused
//! key (private key | public key ─> ssh_agent) ─> signature of the agent's commits
//! ```

mod allowed;
mod key;
mod keyring;
mod openpgp;
mod range;
mod refusal;
mod signed;
mod signers;
mod ssh;
mod ssh_agent;
mod times;

pub use key::SigningKey;
pub use range::Range;
pub(super) use range::{is_signed, verify};
pub use refusal::Refusal;
pub use signers::Signers;
