//! A simulated world without AWS: node groups, launch templates, updates that fail or whose response is lost, crashes
//! around every effect, lost or outdated status, other writers. The real plan and report run in it, and every effect is
//! checked for what must never happen.

mod cluster;
mod events;
mod given;
mod own;
mod policy;
mod reads;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{AMIRefresher, AMIRefresherStatus, ClientToken, ImageId, Owner, TemplateId};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{Image, LaunchTemplateVersion, ManagedNodegroup, TemplateVersion, Update, UpdateStatus};
use crate::engine::Pass;
use crate::refresher::observed::Need;
use crate::refresher::outcome::ActError;
use crate::refresher::spec::{self, Spec};

pub use cluster::SimCluster;
pub use events::Event;
pub use given::image_id;
use given::{image, refresher, template_id};
pub use own::{Foreign, SimOwn};
use policy::Moved;
pub use policy::SimPolicy;
use reads::Responses;

/// How long an update takes, in seconds.
const UPDATE: i64 = 300;
/// How long EKS and EC2 remember a client token.
const TOKENS: i64 = 3600;
/// How long a new version may not be listed.
const LAG: i64 = 30;

#[derive(Clone, Debug)]
pub struct SimGroup {
    pub seen: ManagedNodegroup,
    /// The update in progress.
    pub running: Option<Running>,
}

#[derive(Clone, Debug)]
pub struct Running {
    pub ends: Timestamp,
    pub update: String,
    pub to: Option<(String, String)>,
    pub max: Option<MaxUnavailable>,
    pub fails: bool,
    pub ours: bool,
    /// Another writer started it.
    pub foreign: bool,
    /// The refresher remembers that it started it.
    pub remembered: bool,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Update(String),
    Version(i64),
}

pub struct World {
    pub now: Timestamp,
    pub object: AMIRefresher,
    pub owner: Owner,
    pub groups: BTreeMap<String, SimGroup>,
    /// Self-managed groups.
    pub own: BTreeMap<String, SimOwn>,
    pub templates: BTreeMap<TemplateId, Vec<(Timestamp, LaunchTemplateVersion)>>,
    /// The version from which each version of this agent was created.
    pub sources: BTreeMap<i64, String>,
    next_version: i64,
    next_update: i64,
    pub images: BTreeMap<ImageId, Image>,
    pub built: Option<ImageId>,
    pub updates: BTreeMap<(String, String), Update>,
    pub tokens: BTreeMap<ClientToken, (Timestamp, Answer)>,
    /// The status before the last one.
    pub old: Option<AMIRefresherStatus>,
    /// Groups with images whose nodes never join.
    pub bad: BTreeSet<(String, ImageId)>,
    /// Updates that failed since the last change: group, image, version in force.
    pub failed: BTreeSet<(String, ImageId, String)>,
    pub lag: bool,
    /// EKS refuses updates of all groups with this error.
    pub refuses: Option<ActError>,
    /// EKS refuses updates of these groups with these errors.
    pub refusing: BTreeMap<String, ActError>,
    /// Group and image of every refused update.
    pub refused: BTreeSet<(String, ImageId)>,
    /// Another writer canceled a refresh of ours, which is a failure of its group.
    pub was_canceled: bool,
    /// EC2 Auto Scaling rolls no refresh back.
    pub irreversible: bool,
    /// EKS updates DEGRADED groups.
    pub degraded_accepts: bool,
    /// EKS shows the new version after a failed update.
    pub keeps: bool,
    /// A person requested a retry.
    pub retry_requested: bool,
    /// The image that a person requested to roll out again.
    pub released: Option<ImageId>,
    /// The image of each group before its first update in a rollout of ours, with the ID of the rollout.
    pub origins: BTreeMap<String, (String, String)>,
    /// Responses are shared for a while, so that reads may be outdated.
    pub shares: bool,
    responses: Responses,
    /// What the plan of the last reconcile needed to read.
    pub needs: Vec<Need>,
    pub effects: Vec<&'static str>,
    /// Groups in the order in which their updates started.
    pub started: Vec<String>,
    pub policy: SimPolicy,
    /// The cluster in which the agent runs, if it is that of the groups.
    pub cluster: Option<SimCluster>,
    /// The checks that are bad now.
    pub bad_checks: BTreeSet<String>,
    /// How often checks were evaluated.
    pub asked: std::cell::Cell<usize>,
    freeze: Option<(Timestamp, Timestamp)>,
    /// Groups that updates of ours moved.
    moved: Vec<Moved>,
    /// Targets for which the second wave has started, with the start of the rollout.
    begun: BTreeSet<(ImageId, Timestamp)>,
}

