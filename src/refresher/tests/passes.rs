//! A reconcile in the simulated world: the real plan and report, with reads and effects simulated by the world. Every
//! effect is checked for what must never be requested from AWS.

use std::collections::BTreeSet;

use super::world::{Answer, Mishap, SimGroup, World, ours, reason};
use crate::api::{AMIRefresherStatus, Class, ClientToken, ImageId, TemplateId};
use crate::aws::autoscaling::RefreshStatus;
use crate::aws::{LaunchTemplateVersion, TemplateVersion, Update};
use crate::engine::{ObjectHealth, Pass};
use crate::refresher::memory::{Memory, Rollout};
use crate::refresher::observe::GroupsToRead;
use crate::refresher::outcome::{ActError, ActErrorKind, Outcome};
use crate::refresher::plan::{PlanInput, considers_retry, plan};
use crate::refresher::report;
use crate::refresher::step::{Plan, Step};
use crate::refresher::target::Target;

/// Without further events, the refresher must settle within this many reconciles. Every group may wait for its nodes, once
/// per target.
const CALM: usize = 1500;

fn refused(class: Class, message: &str) -> ActError {
    ActError { class, message: message.to_owned(), kind: ActErrorKind::Other }
}

fn lost(message: &str) -> ActError {
    refused(Class::TRANSIENT, message)
}

/// The outcome of a step whose call failed.
fn failed(step: &Step, error: ActError) -> Outcome {
    match step {
        Step::ConfigureManaged { group, .. } => {
            Outcome::ManagedConfigured { group: group.clone(), result: Err(error) }
        }
        Step::CreateVersion { group, source, .. } => Outcome::VersionCreated {
            group: group.clone(),
            template: source.template.clone(),
            result: Err(error),
        },
        Step::StartManagedUpdate { group, version, .. } => Outcome::ManagedUpdateStarted {
            group: group.clone(),
            version: version.version.clone(),
            result: Err(error),
        },
        Step::PinGroup { group, .. } => Outcome::GroupPinned { group: group.clone(), result: Err(error) },
        Step::StartRefresh { group, version, .. } => Outcome::RefreshStarted {
            group: group.clone(),
            version: version.version.clone(),
            result: Err(error),
        },
        Step::CancelRefresh { group } | Step::RollBackRefresh { group } => {
            Outcome::RefreshTurnedBack { group: group.clone(), result: Err(error) }
        }
        Step::PruneVersions { after, .. } => {
            Outcome::VersionsPruned { after: after.clone(), result: Err(error) }
        }
    }
}

impl World {
    /// One reconcile, as the driver executes it.
    pub fn pass(&mut self, mishap: Mishap) -> Pass<AMIRefresherStatus> {
        let spec = self.spec();
        let mut object = self.object.clone();
        if mishap == Mishap::Stale {
            object.status = self.old.clone();
        }
        let memory = Memory::read(object.status.as_ref());
        let retry_requested = std::mem::take(&mut self.retry_requested);
        let to_read = GroupsToRead::of(&spec, &memory, retry_requested, self.now);
        let mut observed = self.observe(&spec, &to_read, mishap == Mishap::Blind);
        let (owner, now) = (self.owner.clone(), self.now);
        let released = self.released.clone().map(Target::single);
        self.needs.clear();
        let (pass, considers_retry) = loop {
            let (owner, memory) = (&owner, &memory);
            let (retried, observed_now) = (released.as_ref(), &observed);
            let input = PlanInput {
                spec: &spec,
                owner,
                memory,
                observed: observed_now,
                now,
                retry_requested,
                retried,
            };
            match plan(input) {
                Plan::Read(need) => {
                    assert!(!self.needs.contains(&need), "read twice: {need:?}");
                    self.needs.push(need.clone());
                    observed = self.read(observed, need, &spec, memory);
                }
                Plan::Act { step, why } => {
                    assert!(spec.paused.is_none(), "an effect while paused: {step:?}");
                    let outcome = match mishap {
                        Mishap::DiesBefore => {
                            return report::planned(&object, input, Plan::Act { step, why });
                        }
                        Mishap::CallFails => failed(&step, lost("no connection")),
                        _ => self.apply(&step, memory.rollout.as_ref().expect("recorded before")),
                    };
                    let outcome = match mishap {
                        Mishap::AnswerLost => failed(&step, lost("connection reset")),
                        _ => outcome,
                    };
                    break (report::acted(&object, input, why, outcome), considers_retry(input));
                }
                plan => break (report::planned(&object, input, plan), considers_retry(input)),
            }
        };
        if !matches!(mishap, Mishap::DiesBefore | Mishap::DiesAfter | Mishap::Stale) {
            self.old = self.object.status.replace(pass.status.clone());
            if let Some(after) = &Memory::read(Some(&pass.status)).rollout {
                self.expect_admitted(memory.rollout.as_ref(), after);
            }
            if considers_retry && pass.failed.is_none() {
                self.released = None;
            }
        }
        pass
    }

