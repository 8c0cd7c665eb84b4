//! Packer's texts for people, as far as they are understood: which build a line is of, the resources and regions that
//! it announces, and where provisioners begin and end. Pure; `tally` keeps the result.
//!
//! A line is `==> build: text`, in older versions also `    build: text`. A build's name may hold any character, so
//! that a name is known only from a line whose text is known.

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
/// From here on a build prints what its provisioners print.
const PROVISIONING: [&str; 3] = ["Provisioning with ", "Connected to ", "Running local shell script: "];
/// The provisioners are done.
const PROVISIONED: [&str; 5] = [
    "Stopping the source instance",
    "Creating AMI ",
    "Creating snapshot",
    "Unmounting ",
    "Registering the AMI",
];
/// The provisioners are not done, and never will be.
const GIVEN_UP: [&str; 3] =
    ["Provisioning step had errors", "Terminating the source AWS instance", "Cleaning up any extra volumes"];

/// How far a build's provisioners are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    Done,
    GivenUp,
}

/// The builds that have been heard of.
#[derive(Debug, Default)]
pub struct Builds(BTreeMap<String, Option<Stage>>);

/// A line of a build.
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

    /// The build that a line is of, and its text. Of two known builds the longer name counts. Of an unknown build,
    /// the name ends where a known text begins, else at the first colon.
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

    /// Takes in how far the provisioners are, where a line says so.
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

    /// A resource that Packer says it made, or a region it copies to. While a build's provisioners run, their output
    /// looks just like Packer's: nothing is believed. Of the kinds made before that, nothing is believed afterwards.
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

/// Twice the longest there is.
const LONGEST_REGION: usize = 32;

pub fn is_id(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    (8..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A key pair or security group may be named by the template; AWS allows 255 characters.
fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(char::is_whitespace)
}
