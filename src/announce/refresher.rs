//! The notifications about a refresher: one story per rollout, and one per problem.

mod failures;
mod rollback;
mod waves;

use std::collections::BTreeSet;
use std::time::Duration;

pub use waves::waiting;

use super::context::{cluster_link, image_link, node_groups, took};
use super::{
    COMMIT, Context, Link, Message, Origin, Story, Tone, Weight, cause, message, short_name, trouble,
};
use crate::api::ObjectKey;
use crate::api::reasons;
use crate::api::refresher::{
    AMIRefresherSpec, AMIRefresherStatus, Rollout, RolloutGroup, RolloutRecord, RolloutRollback,
};
use crate::api::words::{NodeGroupKind, RolloutResult};

/// Reasons that the story of a rollout reports, so that they are not reported as problems too.
const REPORTED: [&str; 2] = [reasons::UPDATE_FAILED, reasons::IMAGE_HELD];

/// Number of rollouts before the current one that are reported. A rollout can end, and the next one start, before a
/// notification could be sent.
const EARLIER: usize = 2;

/// A rollout with everything that its story needs.
struct RolloutStory<'a> {
    object: &'a ObjectKey,
    spec: &'a AMIRefresherSpec,
    rollout: &'a Rollout,
    /// The groups that this rollout moves. Status also contains groups that an earlier rollout moved.
    groups: Vec<&'a RolloutGroup>,
    /// The record of a rollout that has ended.
    record: Option<&'a RolloutRecord>,
    /// The previous rollout failed.
    after_failure: bool,
    /// Number of groups that are still to be moved.
    left: usize,
    /// No other rollout has started since.
    current: bool,
    context: Context<'a>,
}

/// Returns the stories of a refresher.
pub fn stories(
    object: &ObjectKey,
    spec: &AMIRefresherSpec,
    status: &AMIRefresherStatus,
    context: Context<'_>,
) -> Vec<Story> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let earlier: Vec<Rollout> = earlier(status);
    let rollouts = status.rollout.iter().chain(&earlier);
    let rollouts = rollouts.map(|rollout| rollout_story(object, spec, status, rollout, context).story());
    rollouts.chain(trouble::stories(&object.into(), conditions, &REPORTED, context)).collect()
}

/// Returns the commits that the stories name: those that the images of the rollouts were built from.
pub fn commits(status: &AMIRefresherStatus, origin: &dyn Fn(&str) -> Option<Origin>) -> BTreeSet<String> {
    let earlier = earlier(status);
    let rollouts = status.rollout.iter().chain(&earlier);
    rollouts.filter_map(|rollout| origin(&rollout.target)?.commit).collect()
}

/// Returns the rollouts before the current one, as far as the history contains them.
fn earlier(status: &AMIRefresherStatus) -> Vec<Rollout> {
    let current = status.rollout.as_ref().map(|rollout| rollout.id.as_str());
    let earlier = status.history.iter().flatten().filter(|record| Some(record.id.as_str()) != current);
    let rollout = |record: &RolloutRecord| Rollout {
        id: record.id.clone(),
        target: record.target.clone(),
        started_at: record.started_at,
        finished_at: record.finished_at,
        rollback: record
            .rollback_of
            .as_ref()
            .map(|of| RolloutRollback { of: of.clone(), ..RolloutRollback::default() }),
        ..Rollout::default()
    };
    earlier.take(EARLIER).map(rollout).collect()
}

fn rollout_story<'a>(
    object: &'a ObjectKey,
    spec: &'a AMIRefresherSpec,
    status: &'a AMIRefresherStatus,
    rollout: &'a Rollout,
    context: Context<'a>,
) -> RolloutStory<'a> {
    let history = status.history.as_deref().unwrap_or_default();
    let current = status.rollout.as_ref().is_some_and(|current| current.id == rollout.id);
    let at = history.iter().position(|record| record.id == rollout.id);
    let interrupted = [RolloutResult::Replaced, RolloutResult::Held].map(RolloutResult::as_str);
    let before = history
        .iter()
        .skip(at.map_or(0, |at| at + 1))
        .find(|record| !interrupted.contains(&record.result.as_str()));
    let ours = |group: &&RolloutGroup| group.started_at >= rollout.started_at;
    RolloutStory {
        object,
        spec,
        rollout,
        groups: rollout.groups.iter().flatten().filter(ours).collect(),
        record: at.map(|at| &history[at]),
        after_failure: before.is_some_and(|before| {
            [RolloutResult::Failed, RolloutResult::RolledBack]
                .map(RolloutResult::as_str)
                .contains(&before.result.as_str())
        }),
        left: usize::try_from(status.drifted.unwrap_or(0)).unwrap_or(0),
        current,
        context,
    }
}

