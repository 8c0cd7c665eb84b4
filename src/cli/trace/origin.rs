//! Where an image comes from and where it runs, from the status of the objects. Pure.

use serde::Serialize;

use crate::announce::took;
use crate::api::Kind;
use crate::api::builder::{LaneImage, PackerBuilderStatus, RunRecord};
use crate::cli::objects::Object;
use crate::cli::outline::Outline;
use crate::cli::table::short;
use crate::git::Described;

/// The origin of an image.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<FromNode>,
    image: String,
    /// The lane in which the image is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<LaneImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    builder: Option<String>,
    /// The run that built it, if it is one of the last ten of the builder.
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<RunRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_image: Option<String>,
    runs_on: Vec<RunsOn>,
}

/// The node from which the image was found.
#[derive(Debug, Serialize)]
pub struct FromNode {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A refresher that rolls the image out, or whose node groups run it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunsOn {
    refresher: String,
    cluster: String,
    is_target: bool,
    node_groups: Vec<String>,
}

impl Origin {
    /// Finds an image in the status of these objects.
    pub fn of(image: &str, objects: &[Object]) -> Self {
        let mut origin = Self { image: image.to_owned(), ..Self::default() };
        for object in objects {
            match object.id.kind {
                Kind::PackerBuilder => origin.add_builder(object),
                Kind::AMIRefresher => origin.runs_on.extend(runs_on(image, object)),
            }
        }
        origin
    }

    fn add_builder(&mut self, object: &Object) {
        let PackerBuilderStatus { images, history, base_image, last_run_built_image_id, .. } =
            object.builder_status();
        let active = images.into_iter().flatten().find(|lane| lane.id == self.image);
        let made = |run: &RunRecord| run.images.iter().flatten().any(|image| *image == self.image);
        let build = history.into_iter().flatten().find(made);
        if active.is_none() && build.is_none() && last_run_built_image_id.as_ref() != Some(&self.image) {
            return;
        }
        let of_build = build
            .as_ref()
            .and_then(|build| build.base_ami.clone().or_else(|| build.inputs.as_ref()?.base_ami.clone()));
        let of_active = active.is_some().then(|| base_image.map(|base| base.id)).flatten();
        self.base_image = of_build.or(of_active);
        self.builder = Some(object.id.to_string());
        (self.active, self.build) = (active, build);
    }

    /// Whether a builder records the image.
    pub fn is_known(&self) -> bool {
        self.builder.is_some()
    }

    /// Whether a refresher rolls the image out, or one of its node groups runs it.
    pub fn is_used(&self) -> bool {
        !self.runs_on.is_empty()
    }

    /// The commit of the build.
    pub fn commit(&self) -> Option<&str> {
        self.build.as_ref()?.commit.as_deref()
    }

    /// Adds author and subject of the commit, if it was found.
    pub fn described(&mut self, commit: Option<Described>) {
        if let Some(Described { author, subject, .. }) = commit {
            (self.author, self.subject) = (Some(author), Some(subject));
        }
    }

    /// The origin as a tree, from the node or the image back to the commit.
    pub fn outline(&self) -> Outline {
        let image = self.image();
        let Some(FromNode { name, instance, group }) = &self.node else { return image };
        let instance = instance.as_ref().map_or(String::new(), |instance| format!("  instance {instance}"));
        let group = group.as_ref().map_or(String::new(), |group| format!("  node group {group}"));
        Outline::line(format!("node {name}{instance}{group}")).with([image])
    }

    fn image(&self) -> Outline {
        let lane =
            self.active.as_ref().map_or(String::new(), |LaneImage { region, architecture, .. }| {
                format!("  active in {region}/{architecture}")
            });
        let built = self.builder.iter().map(|builder| {
            Outline::line(format!("built by {builder}")).with(self.build.as_ref().map(|run| self.build(run)))
        });
        let base = self.base_image.iter().map(|base| Outline::line(format!("base image {base}")));
        let runs = self.runs_on.iter().map(RunsOn::outline);
        let nowhere = self.runs_on.is_empty().then(|| Outline::line("no refresher uses it"));
        Outline::line(format!("{}{lane}", self.image)).with(built.chain(base).chain(runs).chain(nowhere))
    }

