//! Reads everything that a plan needs, in parallel. A failed read is `Unknown`, never an absence.
//!
//! Cached reads are enough for a plan. Before a change, everything is read again.

mod bases;
mod images;
pub(super) mod recorded;
mod template;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::Context;
use super::active;
use super::base::Base;
use super::fleet::{FleetView, Report};
use super::history;
use super::located::Located;
use super::spec::{self, Spec};
use super::subject::{BuiltFrom, Subject};
use super::sweep_record;
use crate::api::builder::{LaneImage, PackerBuilder, PackerBuilderStatus, RunRecord, SweepRecord};
use crate::api::checks::{self, Problem};
use crate::api::conditions::Suspension;
use crate::api::{ImageId, Key, Region, Seen, Undeclared, annotations};
use crate::aws::{AwsError, Fresh, Image};
use crate::engine::{Run, RunState};
pub use crate::git::templates::Resolved;
use crate::sync::Synced;
use bases::{BaseFacts, find_bases, observe_base};
use images::observe_images;
use template::resolve;

/// Git's name for the default branch of a remote.
const DEFAULT_BRANCH: &str = "HEAD";

/// Everything on which a plan depends.
#[derive(Clone, Debug)]
pub struct Observed {
    pub subject: Subject,
    pub generation: Option<i64>,
    pub now: Timestamp,
    pub spec: Result<Spec, Vec<Problem>>,
    /// The status as last written, prepared by `known_status`.
    pub status: PackerBuilderStatus,
    pub deleting: bool,
    /// Why no document declares the object, if none does and it is not pruned.
    pub undeclared: Option<Undeclared>,
    /// Suspended by annotation on the live object.
    pub suspended: bool,
    /// ID of the build that a person wants to cancel.
    pub cancel: Option<String>,
    /// No file of the repository is broken.
    pub complete: bool,
    pub runs: Seen<Vec<Run>>,
    pub images: Seen<Vec<Located>>,
    pub base: Seen<Base>,
    pub template: Seen<Resolved>,
    /// The accounts that may be changed, if `opsy.yaml` lists them.
    pub accounts: Option<Vec<String>>,
    /// The account of the credentials, if a plan needs it.
    pub account: Option<Seen<String>>,
    /// The minimum time that this builder's live run has lasted, by a monotonic clock. If it is unknown, only the wall
    /// clock decides.
    pub lasted: Option<Duration>,
    /// Number of live runs of all builders.
    pub live: Seen<usize>,
    /// The last free slot is reserved: other namespaces have builders, and none of those has a live run.
    pub last_slot_is_reserved: bool,
    pub concurrent_builds: usize,
    /// Secrets that the agent uses itself. No build receives one of them.
    pub withheld: BTreeSet<Key>,
    pub fleet: FleetView,
    pub allow_mass_build: bool,
    /// The agent is about to exit, so it would not observe the end of a build.
    pub ending: bool,
}

impl Observed {
    /// Returns how the builder is suspended, if it is.
    pub fn suspension(&self) -> Option<Suspension> {
        Suspension::of(self.spec.as_ref().is_ok_and(|spec| spec.suspended), self.suspended)
    }

    pub fn history(&self) -> &[RunRecord] {
        self.status.history.as_deref().unwrap_or_default()
    }

    pub fn sweeps(&self) -> &[SweepRecord] {
        self.status.sweeps.as_deref().unwrap_or_default()
    }

    /// Returns whether an image that status names is missing or lacks its tags, or `None` if that is unknown. A
    /// deprecated image is not lost.
    pub fn lost(&self) -> Option<bool> {
        Some(is_lost(&self.subject, &self.status, self.images.known()?, self.now))
    }

    /// Returns the images that status names and that do not exist, or `None` if that is unknown.
    fn gone(&self) -> Option<Vec<&LaneImage>> {
        Some(gone(self.images.known()?, &self.status))
    }

