//! Selects the next message of one destination, and when it is due. `outcome` records what became of it. Pure.
//!
//! The messages of a thread are sent in order: the first message, then the replies, then an edit that brings the first
//! message up to date. Edits notify no one and are sent last. Bad news waits for a moment: if many objects fail for the
//! same cause, one message covers all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::book::{Book, HEAD, Item, Record, cause_of, digest, digest_of};
use super::cause;
use super::sinks::DeliveryMode;
use crate::announce::{Message, Story, Subject, TROUBLE, Tone, Weight};

/// How long bad news waits for more with the same cause. Builds that start together fail some seconds apart.
const GATHER: Duration = Duration::from_secs(8);
/// How long after a start no shared cause is updated or ended. Objects are observed one by one after a start, so it is
/// not known at first which of them still fail.
const GRACE: Duration = Duration::from_secs(30);
/// Age at which people have read the message about a cause. An object that fails later is announced by a new message,
/// because an edit of the old one would not be noticed.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// Minimum time between two edits of a first message. Slack allows 50 edits per minute for all threads together.
const EDIT_PAUSE: Duration = Duration::from_secs(3);
/// Minimum time between two edits of a message about many objects, which change one after another.
const CAUSE_PAUSE: Duration = Duration::from_secs(15);

/// What a message is about, and what is recorded once it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// The first message of a thread.
    Head {
        about: Subject,
        thread: String,
    },
    Reply {
        about: Subject,
        thread: String,
        reply: String,
    },
    /// Bring the first message of a thread up to date.
    Edit {
        about: Subject,
        thread: String,
    },
    /// A problem is resolved.
    Resolve {
        about: Subject,
        thread: String,
    },
    /// The message about all objects with the same cause. `joined` contains those that it did not cover before.
    Cause {
        cause: String,
        joined: Vec<(Subject, String)>,
    },
    /// No object fails for this cause any more.
    CauseOver {
        cause: String,
    },
    /// Edit the first message of a resolved problem for the last time, after the reply that says so.
    Close {
        about: Subject,
        thread: String,
    },
}

/// A message, and how it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    pub task: Task,
    pub message: Message,
    pub way: Way,
}

/// How a message is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    Post {
        thread: Option<String>,
        loud: bool,
    },
    Edit {
        id: String,
    },
    /// Not sent, only recorded: an earlier message already covers it.
    RecordOnly,
}

impl Task {
    /// Returns the object and the thread, unless the message is about several objects.
    pub fn thread(&self) -> Option<(Subject, String)> {
        match self {
            Self::Head { about, thread }
            | Self::Reply { about, thread, .. }
            | Self::Edit { about, thread }
            | Self::Resolve { about, thread }
            | Self::Close { about, thread } => Some((about.clone(), thread.clone())),
            Self::Cause { .. } | Self::CauseOver { .. } => None,
        }
    }
}

impl Sending {
    /// Returns the name of the story or cause, for destinations without threads.
    pub fn subject(&self) -> String {
        match (self.task.thread(), &self.task) {
            (Some((about, thread)), _) => format!("{about}/{thread}"),
            (None, Task::Cause { cause, .. } | Task::CauseOver { cause }) => format!("cause/{cause}"),
            (None, _) => String::new(),
        }
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Send(Box<Sending>),
    /// Nothing is due before this instant.
    At(Instant),
    Nothing,
}

/// The next message of one thread or one cause, and when it is due.
struct Candidate {
    due: Instant,
    /// It is an edit, which notifies no one and is sent after all other messages.
    silent: bool,
    sending: Sending,
}

/// Selects the next message. Messages that this destination does not get are recorded as delivered first.
pub fn next(book: &mut Book, mode: DeliveryMode, now: Instant) -> Next {
    let started = *book.since.get_or_insert(now);
    skip_unwanted(book, mode);
    let (mut candidates, mut bad) = (Vec::new(), BTreeMap::<String, Vec<Candidate>>::new());
    // Built again from what is due now, so that a problem that ends and comes again waits for its full hold again.
    let mut still_due = BTreeMap::new();
    for (about, item) in &book.items {
        for record in &item.records {
            let Some(sending) = of_thread(about, item, record, mode) else { continue };
            let key = (about.clone(), record.thread.clone(), sending.message.id.clone());
            let since = book.due.get(&key).copied().unwrap_or(now);
            still_due.insert(key, since);
            // Edits are limited, because the state of an object can change every few seconds. Other messages are not:
            // each of them is news.
            let silent = matches!(sending.way, Way::Edit { .. });
            let edited = book.edited.get(&(about.clone(), record.thread.clone())).filter(|_| silent);
            // Only the start of a story is held back. Once people know of it, they see every change at once.
            let hold =
                item.story(&record.thread).filter(|_| !record.has_delivered(HEAD)).map(|story| story.hold);
            let since = since + hold.unwrap_or_default();
            let due = edited.map_or(since, |edited| since.max(*edited + EDIT_PAUSE));
            let candidate = Candidate { due, silent, sending };
            // Bad news is grouped by cause, so that many objects that fail together become one message.
            match item.story(&record.thread).and_then(cause_of).filter(|_| is_bad_news(&candidate.sending)) {
                Some(cause) => bad.entry(cause).or_default().push(candidate),
                None => candidates.push(candidate),
            }
        }
    }
    book.due = still_due;
    // Threads that are no longer recorded are never edited again.
    let items = &book.items;
    let is_recorded =
        |about: &Subject, thread: &str| items.get(about).is_some_and(|item| item.record(thread).is_some());
    book.edited.retain(|(about, thread), _| is_recorded(about, thread));
    for (cause, bad) in bad {
        candidates.extend(gathered(book, &cause, bad, mode, now));
    }
    let causes = cause::causes(book);
    book.causes.retain(|cause, _| causes.contains(cause));
    let known = causes.iter().filter_map(|cause| known_cause(book, cause, mode, now));
    // Right after a start most objects are not observed yet, so a cause that still exists could look resolved.
    candidates
        .extend(known.map(|candidate| Candidate { due: candidate.due.max(started + GRACE), ..candidate }));
    first(candidates, now)
}

fn first(candidates: Vec<Candidate>, now: Instant) -> Next {
    let (due, later): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|candidate| candidate.due <= now);
    match due.into_iter().min_by_key(|candidate| (candidate.silent, candidate.due)) {
        Some(candidate) => Next::Send(Box::new(candidate.sending)),
        None => later.iter().map(|candidate| candidate.due).min().map_or(Next::Nothing, Next::At),
    }
}

