//! One group of a rollout: what its move needs next. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::super::fit::{Question, Way, disks, too_small, way};
use super::super::memory::{Entry, REMEMBERED, Rollout, Starting};
use super::super::refusal::Refused;
use super::super::seen::{Gap, Group, Life, Ready};
use super::super::survey::{Survey, Verdict};
use super::super::time::{elapsed, recent};
use super::versions::{End, Mark, end};
use super::{Case, Plan, Said, Step, recorded, said};
use crate::api::{Class, ImageId};
use crate::aws::{TemplateVersion, Update, UpdateStatus};

/// How long a client token is surely remembered; past it a lost update is searched by its version.
const TOKEN_TRUST: Duration = Duration::from_secs(600);
/// How far clocks may differ when an update is matched by its time.
const SKEW: Duration = Duration::from_secs(300);
/// A version just made may not be listed yet; past this it counts as deleted by somebody.
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);
/// What every update may take: new nodes start, and old ones are drained.
const UPDATE: Duration = Duration::from_secs(3600);
/// How long EKS drains a node before it gives up.
const DRAIN: Duration = Duration::from_secs(15 * 60);

/// What a group being moved needs.
pub enum Next {
    Wait(Said),
    /// A call for it was refused, and is tried again after a while.
    Held {
        kind: Refused,
        said: Said,
        wait: Duration,
    },
    /// Could not be read.
    Unknown(Class, String),
    /// Begun, not started, and nothing new may start.
    Paused,
    Plan(Box<Plan>),
}

/// One group being moved, and what belongs to it.
#[derive(Clone, Copy)]
pub struct Move<'a> {
    pub case: Case<'a>,
    pub rollout: &'a Rollout,
    pub name: &'a str,
    pub entry: &'a Entry,
}

impl Move<'_> {
    fn end(&self, how: End) -> Result<Next, Gap> {
        self.case.seen.fresh_groups()?;
        end(self.case, self.rollout, self.name, self.entry, how).map(|plan| Next::Plan(Box::new(plan)))
    }

    fn act(&self, step: Step, doing: String) -> Next {
        let said = said("RollingOut", format!("{}: {doing}", self.name));
        Next::Plan(Box::new(Plan::Act { step, said }))
    }

    fn remember(&self, entry: Entry) -> Next {
        let words = format!("moving {} to {}", self.name, entry.image);
        let rollout = Rollout { config: self.case.spec.fingerprint(), ..self.rollout.with(self.name, entry) };
        Next::Plan(Box::new(recorded(rollout, words)))
    }

    fn waiting(&self, doing: &str) -> Next {
        Next::Wait(said("RollingOut", format!("{} {doing} ({})", self.name, self.entry.image)))
    }
}

/// The entry of a group whose turn has come; it keeps what an earlier one of the same image remembers.
pub fn begun(
    case: Case<'_>,
    rollout: Option<&Rollout>,
    group: &Group,
    before: TemplateVersion,
    image: ImageId,
) -> Entry {
    let last = rollout.and_then(|rollout| rollout.groups.get(&group.name));
    let same = last.filter(|last| last.image == image);
    let within = |moments: &[Timestamp]| recent(moments, case.now, REMEMBERED);
    Entry {
        before,
        before_image: group.image.clone(),
        attempt: last.map_or(0, |last| last.attempt) + 1,
        made: None,
        update: None,
        failure: None,
        starting: None,
        refusal: None,
        overdue: None,
        moves: same.map(|last| within(&last.moves)).unwrap_or_default(),
        undone: same.map(|last| within(&last.undone)).unwrap_or_default(),
        undone_by: same.and_then(|last| last.undone_by.clone()),
        started: case.now,
        finished: None,
        image,
    }
}

