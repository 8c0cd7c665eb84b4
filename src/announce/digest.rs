//! The digest of a day: the status of all objects, and what has happened since the day before.

use jiff::Timestamp;

use super::builder::has_failed;
use super::{Around, Message, Subject, Tone, Weight, listed, message, short_name};
use crate::api::conditions::{self, APPLIED, Condition, NOTIFIED, READY, RECONCILING, STALLED, SUSPENDED};
use crate::api::{AMIRefresherStatus, ObjectKey, PackerBuilderStatus};

/// Reasons for which people let an object rest.
const ON_PURPOSE: [&str; 2] = ["Suspended", "Disabled"];

/// All objects; one that was not reconciled yet has an empty status.
pub struct Inventory<'a> {
    pub builders: Vec<(ObjectKey, PackerBuilderStatus)>,
    pub refreshers: Vec<(ObjectKey, AMIRefresherStatus)>,
    /// The repository's own conditions.
    pub repository: &'a [Condition],
    /// The digest reports what has happened since then.
    pub since: Timestamp,
}

/// How an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Well,
    UnderWay,
    Resting,
    HeldUp,
    NeedsPerson,
}

/// The digest, in one message.
pub fn message_of(subject: &Subject, inventory: &Inventory<'_>, around: Around<'_>) -> Message {
    let standings = standings(inventory);
    let named = |which: Stands| -> Vec<String> {
        standings
            .iter()
            .filter(|(_, stands, _)| *stands == which)
            .map(|(name, _, why)| words(name, why))
            .collect()
    };
    let (persons, held) = (named(Stands::NeedsPerson), named(Stands::HeldUp));
    let failing: Vec<&Condition> =
        inventory.repository.iter().filter(|found| found.status == "False").collect();
    let tone = if !persons.is_empty() || !failing.is_empty() {
        Tone::Person
    } else if !held.is_empty() {
        Tone::Bad
    } else {
        Tone::Good
    };
    let title = format!(
        "{}: {}, {}",
        subject.short_name(),
        counted(inventory),
        verdict(persons.len(), held.len(), failing.is_empty())
    );
    let mut digest = message("head", "Digest", tone, Weight::Milestone, title);
    let said = failing.iter().filter_map(|found| found.message.as_deref());
    digest.text = said.collect::<Vec<_>>().join("; ");
    let since = inventory.since;
    let lists = [
        ("Need attention", persons),
        ("Blocked", held),
        ("In progress", named(Stands::UnderWay)),
        ("Paused", named(Stands::Resting)),
        ("Built", built(inventory, since)),
        ("Failed builds", failed_builds(inventory, since)),
        ("Rolled out", rolled_out(inventory, since, "Done")),
        ("Failed rollouts", rolled_out(inventory, since, "Failed")),
        ("Drift", drift(inventory)),
    ];
    digest.facts = lists
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| (name, listed(&list)))
        .collect();
    digest.facts.extend(around.commit.map(|commit| ("Commit", around.commit_words(commit))));
    digest.next = (tone != Tone::Good).then(|| "`opsy status` shows why.".to_owned());
    digest.links = around.commit.and_then(|commit| around.commit_link(commit)).into_iter().collect();
    digest
}

fn standings(inventory: &Inventory<'_>) -> Vec<(String, Stands, String)> {
    let builders = inventory.builders.iter().map(|(object, status)| (object, status.conditions.as_deref()));
    let refreshers =
        inventory.refreshers.iter().map(|(object, status)| (object, status.conditions.as_deref()));
    let all = builders.chain(refreshers).map(|(object, conditions)| {
        let (stands, why) = stands(conditions.unwrap_or_default());
        (short_name(object), stands, why.to_owned())
    });
    all.collect()
}

