//! What is told of the repository: files that are broken, a remote or a home that takes nothing, and the
//! digest of the day.

use std::time::Duration;

use super::{Around, Message, Story, Subject, TROUBLE, Tone, Weight, message, reason, trouble};
use crate::api::ids;
use crate::api::status::{BrokenFile, RepositoryStatus};

/// A thread of a digest starts like this.
const DIGEST: &str = "digest/";
/// The reason of files that are broken.
const BROKEN: &str = "ManifestBroken";
/// Commits that are named at once, and files.
const COMMITS: usize = 3;
const FILES: usize = 3;

/// Everything there is to tell of the repository.
pub fn stories(subject: &Subject, status: &RepositoryStatus, around: Around<'_>) -> Vec<Story> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let mut stories = trouble::stories(subject, conditions, &[], around);
    for story in stories.iter_mut().filter(|story| story.head.reason == BROKEN) {
        name_files(story, status.broken.as_deref().unwrap_or_default(), around);
    }
    stories
}

/// Each commit that broke files is news of its own: whoever broke the second is another person than who
/// broke the first.
fn name_files(story: &mut Story, files: &[BrokenFile], around: Around<'_>) {
    let mut commits: Vec<&str> = Vec::new();
    for file in files {
        if !commits.contains(&file.commit.as_str()) {
            commits.push(&file.commit);
        }
    }
    let newest = commits.iter().rev().take(COMMITS);
    story.head.facts = newest.clone().map(|commit| ("Commit", around.commit_words(commit))).collect();
    story.head.links = newest.filter_map(|commit| around.commit_link(commit)).collect();
    story.replies = commits.iter().map(|commit| told(commit, files, around)).collect();
}

fn told(commit: &str, files: &[BrokenFile], around: Around<'_>) -> Message {
    let files: Vec<&BrokenFile> = files.iter().filter(|file| file.commit == commit).collect();
    let id = format!("broken/{}", &ids::digest(&[commit])[..12]);
    let title = match files.as_slice() {
        [file] => format!("{} is broken", file.file),
        files => format!("{} files are broken", files.len()),
    };
    let mut told = message(id, BROKEN, Tone::Person, Weight::Loud, title);
    let words: Vec<&str> = files.iter().take(FILES).map(|file| file.words.as_str()).collect();
    told.text = words.join("; ");
    told.facts = vec![("Commit", around.commit_words(commit))];
    told.next = reason::of(BROKEN).advice.map(str::to_owned);
    told.links = around.commit_link(commit).into_iter().collect();
    told
}

/// The files that are broken now, those of the newest commit last. One that was before keeps the commit at
/// which that was first seen.
pub fn broken(before: &[BrokenFile], now: &[(String, String)], commit: &str) -> Vec<BrokenFile> {
    let words = |known: &BrokenFile| now.iter().find(|(file, _)| *file == known.file).map(|(_, words)| words);
    let still =
        before.iter().filter_map(|known| Some(BrokenFile { words: words(known)?.clone(), ..known.clone() }));
    let is_new = |file: &str| before.iter().all(|known| known.file != file);
    let new = now.iter().filter(|(file, _)| is_new(file)).map(|(file, words)| BrokenFile {
        file: file.clone(),
        words: words.clone(),
        commit: commit.to_owned(),
    });
    still.chain(new).collect()
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
    reason.is_some_and(|reason| reason::of(reason).of_repository)
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
        let monday = broken(&[], &[error("web", "web:1: x")], "c1");
        let tuesday = broken(&monday, &[error("a", "a:1: z"), error("web", "web:3: y")], "c2");
        assert_eq!(files(&tuesday), ["c1 web web:3: y", "c2 a a:1: z"]);
        let again = broken(&tuesday[1..], &[error("web", "web:1: x"), error("a", "a:1: z")], "c3");
        assert_eq!(files(&again), ["c2 a a:1: z", "c3 web web:1: x"]);
    }
}