pub fn next(this: Move<'_>, survey: &Survey<'_>, closing: bool) -> Result<Next, Gap> {
    let Some((group, verdict)) = survey.verdict(this.name) else {
        return this.end(End::Dropped("the node group is gone".to_owned()));
    };
    if let Some(next) = under_way(this, group) {
        return Ok(next);
    }
    if let Some(error) = &this.entry.failure {
        return this.end(End::Failed(error.clone()));
    }
    // What EKS shows may be the new image although its update failed: the outcome decides.
    if let Some(id) = &this.entry.update {
        return outcome(this, group, id);
    }
    if shows_target(this, group) {
        return arrived(this);
    }
    match verdict {
        _ if closing => this.end(End::Dropped("the rollout is over".to_owned())),
        Verdict::Excluded => this.end(End::Dropped("excluded".to_owned())),
        Verdict::Unknown(class, why) => Ok(Next::Unknown(*class, why.clone())),
        Verdict::Unsupported(why) | Verdict::Gone(why) => this.end(End::Dropped(why.clone())),
        Verdict::Current | Verdict::Off(_) if this.case.spec.paused.is_some() => Ok(Next::Paused),
        Verdict::Current | Verdict::Off(_) => start(this, group, survey),
    }
}

/// What is to be waited for, if anything.
pub fn under_way(this: Move<'_>, group: &Group) -> Option<Next> {
    match &group.life {
        Life::Updating => Some(updating(this, group)),
        Life::Creating => Some(this.waiting("is being created")),
        Life::Deleting => Some(this.waiting("is being deleted")),
        _ => None,
    }
}

/// An update runs: nothing can be done, but one that takes too long is told once.
fn updating(this: Move<'_>, group: &Group) -> Next {
    let (entry, now) = (this.entry, this.case.now);
    let Some(id) = &entry.update else { return this.waiting("is being updated") };
    let since = |what: &str| format!("is being updated since {}, {what} (update {id})", entry.started);
    if entry.overdue.is_some() {
        return this.waiting(&since("longer than expected"));
    }
    if elapsed(entry.started, now) < patience(group) {
        return this.waiting("is being updated");
    }
    let words = format!("{} {}", this.name, since("longer than expected for its size"));
    let hint = "look at the update in the EKS console, at its new nodes, and at pods that cannot be evicted";
    let rollout = this.rollout.with(this.name, Entry { overdue: Some(now), ..entry.clone() });
    let warning = Some(said("UpdateOverdue", format!("{words}: {hint}")));
    Next::Plan(Box::new(Plan::Record { rollout, ended: None, said: said("RollingOut", words), warning }))
}

/// How long an update of a group of this size may take.
fn patience(group: &Group) -> Duration {
    let max = &group.max_unavailable;
    let share = max.percentage.and_then(|share| u32::try_from(share).ok());
    let count = max.count.and_then(|count| u32::try_from(count).ok());
    let at_once = count.or(share.map(|share| group.desired * share / 100)).unwrap_or(1).max(1);
    UPDATE + DRAIN * group.desired.div_ceil(at_once)
}

/// Does the group show the image that it did not show before?
fn shows_target(this: Move<'_>, group: &Group) -> bool {
    let image = Some(&this.entry.image);
    group.image.as_ref() == image && this.entry.before_image.as_ref() != image
}

/// The group shows the image, and no update is known: somebody else moved it, or an answer was lost.
fn arrived(this: Move<'_>) -> Result<Next, Gap> {
    let Some(starting) = this.entry.starting else { return this.end(End::Moved) };
    match lost_update(this, starting)? {
        Some(update) => Ok(this.remember(Entry { update: Some(update), ..this.entry.clone() })),
        None => this.end(End::Moved),
    }
}

/// The group is at rest: how did its update end?
fn outcome(this: Move<'_>, group: &Group, id: &str) -> Result<Next, Gap> {
    let Some(update) = this.case.seen.update(this.name, id)? else {
        // Somebody deleted the group and made another of that name: nothing was started on this one.
        let attempt = this.entry.attempt + 1;
        return Ok(this.remember(Entry { update: None, starting: None, attempt, ..this.entry.clone() }));
    };
    let failed = |word: &str| {
        let errors =
            if update.errors.is_empty() { "no error given".to_owned() } else { update.errors.join("; ") };
        let mixed =
            if shows_target(this, group) { "; EKS shows the new version, so nodes may be mixed" } else { "" };
        End::Failed(format!(
            "update {id} {word}: {errors}{mixed}{}",
            super::super::causes::hint(&update.errors)
        ))
    };
    match &update.status {
        UpdateStatus::InProgress => Ok(this.waiting("is being updated")),
        UpdateStatus::Successful => this.end(End::Moved),
        UpdateStatus::Failed => this.end(failed("failed")),
        UpdateStatus::Cancelled => this.end(failed("was cancelled")),
        UpdateStatus::Other(word) => this.end(failed(&format!("ended as {word}"))),
    }
}

