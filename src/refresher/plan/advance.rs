//! A rollout is under way: take it one step further. Pure.

use std::time::Duration;

use super::super::memory::{Entry, Rollout, elapsed, recent};
use super::super::observe::{Gap, Group, Life, Ready};
use super::super::spec::Source;
use super::super::survey::{Survey, Verdict, Way, survey, way};
use super::super::target::{Choice, choose};
use super::turn::{Turn, degraded_said, turn};
use super::versions::{End, Mark, end};
use super::{Case, Plan, Said, Step, groups, paused_said, said};
use crate::api::{Class, ImageId};
use crate::aws::{TemplateVersion, Update, UpdateStatus};

/// How long a client token is surely remembered; past it a lost update is searched by its version.
const TOKEN_TRUST: Duration = Duration::from_secs(600);
/// How far clocks may differ when an update is matched by its time.
const SKEW: Duration = Duration::from_secs(300);
/// A version just made may not be listed yet; past this it counts as deleted by somebody.
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);

/// Why a rollout starts no further group.
enum Closing {
    Failed,
    Replaced,
}

/// What a group being moved needs.
enum Next {
    Wait(Said),
    Stalled(Said),
    /// Begun, not started, and nothing new may start.
    Paused,
    Plan(Box<Plan>),
}

pub fn advance(case: Case<'_>, rollout: &Rollout) -> Result<Plan, Gap> {
    if rollout.moving().next().is_some() {
        case.seen.fresh_groups()?;
    }
    let survey = survey(case.spec, Some(&rollout.target), case.seen.groups()?);
    let closing = closing(case, rollout);
    let (mut waits, mut stalls) = (Vec::new(), Vec::new());
    for (name, entry) in rollout.moving() {
        match next(Move { case, rollout, name, entry }, &survey, closing.is_some())? {
            Next::Plan(plan) => return Ok(*plan),
            Next::Wait(said) => waits.push(said),
            Next::Stalled(said) => stalls.push(said),
            Next::Paused => {}
        }
    }
    if closing.is_none() && case.spec.paused.is_none() {
        match turn(case, &survey, &rollout.target, Some(rollout))? {
            Turn::Start { group, image } => return begin_group(case, rollout, group, image),
            Turn::NoImage(why) if waits.is_empty() && stalls.is_empty() => {
                return Ok(finish(case, rollout, "Replaced", Some(why)));
            }
            Turn::Wait(said) => waits.push(said),
            Turn::Stalled(said) => stalls.push(said),
            Turn::NoImage(_) | Turn::Nothing => {}
        }
    }
    if let Some(plan) = rest(case, rollout, waits, stalls) {
        return Ok(plan);
    }
    Ok(close(case, rollout, &survey, closing))
}

/// What to say while nothing can be done.
fn rest(case: Case<'_>, rollout: &Rollout, waits: Vec<Said>, stalls: Vec<Said>) -> Option<Plan> {
    if let Some(mut first) = waits.into_iter().next() {
        if let Some(newer) = newer(case, rollout) {
            first.message.push_str(&newer);
        }
        return Some(case.busy(first));
    }
    stalls.into_iter().next().map(|said| case.stalled(said.reason, said.message))
}

/// Nothing moves any more: paused half-way, or over.
fn close(case: Case<'_>, rollout: &Rollout, survey: &Survey<'_>, closing: Option<Closing>) -> Plan {
    let left = survey.off().count();
    match (closing, case.spec.paused) {
        (Some(Closing::Failed), _) => finish(case, rollout, "Failed", None),
        (Some(Closing::Replaced), _) => finish(case, rollout, "Replaced", None),
        (None, Some(paused)) if left > 0 => case.idle(paused_said(paused, left)),
        _ if survey.off().any(|group| rollout.groups.contains_key(&group.name)) => {
            finish(case, rollout, "Failed", Some("somebody else moved a group back".to_owned()))
        }
        _ => finish(case, rollout, "Done", None),
    }
}

fn finish(case: Case<'_>, rollout: &Rollout, result: &str, further: Option<String>) -> Plan {
    let ended = Rollout { finished: Some(case.now), ..rollout.clone() };
    let moved = ended.groups.values().filter(|entry| entry.failure.is_none()).count();
    let words = format!("rollout of {}: {}, {} moved", ended.target, result.to_lowercase(), groups(moved));
    let record = ended.record(result, further);
    Plan::Record { rollout: ended, ended: Some(record), said: said("RollingOut", words) }
}

