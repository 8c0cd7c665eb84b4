//! Reads one file of a commit: the drafts of our objects in it, and findings. Pure.
//!
//! A file that mentions Opsy and cannot be read is an error: its objects are not known, so nothing may be pruned. A
//! file that does not mention Opsy belongs to another tool.

use std::borrow::Cow;

use crate::api::files::{POINTER, is_pointer};

use super::check::Finding;
use super::document::{self, Draft};
use super::{Form, Rules, Severity, SourceFile, yaml};

/// Maximum size of a file: no manifest is as large.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Maximum number of findings that are kept per file: more than a person corrects at once.
pub const FINDINGS: usize = 200;
/// An unreadable file with none of these strings contains no objects of Opsy.
const OUR_WORDS: [&str; 3] = ["ami.opsy.dev", "PackerBuilder", "AMIRefresher"];
/// The remedy if a file does not belong to Opsy.
const REMEDY: &str = "if it is not meant for Opsy, list it in .opsyignore";
/// Fields that never contain a template action in a manifest of Opsy.
const IDENTITY: [&str; 4] = ["apiVersion:", "kind:", "name:", "namespace:"];

/// The contents of a file, independent of other files.
#[derive(Default)]
pub struct File {
    /// It mentions the API group or the kinds of Opsy.
    pub is_ours: bool,
    /// It is ours, has an error, and has lines of a template language where a manifest has none.
    pub is_template: bool,
    pub drafts: Vec<Draft>,
    findings: Vec<Finding>,
    rest: Rest,
    /// Unreadable lines of a file that does not mention Opsy, with the reason. Whether they are errors depends on what
    /// the file contained before.
    unread: Vec<(usize, String)>,
}

/// A summary of the findings that are not kept.
#[derive(Clone, Debug, Default)]
struct Rest {
    count: usize,
    line: usize,
    has_error: bool,
}

/// Reads a file.
pub fn parse(source: &SourceFile, rules: &Rules<'_>) -> File {
    let content = source.content();
    let text = without_nuls(&content);
    let is_ours = OUR_WORDS.iter().any(|word| text.contains(word));
    let mut file = File { is_ours, ..File::default() };
    file.read(source, (&content, &text), rules);
    // It is asked only of such a file.
    file.is_template = file.is_ours && file.has_error() && text.lines().any(is_template_line);
    file
}

impl File {
    /// Reads the content of the file, which is also given as text.
    fn read(&mut self, source: &SourceFile, (content, text): (&[u8], &str), rules: &Rules<'_>) {
        if let Some(why) = unreadable(&source.form, content, text) {
            self.add(why);
            return;
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let stream = yaml::parse(text);
        for (line, words) in stream.broken {
            self.add(Unread::Text(line, format!("is not valid YAML: {words}")));
        }
        for parsed in &stream.documents {
            let contents = document::read(parsed, rules);
            self.drafts.extend(contents.drafts);
            self.findings.extend(contents.findings);
        }
        gather_foreign(&mut self.findings);
        self.rest.cut(&mut self.findings, FINDINGS);
        // Files are kept from commit to commit, and most have one object: a vector has room for four at first.
        self.drafts.shrink_to_fit();
        self.findings.shrink_to_fit();
    }
}

/// Why something cannot be read.
enum Unread {
    /// The content is not known.
    Content(String),
    /// The line, and why it cannot be read.
    Text(usize, String),
}

impl File {
    /// A file without findings.
    pub fn plain(is_ours: bool, mut drafts: Vec<Draft>) -> Self {
        drafts.shrink_to_fit();
        Self { is_ours, drafts, ..Self::default() }
    }

    /// Records what cannot be read. It is an error if objects of Opsy may be lost.
    fn add(&mut self, unread: Unread) {
        match unread {
            Unread::Content(why) => self.findings.push(lost(1, &why)),
            Unread::Text(line, why) if self.is_ours => self.findings.push(lost(line, &why)),
            Unread::Text(line, why) => self.unread.push((line, why)),
        }
    }

