//! Selects the paths of a commit that can contain manifests, and their form. Pure; `opsy validate` uses it, too.
//!
//! Nothing is read through a link. But the target of a link is examined, and so is a file whose name is not UTF-8: if a
//! manifest became one of these, this is an error, not an absence.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::files::POINTER;
use crate::api::paths::{is_within, join, short};
use crate::git::templates::links::follow_counted;
use crate::git::{Entry, EntryKind, Listing};
use crate::manifest::Form;

/// Maximum number of files that can contain manifests. A file in a folder that several links name counts once per link.
const FILES_LIMIT: usize = 25_000;
/// Maximum size of their paths in bytes: a link with a long name adds it to the path of every file in its folder.
const BYTES_LIMIT: usize = 32 * 1024 * 1024;
/// Maximum number of lookups to follow links, which take some seconds. A link to links through a hundred folders takes
/// thousands.
const STEPS_LIMIT: usize = 10_000_000;
/// What to do if there is too much to read.
pub const NARROW: &str =
    "select a smaller directory with --path, or list files that are not for Opsy in .opsyignore";

/// A path that can contain manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Relative to the path that is read.
    pub path: String,
    /// Object ID of the content, in hexadecimal digits.
    pub id: String,
    pub form: Form,
}

/// Returns the paths to read below a path of the repository.
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

/// The files of a folder that a link points to.
type Hidden<'a> = Arc<[(&'a str, &'a Entry)]>;

/// The paths picked so far, and the cost so far.
struct Picking<'a> {
    listing: &'a Listing,
    path: &'a str,
    all: Vec<Picked>,
    bytes: usize,
    steps: usize,
    /// Files by folder: each folder that links point to is listed once.
    folders: HashMap<String, Hidden<'a>>,
}

impl<'a> Picking<'a> {
    fn entry(&mut self, file: &str, entry: &Entry) -> Result<(), String> {
        let name = below(file, self.path);
        let form = match &entry.kind {
            EntryKind::Link(target) => return self.linked(file, target),
            EntryKind::Submodule => Form::Unknown("is a submodule: manifests in it are not read".to_owned()),
            _ if !can_be_manifest(name) => return Ok(()),
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
                "has more than {FILES_LIMIT} YAML files, or more than {BYTES_LIMIT} bytes of paths; {NARROW}"
            ));
        }
        self.all.push(Picked { path, id: id.to_owned(), form });
        Ok(())
    }

    fn spend(&mut self, steps: usize) -> Result<(), String> {
        self.steps += steps;
        match self.steps > STEPS_LIMIT {
            false => Ok(()),
            true => Err(format!("has links that lead through too many directories and links; {NARROW}")),
        }
    }

    /// Picks what a link hides: the file that it points to, or the manifests of a folder that is not read itself.
    fn linked(&mut self, link: &str, target: &str) -> Result<(), String> {
        let name = below(link, self.path);
        let (real, steps) = follow_counted(self.listing, link);
        self.spend(steps)?;
        let real = real.unwrap_or_default();
        if let Some(entry) = self.listing.get(&real).filter(|entry| is_file(entry)) {
            let is_read_itself = self.reads(&real) && can_be_manifest(below(&real, self.path));
            return match can_be_manifest(name) && !is_read_itself {
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

    /// The files of a folder that can contain manifests. The list stops at one more than is allowed.
    fn hidden(&mut self, folder: &str) -> Result<Hidden<'a>, String> {
        if let Some(known) = self.folders.get(folder) {
            return Ok(Arc::clone(known));
        }
        let mut found = Vec::new();
        for (file, entry) in self.listing.under(folder) {
            self.spend(1)?;
            if can_be_manifest(file) && is_file(entry) {
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

    /// Returns true if a file is below the path that is read.
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

/// Returns true for YAML files, and for the file of kustomize without an extension.
pub fn can_be_manifest(file: &str) -> bool {
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

/// A path relative to a folder that contains it.
pub fn below<'a>(path: &'a str, folder: &str) -> &'a str {
    path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/')
}
