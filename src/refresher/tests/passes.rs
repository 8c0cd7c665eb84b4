//! A pass in the simulated world: the real plan and report, with reads and effects played by the
//! world, and everything that must never be asked of AWS checked where it would be asked.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::world::{Answer, Mishap, SimGroup, World, ours};
use crate::api::{AMIRefresherStatus, Class, ClientToken, ImageId, Seen, TemplateId};
use crate::aws::{LaunchTemplateVersion, TemplateVersion, Update};
use crate::engine::{Pass, Standing};
use crate::refresher::act::{Done, Failed, Failure};
use crate::refresher::memory::Memory;
use crate::refresher::plan::{Case, Plan, Step, plan};
use crate::refresher::report;
use crate::refresher::seen::{Account, Found, Group, Life, Need, Observed, Reading, group, listed, unread};

use crate::refresher::spec::{Source, Spec};

/// Passes within which a calm world must come to rest.
const CALM: usize = 600;

fn refused(class: Class, why: &str) -> Failed {
    Failed { class, why: why.to_owned(), kind: Failure::Other }
}

fn lost(why: &str) -> Failed {
    refused(Class::TRANSIENT, why)
}

impl World {
    fn look(&self, spec: &Spec, reading: &Reading, blind: bool) -> Observed {
        let unknown = || Seen::Unknown(Class::TRANSIENT, "no answer".to_owned());
        let found = match (&spec.source, &self.built) {
            (Source::Image(_), _) => Found::Named,
            (_, None) => Found::NoBuilder,
            (_, Some(id)) => Found::Built(vec![(id.clone(), self.images.get(id).cloned())]),
        };
        let (groups, found) = if blind {
            (unknown(), Seen::Unknown(Class::TRANSIENT, "no answer".to_owned()))
        } else {
            (self.groups_by(spec, reading), Seen::Is(found))
        };
        let partial = matches!(reading, Reading::Only(_));
        let fresh = *reading == Reading::All { fresh: true };
        Observed {
            fresh_groups: fresh || partial,
            partial,
            ..Observed::first(Seen::Is(Account::Allowed), groups, found)
        }
    }

    /// Groups as they would be read.
    fn groups_by(&self, spec: &Spec, reading: &Reading) -> Seen<Vec<Group>> {
        let fresh = *reading != Reading::All { fresh: false };
        let read = |sim: &SimGroup| match reading {
            Reading::Only(names) => names.contains(&sim.seen.name).then(|| group(&sim.seen, fresh)),
            _ if spec.scope.excludes(&sim.seen.name) => Some(unread(&sim.seen.name, Life::Unread)),
            Reading::All { .. } => Some(group(&sim.seen, fresh)),
        };
        listed(self.groups.values().filter_map(read).collect())
    }

    fn closer(&self, mut seen: Observed, need: Need, spec: &Spec) -> Observed {
        match need {
            Need::FreshGroups => {
                seen.groups = self.groups_by(spec, &Reading::All { fresh: true });
                (seen.fresh_groups, seen.partial) = (true, false);
            }
            Need::EveryGroup => {
                let all = self.groups.values().map(|sim| group(&sim.seen, true)).collect();
                seen.every = Some(listed(all));
            }
            Need::Architectures(types) => {
                seen.architectures.insert(types, Seen::Is(["x86_64".to_owned()].into()));
            }
            Need::ClusterVersion => seen.cluster = Some(Seen::Is("1.31".to_owned())),
            Need::FreshFound => seen.fresh_found = true,
            Need::Images(ids) => {
                seen.images
                    .extend(ids.into_iter().map(|id| (id.clone(), Seen::Is(self.images.get(&id).cloned()))));
            }
            Need::Template(id) => {
                let listed = |(shown, version): &(Timestamp, LaunchTemplateVersion)| {
                    (*shown <= self.now).then(|| version.clone())
                };
                let versions = self.templates.get(&id).map(|all| all.iter().filter_map(listed).collect());
                let gone = Seen::Unknown(Class::NotFound, "no such template".to_owned());
                seen.templates.insert(id, versions.map_or(gone, Seen::Is));
            }
            Need::Update { group, id } => {
                let key = (group, id);
                let gone = Seen::Unknown(Class::NotFound, "no such update".to_owned());
                let update = self.updates.get(&key).cloned().map_or(gone, Seen::Is);
                seen.updates.insert(key, update);
            }
            Need::AllUpdates { group } => {
                let of = self.updates.iter().filter(|((name, _), _)| *name == group);
                let all = of.map(|(_, update)| update.clone()).collect();
                seen.all_updates.insert(group, Seen::Is(all));
            }
        }
        seen
    }

