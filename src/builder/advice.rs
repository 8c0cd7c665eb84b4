//! What `opsy validate` reports about a builder beyond its manifest: whether its template exists, whether the build
//! receives the files that the template references, and unexpected effects of its arguments and filters. Pure.

use crate::api::words::RunFrom;
use std::collections::BTreeSet;

use super::place;
use super::spec::{self, Spec};
use crate::api::builder::{BuilderRun, PackerBuilder};
use crate::api::checks::Problem;
use crate::api::paths::{is_within, join, plain};
use crate::git::Listing;
use crate::git::templates::TemplateQuery;
use crate::git::templates::choice::{Choice, OpsyFiles, Part, TemplateProblem, choose};

mod sources;
mod text;

/// Maximum number of notes about files of one builder: the first ones already show the mistake.
const MAX_FILE_NOTES: usize = 10;
/// Architectures as they appear in names of images.
const ARCHITECTURES: [&str; 4] = ["x86_64", "amd64", "arm64", "aarch64"];

/// The part of a repository that is examined, as a commit of the work tree would contain it.
pub struct Repository<'a> {
    pub listing: &'a Listing,
    pub opsy_files: &'a OpsyFiles,
    /// It is the repository that `builder.repoURL` names.
    pub is_source: bool,
    /// Returns the content of a file by its ID in the listing.
    pub text: &'a dyn Fn(&str) -> Option<String>,
}

/// A builder whose template is in the examined repository.
struct Case<'a> {
    run: BuilderRun,
    spec: Spec,
    repository: &'a Repository<'a>,
}

impl<'a> Case<'a> {
    /// Returns `None` if the builder is invalid or its template is in another repository.
    fn of(object: &PackerBuilder, repository: &'a Repository<'a>) -> Option<Self> {
        let spec = spec::parse(object).ok().filter(|spec| spec.repo_url.is_some() == repository.is_source)?;
        Some(Self { run: object.spec.builder.clone().unwrap_or_default(), spec, repository })
    }

    fn query(&self) -> &TemplateQuery {
        &self.spec.template
    }

    fn chosen(&self) -> Result<Choice, Vec<TemplateProblem>> {
        choose(self.repository.listing, self.query(), self.repository.opsy_files)
    }
}

/// Returns why the build would not get its files: field paths and messages.
pub fn problems(object: &PackerBuilder, repository: &Repository<'_>) -> Vec<Problem> {
    let Some(case) = Case::of(object, repository) else { return Vec::new() };
    let problems = case.chosen().err().unwrap_or_default();
    problems.into_iter().map(|problem| (field(&case, &problem), problem.why)).collect()
}

/// Returns the field that names the file or glob in question.
fn field(case: &Case<'_>, problem: &TemplateProblem) -> String {
    let same = |text: &Option<String>| {
        let written = text.as_deref().filter(|text| !text.is_empty());
        written.and_then(plain) == plain(&problem.name) && written.is_some()
    };
    let commands = || case.run.commands.iter().flatten().enumerate();
    let at = |index: usize, field: &str| format!("spec.builder.commands[{index}].{field}");
    let builder = || "spec.builder".to_owned();
    match problem.part {
        Part::Template => match commands().find(|(_, command)| same(&command.working_dir)) {
            Some((index, _)) => at(index, "workingDir"),
            None if same(&case.run.dir) => "spec.builder.dir".to_owned(),
            None => builder(),
        },
        Part::Dir => "spec.builder.dir".to_owned(),
        Part::VarFile => match commands().find(|(_, command)| same(&command.variables_file)) {
            Some((index, _)) => at(index, "variablesFile"),
            None => in_arguments(case, &problem.name).unwrap_or_else(builder),
        },
        Part::Input => {
            let globs = case.run.inputs.iter().flatten();
            let mut named = globs.enumerate().filter(|(_, glob)| plain(glob) == plain(&problem.name));
            named.next().map_or_else(builder, |(index, _)| format!("spec.builder.inputs[{index}]"))
        }
    }
}

