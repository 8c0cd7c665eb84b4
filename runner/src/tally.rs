//! What one Packer command has said so far: artifacts, errors with the cause first, announced resources, and the last
//! lines of the provisioners. Pure, one line at a time. Only machine-readable lines count as facts; prose never does.

use std::collections::{BTreeMap, VecDeque};

use crate::lines::{Line, cut};
use crate::request::{Artifact, Resource, ResourceKind};
use crate::said::{Builds, Said, Stage, is_id, is_region};

/// Errors kept while reading; the report keeps the first that fit.
const MOST_ERRORS: usize = 40;
/// One error is cut here; a template error with its excerpt fits.
pub const LONGEST_ERROR: usize = 1200;
/// Last lines kept for a Packer that ends without naming an error (a crash, a usage text).
const TAIL: usize = 5;
/// Last lines kept of a build's provisioners: what a script prints before it gives up.
pub const OUTPUT: usize = 8;
/// A line of a script is cut here.
pub const LONGEST_OUTPUT: usize = 240;
/// Announced resources kept: a build of one source names five.
pub const MOST_RESOURCES: usize = 200;
/// What a status shows of the newest line.
const LONGEST_PROGRESS: usize = 200;
/// What Packer says about being stopped is not why something failed.
const STOPPING: [&str; 3] =
    ["Cancelling build after receiving", "Cleanly cancelled builds", "build was cancelled"];
/// Lines of Packer among a provisioner's that say nothing: inline scripts have no name of their own.
const NOISE: [&str; 2] = ["/packer-shell", "Connected to "];

/// What one Packer command has said so far.
#[derive(Debug, Default)]
pub struct Tally {
    artifacts: Vec<Artifact>,
    resources: Vec<Resource>,
    errors: Vec<Error>,
    tail: VecDeque<String>,
    builds: Builds,
    /// The last lines of each build's provisioners.
    output: BTreeMap<String, VecDeque<String>>,
    /// The build whose provisioner printed last.
    speaker: String,
    /// The newest line for people; a debug log on standard error is not one.
    pub progress: String,
}

/// An error line, and whether Packer named it as the reason why a build failed.
#[derive(Clone, Debug)]
struct Error {
    text: String,
    build: Option<String>,
}

/// What one line added.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    /// For the log, masked.
    pub text: Option<String>,
    /// What may be left behind if the run is lost now.
    pub resources: Vec<Resource>,
}

impl Tally {
    /// Takes in a line. Ids are read before masking, so that a secret that happens to be a region
    /// does not hide an image; they are checked to be ids. All text is masked.
    pub fn hear(&mut self, line: Line, mask: &dyn Fn(&str) -> String) -> Heard {
        match line {
            Line::ArtifactId { build, id } => {
                self.builds.learn(&build);
                Heard { text: None, resources: self.artifact(&build, &id) }
            }
            Line::BuildError { build, message } => {
                self.builds.learn(&build);
                self.final_error(&build, &mask(&message));
                Heard { text: Some(mask(&format!("{build}: {message}"))), resources: Vec::new() }
            }
            Line::Complain(text) => {
                let masked = mask(&text);
                if !self.provisioner(&text, &masked) {
                    self.error(&masked);
                }
                self.said(&masked);
                Heard { text: Some(masked), resources: Vec::new() }
            }
            Line::Say(text) => {
                let masked = mask(&text);
                let resource = self.announced(&text);
                self.provisioner(&text, &masked);
                self.said(&masked);
                Heard { text: Some(masked), resources: resource.into_iter().collect() }
            }
            Line::Plain(text) => {
                let masked = mask(&text);
                self.keep_tail(&masked);
                Heard { text: Some(masked), resources: Vec::new() }
            }
            Line::Machine => Heard::default(),
        }
    }

    /// Packer's images, sorted, each once: post-processors repeat them.
    pub fn artifacts(&self) -> Vec<Artifact> {
        let mut artifacts = self.artifacts.clone();
        artifacts.sort();
        artifacts
    }

    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Packer's errors, the cause first: why builds failed, in the order in which it became known, then the others.
    /// What Packer names may be an error of its clean-up: then what it called an error before leads.
    pub fn errors(&self) -> Vec<String> {
        let (finals, others): (Vec<&Error>, Vec<&Error>) =
            self.errors.iter().partition(|error| error.build.is_some());
        let hidden = finals.first().is_some_and(|error| is_clean_up(&error.text));
        let (causes, others): (Vec<&Error>, Vec<&Error>) = others
            .into_iter()
            .partition(|error| hidden && error.text.starts_with("Error") && !is_clean_up(&error.text));
        let finals = [causes, finals].concat();
        let news = |other: &&Error| {
            !finals.iter().any(|known| known.text.contains(&other.text) || other.text.contains(&known.text))
        };
        let others: Vec<&Error> = others.into_iter().filter(news).collect();
        finals.iter().copied().chain(others).map(|error| error.text.clone()).collect()
    }