/// Records as delivered what this destination does not get. These are details, if the destination has no threads or the
/// first message of the thread is lost. Outside of threads it is also good news of an object whose bad news was covered
/// by the message about a shared cause: that message reports the recovery of all.
fn skip_unwanted(book: &mut Book, mode: DeliveryMode) {
    for item in book.items.values_mut() {
        for record in &mut item.records {
            let Some(story) = item.stories.iter().find(|story| story.thread == record.thread) else {
                continue;
            };
            let threaded = mode == DeliveryMode::Threads;
            let lost = threaded && record.has_delivered(HEAD) && record.message.is_none();
            let least = if lost { Weight::Loud } else { mode.least() };
            let covered = !threaded && record.cause.is_some();
            for reply in &story.replies {
                let unwanted = reply.weight < least || (covered && reply.tone == Tone::Good);
                if unwanted && !record.has_delivered(&reply.id) {
                    record.mark_delivered(&reply.id);
                }
            }
        }
    }
}

/// Returns the next message of one thread, if there is any.
fn of_thread(about: &Subject, item: &Item, record: &Record, mode: DeliveryMode) -> Option<Sending> {
    let (about, thread) = (about.clone(), record.thread.clone());
    let Some(story) = item.story(&record.thread) else {
        return over(about, item, record);
    };
    if !record.has_delivered(HEAD) {
        // While the message about a shared cause covers this story, it is not announced by itself.
        let way = Way::Post { thread: None, loud: false };
        let head = Sending { task: Task::Head { about, thread }, message: story.head.clone(), way };
        return record.cause.is_none().then_some(head);
    }
    if let Some(reply) = story.replies.iter().find(|reply| !record.has_delivered(&reply.id)) {
        // The channel is not notified again of what the message about the shared cause reports: the failure, and later
        // the recovery. It is notified if the story now fails for another cause.
        let same = record.cause.as_ref().is_some_and(|(cause, _)| cause_of(story).as_ref() == Some(cause));
        let covered = record.cause.is_some() && (same || reply.tone == Tone::Good);
        let loud = reply.weight == Weight::Loud && !covered;
        let way =
            Way::Post { thread: record.message.clone().filter(|_| mode == DeliveryMode::Threads), loud };
        let task = Task::Reply { about, thread, reply: reply.id.clone() };
        return Some(Sending { task, message: reply.clone(), way });
    }
    let id = record.message.clone().filter(|_| mode != DeliveryMode::Lines && !record.shows(story))?;
    Some(Sending { task: Task::Edit { about, thread }, message: story.head.clone(), way: Way::Edit { id } })
}

