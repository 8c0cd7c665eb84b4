//! Which files of a commit a build gets, and which of them are its inputs. Pure; `opsy validate` asks the same.
//!
//! - Inputs, a change of which rebuilds: what the template arguments, `dir`, the variables files and
//!   `builder.inputs` name. Of a template at the repository's root with `builder.inputs`, only the Packer files
//!   there and those inputs. Never Opsy's own files.
//! - Laid out beside them: the rest of the folder of each template.

use std::collections::BTreeSet;
use std::fmt;

use super::super::tree::{Listing, is_within, plain, prefixes};
use super::TemplateQuery;
use super::links::{Files, Picker};
use crate::api::glob::Matcher;

/// What makes a folder a Packer template.
const TEMPLATES: [&str; 2] = [".pkr.hcl", ".pkr.json"];
/// Variables that Packer reads from a template's folder by itself.
const AUTO_VARIABLES: [&str; 2] = [".auto.pkrvars.hcl", ".auto.pkrvars.json"];

/// Opsy's own files of a commit, which are inputs of nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Folder of the status files, from the root; `""` where there is none.
    pub status: String,
    /// Manifests and settings, from the root.
    pub files: BTreeSet<String>,
}

impl Own {
    fn has(&self, path: &str) -> bool {
        is_within(path, &self.status) || self.files.contains(path) || is_ignore_file(path)
    }
}

/// The files of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub inputs: Files,
    /// Laid out beside the inputs; what cannot be is left out.
    pub beside: Files,
}

/// What of a query a problem is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Template,
    Dir,
    VarFile,
    Input,
}

/// Why a query names no files that a build could have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub part: Part,
    /// The path or glob, as the query has it.
    pub name: String,
    pub why: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// The files a query names, or all that is wrong with it.
pub fn choose(listing: &Listing, query: &TemplateQuery, own: &Own) -> Result<Choice, Vec<Trouble>> {
    let left_out = |path: &str| own.has(path);
    let mut inputs = Picker::new(listing, &left_out, true);
    let mut troubles = Vec::new();
    let mut check = |part: Part, name: &str, result: Result<(), String>| {
        let trouble = |why| Trouble { part, name: name.to_owned(), why };
        troubles.extend(result.err().map(trouble));
    };
    for template in query.templates() {
        check(Part::Template, template, add_template(&mut inputs, template, !query.inputs.is_empty()));
    }
    if let Some(dir) = &query.dir {
        check(Part::Dir, dir, add_named(&mut inputs, "folder", dir));
    }
    for file in &query.var_files {
        check(Part::VarFile, file, add_var_file(&mut inputs, file));
    }
    for glob in &query.inputs {
        check(Part::Input, glob, add_glob(&mut inputs, glob, &left_out));
    }
    let inputs = inputs.files;
    if troubles.is_empty() {
        Ok(Choice { beside: beside(listing, query, own, &inputs)?, inputs })
    } else {
        Err(troubles)
    }
}

/// What is laid out although it is no input: the folders of the templates, and everything where that is asked.
fn beside(
    listing: &Listing,
    query: &TemplateQuery,
    own: &Own,
    inputs: &Files,
) -> Result<Files, Vec<Trouble>> {
    let is_status = |path: &str| is_within(path, &own.status);
    let mut picker = Picker::new(listing, &is_status, false);
    let mut folders: Vec<String> = query.templates().map(|template| folder(inputs, template)).collect();
    folders.extend(query.whole.then(String::new));
    for folder in folders {
        let trouble = |why| vec![Trouble { part: Part::Template, name: query.template.clone(), why }];
        picker.pick(&folder).map_err(trouble)?;
    }
    picker.files.retain(|path, _| !inputs.contains_key(path));
    Ok(picker.files)
}

/// The folder of a template: itself, or where the file is.
fn folder(inputs: &Files, template: &str) -> String {
    let place = plain(template).unwrap_or_default();
    match place.rsplit_once('/') {
        _ if !inputs.contains_key(&place) => place,
        Some((folder, _)) => folder.to_owned(),
        None => String::new(),
    }
}

fn add_template(picker: &mut Picker<'_>, template: &str, is_narrowed: bool) -> Result<(), String> {
    let place = place("template", template)?;
    if place.is_empty() && is_narrowed {
        let at_root = |path: &&str| !path.contains('/') && is_packers(path);
        for path in picker.listing.iter().map(|(path, _)| path).filter(at_root).collect::<Vec<_>>() {
            picker.pick(path)?;
        }
    } else if !picker.pick(&place)? {
        return Err(absent(picker, "template", template, &place));
    }
    let prefix = if place.is_empty() { String::new() } else { format!("{place}/") };
    let is_template = |path: &String| {
        let name = path.strip_prefix(&prefix).filter(|name| !name.contains('/'));
        name.is_some_and(|name| TEMPLATES.iter().any(|end| name.ends_with(end)))
    };
    if picker.files.contains_key(&place) || picker.files.keys().any(is_template) {
        return Ok(());
    }
    Err(format!("template {template:?} holds no Packer template (*.pkr.hcl, *.pkr.json)"))
}

fn add_named(picker: &mut Picker<'_>, what: &str, name: &str) -> Result<(), String> {
    let place = place(what, name)?;
    if picker.pick(&place)? { Ok(()) } else { Err(absent(picker, what, name, &place)) }
}

fn add_var_file(picker: &mut Picker<'_>, file: &str) -> Result<(), String> {
    add_named(picker, "variables file", file)?;
    let is_file = picker.files.contains_key(&place("variables file", file)?);
    if is_file { Ok(()) } else { Err(format!("variables file {file:?} is a folder")) }
}

fn add_glob(picker: &mut Picker<'_>, glob: &str, left_out: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let matcher = Matcher::new(glob.trim_start_matches("./").trim_end_matches('/'))
        .map_err(|why| format!("input {glob:?} is not a valid glob: {why}"))?;
    // A glob that names a folder means everything in it.
    let named = |path: &&str| prefixes(path).any(|part| matcher.is_match(part));
    let paths: Vec<&str> = picker.listing.iter().map(|(path, _)| path).filter(named).collect();
    if paths.is_empty() {
        return Err(format!("input {glob:?} matches nothing in the repository"));
    }
    for path in paths.into_iter().filter(|path| !left_out(path)) {
        if !picker.pick(path)? {
            return Err(format!("{path} is a link to nothing in the repository"));
        }
    }
    Ok(())
}

fn place(what: &str, name: &str) -> Result<String, String> {
    plain(name).ok_or_else(|| format!("{what} {name:?} leaves the repository"))
}

fn absent(picker: &Picker<'_>, what: &str, name: &str, place: &str) -> String {
    if picker.listing.is_ignored(place) {
        return format!("{what} {name:?} is left out by .opsyignore");
    }
    format!("{what} {name:?} does not exist in the repository")
}

fn is_packers(name: &str) -> bool {
    TEMPLATES.iter().chain(&AUTO_VARIABLES).any(|end| name.ends_with(end))
}

fn is_ignore_file(path: &str) -> bool {
    path.rsplit('/').next() == Some(super::super::ignore::FILE)
}
