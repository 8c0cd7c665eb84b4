//! One file of a commit → the drafts of our objects in it, and everything that is to be said of it. Pure.
//!
//! A file that mentions us and cannot be read is an error: what it holds is not known, so nothing may be
//! pruned. A file that does not mention us is another tool's.

use crate::api::files::{POINTER, is_pointer};

use super::check::Finding;
use super::document::{self, Draft};
use super::{ExtraRules, Form, Severity, SourceFile, yaml};

/// Larger than any manifest; a Kubernetes object may have 1.5 MB.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Findings of one file that are kept: more than a person corrects at once.
pub const FINDINGS: usize = 200;
/// A file that cannot be read but has none of these words holds none of our objects.
const OUR_WORDS: [&str; 3] = ["ami.opsy.dev", "PackerBuilder", "AMIRefresher"];
/// What helps where a file is none of ours.
const REMEDY: &str = "if it is not meant for Opsy, list it in .opsyignore";
/// Fields that hold a template's action in no manifest of ours.
const IDENTITY: [&str; 4] = ["apiVersion:", "kind:", "name:", "namespace:"];

/// What a file holds, whatever the settings and its neighbours are.
#[derive(Default)]
pub struct File {
    /// It mentions our API group or kinds.
    pub is_ours: bool,
    /// It has lines of a template language where no manifest has any.
    pub is_template: bool,
    pub drafts: Vec<Draft>,
    findings: Vec<Finding>,
    rest: Rest,
    /// Lines that cannot be read of a file that does not mention us, and why: whose they are depends on what it held.
    unread: Vec<(usize, String)>,
}

/// Findings that are not kept.
#[derive(Clone, Debug, Default)]
struct Rest {
    count: usize,
    line: usize,
    has_error: bool,
}

/// Reads a file.
pub fn parse(source: &SourceFile, extra: &ExtraRules) -> File {
    let content = source.content();
    let text = without_nuls(&content);
    let mut file = File {
        is_ours: OUR_WORDS.iter().any(|word| text.contains(word)),
        is_template: text.lines().any(is_template_line),
        ..File::default()
    };
    if let Some(why) = unreadable(&source.form, &content, &text) {
        file.add(why);
        return file;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let stream = yaml::parse(text);
    for (line, words) in stream.broken {
        file.add(Unread::Text(line, format!("is not valid YAML: {words}")));
    }
    for parsed in &stream.documents {
        let contents = document::read(parsed, extra);
        file.drafts.extend(contents.drafts);
        file.findings.extend(contents.findings);
    }
    gather_foreign(&mut file.findings);
    file.rest.cut(&mut file.findings, FINDINGS);
    file
}

/// Why something cannot be read.
enum Unread {
    /// Its content is not known.
    Content(String),
    /// The line of a text, and what is wrong with it.
    Text(usize, String),
}

impl File {
    /// Notes what cannot be read: an error where our objects may be lost.
    fn add(&mut self, unread: Unread) {
        match unread {
            Unread::Content(why) => self.findings.push(lost(1, &why)),
            Unread::Text(line, why) if self.is_ours => self.findings.push(lost(line, &why)),
            Unread::Text(line, why) => self.unread.push((line, why)),
        }
    }

    /// The findings about the file, which held one of our objects before or not; at most `most`, and how many more
    /// there are.
    pub fn findings(&self, held: bool, most: usize) -> Vec<Finding> {
        let unread = self.unread.iter().map(|(line, why)| match held {
            true => lost(*line, why),
            false => Finding::foreign(*line, format!("{why}; it does not mention ami.opsy.dev: ignored")),
        });
        let (mut findings, mut rest) = (self.findings.clone(), self.rest.clone());
        findings.extend(unread.take(if held { self.unread.len() } else { 1 }));
        rest.cut(&mut findings, most);
        findings.extend(rest.finding());
        findings
    }

    /// Is anything of it an error, whatever it held before?
    pub fn has_error(&self) -> bool {
        self.rest.has_error || self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// How many findings are kept of it.
    pub fn kept(&self) -> usize {
        self.findings.len() + self.unread.len()
    }
}

impl Rest {
    /// Takes the findings that are too many.
    fn cut(&mut self, findings: &mut Vec<Finding>, most: usize) {
        if findings.len() <= most {
            return;
        }
        let cut = findings.split_off(most);
        self.count += cut.len();
        self.line = cut.first().map_or(1, |finding| finding.line);
        self.has_error |= cut.iter().any(|finding| finding.severity == Severity::Error);
    }

    /// One finding for all of them.
    fn finding(&self) -> Option<Finding> {
        let words = format!("and {} more", self.count);
        match (self.count, self.has_error) {
            (0, _) => None,
            (_, true) => Some(Finding::error(self.line, words)),
            (_, false) => Some(Finding::note(self.line, words)),
        }
    }
}

/// Keeps one finding for all documents of other tools: a file of a megabyte may have a hundred thousand.
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

/// Our objects may be lost.
fn lost(line: usize, why: &str) -> Finding {
    Finding::error(line, format!("{why}; {REMEDY}"))
}

/// Why a file is not even looked into.
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
            "is UTF-16 or has zero bytes: save it as UTF-8".to_owned()
        }
        Form::File if str::from_utf8(content).is_err() => "is not UTF-8 text: save it as UTF-8".to_owned(),
        Form::File if text.len() > MAX_FILE_BYTES => {
            format!("has more than {MAX_FILE_BYTES} bytes and is not read")
        }
        Form::File => return None,
    };
    Some(Unread::Text(1, why))
}

/// The text, without the zero bytes by which UTF-16 and UTF-32 separate letters.
fn without_nuls(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    if text.contains('\0') { text.replace('\0', "") } else { text.into_owned() }
}

/// Does a line begin with a template's action, or name an object by one?
fn is_template_line(line: &str) -> bool {
    let line = line.trim_start();
    let value = IDENTITY.iter().find_map(|field| line.strip_prefix(field)).unwrap_or(line);
    let value = value.trim_start().trim_start_matches(['"', '\'']);
    value.starts_with("{{") || value.starts_with("{%")
}