    /// The last words of a Packer that named no error.
    pub fn last_words(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// The build that failed first, else the one whose provisioner printed last.
    pub fn build(&self) -> Option<&str> {
        let failed = self.errors.iter().find_map(|error| error.build.as_deref());
        failed.or(Some(self.speaker.as_str())).filter(|name| !name.is_empty())
    }

    /// The last lines of that build's provisioners, unless they came to a good end.
    pub fn output(&self) -> Vec<String> {
        let Some(build) = self.build().filter(|build| self.builds.stage(build) != Some(Stage::Done)) else {
            return Vec::new();
        };
        let errors = self.errors();
        let lines = self.output.get(build).into_iter().flatten();
        lines.filter(|line| !errors.contains(*line)).cloned().collect()
    }

    /// New images with their regions.
    fn artifact(&mut self, build: &str, id: &str) -> Vec<Resource> {
        let mut new = Vec::new();
        for (region, image) in id.split(',').filter_map(|pair| pair.split_once(':')) {
            let known = self.artifacts.iter().any(|a| a.region == region && a.image == image);
            if is_region(region) && is_id(image, "ami-") && !known {
                new.push(Resource { kind: ResourceKind::Region, id: region.to_owned() });
                new.push(Resource { kind: ResourceKind::Image, id: image.to_owned() });
                let (region, image) = (region.to_owned(), image.to_owned());
                self.artifacts.push(Artifact { region, image, build: build.to_owned() });
            }
        }
        new
    }

    /// Is it a line of a provisioner that is running? Then it is kept as such.
    fn provisioner(&mut self, text: &str, masked: &str) -> bool {
        let Some(said) = self.builds.split(text) else { return false };
        self.builds.follow(&said);
        if self.builds.stage(said.build) != Some(Stage::Running) {
            return false;
        }
        let build = said.build.to_owned();
        let masked = self.builds.split(masked).map_or(masked, |said| said.text);
        let lines = self.output.entry(build.clone()).or_default();
        let is_news = |line: &&str| !line.is_empty() && !NOISE.iter().any(|words| line.contains(words));
        for line in masked.lines().map(str::trim).filter(is_news) {
            push(lines, cut(line, LONGEST_OUTPUT), OUTPUT);
        }
        self.speaker = build;
        true
    }

    fn error(&mut self, text: &str) {
        // Packer puts the build before each line of a text.
        let joined =
            self.builds.split(text).map(|said| said.text.replace(&format!("\n==> {}: ", said.build), "\n"));
        let text = without_errored(joined.as_deref().unwrap_or(text)).trim();
        let summary = text.trim_start_matches(['=', '>', ' ']).starts_with("Some builds didn't complete");
        if text.is_empty() || summary || STOPPING.iter().any(|words| text.contains(words)) {
            return;
        }
        let text = cut(text, LONGEST_ERROR);
        if self.errors.iter().any(|known| known.text == text) {
            return;
        }
        let has_room = self.errors.len() < MOST_ERRORS;
        match self.errors.last_mut() {
            // A heading, whose details are a line of their own.
            Some(heading) if heading.build.is_none() && heading.text.ends_with(':') => {
                heading.text = cut(&format!("{}\n{text}", heading.text), LONGEST_ERROR);
            }
            _ if has_room => self.errors.push(Error { text, build: None }),
            _ => {}
        }
    }

    /// Packer names these at the end, in any order. One that was heard before keeps its place.
    fn final_error(&mut self, build: &str, text: &str) {
        let text = cut(text.trim(), LONGEST_ERROR);
        if STOPPING.iter().any(|words| text.contains(words)) {
            return;
        }
        let build = Some(build.to_owned());
        match self.errors.iter_mut().find(|known| known.text == text) {
            Some(known) => known.build = known.build.take().or(build),
            None => {
                self.errors.truncate(MOST_ERRORS - 1);
                self.errors.push(Error { text, build });
            }
        }
    }

    fn said(&mut self, text: &str) {
        self.keep_tail(text);
        if let Some(line) = text.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            self.progress = cut(line, LONGEST_PROGRESS);
        }
    }

    fn keep_tail(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            push(&mut self.tail, cut(line, LONGEST_ERROR), TAIL);
        }
    }

    /// A resource that Packer says it made, if it is new.
    fn announced(&mut self, text: &str) -> Option<Resource> {
        let said: Said<'_> = self.builds.split(text)?;
        let resource = self.builds.announced(&said)?;
        self.builds.learn(said.build);
        if self.resources.contains(&resource) || self.resources.len() >= MOST_RESOURCES {
            return None;
        }
        self.resources.push(resource.clone());
        Some(resource)
    }
}

/// Errors of what Packer does after a build has failed.
fn is_clean_up(text: &str) -> bool {
    ["deregistering", "terminating", "Error deleting", "Error removing", "may still be around"]
        .iter()
        .any(|words| text.contains(words))
}

/// `Build 'name' errored after 3 seconds: error`, without what comes before the error.
fn without_errored(text: &str) -> &str {
    let rest = text.strip_prefix("Build '").and_then(|rest| rest.split_once("' errored"));
    rest.and_then(|(_, rest)| rest.split_once(": ")).map_or(text, |(_, error)| error)
}

fn push(list: &mut VecDeque<String>, text: String, most: usize) {
    if list.len() == most {
        list.pop_front();
    }
    list.push_back(text);
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
