//! Reads the objects at a place with their status, for the commands that show several of them. Read-only.

pub mod held;
pub mod recorded;

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
use crate::api::{Key, Kind, ObjectKey};
use crate::engine::standalone::folders::{self, RunDirectory};
use crate::engine::standalone::{home, objects_dir, runs_dir};
use crate::telemetry::out;
use held::HeldImage;
use recorded::Unknown;

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
    /// Read the status of the repository from the Lease with this name; default: opsy
    #[arg(long, env = "OPSY_LEASE_NAME", value_name = "NAME")]
    pub lease_name: Option<String>,
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
    pub repository: Result<RepositoryStatus, Unknown>,
    /// Why objects cannot be read, with the remedy.
    pub unreadable: BTreeMap<ObjectKey, String>,
    /// The only namespace whose objects were read; `None` for all.
    pub namespace: Option<String>,
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
            Place::Cluster(place) => from_cluster(self.flags, place, self.flags.all_namespaces).await,
            Place::State(place) => from_state(self.flags, place),
        }?;
        held::mark(&mut observed.objects);
        Ok(observed)
    }

    /// Reads the objects of all namespaces, unless the flags name one. Without the right to it, the objects of the
    /// namespace of the place.
    pub async fn read_all(&self) -> anyhow::Result<Observed> {
        match &self.place {
            Place::Cluster(place) if self.flags.place.namespace.is_none() => {
                match from_cluster(self.flags, place, true).await {
                    Err(error) if target::is_forbidden(&error) => {
                        from_cluster(self.flags, place, false).await
                    }
                    read => read,
                }
            }
            _ => self.read().await,
        }
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

    /// Prints which named objects do not exist. Returns 1 as the exit code if there are any, or if a selected object
    /// cannot be read.
    pub fn report(&self, missing: &[String], observed: &Observed) -> ExitCode {
        for name in missing {
            out::error(format_args!("{name} does not exist ({})", self.place));
        }
        let is_complete = missing.is_empty() && observed.unreadable.is_empty();
        if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Observed {
    /// What was not read, and why: objects, and the repository if it is to be shown and something is wrong with it.
    pub fn errors(&self, shows_repository: bool) -> impl Iterator<Item = &String> {
        let unknown = self.repository.as_ref().err().filter(|unknown| shows_repository && !unknown.is_usual);
        unknown.map(|unknown| &unknown.why).into_iter().chain(self.unreadable.values())
    }

    /// Whether there is no object, not even one that cannot be read.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.unreadable.is_empty()
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
pub async fn names(flags: &PlaceFlags) -> anyhow::Result<Vec<(Kind, String)>> {
    match flags.find().await? {
        Place::State(place) => {
            let held = home::read_all(&objects_dir(&place.path)).with_context(|| place.to_string())?;
            let wanted =
                |key: &ObjectKey| flags.namespace.as_ref().is_none_or(|name| *name == key.key.namespace);
            Ok(held.objects.into_keys().filter(wanted).map(|object| (object.kind, object.key.name)).collect())
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
    let namespace = flags.place.namespace.clone();
    let wanted = |object: &ObjectKey| namespace.as_ref().is_none_or(|name| *name == object.key.namespace);
    let held = home::read_all(&objects_dir(&place.path)).with_context(|| place.to_string())?;
    let objects = held.objects.into_iter().filter(|(object, _)| wanted(object)).map(|(id, stored)| Object {
        generation: stored.generation,
        labels: serde_json::from_value(stored.labels).unwrap_or_default(),
        ..Object::new(id, stored.spec, stored.status)
    });
    Ok(Observed {
        objects: objects.collect(),
        repository: recorded::in_state(place),
        unreadable: held.unreadable.into_iter().filter(|(object, _)| wanted(object)).collect(),
        nothing: format!(
            "No builders or refreshers in the {place}. Start `opsy run` with it, or select another with --state, \
             or a cluster with --kubeconfig."
        ),
        namespace,
    })
}

async fn from_cluster(flags: &ReadFlags, place: &ClusterPlace, all: bool) -> anyhow::Result<Observed> {
    let cluster = &place.cluster;
    let mut objects = Vec::new();
    for kind in KINDS {
        let api = match all {
            true => target::all_objects(cluster, kind),
            false => target::objects(cluster, kind),
        };
        objects.extend(list(&api).await?.into_iter().map(|object| live(kind, object)));
    }
    let (hint, namespace) = (place.hint(), &cluster.namespace);
    let nothing = match all {
        true => format!("No builders or refreshers in {place}{hint}."),
        false => {
            format!("No builders or refreshers in namespace {namespace} of {place} (-A shows all{hint}).")
        }
    };
    let repository = recorded::in_cluster(place, flags.lease_name.as_deref()).await;
    let namespace = (!all).then(|| namespace.clone());
    Ok(Observed { objects, repository, unreadable: BTreeMap::new(), namespace, nothing })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_is_neither_missing_nor_an_empty_list() {
        let state = tempfile::tempdir().expect("a directory");
        let folder = objects_dir(state.path()).join("PackerBuilder/default");
        std::fs::create_dir_all(&folder).expect("a directory");
        std::fs::write(folder.join("node.json"), "{").expect("written");
        let read = |namespace: Option<&str>| {
            let place = PlaceFlags { namespace: namespace.map(str::to_owned), ..PlaceFlags::default() };
            let flags = ReadFlags { place, all_namespaces: false, lease_name: None };
            from_state(&flags, &StatePlace::of(state.path())).expect("read")
        };
        let observed = read(None);
        assert!(observed.objects.is_empty() && !observed.is_empty());
        let node = ObjectKey {
            kind: Kind::PackerBuilder,
            key: Key { namespace: "default".to_owned(), name: "node".to_owned() },
        };
        assert_eq!(observed.unreadable.keys().collect::<Vec<_>>(), [&node]);
        assert!(read(Some("other")).is_empty());
    }
}
