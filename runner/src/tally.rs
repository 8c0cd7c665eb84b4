//! Accumulates the output of one Packer command, line by line: artifacts, errors with the cause first, announced
//! resources, and the last lines of the provisioners. Pure. Artifacts are taken only from machine-readable lines.

use std::collections::{BTreeMap, VecDeque};

use crate::lines::{Line, cut};
use crate::request::{Artifact, Resource, ResourceKind};
use crate::said::{Builds, Said, Stage, is_id, is_region};

/// Errors kept while reading; the report contains the first ones that fit.
const MOST_ERRORS: usize = 40;
/// Longer errors are truncated; a template error with its excerpt fits.
pub const LONGEST_ERROR: usize = 1200;
/// Last lines kept for the case that Packer ends without naming an error (a crash, a usage text).
const TAIL: usize = 5;
/// Last lines kept from the provisioners of a build: what a script prints before it fails.
pub const OUTPUT: usize = 8;
/// Longer lines of a provisioner are truncated.
pub const LONGEST_OUTPUT: usize = 240;
/// Announced resources kept; a build of one source announces five.
pub const MOST_RESOURCES: usize = 200;
/// The newest line is truncated to this length for the status.
const LONGEST_PROGRESS: usize = 200;
/// Messages that Packer prints when it is stopped; they are not the cause of a failure.
const STOPPING: [&str; 3] =
    ["Cancelling build after receiving", "Cleanly cancelled builds", "build was cancelled"];
/// Lines that Packer prints among the output of a provisioner and that are not useful: inline scripts have only a
/// temporary name.
const NOISE: [&str; 2] = ["/packer-shell", "Connected to "];

/// The accumulated output of one Packer command.
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
    /// The newest human-readable line; the debug log on standard error does not count.
    pub progress: String,
}

/// An error, and the build that failed because of it if Packer named one.
#[derive(Clone, Debug)]
struct Error {
    text: String,
    build: Option<String>,
}

/// What one line contributes.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    /// The masked text for the log.
    pub text: Option<String>,
    /// New resources, which may be orphaned if the run is lost now.
    pub resources: Vec<Resource>,
}

impl Tally {
    /// Adds a line. IDs are read and validated before masking, so that a secret that is equal to a region name
    /// does not hide an image. All text is masked.
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

    /// Returns Packer's images, sorted and without duplicates: post-processors repeat them.
    pub fn artifacts(&self) -> Vec<Artifact> {
        let mut artifacts = self.artifacts.clone();
        artifacts.sort();
        artifacts
    }

    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Returns Packer's errors, the cause first: the errors that Packer named as the reasons of failed builds, in order
    /// of appearance, then the others. If the first named error comes from Packer's cleanup, earlier errors come first.
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

    /// Returns the last lines of output, for the case that Packer named no error.
    pub fn last_words(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// Returns the build that failed first, else the build whose provisioner printed last.
    pub fn build(&self) -> Option<&str> {
        let failed = self.errors.iter().find_map(|error| error.build.as_deref());
        failed.or(Some(self.speaker.as_str())).filter(|name| !name.is_empty())
    }

    /// Returns the last lines of the provisioners of that build, unless the provisioners have finished successfully.
    pub fn output(&self) -> Vec<String> {
        let Some(build) = self.build().filter(|build| self.builds.stage(build) != Some(Stage::Done)) else {
            return Vec::new();
        };
        let errors = self.errors();
        let lines = self.output.get(build).into_iter().flatten();
        lines.filter(|line| !errors.contains(*line)).cloned().collect()
    }

    /// Adds the images of an artifact. Returns the new ones with their regions.
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

    /// Records the line if it comes from a running provisioner, and returns whether it does.
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
        // Packer prefixes each line of a multi-line text with the name of the build.
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
            // The details of a heading follow as a separate line.
            Some(heading) if heading.build.is_none() && heading.text.ends_with(':') => {
                heading.text = cut(&format!("{}\n{text}", heading.text), LONGEST_ERROR);
            }
            _ if has_room => self.errors.push(Error { text, build: None }),
            _ => {}
        }
    }

    /// Adds an error that Packer names as the reason of a failed build. Packer prints these at the end, in any order;
    /// an error that was printed before keeps its position.
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

    /// Adds the resource that Packer announces in this line. Returns it if it is new.
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

/// Returns whether the error comes from Packer's cleanup after a failed build.
fn is_clean_up(text: &str) -> bool {
    ["deregistering", "terminating", "Error deleting", "Error removing", "may still be around"]
        .iter()
        .any(|words| text.contains(words))
}

/// Returns only the error of `Build 'name' errored after 3 seconds: error`.
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