    /// One pass, as the driver makes it.
    pub fn pass(&mut self, mishap: Mishap) -> Pass<AMIRefresherStatus> {
        let spec = self.spec();
        let mut object = self.object.clone();
        if mishap == Mishap::Stale {
            object.status = self.old.clone();
        }
        let memory = Memory::read(object.status.as_ref());
        let asked = std::mem::take(&mut self.asks);
        let reading = Reading::of(&spec, &memory, asked);
        let mut seen = self.look(&spec, &reading, mishap == Mishap::Blind);
        let owner = self.owner.clone();
        self.asked.clear();
        let pass = loop {
            let case =
                Case { spec: &spec, owner: &owner, memory: &memory, seen: &seen, now: self.now, asked };
            match plan(case) {
                Plan::Look(need) => {
                    assert!(!self.asked.contains(&need), "asked twice: {need:?}");
                    self.asked.push(need.clone());
                    seen = self.closer(seen, need, &spec);
                }
                Plan::Act { step, said } => {
                    assert!(spec.paused.is_none(), "an effect while paused: {step:?}");
                    let done = match mishap {
                        Mishap::DiesBefore => {
                            return report::planned(&object, case, Plan::Act { step, said });
                        }
                        Mishap::CallFails => Err(lost("no connection")),
                        _ => self.apply(&step, spec.how.max_parallel),
                    };
                    let done = match mishap {
                        Mishap::AnswerLost => Err(lost("connection reset")),
                        _ => done,
                    };
                    break report::acted(&object, case, &step, said, done);
                }
                plan => break report::planned(&object, case, plan),
            }
        };
        if !matches!(mishap, Mishap::DiesBefore | Mishap::DiesAfter | Mishap::Stale) {
            self.old = self.object.status.replace(pass.status.clone());
        }
        pass
    }

    /// The effect, as AWS would have it, and what must never be asked of AWS.
    fn apply(&mut self, step: &Step, max_parallel: usize) -> Result<Done, Failed> {
        match step {
            Step::Configure { group, max, token, .. } => {
                self.effects.push("configure");
                let id = self.once(token, |world| {
                    world.expect_active(group);
                    Answer::Update(world.start(group, "ConfigUpdate", None, Some(*max), true))
                });
                Ok(Done::Configured(self.update_of(group, &id)))
            }
            Step::MakeVersion { source, image, description, token, .. } => {
                self.effects.push("make version");
                let answer = self.once(token, |world| {
                    let number = world.add_version(&source.template, image.as_str(), Some(description));
                    world.sources.insert(number, source.version.clone());
                    Answer::Version(number)
                });
                let Answer::Version(number) = answer else { panic!("a token of an update") };
                Ok(Done::Made(number))
            }
            Step::StartUpdate { group, version, token, .. } => {
                self.start_ours(group, version, token, max_parallel)
            }
            Step::PruneVersions { template, versions, .. } => {
                self.effects.push("prune");
                self.expect_unused(template, versions);
                let all = self.templates.get_mut(template).expect("a template");
                all.retain(|(_, version)| !versions.contains(&version.number));
                Ok(Done::Pruned(Vec::new()))
            }
        }
    }

    fn start_ours(
        &mut self,
        name: &str,
        version: &TemplateVersion,
        token: &ClientToken,
        max_parallel: usize,
    ) -> Result<Done, Failed> {
        self.effects.push("start update");
        if let Some(refusal) = self.refuses.as_ref().or(self.refusing.get(name)).cloned() {
            let to = self.image_of(version).expect("it was made");
            self.refused.insert((name.to_owned(), to));
            return Err(refusal);
        }
        if self.groups[name].seen.status == "DEGRADED" && !self.degraded_accepts {
            return Err(refused(Class::Conflict, "ResourceInUseException: not in Active State"));
        }
        let number: i64 = version.version.parse().expect("a number");
        let made = self.templates[&version.template].iter().find(|(_, made)| made.number == number);
        let Some(image) = made.and_then(|(_, made)| made.image.clone()) else {
            return Err(refused(Class::Invalid, &format!("no version {number}")));
        };
        let answer = self.once(token, |world| {
            world.expect_active(name);
            let force = world.groups[name].seen.launch_template.clone().expect("a template").version;
            assert_eq!(
                world.sources.get(&number),
                Some(&force),
                "made from another version than the one in force"
            );
            let pair = (name.to_owned(), ImageId::parse(image.clone()).expect("an id"), force);
            assert!(!world.failed.contains(&pair), "a failed pair is repeated: {pair:?}");
            let busy = world.groups.values().filter(|sim| sim.running.is_some()).count();
            assert!(busy < max_parallel, "{busy} groups are busy, one more is started");
            world.started.push(name.to_owned());
            Answer::Update(world.start(
                name,
                "VersionUpdate",
                Some((version.version.clone(), image)),
                None,
                true,
            ))
        });
        Ok(Done::Started(self.update_of(name, &answer)))
    }

