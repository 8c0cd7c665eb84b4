//! What is told of a refresher: one story a rollout, and its troubles.

use std::time::Duration;

use super::around::{cluster_link, image_link, took};
use super::{Around, Link, Message, Story, Tone, Weight, cause, message, short_name, trouble};
use crate::api::ObjectKey;
use crate::api::refresher::{AMIRefresherSpec, AMIRefresherStatus, Rollout, RolloutGroup, RolloutRecord};

/// Reasons that are told by the story of a rollout.
const TOLD: [&str; 1] = ["UpdateFailed"];

/// Rollouts before the current one that are told of.
const EARLIER: usize = 2;

/// A rollout with what is known of it.
struct Told<'a> {
    object: &'a ObjectKey,
    spec: &'a AMIRefresherSpec,
    rollout: &'a Rollout,
    /// Groups this rollout moves; those an earlier one moved are remembered there, too.
    groups: Vec<&'a RolloutGroup>,
    /// How it ended.
    record: Option<&'a RolloutRecord>,
    after_failure: bool,
    /// Groups that are still to be moved.
    left: usize,
    /// No other was begun since.
    current: bool,
    around: Around<'a>,
}

/// Everything there is to tell of a refresher.
pub fn stories(
    object: &ObjectKey,
    spec: &AMIRefresherSpec,
    status: &AMIRefresherStatus,
    around: Around<'_>,
) -> Vec<Story> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let earlier: Vec<Rollout> = earlier(status);
    let rollouts = status.rollout.iter().chain(&earlier);
    let rollouts = rollouts.map(|rollout| told(object, spec, status, rollout, around).story());
    rollouts.chain(trouble::stories(&object.into(), conditions, &TOLD, around)).collect()
}

/// The rollouts before this one, as far as they are remembered: one may be over, and the next begun,
/// before anybody could be told.
fn earlier(status: &AMIRefresherStatus) -> Vec<Rollout> {
    let current = status.rollout.as_ref().map(|rollout| rollout.id.as_str());
    let earlier = status.history.iter().flatten().filter(|record| Some(record.id.as_str()) != current);
    let rollout = |record: &RolloutRecord| Rollout {
        id: record.id.clone(),
        target: record.target.clone(),
        started_at: record.started_at,
        finished_at: record.finished_at,
        ..Rollout::default()
    };
    earlier.take(EARLIER).map(rollout).collect()
}

fn told<'a>(
    object: &'a ObjectKey,
    spec: &'a AMIRefresherSpec,
    status: &'a AMIRefresherStatus,
    rollout: &'a Rollout,
    around: Around<'a>,
) -> Told<'a> {
    let history = status.history.as_deref().unwrap_or_default();
    let current = status.rollout.as_ref().is_some_and(|current| current.id == rollout.id);
    let at = history.iter().position(|record| record.id == rollout.id);
    let before = history.iter().skip(at.map_or(0, |at| at + 1)).find(|record| record.result != "Replaced");
    let ours = |group: &&RolloutGroup| group.started_at >= rollout.started_at;
    Told {
        object,
        spec,
        rollout,
        groups: rollout.groups.iter().flatten().filter(ours).collect(),
        record: at.map(|at| &history[at]),
        after_failure: before.is_some_and(|before| before.result == "Failed"),
        left: usize::try_from(status.drifted.unwrap_or(0)).unwrap_or(0),
        current,
        around,
    }
}