/// Returns the path of the argument that names a variable file.
fn in_arguments(case: &Case<'_>, file: &str) -> Option<String> {
    let dirs: Vec<String> = case.spec.commands.iter().map(|c| c.dir.clone().unwrap_or_default()).collect();
    for (index, command) in case.run.commands.iter().flatten().enumerate() {
        for (arg, written) in place::var_files(command.args.as_deref().unwrap_or_default()) {
            if dirs.iter().any(|dir| place::from_root(dir, written) == Ok(Some(file.to_owned()))) {
                return Some(format!("spec.builder.commands[{index}].args[{arg}]"));
            }
        }
    }
    None
}

/// Returns what a user should know about a valid builder: field paths and messages.
pub fn notes(object: &PackerBuilder, repository: &Repository<'_>) -> Vec<Problem> {
    let mut notes = forced_removals(object);
    notes.extend(architectures(object));
    notes.extend(elsewhere(object).filter(|_| !repository.is_source));
    let Some(case) = Case::of(object, repository) else { return notes };
    let Ok(choice) = case.chosen() else { return notes };
    notes.extend(at_root(&case));
    let texts = texts(&case, &choice);
    notes.extend(files(&case, &choice, &texts));
    notes.extend(sources::notes(&case.spec, &texts));
    notes
}

/// A template in another repository is not checked.
fn elsewhere(object: &PackerBuilder) -> Option<Problem> {
    let address = spec::parse(object).ok()?.repo_url?;
    let words = format!("templates of {address} are not checked; --fetch fetches and checks them");
    Some(("spec.builder.repoURL".to_owned(), words))
}

/// Returns what a builder reads from the template repository that it names, if it names one.
pub fn source(object: &PackerBuilder) -> Option<TemplateQuery> {
    let spec = spec::parse(object).ok().filter(|spec| spec.repo_url.is_some())?;
    Some(spec.template)
}

/// A template at the root without `builder.inputs`: every commit triggers a build.
fn at_root(case: &Case<'_>) -> Option<Problem> {
    let query = case.query();
    let is_folder = query.templates().any(|template| plain(template).as_deref() == Some(""));
    let words = "the template is at the repository's root, so a change to any file triggers a build: list \
                 the files that it reads in spec.builder.inputs, or all others in .opsyignore";
    (is_folder && query.inputs.is_empty()).then(|| ("spec.builder".to_owned(), words.to_owned()))
}

/// Packer's `-force` removes the active image before a new one exists.
fn forced_removals(object: &PackerBuilder) -> Vec<Problem> {
    let commands = object.spec.builder.iter().flat_map(|run| run.commands.iter().flatten());
    let mut found = Vec::new();
    for (index, command) in commands.enumerate() {
        let args = command.args.iter().flatten().enumerate();
        for (arg, _) in args.filter(|(_, arg)| matches!(arg.trim_start_matches('-'), "force" | "force=true"))
        {
            found.push((format!("spec.builder.commands[{index}].args[{arg}]"), sources::FORCE.to_owned()));
        }
    }
    found
}

/// Filters that may match base images of several architectures.
fn architectures(object: &PackerBuilder) -> Option<Problem> {
    let filters = object.spec.ami_filters.as_deref().filter(|filters| !filters.is_empty())?;
    let values = |name: &str| -> Vec<&str> {
        let named = filters.iter().filter(|filter| filter.name.as_deref() == Some(name));
        named.flat_map(|filter| filter.values.iter().flatten()).map(String::as_str).collect()
    };
    let (of_images, names, ids) = (values("architecture"), values("name"), values("image-id"));
    let says = |name: &&str| ARCHITECTURES.iter().any(|architecture| name.contains(architecture));
    let is_one = of_images.len() == 1 || !ids.is_empty() || (!names.is_empty() && names.iter().all(says));
    let words = "may match base images of several architectures, and a first build uses the newest of them: \
                 add the filter {name: architecture, values: [x86_64]} (or arm64)";
    (!is_one || of_images.len() > 1).then(|| ("spec.amiFilters".to_owned(), words.to_owned()))
}