    /// Returns at most `most` findings about the file, and a summary of the others. `is_known` returns whether the file
    /// contained one of our objects before.
    pub fn findings(&self, is_known: impl FnOnce() -> bool, most: usize) -> Vec<Finding> {
        let is_known = !self.unread.is_empty() && is_known();
        let unread = self.unread.iter().map(|(line, why)| match is_known {
            true => lost(*line, why),
            false => Finding::foreign(*line, format!("{why}; it does not mention ami.opsy.dev: ignored")),
        });
        let (mut findings, mut rest) = (self.findings.clone(), self.rest.clone());
        findings.extend(unread.take(if is_known { self.unread.len() } else { 1 }));
        rest.cut(&mut findings, most);
        findings.extend(rest.finding());
        findings
    }

    /// Returns whether the file has an error, whatever it contained before.
    pub fn has_error(&self) -> bool {
        self.rest.has_error || self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Returns whether there is anything to report about the file.
    pub fn has_findings(&self) -> bool {
        self.kept() > 0 || self.rest.count > 0
    }

    /// Returns the number of findings that are kept.
    pub fn kept(&self) -> usize {
        self.findings.len() + self.unread.len()
    }
}

impl Rest {
    /// Removes the findings beyond `most` and summarizes them.
    fn cut(&mut self, findings: &mut Vec<Finding>, most: usize) {
        if findings.len() <= most {
            return;
        }
        let cut = findings.split_off(most);
        self.count += cut.len();
        self.line = cut.first().map_or(1, |finding| finding.line);
        self.has_error |= cut.iter().any(|finding| finding.severity == Severity::Error);
    }

    /// Returns one finding for all of them.
    fn finding(&self) -> Option<Finding> {
        let words = format!("and {} more", self.count);
        match (self.count, self.has_error) {
            (0, _) => None,
            (_, true) => Some(Finding::error(self.line, words)),
            (_, false) => Some(Finding::note(self.line, words)),
        }
    }
}

/// Keeps one finding for all documents of other tools: a file of a megabyte may contain a hundred thousand of them.
fn gather_foreign(findings: &mut Vec<Finding>) {
    let is_foreign = |finding: &Finding| finding.severity == Severity::Foreign;
    let more = findings.iter().filter(|finding| is_foreign(finding)).count().saturating_sub(1);
    let mut is_first = true;
    findings.retain_mut(|finding| {
        let keep = !is_foreign(finding) || is_first;
        if is_foreign(finding) && std::mem::take(&mut is_first) && more > 0 {
            finding.message += &format!(", and {more} more in this file");
        }
        keep
    });
}

/// Returns the error for a file whose objects may be lost.
fn lost(line: usize, why: &str) -> Finding {
    Finding::error(line, format!("{why}; {REMEDY}"))
}

/// Returns why a file is not parsed at all.
fn unreadable(form: &Form, content: &[u8], text: &str) -> Option<Unread> {
    let why = match form {
        Form::Unknown(why) => return Some(Unread::Content(why.clone())),
        Form::Unfit(why) => why.clone(),
        Form::File if is_pointer(content) => {
            return Some(Unread::Content(POINTER.to_owned()));
        }
        Form::File
            if content.contains(&0)
                || content.starts_with(b"\xff\xfe")
                || content.starts_with(b"\xfe\xff") =>
        {
            "is UTF-16 or contains zero bytes: save it as UTF-8".to_owned()
        }
        Form::File if str::from_utf8(content).is_err() => "is not UTF-8 text: save it as UTF-8".to_owned(),
        Form::File if text.len() > MAX_FILE_BYTES => {
            format!("has more than {MAX_FILE_BYTES} bytes and is not read")
        }
        Form::File => return None,
    };
    Some(Unread::Text(1, why))
}

/// Returns the text without the zero bytes that UTF-16 and UTF-32 put between letters.
fn without_nuls(content: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(content);
    if text.contains('\0') { text.replace('\0', "").into() } else { text }
}

/// Returns whether a line begins with a template action, or uses one to name an object.
fn is_template_line(line: &str) -> bool {
    let line = line.trim_start();
    let value = IDENTITY.iter().find_map(|field| line.strip_prefix(field)).unwrap_or(line);
    let value = value.trim_start().trim_start_matches(['"', '\'']);
    value.starts_with("{{") || value.starts_with("{%")
}
