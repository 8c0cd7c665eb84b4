//! The notifications of a builder: one story per build with all its attempts, and its troubles.

use std::time::Duration;

use super::around::{image_link, took};
use super::{Around, Message, Story, Tone, Weight, argument, cause, message, short_name, trouble};
use crate::api::ObjectKey;
use crate::api::builder::{PackerBuilderSpec, PackerBuilderStatus, RunRecord};
use crate::api::conditions::{self, Condition};

/// Lines of a failed build's errors that are shown.
const EXCERPT: usize = 8;
/// Builds that are reported: one may be over, and the next started, before a notification could be sent.
const BUILDS: usize = 3;
/// A retry limit that is reached belongs to the build's story.
const GAVE_UP: &str = "RetryLimit";
/// What Packer says of every script that fails.
const SCRIPT_FAILED: &str = "non-zero exit status";
/// Reasons that the story of a build reports.
const TOLD: [&str; 2] = [GAVE_UP, "BuildFailed"];

/// One try at a build: the live one, or one of the history.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    id: &'a str,
    why: &'a str,
    commit: Option<&'a str>,
    record: Option<&'a RunRecord>,
}

/// A build with all its attempts, the first of them first.
struct Build<'a> {
    object: &'a ObjectKey,
    spec: &'a PackerBuilderSpec,
    status: &'a PackerBuilderStatus,
    attempts: Vec<Attempt<'a>>,
    /// The build before it came to nothing.
    after_failure: bool,
    /// No other build was started since.
    newest: bool,
    around: Around<'a>,
}

/// Did a build with this result come to nothing for a fault?
pub fn has_failed(result: &str) -> bool {
    matches!(result, "Failed" | "TimedOut" | "Lost")
}

/// Everything there is to tell of a builder.
pub fn stories(
    object: &ObjectKey,
    spec: &PackerBuilderSpec,
    status: &PackerBuilderStatus,
    around: Around<'_>,
) -> Vec<Story> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let builds = builds(object, spec, status, around).into_iter().map(|build| build.story());
    builds.chain(trouble::stories(&object.into(), conditions, &TOLD, around)).collect()
}

/// The last builds, the newest first. Those before it are over, whatever they came to.
fn builds<'a>(
    object: &'a ObjectKey,
    spec: &'a PackerBuilderSpec,
    status: &'a PackerBuilderStatus,
    around: Around<'a>,
) -> Vec<Build<'a>> {
    let history = status.history.as_deref().unwrap_or_default();
    let mut tries = live(status, history).into_iter().chain(history.iter().map(ended)).peekable();
    let mut builds = Vec::new();
    while builds.len() < BUILDS && tries.peek().is_some() {
        let mut attempts = Vec::new();
        for attempt in tries.by_ref() {
            let again = attempt.why == "Retry";
            attempts.push(attempt);
            if !again {
                break;
            }
        }
        attempts.reverse();
        let after_failure = tries.clone().find(Attempt::counts).is_some_and(|before| before.failed());
        let newest = builds.is_empty();
        builds.push(Build { object, spec, status, attempts, after_failure, newest, around });
    }
    builds
}

fn live<'a>(status: &'a PackerBuilderStatus, history: &[RunRecord]) -> Option<Attempt<'a>> {
    let id = status.build_id.as_deref()?;
    let running = matches!(status.job_status.as_deref(), Some("Pending" | "Running" | "Stopping"));
    let recorded = history.iter().any(|record| record.id == id);
    let why = status.reason.as_deref().unwrap_or_default();
    (running && !recorded).then_some(Attempt { id, why, commit: status.commit.as_deref(), record: None })
}

fn ended(record: &RunRecord) -> Attempt<'_> {
    let why = record.why.as_deref().unwrap_or_default();
    Attempt { id: &record.id, why, commit: record.commit.as_deref(), record: Some(record) }
}

impl Attempt<'_> {
    fn result(&self) -> &str {
        self.record.map_or("", |record| record.result.as_str())
    }

    fn failed(&self) -> bool {
        has_failed(self.result())
    }

    /// Cancelled and superseded builds say nothing about whether builds work.
    fn counts(&self) -> bool {
        !matches!(self.result(), "Cancelled" | "Superseded")
    }

    fn errors(&self) -> &[String] {
        self.record.and_then(|record| record.errors.as_deref()).unwrap_or_default()
    }

    /// Packer's first error: it led to the others.
    fn first_error(&self) -> &str {
        self.errors().first().map_or("no error was printed", String::as_str)
    }

    /// What went wrong, in a line: the step, the cause, and what a failed script printed last.
    fn error_words(&self) -> String {
        let cause = self.record.and_then(RunRecord::cause);
        cause.unwrap_or_else(|| "no error was printed".to_owned())
    }

    fn advice(&self) -> Option<&str> {
        self.record?.advice.as_deref()
    }

    /// The lines that explain a failure: what the script printed, else what Packer said beside the cause.
    fn excerpt(&self) -> Vec<String> {
        let output = self.record.and_then(|record| record.output.as_deref()).unwrap_or_default();
        let lines = if output.is_empty() && self.errors().len() > 1 { self.errors() } else { output };
        lines[lines.len().saturating_sub(EXCERPT)..].to_vec()
    }
}

