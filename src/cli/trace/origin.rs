//! Where an image comes from and where it runs: from the status of the objects, and from EC2 if status does not know the
//! build. Pure.

use serde::Serialize;

use super::registered::{ByTags, Registered};
use crate::announce::took;
use crate::api::builder::{LaneImage, PackerBuilderStatus, RunRecord};
use crate::api::{ImageId, Kind, Region};
use crate::cli::objects::Object;
use crate::cli::outline::Outline;
use crate::cli::table::short;
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
    build: Option<RunRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
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
        (self.active, self.build) = (active, build);
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
            Some(build) => build.commit.as_deref(),
            None => Some(self.by_tags()?.commit.as_ref()?.as_str()),
        }
    }

    /// Adds author and subject of the commit, if it was found.
    pub fn described(&mut self, commit: Option<Described>) {
        if let Some(Described { author, subject, .. }) = commit {
            (self.author, self.subject) = (Some(author), Some(subject));
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
            Outline::line(format!("built by {builder}")).with(self.build.as_ref().map(|run| self.build(run)))
        });
        let base = self.base_image.iter().map(|base| Outline::line(format!("base image {base}")));
        let in_ec2 = self.ec2.iter().map(|image| Outline::line(in_ec2(image)));
        let by_tags = self.by_tags().into_iter().flat_map(|tags| self.tagged(tags));
        let runs = self.runs_on.iter().flatten().map(RunsOn::outline);
        let nowhere = self.runs_on.as_ref().is_some_and(Vec::is_empty);
        let nowhere = nowhere.then(|| Outline::line("no refresher uses it"));
        let notes = self.notes.iter().map(Outline::line);
        let lines = built.chain(base).chain(in_ec2).chain(by_tags).chain(runs).chain(nowhere).chain(notes);
        Outline::line(format!("{}{lane}", self.image)).with(lines)
    }

    /// What the tags of the image name. Each line says so, since the tags prove nothing.
    fn tagged(&self, tags: &ByTags) -> Vec<Outline> {
        let commit = tags.commit.as_ref().map(|commit| {
            let repository = tags.repository.as_ref().map_or(String::new(), |url| format!(" of {url}"));
            self.commit_line(commit.as_str(), &repository)
        });
        let created = tags.created.map_or(String::new(), |at| format!("  {at}"));
        let build = tags.build.as_ref().map(|build| Outline::line(format!("build {build}{created}")));
        // Images of the operator name no commit.
        let build = build.map(|build| build.with(commit));
        let owner = tags.owner.as_ref().map_or(String::new(), |owner| format!("  owner {owner}"));
        let status = tags.status.as_ref().map_or(String::new(), |status| format!("  status {status}"));
        let builder = format!("by its tags: built by {}{owner}{status}", tags.builder);
        let base =
            tags.base_image.iter().map(|base| Outline::line(format!("by its tags: base image {base}")));
        [Outline::line(builder).with(build)].into_iter().chain(base).collect()
    }

    fn commit_line(&self, commit: &str, repository: &str) -> Outline {
        let subject = self.subject.as_ref().map_or(String::new(), |subject| format!("  {subject}"));
        let author = self.author.as_ref().map_or(String::new(), |author| format!("  by {author}"));
        Outline::line(format!("commit {}{repository}{subject}{author}", short(commit)))
    }

    fn build(&self, run: &RunRecord) -> Outline {
        let why = run.why.as_ref().map_or(String::new(), |why| format!("  reason {why}"));
        let started = run.started_at.map_or(String::new(), |at| format!("  {at}"));
        let took = took(run.started_at, run.ended_at).map_or(String::new(), |took| format!(" in {took}"));
        let commit = run.commit.as_ref().map(|commit| self.commit_line(commit, ""));
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

/// What EC2 itself records about the image.
fn in_ec2(image: &Registered) -> String {
    let Registered { region, name, account, state, .. } = image;
    let created = image.created.map_or(String::new(), |at| format!("  created {at}"));
    let deprecated = image.deprecated_from.map_or(String::new(), |at| format!("  deprecated from {at}"));
    let source = image.source_image.as_ref().map_or(String::new(), |id| format!("  made from {id}"));
    format!("EC2: {name}  {region}  account {account}  {state}{created}{deprecated}{source}")
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
        Object { id: ObjectKey { kind, key }, generation: 1, labels: Default::default(), spec, status }
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
        origin.described(Some(Described {
            id,
            author: "Ann".to_owned(),
            subject: "packer: newer kernel".to_owned(),
        }));
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
        let expected = "\
ami-00000003
├── EC2: node-1  eu-west-1  account 123456789012  available  created 2025-01-01T00:00:00Z  deprecated from 2025-06-01T00:00:00Z
├── by its tags: built by PackerBuilder/default/gone  owner other  status deprecated
│   └── build 0123456789abcdef  2025-01-01T00:00:00Z
│       └── commit 0123456789ab of https://git.example.com/images.git
├── by its tags: base image ami-0000000b
├── no refresher uses it
└── a note
";
        assert_eq!(origin.outline().draw(), expected);
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
            "├── by its tags: built by PackerBuilder/default/other\n│   └── build 0123456789abcdef\n",
        ] {
            assert!(drawn.contains(line), "{line}: {drawn}");
        }
    }
}
