//! `opsy tree`: the repository, its builders, their images, the refreshers that roll them out, and the node groups that
//! run them. Read-only.

use std::process::ExitCode;

use super::objects::{Object, ReadFlags};
use super::outline::Outline;
use super::ready::ready_cells;
use super::select::SelectFlags;
use super::table::short;
use super::target;
use crate::api::Kind;
use crate::api::builder::LaneImage;
use crate::api::refresher::NodeGroupStatus;
use crate::api::status::RepositoryStatus;
use crate::telemetry::out;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    select: SelectFlags,
    #[command(flatten)]
    read: ReadFlags,
}

/// Prints the tree. The exit code is 1 if an object that is named does not exist, or a selected one cannot be
/// read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let reader = args.read.connect().await?;
        let mut observed = reader.read().await?;
        if observed.is_empty() {
            out::line(&observed.nothing)?;
        }
        let missing = args.select.select(&mut observed.objects, &mut observed.unreadable);
        observed.errors(true).for_each(out::error);
        out::lines(&outline(observed.repository.as_ref().ok(), &observed.objects).draw())?;
        Ok(reader.report(&missing, &observed))
    })
}

/// The tree of these objects.
fn outline(repository: Option<&RepositoryStatus>, objects: &[Object]) -> Outline {
    let of = |kind| objects.iter().filter(move |object| object.id.kind == kind);
    let refreshers: Vec<Refresher<'_>> = of(Kind::AMIRefresher).map(Refresher::new).collect();
    let builders: Vec<Builder<'_>> = of(Kind::PackerBuilder).map(Builder::new).collect();
    let below = builders.iter().map(|builder| builder.outline(&refreshers));
    let others = refreshers.iter().filter(|one| !builders.iter().any(|builder| builder.has(one)));
    let root = match repository.map(|repository| &repository.last) {
        None => "repository: unknown".to_owned(),
        Some(Some(last)) => format!("{} at {}", last.source, short(last.commit.as_str())),
        Some(None) => "repository: no commit was synced yet".to_owned(),
    };
    Outline::line(root).with(below.chain(others.map(Refresher::outline)))
}

struct Builder<'a> {
    object: &'a Object,
    images: Vec<LaneImage>,
}

struct Refresher<'a> {
    object: &'a Object,
    targets: Vec<String>,
    groups: Vec<NodeGroupStatus>,
}

fn heading(object: &Object) -> String {
    let [ready, reason, _] = ready_cells(&object.status);
    format!("{}  Ready={ready} {reason}", object.id)
}

impl<'a> Builder<'a> {
    fn new(object: &'a Object) -> Self {
        Self { object, images: object.builder_status().images.unwrap_or_default() }
    }

    fn outline(&self, refreshers: &[Refresher<'_>]) -> Outline {
        let images = self.images.iter().map(|image| {
            let LaneImage { id, region, architecture, .. } = image;
            let gone = if image.gone == Some(true) { ", deleted" } else { "" };
            let below = refreshers.iter().filter(|one| one.targets.contains(id)).map(|one| one.on(id));
            Outline::line(format!("{id}  {region}/{architecture}{gone}")).with(below)
        });
        let waiting = refreshers.iter().filter(|one| self.has(one) && !self.built_target_of(one));
        let none = self.images.is_empty().then(|| Outline::line("no image"));
        let below = images.chain(none).chain(waiting.map(Refresher::outline)).collect::<Vec<_>>();
        Outline::line(heading(self.object)).with(below)
    }

    fn built_target_of(&self, refresher: &Refresher<'_>) -> bool {
        self.images.iter().any(|image| refresher.targets.contains(&image.id))
    }

    /// Whether a refresher rolls out, or waits for, an image of this builder.
    fn has(&self, refresher: &Refresher<'_>) -> bool {
        let (own, other) = (&self.object.id.key, refresher.object);
        let follows = other.spec["amiFrom"]["packerBuilder"] == own.name.as_str();
        self.built_target_of(refresher) || (follows && other.id.key.namespace == own.namespace)
    }
}

impl<'a> Refresher<'a> {
    fn new(object: &'a Object) -> Self {
        let status = object.refresher_status();
        let targets = status.target_ami.unwrap_or_default();
        let targets = targets.split(',').map(str::to_owned).filter(|target| !target.is_empty()).collect();
        Self { object, targets, groups: status.node_groups.unwrap_or_default() }
    }

