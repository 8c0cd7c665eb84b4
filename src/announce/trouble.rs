//! Stories of problems: why an object is out of sync although nothing is in progress, and why the repository cannot be
//! used. People are notified once when a problem begins and once when it is resolved.

use std::time::Duration;

use super::reason::{self, When};
use super::{COMMIT, Context, Message, Story, Subject, Tone, Weight, cause};
use crate::api::conditions::{
    self, ACCEPTED, APPLIED, Condition, LOADED, PRUNED, PUBLISHED, READABLE, READY, STALLED, SUSPENDED,
    SYNCED,
};
use crate::api::reasons;

/// Delay of `When::OncePersistent`: most throttling and outages of AWS and Git servers end within minutes.
const PERSISTENT_AFTER: Duration = Duration::from_secs(10 * 60);
/// Delay of `When::OnceConfirmed`: long enough for a retry to succeed, or for a missing namespace to be created.
const CONFIRMED_AFTER: Duration = Duration::from_secs(2 * 60);
/// Start of the thread name of every problem.
pub const PREFIX: &str = "trouble/";

/// Returns the problems that the conditions report, except for the reasons in `elsewhere`, which other stories report.
pub fn stories(
    subject: &Subject,
    conditions: &[Condition],
    elsewhere: &[&str],
    context: Context<'_>,
) -> Vec<Story> {
    let find = |kind: &str| conditions.iter().find(|condition| condition.r#type == kind);
    let mut stories = Vec::new();
    let is_reported_here =
        |condition: &&Condition| !elsewhere.contains(&condition.reason.as_deref().unwrap_or_default());
    // People asked for the suspension, so neither Stalled nor Ready is news while it lasts.
    if conditions::is_true(conditions, SUSPENDED) {
    } else if let Some(stalled) = find(STALLED).filter(|stalled| stalled.is_true()).filter(is_reported_here) {
        stories.push(story(subject, stalled, Tone::Person, context));
    } else if let Some(ready) = find(READY).filter(|ready| ready.is_false()).filter(is_reported_here) {
        // Most objects that are not ready are in progress, or are in the state that people asked for.
        let reason = reason::of(ready.reason.as_deref().unwrap_or_default());
        let notifies = matches!(reason.when, When::Immediately | When::OncePersistent);
        stories.extend(notifies.then(|| failing(subject, ready, context)));
    }
    for kind in [SYNCED, APPLIED, PRUNED, LOADED, ACCEPTED, READABLE, PUBLISHED] {
        let failed = find(kind).filter(|condition| condition.is_false());
        stories.extend(failed.map(|condition| failing(subject, condition, context)));
    }
    stories
}

fn failing(subject: &Subject, condition: &Condition, context: Context<'_>) -> Story {
    let reason = reason::of(condition.reason.as_deref().unwrap_or_default());
    // The delay starts when the notifier first sees the story: `lastTransitionTime` of the condition can be the time of
    // an earlier reason, such as a build.
    let (tone, hold) = match reason.when {
        When::OncePersistent => (Tone::Bad, PERSISTENT_AFTER),
        When::OnceConfirmed => (Tone::Person, CONFIRMED_AFTER),
        When::OnOwnCondition | When::Immediately => (Tone::Person, Duration::ZERO),
    };
    Story { hold, ..story(subject, condition, tone, context) }
}

fn story(subject: &Subject, condition: &Condition, tone: Tone, context: Context<'_>) -> Story {
    let reason = condition.reason.as_deref().unwrap_or(conditions::UNKNOWN);
    let since = condition.last_transition_time.map_or(0, |since| since.as_second());
    let text = condition.message.clone().unwrap_or_default();
    let known = reason::of(reason);
    let commit = context.commit.filter(|_| known.by_commit);
    let link = commit.and_then(|commit| context.commit_link(commit));
    let commit = commit.map(|commit| (COMMIT, context.commit_words(commit)));
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

/// Returns the message that a problem is resolved, with the current state of the object.
pub fn resolved(subject: &Subject, thread: &str, conditions: &[Condition]) -> Message {
    let reason = thread.strip_prefix(PREFIX).unwrap_or(thread).split('/').next().unwrap_or_default();
    let find = |kind: &str| conditions.iter().find(|condition| condition.r#type == kind);
    let state = find(SUSPENDED).or_else(|| find(READY)).map_or(String::new(), |condition| {
        let word = conditions::reason(conditions).unwrap_or("unknown");
        format!("The current state is {word}: {}", condition.message.as_deref().unwrap_or_default())
    });
    Message {
        id: "resolved".to_owned(),
        reason: reasons::RECOVERED.into(),
        tone: Tone::Good,
        weight: Weight::Loud,
        title: format!("{}: {reason} is resolved", subject.short_name()),
        text: state,
        facts: Vec::new(),
        excerpt: Vec::new(),
        next: None,
        links: Vec::new(),
    }
}
