//! Looks at everything a plan needs, in parallel. A failed read is `Unknown`, never an absence.
//!
//! Shared answers do for a look; before something is changed everything is asked anew.

mod bases;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use super::Context;
use super::base::Base;
use super::fleet::{FleetView, Report};
use super::harvest;
use super::history;
use super::images::{self, BuiltFrom, Located, Subject};
use super::spec::{self, Problem, Spec};
use crate::api::builder::{LaneImage, PackerBuilder, PackerBuilderStatus, RunRecord, SweepRecord};
use crate::api::conditions::Suspension;
use crate::api::{ImageId, Key, Kind, Region, Seen, Undeclared, annotations};
use crate::aws::{AwsError, Fresh, Image};
use crate::engine::{Run, RunState};
pub use crate::git::templates::Resolved;
use crate::sync::Synced;
use bases::{BaseFacts, find_bases, look_at_base};
use template::resolve;

/// What Git calls the default branch of a remote.
const DEFAULT_BRANCH: &str = "HEAD";

/// Everything a plan rests on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub subject: Subject,
    pub generation: Option<i64>,
    pub now: Timestamp,
    pub spec: Result<Spec, Vec<Problem>>,
    /// As last written.
    pub status: PackerBuilderStatus,
    pub deleting: bool,
    /// Why no document declares the object, where none does and it is not pruned.
    pub undeclared: Option<Undeclared>,
    /// Suspended by annotation on the live object.
    pub suspended: bool,
    /// Build id a person wants stopped.
    pub cancel: Option<String>,
    /// No file of the repository is broken.
    pub complete: bool,
    pub runs: Seen<Vec<Run>>,
    pub images: Seen<Vec<Located>>,
    pub base: Seen<Base>,
    pub template: Seen<Resolved>,
    /// Where `opsy.yaml` names the accounts that may be touched: those.
    pub accounts: Option<Vec<String>>,
    /// The account this is, asked only where it matters.
    pub account: Option<Seen<String>>,
    /// How long this builder's live run has lasted at least, by a monotonic clock; where it is not known the
    /// wall clock counts.
    pub lasted: Option<Duration>,
    /// Live runs of all builders.
    pub live: Seen<usize>,
    /// Other namespaces have builders, too, and none of them has a live run.
    pub last_slot_is_others: bool,
    pub concurrent_builds: usize,
    /// Secrets that the agent itself uses, by `opsy.yaml`.
    pub withheld: BTreeSet<Key>,
    pub fleet: FleetView,
    pub allow_mass_build: bool,
    /// The agent is about to end: it would not see a build's end.
    pub ending: bool,
}

impl Observed {
    /// Who suspended the builder.
    pub fn suspension(&self) -> Option<Suspension> {
        Suspension::of(self.spec.as_ref().is_ok_and(|spec| spec.suspended), self.suspended)
    }

    pub fn history(&self) -> &[RunRecord] {
        self.status.history.as_deref().unwrap_or_default()
    }

    pub fn sweeps(&self) -> &[SweepRecord] {
        self.status.sweeps.as_deref().unwrap_or_default()
    }

    /// Does an image that status names no longer count, although it was not deprecated?
    pub fn lost(&self) -> Option<bool> {
        Some(is_lost(&self.subject, &self.status, self.images.known()?, self.now))
    }

    /// The images that status names and that are gone.
    fn gone(&self) -> Option<Vec<&LaneImage>> {
        Some(gone(self.images.known()?, &self.status))
    }

    /// The same where it can be believed: in the right account, and not of most builders at once.
    pub fn gone_for_sure(&self) -> Option<Vec<&LaneImage>> {
        let in_account = self.accounts.as_ref().is_none_or(|allowed| {
            self.account.as_ref().and_then(Seen::known).is_some_and(|account| allowed.contains(account))
        });
        let alone = self.fleet.outstanding.is_empty() && !self.fleet.mass_loss();
        self.gone().filter(|_| in_account && (alone || self.allow_mass_build))
    }
}

