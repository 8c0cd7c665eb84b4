//! What `reconcile`, `suspend`, `resume` and `cancel` share: an annotation on the live object, put there
//! through a person's kubeconfig.

use anyhow::{Context as _, bail};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::json;

use super::target::{self, Place, Target};
use crate::engine::kubernetes::Cluster;

/// Not the agent's own name: what it applies would take our annotation away again.
const MANAGER: &str = "opsy-cli";
/// Names of other objects that are shown where the one asked for is not there.
const NAMES_SHOWN: i32 = 20;

/// A live object, found.
pub struct Live {
    pub api: Api<DynamicObject>,
    pub object: DynamicObject,
    /// As people are told of it.
    pub name: String,
}

#[derive(clap::Args)]
pub struct Named {
    /// The object, like packerbuilder/node or ar/demo.
    #[arg(value_name = "KIND/NAME")]
    pub target: Target,
    #[command(flatten)]
    pub place: Place,
}

impl Named {
    /// Connects and looks the object up.
    pub async fn find(&self) -> anyhow::Result<Live> {
        let hint = "without a cluster, write the annotation into the manifest";
        let cluster = self.place.connect().await.context(hint)?;
        let api = target::objects(&cluster, self.target.kind);
        let name = self.target.in_namespace(&cluster.namespace).to_string();
        match api.get_opt(&self.target.name).await {
            Ok(Some(object)) => Ok(Live { api, object, name }),
            Ok(None) => Err(missing(&api, &self.target, &cluster).await),
            Err(error) => Err(target::refused(error)),
        }
    }
}

impl Live {
    /// Sets an annotation, or takes it away.
    pub async fn annotate(&self, name: &str, value: Option<&str>) -> anyhow::Result<()> {
        let patch = json!({ "metadata": { "annotations": { name: value } } });
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let done = self.api.patch(&self.object.name_any(), &how, &Patch::Merge(&patch)).await;
        done.map(drop).map_err(target::refused)
    }

    /// A text of its status.
    pub fn status(&self, field: &str) -> Option<&str> {
        self.object.data["status"][field].as_str()
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
