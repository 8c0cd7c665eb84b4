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
/// Problems of one file that are said: more than a person mends before the next look.
const FINDINGS: usize = 200;
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
    pub findings: Vec<Finding>,
    /// Lines that cannot be read of a file that does not mention us, and why: whose they are depends on what it held.
    pub unread: Vec<(usize, String)>,
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
    file.shorten();
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
    /// Cuts what is to be said: a file of a megabyte may be wrong a hundred thousand times.
    fn shorten(&mut self) {
        if self.findings.len() <= FINDINGS {
            return;
        }
        let rest = self.findings.split_off(FINDINGS);
        let words = format!("and {} more", rest.len());
        let line = rest.first().map_or(1, |finding| finding.line);
        let is_error = rest.iter().any(|finding| finding.severity == Severity::Error);
        self.findings.push(if is_error { Finding::error(line, words) } else { Finding::note(line, words) });
    }

    /// Notes what cannot be read: an error where our objects may be lost.
    fn add(&mut self, unread: Unread) {
        match unread {
            Unread::Content(why) => self.findings.push(lost(1, &why)),
            Unread::Text(line, why) if self.is_ours => self.findings.push(lost(line, &why)),
            Unread::Text(line, why) => self.unread.push((line, why)),
        }
    }

    /// What is to be said of the file, which held one of our objects before or not.
    pub fn said(&self, held: bool) -> impl Iterator<Item = Finding> {
        let unread = self.unread.iter().map(move |(line, why)| match held {
            true => lost(*line, why),
            false => Finding::foreign(*line, format!("{why}; it does not mention ami.opsy.dev: ignored")),
        });
        self.findings.iter().cloned().chain(unread)
    }
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