/// How an object stands, and for which reason.
fn stands(conditions: &[Condition]) -> (Stands, &str) {
    let find = |kind: &str, status: &str| {
        let found = conditions.iter().find(|found| found.r#type == kind && found.status == status)?;
        Some(found.reason.as_deref().unwrap_or_default())
    };
    // That nothing can be pushed is the repository's trouble, not each object's.
    let beside = [APPLIED, NOTIFIED].into_iter().find_map(|kind| find(kind, "False"));
    if beside.is_none() && conditions::is_true(conditions, SUSPENDED) {
        return (Stands::Resting, "");
    }
    match (find(STALLED, "True"), beside, find(READY, "False")) {
        (Some(why), _, _) => (Stands::NeedsPerson, why),
        (None, Some(why), _) => (Stands::HeldUp, why),
        (None, None, Some(_)) if conditions::is_true(conditions, RECONCILING) => (Stands::UnderWay, ""),
        (None, None, Some(why)) if ON_PURPOSE.contains(&why) => (Stands::Resting, ""),
        (None, None, Some(why)) => (Stands::HeldUp, why),
        (None, None, None) if find(READY, "True").is_none() => (Stands::UnderWay, ""),
        (None, None, None) => (Stands::Well, ""),
    }
}

fn built(inventory: &Inventory<'_>, since: Timestamp) -> Vec<String> {
    let of = |(object, status): &(ObjectKey, PackerBuilderStatus)| {
        let runs = status.history.iter().flatten().filter(|run| run.result == "Succeeded");
        let runs = runs.filter(|run| run.ended_at.is_some_and(|ended| ended >= since));
        let image = |run: &crate::api::builder::RunRecord| run.images.iter().flatten().next().cloned();
        let name = short_name(object);
        runs.map(|run| format!("{name} {}", image(run).unwrap_or_default())).collect::<Vec<_>>()
    };
    inventory.builders.iter().flat_map(of).collect()
}

fn failed_builds(inventory: &Inventory<'_>, since: Timestamp) -> Vec<String> {
    let of = |(object, status): &(ObjectKey, PackerBuilderStatus)| {
        let runs = status.history.iter().flatten().filter(|run| has_failed(&run.result));
        let count = runs.filter(|run| run.ended_at.is_some_and(|ended| ended >= since)).count();
        (count > 0).then(|| words(&short_name(object), &count.to_string()))
    };
    inventory.builders.iter().filter_map(of).collect()
}

fn rolled_out(inventory: &Inventory<'_>, since: Timestamp, result: &str) -> Vec<String> {
    let of = |(object, status): &(ObjectKey, AMIRefresherStatus)| {
        let name = short_name(object);
        let records = status.history.iter().flatten().filter(|record| record.result == result);
        let records = records.filter(|record| record.finished_at.is_some_and(|ended| ended >= since));
        records.map(|record| format!("{name} {}", record.target)).collect::<Vec<_>>()
    };
    inventory.refreshers.iter().flat_map(of).collect()
}

/// Node groups that run another image than they should.
fn drift(inventory: &Inventory<'_>) -> Vec<String> {
    let of = |(object, status): &(ObjectKey, AMIRefresherStatus)| {
        let drifted = status.drifted.filter(|drifted| *drifted > 0)?;
        let groups = if drifted == 1 { "1 node group".to_owned() } else { format!("{drifted} node groups") };
        Some(words(&short_name(object), &groups))
    };
    inventory.refreshers.iter().filter_map(of).collect()
}

fn words(name: &str, why: &str) -> String {
    if why.is_empty() { name.to_owned() } else { format!("{name} ({why})") }
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

fn verdict(persons: usize, held: usize, repository_well: bool) -> String {
    let persons = match persons {
        0 => None,
        1 => Some("1 needs attention".to_owned()),
        many => Some(format!("{many} need attention")),
    };
    let held = (held > 0).then(|| format!("{held} blocked"));
    let repository = (!repository_well).then(|| "the repository has a problem".to_owned());
    let parts: Vec<String> = repository.into_iter().chain(persons).chain(held).collect();
    if parts.is_empty() { "all well".to_owned() } else { parts.join(", ") }
}
