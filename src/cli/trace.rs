//! `opsy trace ami-…|i-…|node/NAME`: from a node, an instance or an image back to the build, its commit and its base image,
//! and where the image runs. Read-only: from the status of the objects and from clones on this machine, from the cluster
//! for a node, and from EC2 for an instance and for an image whose build status does not know.

mod commit;
mod ec2;
mod machines;
mod origin;
mod registered;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::bail;

use super::format::{self, Format};
use super::objects::{Object, Observed, ReadFlags, Reader};
use super::place::Place;
use super::{format_error, target};
use crate::api::{CommitId, ImageId, InstanceId, Region};
use crate::engine::standalone::clone_dir;
use crate::git::{self, Described};
use ec2::{Answer, Ec2};
use machines::{Found, Machines};
use origin::Origin;

#[derive(clap::Args)]
pub struct Args {
    /// The image (ami-…), the instance (i-…), or the node (node/NAME)
    #[arg(value_name = "AMI|INSTANCE|node/NAME")]
    of: Traced,
    #[command(flatten)]
    read: ReadFlags,
    /// Read the author of the commit from this clone; default: the clone of the agent, or the one that contains the current
    /// directory
    #[arg(long, value_name = "DIR")]
    clone: Option<PathBuf>,
    /// Ask EC2 in this region; default: the region of the node, else the regions of the objects, else the region of the
    /// AWS environment
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
    /// Do not ask EC2. By default, it is asked for instances, and for images whose build is
    /// not recorded in status
    #[arg(long, conflicts_with = "region")]
    offline: bool,
    /// Output format
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// What is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Traced {
    Image(ImageId),
    Instance(InstanceId),
    Node(String),
}

impl FromStr for Traced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("node" | "nodes" | "no", name)) if !name.is_empty() => Ok(Self::Node(name.to_owned())),
            _ if text.starts_with("i-") => {
                InstanceId::parse(text).map(Self::Instance).map_err(|error| error.to_string())
            }
            _ => ImageId::parse(text)
                .map(Self::Image)
                .map_err(|error| format!("{error}, an instance ID (i-…) or a node (node/NAME)")),
        }
    }
}

impl Args {
    /// The clients of EC2, or why it is not asked.
    async fn ec2(&self, objects: &[Object]) -> Result<Ec2, String> {
        if self.offline {
            return Err("EC2 was not asked (--offline)".to_owned());
        }
        Ec2::new(&self.read.place.network.read()?, self.region.clone(), objects).await
    }
}

