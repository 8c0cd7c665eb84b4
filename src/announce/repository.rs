//! What is told of the repository: files that are broken, a remote or a home that takes nothing, and the
//! digest of the day.

use super::{Around, Message, Story, Subject, TROUBLE, trouble};
use crate::api::conditions::Condition;

/// A thread of a digest starts like this.
const DIGEST: &str = "digest/";

/// Everything there is to tell of the repository.
pub fn stories(subject: &Subject, conditions: &[Condition], around: Around<'_>) -> Vec<Story> {
    trouble::stories(subject, conditions, &[], around)
}

/// The thread of a day's digest.
pub fn digest_thread(day: &str) -> String {
    format!("{DIGEST}{day}")
}

/// The digest of a day: said once. It is over as soon as it is known, so that it is not written anew.
pub fn digest(day: &str, head: Message, known: bool) -> Story {
    let hold = std::time::Duration::ZERO;
    Story { thread: digest_thread(day), head, replies: Vec::new(), over: known, hold, cause: None }
}

/// Is this told where the repository's own troubles are told, too? Once is enough there.
pub fn is_told_of_the_repository(story: &Story) -> bool {
    let reason = story.thread.strip_prefix(TROUBLE).and_then(|rest| rest.split('/').next());
    matches!(reason, Some("ManifestBroken" | "PruneRefused" | "PushRefused" | "PushFailed"))
}
