//! Common code of `reconcile`, `suspend`, `resume`, `cancel` and `approve`: they annotate a live object, either in the cluster
//! with the kubeconfig of the user, or in the state directory of a standalone agent.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, anyhow, bail};
use clap_complete::ArgValueCompleter;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::completion;
use super::objects::recorded::{self, Unknown};
use super::place::{ClusterPlace, Place, PlaceFlags, StatePlace};
use super::select::may_be;
use super::target::{self, Target, shown};
use crate::api::ObjectKey;
use crate::api::annotations::{self, APPROVE, CANCEL, FILE, RECONCILE_AT, SUSPEND};
use crate::api::status::RepositoryStatus;
use crate::engine::kubernetes::applies_annotation;
use crate::engine::standalone::home::{self, Stored};
use crate::engine::standalone::{objects_dir, requests};

/// The field manager of commands. It is not the agent's, because the agent's next apply would remove the annotation.
pub(super) const MANAGER: &str = "opsy-cli";
/// Maximum number of other objects that an error lists.
const NAMES_SHOWN: i32 = 20;

/// A live object.
pub struct Live {
    home: Home,
    pub key: ObjectKey,
    /// The name of the object in messages.
    pub name: String,
    /// Spec and status.
    pub object: Value,
    /// What its manifest sets.
    pub git: InGit,
    /// The version of the object in a cluster.
    version: Option<String>,
    /// What people set on the live object; in a cluster, also what its manifest sets.
    annotations: BTreeMap<String, String>,
}

/// What the manifest of an object sets, which no command can change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InGit {
    /// The file of the manifest, if it is known.
    pub file: Option<String>,
    /// The annotation that suspends.
    pub annotation: bool,
    /// The annotation that cancels the last build.
    pub cancels: bool,
    /// `spec.suspend`.
    pub spec: bool,
    /// The annotations that replace what a command sets. In a state directory, what a command sets counts.
    pub replaces: BTreeSet<&'static str>,
}

/// The annotations that commands set.
const REQUESTS: [&str; 4] = [APPROVE, CANCEL, RECONCILE_AT, SUSPEND];

/// Where a live object is stored.
enum Home {
    Cluster { place: ClusterPlace, api: Box<Api<DynamicObject>>, name: String },
    State { place: StatePlace, object: ObjectKey },
}

#[derive(clap::Args)]
pub struct Named {
    /// The object, such as packerbuilder/node or ar/demo
    #[arg(value_name = "KIND/NAME", add = ArgValueCompleter::new(completion::complete))]
    pub target: Target,
    #[command(flatten)]
    pub place: PlaceFlags,
}

impl Named {
    /// Finds the object at the place that the command line and the environment select.
    pub async fn find(&self) -> anyhow::Result<Live> {
        match self.place.find().await? {
            Place::Cluster(place) => self.in_cluster(place).await,
            Place::State(place) => self.in_state(place),
        }
    }

    fn in_state(&self, place: StatePlace) -> anyhow::Result<Live> {
        let namespace = self.place.namespace.as_deref().unwrap_or("default");
        let object = self.target.in_namespace(namespace);
        let mut held = home::read_all(&objects_dir(&place.path)).with_context(|| place.to_string())?;
        let mut unreadable = held.unreadable.iter();
        let is_object =
            |other: &ObjectKey| other.key.namespace == object.key.namespace && may_be(other, &self.target);
        if let Some((_, why)) = unreadable.find(|(other, _)| is_object(other)) {
            bail!("{why} ({place})");
        }
        let names = held.objects.iter().filter(|(known, _)| known.kind == object.kind);
        let names: Vec<String> = names.map(|(known, _)| known.key.to_string()).collect();
        let annotations = requests::of(&place.path, &object).with_context(|| place.to_string())?;
        let Some(stored) = held.objects.remove(&object) else {
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!(
                "no {} {} in the {place}; it has {names} (select another namespace with -n, another state \
                 directory with --state, or a cluster with --kubeconfig)",
                object.kind,
                object.key
            );
        };
        Ok(Live {
            key: object.clone(),
            name: shown(&object),
            git: in_git(&stored),
            annotations,
            object: json!({ "spec": stored.spec, "status": stored.status }),
            version: None,
            home: Home::State { place, object },
        })
    }