/// One look.
pub async fn observe(object: &PackerBuilder, synced: &Synced, ctx: &Context, fresh: Fresh) -> Observed {
    let subject = subject(object, ctx);
    let spec = spec::parse_in(object, |url| ctx.templates.is_own(url));
    let mut status = known_status(object);
    harvest::bound(status.sweeps.as_deref_mut().unwrap_or_default(), (ctx.now)());
    let settings = &synced.set.settings;
    let runs = ctx.runs.of(&subject.key).await;
    let runs = runs.map_or_else(|error| Seen::Unknown(error.class, error.message), Seen::Is);
    let lasted = runs.known().and_then(|runs| ctx.watches.look(&subject.key, runs));
    // What a run did to other images is seen at once.
    let just_ended = runs.known().is_some_and(|runs| runs.iter().any(|run| run.state.ended()));
    let of_images = if just_ended { Fresh::Now } else { fresh };
    let (images, found, template, live) = tokio::join!(
        look_at_images(&subject, spec.as_ref().ok(), &status, &runs, ctx, of_images),
        find_bases(spec.as_ref().ok(), ctx, fresh),
        resolve(object, spec.as_ref().ok(), &subject.key, synced, ctx),
        live_runs(ctx),
    );
    let now = (ctx.now)();
    let report = report(&subject, &status, &images, now);
    let fleet = ctx.fleet.look(&subject.key, report, &synced.commit, || builders(synced), now);
    let images = images.map(|images| without_claimed(images, &status, &fleet));
    let known = BaseFacts { subject: &subject, status: &status, images: &images, runs: &runs, now };
    let base = look_at_base(found, &known, spec.as_ref().ok(), ctx).await;
    // Last: where the credentials changed meanwhile, it is the account of what was read by the new ones.
    let is_asked = settings.accounts.is_some() || has_results(&runs);
    let account = match region_to_ask(spec.as_ref().ok(), &runs, &status).filter(|_| is_asked) {
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
        last_slot_is_others: last_slot_is_others(&subject, &fleet, ctx),
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

/// What other builders are told of the images.
fn report(
    subject: &Subject,
    status: &PackerBuilderStatus,
    images: &Seen<Vec<Located>>,
    now: Timestamp,
) -> Report {
    let ids = status.images.iter().flatten().filter_map(|image| ImageId::parse(image.id.as_str()).ok());
    let known = images.known().map(Vec::as_slice).unwrap_or_default();
    let adopted = images::active(known, subject, status, now).into_iter().filter_map(|active| {
        matches!(active.from, BuiltFrom::Operator { .. }).then(|| active.image.image.id.clone())
    });
    Report {
        lost: images.known().map(|images| is_lost(subject, status, images, now)),
        named: ids.collect(),
        shared: adopted.collect(),
    }
}

/// The images that status names and that are gone.
fn gone<'a>(images: &[Located], status: &'a PackerBuilderStatus) -> Vec<&'a LaneImage> {
    let exists = |named: &LaneImage| images.iter().any(|found| found.image.id.as_str() == named.id);
    status.images.iter().flatten().filter(|named| !exists(named)).collect()
}

/// Is an image that status names gone, or does it lack the tags that make it count? When that befalls many builders
/// at once, their images are hardly all to be built again.
fn is_lost(subject: &Subject, status: &PackerBuilderStatus, images: &[Located], now: Timestamp) -> bool {
    let untagged = |image: &Located| {
        let named = status.images.iter().flatten().any(|named| named.id == image.image.id.as_str());
        named && subject.lacks_tags(image, status, now)
    };
    !gone(images, status).is_empty() || images.iter().any(untagged)
}

/// Without the images that the status of another builder names and this one's does not.
fn without_claimed(images: Vec<Located>, status: &PackerBuilderStatus, fleet: &FleetView) -> Vec<Located> {
    let named = |id: &ImageId| {
        status.last_run_built_image_id.as_deref() == Some(id.as_str())
            || status.images.iter().flatten().any(|named| named.id == id.as_str())
    };
    let own = |image: &Located| !fleet.claimed.contains(&image.image.id) || named(&image.image.id);
    images.into_iter().filter(own).collect()
}

/// The status as last written; where somebody asks for another try, failures until then count no longer.
pub fn known_status(object: &PackerBuilder) -> PackerBuilderStatus {
    let mut status = object.status.clone().unwrap_or_default();
    if annotations::asks_anew(&object.metadata, status.last_handled_reconcile_at.as_deref()) {
        let history = status.history.as_deref_mut().unwrap_or_default();
        history::reset(history, annotations::asked_at(&object.metadata));
        harvest::ask_again(status.sweeps.as_deref_mut().unwrap_or_default());
    }
    status
}

/// How many runs of any builder are live.
pub async fn live_runs(ctx: &Context) -> Seen<usize> {
    let live = ctx.runs.live().await;
    live.map_or_else(|error| Seen::Unknown(error.class, error.message), Seen::Is)
}

/// Other namespaces have builders, too, and none of them has a live run.
pub fn last_slot_is_others(subject: &Subject, fleet: &FleetView, ctx: &Context) -> bool {
    fleet.several && !ctx.runs.is_live_elsewhere(&subject.key.namespace)
}

fn subject(object: &PackerBuilder, ctx: &Context) -> Subject {
    let (own_repo, own_branch) = ctx.templates.own();
    let run = object.spec.builder.as_ref();
    let written = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
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
        repo: url.map_or(own_repo, |url| without_user(&url)),
        branch: written(run.and_then(|run| run.branch.as_ref())).unwrap_or(default_branch),
    }
}

