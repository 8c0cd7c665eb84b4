//! Which paths of a commit may hold manifests, and in which form. Pure; `opsy validate` asks the same.
//!
//! Nothing is read through a link. But the target of a link is examined, and so is a file whose name is not UTF-8: a
//! manifest that became either is an error, not an absence.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::files::POINTER;
use crate::git::templates::links::follow_counted;
use crate::git::tree::{is_within, join, short};
use crate::git::{Entry, EntryKind, Listing};
use crate::manifest::Form;

/// Files that may hold manifests. A file in a folder that several links name counts once per link.
const FILES_LIMIT: usize = 25_000;
/// The bytes of their paths: a link with a long name gives it to every file of its folder.
const BYTES_LIMIT: usize = 32 * 1024 * 1024;
/// Look-ups that links may cost: some seconds. A link to links through a hundred folders costs thousands.
const STEPS_LIMIT: usize = 10_000_000;
/// What to do where there is too much to read.
pub const NARROW: &str = "name a folder with less by --path, or list what is not for Opsy in .opsyignore";

/// A path that may hold manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Relative to the path that is read.
    pub path: String,
    /// Object id of the content, in hex.
    pub id: String,
    pub form: Form,
}

/// The paths to read below a path of the repository.
///
/// # Errors
/// There are too many.
pub fn pick(listing: &Listing, path: &str) -> Result<Vec<Picked>, String> {
    let mut picking = Picking { listing, path, all: Vec::new(), bytes: 0, steps: 0, folders: HashMap::new() };
    for (file, entry) in listing.under(path) {
        picking.entry(file, entry)?;
    }
    Ok(picking.all)
}

/// The files of a folder that a link leads to.
type Hidden<'a> = Arc<[(&'a str, &'a Entry)]>;

/// What is picked so far, and what it has cost.
struct Picking<'a> {
    listing: &'a Listing,
    path: &'a str,
    all: Vec<Picked>,
    bytes: usize,
    steps: usize,
    /// Each folder that links lead to is walked once.
    folders: HashMap<String, Hidden<'a>>,
}

impl<'a> Picking<'a> {
    fn entry(&mut self, file: &str, entry: &Entry) -> Result<(), String> {
        let name = below(file, self.path);
        let form = match &entry.kind {
            EntryKind::Link(target) => return self.linked(file, target),
            EntryKind::Submodule => Form::Unknown("is a submodule: manifests in it are not read".to_owned()),
            _ if !is_read(name) => return Ok(()),
            EntryKind::File { .. } => Form::File,
            EntryKind::Misnamed => Form::Unfit("has a name that is not UTF-8: rename it".to_owned()),
            EntryKind::Pointer => pointer(Form::File),
        };
        self.add(name.to_owned(), &entry.id, form)
    }

    fn add(&mut self, path: String, id: &str, form: Form) -> Result<(), String> {
        self.bytes += path.len();
        if self.all.len() >= FILES_LIMIT || self.bytes > BYTES_LIMIT {
            return Err(format!(
                "has more than {FILES_LIMIT} YAML files, or {BYTES_LIMIT} bytes of their paths; {NARROW}"
            ));
        }
        self.all.push(Picked { path, id: id.to_owned(), form });
        Ok(())
    }

    fn spend(&mut self, steps: usize) -> Result<(), String> {
        self.steps += steps;
        match self.steps > STEPS_LIMIT {
            false => Ok(()),
            true => Err(format!("has links through too many folders and links; {NARROW}")),
        }
    }

    /// Picks what a link hides: the file it leads to, or the manifests of a folder that is not read itself.
    fn linked(&mut self, link: &str, target: &str) -> Result<(), String> {
        let name = below(link, self.path);
        let (real, steps) = follow_counted(self.listing, link);
        self.spend(steps)?;
        let real = real.unwrap_or_default();
        if let Some(entry) = self.listing.get(&real).filter(|entry| is_file(entry)) {
            let is_read_itself = self.reads(&real) && is_read(below(&real, self.path));
            return match is_read(name) && !is_read_itself {
                true => self.add(name.to_owned(), &entry.id, unfit(&real, entry)),
                false => Ok(()),
            };
        }
        if real.is_empty() || !self.listing.has_folder(&real) {
            let why = format!("is a link to {:?}, which is not in the repository", short(target));
            return self.add(name.to_owned(), "", Form::Unknown(why));
        }
        if self.reads(&real) {
            return Ok(());
        }
        for (file, entry) in self.hidden(&real)?.iter() {
            self.add(join(name, below(file, &real)), &entry.id, unfit(file, entry))?;
        }
        Ok(())
    }

    /// The files of a folder that may hold manifests; of too many, one more than is allowed.
    fn hidden(&mut self, folder: &str) -> Result<Hidden<'a>, String> {
        if let Some(known) = self.folders.get(folder) {
            return Ok(Arc::clone(known));
        }
        let mut found = Vec::new();
        for (file, entry) in self.listing.under(folder) {
            self.spend(1)?;
            if is_read(file) && is_file(entry) {
                found.push((file, entry));
            }
            if found.len() > FILES_LIMIT {
                break;
            }
        }
        let found: Hidden<'a> = found.into();
        self.folders.insert(folder.to_owned(), Arc::clone(&found));
        Ok(found)
    }

    /// Is a path below the one that is read?
    fn reads(&self, file: &str) -> bool {
        self.path.is_empty() || is_within(file, self.path)
    }
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File { .. } | EntryKind::Pointer)
}

/// The form of a path that a link hides.
fn unfit(to: &str, entry: &Entry) -> Form {
    let why = format!("is a link to {}, and links are not followed: commit the file itself", short(to));
    match entry.kind {
        EntryKind::Pointer => pointer(Form::Unfit(why)),
        _ => Form::Unfit(why),
    }
}

/// YAML, and what kustomize calls its own file.
fn is_read(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.ends_with(".yaml") || name.ends_with(".yml") || name == "Kustomization"
}

/// The form of a path whose content is a Git LFS pointer.
pub fn pointer(form: Form) -> Form {
    match form {
        Form::File => Form::Unknown(POINTER.to_owned()),
        Form::Unfit(why) => Form::Unknown(format!("{why}, without Git LFS")),
        Form::Unknown(why) => Form::Unknown(why),
    }
}

/// A path below a folder, from there.
pub fn below<'a>(path: &'a str, folder: &str) -> &'a str {
    path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/')
}
