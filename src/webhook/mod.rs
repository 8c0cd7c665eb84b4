//! The push webhook: a Git server reports a push, and the agent fetches at once instead of at its next interval.
//!
//! ```text
//! POST /hook ─> edge: limits ─> forge: who sends what (pure) ─> proof: does the sender know the secret (pure)
//!                                                                  └─> forge: addresses, branch (pure) ─> inbox ─> agent
//! ```
//! A delivery carries no data that the agent acts on: it only brings a fetch forward. So replays are harmless, lost
//! deliveries are made up for by the interval, and deliveries in quick succession are one wakeup.

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
