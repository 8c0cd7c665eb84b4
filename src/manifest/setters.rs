//! Setters: values in files of other tools that Opsy keeps equal to the active images, such as an AMI ID in a Terraform
//! file. Pure: `publish` reads the files and commits the edits.
//!
//! ```text
//! opsy.yaml ─Selection─> SetterFile ─yaml, hcl, json─> places ─Reference::find─> values ─> edited bytes
//! ```
//! A place is a value with a marker in the comment behind it, `# {"$opsy": "default/eks-node:us-east-1:x86_64"}`, or the
//! value at a JSON pointer that `opsy.yaml` names. Only the bytes of the value change; quotes, comments, layout and line
//! ends stay. A file with an error is left as it is.

mod file;
mod hcl;
mod json;
mod reference;
mod selection;
mod yaml;

use std::ops::Range;

use super::{Problem, Severity};
pub use file::{Selected, SetterEdit, SetterFile};
pub use reference::{Field, Found, Reference};
pub use selection::{Format, Selection};

/// Files with more bytes are not edited: no file that people edit is nearly as large.
const MAX_BYTES: usize = 1024 * 1024;
/// The key of a marker.
const KEY: &str = "$opsy";

/// What is wrong with a setter, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetterProblem {
    pub line: usize,
    pub message: String,
}

impl SetterProblem {
    /// Returns the problem of a file.
    pub fn of(self, file: &str) -> Problem {
        let Self { line, message } = self;
        Problem { file: file.to_owned(), line: Some(line), message, severity: Severity::Error }
    }
}

/// How a value is written, so that another one is written in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    YamlPlain,
    YamlSingle,
    YamlDouble,
    Hcl,
    Json,
}

/// A value in a file, with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    line: usize,
    bytes: Range<usize>,
    style: Style,
    reference: Reference,
}

/// The places of a file, or all that is wrong with them.
type Places = Result<Vec<Place>, Vec<SetterProblem>>;

/// Returns what the setters of a file refer to, each with its line.
///
/// # Errors
/// A marker or a value is not valid.
fn references(
    content: &[u8],
    format: &Format,
    namespace: &str,
) -> Result<Vec<(usize, Reference)>, Vec<SetterProblem>> {
    let places = places(text(content)?, format, namespace)?;
    Ok(places.into_iter().map(|place| (place.line, place.reference)).collect())
}

/// A file with new values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edited {
    pub content: Vec<u8>,
    /// Values that stay although they name an image that must not be named.
    pub withheld: Vec<SetterProblem>,
}

/// Returns the file with the values that `find` returns.
///
/// # Errors
/// A marker or a value is not valid, or refers to an image that does not exist.
pub fn edit(
    content: &[u8],
    format: &Format,
    namespace: &str,
    find: &dyn Fn(&Reference) -> Found,
) -> Result<Edited, Vec<SetterProblem>> {
    let text = text(content)?;
    let mut edited = text.to_owned();
    let (mut problems, mut withheld) = (Vec::new(), Vec::new());
    // From the end, so that the places before stay where they are.
    for place in places(text, format, namespace)?.into_iter().rev() {
        match find(&place.reference) {
            Found::Value(value) => edited.replace_range(place.bytes, &written(place.style, &value)),
            Found::Withheld(value) if text[place.bytes.clone()] == written(place.style, &value) => {
                withheld.push(problem(place.line, still_names(&value)));
            }
            Found::Pending | Found::Withheld(_) => {}
            Found::Nothing(message) => problems.push(problem(place.line, message)),
        }
    }
    problems.reverse();
    withheld.reverse();
    if problems.is_empty() { Ok(Edited { content: edited.into_bytes(), withheld }) } else { Err(problems) }
}

fn still_names(value: &str) -> String {
    format!(
        "still names {value}, an image that is held or whose rollout failed, and no earlier image can be named \
         instead: name another one, or release the hold"
    )
}

fn text(content: &[u8]) -> Result<&str, Vec<SetterProblem>> {
    str::from_utf8(content).map_err(|_| vec![problem(1, "is not UTF-8 text".to_owned())])
}

fn places(text: &str, format: &Format, namespace: &str) -> Places {
    match format {
        // Other tools have files that are no YAML, such as templates of Helm.
        Format::Yaml | Format::Hcl if !text.contains(KEY) => Ok(Vec::new()),
        Format::Yaml => marked(yaml::find(text).map_err(|problem| vec![problem])?, namespace),
        Format::Hcl => marked(hcl::find(text), namespace),
        Format::Json(values) => json::find(text, values),
    }
}

/// A marker, and the value before it in its line.
struct Marked {
    line: usize,
    /// The marker as written.
    marker: String,
    /// `Err` states why there is no value that can be edited.
    value: Result<(Range<usize>, Style), &'static str>,
}

fn marked(found: Vec<Marked>, namespace: &str) -> Places {
    let (mut places, mut problems) = (Vec::new(), Vec::new());
    for Marked { line, marker, value } in found {
        match (Reference::of_marker(&marker, namespace), value) {
            (Ok(reference), Ok((bytes, style))) => places.push(Place { line, bytes, style, reference }),
            (Err(message), _) => problems.push(problem(line, message)),
            (_, Err(message)) => problems.push(problem(line, message.to_owned())),
        }
    }
    if problems.is_empty() { Ok(places) } else { Err(problems) }
}

fn problem(line: usize, message: String) -> SetterProblem {
    SetterProblem { line, message }
}

/// Returns the marker in a comment, without the characters that start the comment.
fn marker(comment: &str) -> Option<&str> {
    let comment = comment.trim();
    let key = comment.strip_prefix('{')?.trim_start().strip_prefix('"')?;
    key.starts_with(KEY).then_some(comment)
}

/// Returns a value with its quotes.
fn written(style: Style, value: &str) -> String {
    match style {
        Style::YamlPlain if yaml::is_plain(value) => value.to_owned(),
        Style::YamlSingle => format!("'{}'", value.replace('\'', "''")),
        Style::Hcl => json::string(value).replace("${", "$${").replace("%{", "%%{"),
        Style::YamlPlain | Style::YamlDouble | Style::Json => json::string(value),
    }
}

#[cfg(test)]
mod tests;