    async fn in_cluster(&self, place: ClusterPlace) -> anyhow::Result<Live> {
        let api = target::objects(&place.cluster, self.target.kind);
        let key = self.target.in_namespace(&place.cluster.namespace);
        let name = shown(&key);
        match api.get_opt(&self.target.name).await {
            Ok(Some(object)) => {
                let git = in_manifest(&object);
                let annotations = object.metadata.annotations.clone().unwrap_or_default();
                let home = Home::Cluster { place, api: Box::new(api), name: object.name_any() };
                let version = object.metadata.resource_version.clone();
                Ok(Live { home, key, name, object: object.data, git, version, annotations })
            }
            Ok(None) => Err(missing(&api, &self.target, &place).await),
            Err(error) => Err(target::refused(error)),
        }
    }
}

fn in_git(stored: &Stored) -> InGit {
    let last_build = stored.status["buildID"].as_str();
    InGit {
        file: stored.file.clone(),
        annotation: stored.annotations[SUSPEND].as_str().is_some_and(annotations::suspends),
        cancels: last_build.is_some() && stored.annotations[CANCEL].as_str() == last_build,
        spec: stored.spec["suspend"] == true,
        replaces: BTreeSet::new(),
    }
}

/// What the agent applied from the manifest of an object in a cluster, and applies again if it is changed.
fn in_manifest(object: &DynamicObject) -> InGit {
    let metadata = &object.metadata;
    let replaces: BTreeSet<_> =
        REQUESTS.into_iter().filter(|name| applies_annotation(metadata, name)).collect();
    let last_build = object.data["status"]["buildID"].as_str();
    let cancels = last_build.is_some() && annotations::value(metadata, CANCEL) == last_build;
    InGit {
        file: annotations::value(metadata, FILE).map(str::to_owned),
        annotation: annotations::suspended(metadata) && replaces.contains(SUSPEND),
        cancels: cancels && replaces.contains(CANCEL),
        spec: object.data["spec"]["suspend"] == true,
        replaces,
    }
}

impl InGit {
    /// Why a command cannot set this annotation to another value, and what to do instead.
    fn refuses(&self, annotation: &str, value: Option<&str>) -> Option<String> {
        let file = self.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
        let change = match value {
            Some(value) => format!("write {value:?} there"),
            None => "remove it there".to_owned(),
        };
        self.replaces.contains(annotation).then(|| {
            format!(
                "its manifest{file} sets the annotation {annotation}, which no command can change: {change} and \
                 push the commit"
            )
        })
    }
}

impl Live {
    /// Sets an annotation, or removes it. Fails if the manifest sets another value, which the agent would restore.
    pub async fn annotate(&self, annotation: &str, value: Option<&str>) -> anyhow::Result<()> {
        match &self.home {
            Home::Cluster { .. } => self.patch(annotation, value, None).await,
            Home::State { place, object } => {
                requests::annotate(&place.path, object, annotation, value).with_context(|| unwritable(place))
            }
        }
    }

    /// Sets an annotation to a value that is made from the previous one. Fails in a cluster if the object has changed
    /// since it was read.
    pub async fn update(
        &self,
        annotation: &str,
        value: impl FnOnce(Option<&str>) -> String,
    ) -> anyhow::Result<()> {
        match &self.home {
            Home::Cluster { .. } => {
                let value = value(self.annotation(annotation));
                self.patch(annotation, Some(&value), self.version.as_deref()).await
            }
            Home::State { place, object } => {
                requests::update(&place.path, object, annotation, |text| Some(value(text)))
                    .with_context(|| unwritable(place))
            }
        }
    }

    /// Patches an object in a cluster.
    async fn patch(
        &self,
        annotation: &str,
        value: Option<&str>,
        version: Option<&str>,
    ) -> anyhow::Result<()> {
        let Home::Cluster { api, name, .. } = &self.home else { return Ok(()) };
        let is_set = self.annotation(annotation) == value;
        if let Some(why) = self.git.refuses(annotation, value).filter(|_| !is_set) {
            bail!("{} is not changed ({}): {why}", self.name, self.place());
        }
        let mut patch = json!({ "metadata": { "annotations": { annotation: value } } });
        if let Some(version) = version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        api.patch(name, &how, &Patch::Merge(&patch)).await.map(drop).map_err(target::refused)
    }

    /// The value of an annotation when the object was read.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// The name of the place in messages.
    pub fn place(&self) -> String {
        match &self.home {
            Home::Cluster { place, .. } => place.to_string(),
            Home::State { place, .. } => place.to_string(),
        }
    }

    /// Returns true if an agent is running that serves requests. In a cluster, this is assumed.
    pub fn has_agent(&self) -> bool {
        match &self.home {
            Home::Cluster { .. } => true,
            Home::State { place, .. } => place.has_agent(),
        }
    }

