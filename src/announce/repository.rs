//! What is told of the repository: files that are broken, a remote or a home that takes nothing, and the
//! digest of the day.

use std::time::Duration;

use super::{Around, Message, Story, Subject, TROUBLE, Tone, Weight, message, trouble};
use crate::api::ids;
use crate::api::status::{BrokenFile, RepositoryStatus};

/// A thread of a digest starts like this.
const DIGEST: &str = "digest/";
/// The reason of files that are broken.
const BROKEN: &str = "ManifestBroken";
/// Broken files that are told of one by one, and commits that are named at once.
const FILES: usize = 20;
const COMMITS: usize = 3;

/// Everything there is to tell of the repository.
pub fn stories(subject: &Subject, status: &RepositoryStatus, around: Around<'_>) -> Vec<Story> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let mut stories = trouble::stories(subject, conditions, &[], around);
    for story in stories.iter_mut().filter(|story| story.head.reason == BROKEN) {
        name_files(story, status.broken.as_deref().unwrap_or_default(), around);
    }
    stories
}

/// Each broken file is news of its own: whoever broke the second is another person than who broke the first.
fn name_files(story: &mut Story, files: &[BrokenFile], around: Around<'_>) {
    let mut commits: Vec<&str> = files.iter().map(|file| file.commit.as_str()).collect();
    commits.dedup();
    let newest = commits.iter().rev().take(COMMITS);
    story.head.facts = newest.clone().map(|commit| ("Commit", around.commit_words(commit))).collect();
    story.head.links = newest.filter_map(|commit| around.commit_link(commit)).collect();
    story.replies = files.iter().rev().take(FILES).rev().map(|file| told(file, around)).collect();
}

fn told(file: &BrokenFile, around: Around<'_>) -> Message {
    let id = format!("broken/{}", &ids::digest(&[&file.file, &file.commit])[..12]);
    let title = format!("{} is broken", file.file);
    let mut told = message(id, BROKEN, Tone::Person, Weight::Loud, title);
    told.text = file.words.clone();
    told.facts = vec![("Commit", around.commit_words(&file.commit))];
    told.next = trouble::advice(BROKEN).map(str::to_owned);
    told.links = around.commit_link(&file.commit).into_iter().collect();
    told
}

/// The files that are broken now. One that was before keeps the commit at which that was first seen.
pub fn broken(before: &[BrokenFile], now: &[(String, String)], commit: &str) -> Vec<BrokenFile> {
    let since = |file: &str| before.iter().find(|known| known.file == file);
    let mut files: Vec<BrokenFile> = Vec::new();
    for (file, words) in now {
        if files.iter().all(|known| known.file != *file) {
            let commit = since(file).map_or(commit, |known| &known.commit).to_owned();
            files.push(BrokenFile { file: file.clone(), words: words.clone(), commit });
        }
    }
    // The newest last.
    files.sort_by_key(|file| file.commit == commit);
    files
}

/// The thread of a day's digest.
pub fn digest_thread(day: &str) -> String {
    format!("{DIGEST}{day}")
}

/// The digest of a day: said once. It is over as soon as it is known, so that it is not written anew.
pub fn digest(day: &str, head: Message, known: bool) -> Story {
    let thread = digest_thread(day);
    Story { thread, head, replies: Vec::new(), over: known, hold: Duration::ZERO, cause: None }
}

/// Is this told where the repository's own troubles are told, too? Once is enough there.
pub fn is_told_of_the_repository(story: &Story) -> bool {
    let reason = story.thread.strip_prefix(TROUBLE).and_then(|rest| rest.split('/').next());
    matches!(reason, Some(BROKEN | "PruneRefused" | "PushRefused" | "PushFailed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_the_commit_that_broke_it_and_the_newest_is_last() {
        let error = |file: &str, words: &str| (file.to_owned(), words.to_owned());
        let files = |all: &[BrokenFile]| -> Vec<String> {
            all.iter().map(|file| format!("{} {} {}", file.commit, file.file, file.words)).collect()
        };
        let monday = broken(&[], &[error("web", "web:1: x"), error("web", "web:2: y")], "c1");
        assert_eq!(files(&monday), ["c1 web web:1: x"]);
        let tuesday = broken(&monday, &[error("a", "a:1: z"), error("web", "web:3: y")], "c2");
        assert_eq!(files(&tuesday), ["c1 web web:3: y", "c2 a a:1: z"]);
        let again = broken(&tuesday[1..], &[error("web", "web:1: x"), error("a", "a:1: z")], "c3");
        assert_eq!(files(&again), ["c2 a a:1: z", "c3 web web:1: x"]);
    }
}
