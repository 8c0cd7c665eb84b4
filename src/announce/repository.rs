//! The notifications about the repository: broken files, a remote that cannot be read or refuses pushes, commits and
//! objects that cannot be applied, and the daily digest.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{COMMIT, Context, Message, Story, Subject, TROUBLE, Tone, Weight, message, reason, trouble};
use crate::api::status::{BrokenFile, RepositoryStatus};
use crate::api::{ids, reasons};

/// Start of the thread name of every digest.
const DIGEST: &str = "digest/";
/// The reason for broken files.
const BROKEN: &str = reasons::MANIFEST_BROKEN;
/// Maximum number of commits, and of files, that one message names, so that it stays readable.
const COMMITS: usize = 3;
const FILES: usize = 3;

/// Returns the stories of the repository.
pub fn stories(subject: &Subject, status: &RepositoryStatus, context: Context<'_>) -> Vec<Story> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let mut stories = trouble::stories(subject, conditions, &[], context);
    for story in stories.iter_mut().filter(|story| story.head.reason == BROKEN) {
        name_files(story, status.broken.as_deref().unwrap_or_default(), context);
    }
    stories
}

/// Returns the commits that the stories name: those that broke files.
pub fn commits(status: &RepositoryStatus) -> BTreeSet<String> {
    status.broken.iter().flatten().map(|file| file.commit.clone()).collect()
}

/// Adds a reply for each commit that broke files: each of them can be by another author, who must learn of it.
fn name_files(story: &mut Story, files: &[BrokenFile], context: Context<'_>) {
    let mut commits: Vec<&str> = Vec::new();
    for file in files {
        if !commits.contains(&file.commit.as_str()) {
            commits.push(&file.commit);
        }
    }
    let newest = commits.iter().rev().take(COMMITS);
    story.head.facts = newest.clone().map(|commit| (COMMIT, context.commit_words(commit))).collect();
    story.head.links = newest.filter_map(|commit| context.commit_link(commit)).collect();
    story.replies = commits.iter().map(|commit| broken_by(commit, files, context)).collect();
}

/// Returns the message about the files that one commit broke.
fn broken_by(commit: &str, files: &[BrokenFile], context: Context<'_>) -> Message {
    let files: Vec<&BrokenFile> = files.iter().filter(|file| file.commit == commit).collect();
    let id = format!("broken/{}", &ids::digest(&[commit])[..12]);
    let title = match files.as_slice() {
        [file] => format!("{} is broken", file.file),
        files => format!("{} files are broken", files.len()),
    };
    let mut reply = message(id, BROKEN, Tone::Person, Weight::Loud, title);
    let problems: Vec<&str> = files.iter().take(FILES).map(|file| file.words.as_str()).collect();
    reply.text = problems.join("; ");
    reply.facts = vec![(COMMIT, context.commit_words(commit))];
    reply.next = reason::of(BROKEN).advice.map(str::to_owned);
    reply.links = context.commit_link(commit).into_iter().collect();
    reply
}

/// Returns the files that are broken now, those of the newest commit last. A file that was already broken keeps the
/// commit at which this was first seen.
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

/// Returns the thread of the digest of a day.
pub fn digest_thread(day: &str) -> String {
    format!("{DIGEST}{day}")
}

/// Returns the story of a day's digest, which is sent once. The story is over as soon as a destination is recorded for
/// it (`known`), so that the message is not edited afterwards.
pub fn digest(day: &str, head: Message, known: bool) -> Story {
    let thread = digest_thread(day);
    Story { thread, head, replies: Vec::new(), over: known, hold: Duration::ZERO, cause: None }
}

/// Returns whether the repository reports the same problem. It is then left out of an object's stories if both are sent
/// to the same destinations.
pub fn is_reported_by_repository(story: &Story) -> bool {
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
