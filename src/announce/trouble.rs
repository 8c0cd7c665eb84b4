//! Troubles: why an object is out of sync although nothing is in progress, and why the repository cannot be
//! used. People are notified once when a trouble begins and once when it is over.

use std::time::Duration;

use super::reason::{self, When};
use super::{Around, Message, Story, Subject, Tone, Weight, cause};
use crate::api::conditions::{
    self, ACCEPTED, APPLIED, Condition, PRUNED, PUBLISHED, READABLE, READY, STALLED, SUSPENDED, SYNCED,
    TAKEN_OVER,
};

/// What may end without action is reported when it has lasted this long.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// A refusal must last this long: a single one may be a mistake of the server, or come before what it waits for.
const SLIP: Duration = Duration::from_secs(2 * 60);
/// A thread of a trouble starts like this.
pub const PREFIX: &str = "trouble/";

/// The troubles that conditions report. Reasons in `told` belong to other stories.
pub fn stories(subject: &Subject, conditions: &[Condition], told: &[&str], around: Around<'_>) -> Vec<Story> {
    let find = |kind: &str| conditions.iter().find(|condition| condition.r#type == kind);
    let mut stories = Vec::new();
    let is_told = |condition: &&Condition| !told.contains(&condition.reason.as_deref().unwrap_or_default());
    // Whatever became of it, people asked that it rests.
    if conditions::is_true(conditions, SUSPENDED) {
    } else if let Some(stalled) = find(STALLED).filter(|stalled| stalled.status == "True").filter(is_told) {
        stories.push(story(subject, stalled, Tone::Person, around));
    } else if let Some(ready) = find(READY).filter(|ready| ready.status == "False").filter(is_told) {
        // Most of what is not ready is in progress, or is what people asked for.
        let reason = reason::of(ready.reason.as_deref().unwrap_or_default());
        let told = matches!(reason.when, When::AtOnce | When::Lasting);
        stories.extend(told.then(|| failing(subject, ready, around)));
    }
    for kind in [SYNCED, APPLIED, PRUNED, TAKEN_OVER, ACCEPTED, READABLE, PUBLISHED] {
        let failed = find(kind).filter(|condition| condition.status == "False");
        stories.extend(failed.map(|condition| failing(subject, condition, around)));
    }
    stories
}

fn failing(subject: &Subject, condition: &Condition, around: Around<'_>) -> Story {
    let reason = reason::of(condition.reason.as_deref().unwrap_or_default());
    // No condition has the time since when this is the reason: a build may have come before.
    let (tone, hold) = match reason.when {
        When::Lasting => (Tone::Bad, PATIENCE),
        When::NoSlip => (Tone::Person, SLIP),
        When::Said | When::AtOnce => (Tone::Person, Duration::ZERO),
    };
    Story { hold, ..story(subject, condition, tone, around) }
}

fn story(subject: &Subject, condition: &Condition, tone: Tone, around: Around<'_>) -> Story {
    let reason = condition.reason.as_deref().unwrap_or("Unknown");
    let since = condition.last_transition_time.map_or(0, |since| since.as_second());
    let text = condition.message.clone().unwrap_or_default();
    let known = reason::of(reason);
    let commit = around.commit.filter(|_| known.by_commit);
    let link = commit.and_then(|commit| around.commit_link(commit));
    let commit = commit.map(|commit| ("Commit", around.commit_words(commit)));
    let title = match tone {
        Tone::Person => format!("{} needs attention: {reason}", subject.short_name()),
        _ => format!("{} is blocked: {reason}", subject.short_name()),
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
        next: known.advice.map(str::to_owned),
        links: link.into_iter().collect(),
    };
    Story {
        thread: format!("{PREFIX}{reason}/{since}"),
        head,
        replies: Vec::new(),
        over: false,
        hold: Duration::ZERO,
        cause: Some(cause(subject.own_name(), reason, &text)),
    }
}

/// The message for a trouble that is over, with the status now.
pub fn resolved(subject: &Subject, thread: &str, conditions: &[Condition]) -> Message {
    let reason = thread.strip_prefix(PREFIX).unwrap_or(thread).split('/').next().unwrap_or_default();
    let find = |kind: &str| conditions.iter().find(|condition| condition.r#type == kind);
    let stands = find(SUSPENDED).or_else(|| find(READY)).map_or(String::new(), |stands| {
        let word = conditions::reason(conditions).unwrap_or("unknown");
        format!("Now {word}: {}", stands.message.as_deref().unwrap_or_default())
    });
    Message {
        id: "resolved".to_owned(),
        reason: "Recovered".into(),
        tone: Tone::Good,
        weight: Weight::Loud,
        title: format!("{}: {reason} is over", subject.short_name()),
        text: stands,
        facts: Vec::new(),
        excerpt: Vec::new(),
        next: None,
        links: Vec::new(),
    }
}
