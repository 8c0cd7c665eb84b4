//! Picks files of a commit by folder or name, and follows links as far as they stay in the repository. Pure.

use std::collections::BTreeMap;

use super::super::tree::{Entry, EntryKind, Listing, is_within, join, plain, prefixes, short};
use crate::api::files::POINTER;

/// Links that lead to links that lead to links: as many as Linux follows.
const HOP_LIMIT: usize = 40;
/// Files and folders that are visited for one build: more than any template has, less than links to links can name.
const VISIT_LIMIT: usize = 100_000;
/// Look-ups that links may cost one build: some seconds.
const STEP_LIMIT: usize = 10_000_000;

/// A file to lay out: a blob, whatever links led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Object id, in hex.
    pub id: String,
    pub executable: bool,
}

/// Files by the path they are laid out at.
pub type Files = BTreeMap<String, Chosen>;

/// Picks files; what cannot be laid out is an error, or left out.
pub struct Picker<'a> {
    pub listing: &'a Listing,
    /// Paths that are not picked.
    pub left_out: &'a dyn Fn(&str) -> bool,
    /// A submodule, a link to nothing, a name that is not UTF-8 is an error.
    pub strict: bool,
    pub files: Files,
    /// Folders being picked: a link to one of them leads in a circle.
    inside: Vec<String>,
    visits: usize,
    steps: usize,
}

impl<'a> Picker<'a> {
    pub fn new(listing: &'a Listing, left_out: &'a dyn Fn(&str) -> bool, strict: bool) -> Self {
        Self { listing, left_out, strict, files: Files::new(), inside: Vec::new(), visits: 0, steps: 0 }
    }

    /// Picks what is at a path, a folder with everything below it; false when nothing is there.
    pub fn pick(&mut self, path: &str) -> Result<bool, String> {
        self.add(path, path, HOP_LIMIT)
    }

    fn add(&mut self, from: &str, to: &str, hops: usize) -> Result<bool, String> {
        self.visits += 1;
        if self.visits > VISIT_LIMIT || self.steps > STEP_LIMIT {
            return Err(format!(
                "{}: a build gets no more than {VISIT_LIMIT} files and folders, through links too; leave some out \
                 by .opsyignore",
                short(to)
            ));
        }
        let from = match follow(self.listing, from, hops, &mut self.steps) {
            Ok(from) => from,
            Err(_) if !self.strict => return Ok(false),
            Err(why) => return Err(why),
        };
        let Some(entry) = self.listing.get(&from) else { return self.add_folder(&from, to, hops) };
        if let Some(why) = refusal(&from, entry) {
            return if self.strict { Err(why) } else { Ok(false) };
        }
        let executable = entry.kind == EntryKind::File { executable: true };
        self.files.insert(to.to_owned(), Chosen { id: entry.id.clone(), executable });
        Ok(true)
    }

    /// Adds a folder's files; false when there are none.
    fn add_folder(&mut self, from: &str, to: &str, hops: usize) -> Result<bool, String> {
        if !self.strict && self.inside.iter().any(|inside| inside == from || is_below(inside, from)) {
            return Ok(false);
        }
        self.inside.push(from.to_owned());
        let found = self.add_files(from, to, hops);
        self.inside.pop();
        found
    }

    fn add_files(&mut self, from: &str, to: &str, hops: usize) -> Result<bool, String> {
        let mut found = false;
        for (path, entry) in self.listing.under(from).filter(|(path, _)| !(self.left_out)(path)) {
            let place = join(to, path[from.len()..].trim_start_matches('/'));
            let fewer = match entry.kind {
                EntryKind::Link(_) => hops
                    .checked_sub(1)
                    .ok_or_else(|| format!("{} leads through too many links", short(path)))?,
                _ => hops,
            };
            let added = self.add(path, &place, fewer)?;
            if !added && self.strict {
                return Err(format!("{} is a link to nothing in the repository{REMEDY}", short(path)));
            }
            found |= added;
        }
        Ok(found)
    }
}

/// What helps where a build does not need the file.
const REMEDY: &str = "; if the build does not need it, list it in .opsyignore";

/// Is a path below a folder? Everything is below the root.
fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || is_within(path, folder)
}

/// Why an entry cannot be laid out.
fn refusal(path: &str, entry: &Entry) -> Option<String> {
    match entry.kind {
        EntryKind::Submodule => Some(format!(
            "{} is a submodule, and its files are not in the repository: copy them in{REMEDY}",
            short(path)
        )),
        EntryKind::Misnamed => Some(format!("the name of {} is not UTF-8: rename it{REMEDY}", short(path))),
        EntryKind::Pointer => Some(pointer(path)),
        EntryKind::File { .. } | EntryKind::Link(_) => None,
    }
}

/// What is wrong with a Git LFS pointer among the files of a build.
pub fn pointer(path: &str) -> String {
    format!("{} {POINTER}{REMEDY}", short(path))
}

/// Where a path really is, after all links on its way, and how many look-ups that took. Links never leave the
/// repository.
pub fn follow_counted(listing: &Listing, path: &str) -> (Result<String, String>, usize) {
    let mut steps = 0;
    (follow(listing, path, HOP_LIMIT, &mut steps), steps)
}

fn follow(listing: &Listing, path: &str, hops: usize, steps: &mut usize) -> Result<String, String> {
    let mut path = path.to_owned();
    for _ in 0..=hops {
        let found =
            prefixes(&path).inspect(|_| *steps += 1).find_map(|part| match &listing.get(part)?.kind {
                EntryKind::Link(target) => Some((part, target)),
                _ => None,
            });
        let Some((link, target)) = found else { return Ok(path) };
        let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
        let outside =
            || format!("{} is a link to {:?}, outside of the repository{REMEDY}", short(link), short(target));
        let place = if target.starts_with('/') { None } else { plain(&join(folder, target)) };
        let next = join(&place.ok_or_else(outside)?, path[link.len()..].trim_start_matches('/'));
        path = next;
    }
    Err(format!("{} leads through too many links{REMEDY}", short(&path)))
}
