//! Reads the objects at a place with their status, for the commands that show several of them. Read-only.

pub mod held;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use opsy_runner::request::Progress;
use opsy_runner::{read_progress, read_report};
use serde::Serialize;
use serde_json::Value;

use super::place::{ClusterPlace, Place, PlaceFlags, StatePlace};
use super::target;
use crate::api::builder::PackerBuilderStatus;
use crate::api::refresher::AMIRefresherStatus;
use crate::api::status::RepositoryStatus;
use crate::api::{DEFAULT_LEASE, Key, Kind, ObjectKey};
use crate::engine::kubernetes::memory;
use crate::engine::standalone::folders::{self, RunDirectory};
use crate::engine::standalone::{home, memory_file, objects_dir, runs_dir};
use crate::telemetry::out;
use held::HeldImage;

/// Maximum number of objects per response of the API server.
const PAGE: u32 = 500;
/// Both kinds, in the order in which they are shown.
const KINDS: [Kind; 2] = [Kind::PackerBuilder, Kind::AMIRefresher];

#[derive(clap::Args)]
pub struct ReadFlags {
    #[command(flatten)]
    pub place: PlaceFlags,
    /// Show the objects of all namespaces of the cluster
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Read the status of the repository from the Lease with this name
    #[arg(long, env = "OPSY_LEASE_NAME", value_name = "NAME", default_value = DEFAULT_LEASE)]
    pub lease_name: String,
}

/// An object, from a state directory or a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub id: ObjectKey,
    pub generation: i64,
    pub labels: BTreeMap<String, String>,
    pub spec: Value,
    pub status: Value,
    /// Active images of a builder that refreshers hold.
    pub held: Vec<HeldImage>,
}

/// What was read at a place.
pub struct Observed {
    pub objects: Vec<Object>,
    /// `None` if it cannot be read.
    pub repository: Option<RepositoryStatus>,
    /// Objects that cannot be read, and the remedy.
    pub unreadable: Vec<String>,
    /// The message if there are no objects.
    pub nothing: String,
}

/// A place from which objects are read, any number of times.
pub struct Reader<'a> {
    flags: &'a ReadFlags,
    place: Place,
}

impl ReadFlags {
    /// Selects the place, and connects to it if it is a cluster.
    pub async fn connect(&self) -> anyhow::Result<Reader<'_>> {
        let place = self.place.find().await?;
        if let Place::State(state) = &place {
            state.warning().iter().for_each(out::error);
        }
        Ok(Reader { flags: self, place })
    }
}