    /// Returns the images that are missing, if that is credible.
    pub fn confirmed_gone(&self) -> Option<Vec<&LaneImage>> {
        self.gone().filter(|_| self.absence_is_credible())
    }

    /// Returns whether an image that EC2 does not show is missing: in an allowed account, and not for most builders at
    /// once.
    pub fn absence_is_credible(&self) -> bool {
        let in_account = self.accounts.as_ref().is_none_or(|allowed| {
            self.account.as_ref().and_then(Seen::known).is_some_and(|account| allowed.contains(account))
        });
        let alone = self.fleet.outstanding.is_empty() && !self.fleet.mass_loss();
        in_account && (alone || self.allow_mass_build)
    }
}

/// Observes a builder.
pub async fn observe(object: &PackerBuilder, synced: &Synced, ctx: &Context, fresh: Fresh) -> Observed {
    let own = read(object, synced, ctx, fresh).await;
    let fleet = own.report(synced, ctx);
    complete(object, own, fleet, synced, ctx).await
}

/// What is read of a builder before it is known what the others have reported.
pub struct OwnFacts {
    subject: Subject,
    spec: Result<Spec, Vec<Problem>>,
    status: PackerBuilderStatus,
    runs: Seen<Vec<Run>>,
    lasted: Option<Duration>,
    images: Seen<Vec<Located>>,
    /// The images that match the filters of the base image.
    found: Seen<Arc<Vec<Image>>>,
    template: Seen<Resolved>,
    live: Seen<usize>,
}

impl OwnFacts {
    /// Reports to the other builders. Returns what they have reported.
    pub fn report(&self, synced: &Synced, ctx: &Context) -> FleetView {
        exchange_reports(&self.subject, &self.status, &self.images, synced, ctx)
    }
}

/// The first part of an observation.
pub async fn read(object: &PackerBuilder, synced: &Synced, ctx: &Context, fresh: Fresh) -> OwnFacts {
    let subject = subject(object, ctx);
    let spec = spec::parse_in(object, |url| ctx.templates.is_own(url));
    let mut status = known_status(object);
    sweep_record::limit_due_dates(status.sweeps.as_deref_mut().unwrap_or_default(), (ctx.now)());
    let runs = ctx.runs.of(&subject.key).await;
    let runs = runs.map_or_else(|error| Seen::Unknown(error.class, error.message), Seen::Is);
    let lasted = runs.known().and_then(|runs| ctx.watches.elapsed(&subject.key, runs));
    // A run may have changed other images (`-force` deregisters one), so the cache is not used after its end.
    let just_ended = runs.known().is_some_and(|runs| runs.iter().any(|run| run.state.ended()));
    let images_fresh = if just_ended { Fresh::Now } else { fresh };
    let (images, found, template, live) = tokio::join!(
        observe_images(&subject, spec.as_ref().ok(), &status, &runs, ctx, images_fresh),
        find_bases(spec.as_ref().ok(), ctx, fresh),
        resolve(object, spec.as_ref().ok(), &subject.key, synced, ctx),
        live_runs(ctx),
    );
    OwnFacts { subject, spec, status, runs, lasted, images, found, template, live }
}