/// What goes wrong in a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    None,
    /// A crash just before the effect, or before the status is written if there is no effect.
    DiesBefore,
    /// A crash after the effect: the status is not written.
    DiesAfter,
    /// The effect happens, but the response is lost.
    AnswerLost,
    /// The call fails without effect.
    CallFails,
    /// Nothing can be read.
    Blind,
    /// The reconcile reads an outdated status, and its own is not written.
    Stale,
}

impl World {
    /// `count` groups on image 0, of which the first two share a launch template.
    pub fn new(count: usize, at_once: bool) -> Self {
        let mut world = Self::empty(refresher(at_once));
        let first = world.publish();
        world.built = Some(first);
        (0..count).for_each(|_| world.create());
        world
    }

    /// A world without images and groups.
    fn empty(object: AMIRefresher) -> Self {
        Self {
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            object,
            owner: Owner::parse("team").expect("an owner"),
            groups: BTreeMap::new(),
            own: BTreeMap::new(),
            templates: BTreeMap::new(),
            sources: BTreeMap::new(),
            next_version: 1,
            next_update: 1,
            images: BTreeMap::new(),
            built: None,
            updates: BTreeMap::new(),
            tokens: BTreeMap::new(),
            old: None,
            bad: BTreeSet::new(),
            failed: BTreeSet::new(),
            lag: false,
            refuses: None,
            refusing: BTreeMap::new(),
            refused: BTreeSet::new(),
            was_canceled: false,
            irreversible: false,
            degraded_accepts: true,
            keeps: false,
            retry_requested: false,
            released: None,
            origins: BTreeMap::new(),
            shares: false,
            responses: Responses::default(),
            needs: Vec::new(),
            effects: Vec::new(),
            started: Vec::new(),
            policy: SimPolicy::default(),
            cluster: None,
            bad_checks: BTreeSet::new(),
            asked: std::cell::Cell::default(),
            freeze: None,
            moved: Vec::new(),
            begun: BTreeSet::new(),
        }
    }

    /// Adds a new image and demotes the previous one.
    fn publish(&mut self) -> ImageId {
        if let Some(old) = self.built.as_ref().and_then(|old| self.images.get_mut(old)) {
            old.tags.insert("status".to_owned(), "deprecated".to_owned());
        }
        let id = image_id(self.images.len());
        self.images.insert(id.clone(), image(self.images.len(), self.now));
        id
    }

    fn create(&mut self) {
        let number = self.groups.len();
        let template = template_id(number.max(1));
        let image = self.images.keys().next().cloned().expect("an image");
        let version = self.add_version(&template, image.as_str(), None);
        let seen = ManagedNodegroup {
            name: format!("group-{number}"),
            status: "ACTIVE".to_owned(),
            ami_type: "CUSTOM".to_owned(),
            release_version: Some(image.to_string()),
            launch_template: Some(TemplateVersion { template, version: version.to_string() }),
            max_unavailable: Some(1),
            desired: Some(2),
            ..ManagedNodegroup::default()
        };
        self.groups.insert(seen.name.clone(), SimGroup { seen, running: None });
    }

    pub fn add_version(&mut self, template: &TemplateId, image: &str, description: Option<&str>) -> i64 {
        let number = self.next_version;
        self.next_version += 1;
        let version = LaunchTemplateVersion {
            number,
            image: Some(image.to_owned()),
            description: description.map(str::to_owned),
            ..LaunchTemplateVersion::default()
        };
        let late = self.lag && ours(&version);
        let shown = if late { self.now + Duration::from_secs(LAG as u64) } else { self.now };
        self.templates.entry(template.clone()).or_default().push((shown, version));
        number
    }