    fn image_of(&self, version: &TemplateVersion) -> Option<ImageId> {
        let of = |made: &LaunchTemplateVersion| made.number.to_string() == version.version;
        let (_, made) = self.templates[&version.template].iter().find(|(_, made)| of(made))?;
        ImageId::parse(made.image.clone()?).ok()
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
            let force = sim.seen.launch_template.as_ref().expect("a template");
            let to = sim.running.as_ref().and_then(|running| running.to.as_ref()).map(|(version, _)| version);
            let uses = |number: &i64| *number.to_string() == force.version || Some(&number.to_string()) == to;
            let used = force.template == *template && versions.iter().any(uses);
            assert!(!used, "a version that {} uses is deleted", sim.seen.name);
        }
        let foreign = |number: &i64| {
            let of = self.templates[template].iter().find(|(_, version)| version.number == *number);
            !of.is_some_and(|(_, version)| ours(version))
        };
        assert!(!versions.iter().any(foreign), "a version of somebody else is deleted");
    }

    /// No mishaps any more: passes, each when the one before asked for it, until nothing is under way.
    pub fn calm(&mut self) -> Pass<AMIRefresherStatus> {
        self.lag = false;
        self.refusing.clear();
        self.object.spec.suspend = None;
        for sim in self.groups.values_mut().filter(|sim| sim.seen.status == "DEGRADED") {
            sim.seen.status = "ACTIVE".to_owned();
            sim.seen.health.clear();
        }
        for _ in 0..CALM {
            let pass = self.pass(Mishap::None);
            if matches!(pass.standing, Standing::Settled | Standing::Waiting | Standing::Stalled)
                && self.groups.values().all(|sim| sim.running.is_none())
            {
                return pass;
            }
            self.advance(i64::try_from(pass.look.as_secs()).expect("short"));
        }
        panic!("does not come to rest: {:#?}", self.object.status);
    }

    pub fn target(&self) -> ImageId {
        let named = self.object.spec.ami.clone().map(|ami| ImageId::parse(ami).expect("an id"));
        named.or_else(|| self.built.clone()).expect("a target")
    }

    pub fn off(&self) -> Vec<&str> {
        let target = self.target();
        let off = |sim: &&SimGroup| sim.seen.release_version.as_deref() != Some(target.as_str());
        self.groups.values().filter(off).map(|sim| sim.seen.name.as_str()).collect()
    }

    /// Versions of ours that neither a group nor the last rollout has a use for, beyond the newest three of
    /// each template.
    pub fn leaked(&self) -> Vec<i64> {
        let status = self.object.status.clone().unwrap_or_default();
        let previous: BTreeSet<String> = status
            .rollout
            .iter()
            .flat_map(|rollout| rollout.groups.iter().flatten())
            .filter_map(|entry| entry.previous_version.clone())
            .collect();
        let forces: Vec<_> =
            self.groups.values().filter_map(|sim| sim.seen.launch_template.clone()).collect();
        let mut leaked = Vec::new();
        for (template, versions) in &self.templates {
            let used: BTreeSet<&str> = forces
                .iter()
                .filter(|force| force.template == *template)
                .map(|force| force.version.as_str())
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

    /// Version updates that went to an image.
    pub fn updates_to(&self, image: &ImageId) -> usize {
        let made = |number: &String| {
            let mut versions = self.templates.values().flatten().map(|(_, version)| version);
            versions.any(|version| {
                version.number.to_string() == *number && version.image.as_deref() == Some(image.as_str())
            })
        };
        self.updates.values().filter(|update| update.params.values().any(made)).count()
    }

    pub fn versions_of_ours(&self) -> usize {
        self.templates.values().flatten().filter(|(_, version)| ours(version)).count()
    }
}
