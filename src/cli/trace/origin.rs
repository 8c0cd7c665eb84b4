//! Where an image comes from and where it runs: from the status of the objects, and from EC2 if status does not know the
//! build. Pure.

use serde::Serialize;

use super::commit::{self, Message};
use super::registered::{ByTags, Registered};
use crate::announce::took;
use crate::api::builder::{LaneImage, PackerBuilderStatus, RunRecord};
use crate::api::{ImageId, Kind, Region};
use crate::cli::objects::Object;
use crate::cli::outline::Outline;
use crate::git::Described;

/// The origin of an image.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    #[serde(flatten)]
    pub machine: Option<Machine>,
    image: String,
    /// The lane in which the image is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<LaneImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    builder: Option<String>,
    /// The run that built it, if it is one of the last ten of the builder.
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<Build>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_image: Option<String>,
    /// The image in EC2. It is read only if status does not know the build.
    #[serde(skip_serializing_if = "Option::is_none")]
    ec2: Option<Registered>,
    /// `None` if status could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_on: Option<Vec<RunsOn>>,
    /// What could not be read, or does not know the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// A build that status knows.
#[derive(Debug, Serialize)]
struct Build {
    #[serde(flatten)]
    run: RunRecord,
    #[serde(flatten)]
    message: Option<Message>,
}

/// The node or the instance from which the image was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Machine {
    Node {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<String>,
    },
    Instance {
        id: String,
        region: Region,
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<String>,
    },
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
    /// Finds an image in the status of these objects; `None` if they could not be read.
    pub fn of(image: &ImageId, objects: Option<&[Object]>) -> Self {
        let mut origin = Self { image: image.to_string(), ..Self::default() };
        let Some(objects) = objects else { return origin };
        let mut runs = Vec::new();
        for object in objects {
            match object.id.kind {
                Kind::PackerBuilder => origin.add_builder(object),
                Kind::AMIRefresher => runs.extend(runs_on(image.as_str(), object)),
            }
        }
        origin.runs_on = Some(runs);
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
        self.build = build.map(|run| Build { run, message: None });
        self.active = active;
    }

    /// Adds what EC2 reports about the image.
    pub fn registered(&mut self, image: Option<Registered>) {
        self.ec2 = image;
    }

    /// Adds notes about what could not be read, or does not know the image.
    pub fn note(&mut self, notes: impl IntoIterator<Item = String>) {
        self.notes.extend(notes);
    }

    /// Whether status knows the build.
    pub fn has_build(&self) -> bool {
        self.build.is_some()
    }

    /// Whether status or the tags of the image name the builder.
    pub fn is_known(&self) -> bool {
        self.builder.is_some() || self.by_tags().is_some()
    }

    /// The commit of the build.
    pub fn commit(&self) -> Option<&str> {
        match &self.build {
            Some(build) => build.run.commit.as_deref(),
            None => Some(self.by_tags()?.commit.as_ref()?.as_str()),
        }
    }

    /// Adds author and subject of the commit, if it was found, to what names the commit.
    pub fn described(&mut self, commit: Option<Described>) {
        let message = commit.map(Message::from);
        if let Some(build) = &mut self.build {
            build.message = message;
        } else if let Some(tags) = self.ec2.as_mut().and_then(|image| image.by_tags.as_mut()) {
            tags.message = message;
        }
    }

    fn by_tags(&self) -> Option<&ByTags> {
        self.ec2.as_ref()?.by_tags.as_ref()
    }

    /// The origin as a tree, from the node or the image back to the commit.
    pub fn outline(&self) -> Outline {
        match &self.machine {
            Some(machine) => Outline::line(machine.line()).with([self.image()]),
            None => self.image(),
        }
    }

    fn image(&self) -> Outline {
        let lane =
            self.active.as_ref().map_or(String::new(), |LaneImage { region, architecture, .. }| {
                format!("  active in {region}/{architecture}")
            });
        let built = self.builder.iter().map(|builder| {
            Outline::line(format!("built by {builder}")).with(self.build.as_ref().map(Build::outline))
        });
        let base = self.base_image.iter().map(|base| Outline::line(format!("base image {base}")));
        let in_ec2 = self.ec2.iter().map(|image| Outline::line(image.line()));
        let by_tags = self.by_tags().into_iter().flat_map(ByTags::outlines);
        let runs = self.runs_on.iter().flatten().map(RunsOn::outline);
        let nowhere = self.runs_on.as_ref().is_some_and(Vec::is_empty);
        let nowhere = nowhere.then(|| Outline::line("no refresher uses it"));
        let notes = self.notes.iter().map(Outline::line);
        let lines = built.chain(base).chain(in_ec2).chain(by_tags).chain(runs).chain(nowhere).chain(notes);
        Outline::line(format!("{}{lane}", self.image)).with(lines)
    }
}