fn closing(case: Case<'_>, rollout: &Rollout) -> Option<Closing> {
    if rollout.failures().next().is_some() {
        return Some(Closing::Failed);
    }
    let named = match &case.spec.source {
        Source::Image(image) => !rollout.target.has(Some(image)),
        _ => false,
    };
    named.then_some(Closing::Replaced)
}

fn newer(case: Case<'_>, rollout: &Rollout) -> Option<String> {
    let found = case.seen.found.known()?;
    match choose(case.spec, case.memory, found, case.owner, case.now) {
        Choice::Is(target) if target != rollout.target => Some(format!("; {target} is next")),
        _ => None,
    }
}

/// Remembers that a group's turn has come, before anything is done to it.
fn begin_group(case: Case<'_>, rollout: &Rollout, group: &Group, image: ImageId) -> Result<Plan, Gap> {
    case.seen.fresh_groups()?;
    let Some(before) = group.template.clone() else {
        return Err(Gap::Unknown(Class::Invalid, format!("{} lost its launch template", group.name)));
    };
    let last = rollout.groups.get(&group.name);
    let same = last.filter(|last| last.image == image);
    let entry = Entry {
        before,
        before_image: group.image.clone(),
        attempt: last.map_or(0, |last| last.attempt) + 1,
        made: None,
        update: None,
        failure: None,
        moves: same.map(|last| recent(&last.moves, case.now)).unwrap_or_default(),
        started: case.now,
        finished: None,
        image,
    };
    let words = format!("moving {} to {}", group.name, entry.image);
    Ok(record(rollout.with(&group.name, entry), words))
}

fn record(rollout: Rollout, words: String) -> Plan {
    Plan::Record { rollout, ended: None, said: said("RollingOut", words) }
}

/// One group being moved, and what belongs to it.
#[derive(Clone, Copy)]
struct Move<'a> {
    case: Case<'a>,
    rollout: &'a Rollout,
    name: &'a str,
    entry: &'a Entry,
}

impl Move<'_> {
    fn end(&self, how: End) -> Result<Next, Gap> {
        end(self.case, self.rollout, self.name, self.entry, how).map(|plan| Next::Plan(Box::new(plan)))
    }

    fn act(&self, step: Step, doing: String) -> Next {
        let said = said("RollingOut", format!("{}: {doing}", self.name));
        Next::Plan(Box::new(Plan::Act { step, said }))
    }

    fn remember(&self, entry: Entry) -> Next {
        let words = format!("moving {} to {}", self.name, entry.image);
        let rollout = Rollout { config: self.case.spec.fingerprint(), ..self.rollout.with(self.name, entry) };
        Next::Plan(Box::new(record(rollout, words)))
    }

    fn waiting(&self, doing: &str) -> Next {
        Next::Wait(said("RollingOut", format!("{} {doing} ({})", self.name, self.entry.image)))
    }
}

fn next(this: Move<'_>, survey: &Survey<'_>, closing: bool) -> Result<Next, Gap> {
    let Some((group, verdict)) = survey.verdict(this.name) else {
        return this.end(End::Dropped("the node group is gone".to_owned()));
    };
    match &group.life {
        Life::Updating => return Ok(this.waiting("is being updated")),
        Life::Creating => return Ok(this.waiting("is being created")),
        Life::Deleting => return Ok(this.waiting("is being deleted")),
        _ if group.image.as_ref() == Some(&this.entry.image) => return this.end(End::Moved),
        Life::Active(_) | Life::Degraded | Life::Broken(_) => {}
    }
    if let Some(error) = &this.entry.failure {
        return this.end(End::Failed(error.clone()));
    }
    if let Some(id) = &this.entry.update {
        return outcome(this, id);
    }
    match verdict {
        _ if closing => this.end(End::Dropped("the rollout is over".to_owned())),
        Verdict::Excluded => this.end(End::Dropped("excluded".to_owned())),
        Verdict::Unsupported(why) | Verdict::Gone(why) => this.end(End::Dropped(why.clone())),
        Verdict::Current | Verdict::Off(_) if this.case.spec.paused.is_some() => Ok(Next::Paused),
        Verdict::Current | Verdict::Off(_) => start(this, group, survey),
    }
}

