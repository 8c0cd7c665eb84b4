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
    /// `None` if it is unknown: none was found, and not every object could be read.
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
    /// Finds an image in the status of these objects; `None` if they could not be read. `complete` says whether there are
    /// no others.
    pub fn of(image: &ImageId, objects: Option<&[Object]>, complete: bool) -> Self {
        let mut origin = Self { image: image.to_string(), ..Self::default() };
        let mut runs = Vec::new();
        for object in objects.unwrap_or_default() {
            match object.id.kind {
                Kind::PackerBuilder => origin.add_builder(object),
                Kind::AMIRefresher => runs.extend(runs_on(image.as_str(), object)),
            }
        }
        origin.runs_on = (!runs.is_empty() || (objects.is_some() && complete)).then_some(runs);
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
        let nowhere = match &self.runs_on {
            None => Some("whether a refresher uses it is unknown"),
            Some(runs) => runs.is_empty().then_some("no refresher uses it"),
        };
        let nowhere = nowhere.map(Outline::line);
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
mod tests;