impl Build {
    fn outline(&self) -> Outline {
        let Self { run, message } = self;
        let why = run.why.as_ref().map_or(String::new(), |why| format!("  reason {why}"));
        let started = run.started_at.map_or(String::new(), |at| format!("  {at}"));
        let took = took(run.started_at, run.ended_at).map_or(String::new(), |took| format!(" in {took}"));
        let line = |commit: &String| Outline::line(commit::line(commit, None, message.as_ref()));
        let commit = run.commit.as_ref().map(line);
        Outline::line(format!("build {}  {}{why}{started}{took}", run.id, run.result)).with(commit)
    }
}

impl Machine {
    fn line(&self) -> String {
        match self {
            Self::Node { name, instance, group } => {
                let instance = instance.as_ref().map_or(String::new(), |id| format!("  instance {id}"));
                let group = group.as_ref().map_or(String::new(), |group| format!("  node group {group}"));
                format!("node {name}{instance}{group}")
            }
            Self::Instance { id, region, state } => {
                let state = state.as_ref().map_or(String::new(), |state| format!("  {state}"));
                format!("instance {id}  {region}{state}")
            }
        }
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
    use crate::api::tags::{self, Tags};
    use crate::api::{CommitId, Key, ObjectKey};
    use crate::aws::Image;

    fn traced(image: &str, objects: Option<&[Object]>) -> Origin {
        Origin::of(&ImageId::parse(image).expect("an ID"), objects)
    }

    fn object(kind: Kind, name: &str, spec: Value, status: Value) -> Object {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        Object::new(ObjectKey { kind, key }, spec, status)
    }

    fn described(id: CommitId) -> Described {
        Described { id, author: "Ann".to_owned(), subject: "packer: newer kernel".to_owned() }
    }

    fn objects() -> Vec<Object> {
        let run = |id: &str, image: &str| {
            json!({
                "id": id, "result": "Succeeded", "why": "Template", "commit": "0123456789abcdef0123456789abcdef01234567",
                "inputs": {"baseAMI": "ami-0000000b"}, "images": [image],
                "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:05:00Z",
            })
        };
        let lane = json!({"region": "eu-west-1", "architecture": "x86_64", "id": "ami-00000002"});
        let built =
            json!({"images": [lane], "history": [run("b2", "ami-00000002"), run("b1", "ami-00000001")]});
        let group = |name: &str, image: &str| json!({"name": name, "currentAMI": image});
        let rolled = json!({"targetAMI": "ami-00000002", "nodeGroups": [group("web", "ami-00000002"), group("batch", "ami-00000001")]});
        vec![
            object(Kind::PackerBuilder, "node", Value::Null, built),
            object(Kind::PackerBuilder, "other", Value::Null, Value::Null),
            object(Kind::AMIRefresher, "demo", json!({"clusterName": "prod"}), rolled),
        ]
    }

    #[test]
    fn an_image_leads_back_to_its_commit_and_base_and_to_where_it_runs() {
        let mut origin = traced("ami-00000002", Some(&objects()));
        let id = CommitId::parse(origin.commit().expect("a commit")).expect("an ID");
        origin.described(Some(described(id)));
        let (name, instance, group) = ("ip-1".to_owned(), Some("i-1".to_owned()), Some("web".to_owned()));
        origin.machine = Some(Machine::Node { name, instance, group });
        let expected = "\
node ip-1  instance i-1  node group web
└── ami-00000002  active in eu-west-1/x86_64
    ├── built by PackerBuilder/default/node
    │   └── build b2  Succeeded  reason Template  2026-01-01T00:00:00Z in 5 min
    │       └── commit 0123456789ab  packer: newer kernel  by Ann
    ├── base image ami-0000000b
    └── rolled out by AMIRefresher/default/demo  cluster prod
        └── node group web
";
        assert_eq!(origin.outline().draw(), expected);
        let document = json!(origin);
        assert_eq!((&document["build"]["id"], &document["build"]["author"]), (&json!("b2"), &json!("Ann")));
        assert_eq!(document["build"]["subject"], "packer: newer kernel");
        assert_eq!((&document["author"], &document["subject"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn an_older_image_still_runs_and_an_unknown_one_is_said_to_be_unknown() {
        let older = traced("ami-00000001", Some(&objects()));
        assert!(older.is_known());
        let expected = "\
ami-00000001
├── built by PackerBuilder/default/node
│   └── build b1  Succeeded  reason Template  2026-01-01T00:00:00Z in 5 min
│       └── commit 0123456789ab
├── base image ami-0000000b
└── still in use by AMIRefresher/default/demo  cluster prod
    └── node group batch
";
        assert_eq!(older.outline().draw(), expected);
        let unknown = traced("ami-00000003", Some(&objects()));
        assert!(!unknown.is_known());
        assert_eq!(unknown.outline().draw(), "ami-00000003\n└── no refresher uses it\n");
        assert_eq!(traced("ami-00000003", None).outline().draw(), "ami-00000003\n", "status was not read");
    }

    /// An image with these tags, as EC2 reports it.
    fn registered(tags: &[(&str, &str)]) -> Registered {
        let id = ImageId::parse("ami-00000003").expect("an ID");
        let mut image = Image::named(id, "node-1".to_owned());
        image.owner_id = "123456789012".to_owned();
        image.created = "2025-01-01T00:00:00Z".parse().ok();
        image.deprecated = "2025-06-01T00:00:00Z".parse().ok();
        image.tags =
            tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Tags>();
        Registered::new(&Region::parse("eu-west-1").expect("a region"), &image)
    }

    #[test]
    fn what_only_the_tags_of_an_image_name_is_said_to_be_theirs() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let mut origin = traced("ami-00000003", Some(&objects()));
        origin.registered(Some(registered(&[
            (tags::BUILDER, "default/gone"),
            (tags::OWNER, "other"),
            (tags::BUILD, "0123456789abcdef"),
            (tags::CREATED, "2025-01-01T00:00:00Z"),
            (tags::COMMIT, commit),
            (tags::REPO, "https://git.example.com/images.git"),
            (tags::BASE, "ami-0000000b"),
            (tags::STATUS, tags::DEPRECATED),
        ])));
        origin.note(["a note".to_owned()]);
        assert!(origin.is_known() && !origin.has_build());
        assert_eq!(origin.commit(), Some(commit));
        origin.described(Some(described(CommitId::parse(commit).expect("an ID"))));
        let expected = "\
ami-00000003
├── EC2: node-1  eu-west-1  account 123456789012  available  created 2025-01-01T00:00:00Z  deprecated from 2025-06-01T00:00:00Z
├── by its tags: built by PackerBuilder/default/gone  owner other  status deprecated
│   └── by its tags: build 0123456789abcdef  2025-01-01T00:00:00Z
│       └── by its tags: commit 0123456789ab of https://git.example.com/images.git  packer: newer kernel  by Ann
├── by its tags: base image ami-0000000b
├── no refresher uses it
└── a note
";
        assert_eq!(origin.outline().draw(), expected);
        let document = json!(origin);
        let by_tags = &document["ec2"]["byTags"];
        assert_eq!(
            (&by_tags["author"], &by_tags["subject"]),
            (&json!("Ann"), &json!("packer: newer kernel"))
        );
        let of_status = ["builder", "build", "author", "subject", "baseImage"].map(|field| &document[field]);
        assert_eq!(of_status, [&Value::Null; 5], "status does not know the image");
    }

    #[test]
    fn an_active_image_whose_build_left_status_keeps_its_builder_and_lane() {
        let mut all = objects();
        all[0].status["history"] = json!([]);
        let mut origin = traced("ami-00000002", Some(&all));
        assert!(origin.is_known() && !origin.has_build());
        origin.registered(Some(registered(&[
            (tags::BUILDER, "default/other"),
            (tags::BUILD, "0123456789abcdef"),
        ])));
        let drawn = origin.outline().draw();
        for line in [
            "ami-00000002  active in eu-west-1/x86_64\n",
            "├── built by PackerBuilder/default/node\n",
            "├── by its tags: built by PackerBuilder/default/other\n│   └── by its tags: build 0123456789abcdef\n",
        ] {
            assert!(drawn.contains(line), "{line}: {drawn}");
        }
    }
}