    pub fn advance(&mut self, seconds: i64) {
        self.now += Duration::from_secs(u64::try_from(seconds).expect("forward"));
        let now = self.now;
        self.tokens.retain(|_, (since, _)| now.duration_since(*since).as_secs() < TOKENS);
        let due: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, sim)| sim.running.as_ref().is_some_and(|running| running.ends <= now))
            .map(|(name, _)| name.clone())
            .collect();
        due.into_iter().for_each(|name| self.end_update(&name));
        self.advance_own();
    }

    fn end_update(&mut self, name: &str) {
        let sim = self.groups.get_mut(name).expect("it runs");
        let running = sim.running.take().expect("it runs");
        let key = (name.to_owned(), running.update);
        let update = self.updates.get_mut(&key).expect("it was started");
        sim.seen.status = "ACTIVE".to_owned();
        if running.fails {
            update.status = UpdateStatus::Failed;
            update.errors = vec!["NodeCreationFailure: nodes did not join".to_owned()];
            let (version, image) = running.to.expect("only version updates fail");
            let template = sim.seen.launch_template.as_mut().expect("a template");
            let mut in_force = vec![template.version.clone()];
            if self.keeps {
                template.version = version.clone();
                sim.seen.release_version = Some(image.clone());
                in_force.push(version);
                self.mix_nodes(name);
            } else {
                self.leave_node(name, &image);
            }
            if running.ours {
                let image = ImageId::parse(image).expect("an id");
                let failed = in_force.into_iter().map(|version| (key.0.clone(), image.clone(), version));
                self.failed.extend(failed);
            }
            return;
        }
        update.status = UpdateStatus::Successful;
        if let Some((version, image)) = running.to {
            let id = ImageId::parse(image.clone()).expect("an id");
            let is_known = running.ours && running.remembered;
            if running.remembered {
                let image = id.clone();
                self.moved.push(Moved { group: name.to_owned(), image, at: running.ends });
            }
            sim.seen.launch_template.as_mut().expect("a template").version = version;
            sim.seen.release_version = Some(image);
            self.replace_nodes(name, &id, running.ends, is_known);
        }
        let sim = self.groups.get_mut(name).expect("it runs");
        if let Some(max) = running.max {
            sim.seen.max_unavailable = max.count;
            sim.seen.max_unavailable_percentage = max.percentage;
        }
    }

    pub fn start(
        &mut self,
        name: &str,
        kind: &str,
        to: Option<(String, String)>,
        max: Option<MaxUnavailable>,
        ours: bool,
    ) -> String {
        let id = format!("update-{}", self.next_update);
        self.next_update += 1;
        let image = to.as_ref().and_then(|(_, image)| ImageId::parse(image.clone()).ok());
        let fails = image.is_some_and(|image| self.bad.contains(&(name.to_owned(), image)));
        let params =
            to.iter().map(|(version, _)| ("LaunchTemplateVersion".to_owned(), version.clone())).collect();
        let update = Update {
            id: id.clone(),
            kind: kind.to_owned(),
            status: UpdateStatus::InProgress,
            errors: Vec::new(),
            created: Some(self.now),
            params,
        };
        self.updates.insert((name.to_owned(), id.clone()), update);
        let sim = self.groups.get_mut(name).expect("a group");
        sim.seen.status = "UPDATING".to_owned();
        let ends = self.now + Duration::from_secs(UPDATE as u64);
        sim.running = Some(Running {
            ends,
            update: id.clone(),
            to,
            max,
            fails,
            ours,
            foreign: !ours,
            remembered: ours,
        });
        id
    }

    /// Something changed: what failed, or fails of what is in progress, may be retried.
    pub fn changed(&mut self) {
        self.failed.clear();
        self.groups
            .values_mut()
            .filter_map(|sim| sim.running.as_mut())
            .for_each(|running| running.ours = false);
        let refreshing = self.own.values_mut().filter_map(|own| own.running.as_mut());
        refreshing.for_each(|running| running.ours = false);
    }

    pub fn spec(&self) -> Spec {
        spec::parse(&self.object).expect("a valid spec")
    }
}

pub fn ours(version: &LaunchTemplateVersion) -> bool {
    version.description.as_deref().is_some_and(|text| text.starts_with("opsy team "))
}

pub fn reason(pass: &Pass<AMIRefresherStatus>) -> String {
    let conditions = pass.status.conditions.clone().unwrap_or_default();
    conditions.into_iter().find(|c| c.r#type == "Ready").and_then(|c| c.reason).unwrap_or_default()
}
