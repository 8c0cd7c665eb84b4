//! Reads a commit in which only the content of some files differs from the commit that was read last. The result is the
//! same as if all files were read; where that is not certain, there is no result.

use std::sync::Arc;

use super::{FINDINGS, Last, OBJECT_LIMIT, Parsed, Reader, is_manifest, is_settings, problem};
use crate::manifest::check::Finding;
use crate::manifest::file::{self, File};
use crate::manifest::neighbours::Neighbours;
use crate::manifest::{Form, ObjectSet, SourceFile};

impl Reader {
    /// Reads the commit after the one that was read last, in which all other files are the same. Returns `None` if all
    /// files must be read.
    pub fn reread(&mut self, edited: &[SourceFile]) -> Option<ObjectSet> {
        let Last { mut set, neighbours } = self.last.take()?;
        // A duplicate hides documents, settings that cannot be read hide all of them, and too many findings hide others.
        let is_plain = set.duplicates.is_empty() && !set.without_settings && set.problems.len() < FINDINGS;
        let concerns_others =
            |source: &SourceFile| is_settings(&source.path) || Neighbours::describes(&source.path);
        if !is_plain || edited.iter().any(concerns_others) {
            return None;
        }
        let status = set.settings.status_path().to_owned();
        let edited: Vec<_> = edited.iter().filter(|source| is_manifest(&source.path, &status)).collect();
        let before: Vec<Arc<File>> =
            edited.iter().map(|source| self.parsed_file(source)).collect::<Option<_>>()?;
        for (source, file) in edited.iter().zip(&before) {
            remove(&mut set, source, file);
        }
        for source in &edited {
            self.add(&mut set, source, &neighbours)?;
        }
        if set.problems.len() >= FINDINGS || set.documents.len() > OBJECT_LIMIT {
            return None;
        }
        self.last = Some(Last { set: set.clone(), neighbours });
        Some(set)
    }

    /// The file as it was read last, if its content was parsed.
    fn parsed_file(&self, source: &SourceFile) -> Option<Arc<File>> {
        let parsed = self.parsed.get(&source.path)?;
        (parsed.form == Form::File && source.form == Form::File).then(|| Arc::clone(&parsed.file))
    }

    /// Adds what a file contains now. Returns `None` if another file declares one of its objects.
    fn add(&mut self, set: &mut ObjectSet, source: &SourceFile, neighbours: &Neighbours) -> Option<()> {
        let parsed = Parsed::new(source, &self.extra);
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
            let document = draft.document(&source.path, set.settings.namespace());
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
fn remove(set: &mut ObjectSet, source: &SourceFile, file: &File) {
    set.problems.retain(|problem| problem.file != source.path);
    for draft in &file.drafts {
        let object = draft.document(&source.path, set.settings.namespace()).object.clone();
        if set.documents.get(&object).is_some_and(|document| document.file == source.path) {
            set.documents.remove(&object);
        }
    }
}