impl Reader<'_> {
    pub async fn read(&self) -> anyhow::Result<Observed> {
        let mut observed = match &self.place {
            Place::Cluster(place) => from_cluster(self.flags, place).await,
            Place::State(place) => from_state(self.flags, place),
        }?;
        held::mark(&mut observed.objects);
        Ok(observed)
    }

    /// The progress of the builds that run. Only a state directory has it.
    pub fn progress(&self) -> BTreeMap<Key, Progress> {
        let Place::State(place) = &self.place else { return BTreeMap::new() };
        let runs = folders::list(&runs_dir(&place.path)).unwrap_or_default().into_iter();
        let progress = |run: RunDirectory| {
            let is_live = matches!(read_report(&run.path), Ok(None));
            let progress = read_progress(&run.path).ok().flatten().filter(|_| is_live)?;
            Some((run.facts.ok()?.builder, progress))
        };
        runs.filter_map(progress).collect()
    }

    /// The place, for what only one kind of place has.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Prints which named objects do not exist. Returns 1 as the exit code if there are any.
    pub fn report(&self, missing: &[String]) -> ExitCode {
        for name in missing {
            out::error(format_args!("{name} does not exist ({})", self.place));
        }
        if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Object {
    /// An object of the first generation without labels.
    pub fn new(id: ObjectKey, spec: Value, status: Value) -> Self {
        Self { id, generation: 1, labels: BTreeMap::new(), spec, status, held: Vec::new() }
    }

    /// An object of a running agent.
    pub fn of(kind: Kind, object: &impl Serialize) -> anyhow::Result<Self> {
        Ok(live(kind, serde_json::from_value(serde_json::to_value(object)?)?))
    }

    /// The status of a builder. A status that cannot be decoded counts as absent, as for the agent.
    pub fn builder_status(&self) -> PackerBuilderStatus {
        serde_json::from_value(self.status.clone()).unwrap_or_default()
    }

    /// The status of a refresher.
    pub fn refresher_status(&self) -> AMIRefresherStatus {
        serde_json::from_value(self.status.clone()).unwrap_or_default()
    }
}

/// The names of the objects at a place, without their namespace.
pub async fn names(place: &PlaceFlags) -> anyhow::Result<Vec<(Kind, String)>> {
    match place.find().await? {
        Place::State(place) => {
            let held = home::read_all(&objects_dir(&place.path)).with_context(|| place.to_string())?;
            Ok(held.objects.into_keys().map(|object| (object.kind, object.key.name)).collect())
        }
        Place::Cluster(place) => {
            let mut names = Vec::new();
            for kind in KINDS {
                let objects = list(&target::objects(&place.cluster, kind)).await?;
                names.extend(objects.into_iter().filter_map(|object| Some((kind, object.metadata.name?))));
            }
            Ok(names)
        }
    }
}

fn from_state(flags: &ReadFlags, place: &StatePlace) -> anyhow::Result<Observed> {
    let wanted =
        |object: &ObjectKey| flags.place.namespace.as_ref().is_none_or(|n| *n == object.key.namespace);
    let held = home::read_all(&objects_dir(&place.path)).with_context(|| place.to_string())?;
    let objects = held.objects.into_iter().filter(|(object, _)| wanted(object)).map(|(id, stored)| Object {
        generation: stored.generation,
        labels: serde_json::from_value(stored.labels).unwrap_or_default(),
        ..Object::new(id, stored.spec, stored.status)
    });
    let memory = std::fs::read_to_string(memory_file(&place.path)).ok();
    Ok(Observed {
        objects: objects.collect(),
        repository: Some(repository(memory.as_deref())),
        unreadable: held.unreadable.into_values().collect(),
        nothing: format!(
            "No builders or refreshers in the {place}. Start `opsy run` with it, or select another with --state, \
             or a cluster with --kubeconfig."
        ),
    })
}

async fn from_cluster(flags: &ReadFlags, place: &ClusterPlace) -> anyhow::Result<Observed> {
    let cluster = &place.cluster;
    let mut objects = Vec::new();
    for kind in KINDS {
        let api = match flags.all_namespaces {
            true => target::all_objects(cluster, kind),
            false => target::objects(cluster, kind),
        };
        objects.extend(list(&api).await?.into_iter().map(|object| live(kind, object)));
    }
    // Few users are allowed to read the Lease, and the objects are more important.
    let memory = memory::read(cluster, &flags.lease_name).await.ok();
    let (hint, namespace) = (place.hint(), &cluster.namespace);
    let nothing = match flags.all_namespaces {
        true => format!("No builders or refreshers in {place}{hint}."),
        false => {
            format!("No builders or refreshers in namespace {namespace} of {place} (-A shows all{hint}).")
        }
    };
    let repository = memory.map(|memory| repository(memory.as_deref()));
    Ok(Observed { objects, repository, unreadable: Vec::new(), nothing })
}

/// The status of the repository, as the agent recorded it.
fn repository(memory: Option<&str>) -> RepositoryStatus {
    memory.and_then(|memory| serde_json::from_str(memory).ok()).unwrap_or_default()
}

async fn list(api: &Api<DynamicObject>) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await.map_err(target::refused)?;
        objects.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

fn live(kind: Kind, mut object: DynamicObject) -> Object {
    Object {
        generation: object.metadata.generation.unwrap_or_default(),
        labels: object.labels().clone(),
        ..Object::new(ObjectKey::of(kind, &object), object.data["spec"].take(), object.data["status"].take())
    }
}
