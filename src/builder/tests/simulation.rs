//! A simulation of images, runs, a clock and a status. It observes as `observe` does and executes steps as `act` does,
//! both without `async`.

mod events;

use std::collections::BTreeSet;

use super::*;
use crate::api::annotations;
use crate::api::builder::Command;
use crate::api::tags;
use crate::aws::Orphans;
use crate::builder::inputs;
use crate::builder::located::Lane;
use crate::builder::observe;
use crate::builder::outcome::{ActError, Done, Outcome, Swept};
use crate::builder::report;
use crate::builder::step::{Dependency, Sweep, Tagging};
use crate::engine::Failure;

/// An image in EC2, and whether lists show it already.
#[derive(Clone, Debug)]
pub struct SimImage {
    pub located: Located,
    pub listed: bool,
    /// Its tags before the last change, which stale reads show, and the time of that change.
    before: Option<(Tags, Timestamp)>,
}

/// Maximum age of a stale read.
const STALE: Duration = Duration::from_secs(4 * 60);

/// What cannot be read in a reconcile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind {
    pub runs: bool,
    pub images: bool,
    pub base: bool,
    pub template: bool,
    pub live: bool,
    /// Images are shown without the tags that were just set.
    pub tags: bool,
}

impl Blind {
    fn any(self) -> bool {
        self.runs || self.images || self.base || self.template || self.live
    }
}

/// What goes wrong in a reconcile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mishap {
    None,
    /// The agent dies before the effect.
    DiesBefore,
    /// The agent dies after the effect, before status is written.
    DiesAfter,
    /// The effect is refused.
    Refused,
    /// The effect happens, but its response is lost.
    AnswerLost,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Success,
    /// An image for each of two architectures.
    TwoLanes,
    /// Two images for one architecture.
    TwoResults,
    /// The template removes the active image and then makes none.
    Forced,
    /// The image is pending for a while.
    LateImage,
    /// The image fails after Packer succeeded.
    BadImage,
    Failure,
    /// A cause outside of the template.
    NoCapacity,
    /// One source of two made its image, with a copy in another region, and only the template tagged them.
    Partial,
    /// The build failed after the template had tagged its image as active.
    TaggedActive,
    TimedOut,
    /// The result cannot be read. `image`: an image with the build's tag exists.
    Lost {
        image: bool,
    },
}

#[derive(Clone, Debug)]
pub struct World {
    pub now: Timestamp,
    pub object: PackerBuilder,
    pub template: String,
    pub bases: Vec<Image>,
    pub images: Vec<SimImage>,
    pub runs: Vec<Run>,
    /// Every status that was written. A reconcile may read an old one, but never an older one than the last reconcile.
    pub versions: Vec<PackerBuilderStatus>,
    pub observed_version: usize,
    pub complete: bool,
    pub cancel: Option<String>,
    pub started: BTreeSet<BuildId>,
    images_made: u32,
    deleted: BTreeSet<ImageId>,
    /// Images that only their template tagged as active.
    pub never_promoted: BTreeSet<ImageId>,
    /// The status was lost, and with it the records of earlier orphans.
    pub forgot: bool,
    /// The failed run that the engine keeps for its log until the next one starts. A new agent finds it again.
    kept: Option<Run>,
}

impl World {
    pub fn new() -> Self {
        Self {
            now: at_hour(1),
            object: object(),
            template: "v1-0".into(),
            bases: vec![image(0xba5e_0000, start_of_time())],
            images: Vec::new(),
            runs: Vec::new(),
            versions: vec![PackerBuilderStatus::default()],
            observed_version: 0,
            complete: true,
            cancel: None,
            started: BTreeSet::new(),
            images_made: 0,
            deleted: BTreeSet::new(),
            never_promoted: BTreeSet::new(),
            forgot: false,
            kept: None,
        }
    }

    pub fn advance(&mut self, by: Duration) {
        self.now = time::after(self.now, by).expect("the tests stay within centuries");
    }

    pub fn status(&self) -> &PackerBuilderStatus {
        self.versions.last().expect("there is always one")
    }

