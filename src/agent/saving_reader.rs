//! The reader of manifests with the file in which it passes what it has parsed to the next process.

use crate::engine::standalone::manifest_cache::ManifestCache;
use crate::manifest::{Edited, ObjectSet, Reader, SavedFiles, SourceFile};
use crate::sync::Parser;

/// A reader, and the file, if one is used. All processes of a program must use the same rules.
pub struct SavingReader {
    reader: Reader,
    cache: Option<ManifestCache>,
    is_recalled: bool,
}

impl SavingReader {
    pub fn new(reader: Reader, cache: Option<ManifestCache>) -> Self {
        Self { reader, cache, is_recalled: false }
    }
}

impl Parser for SavingReader {
    fn read(&mut self, files: &[SourceFile]) -> ObjectSet {
        if !self.is_recalled {
            let saved = self.cache.as_ref().and_then(|cache| cache.read(SavedFiles::of_lines));
            self.reader.recall(saved.unwrap_or_default());
        }
        let set = self.reader.read(files);
        // Such a commit is not loaded, and what was recalled for it does not serve the next one.
        self.is_recalled = set.is_loadable();
        set
    }

    fn reread(&mut self, edited: &Edited) -> Option<ObjectSet> {
        self.reader.reread(edited)
    }

    fn discard(&mut self) {
        self.is_recalled = false;
        self.reader.discard();
    }

    fn save(&mut self) {
        let Some(cache) = self.cache.as_ref().filter(|_| self.reader.must_save()) else { return };
        if let Err(error) = cache.write(self.reader.lines()) {
            tracing::warn!(%error, "what was parsed of manifests cannot be saved; the next start parses it again");
        }
        // Also after a failure: on a full disk, each commit would try it again.
        self.reader.reset_unsaved();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::manifest::{Blobs, Content, Form};

    /// Enough to be saved.
    const MANY: usize = 100;

    /// A manifest for each blob ID, and how many of them were read.
    #[derive(Default)]
    struct Contents(AtomicUsize);

    impl Blobs for Contents {
        fn read(&self, blob: &str) -> Vec<u8> {
            self.0.fetch_add(1, Ordering::Relaxed);
            format!(
                "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {{name: b{blob}}}\n\
                 spec: {{region: us-east-1}}\n"
            )
            .into()
        }
    }

    /// The files of a commit.
    fn files(count: usize, contents: &Arc<Contents>) -> Vec<SourceFile> {
        let file = |number| SourceFile {
            path: format!("{number}.yaml"),
            blob: format!("{number:040x}"),
            content: Content::Stored(contents.clone()),
            form: Form::File,
        };
        (0..count).map(file).collect()
    }

    /// Starts a reader, and reads files of two commits. Returns how many contents were read, and whether they were saved.
    fn start(state: &Path, commits: [usize; 2]) -> (usize, bool) {
        let file = || std::fs::metadata(state.join("manifests.cache")).ok().map(|file| file.ino());
        let (before, contents) = (file(), Arc::new(Contents::default()));
        let mut reader = SavingReader::new(Reader::default(), Some(ManifestCache::of(state)));
        for count in commits {
            let set = reader.read(&files(count, &contents));
            assert_eq!((set.documents.len(), set.problems), (count, Vec::new()));
            reader.save();
        }
        (contents.0.load(Ordering::Relaxed), file() != before)
    }

    #[test]
    fn files_are_saved_once_many_were_parsed_or_are_gone() {
        let state = tempfile::tempdir().expect("a directory");
        assert_eq!(start(state.path(), [1, MANY - 1]), (MANY - 1, false), "too few");
        assert_eq!(start(state.path(), [1, MANY]), (MANY, true));
        assert_eq!(start(state.path(), [MANY + 1, 2 * MANY - 1]), (MANY - 1, false), "too few are new");
        assert_eq!(start(state.path(), [MANY, 2 * MANY]), (MANY, true));
        assert_eq!(start(state.path(), [2 * MANY, 2 * MANY]), (0, false), "nothing is new");
        assert_eq!(start(state.path(), [1, 1]), (0, true), "they belong to another repository");
        assert_eq!(start(state.path(), [2, 2]), (1, false));
    }

    #[test]
    fn what_cannot_be_saved_is_saved_once_many_more_were_parsed() {
        let state = tempfile::tempdir().expect("a directory");
        let contents = Arc::new(Contents::default());
        let file = state.path().join("manifests.cache");
        std::fs::create_dir_all(file.join("in-the-way")).expect("made");
        let mut reader = SavingReader::new(Reader::default(), Some(ManifestCache::of(state.path())));
        let mut save = |count| {
            reader.read(&files(count, &contents));
            reader.save();
            file.is_file()
        };
        assert!(!save(MANY));
        std::fs::remove_dir_all(&file).expect("removed");
        assert!(!save(MANY + 1));
        assert!(save(2 * MANY + 1));
    }

    #[test]
    fn what_was_recalled_for_a_commit_that_is_not_loaded_is_recalled_again() {
        let state = tempfile::tempdir().expect("a directory");
        let contents = Arc::new(Contents::default());
        let reader = || SavingReader::new(Reader::default(), Some(ManifestCache::of(state.path())));
        let mut first = reader();
        first.read(&files(MANY, &contents));
        first.save();
        let read = contents.0.load(Ordering::Relaxed);
        let mut second = reader();
        second.read(&files(MANY, &contents));
        second.discard();
        let settings = |text: &str| SourceFile {
            path: "opsy.yaml".to_owned(),
            blob: text.to_owned(),
            content: text.as_bytes().to_vec().into(),
            form: Form::File,
        };
        let with =
            |text: &str| files(MANY, &contents).into_iter().chain([settings(text)]).collect::<Vec<_>>();
        assert_eq!(second.read(&with("")).documents.len(), MANY);
        assert_eq!(contents.0.load(Ordering::Relaxed), read, "after content that cannot be read");
        let mut third = reader();
        assert!(third.read(&with("agentID: [")).without_settings);
        assert_eq!(third.read(&with("")).documents.len(), MANY);
        assert_eq!(contents.0.load(Ordering::Relaxed), read, "after settings that cannot be read");
    }
}
