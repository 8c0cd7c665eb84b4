//! A file that setters may edit, and what its setters refer to. It is read from a commit to edit it, and from a work tree
//! to check it. Pure.

use std::collections::BTreeMap;

use super::{Edited, Format, Found, MAX_BYTES, Reference, Selection, SetterProblem, edit, references};
use crate::manifest::Problem;

/// More files are not searched for markers: a glob that matches so many is a mistake.
const FILES: usize = 1_000;

/// The files that settings select. Paths are from the root of the repository.
#[derive(Debug)]
pub struct Selected {
    /// Each with its ID in the listing.
    files: BTreeMap<String, (String, Format)>,
}

impl Selected {
    /// Selects from the regular files of a listing, each with its ID.
    pub fn new<'a>(selection: &Selection, files: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let select =
            |(path, id): (&str, &str)| Some((path.to_owned(), (id.to_owned(), selection.format(path)?)));
        Self { files: files.filter_map(select).collect() }
    }

    /// The IDs, in the order of the paths.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.files.values().map(|(id, _)| id.as_str())
    }

    /// Returns the files that may be read, and what is wrong with the settings in the file `settings`. The sizes are in
    /// the order of the IDs.
    pub fn readable(
        mut self,
        sizes: impl IntoIterator<Item = usize>,
        selection: &Selection,
        settings: &str,
    ) -> (BTreeMap<String, (String, Format)>, Vec<Problem>) {
        let mut sizes = sizes.into_iter();
        self.files.retain(|_, _| sizes.next().is_some_and(|size| size <= MAX_BYTES));
        let unreadable = selection.unreadable(|path| self.files.contains_key(path));
        let mut problems: Vec<Problem> = unreadable.map(|(path, problem)| problem.of(path)).collect();
        let count = self.files.len();
        if count > FILES {
            let message = format!("setters.paths: matches {count} files, more than {FILES}: name fewer");
            problems.push(Problem { line: None, ..SetterProblem { line: 1, message }.of(settings) });
            self.files.clear();
        }
        (self.files, problems)
    }
}

/// A file that setters may edit.
#[derive(Clone, Debug)]
pub struct SetterFile {
    /// From the root of the repository.
    pub path: String,
    pub format: Format,
    pub content: Vec<u8>,
    /// Its names through links: an input of a build can be one of them.
    pub aliases: Vec<String>,
    /// `.opsyignore` excludes it, so that it is neither a manifest nor an input of a build.
    pub is_ignored: bool,
}

/// What the setters of a file refer to, and the file with these values.
#[derive(Clone, Debug)]
pub struct SetterEdit {
    pub found: BTreeMap<Reference, Found>,
    pub edited: Edited,
}

impl SetterFile {
    /// Returns the edit of the file; `None` if it has no setters. `refusal` returns why a file must not be edited, by its
    /// name and whether that is ignored.
    ///
    /// # Errors
    /// All that is wrong with the setters.
    pub fn edit(
        &self,
        namespace: &str,
        refusal: impl Fn(&str, bool) -> Option<String>,
        find: impl Fn(&Reference) -> Found,
    ) -> Result<Option<SetterEdit>, Vec<SetterProblem>> {
        let references = references(&self.content, &self.format, namespace)?;
        let Some((line, _)) = references.first() else { return Ok(None) };
        let aliases = self.aliases.iter().map(|alias| (alias, false));
        let mut names = std::iter::once((&self.path, self.is_ignored)).chain(aliases);
        if let Some(message) = names.find_map(|(name, is_ignored)| refusal(name, is_ignored)) {
            return Err(vec![SetterProblem { line: *line, message }]);
        }
        let of = |(_, reference): (usize, Reference)| {
            let found = find(&reference);
            (reference, found)
        };
        let found: BTreeMap<Reference, Found> = references.into_iter().map(of).collect();
        let edited = edit(&self.content, &self.format, namespace, &|reference| found[reference].clone())?;
        Ok(Some(SetterEdit { found, edited }))
    }
}