    /// Reconciles once, as the driver does. Returns the plan, unless the agent died.
    pub fn reconcile(&mut self, blind: Blind, mishap: Mishap, stale: bool) -> Option<Plan> {
        if !stale || self.observed_version >= self.versions.len() {
            self.observed_version = self.versions.len() - 1;
        }
        let observed = self.observe(blind);
        let plan = plan::plan(&observed, self.now);
        self.check_start(&observed, &plan);
        let outcome = match &plan {
            Plan::Act { .. } if mishap == Mishap::DiesBefore => return self.restart(),
            Plan::Act { .. } if mishap == Mishap::Refused => refused(),
            Plan::Act { step, .. } => {
                let done = self.apply(step, blind);
                match mishap {
                    Mishap::DiesAfter => return self.restart(),
                    Mishap::AnswerLost => refused(),
                    _ => Outcome::Did(done),
                }
            }
            _ => Outcome::Nothing,
        };
        let mut pass = report::pass(&observed, &plan, &outcome, self.now);
        let handled = observed.status.last_handled_reconcile_at.clone();
        pass.status.last_handled_reconcile_at = annotations::handled(&self.object.metadata, handled);
        // A write based on an old status is refused.
        if self.observed_version == self.versions.len() - 1 && pass.status != *self.status() {
            self.versions.push(pass.status);
            self.observed_version += 1;
        }
        Some(plan)
    }

    /// Starts the agent again, which knows only what the engine stores.
    fn restart(&mut self) -> Option<Plan> {
        self.runs.extend(self.kept.take());
        None
    }

    /// Returns what `observe` would.
    pub fn observe(&self, blind: Blind) -> Observed {
        let written = Some(self.versions[self.observed_version].clone());
        let status = observe::known_status(&PackerBuilder { status: written, ..self.object.clone() });
        let newest = self.bases.last().cloned();
        let mut observed = Observed {
            now: self.now,
            spec: spec::parse(&self.object),
            complete: self.complete,
            cancel: self.cancel.clone(),
            runs: Seen::Is(self.runs.clone()),
            images: Seen::Is(self.visible(&status, blind.tags)),
            base: Seen::Is(Base { found: newest, recorded: self.bases.clone(), ..Base::default() }),
            template: Seen::Is(resolved(self.template.clone())),
            live: Seen::Is(self.live()),
            status,
            ..observed()
        };
        if blind.runs {
            observed.runs = unknown();
        }
        if blind.images {
            observed.images = unknown();
        }
        if blind.base {
            observed.base = unknown();
        }
        if blind.template {
            observed.template = unknown();
        }
        if blind.live {
            observed.live = unknown();
        }
        observed
    }

    /// Returns the images that lists show, and those that status or an ended run names.
    fn visible(&self, status: &PackerBuilderStatus, stale: bool) -> Vec<Located> {
        let named = |id: &ImageId| status.images.iter().flatten().any(|image| image.id == id.as_str());
        let made = |id: &ImageId| {
            self.runs.iter().any(|run| match &run.state {
                RunState::Succeeded(artifacts) => artifacts.iter().any(|artifact| artifact.image == *id),
                _ => false,
            })
        };
        let lost = |located: &Located| {
            self.runs.iter().any(|run| {
                matches!(run.state, RunState::Lost(_))
                    && located.tag(tags::BUILD) == Some(run.facts.build.as_str())
            })
        };
        let shown = |image: &&SimImage| {
            let id = &image.located.image.id;
            let listed = image.listed && subject().may_own(&image.located.image);
            listed || named(id) || made(id) || lost(&image.located)
        };
        self.images.iter().filter(shown).map(|image| self.shown(image, stale)).collect()
    }

    fn shown(&self, image: &SimImage, stale: bool) -> Located {
        let mut located = image.located.clone();
        if let Some((before, at)) = image.before.as_ref().filter(|_| stale)
            && time::between(*at, self.now) < STALE
        {
            located.image.tags.clone_from(before);
        }
        located
    }

    /// Checks that no build starts as Missing while every image that status names exists and is active.
    fn check_start(&self, observed: &Observed, plan: &Plan) {
        let Plan::Act { step: Step::Start { request, .. }, .. } = plan else { return };
        let named = observed.status.images.as_deref().unwrap_or_default();
        let is_there = |id: &str| {
            let mut images = self.images.iter().map(|image| &image.located);
            images.any(|image| image.image.id.as_str() == id && image.is_active() && image.is_available())
        };
        let all = !named.is_empty() && named.iter().all(|named| is_there(&named.id));
        assert!(!all || request.facts.why != "Missing", "started for an image that is there: {observed:#?}");
    }