    fn build(&self, run: &RunRecord) -> Outline {
        let why = run.why.as_ref().map_or(String::new(), |why| format!("  reason {why}"));
        let started = run.started_at.map_or(String::new(), |at| format!("  {at}"));
        let took = took(run.started_at, run.ended_at).map_or(String::new(), |took| format!(" in {took}"));
        let commit = run.commit.as_ref().map(|commit| {
            let subject = self.subject.as_ref().map_or(String::new(), |subject| format!("  {subject}"));
            let author = self.author.as_ref().map_or(String::new(), |author| format!("  by {author}"));
            Outline::line(format!("commit {}{subject}{author}", short(commit)))
        });
        Outline::line(format!("build {}  {}{why}{started}{took}", run.id, run.result)).with(commit)
    }
}

impl RunsOn {
    fn outline(&self) -> Outline {
        let Self { refresher, cluster, is_target, node_groups } = self;
        let relation = if *is_target { "rolled out by" } else { "still in use by" };
        let groups = node_groups.iter().map(|group| Outline::line(format!("node group {group}")));
        Outline::line(format!("{relation} {refresher}  cluster {cluster}")).with(groups)
    }
}

fn runs_on(image: &str, object: &Object) -> Option<RunsOn> {
    let status = object.refresher_status();
    let is_target = status.target_ami.iter().any(|target| target.split(',').any(|one| one == image));
    let groups = status.node_groups.into_iter().flatten();
    let groups = groups.filter(|group| group.current_ami.as_deref() == Some(image)).map(|group| group.name);
    let node_groups: Vec<String> = groups.collect();
    (is_target || !node_groups.is_empty()).then(|| RunsOn {
        refresher: object.id.to_string(),
        cluster: object.spec["clusterName"].as_str().unwrap_or("-").to_owned(),
        is_target,
        node_groups,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{CommitId, Key, ObjectKey};

    fn object(kind: Kind, name: &str, spec: Value, status: Value) -> Object {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        Object { id: ObjectKey { kind, key }, generation: 1, labels: Default::default(), spec, status }
    }

    fn objects() -> Vec<Object> {
        let run = |id: &str, image: &str| {
            json!({
                "id": id, "result": "Succeeded", "why": "Template", "commit": "0123456789abcdef0123456789abcdef01234567",
                "inputs": {"baseAMI": "ami-b"}, "images": [image],
                "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:05:00Z",
            })
        };
        let lane = json!({"region": "eu-west-1", "architecture": "x86_64", "id": "ami-2"});
        let built = json!({"images": [lane], "history": [run("b2", "ami-2"), run("b1", "ami-1")]});
        let group = |name: &str, image: &str| json!({"name": name, "currentAMI": image});
        let rolled =
            json!({"targetAMI": "ami-2", "nodeGroups": [group("web", "ami-2"), group("batch", "ami-1")]});
        vec![
            object(Kind::PackerBuilder, "node", Value::Null, built),
            object(Kind::PackerBuilder, "other", Value::Null, Value::Null),
            object(Kind::AMIRefresher, "demo", json!({"clusterName": "prod"}), rolled),
        ]
    }

    #[test]
    fn an_image_leads_back_to_its_commit_and_base_and_to_where_it_runs() {
        let mut origin = Origin::of("ami-2", &objects());
        let id = CommitId::parse(origin.commit().expect("a commit")).expect("an ID");
        origin.described(Some(Described {
            id,
            author: "Ann".to_owned(),
            subject: "packer: newer kernel".to_owned(),
        }));
        let node = FromNode {
            name: "ip-1".to_owned(),
            instance: Some("i-1".to_owned()),
            group: Some("web".to_owned()),
        };
        origin.node = Some(node);
        let expected = "\
node ip-1  instance i-1  node group web
└── ami-2  active in eu-west-1/x86_64
    ├── built by PackerBuilder/default/node
    │   └── build b2  Succeeded  reason Template  2026-01-01T00:00:00Z in 5 min
    │       └── commit 0123456789ab  packer: newer kernel  by Ann
    ├── base image ami-b
    └── rolled out by AMIRefresher/default/demo  cluster prod
        └── node group web
";
        assert_eq!(origin.outline().draw(), expected);
    }

    #[test]
    fn an_older_image_still_runs_and_an_unknown_one_is_said_to_be_unknown() {
        let older = Origin::of("ami-1", &objects());
        assert!(older.is_known());
        let expected = "\
ami-1
├── built by PackerBuilder/default/node
│   └── build b1  Succeeded  reason Template  2026-01-01T00:00:00Z in 5 min
│       └── commit 0123456789ab
├── base image ami-b
└── still in use by AMIRefresher/default/demo  cluster prod
    └── node group batch
";
        assert_eq!(older.outline().draw(), expected);
        let unknown = Origin::of("ami-3", &objects());
        assert!(!unknown.is_known());
        assert_eq!(unknown.outline().draw(), "ami-3\n└── no refresher uses it\n");
    }
}