impl RolloutStory<'_> {
    fn story(&self) -> Story {
        let mut replies: Vec<Message> = self.groups.iter().flat_map(|group| self.group(group)).collect();
        // A rollback has no order.
        if self.current && self.rollout.rollback.is_none() {
            replies.extend(waves::done(&self.name(), self.rollout, &self.groups));
        }
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
                .map(|(_, error)| cause(&self.object.key.name, reasons::UPDATE_FAILED, error)),
        }
    }

    fn name(&self) -> String {
        short_name(self.object)
    }

    /// Returns the group that failed first and its error. The name is empty if only the history contains the error.
    fn failure(&self) -> Option<(&str, &str)> {
        let recorded = || Some(("", self.record?.failures.as_ref()?.first()?.as_str()));
        failures::first(&self.groups).or_else(recorded).filter(|_| self.result() != Some(RolloutResult::Done))
    }

    fn result(&self) -> Option<RolloutResult> {
        self.record.and_then(|record| RolloutResult::parse(&record.result))
    }

    fn head(&self) -> Message {
        let (name, target) = (self.name(), &self.rollout.target);
        let of_rollback = rollback::head(&name, self.rollout, self.result());
        let (reason, tone, title) = of_rollback.unwrap_or_else(|| match self.result() {
            Some(RolloutResult::Done | RolloutResult::RolledBack) => {
                (reasons::ROLLOUT_DONE, Tone::Good, format!("{name}: rolled out {target}"))
            }
            Some(RolloutResult::Replaced) => {
                (reasons::ROLLOUT_REPLACED, Tone::Good, format!("{name}: rollout of {target} was replaced"))
            }
            Some(RolloutResult::Held) => (
                reasons::ROLLOUT_HELD,
                Tone::Good,
                format!("{name}: rollout of {target} was stopped: it is held"),
            ),
            Some(RolloutResult::Failed) => {
                (reasons::ROLLOUT_FAILED, Tone::Person, format!("{name}: rollout of {target} failed"))
            }
            _ if self.failure().is_some() => {
                (reasons::ROLLING_OUT, Tone::Bad, format!("{name}: rolling out {target}, with failures"))
            }
            _ => (reasons::ROLLING_OUT, Tone::Working, format!("{name}: rolling out {target}")),
        });
        let mut head = message("head", reason, tone, Weight::Milestone, title);
        // Status contains the groups of the current rollout only.
        head.text = if self.current { self.progress() } else { String::new() };
        head.facts = self.facts();
        head.next = (tone == Tone::Person).then(|| self.advice());
        head.links = self.links();
        head
    }

    fn progress(&self) -> String {
        let done = self.groups.iter().filter(|group| is_done(group)).count();
        let back = if self.rollout.rollback.is_some() { " back" } else { "" };
        let mut text = format!("{} moved{back}", node_groups(done));
        let moving: Vec<&str> = self
            .groups
            .iter()
            .filter(|group| group.finished_at.is_none())
            .map(|group| group.name.as_str())
            .collect();
        if !moving.is_empty() {
            text.push_str(&format!(", {} updating", moving.join(", ")));
        }
        let waiting = self.left.saturating_sub(moving.len());
        if self.rollout.finished_at.is_none() && waiting > 0 {
            text.push_str(&format!(", {waiting} remaining"));
        }
        if let Some(cause) = rollback::cause(self.rollout) {
            text.push_str(&format!("; {cause}"));
        }
        if let Some(waiting) = waves::waiting(self.rollout) {
            text.push_str(&format!("; {waiting}"));
        }
        if let Some((group, failure)) = self.failure() {
            text.push_str(&match group {
                "" => format!("; {failure}"),
                group => format!("; {group} failed: {failure}"),
            });
        }
        text
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts =
            vec![("Cluster", self.spec.cluster_name.clone()), ("Region", self.spec.region.clone())];
        let origin = (self.context.origin)(&self.rollout.target);
        facts.extend(origin.as_ref().map(|origin| ("Built by", origin.builder.clone())));
        let commit = origin.and_then(|origin| origin.commit);
        facts.extend(commit.map(|commit| (COMMIT, self.context.commit_words(&commit))));
        let took = took(self.rollout.started_at, self.rollout.finished_at);
        facts.extend(took.map(|took| ("Took", took)));
        facts
    }

    fn links(&self) -> Vec<Link> {
        let region = &self.spec.region;
        let cluster = cluster_link(region, &self.spec.cluster_name);
        let commit = (self.context.origin)(&self.rollout.target).and_then(|origin| origin.commit);
        let commit = commit.and_then(|commit| self.context.commit_link(&commit));
        image_link(region, &self.rollout.target).into_iter().chain(cluster).chain(commit).collect()
    }

    fn advice(&self) -> String {
        if let Some(advice) = rollback::advice(self.rollout) {
            return advice;
        }
        let target = &self.rollout.target;
        if rollback::is_wanted(self.spec) {
            return format!(
                "Opsy rolls the node groups back and holds the image. If the image is the cause, fix it and build a new \
                 one. To roll {target} out again, set the annotation ami.opsy.dev/retry: {target}."
            );
        }
        let place = self.place_to_check();
        format!(
            "{place} Opsy retries when the image, refreshConfig or the \
             launch template version of the group changes. To retry now, run `opsy reconcile` or set the \
             annotation ami.opsy.dev/retry: {target}. To roll back, set `ami` to the previous image."
        )
    }

    /// Returns where a person finds the cause of the failure.
    fn place_to_check(&self) -> &'static str {
        let failed = self.failure().map(|(group, _)| group);
        let groups = self.rollout.groups.iter().flatten();
        match groups.filter(|group| Some(group.name.as_str()) == failed).any(is_self_managed) {
            true => "Check the Auto Scaling group and its instance refresh in the EC2 console.",
            false => "Check the node group in the EKS console.",
        }
    }

    /// Returns the messages about one group. Attempts are counted over all rollouts of the group.
    fn group(&self, group: &RolloutGroup) -> Vec<Message> {
        let (name, attempt) = (&group.name, group.attempts.unwrap_or(1));
        let to = group.target_ami.as_deref().unwrap_or(&self.rollout.target);
        let from = group.previous_ami.as_deref().map_or(String::new(), |from| format!(" from {from}"));
        let title = format!("{}: moving {name}{from} to {to}", self.name());
        let id = format!("group/{name}/{attempt}/started");
        let mut replies = vec![message(id, reasons::UPDATE_STARTED, Tone::Working, Weight::Detail, title)];
        replies.extend(self.undone(group));
        replies.extend(self.overdue(group));
        if is_done(group) {
            let title = match took(group.started_at, group.finished_at) {
                Some(took) => format!("{}: moved {name} to {to} in {took}", self.name()),
                None => format!("{}: moved {name} to {to}", self.name()),
            };
            let id = format!("group/{name}/{attempt}/done");
            replies.push(message(id, reasons::NODE_GROUP_UPDATED, Tone::Good, Weight::Detail, title));
        }
        // The channel sees the first failure, in a message of its own.
        let is_first = self.failure().is_some_and(|(first, _)| first == name);
        if let Some(failure) = group.last_failure.as_ref().filter(|_| !is_first) {
            let title = format!("{}: {name} could not be moved to {to}", self.name());
            let id = format!("group/{name}/{attempt}/failed");
            let mut failed = message(id, reasons::UPDATE_FAILED, Tone::Bad, Weight::Detail, title);
            failed.text = failure.clone();
            replies.push(failed);
        }
        replies
    }

    /// Returns the message that another writer moved the group back, so that Opsy moves it again.
    fn undone(&self, group: &RolloutGroup) -> Option<Message> {
        let (at, text) = (group.undone_at.as_ref()?.last()?, group.undone_by.as_ref()?);
        let title = format!("{}: another writer moved {} back; moving it again", self.name(), group.name);
        let id = format!("group/{}/undone/{}", group.name, at.as_second());
        let mut undone = message(id, reasons::ANOTHER_WRITER, Tone::Person, Weight::Loud, title);
        undone.text = text.clone();
        undone.next = Some(
            "Find what else changes the launch template version of this group, and stop it. If this \
             continues, Opsy stops moving the group."
                .to_owned(),
        );
        Some(undone)
    }

    /// Returns the message that the update of the group takes longer than expected.
    fn overdue(&self, group: &RolloutGroup) -> Option<Message> {
        group.overdue_at?;
        let (name, attempt) = (&group.name, group.attempts.unwrap_or(1));
        let title = format!("{}: the update of {name} is taking longer than expected", self.name());
        let id = format!("group/{name}/{attempt}/overdue");
        let mut overdue = message(id, reasons::UPDATE_OVERDUE, Tone::Person, Weight::Loud, title);
        let since = group.started_at.map_or(String::new(), |since| format!(" since {since}"));
        let update = group.update_id.as_deref().unwrap_or("unknown");
        let (what, next) = match is_self_managed(group) {
            true => (
                "Instance refresh",
                "Check the instance refresh in the EC2 console, the new nodes, and lifecycle hooks that do not complete.",
            ),
            false => (
                "EKS update",
                "Check the update in the EKS console, the new nodes, and any pods that cannot be evicted.",
            ),
        };
        overdue.text = format!("{what} {update} has been in progress{since}.");
        overdue.next = Some(next.to_owned());
        Some(overdue)
    }

    /// Returns the message about the first failure, which the whole channel sees at once. The end of the failed rollout
    /// is then only a detail. If the rollout was interrupted, so is the failure.
    fn first_failure(&self) -> Option<Message> {
        let (group, failure) = self.failure()?;
        let is_interrupted = matches!(self.result(), Some(RolloutResult::Replaced | RolloutResult::Held));
        let title = match group {
            "" if is_interrupted => return None,
            "" => format!("{}: rollout of {} failed", self.name(), self.rollout.target),
            group => format!("{}: {group} could not be moved to {}", self.name(), self.rollout.target),
        };
        let mut reply = failures::reply(title, failure, is_interrupted);
        if !is_interrupted {
            reply.next = Some(self.advice());
            reply.links = self.links();
        }
        Some(reply)
    }

    /// Returns the message about the end of the rollout.
    fn ending(&self) -> Option<Message> {
        let (name, target) = (self.name(), &self.rollout.target);
        Some(match self.result() {
            Some(RolloutResult::RolledBack) => {
                let title = format!("{name}: rolled back to {target}");
                let mut back =
                    message("rolled-back", reasons::ROLLED_BACK, Tone::Person, Weight::Loud, title);
                back.text = rollback::cause(self.rollout).unwrap_or_default();
                back.next = rollback::advice(self.rollout);
                back
            }
            Some(RolloutResult::Done) if self.after_failure => {
                let title = format!("{name} recovered: all node groups run {target}");
                message("done", reasons::ROLLOUT_DONE, Tone::Good, Weight::Loud, title)
            }
            Some(RolloutResult::Done) => {
                let title = format!("{name}: all node groups run {target}");
                message("done", reasons::ROLLOUT_DONE, Tone::Good, Weight::Milestone, title)
            }
            Some(RolloutResult::Held) => {
                let title = format!("{name}: no further node group is moved to {target}");
                message("held", reasons::ROLLOUT_HELD, Tone::Good, Weight::Detail, title)
            }
            Some(RolloutResult::Failed) => {
                let title = format!("{name}: rollout of {target} has stopped");
                message("ended", reasons::ROLLOUT_FAILED, Tone::Person, Weight::Detail, title)
            }
            Some(RolloutResult::Replaced) => {
                let title = format!("{name}: rollout of {target} was replaced by another rollout");
                message("replaced", reasons::ROLLOUT_REPLACED, Tone::Good, Weight::Detail, title)
            }
            _ => return None,
        })
    }
}

fn is_self_managed(group: &RolloutGroup) -> bool {
    group.kind.as_deref().and_then(NodeGroupKind::parse) == Some(NodeGroupKind::SelfManaged)
}

fn is_done(group: &RolloutGroup) -> bool {
    group.finished_at.is_some() && group.last_failure.is_none()
}