/// Returns the next message about a problem that is resolved: first a reply that says so, then an edit of the first
/// message.
fn over(about: Subject, item: &Item, record: &Record) -> Option<Sending> {
    let thread = record.thread.clone();
    let message = item.resolved.get(&thread)?.clone();
    // The message about the shared cause reports the end for all objects.
    if record.cause.is_some() {
        return None;
    }
    if !record.has_delivered(&message.id) {
        // If an object has another problem now, the channel is not notified that this one is resolved: the object has
        // not recovered. The problems of the repository are independent of each other.
        let independent = matches!(about, Subject::Repository(_));
        let loud = independent || !item.stories.iter().any(|story| story.thread.starts_with(TROUBLE));
        let way = Way::Post { thread: record.message.clone(), loud };
        return Some(Sending { task: Task::Resolve { about, thread }, message, way });
    }
    let id = record.message.clone()?;
    Some(Sending { task: Task::Close { about, thread }, message, way: Way::Edit { id } })
}

/// Returns whether a message notifies people of a failure.
fn is_bad_news(sending: &Sending) -> bool {
    let bad = matches!(sending.message.tone, Tone::Bad | Tone::Person);
    let notifies = match &sending.task {
        Task::Head { .. } => true,
        Task::Reply { .. } => sending.message.weight == Weight::Loud,
        _ => false,
    };
    bad && notifies && matches!(sending.way, Way::Post { .. })
}

/// Returns the messages for the bad news of one cause: each by itself, or one for all.
fn gathered(
    book: &Book,
    cause: &str,
    mut bad: Vec<Candidate>,
    mode: DeliveryMode,
    now: Instant,
) -> Vec<Candidate> {
    let known = cause::sharing(book, cause);
    let since = bad.iter().map(|candidate| candidate.due).min();
    let mut joined: Vec<(Subject, String)> =
        bad.iter().filter_map(|candidate| candidate.sending.task.thread()).collect();
    // Objects that failed earlier and were announced one by one count too, and are covered by the same message from now
    // on.
    let alone = if known.all.is_empty() { cause::announced_alone(book, cause) } else { Vec::new() };
    let alone = alone.into_iter().filter(|thread| !joined.contains(thread)).collect::<Vec<_>>();
    joined.extend(alone);
    let many = joined.iter().map(|(about, _)| about).collect::<BTreeSet<_>>().len() >= cause::MANY;
    let (Some(since), true) = (since, many || !known.all.is_empty()) else {
        bad.iter_mut().for_each(|candidate| candidate.due += GATHER);
        return bad;
    };
    let news: Vec<(&Subject, &Story)> = joined
        .iter()
        .filter_map(|(about, thread)| {
            let (about, item) = book.items.get_key_value(about)?;
            Some((about, item.story(thread)?))
        })
        .collect();
    // After a start the age of the message is not known, so it counts as read.
    let fresh = book.causes.get(cause).and_then(|known| known.announced);
    let fresh = fresh.is_some_and(|announced| now.duration_since(announced) < FRESH);
    let threaded = mode == DeliveryMode::Threads;
    let (failing, way) = match known.message.clone() {
        _ if known.all.is_empty() => (news, Way::Post { thread: None, loud: true }),
        Some(id) if fresh => (known.failing.into_iter().chain(news).collect(), Way::Edit { id }),
        None if fresh => (news, Way::RecordOnly),
        message => (news, Way::Post { thread: message.filter(|_| threaded), loud: true }),
    };
    let Some(mut message) = cause::head(&failing) else { return Vec::new() };
    // The same cause can come again later. Its message then needs another ID.
    message.id = format!("cause/{}", named(&joined));
    let task = Task::Cause { cause: cause.to_owned(), joined };
    vec![Candidate { due: since + GATHER, silent: false, sending: Sending { task, message, way } }]
}

/// Returns a digest of the stories that a message covers.
fn named(stories: &[(Subject, String)]) -> String {
    let names: Vec<String> = stories.iter().map(|(about, thread)| format!("{about}/{thread}")).collect();
    digest(&names.join(" "))
}

/// Returns what is due about a cause that was announced: its end, or an edit because other objects fail for it now.
fn known_cause(book: &Book, cause: &str, mode: DeliveryMode, now: Instant) -> Option<Candidate> {
    let sharing = cause::sharing(book, cause);
    if sharing.is_over() {
        let mut message = cause::over(&sharing.all);
        message.id = format!("cause-over/{}", named(&sharing.all));
        let way = Way::Post { thread: sharing.message.filter(|_| mode == DeliveryMode::Threads), loud: true };
        let task = Task::CauseOver { cause: cause.to_owned() };
        return Some(Candidate { due: now, silent: false, sending: Sending { task, message, way } });
    }
    let message = cause::head(&sharing.failing)?;
    let last = book.causes.get(cause);
    let is_shown = last.is_some_and(|last| last.shown == digest_of(&message));
    let id = sharing.message.filter(|_| mode != DeliveryMode::Lines && !is_shown)?;
    let due = last.map_or(now, |last| last.written + CAUSE_PAUSE);
    let task = Task::Cause { cause: cause.to_owned(), joined: Vec::new() };
    Some(Candidate { due, silent: true, sending: Sending { task, message, way: Way::Edit { id } } })
}
