//! What Packer's output says: artifacts, errors, announced resources, and the line a person reads.
//! Pure, one line at a time. Only machine-readable lines count as facts; prose never does.

use std::collections::{BTreeSet, VecDeque};

use crate::request::{Artifact, Resource, ResourceKind};

/// Errors kept while reading; the report keeps the newest that fit.
const MOST_ERRORS: usize = 40;
/// One error is cut here; a template error with its excerpt fits.
const LONGEST_ERROR: usize = 1200;
/// Last lines kept for a Packer that ends without naming an error (a crash, a usage text).
const TAIL: usize = 5;
/// Announced resources kept: a build of one source names five.
const MOST_RESOURCES: usize = 200;
/// What a status shows of the newest line.
const LONGEST_PROGRESS: usize = 200;

/// One line of Packer's standard output or error.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// Text for people.
    Say(String),
    /// Text for people in red: also everything a provisioner prints to its standard error.
    Complain(String),
    /// Why a build failed.
    BuildError { build: String, message: String },
    /// `region:image` pairs, or anything else another builder calls its artifact.
    ArtifactId { build: String, id: String },
    /// Counts and other lines nobody needs.
    Machine,
    /// Not machine-readable: a crash, a log on standard error.
    Plain(String),
}

/// Reads one line of standard output: `time,target,type,data…`.
pub fn parse(raw: &str) -> Line {
    let mut fields = raw.trim_end_matches(['\r', '\n']).split(',');
    let (Some(time), Some(target), Some(kind)) = (fields.next(), fields.next(), fields.next()) else {
        return plain(raw);
    };
    if time.is_empty() || !time.bytes().all(|b| b.is_ascii_digit()) {
        return plain(raw);
    }
    let data: Vec<String> = fields.map(unescape).collect();
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    match (kind, data.as_slice()) {
        ("ui", ["error", text]) => Line::Complain(readable(text)),
        ("ui", [_, text]) => Line::Say(readable(text)),
        ("error", [message]) => Line::BuildError { build: target.to_owned(), message: readable(message) },
        ("artifact", [_, "id", id]) => Line::ArtifactId { build: target.to_owned(), id: (*id).to_owned() },
        _ => Line::Machine,
    }
}

/// A line that is text whatever it looks like.
pub fn plain(raw: &str) -> Line {
    Line::Plain(readable(raw.trim_end_matches(['\r', '\n'])))
}

fn unescape(field: &str) -> String {
    field.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n").replace("\\r", "\r")
}

/// Without terminal control sequences: remote commands colour their output.
fn readable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next_if_eq(&'[').is_some() {
                    while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                    chars.next();
                }
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// What one Packer command has said so far.
#[derive(Debug, Default)]
pub struct Tally {
    artifacts: Vec<Artifact>,
    resources: Vec<Resource>,
    errors: VecDeque<String>,
    tail: VecDeque<String>,
    provisioning: BTreeSet<String>,
    /// The newest line for people; a debug log on standard error is none.
    pub progress: String,
}

/// What one line added.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    /// For the log, masked.
    pub text: Option<String>,
    pub resource: Option<Resource>,
}