    /// The text that says when the request is served, if no agent is running.
    pub fn later(&self) -> &'static str {
        match self.has_agent() {
            true => "",
            false => "; no agent is running there: the next `opsy run` with this state directory applies it",
        }
    }

    /// Reads the current status, and the current value of an annotation.
    pub async fn status_now(&self, annotation: &str) -> anyhow::Result<(Value, Option<String>)> {
        match &self.home {
            Home::Cluster { api, name, .. } => {
                let object = api.get(name).await.map_err(target::refused)?;
                let value = annotations::value(&object.metadata, annotation).map(str::to_owned);
                Ok((object.data["status"].clone(), value))
            }
            Home::State { place, object } => {
                let value = requests::of(&place.path, object)?.remove(annotation);
                let stored = home::read_one(&objects_dir(&place.path), object)?;
                Ok((stored.map(|stored| stored.status).unwrap_or_default(), value))
            }
        }
    }

    /// The status of the repository, as the agent recorded it. In a cluster, it is that of an agent in the namespace of
    /// the object.
    pub async fn recorded(&self, lease: Option<&str>) -> Result<RepositoryStatus, Unknown> {
        match &self.home {
            Home::Cluster { place, .. } => recorded::in_cluster(place, lease).await,
            Home::State { place, .. } => recorded::in_state(place),
        }
    }

    /// A string field of the status that was read with the object.
    pub fn status(&self, field: &str) -> Option<&str> {
        self.object["status"][field].as_str()
    }
}

fn unwritable(place: &StatePlace) -> String {
    format!("cannot write to the {place}; run as the user of the agent")
}

/// Lists the objects that exist instead, or explains that the kind itself is missing.
async fn missing(api: &Api<DynamicObject>, target: &Target, place: &ClusterPlace) -> anyhow::Error {
    let namespace = &place.cluster.namespace;
    let there = async {
        let limit = ListParams::default().limit(NAMES_SHOWN.unsigned_abs());
        let list = api.list_metadata(&limit).await.map_err(target::refused)?;
        if list.items.is_empty() {
            bail!("namespace {namespace} has none");
        }
        let names: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        anyhow::Ok(format!("namespace {namespace} has {}", names.join(", ")))
    };
    let message = there.await.unwrap_or_else(|error| error.to_string());
    let hint = place.hint();
    anyhow!(
        "no {} {:?} in {place}: {message} (select another namespace with -n{hint})",
        target.kind,
        target.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object whose manifest sets the first annotations, and on which others set the second ones.
    fn object(of_manifest: &[(&str, &str)], of_others: &[(&str, &str)]) -> DynamicObject {
        let fields: BTreeMap<_, _> =
            of_manifest.iter().map(|(name, _)| (format!("f:{name}"), json!({}))).collect();
        let annotations: BTreeMap<_, _> = of_manifest.iter().chain(of_others).copied().collect();
        let agent = json!({
            "manager": crate::engine::kubernetes::MANAGER, "operation": "Apply",
            "fieldsV1": { "f:metadata": { "f:annotations": fields } },
        });
        let object = json!({
            "metadata": { "name": "node", "annotations": annotations, "managedFields": [agent] },
            "spec": {}, "status": { "buildID": "b1" },
        });
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn an_annotation_of_the_manifest_is_changed_only_there() {
        let git =
            in_manifest(&object(&[(SUSPEND, "false"), (FILE, "builders/node.yaml")], &[(CANCEL, "b1")]));
        assert!(!git.annotation && !git.cancels, "it does not suspend");
        assert_eq!(
            git.refuses(SUSPEND, Some("true")).as_deref(),
            Some(
                "its manifest (builders/node.yaml) sets the annotation ami.opsy.dev/suspend, which no command can \
                 change: write \"true\" there and push the commit"
            )
        );
        assert_eq!(git.refuses(CANCEL, Some("b2")), None, "a command set it");
        assert_eq!(git.refuses(RECONCILE_AT, Some("now")), None, "it is not set");
        for annotation in REQUESTS {
            let git = in_manifest(&object(&[(annotation, "b1")], &[]));
            let why = git.refuses(annotation, None).unwrap_or_default();
            assert!(why.ends_with("no command can change: remove it there and push the commit"), "{why}");
            assert_eq!((git.annotation, git.cancels), (annotation == SUSPEND, annotation == CANCEL));
        }
    }
}
