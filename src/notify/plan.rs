//! What is sent next at one destination, and what is remembered once it arrived. Pure.
//!
//! A thread's messages go in order: its first, then replies, then the first as it stands now. What is
//! silent goes last. Bad news waits a moment: when many objects bring the same, one message tells of
//! all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::book::{Book, HEAD, Item, Record, cause_of, digest, digest_of};
use super::cause;
use super::sink::Manner;
use crate::announce::{Message, Story, Subject, TROUBLE, Tone, Weight};

/// How long bad news waits for more of the kind: builds that begin together fail some seconds apart.
const GATHER: Duration = Duration::from_secs(8);
/// After a start objects come in one by one: until then nobody knows who still fails.
const GRACE: Duration = Duration::from_secs(30);
/// A message about a cause that is older has been read: what joins it then is said anew.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// A first message is not written anew more often than this.
const EDIT_PAUSE: Duration = Duration::from_secs(3);
/// The same of a message that tells of many objects, which change one after another.
const CAUSE_PAUSE: Duration = Duration::from_secs(15);

/// What is due.
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
    /// The first message anew.
    Edit {
        about: Subject,
        thread: String,
    },
    /// A trouble is over.
    Resolve {
        about: Subject,
        thread: String,
    },
    /// The one message about these objects, new or joined by more.
    Cause {
        cause: String,
        joined: Vec<(Subject, String)>,
    },
    CauseOver {
        cause: String,
    },
    /// The first message of a thread as it ended, after the end was told.
    Close {
        about: Subject,
        thread: String,
    },
}

/// A message and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    pub task: Task,
    pub message: Message,
    pub way: Way,
}

/// How a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    Post {
        thread: Option<String>,
        loud: bool,
    },
    Edit {
        id: String,
    },
    /// It is noted, and not sent: what was said before stands for it.
    Unsaid,
}

impl Task {
    /// The thread it belongs to, where it is one's.
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
    /// What it speaks of, for sinks that have no threads to show it by.
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
    /// Something will be due then.
    At(Instant),
    Nothing,
}

/// Who does what when: one candidate a thread.
struct Candidate {
    due: Instant,
    /// Silent things go last.
    silent: bool,
    sending: Sending,
}

