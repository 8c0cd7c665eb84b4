//! The daily digest: the health of all objects, and what has happened since the previous digest.

use jiff::Timestamp;

use super::context::node_groups;
use super::{COMMIT, Context, Message, Subject, Tone, Weight, listed, message, short_name};
use crate::api::conditions::{self, APPLIED, Condition, NOTIFIED, READY, RECONCILING, STALLED, SUSPENDED};
use crate::api::words::{RolloutResult, RunResult};
use crate::api::{AMIRefresherStatus, ObjectKey, PackerBuilderStatus, reasons};

/// Reasons of objects that are paused because people asked for it.
const ON_PURPOSE: [&str; 2] = [reasons::SUSPENDED, reasons::DISABLED];

/// All objects. One that was not reconciled yet has an empty status.
pub struct Inventory<'a> {
    pub builders: Vec<(ObjectKey, PackerBuilderStatus)>,
    pub refreshers: Vec<(ObjectKey, AMIRefresherStatus)>,
    /// The conditions of the repository.
    pub repository: &'a [Condition],
    /// Start of the period that the digest covers.
    pub since: Timestamp,
}

/// The health of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Healthy,
    InProgress,
    Paused,
    Blocked,
    NeedsAttention,
}

/// Returns the digest as one message.
pub fn message_of(subject: &Subject, inventory: &Inventory<'_>, context: Context<'_>) -> Message {
    let objects = objects(inventory);
    let named = |which: Health| -> Vec<String> {
        objects
            .iter()
            .filter(|(_, health, _)| *health == which)
            .map(|(name, _, why)| with_note(name, why))
            .collect()
    };
    let (attention, blocked) = (named(Health::NeedsAttention), named(Health::Blocked));
    let failing: Vec<&Condition> = inventory.repository.iter().filter(|found| found.is_false()).collect();
    let tone = if !attention.is_empty() || !failing.is_empty() {
        Tone::Person
    } else if !blocked.is_empty() {
        Tone::Bad
    } else {
        Tone::Good
    };
    let title = format!(
        "{}: {}, {}",
        subject.short_name(),
        counted(inventory),
        overall(attention.len(), blocked.len(), failing.is_empty())
    );
    let mut digest = message("head", "Digest", tone, Weight::Milestone, title);
    let problems = failing.iter().filter_map(|found| found.message.as_deref());
    digest.text = problems.collect::<Vec<_>>().join("; ");
    let since = inventory.since;
    let lists = [
        ("Need attention", attention),
        ("Blocked", blocked),
        ("In progress", named(Health::InProgress)),
        ("Paused", named(Health::Paused)),
        ("Built", built(inventory, since)),
        ("Failed builds", failed_builds(inventory, since)),
        ("Rolled out", rolled_out(inventory, since, RolloutResult::Done)),
        ("Failed rollouts", rolled_out(inventory, since, RolloutResult::Failed)),
        ("Drift", drift(inventory)),
    ];
    digest.facts = lists
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| (name, listed(&list)))
        .collect();
    digest.facts.extend(context.commit.map(|commit| (COMMIT, context.commit_words(commit))));
    digest.next = (tone != Tone::Good).then(|| "Run `opsy status` for details.".to_owned());
    digest.links = context.commit.and_then(|commit| context.commit_link(commit)).into_iter().collect();
    digest
}

/// Returns the name, the health and the reason of every object.
fn objects(inventory: &Inventory<'_>) -> Vec<(String, Health, String)> {
    let builders = inventory.builders.iter().map(|(object, status)| (object, status.conditions.as_deref()));
    let refreshers =
        inventory.refreshers.iter().map(|(object, status)| (object, status.conditions.as_deref()));
    let all = builders.chain(refreshers).map(|(object, conditions)| {
        let (health, why) = health(conditions.unwrap_or_default());
        (short_name(object), health, why.to_owned())
    });
    all.collect()
}

