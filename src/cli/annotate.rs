//! What `reconcile`, `suspend`, `resume` and `cancel` share: an annotation on the live object, put there
//! through a person's kubeconfig, or in the state folder where an agent works without a cluster.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::target::{self, Place, Target};
use crate::api::ObjectKey;
use crate::engine::kubernetes::Cluster;
use crate::engine::standalone::{asked, home, lock, objects_dir};
use crate::settings::StateFlags;

/// Not the agent's own name: what it applies would take our annotation away again.
const MANAGER: &str = "opsy-cli";
/// Names of other objects that are shown where the one asked for is not there.
const NAMES_SHOWN: i32 = 20;

/// A live object, found.
pub struct Live {
    home: Home,
    /// As people are told of it.
    pub name: String,
    /// Spec and status.
    pub object: Value,
}

/// Where a live object is.
enum Home {
    Cluster { api: Box<Api<DynamicObject>>, name: String },
    Folder { state: PathBuf, object: ObjectKey },
}

#[derive(clap::Args)]
pub struct Named {
    /// The object, like packerbuilder/node or ar/demo.
    #[arg(value_name = "KIND/NAME")]
    pub target: Target,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub state: StateFlags,
}

impl Named {
    /// Looks the object up: in the cluster that is named, else in the state folder, else in the cluster that
    /// kubectl would use.
    pub async fn find(&self) -> anyhow::Result<Live> {
        if self.place.is_cluster() {
            return self.find_in(&self.place.connect().await?).await;
        }
        let state = self.state.dir()?;
        if let Some(live) = self.find_below(&state)? {
            return Ok(live);
        }
        let cluster = self.place.connect().await.with_context(|| {
            format!(
                "the state folder {} has no {} (--state names another, -n another namespace)",
                state.display(),
                self.target
            )
        })?;
        self.find_in(&cluster).await
    }

    fn find_below(&self, state: &std::path::Path) -> anyhow::Result<Option<Live>> {
        let object = self.target.in_namespace(self.place.namespace.as_deref().unwrap_or("default"));
        let all = home::read_all(&objects_dir(state)).with_context(|| state.display().to_string())?;
        let found = all.into_iter().find(|(known, _)| *known == object);
        Ok(found.map(|(_, stored)| Live {
            name: object.to_string(),
            object: json!({ "spec": stored.spec, "status": stored.status }),
            home: Home::Folder { state: state.to_owned(), object },
        }))
    }

    async fn find_in(&self, cluster: &Cluster) -> anyhow::Result<Live> {
        let api = target::objects(cluster, self.target.kind);
        let name = self.target.in_namespace(&cluster.namespace).to_string();
        match api.get_opt(&self.target.name).await {
            Ok(Some(object)) => {
                let home = Home::Cluster { api: Box::new(api), name: object.name_any() };
                Ok(Live { home, name, object: object.data })
            }
            Ok(None) => Err(missing(&api, &self.target, cluster).await),
            Err(error) => Err(target::refused(error)),
        }
    }
}

impl Live {
    /// Sets an annotation, or takes it away.
    pub async fn annotate(&self, annotation: &str, value: Option<&str>) -> anyhow::Result<()> {
        match &self.home {
            Home::Cluster { api, name } => {
                let patch = json!({ "metadata": { "annotations": { annotation: value } } });
                let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
                let done = api.patch(name, &how, &Patch::Merge(&patch)).await;
                done.map(drop).map_err(target::refused)
            }
            Home::Folder { state, object } => asked::annotate(state, object, annotation, value)
                .with_context(|| format!("the state folder {}", state.display())),
        }
    }

    /// Is somebody there to do what is asked? Of a cluster nobody knows.
    pub fn has_agent(&self) -> bool {
        match &self.home {
            Home::Cluster { .. } => true,
            Home::Folder { state, .. } => lock::is_taken(state),
        }
    }

    /// The status as it is now.
    pub async fn status_now(&self) -> anyhow::Result<Value> {
        match &self.home {
            Home::Cluster { api, name } => {
                let object = api.get(name).await.map_err(target::refused)?;
                Ok(object.data["status"].clone())
            }
            Home::Folder { state, object } => {
                let stored = home::read_one(&objects_dir(state), object)?;
                Ok(stored.map(|stored| stored.status).unwrap_or_default())
            }
        }
    }

    /// A text of its status.
    pub fn status(&self, field: &str) -> Option<&str> {
        self.object["status"][field].as_str()
    }
}

/// Names what there is instead; or what is missing is the kind itself.
async fn missing(api: &Api<DynamicObject>, target: &Target, cluster: &Cluster) -> anyhow::Error {
    let there = async {
        let limit = ListParams::default().limit(NAMES_SHOWN.unsigned_abs());
        let list = api.list_metadata(&limit).await.map_err(target::refused)?;
        if list.items.is_empty() {
            bail!("there is none in namespace {}", cluster.namespace);
        }
        let names: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        anyhow::Ok(format!("namespace {} has {}", cluster.namespace, names.join(", ")))
    };
    let words = there.await.unwrap_or_else(|error| error.to_string());
    anyhow::anyhow!("no {} {:?}: {words} (-n names another namespace)", target.kind, target.name)
}
