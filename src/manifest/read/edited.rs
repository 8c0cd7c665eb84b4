//! Reads a commit in which only some files differ from the commit that was read last. The result is the same as if all
//! files were read; where that is not certain, there is no result.

use std::sync::Arc;

use super::{FINDINGS, Last, OBJECT_LIMIT, Reader, is_below, is_manifest, is_settings, problem};
use crate::manifest::check::Finding;
use crate::manifest::file::{self, File};
use crate::manifest::neighbours::Neighbours;
use crate::manifest::{Edited, Form, ObjectSet, SourceFile};

impl Reader {
    /// Reads the commit after the one that was read last, in which all other files are the same. Returns `None` if all
    /// files must be read.
    pub fn reread(&mut self, edited: &Edited) -> Option<ObjectSet> {
        let Last { mut set, neighbours } = self.last.take()?;
        // A duplicate hides documents, settings that cannot be read hide all of them, and too many findings hide others.
        let is_plain = set.duplicates.is_empty() && !set.without_settings && set.problems.len() < FINDINGS;
        let concerns_others = |path: &str| is_settings(path) || Neighbours::describes(path);
        if !is_plain || edited.paths().any(concerns_others) || edited.replaces_folders() {
            return None;
        }
        let status = set.settings.status_path().to_owned();
        let is_read = |path: &str| is_manifest(path, &status);
        let edits: Vec<_> = edited.edited.iter().filter(|source| is_read(&source.path)).collect();
        let added: Vec<_> = edited.added.iter().filter(|source| is_read(&source.path)).collect();
        let removed: Vec<_> = edited.removed.iter().filter(|path| is_read(path)).collect();
        if added.iter().any(|source| self.parsed.contains_key(&source.path) || source.form != Form::File) {
            return None;
        }
        let before: Vec<(&str, Arc<File>)> = edits
            .iter()
            .map(|source| (source.form == Form::File).then_some(source.path.as_str()))
            .chain(removed.iter().map(|path| Some(path.as_str())))
            .map(|path| Some((path?, self.parsed_file(path?)?)))
            .collect::<Option<_>>()?;
        for (path, file) in &before {
            remove(&mut set, path, file);
        }
        for path in &edited.removed {
            self.forget(&mut set, path);
        }
        for source in edits.into_iter().chain(added) {
            self.add(&mut set, source, &neighbours)?;
        }
        if set.problems.len() >= FINDINGS || set.documents.len() > OBJECT_LIMIT {
            return None;
        }
        self.last = Some(Last { set: set.clone(), neighbours });
        Some(set)
    }

    /// The file as it was read last, if its content was parsed.
    fn parsed_file(&self, path: &str) -> Option<Arc<File>> {
        let parsed = self.parsed.get(path)?;
        (parsed.form == Form::File).then(|| Arc::clone(&parsed.file))
    }

    /// Forgets a file that does not exist any more.
    fn forget(&mut self, set: &mut ObjectSet, path: &str) {
        self.parsed.remove(path);
        // Files that were in its place when it was a directory are remembered only as long as it exists.
        self.known_files.lock().retain(|known| known != path && !is_below(known, path));
        if set.own_files.contains(path) {
            Arc::make_mut(&mut set.own_files).remove(path);
        }
    }

    /// Adds what a file contains now. Returns `None` if another file declares one of its objects.
    fn add(&mut self, set: &mut ObjectSet, source: &SourceFile, neighbours: &Neighbours) -> Option<()> {
        let parsed = self.parse(source);
        let file = Arc::clone(&parsed.file);
        if file.kept() > file::FINDINGS {
            return None;
        }
        self.parsed.insert(source.path.clone(), parsed);
        if set.own_files.contains(&source.path) != file.is_ours {
            let own_files = Arc::make_mut(&mut set.own_files);
            match file.is_ours {
                true => drop(own_files.insert(source.path.clone())),
                false => drop(own_files.remove(&source.path)),
            }
        }
        if let Some(why) = self.foreign(&source.path, &file, neighbours) {
            let words = format!("{why}: ignored, although it mentions kinds of Opsy");
            set.problems.push(problem(&source.path, &Finding::note(1, words)));
            return Some(());
        }
        let found = file.findings(|| self.known_files.lock().contains(&source.path), file::FINDINGS);
        set.problems.extend(found.iter().map(|finding| problem(&source.path, finding)));
        for draft in &file.drafts {
            let document = draft.document(&source.path);
            if set.declares(&document.object) {
                return None;
            }
            set.documents.insert(document);
        }
        if !file.drafts.is_empty() {
            self.known_files.learn([source.path.clone()]);
        }
        Some(())
    }
}

/// Removes what a file contained.
fn remove(set: &mut ObjectSet, path: &str, file: &File) {
    set.problems.retain(|problem| problem.file != path);
    for draft in &file.drafts {
        let object = draft.document(path).object.clone();
        if set.documents.get(&object).is_some_and(|document| document.file == path) {
            set.documents.remove(&object);
        }
    }
}

impl Edited {
    /// The paths of all files that differ.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let sources = self.edited.iter().chain(&self.added).map(|source| source.path.as_str());
        sources.chain(self.removed.iter().map(String::as_str))
    }

    /// Whether a file is in the place of a directory, or the other way round.
    fn replaces_folders(&self) -> bool {
        let replaces = |one: &str, other: &str| is_below(one, other) || is_below(other, one);
        self.added.iter().any(|added| self.removed.iter().any(|removed| replaces(&added.path, removed)))
    }
}