/// An address as it may stand in a tag: whatever a user part holds, it is left out.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}/{path}")
}

fn builders(synced: &Synced) -> BTreeSet<Key> {
    let documents = synced.set.documents.iter().map(|document| &document.object);
    documents.filter(|object| object.kind == Kind::PackerBuilder).map(|object| object.key.clone()).collect()
}

/// What to look at in one region: ids that status names, ids a run has just made, lost runs.
#[derive(Default)]
struct Concern<'a> {
    named: BTreeSet<ImageId>,
    made: BTreeSet<ImageId>,
    lost: Vec<&'a Run>,
}

/// The regions that concern a builder: its own, those of its images, those of its runs.
fn concerns<'a>(
    spec: Option<&Spec>,
    status: &PackerBuilderStatus,
    runs: &'a [Run],
) -> BTreeMap<Region, Concern<'a>> {
    let mut concerns: BTreeMap<Region, Concern<'a>> = BTreeMap::new();
    concerns.extend(spec.map(|spec| (spec.region.clone(), Concern::default())));
    for image in status.images.iter().flatten() {
        if let (Ok(region), Ok(id)) =
            (Region::parse(image.region.as_str()), ImageId::parse(image.id.as_str()))
        {
            concerns.entry(region).or_default().named.insert(id);
        }
    }
    for run in runs.iter().filter(|run| run.state.ended()) {
        let home = concerns.entry(run.facts.region.clone()).or_default();
        match &run.state {
            RunState::Lost(_) => home.lost.push(run),
            RunState::Succeeded(artifacts) => {
                for artifact in artifacts {
                    concerns.entry(artifact.region.clone()).or_default().made.insert(artifact.image.clone());
                }
            }
            _ => {}
        }
    }
    concerns
}

/// The builder's images: shared lists, and by id what the lists do not show or a run has just made.
async fn look_at_images(
    subject: &Subject,
    spec: Option<&Spec>,
    status: &PackerBuilderStatus,
    runs: &Seen<Vec<Run>>,
    ctx: &Context,
    fresh: Fresh,
) -> Seen<Vec<Located>> {
    let runs = runs.known().map(Vec::as_slice).unwrap_or_default();
    let concerns = concerns(spec, status, runs);
    let looks = concerns.iter().map(|(region, concern)| look_at_region(subject, region, concern, ctx, fresh));
    let all: Result<Vec<Vec<Located>>, AwsError> = join_all(looks).await.into_iter().collect();
    all.map_or_else(unknown, |all| Seen::Is(all.into_iter().flatten().collect()))
}

async fn look_at_region(
    subject: &Subject,
    region: &Region,
    concern: &Concern<'_>,
    ctx: &Context,
    fresh: Fresh,
) -> Result<Vec<Located>, AwsError> {
    let Concern { named, made, lost } = concern;
    let listed = ctx.aws.own_images(region, fresh).await?;
    let concerned = listed.iter().filter(|image| subject.concerned(image) || named.contains(&image.id));
    let mut all: BTreeMap<ImageId, Image> =
        concerned.map(|image| (image.id.clone(), image.clone())).collect();
    let unlisted = named.iter().filter(|id| !all.contains_key(id)).chain(made.iter());
    let by_id: Vec<ImageId> = unlisted.cloned().collect::<BTreeSet<_>>().into_iter().collect();
    if !by_id.is_empty() {
        all.extend(
            ctx.aws.images_by_id(region, &by_id).await?.into_iter().map(|image| (image.id.clone(), image)),
        );
    }
    for run in lost {
        let of_build = ctx.aws.images_of_build(region, &run.facts.build).await?;
        all.extend(of_build.into_iter().map(|image| (image.id.clone(), image)));
    }
    Ok(all.into_values().map(|image| Located { region: region.clone(), image }).collect())
}

/// Is there an ended run whose images may count? Those of another account never do.
fn has_results(runs: &Seen<Vec<Run>>) -> bool {
    let may_count = |run: &Run| matches!(run.state, RunState::Succeeded(_) | RunState::Lost(_));
    runs.known().is_some_and(|runs| runs.iter().any(may_count))
}

/// Where to ask which account it is: where something is built, was built, or was left.
fn region_to_ask(spec: Option<&Spec>, runs: &Seen<Vec<Run>>, status: &PackerBuilderStatus) -> Option<Region> {
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
        let asked = |status: &PackerBuilderStatus| region_to_ask(None, &Seen::Is(Vec::new()), status);
        assert_eq!(asked(&status), Region::parse("eu-west-1").ok());
        assert_eq!(asked(&PackerBuilderStatus::default()), None);
    }
}