/// Nothing is known to have been started: configure, make the version, start.
fn start(this: Move<'_>, group: &Group, survey: &Survey<'_>) -> Result<Next, Gap> {
    let (case, rollout, entry) = (this.case, this.rollout, this.entry);
    let Some(force) = &group.template else { return this.end(End::Dropped("no launch template".to_owned())) };
    let config = case.spec.fingerprint();
    if *force != entry.before || config != rollout.config {
        return Ok(this.remember(rebased(this, group, force)?));
    }
    if let Some(held) = held(this) {
        return Ok(held);
    }
    case.seen.fresh_groups()?;
    let also = survey.images(&rollout.target);
    match way(Question { spec: case.spec, group, target: &rollout.target, also: &also, seen: case.seen })? {
        Way::To(image) if image == entry.image => {}
        Way::To(_) => return this.end(End::Dropped("it needs another image now".to_owned())),
        Way::Unfit(why) | Way::NoImage(why) => return this.end(End::Dropped(why)),
    }
    if let Some(why) = too_small(group, &entry.image, case.seen)? {
        return this.end(End::Failed(why));
    }
    let busy = |other: &&Group| {
        let entry = rollout.groups.get(&other.name);
        other.name != this.name && (other.life == Life::Updating || entry.is_some_and(Entry::updating))
    };
    match &group.life {
        Life::Active(_) | Life::Degraded(_)
            if survey.ours().filter(busy).count() >= case.spec.how.max_parallel =>
        {
            Ok(this.waiting("waits for another node group to finish updating"))
        }
        Life::Active(Some(ready)) | Life::Degraded(Some(ready)) => prepare(this, group, ready, force),
        _ => Ok(this.waiting("is waited for")),
    }
}

/// The entry of a group whose version in force changed before its update started. A version made from the former one
/// would undo what was changed, such as user data: another is made, unless an update with it started after all.
fn rebased(this: Move<'_>, group: &Group, force: &TemplateVersion) -> Result<Entry, Gap> {
    let entry = this.entry;
    let (before, before_image) = (force.clone(), group.image.clone());
    let same = Entry { before, before_image, refusal: None, ..entry.clone() };
    if *force == entry.before {
        return Ok(same);
    }
    let started = entry.starting.map(|starting| lost_update(this, starting)).transpose()?.flatten();
    if started.is_some() {
        return Ok(Entry { update: started, ..same });
    }
    Ok(Entry { starting: None, made: None, ..same })
}

/// A refused call waits until it is due again.
fn held(this: Move<'_>) -> Option<Next> {
    let refusal = this.entry.refusal.as_ref()?;
    let wait = refusal.wait(this.case.now);
    let reason = match refusal.kind {
        Refused::Denied => "AwsDenied",
        Refused::NotNow => "WaitingForNodeGroup",
        Refused::Unsure => "UpdateRefused",
    };
    let said = said(reason, format!("{}: {}", this.name, refusal.message));
    (!wait.is_zero()).then_some(Next::Held { kind: refusal.kind, said, wait })
}