/// Returns the health of an object, and the reason if it is blocked or needs attention.
fn health(conditions: &[Condition]) -> (Health, &str) {
    let find = |kind: &str, status: &str| {
        let found = conditions.iter().find(|found| found.r#type == kind && found.status == status)?;
        Some(found.reason.as_deref().unwrap_or_default())
    };
    let beside = [APPLIED, NOTIFIED].into_iter().find_map(|kind| find(kind, conditions::FALSE));
    if beside.is_none() && conditions::is_true(conditions, SUSPENDED) {
        return (Health::Paused, "");
    }
    match (find(STALLED, conditions::TRUE), beside, find(READY, conditions::FALSE)) {
        (Some(why), _, _) => (Health::NeedsAttention, why),
        (None, Some(why), _) => (Health::Blocked, why),
        (None, None, Some(_)) if conditions::is_true(conditions, RECONCILING) => (Health::InProgress, ""),
        (None, None, Some(why)) if ON_PURPOSE.contains(&why) => (Health::Paused, ""),
        (None, None, Some(why)) => (Health::Blocked, why),
        (None, None, None) if find(READY, conditions::TRUE).is_none() => (Health::InProgress, ""),
        (None, None, None) => (Health::Healthy, ""),
    }
}

fn built(inventory: &Inventory<'_>, since: Timestamp) -> Vec<String> {
    let of = |(object, status): &(ObjectKey, PackerBuilderStatus)| {
        let runs = status.history.iter().flatten().filter(|run| run.result == RunResult::Succeeded.as_str());
        let runs = runs.filter(|run| run.ended_at.is_some_and(|ended| ended >= since));
        let image = |run: &crate::api::builder::RunRecord| run.images.iter().flatten().next().cloned();
        let name = short_name(object);
        runs.map(|run| format!("{name} {}", image(run).unwrap_or_default())).collect::<Vec<_>>()
    };
    inventory.builders.iter().flat_map(of).collect()
}

fn failed_builds(inventory: &Inventory<'_>, since: Timestamp) -> Vec<String> {
    let of = |(object, status): &(ObjectKey, PackerBuilderStatus)| {
        let runs = status.history.iter().flatten().filter(|run| run.has_failed());
        let count = runs.filter(|run| run.ended_at.is_some_and(|ended| ended >= since)).count();
        (count > 0).then(|| with_note(&short_name(object), &count.to_string()))
    };
    inventory.builders.iter().filter_map(of).collect()
}

fn rolled_out(inventory: &Inventory<'_>, since: Timestamp, result: RolloutResult) -> Vec<String> {
    let of = |(object, status): &(ObjectKey, AMIRefresherStatus)| {
        let name = short_name(object);
        let records = status.history.iter().flatten().filter(|record| record.result == result.as_str());
        let records = records.filter(|record| record.finished_at.is_some_and(|ended| ended >= since));
        records.map(|record| format!("{name} {}", record.target)).collect::<Vec<_>>()
    };
    inventory.refreshers.iter().flat_map(of).collect()
}

/// Returns the refreshers whose node groups do not run the target image, with the number of these groups.
fn drift(inventory: &Inventory<'_>) -> Vec<String> {
    let of = |(object, status): &(ObjectKey, AMIRefresherStatus)| {
        let drifted = usize::try_from(status.drifted?).ok().filter(|drifted| *drifted > 0)?;
        Some(with_note(&short_name(object), &node_groups(drifted)))
    };
    inventory.refreshers.iter().filter_map(of).collect()
}

/// Returns a name with a note in parentheses, if there is one.
fn with_note(name: &str, note: &str) -> String {
    if note.is_empty() { name.to_owned() } else { format!("{name} ({note})") }
}

fn counted(inventory: &Inventory<'_>) -> String {
    let many = |count: usize, word: &str| {
        if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
    };
    format!(
        "{} and {}",
        many(inventory.builders.len(), "builder"),
        many(inventory.refreshers.len(), "refresher")
    )
}

/// Returns the end of the title: whether everything is healthy, or what is not.
fn overall(attention: usize, blocked: usize, repository_healthy: bool) -> String {
    let attention = match attention {
        0 => None,
        1 => Some("1 needs attention".to_owned()),
        many => Some(format!("{many} need attention")),
    };
    let blocked = (blocked > 0).then(|| format!("{blocked} blocked"));
    let repository = (!repository_healthy).then(|| "the repository has a problem".to_owned());
    let parts: Vec<String> = repository.into_iter().chain(attention).chain(blocked).collect();
    if parts.is_empty() { "all healthy".to_owned() } else { parts.join(", ") }
}
