//! Troubles: why an object is not as Git says though nothing is under way. Told once when they begin
//! and once when they are over.

use std::time::Duration;

use super::{Around, Message, Story, Tone, Weight, cause, short_name};
use crate::api::ObjectKey;
use crate::api::conditions::{self, APPLIED, Condition, PUBLISHED, READY, STALLED};

/// What may go away by itself is told when it has lasted this long.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Reasons that are waited out first.
const PATIENT: [&str; 6] = [
    "AwsUnavailable",
    "AwsNotFound",
    "AwsRefused",
    "TemplateUnavailable",
    "EngineUnavailable",
    "BaseImageNotFound",
];
/// Reasons that only a person can mend, though they are looked at again by themselves.
const AT_ONCE: [&str; 1] = ["AwsDenied"];

/// Reasons that came with a commit.
const BY_COMMIT: [&str; 4] = ["InvalidSpec", "ManifestBroken", "PruneRefused", "TemplateInvalid"];

/// A thread of a trouble starts like this.
pub const PREFIX: &str = "trouble/";

/// The troubles an object's conditions tell of. Reasons in `told` belong to other stories.
pub fn stories(
    object: &ObjectKey,
    conditions: &[Condition],
    told: &[&str],
    around: Around<'_>,
) -> Vec<Story> {
    let find = |kind: &str| conditions.iter().find(|condition| condition.r#type == kind);
    let mut stories = Vec::new();
    let is_told = |condition: &&Condition| !told.contains(&condition.reason.as_deref().unwrap_or_default());
    if let Some(stalled) = find(STALLED).filter(|stalled| stalled.status == "True").filter(is_told) {
        stories.push(story(object, stalled, Tone::Person, around));
    } else if let Some(ready) = find(READY).filter(|ready| ready.status == "False").filter(is_told) {
        stories.extend(failing(object, ready, around));
    }
    for kind in [APPLIED, PUBLISHED] {
        let failed = find(kind).filter(|condition| condition.status == "False");
        stories.extend(failed.map(|condition| story(object, condition, Tone::Person, around)));
    }
    stories
}

fn failing(object: &ObjectKey, ready: &Condition, around: Around<'_>) -> Option<Story> {
    let reason = ready.reason.as_deref()?;
    if AT_ONCE.contains(&reason) {
        return Some(story(object, ready, Tone::Person, around));
    }
    // Since when it is for this reason no condition says: a build may have gone before.
    PATIENT.contains(&reason).then(|| Story { hold: PATIENCE, ..story(object, ready, Tone::Bad, around) })
}

fn story(object: &ObjectKey, condition: &Condition, tone: Tone, around: Around<'_>) -> Story {
    let reason = condition.reason.as_deref().unwrap_or("Unknown");
    let since = condition.last_transition_time.map_or(0, |since| since.as_second());
    let text = condition.message.clone().unwrap_or_default();
    // What a commit brought, and only a commit can mend.
    let commit = around.commit.filter(|_| BY_COMMIT.contains(&reason));
    let link = commit.and_then(|commit| around.commit_link(commit));
    let commit = commit.map(|commit| ("Commit", around.commit_words(commit)));
    let title = match tone {
        Tone::Person => format!("{} needs a person: {reason}", short_name(object)),
        _ => format!("{} is held up: {reason}", short_name(object)),
    };
    let head = Message {
        id: "head".to_owned(),
        reason: reason.to_owned().into(),
        tone,
        weight: Weight::Loud,
        title,
        text: text.clone(),
        facts: commit.into_iter().collect(),
        excerpt: Vec::new(),
        next: advice(reason).map(str::to_owned),
        links: link.into_iter().collect(),
    };
    Story {
        thread: format!("{PREFIX}{reason}/{since}"),
        head,
        replies: Vec::new(),
        over: false,
        hold: Duration::ZERO,
        cause: Some(cause(object, reason, &text)),
    }
}

/// A trouble that is no more: how the object stands now.
pub fn resolved(object: &ObjectKey, thread: &str, conditions: &[Condition]) -> Message {
    let reason = thread.strip_prefix(PREFIX).unwrap_or(thread).split('/').next().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.r#type == conditions::READY);
    let now = ready.map_or(String::new(), |ready| {
        let (word, words) = (ready.reason.as_deref(), ready.message.as_deref());
        format!("Now {}: {}", word.unwrap_or("unknown"), words.unwrap_or_default())
    });
    Message {
        id: "resolved".to_owned(),
        reason: "Recovered".into(),
        tone: Tone::Good,
        weight: Weight::Loud,
        title: format!("{}: {reason} is over", short_name(object)),
        text: now,
        facts: Vec::new(),
        excerpt: Vec::new(),
        next: None,
        links: Vec::new(),
    }
}

/// What to do about it, where the message of the condition does not say so itself.
fn advice(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "InvalidSpec" => "Mend the manifest in Git; `opsy validate` says the same before a merge.",
        "ManifestBroken" => {
            "Mend the file in Git; until then the last good version is in force. `opsy validate` says the same before a merge."
        }
        "AwsDenied" => "Allow the action in the agent's IAM policy; it is tried again by itself.",
        "AwsUnavailable" | "AwsNotFound" | "AwsRefused" => {
            "It is tried again by itself; look at AWS's health and the agent's network if it lasts."
        }
        "TemplateInvalid" => "Mend the path or the file in Git.",
        "TemplateUnavailable" => "It is tried again by itself; look at the Git server if it lasts.",
        "BaseImageNotFound" => "Check spec.amiFilters: name, architecture and owner-id.",
        "AccountNotAllowed" => "Check the agent's credentials, or `accounts` in opsy.yaml.",
        "PushRefused" => "Let Opsy push to this branch, or name another in publish.branch of opsy.yaml.",
        "PushFailed" => "It is tried again by itself; look at the Git server if it lasts.",
        _ => return None,
    })
}
