//! `opsy trace ami-…|node/NAME`: from a node or an image back to the build, its commit and its base image, and where the
//! image runs. Read-only: from the status of the objects, from clones on this machine, and for a node from the cluster.

mod origin;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;

use super::format::{self, Format};
use super::objects::{ReadFlags, Reader};
use super::place::Place;
use super::target;
use crate::api::{CommitId, ImageId};
use crate::engine::kubernetes::nodes;
use crate::engine::standalone::clone_dir;
use crate::git::{self, Described};
use crate::telemetry::out;
use origin::{FromNode, Origin};

#[derive(clap::Args)]
pub struct Args {
    /// The image (ami-…), or the node of the cluster (node/NAME)
    #[arg(value_name = "AMI|node/NAME")]
    of: Traced,
    #[command(flatten)]
    read: ReadFlags,
    /// Read the author of the commit from this clone; default: the clone of the agent, or the one that contains the current
    /// directory
    #[arg(long, value_name = "DIR")]
    clone: Option<PathBuf>,
    /// Output format
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// What is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Traced {
    Image(ImageId),
    Node(String),
}

impl FromStr for Traced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("node" | "nodes" | "no", name)) if !name.is_empty() => Ok(Self::Node(name.to_owned())),
            _ => ImageId::parse(text)
                .map(Self::Image)
                .map_err(|error| format!("{error} or a node (node/NAME)")),
        }
    }
}

/// Prints where an image comes from and where it runs. The exit code is 1 if no status knows the image.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let reader = args.read.connect().await?;
        let (image, node) = match &args.of {
            Traced::Image(image) => (image.clone(), None),
            Traced::Node(name) => of_node(name, &reader).await?,
        };
        let observed = reader.read().await?;
        observed.unreadable.iter().for_each(out::error);
        let mut origin = Origin::of(image.as_str(), &observed.objects);
        origin.node = node;
        if let Some(commit) = origin.commit().and_then(|commit| CommitId::parse(commit).ok()) {
            origin.described(described(args, &reader, &commit));
        }
        if origin.is_known() || origin.is_used() {
            format::print(args.output, &origin, || origin.outline().draw())?;
        }
        if !origin.is_known() {
            bail!(
                "no builder records {image} among its active images or its last ten runs ({}); its tags in EC2 name its \
                 builder: aws ec2 describe-images --image-ids {image}",
                reader.place()
            );
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The image of a node, from the labels that EKS sets on the nodes of managed groups.
async fn of_node(name: &str, reader: &Reader<'_>) -> anyhow::Result<(ImageId, Option<FromNode>)> {
    let Place::Cluster(place) = reader.place() else {
        bail!("node/{name} needs a cluster: name one with --kubeconfig or --context");
    };
    let found = Api::<Node>::all(place.cluster.client.clone()).get_opt(name).await;
    let found = found.map_err(target::refused)?.with_context(|| format!("no node {name:?} in {place}"))?;
    let labels = found.metadata.labels.unwrap_or_default();
    let provider = found.spec.and_then(|spec| spec.provider_id);
    let instance = provider.as_deref().and_then(|id| id.rsplit('/').next()).map(str::to_owned);
    let Some(image) = labels.get(nodes::IMAGE) else {
        let instance = instance.unwrap_or_else(|| "its instance".to_owned());
        bail!(
            "node {name} has no label {}, which EKS sets on the nodes of managed groups; trace the image of {instance} \
             instead: aws ec2 describe-instances --instance-ids {instance}",
            nodes::IMAGE
        );
    };
    let image = ImageId::parse(image).with_context(|| format!("label {} of node {name}", nodes::IMAGE))?;
    let group = labels.get(nodes::GROUP).cloned();
    Ok((image, Some(FromNode { name: name.to_owned(), instance, group })))
}

/// Author and subject of a commit, from the first clone on this machine that has it.
fn described(args: &Args, reader: &Reader<'_>, commit: &CommitId) -> Option<Described> {
    let of_agent = match reader.place() {
        Place::State(place) => Some(clone_dir(&place.path)),
        Place::Cluster(_) => None,
    };
    let clones = match &args.clone {
        Some(clone) => vec![clone.clone()],
        None => of_agent.into_iter().chain([PathBuf::from(".")]).collect(),
    };
    clones.iter().find_map(|clone| git::describe_in(clone, commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_or_a_node_is_traced() {
        let image = ImageId::parse("ami-0123456789abcdef0").expect("an image");
        assert_eq!("ami-0123456789abcdef0".parse(), Ok(Traced::Image(image)));
        assert_eq!("node/ip-10-0-0-1".parse(), Ok(Traced::Node("ip-10-0-0-1".to_owned())));
        for bad in ["node/", "pb/node", "ami-x"] {
            let error = bad.parse::<Traced>().expect_err(bad);
            assert!(error.ends_with("or a node (node/NAME)"), "{error}");
        }
    }
}
