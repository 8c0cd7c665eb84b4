//! Interprets Packer's human-readable lines: the build to which a line belongs, the resources and regions that it
//! announces, and where provisioners begin and end. Pure; `tally` stores the result.
//!
//! A line is `==> build: text`, in older versions also `    build: text`. The name of a build may contain any
//! character, so a new name can be recognized only in a line with a known text.

use std::collections::BTreeMap;

use crate::request::{Resource, ResourceKind};

const ANNOUNCEMENTS: [(&str, ResourceKind, &str); 6] = [
    ("Creating temporary keypair: ", ResourceKind::KeyPair, ""),
    ("Creating temporary security group for this instance: ", ResourceKind::SecurityGroup, ""),
    ("Instance ID: ", ResourceKind::Instance, "i-"),
    ("AMI: ", ResourceKind::Image, "ami-"),
    ("Volume ID: ", ResourceKind::Volume, "vol-"),
    ("Copying to: ", ResourceKind::Region, ""),
];
/// After these lines, a build prints the output of its provisioners.
const PROVISIONING: [&str; 3] = ["Provisioning with ", "Connected to ", "Running local shell script: "];
/// These lines show that the provisioners have finished.
const PROVISIONED: [&str; 5] = [
    "Stopping the source instance",
    "Creating AMI ",
    "Creating snapshot",
    "Unmounting ",
    "Registering the AMI",
];
/// These lines show that the provisioners have failed or were canceled.
const GIVEN_UP: [&str; 3] =
    ["Provisioning step had errors", "Terminating the source AWS instance", "Cleaning up any extra volumes"];

/// The state of a build's provisioners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    Done,
    GivenUp,
}

/// The builds whose names are known so far, each with the state of its provisioners.
#[derive(Debug, Default)]
pub struct Builds(BTreeMap<String, Option<Stage>>);

/// A line split into the name of its build and its text.
#[derive(Debug, PartialEq)]
pub struct Said<'a> {
    pub build: &'a str,
    pub text: &'a str,
}

impl Builds {
    pub fn learn(&mut self, build: &str) {
        if !build.is_empty() && !self.0.contains_key(build) {
            self.0.insert(build.to_owned(), None);
        }
    }

    pub fn stage(&self, build: &str) -> Option<Stage> {
        self.0.get(build).copied().flatten()
    }

    /// Splits a line into the name of its build and its text. If several known names match, the longest one is used.
    /// The name of an unknown build ends where a known text begins, else at the first colon.
    pub fn split<'a>(&self, line: &'a str) -> Option<Said<'a>> {
        let arrow = ["==> ", "--> ", "    "].iter().find_map(|arrow| line.strip_prefix(arrow))?;
        let known = self.0.keys().rev().filter_map(|name| {
            let text = arrow.strip_prefix(name.as_str())?.strip_prefix(": ")?;
            Some(Said { build: &arrow[..name.len()], text })
        });
        let longest = known.max_by_key(|said| said.build.len());
        longest.or_else(|| {
            let at = |(at, _): (usize, &str)| Said { build: &arrow[..at], text: &arrow[at + 2..] };
            let mut all = arrow.match_indices(": ").map(at);
            let first = all.next()?;
            let begins = |said: &Said<'_>| is_known_text(said.text);
            Some(if begins(&first) { first } else { all.find(begins).unwrap_or(first) })
        })
    }

    /// Updates the state of the provisioners if the line indicates a change.
    pub fn follow(&mut self, said: &Said<'_>) {
        let begins = |leads: &[&str]| leads.iter().any(|lead| said.text.starts_with(lead));
        let stage = match self.stage(said.build) {
            _ if begins(&PROVISIONING) => Stage::Running,
            Some(_) if begins(&PROVISIONED) => Stage::Done,
            Some(Stage::Running) if begins(&GIVEN_UP) => Stage::GivenUp,
            _ => return,
        };
        self.0.insert(said.build.to_owned(), Some(stage));
    }

    /// Returns the resource that Packer announces as created, or the region to which it copies. While provisioners run,
    /// their output looks like Packer's own, so nothing is accepted. Resources that Packer creates before it starts the
    /// provisioners are not accepted afterwards either.
    pub fn announced(&self, said: &Said<'_>) -> Option<Resource> {
        let (kind, id) = announcement(said.text)?;
        let stage = self.stage(said.build);
        let is_believed = match kind {
            ResourceKind::Image | ResourceKind::Region => stage != Some(Stage::Running),
            _ => stage.is_none(),
        };
        is_believed.then(|| Resource { kind, id: id.to_owned() })
    }
}

fn is_known_text(text: &str) -> bool {
    announcement(text).is_some() || PROVISIONING.iter().any(|lead| text.starts_with(lead))
}

fn announcement(text: &str) -> Option<(ResourceKind, &str)> {
    let (lead, kind, prefix) = ANNOUNCEMENTS.into_iter().find(|(lead, ..)| text.starts_with(lead))?;
    let id = text[lead.len()..].trim();
    let good = match kind {
        ResourceKind::Region => is_region(id),
        _ if prefix.is_empty() => is_name(id),
        _ => is_id(id, prefix),
    };
    good.then_some((kind, id))
}

pub fn is_region(text: &str) -> bool {
    text.contains('-')
        && text.len() <= LONGEST_REGION
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Twice the length of the longest region name.
const LONGEST_REGION: usize = 32;

pub fn is_id(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    (8..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A template may set the name of a key pair or security group; AWS allows 255 characters.
fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(char::is_whitespace)
}