    /// The effect that the call has in AWS, checked for what must never be requested.
    fn apply(&mut self, step: &Step, rollout: &Rollout) -> Outcome {
        self.forget(step);
        match step {
            Step::ConfigureManaged { group, max, token, .. } => {
                self.effects.push("configure");
                if rollout.rollback.is_none() {
                    self.expect_in_window("a configuration update");
                }
                let id = self.once(token, |world| {
                    world.expect_active(group);
                    Answer::Update(world.start(group, "ConfigUpdate", None, Some(*max), true))
                });
                let result = Ok(self.update_of(group, &id));
                Outcome::ManagedConfigured { group: group.clone(), result }
            }
            Step::CreateVersion { group, source, image, description, token, .. } => {
                self.effects.push("make version");
                self.expect_no_follower(&source.template);
                let answer = self.once(token, |world| {
                    let number = world.add_version(&source.template, image.as_str(), Some(description));
                    world.sources.insert(number, source.version.clone());
                    Answer::Version(number)
                });
                let Answer::Version(number) = answer else { panic!("a token of an update") };
                let (group, template) = (group.clone(), source.template.clone());
                Outcome::VersionCreated { group, template, result: Ok(number) }
            }
            Step::StartManagedUpdate { group, version, token, .. } => {
                let result = self.start_ours(group, version, token, rollout);
                let (group, version) = (group.clone(), version.version.clone());
                Outcome::ManagedUpdateStarted { group, version, result }
            }
            Step::PinGroup { group, pinned, version, .. } => {
                if rollout.rollback.is_none() {
                    self.expect_in_window("a pin");
                }
                Outcome::GroupPinned { group: group.clone(), result: self.pin(pinned, version) }
            }
            Step::StartRefresh { group, source, version, .. } => {
                let result = self.start_own(group, source, version, rollout);
                Outcome::RefreshStarted { group: group.clone(), version: version.version.clone(), result }
            }
            Step::CancelRefresh { group } => Outcome::RefreshTurnedBack {
                group: group.clone(),
                result: self.turn_back_own(group, RefreshStatus::Cancelled, rollout),
            },
            Step::RollBackRefresh { group } => Outcome::RefreshTurnedBack {
                group: group.clone(),
                result: self.turn_back_own(group, RefreshStatus::RollbackSuccessful, rollout),
            },
            Step::PruneVersions { template, versions, after, .. } => {
                self.effects.push("prune");
                self.expect_unused(template, versions);
                let all = self.templates.get_mut(template).expect("a template");
                all.retain(|(_, version)| !versions.contains(&version.number));
                Outcome::VersionsPruned { after: after.clone(), result: Ok(Vec::new()) }
            }
        }
    }