/// Returns the files of the template itself: path and content.
fn texts(case: &Case<'_>, choice: &Choice) -> Vec<(String, String)> {
    let folders: Vec<String> = case.query().templates().filter_map(plain).collect();
    let is_template = |path: &str| {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let packers = path.ends_with(".pkr.hcl") || path.ends_with(".pkr.json");
        folders.iter().any(|named| named == path || (packers && named == folder))
    };
    let files = choice.inputs.iter().filter(|(path, _)| is_template(path));
    files.filter_map(|(path, file)| Some((path.clone(), (case.repository.text)(&file.id)?))).collect()
}

/// Files of the repository that the template references, but that the build does not receive, or that are not its
/// inputs.
fn files(case: &Case<'_>, choice: &Choice, texts: &[(String, String)]) -> Vec<Problem> {
    let dir = case.spec.commands.last().and_then(|build| build.dir.clone()).unwrap_or_default();
    let mut messages = BTreeSet::new();
    for (template, text) in texts {
        let own = template.rsplit_once('/').map_or("", |(folder, _)| folder);
        for literal in text::paths(text) {
            let reference = Reference { case, choice, template, own, dir: &dir };
            messages.extend(reference.message(&literal));
        }
    }
    messages.into_iter().take(MAX_FILE_NOTES).map(|words| ("spec.builder".to_owned(), words)).collect()
}

/// What is needed to find a path that a template references.
struct Reference<'a> {
    case: &'a Case<'a>,
    choice: &'a Choice,
    template: &'a str,
    /// The directory of the template.
    own: &'a str,
    /// Where Packer runs.
    dir: &'a str,
}

impl Reference<'_> {
    fn message(&self, literal: &text::Literal) -> Option<String> {
        let base = if literal.from_template { self.own } else { self.dir };
        let (template, written) = (self.template, &literal.path);
        let place = plain(&join(base, written)).filter(|place| !place.is_empty());
        if let Some(place) = place.filter(|place| self.exists(place)) {
            if !holds(&self.choice.inputs, &place) && !holds(&self.choice.companions, &place) {
                return Some(format!(
                    "{template} references {written:?}, but the build does not receive {place}: add it to \
                     spec.builder.inputs"
                ));
            }
            let is_no_input = !holds(&self.choice.inputs, &place);
            return is_no_input.then(|| {
                format!(
                    "a change to {place}, which {template} references, does not trigger a build: add it to \
                     spec.builder.inputs"
                )
            });
        }
        if literal.from_template { None } else { self.elsewhere(written) }
    }

    /// Returns the message if the path exists relative to another directory, with the way to make Packer use that one.
    fn elsewhere(&self, written: &str) -> Option<String> {
        let start = place::working_directory(self.case.run.dir.as_deref(), self.template);
        let own = "prefix it with ${path.root}/".to_owned();
        let run_from = |word: RunFrom| format!("set spec.builder.runFrom: {word}");
        let ways = if self.dir.is_empty() {
            [(start, run_from(RunFrom::Template)), (self.own.to_owned(), own)]
        } else {
            [(self.own.to_owned(), own), (String::new(), run_from(RunFrom::Repository))]
        };
        let others = ways.into_iter().filter(|(folder, _)| folder != self.dir);
        let found = |(folder, how): (String, String)| {
            let place =
                plain(&join(&folder, written)).filter(|place| !place.is_empty() && self.exists(place))?;
            Some((place, how))
        };
        let (place, how) = others.into_iter().find_map(found)?;
        let is_given = holds(&self.choice.inputs, &place) || holds(&self.choice.companions, &place);
        let more = if is_given { String::new() } else { format!(", and add {place} to spec.builder.inputs") };
        let from = if self.dir.is_empty() { "the repository's root" } else { self.dir };
        Some(format!(
            "{} references {written:?}, which Packer looks for in {from}, but it is at {place}: {how}{more}",
            self.template
        ))
    }

    fn exists(&self, place: &str) -> bool {
        let listing = self.case.repository.listing;
        listing.get(place).is_some() || listing.has_folder(place)
    }
}

/// Returns whether a file, or something in a directory, is among these files.
fn holds(files: &crate::git::templates::links::Files, place: &str) -> bool {
    files.contains_key(place) || files.keys().any(|path| is_within(path, place))
}

#[cfg(test)]
mod tests;