    pub fn live(&self) -> usize {
        self.runs.iter().filter(|run| !run.state.ended()).count()
    }

    /// Executes a step, and checks that it is allowed.
    fn apply(&mut self, step: &Step, blind: Blind) -> Done {
        match step {
            Step::Start { request, .. } => {
                assert!(!blind.any(), "started on an unknown: {blind:?}");
                assert_eq!(self.live(), 0, "started beside a live run");
                assert!(
                    self.started.insert(request.facts.build.clone()),
                    "build {} started twice",
                    request.facts.build
                );
                self.kept = None;
                self.runs.push(Run {
                    id: request.name.to_string(),
                    name: request.name.clone(),
                    facts: request.facts.clone(),
                    state: running(),
                    started_at: Some(self.now),
                    ended_at: None,
                    resources: Vec::new(),
                    details: ReportDetails::default(),
                });
            }
            Step::Stop { run, .. } => {
                let stopped = self.runs.iter_mut().find(|known| known.name == *run).expect("it runs");
                stopped.state = RunState::Stopping;
            }
            Step::Activate(tagging) | Step::Demote(tagging) => self.tag(tagging),
            Step::Supersede { kept, superseded } => {
                self.tag(kept);
                self.tag(superseded);
            }
            Step::Sweep(sweep) => {
                assert!(
                    !blind.images && !blind.runs && self.complete,
                    "garbage collection without knowing the results"
                );
                return Done::Swept(Box::new(Swept { found: self.sweep(sweep), ..Swept::default() }));
            }
            Step::Record(_) => {}
            Step::Forget(run) => {
                let forgotten = self.runs.iter().find(|known| known.name == *run).expect("it is known");
                let build = forgotten.facts.build.to_string();
                let recorded = self.status().history.iter().flatten().any(|record| record.id == build);
                assert!(recorded, "forgot a run that status does not hold");
                let has_log = matches!(forgotten.state, RunState::Failed(_) | RunState::Lost(_));
                self.kept = has_log.then(|| forgotten.clone());
                self.runs.retain(|known| known.name != *run);
            }
        }
        Done::AsPlanned
    }

    fn tag(&mut self, tagging: &Tagging) {
        for image in &mut self.images {
            if tagging.images.contains(&image.located.image.id.to_string()) {
                image.before = Some((image.located.image.tags.clone(), self.now));
                image.located.image.tags.extend(tagging.tags.clone());
            }
        }
    }

    fn sweep(&mut self, sweep: &Sweep) -> Orphans {
        let live = self.runs.iter().any(|run| run.facts.build == sweep.build);
        assert!(!live, "garbage collection for a run that is not forgotten");
        let since = sweep.announced.since.expect("the start of every run is known");
        let left = |image: &SimImage| {
            let Located { region, image } = &image.located;
            let named = [&sweep.announced.images, &sweep.announced.artifacts];
            let named = named.into_iter().flatten().any(|id| *id == image.id.as_str());
            let ours = image.tags.get(tags::BUILD).map(String::as_str) == Some(sweep.build.as_str());
            let no_result =
                !image.tags.contains_key(tags::STATUS) && !sweep.spared.contains(image.id.as_str());
            assert!(!named || image.created.is_some_and(|at| at >= since), "it was there before the run");
            sweep.regions.contains(region) && no_result && (named || ours)
        };
        self.images.retain(|image| !left(image));
        Orphans::default()
    }

    /// Returns the lanes of a successful run whose result is being collected.
    pub fn lanes_just_made(&self) -> Option<BTreeSet<Lane>> {
        self.runs.iter().find_map(|run| match &run.state {
            RunState::Succeeded(artifacts) => {
                let of =
                    |artifact: &Artifact| self.images.iter().find(|i| i.located.image.id == artifact.image);
                Some(artifacts.iter().filter_map(of).map(|image| image.located.lane()).collect())
            }
            _ => None,
        })
    }

    /// Returns the lanes with an active image that can be launched.
    pub fn active_lanes(&self) -> BTreeSet<Lane> {
        let active =
            self.images.iter().filter(|image| image.located.is_active() && image.located.is_available());
        active.map(|image| image.located.lane()).collect()
    }
}

fn refused() -> Outcome {
    Outcome::Failed(ActError {
        dependency: Dependency::Aws,
        class: Class::TRANSIENT,
        message: "no answer".into(),
    })
}