/// The second part of an observation: what depends on the reports of the other builders.
pub async fn complete(
    object: &PackerBuilder,
    own: OwnFacts,
    fleet: FleetView,
    synced: &Synced,
    ctx: &Context,
) -> Observed {
    let OwnFacts { subject, spec, status, runs, lasted, images, found, template, live } = own;
    let settings = &synced.set.settings;
    let now = (ctx.now)();
    // An image of the operator that the status of another builder names belongs to that builder.
    let images = images.map(|images| without_claimed(images, &status, &fleet));
    let known = BaseFacts { subject: &subject, status: &status, images: &images, runs: &runs, now };
    let base = observe_base(found, &known, spec.as_ref().ok(), ctx).await;
    // Read last, so that it is the account of the newest credentials if they changed during the observation.
    let needs_account = settings.accounts.is_some() || has_results(&runs);
    let account = match account_region(spec.as_ref().ok(), &runs, &status).filter(|_| needs_account) {
        Some(region) => Some(ctx.aws.account(&region).await.map_or_else(unknown, Seen::Is)),
        None => None,
    };
    Observed {
        generation: object.metadata.generation,
        now,
        deleting: object.metadata.deletion_timestamp.is_some(),
        undeclared: (ctx.undeclared)(&subject.key),
        suspended: annotations::suspended(&object.metadata),
        cancel: annotations::value(&object.metadata, annotations::CANCEL).map(str::to_owned),
        complete: synced.set.complete(),
        accounts: settings.accounts.clone(),
        concurrent_builds: settings.concurrent_builds(),
        withheld: settings.notifier_secrets().into_iter().chain((ctx.withheld)()).collect(),
        allow_mass_build: settings.allow_mass_build(),
        ending: ctx.ending.load(Ordering::Relaxed),
        last_slot_is_reserved: last_slot_is_reserved(&subject, &fleet, ctx),
        fleet,
        subject,
        spec,
        status,
        runs,
        images,
        base,
        template,
        account,
        lasted,
        live,
    }
}

/// Reports what a builder has read to the other builders. Returns what they have reported.
pub(super) fn exchange_reports(
    subject: &Subject,
    status: &PackerBuilderStatus,
    images: &Seen<Vec<Located>>,
    synced: &Synced,
    ctx: &Context,
) -> FleetView {
    let now = (ctx.now)();
    let report = report(subject, status, images, now);
    ctx.fleet.update(&subject.key, report, &synced.commit, &synced.set.documents, now)
}

/// Returns what the builder reports to the others.
fn report(
    subject: &Subject,
    status: &PackerBuilderStatus,
    images: &Seen<Vec<Located>>,
    now: Timestamp,
) -> Report {
    let ids = status.images.iter().flatten().filter_map(|image| ImageId::parse(image.id.as_str()).ok());
    let known = images.known().map(Vec::as_slice).unwrap_or_default();
    let adopted = active::active(known, subject, status, now).into_iter().filter_map(|active| {
        matches!(active.from, BuiltFrom::Operator { .. }).then(|| active.image.image.id.clone())
    });
    Report {
        lost: images.known().map(|images| is_lost(subject, status, images, now)),
        named: ids.collect(),
        shared: adopted.collect(),
    }
}

/// Returns the images that status names and that do not exist.
fn gone<'a>(images: &[Located], status: &'a PackerBuilderStatus) -> Vec<&'a LaneImage> {
    let exists = |named: &LaneImage| images.iter().any(|found| found.image.id.as_str() == named.id);
    status.images.iter().flatten().filter(|named| !exists(named)).collect()
}

/// Returns whether an image that status names is missing, or lacks the tags that make it count. If that happens to many
/// builders at once, rebuilding all images would most likely be a mistake.
fn is_lost(subject: &Subject, status: &PackerBuilderStatus, images: &[Located], now: Timestamp) -> bool {
    let untagged = |image: &Located| {
        let named = status.images.iter().flatten().any(|named| named.id == image.image.id.as_str());
        named && subject.lacks_tags(image, status, now)
    };
    !gone(images, status).is_empty() || images.iter().any(untagged)
}

/// Leaves out the images that the status of another builder names and that of this one does not.
fn without_claimed(images: Vec<Located>, status: &PackerBuilderStatus, fleet: &FleetView) -> Vec<Located> {
    let named = |id: &ImageId| {
        status.last_run_built_image_id.as_deref() == Some(id.as_str())
            || status.images.iter().flatten().any(|named| named.id == id.as_str())
    };
    let own = |image: &Located| !fleet.claimed.contains(&image.image.id) || named(&image.image.id);
    images.into_iter().filter(own).collect()
}

