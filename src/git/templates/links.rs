//! Selects files of a commit by path, and follows links that stay in the repository. Pure.

use std::collections::BTreeMap;

use crate::api::files::POINTER;
use crate::api::paths::{is_within, join, plain, prefixes, short};
use crate::git::{Entry, EntryKind, Listing};

/// The maximum number of links in a chain, as in Linux.
const HOP_LIMIT: usize = 40;
/// The maximum number of files and directories that one build visits: links to links could name any number of paths.
const VISIT_LIMIT: usize = 100_000;
/// The maximum number of lookups for the links of one build, which take some seconds.
const STEP_LIMIT: usize = 10_000_000;

/// The maximum number of names of one file that are looked for.
const ALIAS_LIMIT: usize = 1_000;

/// A file for a build: the blob at the end of all links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The object ID, in hexadecimal.
    pub id: String,
    pub executable: bool,
}

/// The links of a commit, with the paths that they lead to. Links out of the repository are left out.
pub struct Links(Vec<(String, String)>);

impl Links {
    pub fn of(listing: &Listing) -> Self {
        let links = listing.all_under("").filter_map(|(path, entry)| {
            let EntryKind::Link(target) = &entry.kind else { return None };
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Some((path.to_owned(), plain(&join(folder, target))?))
        });
        Self(links.collect())
    }

    /// Returns the other paths under which links lead to a file.
    pub fn aliases(&self, file: &str) -> Vec<String> {
        let mut names = vec![file.to_owned()];
        let mut at = 0;
        while at < names.len() && names.len() <= ALIAS_LIMIT {
            let aliases: Vec<String> = self.0.iter().filter_map(|link| alias(link, &names[at])).collect();
            for alias in aliases {
                if !names.contains(&alias) {
                    names.push(alias);
                }
            }
            at += 1;
        }
        names.split_off(1)
    }
}

/// The name of a file below a link, if the link leads to the file or to a directory above it.
fn alias((path, target): &(String, String), name: &str) -> Option<String> {
    // A link to a directory above itself gives names without end.
    if is_within(name, path) {
        return None;
    }
    let rest = if target.is_empty() { name } else { name.strip_prefix(target.as_str())? };
    let is_there = target.is_empty() || rest.is_empty() || rest.starts_with('/');
    is_there.then(|| join(path, rest.trim_start_matches('/')))
}

/// Files by their path in the build.
pub type Files = BTreeMap<String, Chosen>;

/// Selects files. A file that cannot be copied is an error if `strict` is true, and is skipped otherwise.
pub struct Picker<'a> {
    pub listing: &'a Listing,
    /// Returns true for paths that are skipped.
    pub left_out: &'a dyn Fn(&str) -> bool,
    /// Whether a submodule, a broken link or a name that is not UTF-8 is an error.
    pub strict: bool,
    pub files: Files,
    /// Whether a link was followed, so that paths outside of the named ones matter.
    pub follows_links: bool,
    /// The directories that are being added: a link to one of them is a cycle.
    inside: Vec<String>,
    visits: usize,
    steps: usize,
}

impl<'a> Picker<'a> {
    pub fn new(listing: &'a Listing, left_out: &'a dyn Fn(&str) -> bool, strict: bool) -> Self {
        Self {
            listing,
            left_out,
            strict,
            files: Files::new(),
            follows_links: false,
            inside: Vec::new(),
            visits: 0,
            steps: 0,
        }
    }

    /// Adds the file at a path, or the directory with everything below it. Returns false if the path does not exist.
    pub fn pick(&mut self, path: &str) -> Result<bool, String> {
        self.add(path, path, HOP_LIMIT)
    }

