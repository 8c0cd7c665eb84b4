//! Watches files whose change wakes the sync at once: the refs of a local repository, credentials, and trusted signers.
//! If they cannot be watched, only the interval remains, which is not an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::warn;

use crate::git::Handle;

/// Watches the files until the returned watcher is dropped.
pub(super) fn files(git: &Handle, wake: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let places = places(git);
    if places.is_empty() {
        return None;
    }
    let wake = Arc::clone(wake);
    let told = move |event: notify::Result<Event>| {
        // After an error, a change may have been missed.
        if event.is_ok_and(|event| !is_news(&event)) {
            return;
        }
        wake.notify_one();
    };
    let mut watcher = match notify::recommended_watcher(told) {
        Ok(watcher) => watcher,
        Err(error) => {
            warn!(%error, "files cannot be watched; syncing at intervals only");
            return None;
        }
    };
    for (place, mode) in places {
        if let Err(error) = watcher.watch(&place, mode) {
            warn!(%error, place = %place.display(), "cannot be watched; syncing at intervals only");
        }
    }
    Some(watcher)
}

/// The folders to watch. Folders instead of files, because refs are replaced by renaming, and mounted Secrets by a new
/// link.
fn places(git: &Handle) -> Vec<(PathBuf, RecursiveMode)> {
    let mut places = Vec::new();
    if let Some(folder) = git.local_git_folder() {
        places.push((folder.join("refs"), RecursiveMode::Recursive));
        places.push((folder, RecursiveMode::NonRecursive));
    }
    let options = git.options();
    let credentials = options.credentials.as_ref().map(|credentials| credentials.files()).unwrap_or_default();
    let signers = options.signers.iter().flat_map(|signers| &signers.files);
    for file in credentials.into_iter().chain(signers.map(PathBuf::as_path)) {
        let folder = Some(file).filter(|file| file.is_dir()).or_else(|| file.parent());
        let folder = folder.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !places.iter().any(|(place, _)| place == folder) {
            places.push((folder.to_owned(), RecursiveMode::NonRecursive));
        }
    }
    places
}

/// Returns true if an event can be a change. The agent itself causes events of opening and reading, and Git's lock
/// files only announce a change.
fn is_news(event: &Event) -> bool {
    let lock = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "lock");
    let only_locks = !event.paths.is_empty() && event.paths.iter().all(lock);
    !only_locks && !matches!(event.kind, EventKind::Access(_))
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, ModifyKind};

    use super::*;

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(PathBuf::from(path))
    }

    #[test]
    fn our_own_reading_is_no_news() {
        assert!(!is_news(&event(EventKind::Access(AccessKind::Any), "refs/heads/main")));
        assert!(!is_news(&event(EventKind::Create(CreateKind::File), "refs/heads/main.lock")));
        assert!(is_news(&event(EventKind::Modify(ModifyKind::Any), "refs/heads/main")));
        assert!(is_news(&event(EventKind::Create(CreateKind::Any), "..data")));
    }
}
