//! The push webhook: a Git server reports a push, and the agent fetches at once instead of at its next interval.
//!
//! ```text
//! POST /hook ─> edge: limits ─> forge: who sends what (pure) ─> proof: does the sender know the secret (pure)
//!                                                                  └─> forge: addresses, branch (pure) ─> inbox ─> agent
//! ```
//! A delivery carries no data that the agent acts on: it only makes a fetch happen earlier. Therefore replays are
//! harmless, the interval makes up for lost deliveries, and deliveries in quick succession cause one wakeup.

mod budget;
mod edge;
mod forge;
mod inbox;
mod payload;
mod proof;
mod secret;

pub use edge::{PATH, Receiver};
pub use inbox::Inbox;
pub use secret::{InvalidSecret, Secret};