/// Decides. Things that are not to be sent at this destination at all are noted as told on the way.
pub fn next(book: &mut Book, manner: Manner, now: Instant) -> Next {
    let started = *book.since.get_or_insert(now);
    skip_untold(book, manner);
    let (mut candidates, mut bad) = (Vec::new(), BTreeMap::<String, Vec<Candidate>>::new());
    let mut still_due = BTreeMap::new();
    for (about, item) in &book.items {
        for record in &item.records {
            let Some(sending) = of_thread(about, item, record, manner) else { continue };
            let key = (about.clone(), record.thread.clone(), sending.message.id.clone());
            let since = book.due.get(&key).copied().unwrap_or(now);
            still_due.insert(key, since);
            let silent = matches!(sending.way, Way::Edit { .. });
            let edited = book.edited.get(&(about.clone(), record.thread.clone())).filter(|_| silent);
            let hold = item.story(&record.thread).filter(|_| !record.has_told(HEAD)).map(|story| story.hold);
            let since = since + hold.unwrap_or_default();
            let due = edited.map_or(since, |edited| since.max(*edited + EDIT_PAUSE));
            let candidate = Candidate { due, silent, sending };
            match item.story(&record.thread).and_then(cause_of).filter(|_| is_bad_news(&candidate.sending)) {
                Some(cause) => bad.entry(cause).or_default().push(candidate),
                None => candidates.push(candidate),
            }
        }
    }
    book.due = still_due;
    let items = &book.items;
    let is_told_of =
        |about: &Subject, thread: &str| items.get(about).is_some_and(|item| item.record(thread).is_some());
    book.edited.retain(|(about, thread), _| is_told_of(about, thread));
    for (cause, bad) in bad {
        candidates.extend(gathered(book, &cause, bad, manner, now));
    }
    let causes = cause::causes(book);
    book.causes.retain(|cause, _| causes.contains(cause));
    let known = causes.iter().filter_map(|cause| known_cause(book, cause, manner, now));
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

/// Notes as told what this destination is not told: details, where there are no threads or this one has
/// lost its first message; good news of an object whose bad news another message told, but in its thread.
fn skip_untold(book: &mut Book, manner: Manner) {
    for item in book.items.values_mut() {
        for record in &mut item.records {
            let Some(story) = item.stories.iter().find(|story| story.thread == record.thread) else {
                continue;
            };
            let threaded = manner == Manner::Threads;
            let lost = threaded && record.has_told(HEAD) && record.message.is_none();
            let least = if lost { Weight::Loud } else { manner.least() };
            let spoken_for = !threaded && record.cause.is_some();
            for reply in &story.replies {
                let untold = reply.weight < least || (spoken_for && reply.tone == Tone::Good);
                if untold && !record.has_told(&reply.id) {
                    record.tell(&reply.id);
                }
            }
        }
    }
}

/// The next thing of one thread, if there is any.
fn of_thread(about: &Subject, item: &Item, record: &Record, manner: Manner) -> Option<Sending> {
    let (about, thread) = (about.clone(), record.thread.clone());
    let Some(story) = item.story(&record.thread) else {
        return over(about, item, record);
    };
    if !record.has_told(HEAD) {
        // While a message about many objects speaks for it, it says nothing of its own.
        let way = Way::Post { thread: None, loud: false };
        let head = Sending { task: Task::Head { about, thread }, message: story.head.clone(), way };
        return record.cause.is_none().then_some(head);
    }
    if let Some(reply) = story.replies.iter().find(|reply| !record.has_told(&reply.id)) {
        // Its cause may have become another meanwhile.
        let same = record.cause.as_ref().is_some_and(|(cause, _)| cause_of(story).as_ref() == Some(cause));
        let spoken_for = record.cause.is_some() && (same || reply.tone == Tone::Good);
        let loud = reply.weight == Weight::Loud && !spoken_for;
        let way = Way::Post { thread: record.message.clone().filter(|_| manner == Manner::Threads), loud };
        let task = Task::Reply { about, thread, reply: reply.id.clone() };
        return Some(Sending { task, message: reply.clone(), way });
    }
    let id = record.message.clone().filter(|_| manner != Manner::Lines && !record.shows(story))?;
    Some(Sending { task: Task::Edit { about, thread }, message: story.head.clone(), way: Way::Edit { id } })
}

/// A trouble that is over: its end is told to whoever was told of it.
fn over(about: Subject, item: &Item, record: &Record) -> Option<Sending> {
    let thread = record.thread.clone();
    let message = item.resolved.get(&thread)?.clone();
    if record.cause.is_some() {
        return None;
    }
    if !record.has_told(&message.id) {
        // One trouble of an object may have taken the other's place; the repository's stand side by side.
        let alone = matches!(about, Subject::Repository(_));
        let loud = alone || !item.stories.iter().any(|story| story.thread.starts_with(TROUBLE));
        let way = Way::Post { thread: record.message.clone(), loud };
        return Some(Sending { task: Task::Resolve { about, thread }, message, way });
    }
    let id = record.message.clone()?;
    Some(Sending { task: Task::Close { about, thread }, message, way: Way::Edit { id } })
}

/// News that people hear of, and would rather not.
fn is_bad_news(sending: &Sending) -> bool {
    let bad = matches!(sending.message.tone, Tone::Bad | Tone::Person);
    let heard = match &sending.task {
        Task::Head { .. } => true,
        Task::Reply { .. } => sending.message.weight == Weight::Loud,
        _ => false,
    };
    bad && heard && matches!(sending.way, Way::Post { .. })
}

/// Bad news of one cause: each by itself, or one message for all.
fn gathered(
    book: &Book,
    cause: &str,
    mut bad: Vec<Candidate>,
    manner: Manner,
    now: Instant,
) -> Vec<Candidate> {
    let known = cause::sharing(book, cause);
    let since = bad.iter().map(|candidate| candidate.due).min();
    let mut joined: Vec<(Subject, String)> =
        bad.iter().filter_map(|candidate| candidate.sending.task.thread()).collect();
    // Those that failed a while before the others were told of one by one: from here on one message is for all.
    let alone = if known.all.is_empty() { cause::told_alone(book, cause) } else { Vec::new() };
    let alone = alone.into_iter().filter(|told| !joined.contains(told)).collect::<Vec<_>>();
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
    // After a start nobody knows how old it is: then it has been read.
    let fresh = book.causes.get(cause).and_then(|known| known.announced);
    let fresh = fresh.is_some_and(|announced| now.duration_since(announced) < FRESH);
    let threaded = manner == Manner::Threads;
    let (failing, way) = match known.message.clone() {
        _ if known.all.is_empty() => (news, Way::Post { thread: None, loud: true }),
        Some(id) if fresh => (known.failing.into_iter().chain(news).collect(), Way::Edit { id }),
        None if fresh => (news, Way::Unsaid),
        message => (news, Way::Post { thread: message.filter(|_| threaded), loud: true }),
    };
    let Some(mut message) = cause::head(&failing) else { return Vec::new() };
    // The same cause comes again another day, and is another message.
    message.id = format!("cause/{}", named(&joined));
    let task = Task::Cause { cause: cause.to_owned(), joined };
    vec![Candidate { due: since + GATHER, silent: false, sending: Sending { task, message, way } }]
}

/// Names the stories a message tells of.
fn named(stories: &[(Subject, String)]) -> String {
    let names: Vec<String> = stories.iter().map(|(about, thread)| format!("{about}/{thread}")).collect();
    digest(&names.join(" "))
}

/// What is due about a cause that was told of: it is over, or other objects fail for it now.
fn known_cause(book: &Book, cause: &str, manner: Manner, now: Instant) -> Option<Candidate> {
    let sharing = cause::sharing(book, cause);
    if sharing.is_over() {
        let mut message = cause::over(&sharing.all);
        message.id = format!("cause-over/{}", named(&sharing.all));
        let way = Way::Post { thread: sharing.message.filter(|_| manner == Manner::Threads), loud: true };
        let task = Task::CauseOver { cause: cause.to_owned() };
        return Some(Candidate { due: now, silent: false, sending: Sending { task, message, way } });
    }
    let message = cause::head(&sharing.failing)?;
    let last = book.causes.get(cause);
    let is_shown = last.is_some_and(|last| last.shown == digest_of(&message));
    let id = sharing.message.filter(|_| manner != Manner::Lines && !is_shown)?;
    let due = last.map_or(now, |last| last.written + CAUSE_PAUSE);
    let task = Task::Cause { cause: cause.to_owned(), joined: Vec::new() };
    Some(Candidate { due, silent: true, sending: Sending { task, message, way: Way::Edit { id } } })
}