impl Tally {
    /// Takes in a line. Ids are read before masking, so that a secret that happens to be a region
    /// does not hide an image; they are checked to be ids. All text is masked.
    pub fn hear(&mut self, line: Line, mask: &dyn Fn(&str) -> String) -> Heard {
        match line {
            Line::ArtifactId { build, id } => {
                self.artifact(&build, &id);
                Heard::default()
            }
            Line::BuildError { build, message } => {
                self.error(&mask(&message));
                Heard { text: Some(mask(&format!("{build}: {message}"))), resource: None }
            }
            Line::Complain(text) => {
                let masked = mask(&text);
                self.error(&masked);
                self.said(&masked);
                Heard { text: Some(masked), resource: None }
            }
            Line::Say(text) => {
                let resource = self.announced(&text);
                let masked = mask(&text);
                self.said(&masked);
                Heard { text: Some(masked), resource }
            }
            Line::Plain(text) => {
                let masked = mask(&text);
                self.keep_tail(&masked);
                Heard { text: Some(masked), resource: None }
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

    /// Packer's errors, newest last; its last words when it named none.
    pub fn errors(&self) -> Vec<String> {
        let said = if self.errors.is_empty() { &self.tail } else { &self.errors };
        said.iter().cloned().collect()
    }

    fn artifact(&mut self, build: &str, id: &str) {
        for (region, image) in id.split(',').filter_map(|pair| pair.split_once(':')) {
            let known = self.artifacts.iter().any(|a| a.region == region && a.image == image);
            if is_region(region) && is_id(image, "ami-") && !known {
                let (region, image) = (region.to_owned(), image.to_owned());
                self.artifacts.push(Artifact { region, image, build: build.to_owned() });
            }
        }
    }

    fn error(&mut self, text: &str) {
        let text = without_prefix(text.trim());
        let summary = text.starts_with("Some builds didn't complete successfully");
        if text.is_empty() || summary {
            return;
        }
        let text = cut(text, LONGEST_ERROR);
        self.errors.retain(|known| *known != text);
        push(&mut self.errors, text, MOST_ERRORS);
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

    /// A resource that Packer says it made. Once a build's provisioners run, their output looks
    /// just like Packer's, so of the kinds made before that, nothing is believed any more.
    fn announced(&mut self, text: &str) -> Option<Resource> {
        let (build, text) = build_and_text(text)?;
        if text.starts_with("Provisioning with ") || text.starts_with("Connected to ") {
            self.provisioning.insert(build.to_owned());
        }
        let (kind, id) = announcement(text)?;
        let resource = Resource { kind, id: id.to_owned() };
        let late = self.provisioning.contains(build) && kind != ResourceKind::Image;
        if late || self.resources.contains(&resource) || self.resources.len() >= MOST_RESOURCES {
            return None;
        }
        self.resources.push(resource.clone());
        Some(resource)
    }
}

const ANNOUNCEMENTS: [(&str, ResourceKind, &str); 5] = [
    ("Creating temporary keypair: ", ResourceKind::KeyPair, ""),
    ("Creating temporary security group for this instance: ", ResourceKind::SecurityGroup, ""),
    ("Instance ID: ", ResourceKind::Instance, "i-"),
    ("AMI: ", ResourceKind::Image, "ami-"),
    ("Volume ID: ", ResourceKind::Volume, "vol-"),
];

fn announcement(text: &str) -> Option<(ResourceKind, &str)> {
    let (lead, kind, prefix) = ANNOUNCEMENTS.into_iter().find(|(lead, ..)| text.starts_with(lead))?;
    let id = text[lead.len()..].trim();
    (if prefix.is_empty() { is_name(id) } else { is_id(id, prefix) }).then_some((kind, id))
}

/// `==> build: text`, or with four blanks instead of the arrow.
fn build_and_text(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("==> ").or_else(|| text.strip_prefix("    "))?.split_once(": ")
}

fn without_prefix(text: &str) -> &str {
    let text = text.strip_prefix("==> ").or_else(|| text.strip_prefix("--> ")).unwrap_or(text);
    match text.split_once(": ") {
        Some((build, rest)) if build.contains('.') && !build.contains(' ') => rest.trim_start(),
        _ => text,
    }
}

fn is_region(text: &str) -> bool {
    text.contains('-') && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_id(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    (8..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A key pair or security group may be named by the template; AWS allows 255 characters.
fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(char::is_whitespace)
}

fn push(list: &mut VecDeque<String>, text: String, most: usize) {
    if list.len() == most {
        list.pop_front();
    }
    list.push_back(text);
}

/// `text` in at most `most` bytes, its end replaced by an ellipsis where it was cut.
pub fn cut(text: &str, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end])
}

/// Reads one line of a pipe. A line whose end was dropped (`whole` is false) names no artifact.
pub fn read(raw: &[u8], whole: bool, machine: bool) -> Line {
    let text = String::from_utf8_lossy(raw);
    match (machine, whole) {
        (false, _) => plain(&text),
        (true, true) => parse(&text),
        (true, false) => match parse(without_cut_escape(&text)) {
            Line::ArtifactId { .. } => Line::Machine,
            line => line,
        },
    }
}

/// Half an escape at the end would hide where a secret begins.
fn without_cut_escape(text: &str) -> &str {
    const LONGEST_ESCAPE: usize = "%!(PACKER_COMMA)".len();
    match text.rfind(['%', '\\']) {
        Some(at) if text.len() - at < LONGEST_ESCAPE => &text[..at],
        _ => text,
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