    fn add(&mut self, from: &str, to: &str, hops: usize) -> Result<bool, String> {
        self.visits += 1;
        if self.visits > VISIT_LIMIT || self.steps > STEP_LIMIT {
            return Err(format!(
                "{}: a build can have at most {VISIT_LIMIT} files and directories, including those behind links; \
                 exclude some with .opsyignore",
                short(to)
            ));
        }
        let named = from;
        let from = match follow(self.listing, named, hops, &mut self.steps) {
            Ok(from) => from,
            Err(_) if !self.strict => return Ok(false),
            Err(why) => return Err(why),
        };
        self.follows_links |= from != named;
        let Some(entry) = self.listing.get(&from) else { return self.add_folder(&from, to, hops) };
        if let Some(why) = refusal(&from, entry) {
            return if self.strict { Err(why) } else { Ok(false) };
        }
        let executable = entry.kind == EntryKind::File { executable: true };
        self.files.insert(to.to_owned(), Chosen { id: entry.id.clone(), executable });
        Ok(true)
    }

    /// Adds the files of a directory. Returns false if there are none.
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
            let target = join(to, path[from.len()..].trim_start_matches('/'));
            let fewer = match entry.kind {
                EntryKind::Link(_) => hops
                    .checked_sub(1)
                    .ok_or_else(|| format!("{} has too many levels of symbolic links", short(path)))?,
                _ => hops,
            };
            let added = self.add(path, &target, fewer)?;
            if !added && self.strict {
                return Err(format!(
                    "{} is a link to a path that does not exist in the repository{REMEDY}",
                    short(path)
                ));
            }
            found |= added;
        }
        Ok(found)
    }
}

/// The remedy for a file that the build does not need.
const REMEDY: &str = "; if the build does not need it, list it in .opsyignore";

/// Returns true if a path is below a directory. Everything is below the root.
fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || is_within(path, folder)
}

/// Returns why an entry cannot be copied, if it cannot.
fn refusal(path: &str, entry: &Entry) -> Option<String> {
    match entry.kind {
        EntryKind::Submodule => Some(format!(
            "{} is a submodule, whose files are not in the repository: commit the files themselves{REMEDY}",
            short(path)
        )),
        EntryKind::Misnamed => Some(format!("the name of {} is not UTF-8: rename it{REMEDY}", short(path))),
        EntryKind::Pointer => Some(pointer(path)),
        EntryKind::File { .. } | EntryKind::Link(_) => None,
    }
}

/// Returns the error for a Git LFS pointer among the files of a build.
pub fn pointer(path: &str) -> String {
    format!("{} {POINTER}{REMEDY}", short(path))
}

/// Follows all links in a path. Returns the resulting path and the number of lookups. A link that leads out of the
/// repository is an error.
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
        let destination = if target.starts_with('/') { None } else { plain(&join(folder, target)) };
        let next = join(&destination.ok_or_else(outside)?, path[link.len()..].trim_start_matches('/'));
        path = next;
    }
    Err(format!("{} has too many levels of symbolic links{REMEDY}", short(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_names_of_all_links_that_lead_to_it() {
        let links = |links: &[(&str, &str)]| {
            let entry = |(path, target): &(&str, &str)| {
                let kind = EntryKind::Link((*target).to_owned());
                ((*path).to_owned(), Entry { id: "0".repeat(40), kind })
            };
            Links::of(&links.iter().map(entry).collect())
        };
        let file = "infra/common.hcl";
        let to_file =
            links(&[("packer/web/common.hcl", "../../infra/common.hcl"), ("other", "infra/other.hcl")]);
        assert_eq!(to_file.aliases(file), ["packer/web/common.hcl"]);
        let to_directory = links(&[("packer/shared", "../infra"), ("top", "packer/shared"), ("out", "../x")]);
        assert_eq!(to_directory.aliases(file), ["packer/shared/common.hcl", "top/common.hcl"]);
        assert_eq!(links(&[("infrastructure", "infra-old")]).aliases(file), [""; 0]);
        // A link to the root contains itself.
        let loops = links(&[("loop", ".")]).aliases(file);
        assert_eq!(loops, ["loop/infra/common.hcl"]);
    }
}