/// The update is over, and the group does not run the image: how did it end?
fn outcome(this: Move<'_>, id: &str) -> Result<Next, Gap> {
    let Some(update) = this.case.seen.update(this.name, id)? else {
        // Somebody deleted the group and made another of that name: nothing was started on this one.
        let again = Entry { update: None, attempt: this.entry.attempt + 1, ..this.entry.clone() };
        return Ok(this.remember(again));
    };
    let failed = |word: &str| {
        let errors =
            if update.errors.is_empty() { "no error given".to_owned() } else { update.errors.join("; ") };
        End::Failed(format!("update {id} {word}: {errors}"))
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
    let (case, rollout) = (this.case, this.rollout);
    match way(group, &rollout.target, &survey.images(&rollout.target), case.seen)? {
        Way::To(image) if image == this.entry.image => {}
        Way::To(_) => return this.end(End::Dropped("it needs another image now".to_owned())),
        Way::Unfit(why) | Way::NoImage(why) => return this.end(End::Dropped(why)),
    }
    let Some(force) = &group.template else { return this.end(End::Dropped("no launch template".to_owned())) };
    let config = case.spec.fingerprint();
    if *force != this.entry.before || config != rollout.config {
        let before = Entry { before: force.clone(), before_image: group.image.clone(), ..this.entry.clone() };
        return Ok(this.remember(before));
    }
    let others = survey.ours().filter(|other| other.life == Life::Updating).count();
    match &group.life {
        Life::Active(_) if others >= case.spec.how.max_parallel => {
            Ok(this.waiting("waits for another node group to finish updating"))
        }
        Life::Active(Some(ready)) => prepare(this, group, ready, force),
        Life::Degraded => Ok(Next::Stalled(degraded_said(&[group]))),
        _ => Ok(this.waiting("is waited for")),
    }
}

fn prepare(this: Move<'_>, group: &Group, ready: &Ready, force: &TemplateVersion) -> Result<Next, Gap> {
    let (case, entry) = (this.case, this.entry);
    let mark = Mark::new(case, &entry.image, force);
    let versions = case.seen.template(&force.template)?.unwrap_or_default();
    let made: Vec<i64> =
        versions.iter().filter(|version| mark.made(version)).map(|version| version.number).collect();
    let doubtful = made.len() > 1 || elapsed(entry.started, case.now) > TOKEN_TRUST;
    if doubtful && let Some((lost, number)) = lost_update(this, &made)? {
        return Ok(this.remember(Entry { update: Some(lost), made: Some(number), ..entry.clone() }));
    }
    if let Some(max) = case.spec.how.max_unavailable.filter(|max| *max != group.max_unavailable) {
        let token =
            this.rollout.token(this.name, &["config", &format!("{:?}/{:?}", max.count, max.percentage)]);
        let step = Step::Configure { ready: ready.clone(), group: this.name.to_owned(), max, token };
        return Ok(this.act(step, "setting maxUnavailable".to_owned()));
    }
    let known = entry.made.filter(|known| made.contains(known));
    Ok(match known.or(made.into_iter().max()) {
        Some(number) => start_update(this, ready, force, number),
        None => make_version(this, force, &mark),
    })
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

fn make_version(this: Move<'_>, force: &TemplateVersion, mark: &Mark) -> Next {
    let entry = this.entry;
    if entry.made.is_some() && elapsed(entry.started, this.case.now) < VISIBLE_WITHIN {
        return this.waiting("waits for its launch template version to be listed");
    }
    let lost = entry.made.map(|made| made.to_string()).unwrap_or_default();
    let attempt = entry.attempt.to_string();
    let parts = ["version", entry.image.as_str(), &force.version, &attempt, &lost];
    let step = Step::MakeVersion {
        group: this.name.to_owned(),
        source: force.clone(),
        image: entry.image.clone(),
        description: mark.description(&this.rollout.id),
        token: this.rollout.token(this.name, &parts),
    };
    let doing = format!("making a version of {} from {} with {}", force.template, force.version, entry.image);
    this.act(step, doing)
}

/// The update of this attempt whose answer was lost, and its version: one of those made for it.
fn lost_update(this: Move<'_>, made: &[i64]) -> Result<Option<(String, i64)>, Gap> {
    if made.is_empty() {
        return Ok(None);
    }
    let since = this.entry.started.checked_sub(SKEW).unwrap_or(this.entry.started);
    let ours = |update: &Update| {
        let version = update.params.get("LaunchTemplateVersion")?.parse().ok()?;
        let recent = update.created.is_some_and(|created| created >= since);
        (update.kind == "VersionUpdate" && recent && made.contains(&version)).then_some(version)
    };
    let updates = this.case.seen.all_updates(this.name)?.iter();
    let matching = updates.filter_map(|update| Some((update, ours(update)?)));
    let newest = matching.max_by_key(|(update, _)| update.created);
    Ok(newest.map(|(update, version)| (update.id.clone(), version)))
}