    /// The refresher with all of its node groups.
    fn outline(&self) -> Outline {
        Outline::line(heading(self.object)).with(self.groups.iter().map(|group| self.group(group)))
    }

    /// The refresher below one of its targets: with the groups that run this image, and, below the first target, those
    /// that run none of them.
    fn on(&self, image: &str) -> Outline {
        let is_first = self.targets.first().is_some_and(|first| first == image);
        let belongs = |group: &&NodeGroupStatus| match group.current_ami.as_ref() {
            Some(current) if self.targets.contains(current) => current == image,
            _ => is_first,
        };
        let groups = self.groups.iter().filter(belongs).map(|group| self.group(group));
        Outline::line(heading(self.object)).with(groups)
    }

    fn group(&self, group: &NodeGroupStatus) -> Outline {
        let current = group.current_ami.as_ref().filter(|current| !self.targets.contains(current));
        let current = current.map_or(String::new(), |current| format!("  on {current}"));
        let wave = group.wave.as_ref().map_or(String::new(), |wave| format!("  wave {wave}"));
        let state = group.state.as_deref().unwrap_or("-");
        Outline::line(format!("node group {}  {state}{wave}{current}", group.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{Key, ObjectKey};

    fn object(kind: Kind, name: &str, spec: Value, status: Value) -> Object {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        Object::new(ObjectKey { kind, key }, spec, status)
    }

    #[test]
    fn every_refresher_and_group_is_in_the_tree_once() {
        let lane = |architecture: &str, id: &str| json!({"region": "eu-west-1", "architecture": architecture, "id": id});
        let images = json!({"images": [lane("x86_64", "ami-x"), lane("arm64", "ami-a")]});
        let group =
            |name: &str, image: &str, state: &str| json!({"name": name, "currentAMI": image, "state": state});
        let both = json!({"targetAMI": "ami-x,ami-a", "nodeGroups": [
            group("arm", "ami-a", "Current"), group("old", "ami-0", "Updating"), group("web", "ami-x", "Current"),
        ]});
        let from = |builder: &str| json!({"amiFrom": {"packerBuilder": builder}});
        let objects = [
            object(Kind::PackerBuilder, "node", Value::Null, images),
            object(Kind::PackerBuilder, "new", Value::Null, Value::Null),
            object(Kind::AMIRefresher, "both", from("node"), both),
            object(Kind::AMIRefresher, "waits", from("new"), Value::Null),
            object(Kind::AMIRefresher, "other", Value::Null, json!({"targetAMI": "ami-z"})),
        ];
        let commit = "0123456789abcdef0123456789abcdef01234567".to_owned().try_into().expect("a commit");
        let last = crate::api::status::LastSynced {
            commit,
            source: "https://git/images".to_owned(),
            verified: None,
        };
        let repository = RepositoryStatus { last: Some(last), ..RepositoryStatus::default() };
        let expected = "\
https://git/images at 0123456789ab
├── PackerBuilder/default/node  Ready=Unknown -
│   ├── ami-x  eu-west-1/x86_64
│   │   └── AMIRefresher/default/both  Ready=Unknown -
│   │       ├── node group old  Updating  on ami-0
│   │       └── node group web  Current
│   └── ami-a  eu-west-1/arm64
│       └── AMIRefresher/default/both  Ready=Unknown -
│           └── node group arm  Current
├── PackerBuilder/default/new  Ready=Unknown -
│   ├── no image
│   └── AMIRefresher/default/waits  Ready=Unknown -
└── AMIRefresher/default/other  Ready=Unknown -
";
        assert_eq!(outline(Some(&repository), &objects).draw(), expected);
        let unknown = outline(None, &objects).draw();
        assert!(unknown.starts_with("repository: unknown"), "{unknown}");
    }
}