    fn start_ours(
        &mut self,
        name: &str,
        version: &TemplateVersion,
        token: &ClientToken,
        rollout: &Rollout,
    ) -> Result<Update, ActError> {
        self.effects.push("start update");
        let image = self.image_of(version).expect("the version exists");
        if rollout.rollback.is_none() {
            self.expect_in_window(name);
            self.expect_turn_of(name, &image, rollout.started);
        }
        if let Some(refusal) = self.refuses.as_ref().or(self.refusing.get(name)).cloned() {
            let to = self.image_of(version).expect("the version exists");
            self.refused.insert((name.to_owned(), to));
            return Err(refusal);
        }
        if self.groups[name].seen.status == "DEGRADED" && !self.degraded_accepts {
            return Err(refused(Class::Conflict, "ResourceInUseException: not in Active State"));
        }
        let number: i64 = version.version.parse().expect("a number");
        let created = self.templates[&version.template].iter().find(|(_, created)| created.number == number);
        let Some(image) = created.and_then(|(_, created)| created.image.clone()) else {
            return Err(refused(Class::Invalid, &format!("no version {number}")));
        };
        let answer = self.once(token, |world| {
            world.expect_active(name);
            let in_force = world.groups[name].seen.launch_template.clone().expect("a template").version;
            if rollout.rollback.is_some() {
                world.expect_origin(name, &image);
            } else {
                let message = "created from another version than the one in force";
                assert_eq!(world.sources.get(&number), Some(&in_force), "{message}");
                let shown = world.groups[name].seen.release_version.clone().expect("an image");
                world.remember_origin(name, shown, &image, &rollout.id);
            }
            let pair = (name.to_owned(), ImageId::parse(image.clone()).expect("an id"), in_force);
            assert!(!world.failed.contains(&pair), "a failed pair is repeated: {pair:?}");
            let busy = world.busy();
            assert!(busy < world.limit(), "{busy} groups are busy or not ready, one more is started");
            world.started.push(name.to_owned());
            Answer::Update(world.start(
                name,
                "VersionUpdate",
                Some((version.version.clone(), image)),
                None,
                true,
            ))
        });
        Ok(self.update_of(name, &answer))
    }

    pub fn image_of(&self, version: &TemplateVersion) -> Option<ImageId> {
        let is_it = |listed: &LaunchTemplateVersion| listed.number.to_string() == version.version;
        let (_, found) = self.templates[&version.template].iter().find(|(_, listed)| is_it(listed))?;
        ImageId::parse(found.image.clone()?).ok()
    }

    fn once(&mut self, token: &ClientToken, effect: impl FnOnce(&mut Self) -> Answer) -> Answer {
        if let Some((_, answer)) = self.tokens.get(token) {
            return answer.clone();
        }
        let answer = effect(self);
        self.tokens.insert(token.clone(), (self.now, answer.clone()));
        answer
    }

    fn update_of(&self, group: &str, answer: &Answer) -> Update {
        let Answer::Update(id) = answer else { panic!("a token of a version") };
        self.updates[&(group.to_owned(), id.clone())].clone()
    }

    fn expect_active(&self, name: &str) {
        let status = &self.groups[name].seen.status;
        assert!(matches!(status.as_str(), "ACTIVE" | "DEGRADED"), "an update starts on {name}, {status}");
    }

    fn expect_unused(&self, template: &TemplateId, versions: &[i64]) {
        for sim in self.groups.values() {
            let in_force = sim.seen.launch_template.as_ref().expect("a template");
            let to = sim.running.as_ref().and_then(|running| running.to.as_ref()).map(|(version, _)| version);
            let uses =
                |number: &i64| *number.to_string() == in_force.version || Some(&number.to_string()) == to;
            let used = in_force.template == *template && versions.iter().any(uses);
            assert!(!used, "a version that {} uses is deleted", sim.seen.name);
        }
        let used = self.own_uses(template);
        let is_used = versions.iter().any(|number| used.contains(&number.to_string()));
        assert!(!is_used, "a version that a self-managed group uses is deleted");
        let foreign = |number: &i64| {
            let of = self.templates[template].iter().find(|(_, version)| version.number == *number);
            !of.is_some_and(|(_, version)| ours(version))
        };
        assert!(!versions.iter().any(foreign), "a version of another writer is deleted");
    }

