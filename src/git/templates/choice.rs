//! Selects the files of a commit that a build gets, and which of them are its inputs. Pure; also for `opsy validate`.
//!
//! - Inputs, whose change causes a rebuild: the files that the template arguments, `dir`, the variables files and
//!   `builder.inputs` name. For a template at the root of the repository with `builder.inputs`, only the Packer files
//!   at the root and those inputs. Manifests and status files are never inputs.
//! - Companions, which are copied but are not inputs: the other files in the directory of each template.

use std::collections::BTreeSet;
use std::fmt;

use super::TemplateQuery;
use super::links::{Files, Picker};
use crate::api::glob::Matcher;
use crate::api::paths::{is_within, plain, prefixes};
use crate::git::Listing;

/// The suffixes of Packer templates.
const TEMPLATES: [&str; 2] = [".pkr.hcl", ".pkr.json"];
/// The suffixes of variables files that Packer reads automatically from the directory of a template.
const AUTO_VARIABLES: [&str; 2] = [".auto.pkrvars.hcl", ".auto.pkrvars.json"];

/// The files of a commit that belong to Opsy, which are never inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpsyFiles {
    /// The directory of the status files, from the root; `""` if there is none.
    pub status: String,
    /// The paths of manifests and settings, from the root.
    pub files: BTreeSet<String>,
}

impl OpsyFiles {
    fn has(&self, path: &str) -> bool {
        is_within(path, &self.status) || self.files.contains(path) || is_ignore_file(path)
    }
}

/// The files of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub inputs: Files,
    /// The companions: files that are copied with the inputs. Files that cannot be copied are skipped.
    pub companions: Files,
    /// Whether inputs were found through links, so that files outside of the paths of the query are among them.
    pub follows_links: bool,
}

/// The part of a query that has a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Template,
    Dir,
    VarFile,
    Input,
}

/// Why a build cannot have the files of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    pub part: Part,
    /// The path or glob in the query.
    pub name: String,
    pub why: String,
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Returns the files that a query names, or all its problems.
pub fn choose(
    listing: &Listing,
    query: &TemplateQuery,
    opsy_files: &OpsyFiles,
) -> Result<Choice, Vec<TemplateProblem>> {
    let left_out = |path: &str| opsy_files.has(path);
    let mut inputs = Picker::new(listing, &left_out, true);
    let mut problems = Vec::new();
    let mut check = |part: Part, name: &str, result: Result<(), String>| {
        let problem = |why| TemplateProblem { part, name: name.to_owned(), why };
        problems.extend(result.err().map(problem));
    };
    for template in query.templates() {
        check(Part::Template, template, add_template(&mut inputs, template, !query.inputs.is_empty()));
    }
    if let Some(dir) = &query.dir {
        check(Part::Dir, dir, add_named(&mut inputs, "directory", dir));
    }
    for file in &query.var_files {
        check(Part::VarFile, file, add_var_file(&mut inputs, file));
    }
    for glob in &query.inputs {
        check(Part::Input, glob, add_glob(&mut inputs, glob, &left_out));
    }
    let follows_links = inputs.follows_links;
    let inputs = inputs.files;
    if problems.is_empty() {
        Ok(Choice { companions: companions(listing, query, opsy_files, &inputs)?, inputs, follows_links })
    } else {
        Err(problems)
    }
}

/// Returns the companions: the files in the directories of the templates, or everything if the query demands it.
fn companions(
    listing: &Listing,
    query: &TemplateQuery,
    opsy_files: &OpsyFiles,
    inputs: &Files,
) -> Result<Files, Vec<TemplateProblem>> {
    let is_status = |path: &str| is_within(path, &opsy_files.status);
    let mut picker = Picker::new(listing, &is_status, false);
    let mut folders: Vec<String> = query.templates().map(|template| folder(inputs, template)).collect();
    folders.extend(query.whole.then(String::new));
    for folder in folders {
        let problem = |why| vec![TemplateProblem { part: Part::Template, name: query.template.clone(), why }];
        picker.pick(&folder).map_err(problem)?;
    }
    picker.files.retain(|path, _| !inputs.contains_key(path));
    Ok(picker.files)
}

/// Returns the directory of a template: the template itself, or the directory of the file.
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
    Err(format!("template {template:?} contains no Packer template (*.pkr.hcl, *.pkr.json)"))
}

fn add_named(picker: &mut Picker<'_>, what: &str, name: &str) -> Result<(), String> {
    let place = place(what, name)?;
    if picker.pick(&place)? { Ok(()) } else { Err(absent(picker, what, name, &place)) }
}

fn add_var_file(picker: &mut Picker<'_>, file: &str) -> Result<(), String> {
    add_named(picker, "variables file", file)?;
    let is_file = picker.files.contains_key(&place("variables file", file)?);
    if is_file { Ok(()) } else { Err(format!("variables file {file:?} is a directory")) }
}

fn add_glob(picker: &mut Picker<'_>, glob: &str, left_out: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let matcher = matcher(glob).map_err(|why| format!("input {glob:?} is not a valid glob: {why}"))?;
    let named = |path: &&str| is_named(&matcher, path);
    let paths: Vec<&str> = picker.listing.iter().map(|(path, _)| path).filter(named).collect();
    if paths.is_empty() {
        return Err(format!("input {glob:?} matches nothing in the repository"));
    }
    for path in paths.into_iter().filter(|path| !left_out(path)) {
        if !picker.pick(path)? {
            return Err(format!("{path} is a link to a path that does not exist in the repository"));
        }
    }
    Ok(())
}

fn matcher(glob: &str) -> Result<Matcher, String> {
    Matcher::new(glob.trim_start_matches("./").trim_end_matches('/'))
}

/// A glob that matches a directory includes everything in it.
fn is_named(matcher: &Matcher, path: &str) -> bool {
    prefixes(path).any(|part| matcher.is_match(part))
}

/// Returns false if changes of these paths cannot change the inputs of a query, provided that it followed no links. An
/// input that does not exist any more, or a directory that became a file, is among the paths.
pub fn concerns(query: &TemplateQuery, changed: &[String]) -> bool {
    let named =
        query.templates().chain(query.dir.as_deref()).chain(query.var_files.iter().map(String::as_str));
    let places: Option<Vec<String>> = named.map(plain).collect();
    let globs: Result<Vec<Matcher>, String> = query.inputs.iter().map(|glob| matcher(glob)).collect();
    // A query that cannot be read has an error, which depends on no file; it is compared all the same.
    let (Some(places), Ok(globs)) = (places, globs) else { return true };
    let is_at =
        |place: &String, path: &str| place.is_empty() || is_within(path, place) || is_within(place, path);
    changed.iter().any(|path| {
        places.iter().any(|place| is_at(place, path)) || globs.iter().any(|glob| is_named(glob, path))
    })
}

fn place(what: &str, name: &str) -> Result<String, String> {
    plain(name).ok_or_else(|| format!("{what} {name:?} leaves the repository"))
}

fn absent(picker: &Picker<'_>, what: &str, name: &str, place: &str) -> String {
    if picker.listing.is_ignored(place) {
        return format!("{what} {name:?} is excluded by .opsyignore");
    }
    format!("{what} {name:?} does not exist in the repository")
}

fn is_packers(name: &str) -> bool {
    TEMPLATES.iter().chain(&AUTO_VARIABLES).any(|end| name.ends_with(end))
}

/// Returns true for `.opsyignore` files, which can change what any query selects.
pub fn is_ignore_file(path: &str) -> bool {
    path.rsplit('/').next() == Some(crate::git::ignore::FILE)
}