/// Prints where an image comes from and where it runs. The exit code is 1 if neither status nor the tags of the image name
/// its builder.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let reader = args.read.connect().await;
        let read = read(&reader).await;
        let objects = read.as_ref().ok().map(|read| read.objects.as_slice());
        let ec2 = args.ec2(objects.unwrap_or_default()).await;
        let place = reader.as_ref().ok().map(Reader::place);
        let machines = Machines { place, ec2: ec2.as_ref().map_err(String::as_str) };
        let found = match &args.of {
            Traced::Image(image) => Found { image: image.clone(), machine: None, region: None },
            Traced::Instance(id) => machines.instance(id).await?,
            Traced::Node(name) => machines.node(name).await?,
        };
        let unread = unread(args.read.place.namespace.is_some(), &read);
        let mut origin = Origin::of(&found.image, objects, unread.is_empty());
        origin.note(unknown_by_status(&origin, place, &read));
        origin.note(unread);
        if !origin.has_build() {
            match &ec2 {
                Ok(ec2) => {
                    let Answer { found, notes } = ec2.image(&found.image, found.region.as_ref()).await;
                    origin.registered(found);
                    origin.note(notes);
                }
                Err(why) => origin.note([why.clone()]),
            }
        }
        origin.machine = found.machine;
        if let Some(commit) = origin.commit().and_then(|commit| CommitId::parse(commit).ok()) {
            origin.described(described(args, place, &commit));
        }
        format::print(args.output, &origin, || origin.outline().draw())?;
        if !origin.is_known() {
            bail!("the builder of {} is unknown", found.image);
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The objects with their status, of all namespaces if possible. If they cannot be read, EC2 may still know the image.
async fn read(reader: &anyhow::Result<Reader<'_>>) -> Result<Observed, String> {
    match reader {
        Ok(reader) => reader.read_all().await.map_err(|error| format_error(&error)),
        Err(error) => Err(format_error(error)),
    }
}

/// The notes about objects that were not read, one of which may use the image.
fn unread(is_namespace_named: bool, read: &Result<Observed, String>) -> Vec<String> {
    let observed = match read {
        Ok(observed) => observed,
        Err(error) => return vec![format!("status was not read: {error}")],
    };
    let why = match is_namespace_named {
        true => "-n names it",
        false => "listing the objects of all namespaces is forbidden",
    };
    let other = observed.namespace.as_ref();
    let other = other.map(|name| format!("only the objects of namespace {name} were read: {why}"));
    observed.unreadable.values().cloned().chain(other).collect()
}

/// The note that status does not know the build.
fn unknown_by_status(
    origin: &Origin,
    place: Option<&Place>,
    read: &Result<Observed, String>,
) -> Option<String> {
    let (observed, place) = (read.as_ref().ok()?, place?);
    let namespace =
        observed.namespace.as_ref().map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
    (!origin.is_known()).then(|| {
        format!(
            "no builder records it among its active images or its last ten runs ({namespace} of the {place})"
        )
    })
}

/// Author and subject of a commit, from the first clone on this machine that has it.
fn described(args: &Args, place: Option<&Place>, commit: &CommitId) -> Option<Described> {
    let of_agent = match place {
        Some(Place::State(place)) => Some(clone_dir(&place.path)),
        _ => None,
    };
    let clones = match &args.clone {
        Some(clone) => vec![clone.clone()],
        None => of_agent.into_iter().chain([PathBuf::from(".")]).collect(),
    };
    clones.iter().find_map(|clone| git::describe_in(clone, commit))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::{Key, Kind, ObjectKey};

    #[test]
    fn objects_that_were_not_read_are_named() {
        let notes = |named, namespace: Option<&str>, unreadable: &[&str]| {
            let object = |name: &&str| {
                let key = Key { namespace: "default".to_owned(), name: (*name).to_owned() };
                (ObjectKey { kind: Kind::PackerBuilder, key }, format!("{name} cannot be read"))
            };
            let unreadable: BTreeMap<_, _> = unreadable.iter().map(object).collect();
            let namespace = namespace.map(str::to_owned);
            let (objects, repository, nothing) = (Vec::new(), Ok(Default::default()), String::new());
            let observed = Observed { objects, repository, unreadable, namespace, nothing };
            unread(named, &Ok(observed)).join(", ")
        };
        assert_eq!(notes(false, None, &[]), "");
        assert_eq!(notes(false, None, &["a", "b"]), "a cannot be read, b cannot be read");
        let only = "only the objects of namespace team were read: ";
        assert_eq!(notes(true, Some("team"), &[]), format!("{only}-n names it"));
        let denied = format!("{only}listing the objects of all namespaces is forbidden");
        assert_eq!(notes(false, Some("team"), &[]), denied);
        let error = Err("no cluster".to_owned());
        assert_eq!(unread(false, &error), ["status was not read: no cluster"]);
    }

    #[test]
    fn an_image_an_instance_or_a_node_is_traced() {
        let image = ImageId::parse("ami-0123456789abcdef0").expect("an image");
        assert_eq!("ami-0123456789abcdef0".parse(), Ok(Traced::Image(image)));
        let instance = InstanceId::parse("i-0123456789abcdef0").expect("an instance");
        assert_eq!("i-0123456789abcdef0".parse(), Ok(Traced::Instance(instance)));
        assert!("i-x".parse::<Traced>().is_err_and(|error| error.contains("an instance ID")));
        assert_eq!("node/ip-10-0-0-1".parse(), Ok(Traced::Node("ip-10-0-0-1".to_owned())));
        for bad in ["node/", "pb/node", "ami-x"] {
            let error = bad.parse::<Traced>().expect_err(bad);
            assert!(error.ends_with("or a node (node/NAME)"), "{error}");
        }
    }
}