impl<'a> Build<'a> {
    fn story(&self) -> Story {
        let (first, last) = (&self.attempts[0], self.last());
        let failed = last.failed();
        let mut replies: Vec<Message> =
            (1..).zip(&self.attempts).flat_map(|(number, attempt)| self.told(number, attempt)).collect();
        replies.extend(self.gave_up().then(|| self.giving_up()));
        Story {
            thread: format!("build/{}", first.id),
            head: self.head(),
            replies,
            over: last.record.is_some() && (!failed || self.gave_up() || !self.newest),
            hold: Duration::ZERO,
            cause: (failed && self.newest).then(|| self.cause()),
        }
    }

    /// What every failing script says is a cause only for builds of one template.
    fn cause(&self) -> String {
        let last = self.last();
        let reason = if self.gave_up() { GAVE_UP } else { "BuildFailed" };
        let words = last.first_error();
        let any = last.errors().is_empty() || words.contains(SCRIPT_FAILED);
        let template = last.record.and_then(|record| record.inputs.as_ref()?.template.as_deref());
        let template = template.filter(|_| any).unwrap_or_default();
        format!("{}{template}", cause(&self.object.key.name, reason, words))
    }

    /// A build has one attempt at least.
    fn last(&self) -> &Attempt<'a> {
        &self.attempts[self.attempts.len() - 1]
    }

    fn name(&self) -> String {
        short_name(self.object)
    }

    fn ready(&self) -> Option<&'a Condition> {
        let conditions = self.status.conditions.as_deref().filter(|_| self.newest).unwrap_or_default();
        conditions.iter().find(|condition| condition.r#type == conditions::READY)
    }

    /// What the condition says, where it speaks of this.
    fn condition_words(&self, reason: &str) -> Option<String> {
        self.ready().filter(|ready| ready.reason.as_deref() == Some(reason))?.message.clone()
    }

    fn gave_up(&self) -> bool {
        self.last().failed() && self.ready().is_some_and(|ready| ready.reason.as_deref() == Some(GAVE_UP))
    }

    fn head(&self) -> Message {
        let last = self.last();
        let name = self.name();
        let (reason, tone, title) = match last.result() {
            "" => ("BuildStarted", Tone::Working, format!("{name}: building an image")),
            "Succeeded" => ("BuildSucceeded", Tone::Good, format!("{name}: built {}", images(last))),
            "Superseded" => {
                ("BuildSuperseded", Tone::Good, format!("{name}: built an image that is no longer needed"))
            }
            "Cancelled" => ("BuildCancelled", Tone::Bad, format!("{name}: the build was canceled")),
            _ if self.gave_up() => {
                ("BuildFailed", Tone::Person, format!("{name}: the build fails and needs attention"))
            }
            _ => ("BuildFailed", Tone::Bad, format!("{name}: the build failed")),
        };
        let mut head = message("head", reason, tone, Weight::Milestone, title);
        head.text = self.text(last);
        head.facts = self.facts();
        head.next = last.failed().then(|| self.advice());
        head.links = self.links();
        head
    }

    fn text(&self, last: &Attempt<'_>) -> String {
        match last.result() {
            "" => {
                let why = why_words(self.attempts[0].why);
                match self.status.job_status.as_deref() {
                    Some("Pending") => format!("{why}; waits to start"),
                    Some("Stopping") => format!("{why}; being stopped"),
                    _ => why.to_owned(),
                }
            }
            "Succeeded" | "Superseded" | "Cancelled" => String::new(),
            _ => last.error_words(),
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let last = self.last();
        let mut facts = Vec::new();
        // While it runs the text says so.
        facts.extend(last.record.map(|_| ("Why", why_words(self.attempts[0].why).to_owned())));
        facts.extend(last.commit.map(|commit| ("Commit", self.around.commit_words(commit))));
        facts.extend(self.spec.region.clone().map(|region| ("Region", region)));
        let asked = |record: &RunRecord| record.inputs.as_ref()?.base_ami.clone();
        let base = last.record.and_then(|record| record.base_ami.clone().or_else(|| asked(record)));
        facts.extend(base.map(|base| ("Base image", base)));
        if self.attempts.len() > 1 {
            let most =
                self.status.max_number_of_failed_jobs.map_or(String::new(), |most| format!(" of {most}"));
            facts.push(("Attempt", format!("{}{most}", self.attempts.len())));
        }
        let took = last.record.and_then(|record| took(record.started_at, record.ended_at));
        facts.extend(took.map(|took| ("Took", took)));
        facts.push(("Build", last.id.to_owned()));
        facts
    }

    fn links(&self) -> Vec<super::Link> {
        let last = self.last();
        let region = self.spec.region.as_deref().unwrap_or_default();
        let made = last.record.and_then(|record| record.images.as_deref()).unwrap_or_default();
        let commit = last.commit.and_then(|commit| self.around.commit_link(commit));
        // Those of the builder's own region come first.
        made.iter().take(1).filter_map(|image| image_link(region, image)).chain(commit).collect()
    }

    fn advice(&self) -> String {
        let log = format!("`opsy logs {}` prints the whole log.", argument(self.object));
        let what = if let Some(advice) = self.last().advice() {
            Some(format!("{}.", capital(advice)))
        } else if self.gave_up() {
            Some("Change the template, the commands or the base image, and push the commit.".to_owned())
        } else {
            self.condition_words("BuildFailed").map(|words| format!("Nothing now: {}.", until_error(&words)))
        };
        what.map_or_else(|| log.clone(), |what| format!("{what} {log}"))
    }

    /// The messages of one attempt.
    fn told(&self, number: usize, attempt: &Attempt<'_>) -> Vec<Message> {
        let again = (number > 1).then(|| {
            let title = format!("{}: attempt {number}", self.name());
            message(format!("started/{number}"), "BuildStarted", Tone::Working, Weight::Detail, title)
        });
        again.into_iter().chain(self.outcome(number, attempt)).collect()
    }

    fn outcome(&self, number: usize, attempt: &Attempt<'_>) -> Option<Message> {
        let name = self.name();
        Some(match attempt.result() {
            "" => return None,
            "Succeeded" if number > 1 || self.after_failure => {
                let title = format!("{name} builds again: {}", images(attempt));
                message("succeeded", "BuildSucceeded", Tone::Good, Weight::Loud, title)
            }
            "Succeeded" => {
                let title = format!("{name}: {} is active", images(attempt));
                message("succeeded", "BuildSucceeded", Tone::Good, Weight::Milestone, title)
            }
            "Superseded" => {
                let title = format!("{name}: {} was built, but the inputs had moved on", images(attempt));
                message("superseded", "BuildSuperseded", Tone::Good, Weight::Detail, title)
            }
            "Cancelled" => {
                let title = format!("{name}: build {} was canceled", attempt.id);
                message(format!("cancelled/{number}"), "BuildCancelled", Tone::Bad, Weight::Milestone, title)
            }
            _ => self.failure(number, attempt),
        })
    }

    fn failure(&self, number: usize, attempt: &Attempt<'_>) -> Message {
        let weight = if number == 1 { Weight::Loud } else { Weight::Detail };
        let title = match number {
            1 => format!("{}: build {} failed", self.name(), attempt.id),
            _ => format!("{}: attempt {number} failed", self.name()),
        };
        let mut told = message(format!("failed/{number}"), "BuildFailed", Tone::Bad, weight, title);
        told.text = attempt.error_words();
        told.excerpt = attempt.excerpt();
        if number == 1 {
            told.facts.extend(attempt.commit.map(|commit| ("Commit", self.around.commit_words(commit))));
            told.next = Some(format!("`opsy logs {}` prints the whole log.", argument(self.object)));
            told.links.extend(attempt.commit.and_then(|commit| self.around.commit_link(commit)));
        }
        told
    }

    fn giving_up(&self) -> Message {
        let failed = match self.attempts.len() {
            1 => "a failed build".to_owned(),
            many => format!("{many} failed builds"),
        };
        let title = format!("{}: no more tries after {failed}", self.name());
        let mut told = message("gave-up", "RetryLimit", Tone::Person, Weight::Loud, title);
        told.text = self.last().error_words();
        told.next = Some(self.advice());
        told
    }
}

fn images(attempt: &Attempt<'_>) -> String {
    attempt
        .record
        .and_then(|record| record.images.as_ref())
        .map(|images| images.join(", "))
        .unwrap_or_default()
}

fn why_words(why: &str) -> &str {
    match why {
        "Missing" => "there was no active image",
        "Expired" => "the image expired",
        "Deprecated" => "EC2 has the image as deprecated",
        "BaseImage" => "there is a newer base image",
        "Template" => "the template changed",
        "Spec" => "the builder's commands or region changed",
        "Retry" => "earlier attempts failed",
        other => other,
    }
}

/// A sentence begins with a capital letter.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// The message of the condition without the error, which the notification has beside it.
fn until_error(words: &str) -> &str {
    words.split("; last error").next().unwrap_or(words)
}