impl Told<'_> {
    fn story(&self) -> Story {
        let mut replies: Vec<Message> = self.groups.iter().flat_map(|group| self.group(group)).collect();
        replies.extend(self.first_failure());
        replies.extend(self.ending());
        let failure = self.failure();
        Story {
            thread: format!("rollout/{}", self.rollout.id),
            head: self.head(),
            replies,
            over: self.rollout.finished_at.is_some(),
            hold: Duration::ZERO,
            cause: failure
                .filter(|_| self.current)
                .map(|(_, words)| cause(&self.object.key.name, "UpdateFailed", words)),
        }
    }

    fn name(&self) -> String {
        short_name(self.object)
    }

    fn failure(&self) -> Option<(&str, &str)> {
        let failed =
            self.groups.iter().find_map(|group| Some((group.name.as_str(), group.last_failure.as_deref()?)));
        let further = || Some(("", self.record?.failures.as_ref()?.first()?.as_str()));
        failed.or_else(further).filter(|_| self.result() != "Done")
    }

    fn result(&self) -> &str {
        self.record.map_or("", |record| record.result.as_str())
    }

    fn head(&self) -> Message {
        let (name, target) = (self.name(), &self.rollout.target);
        let (reason, tone, title) = match self.result() {
            "Done" => ("RolloutDone", Tone::Good, format!("{name}: {target} is rolled out")),
            "Replaced" => {
                ("RolloutReplaced", Tone::Good, format!("{name}: the rollout of {target} was replaced"))
            }
            "Failed" => ("RolloutFailed", Tone::Person, format!("{name}: the rollout of {target} failed")),
            _ if self.failure().is_some() => {
                ("RollingOut", Tone::Bad, format!("{name}: rolling out {target}, with failures"))
            }
            _ => ("RollingOut", Tone::Working, format!("{name}: rolling out {target}")),
        };
        let mut head = message("head", reason, tone, Weight::Milestone, title);
        // Of an earlier one only the outcome is remembered.
        head.text = if self.current { self.progress() } else { String::new() };
        head.facts = self.facts();
        head.next = (tone == Tone::Person).then(|| self.advice());
        head.links = self.links();
        head
    }

    fn progress(&self) -> String {
        let done = self.groups.iter().filter(|group| is_done(group)).count();
        let groups = |count: usize| {
            if count == 1 { "1 node group".to_owned() } else { format!("{count} node groups") }
        };
        let mut words = format!("{} moved", groups(done));
        let moving: Vec<&str> = self
            .groups
            .iter()
            .filter(|group| group.finished_at.is_none())
            .map(|group| group.name.as_str())
            .collect();
        if !moving.is_empty() {
            words.push_str(&format!(", {} updating", moving.join(", ")));
        }
        let waiting = self.left.saturating_sub(moving.len());
        if self.rollout.finished_at.is_none() && waiting > 0 {
            words.push_str(&format!(", {waiting} to go"));
        }
        if let Some((group, failure)) = self.failure() {
            words.push_str(&match group {
                "" => format!("; {failure}"),
                group => format!("; {group} failed: {failure}"),
            });
        }
        words
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts =
            vec![("Cluster", self.spec.cluster_name.clone()), ("Region", self.spec.region.clone())];
        let origin = (self.around.origin)(&self.rollout.target);
        facts.extend(origin.as_ref().map(|origin| ("Built by", origin.builder.clone())));
        let commit = origin.and_then(|origin| origin.commit);
        facts.extend(commit.map(|commit| ("Commit", self.around.commit_words(&commit))));
        let took = took(self.rollout.started_at, self.rollout.finished_at);
        facts.extend(took.map(|took| ("Took", took)));
        facts
    }

    fn links(&self) -> Vec<Link> {
        let region = &self.spec.region;
        let cluster = cluster_link(region, &self.spec.cluster_name);
        let commit = (self.around.origin)(&self.rollout.target).and_then(|origin| origin.commit);
        let commit = commit.and_then(|commit| self.around.commit_link(&commit));
        image_link(region, &self.rollout.target).into_iter().chain(cluster).chain(commit).collect()
    }

    fn advice(&self) -> String {
        let target = &self.rollout.target;
        format!(
            "Check the group in the console. Opsy retries when the image, refreshConfig or the launch template version \
             of the group changes, with `opsy reconcile`, or with the annotation ami.opsy.dev/retry: {target}. To go \
             back, set `ami` to the previous image."
        )
    }

    /// What is told of one group. Attempts count over all rollouts of the group.
    fn group(&self, group: &RolloutGroup) -> Vec<Message> {
        let (name, attempt) = (&group.name, group.attempts.unwrap_or(1));
        let to = group.target_ami.as_deref().unwrap_or(&self.rollout.target);
        let from = group.previous_ami.as_deref().map_or(String::new(), |from| format!(" from {from}"));
        let title = format!("{}: moving {name}{from} to {to}", self.name());
        let id = format!("group/{name}/{attempt}/started");
        let mut told = vec![message(id, "UpdateStarted", Tone::Working, Weight::Detail, title)];
        told.extend(self.undone(group));
        told.extend(self.overdue(group));
        if is_done(group) {
            let title = match took(group.started_at, group.finished_at) {
                Some(took) => format!("{}: {name} runs {to}, after {took}", self.name()),
                None => format!("{}: {name} runs {to}", self.name()),
            };
            let id = format!("group/{name}/{attempt}/done");
            told.push(message(id, "NodeGroupUpdated", Tone::Good, Weight::Detail, title));
        }
        if let Some(failure) = &group.last_failure {
            let title = format!("{}: {name} could not be moved to {to}", self.name());
            let id = format!("group/{name}/{attempt}/failed");
            let mut failed = message(id, "UpdateFailed", Tone::Bad, Weight::Detail, title);
            failed.text = failure.clone();
            told.push(failed);
        }
        told
    }

    /// Another writer put the group back, which is why it is moved again.
    fn undone(&self, group: &RolloutGroup) -> Option<Message> {
        let (at, words) = (group.undone_at.as_ref()?.last()?, group.undone_by.as_ref()?);
        let title = format!("{}: another writer put {} back, and it is moved again", self.name(), group.name);
        let id = format!("group/{}/undone/{}", group.name, at.as_second());
        let mut undone = message(id, "AnotherWriter", Tone::Person, Weight::Loud, title);
        undone.text = words.clone();
        undone.next = Some(
            "Find the other writer of its version: Opsy stops moving the group if this continues.".to_owned(),
        );
        Some(undone)
    }

    /// Its update takes longer than it should.
    fn overdue(&self, group: &RolloutGroup) -> Option<Message> {
        group.overdue_at?;
        let (name, attempt) = (&group.name, group.attempts.unwrap_or(1));
        let title = format!("{}: the update of {name} takes longer than expected", self.name());
        let id = format!("group/{name}/{attempt}/overdue");
        let mut overdue = message(id, "UpdateOverdue", Tone::Person, Weight::Loud, title);
        let since = group.started_at.map_or(String::new(), |since| format!(" since {since}"));
        let update = group.update_id.as_deref().unwrap_or("unknown");
        overdue.text = format!("EKS update {update} is in progress{since}.");
        overdue.next = Some(
            "Check the update in the EKS console, the new nodes, and pods that cannot be evicted.".to_owned(),
        );
        Some(overdue)
    }

    /// The channel hears of the first failure, at once; the end of a failed rollout is no further news.
    fn first_failure(&self) -> Option<Message> {
        let (group, failure) = self.failure().filter(|_| self.result() != "Replaced")?;
        let title = match group {
            "" => format!("{}: the rollout of {} failed", self.name(), self.rollout.target),
            group => format!("{}: {group} could not be moved to {}", self.name(), self.rollout.target),
        };
        let mut told = message("failed", "RolloutFailing", Tone::Person, Weight::Loud, title);
        told.text = failure.to_owned();
        told.next = Some(self.advice());
        told.links = self.links();
        Some(told)
    }

    fn ending(&self) -> Option<Message> {
        let (name, target) = (self.name(), &self.rollout.target);
        Some(match self.result() {
            "Done" if self.after_failure => {
                let title = format!("{name} rolls out again: all node groups run {target}");
                message("done", "RolloutDone", Tone::Good, Weight::Loud, title)
            }
            "Done" => {
                let title = format!("{name}: all node groups run {target}");
                message("done", "RolloutDone", Tone::Good, Weight::Milestone, title)
            }
            "Failed" => {
                let title = format!("{name}: the rollout of {target} has stopped");
                message("ended", "RolloutFailed", Tone::Person, Weight::Detail, title)
            }
            "Replaced" => {
                let title = format!("{name}: the rollout of {target} was replaced by another");
                message("replaced", "RolloutReplaced", Tone::Good, Weight::Detail, title)
            }
            _ => return None,
        })
    }
}

fn is_done(group: &RolloutGroup) -> bool {
    group.finished_at.is_some() && group.last_failure.is_none()
}