fn prepare(this: Move<'_>, group: &Group, ready: &Ready, force: &TemplateVersion) -> Result<Next, Gap> {
    let (case, entry) = (this.case, this.entry);
    if let Some(starting) = entry.starting.filter(|starting| elapsed(starting.at, case.now) > TOKEN_TRUST) {
        // EKS may have forgotten the token of a call whose answer was lost.
        let update = lost_update(this, starting)?;
        let starting = Some(Starting { at: case.now, ..starting });
        return Ok(this.remember(Entry { update, starting, ..entry.clone() }));
    }
    if let Some(max) = case.spec.how.max_unavailable.filter(|max| *max != group.max_unavailable) {
        let parts = ["config", &format!("{:?}/{:?}", max.count, max.percentage)];
        let token = this.rollout.token(this.name, &parts);
        let (group, strategy) = (this.name.to_owned(), group.strategy.clone());
        let step = Step::Configure { ready: ready.clone(), group, max, strategy, token };
        return Ok(this.act(step, "setting maxUnavailable".to_owned()));
    }
    let mark = Mark::new(case, &entry.image, force);
    let versions = case.seen.template(&force.template)?.unwrap_or_default();
    let made: Vec<i64> =
        versions.iter().filter(|version| mark.made(version)).map(|version| version.number).collect();
    let known = entry.made.filter(|known| made.contains(known)).or(made.into_iter().max());
    let listed = |number: i64| versions.iter().any(|version| version.number == number);
    match (entry.starting, known) {
        (Some(starting), _) if listed(starting.version) => {
            Ok(start_update(this, ready, force, starting.version))
        }
        (Some(starting), _) => vanished(this, starting),
        (None, Some(version)) => {
            let starting = Some(Starting { version, at: case.now });
            Ok(this.remember(Entry { starting, made: Some(version), ..entry.clone() }))
        }
        (None, None) => make_version(this, group, force, &mark),
    }
}

/// The version that was about to be used is not listed any more: somebody deleted it, before or after its
/// update started.
fn vanished(this: Move<'_>, starting: Starting) -> Result<Next, Gap> {
    if elapsed(starting.at, this.case.now) < VISIBLE_WITHIN {
        return Ok(this.waiting("waits for its launch template version to be listed"));
    }
    let update = lost_update(this, starting)?;
    let starting = Some(starting).filter(|_| update.is_some());
    Ok(this.remember(Entry { update, starting, made: None, ..this.entry.clone() }))
}

fn start_update(this: Move<'_>, ready: &Ready, force: &TemplateVersion, number: i64) -> Next {
    let (entry, version) = (this.entry, number.to_string());
    let (attempt, force_pods) = (entry.attempt.to_string(), this.case.spec.how.force);
    let parts = ["update", entry.image.as_str(), &attempt, &version, if force_pods { "force" } else { "" }];
    let token = this.rollout.token(this.name, &parts);
    let step = Step::StartUpdate {
        ready: ready.clone(),
        group: this.name.to_owned(),
        version: TemplateVersion { template: force.template.clone(), version: version.clone() },
        force: force_pods,
        token,
    };
    this.act(step, format!("updating to version {version} of {} ({})", force.template, entry.image))
}

fn make_version(this: Move<'_>, group: &Group, force: &TemplateVersion, mark: &Mark) -> Result<Next, Gap> {
    let entry = this.entry;
    if entry.made.is_some() && elapsed(entry.started, this.case.now) < VISIBLE_WITHIN {
        return Ok(this.waiting("waits for its launch template version to be listed"));
    }
    let lost = entry.made.map(|made| made.to_string()).unwrap_or_default();
    let attempt = entry.attempt.to_string();
    let parts = ["version", entry.image.as_str(), &force.version, &attempt, &lost];
    let disks = disks(group, &entry.image, this.case.seen)?;
    let kept: Vec<&str> = disks.iter().filter_map(|disk| disk.volume.as_ref()?.snapshot.as_deref()).collect();
    let kept = if kept.is_empty() { String::new() } else { format!(", keeping {}", kept.join(", ")) };
    let (template, image) = (&force.template, &entry.image);
    let doing = format!("making a version of {template} from {} with {image}{kept}", force.version);
    let step = Step::MakeVersion {
        group: this.name.to_owned(),
        source: force.clone(),
        image: entry.image.clone(),
        disks,
        description: mark.description(&this.rollout.id),
        token: this.rollout.token(this.name, &parts),
    };
    Ok(this.act(step, doing))
}

/// The update of a start whose answer was lost.
fn lost_update(this: Move<'_>, starting: Starting) -> Result<Option<String>, Gap> {
    let since = starting.at.checked_sub(SKEW).unwrap_or(starting.at);
    let ours = |update: &&Update| {
        let version = update.params.get("LaunchTemplateVersion").and_then(|version| version.parse().ok());
        let recent = update.created.is_some_and(|created| created >= since);
        update.kind == "VersionUpdate" && recent && version == Some(starting.version)
    };
    let updates = this.case.seen.all_updates(this.name)?.iter().filter(ours);
    Ok(updates.max_by_key(|update| update.created).map(|update| update.id.clone()))
}