/// Returns the status as last written. If a person has requested another attempt, failures until then no longer count,
/// and garbage collections that AWS refused are due again.
pub fn known_status(object: &PackerBuilder) -> PackerBuilderStatus {
    let mut status = object.status.clone().unwrap_or_default();
    if annotations::reconcile_requested(&object.metadata, status.last_handled_reconcile_at.as_deref()) {
        let history = status.history.as_deref_mut().unwrap_or_default();
        history::reset(history, annotations::requested_at(&object.metadata));
        sweep_record::retry_refused(status.sweeps.as_deref_mut().unwrap_or_default());
    }
    status
}

/// Returns the number of live runs of all builders.
pub async fn live_runs(ctx: &Context) -> Seen<usize> {
    let live = ctx.runs.live().await;
    live.map_or_else(|error| Seen::Unknown(error.class, error.message), Seen::Is)
}

/// Returns whether the last free slot is reserved: other namespaces have builders, and none of those has a live run.
pub fn last_slot_is_reserved(subject: &Subject, fleet: &FleetView, ctx: &Context) -> bool {
    fleet.several_namespaces && !ctx.runs.is_live_elsewhere(&subject.key.namespace)
}

/// Returns the identity of the builder, which is known even if its spec is invalid.
fn subject(object: &PackerBuilder, ctx: &Context) -> Subject {
    let (own_repo, own_branch) = ctx.templates.own();
    let run = object.spec.builder.as_ref();
    let written = |text: Option<&String>| checks::written(text).map(str::to_owned);
    let url = written(run.and_then(|run| run.repo_url.as_ref()));
    let is_own = url.as_deref().is_none_or(|url| ctx.templates.is_own(url));
    let default_branch = if is_own { own_branch } else { DEFAULT_BRANCH.to_owned() };
    Subject {
        key: Key {
            namespace: object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            name: object.metadata.name.clone().unwrap_or_default(),
        },
        owner: ctx.owner.clone(),
        cluster: written(object.spec.cluster_name.as_ref()),
        repo: url.map_or(own_repo, |url| checks::without_user(&url)),
        branch: written(run.and_then(|run| run.branch.as_ref())).unwrap_or(default_branch),
    }
}

/// Returns whether an ended run may have results. They count only in the agent's own account.
fn has_results(runs: &Seen<Vec<Run>>) -> bool {
    let may_count = |run: &Run| matches!(run.state, RunState::Succeeded(_) | RunState::Lost(_));
    runs.known().is_some_and(|runs| runs.iter().any(may_count))
}

/// Returns the region in which to ask for the account: that of the spec, of a run, or of a sweep record.
fn account_region(
    spec: Option<&Spec>,
    runs: &Seen<Vec<Run>>,
    status: &PackerBuilderStatus,
) -> Option<Region> {
    let of_run = || runs.known()?.first().map(|run| run.facts.region.clone());
    let of_sweep =
        || status.sweeps.iter().flatten().find_map(|sweep| Region::parse(sweep.region.as_str()).ok());
    spec.map(|spec| spec.region.clone()).or_else(of_run).or_else(of_sweep)
}

fn unknown<T>(error: AwsError) -> Seen<T> {
    Seen::Unknown(error.class(), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_asked_also_where_only_something_left_has_a_region() {
        let sweep = |region: &str| SweepRecord { region: region.into(), ..SweepRecord::default() };
        let status = PackerBuilderStatus {
            sweeps: Some(vec![sweep("nowhere"), sweep("eu-west-1")]),
            ..PackerBuilderStatus::default()
        };
        let asked = |status: &PackerBuilderStatus| account_region(None, &Seen::Is(Vec::new()), status);
        assert_eq!(asked(&status), Region::parse("eu-west-1").ok());
        assert_eq!(asked(&PackerBuilderStatus::default()), None);
    }
}