    /// Reconciles without mishaps, each when the previous one requested it, until nothing is in progress.
    pub fn calm(&mut self) -> Pass<AMIRefresherStatus> {
        self.lag = false;
        self.refusing.clear();
        let blocks = self.policy.blocks;
        if let Some(cluster) = &mut self.cluster {
            cluster.down = false;
            // Otherwise, nothing would ever start.
            cluster.denied &= !blocks;
            cluster.builds.clear();
            cluster.pods.clear();
        }
        self.object.spec.suspend = None;
        for sim in self.groups.values_mut().filter(|sim| sim.seen.status == "DEGRADED") {
            sim.seen.status = "ACTIVE".to_owned();
            sim.seen.health.clear();
        }
        // The first reconcile that settles may have read outdated responses; the next one comes when they are too old.
        let mut is_current = !self.shares;
        for _ in 0..CALM {
            let pass = self.pass(Mishap::None);
            let reason = reason(&pass);
            let is_held = ["Soaking", "WaitingForApproval", "WaitingForWindow", "Frozen", "PreflightFailed"]
                .contains(&reason.as_str());
            let settled = !is_held
                && matches!(
                    pass.health,
                    ObjectHealth::Settled | ObjectHealth::Waiting | ObjectHealth::Stalled
                )
                && self.groups.values().all(|sim| sim.running.is_none())
                && self.own.values().all(|own| own.running.is_none());
            if reason == "WaitingForApproval" {
                let target = pass.status.target_ami.clone().expect("a target");
                self.approve(Some(&ImageId::parse(target).expect("one image")));
            }
            if settled && is_current {
                return pass;
            }
            is_current = settled || !self.shares;
            self.advance(i64::try_from(pass.look.as_secs()).expect("short"));
        }
        panic!("does not settle: {:#?}", self.object.status);
    }

    pub fn target(&self) -> ImageId {
        let named = self.object.spec.ami.clone().map(|ami| ImageId::parse(ami).expect("an id"));
        named.or_else(|| self.built.clone()).expect("a target")
    }

    pub fn has_same_inputs(&self, one: &ImageId, other: &ImageId) -> bool {
        let template = |id: &ImageId| self.images[id].tags.get("opsy.dev/template").cloned();
        template(one) == template(other)
    }

    pub fn off(&self) -> Vec<&str> {
        let target = self.target();
        let off = |sim: &&SimGroup| sim.seen.release_version.as_deref() != Some(target.as_str());
        let off = self.groups.values().filter(off).map(|sim| sim.seen.name.as_str());
        off.chain(self.own_off(&target)).collect()
    }

    /// Versions of this agent that neither a group nor the last rollout needs, except for the newest three of each
    /// template.
    pub fn leaked(&self) -> Vec<i64> {
        let status = self.object.status.clone().unwrap_or_default();
        let previous: BTreeSet<String> = status
            .rollout
            .iter()
            .flat_map(|rollout| rollout.groups.iter().flatten())
            .flat_map(|entry| [entry.previous_version.clone(), entry.source_version.clone()])
            .flatten()
            .collect();
        let forces: Vec<_> =
            self.groups.values().filter_map(|sim| sim.seen.launch_template.clone()).collect();
        let mut leaked = Vec::new();
        for (template, versions) in &self.templates {
            let own = self.own_uses(template);
            let used: BTreeSet<&str> = forces
                .iter()
                .filter(|force| force.template == *template)
                .map(|force| force.version.as_str())
                .chain(own.iter().map(String::as_str))
                .collect();
            let mut newest: Vec<i64> = versions
                .iter()
                .filter(|(_, version)| ours(version))
                .map(|(_, version)| version.number)
                .collect();
            newest.sort_unstable_by(|a, b| b.cmp(a));
            newest.truncate(3);
            let idle = |number: String| !used.contains(number.as_str()) && !previous.contains(&number);
            let unused = versions.iter().filter(|(_, version)| {
                ours(version) && !newest.contains(&version.number) && idle(version.number.to_string())
            });
            if !used.is_empty() {
                leaked.extend(unused.map(|(_, version)| version.number));
            }
        }
        leaked
    }

    /// The number of version updates to an image.
    pub fn updates_to(&self, image: &ImageId) -> usize {
        let created_with_image = |number: &String| {
            let mut versions = self.templates.values().flatten().map(|(_, version)| version);
            versions.any(|version| {
                version.number.to_string() == *number && version.image.as_deref() == Some(image.as_str())
            })
        };
        self.updates.values().filter(|update| update.params.values().any(created_with_image)).count()
    }

    pub fn versions_of_ours(&self) -> usize {
        self.templates.values().flatten().filter(|(_, version)| ours(version)).count()
    }
}
