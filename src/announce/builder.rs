//! The notifications about a builder: one story per build with all its attempts, and one per problem.

use std::collections::BTreeSet;
use std::time::Duration;

use super::context::{image_link, took};
use super::{COMMIT, Context, Message, Story, Tone, Weight, argument, cause, message, short_name, trouble};
use crate::api::ObjectKey;
use crate::api::builder::{PackerBuilderSpec, PackerBuilderStatus, RunRecord};
use crate::api::conditions::{self, Condition};
use crate::api::reasons;
use crate::api::words::{RunPhase, RunResult, Trigger};

/// Maximum number of lines that a message shows of the errors of a failed build.
const EXCERPT: usize = 8;
/// Number of builds that are reported. A build can end, and the next one start, before a notification could be sent.
const BUILDS: usize = 3;
/// The reason of a builder that starts no more attempts.
const GAVE_UP: &str = reasons::RETRY_LIMIT;
/// What Packer prints about every script that fails.
const SCRIPT_FAILED: &str = "non-zero exit status";
/// Reasons that the story of a build reports, so that they are not reported as problems too.
const REPORTED: [&str; 2] = [GAVE_UP, reasons::BUILD_FAILED];

/// One attempt of a build: the live run, or one of the history.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    id: &'a str,
    why: &'a str,
    commit: Option<&'a str>,
    record: Option<&'a RunRecord>,
}

/// A build with all its attempts, in order.
struct Build<'a> {
    object: &'a ObjectKey,
    spec: &'a PackerBuilderSpec,
    status: &'a PackerBuilderStatus,
    attempts: Vec<Attempt<'a>>,
    /// The previous build failed.
    after_failure: bool,
    /// No other build has started since.
    newest: bool,
    context: Context<'a>,
}

/// Returns the stories of a builder.
pub fn stories(
    object: &ObjectKey,
    spec: &PackerBuilderSpec,
    status: &PackerBuilderStatus,
    context: Context<'_>,
) -> Vec<Story> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let builds = builds(object, spec, status, context).into_iter().map(|build| build.story());
    builds.chain(trouble::stories(&object.into(), conditions, &REPORTED, context)).collect()
}

/// Returns the commits that the stories name: those of the last attempt of each build, and of the first if it failed.
pub fn commits(status: &PackerBuilderStatus) -> BTreeSet<String> {
    let builds = attempts(status);
    let named = builds.iter().flat_map(|(attempts, _)| {
        let first = attempts.first().filter(|first| first.failed());
        first.into_iter().chain(attempts.last())
    });
    named.filter_map(|attempt| attempt.commit.map(str::to_owned)).collect()
}

/// Returns the last builds, the newest first. All but the newest have ended.
fn builds<'a>(
    object: &'a ObjectKey,
    spec: &'a PackerBuilderSpec,
    status: &'a PackerBuilderStatus,
    context: Context<'a>,
) -> Vec<Build<'a>> {
    let builds = attempts(status).into_iter().enumerate();
    let build = |(number, (attempts, after_failure))| Build {
        object,
        spec,
        status,
        attempts,
        after_failure,
        newest: number == 0,
        context,
    };
    builds.map(build).collect()
}

/// Returns the attempts of the last builds, the newest build first, and whether the build before each of them failed.
fn attempts(status: &PackerBuilderStatus) -> Vec<(Vec<Attempt<'_>>, bool)> {
    let history = status.history.as_deref().unwrap_or_default();
    let mut runs = live(status, history).into_iter().chain(history.iter().map(ended)).peekable();
    let mut builds = Vec::new();
    while builds.len() < BUILDS && runs.peek().is_some() {
        let mut attempts = Vec::new();
        for attempt in runs.by_ref() {
            let is_retry = attempt.why == Trigger::Retry.as_str();
            attempts.push(attempt);
            if !is_retry {
                break;
            }
        }
        attempts.reverse();
        let after_failure = runs.clone().find(Attempt::counts).is_some_and(|before| before.failed());
        builds.push((attempts, after_failure));
    }
    builds
}

fn live<'a>(status: &'a PackerBuilderStatus, history: &[RunRecord]) -> Option<Attempt<'a>> {
    let id = status.build_id.as_deref()?;
    let running = status.job_status.as_deref().and_then(RunPhase::parse).is_some();
    let recorded = history.iter().any(|record| record.id == id);
    let why = status.reason.as_deref().unwrap_or_default();
    (running && !recorded).then_some(Attempt { id, why, commit: status.commit.as_deref(), record: None })
}

fn ended(record: &RunRecord) -> Attempt<'_> {
    let why = record.why.as_deref().unwrap_or_default();
    Attempt { id: &record.id, why, commit: record.commit.as_deref(), record: Some(record) }
}

impl Attempt<'_> {
    /// Returns the result of a run that has ended. An unknown one, of a newer version, is shown as a failure.
    fn result(&self) -> Option<RunResult> {
        self.record.map(|record| RunResult::parse(&record.result).unwrap_or(RunResult::Failed))
    }

    fn failed(&self) -> bool {
        self.record.is_some_and(RunRecord::has_failed)
    }

    /// Returns whether the result shows if builds work. Canceled and superseded builds do not.
    fn counts(&self) -> bool {
        !matches!(self.result(), Some(RunResult::Cancelled | RunResult::Superseded))
    }

    fn errors(&self) -> &[String] {
        self.record.and_then(|record| record.errors.as_deref()).unwrap_or_default()
    }

    /// Returns Packer's first error, which is usually the cause of the others.
    fn first_error(&self) -> &str {
        self.errors().first().map_or("no error was printed", String::as_str)
    }

    /// Returns the failure as one line: the step, the cause, and what a failed script printed last.
    fn error_words(&self) -> String {
        let cause = self.record.and_then(RunRecord::cause);
        cause.unwrap_or_else(|| "no error was printed".to_owned())
    }

    fn advice(&self) -> Option<&str> {
        self.record?.advice.as_deref()
    }

    /// Returns the lines that explain a failure: what the script printed, else Packer's errors if there are several.
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
            (1..).zip(&self.attempts).flat_map(|(number, attempt)| self.messages(number, attempt)).collect();
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

    /// Returns the cause of the failure. If the error does not distinguish failures (no error, or the exit status of a
    /// script), the template is part of the cause, so that only builds of the same template count as equal.
    fn cause(&self) -> String {
        let last = self.last();
        let reason = if self.gave_up() { GAVE_UP } else { reasons::BUILD_FAILED };
        let error = last.first_error();
        let unspecific = last.errors().is_empty() || error.contains(SCRIPT_FAILED);
        let template = last.record.and_then(|record| record.inputs.as_ref()?.template.as_deref());
        let template = template.filter(|_| unspecific).unwrap_or_default();
        format!("{}{template}", cause(&self.object.key.name, reason, error))
    }

    /// Returns the last attempt. A build has at least one.
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

    /// Returns the message of the condition `Ready`, if it has this reason.
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
            None => (reasons::BUILD_STARTED, Tone::Working, format!("{name}: building an image")),
            Some(RunResult::Succeeded) => {
                (reasons::BUILD_SUCCEEDED, Tone::Good, format!("{name}: built {}", images(last)))
            }
            Some(RunResult::Superseded) => (
                reasons::BUILD_SUPERSEDED,
                Tone::Good,
                format!("{name}: built an image that is no longer needed"),
            ),
            Some(RunResult::Cancelled) => {
                (reasons::BUILD_CANCELLED, Tone::Bad, format!("{name}: build canceled"))
            }
            _ if self.gave_up() => {
                (reasons::BUILD_FAILED, Tone::Person, format!("{name}: build failed and needs attention"))
            }
            _ => (reasons::BUILD_FAILED, Tone::Bad, format!("{name}: build failed")),
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
            None => {
                let why = why_words(self.attempts[0].why);
                match self.status.job_status.as_deref().and_then(RunPhase::parse) {
                    Some(RunPhase::Pending) => format!("{why}; waiting to start"),
                    Some(RunPhase::Stopping) => format!("{why}; stopping"),
                    Some(RunPhase::Running) | None => why.to_owned(),
                }
            }
            Some(RunResult::Succeeded | RunResult::Superseded | RunResult::Cancelled) => String::new(),
            Some(RunResult::Failed | RunResult::TimedOut | RunResult::Lost) => last.error_words(),
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let last = self.last();
        let mut facts = Vec::new();
        // While the build runs, the text of the message contains it.
        facts.extend(last.record.map(|_| ("Why", why_words(self.attempts[0].why).to_owned())));
        facts.extend(last.commit.map(|commit| (COMMIT, self.context.commit_words(commit))));
        facts.extend(self.spec.region.clone().map(|region| ("Region", region)));
        let requested = |record: &RunRecord| record.inputs.as_ref()?.base_ami.clone();
        let base = last.record.and_then(|record| record.base_ami.clone().or_else(|| requested(record)));
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
        let commit = last.commit.and_then(|commit| self.context.commit_link(commit));
        // Images in the builder's own region come first, and one link is enough.
        made.iter().take(1).filter_map(|image| image_link(region, image)).chain(commit).collect()
    }

    fn advice(&self) -> String {
        let log = self.log_advice();
        let what = if let Some(advice) = self.last().advice() {
            Some(format!("{}.", capital(advice)))
        } else if self.gave_up() {
            Some("Change the template, the commands or the base image, and push the commit.".to_owned())
        } else {
            let message = self.condition_words(reasons::BUILD_FAILED);
            message.map(|message| format!("Opsy retries: {}.", until_error(&message)))
        };
        what.map_or_else(|| log.clone(), |what| format!("{what} {log}"))
    }

    fn log_advice(&self) -> String {
        format!("Run `opsy logs {}` to see the full log.", argument(self.object))
    }

    /// Returns the messages about one attempt.
    fn messages(&self, number: usize, attempt: &Attempt<'_>) -> Vec<Message> {
        let retry = (number > 1).then(|| {
            let title = format!("{}: attempt {number} started", self.name());
            message(format!("started/{number}"), reasons::BUILD_STARTED, Tone::Working, Weight::Detail, title)
        });
        retry.into_iter().chain(self.outcome(number, attempt)).collect()
    }

    fn outcome(&self, number: usize, attempt: &Attempt<'_>) -> Option<Message> {
        let name = self.name();
        Some(match attempt.result() {
            None => return None,
            Some(RunResult::Succeeded) if number > 1 || self.after_failure => {
                let title = format!("{name} recovered: built {}", images(attempt));
                message("succeeded", reasons::BUILD_SUCCEEDED, Tone::Good, Weight::Loud, title)
            }
            Some(RunResult::Succeeded) => {
                let title = format!("{name}: {} is active", images(attempt));
                message("succeeded", reasons::BUILD_SUCCEEDED, Tone::Good, Weight::Milestone, title)
            }
            Some(RunResult::Superseded) => {
                let title = format!("{name}: built {}, but the inputs have changed since", images(attempt));
                message("superseded", reasons::BUILD_SUPERSEDED, Tone::Good, Weight::Detail, title)
            }
            Some(RunResult::Cancelled) => {
                let title = format!("{name}: build {} was canceled", attempt.id);
                message(
                    format!("cancelled/{number}"),
                    reasons::BUILD_CANCELLED,
                    Tone::Bad,
                    Weight::Milestone,
                    title,
                )
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
        let mut reply = message(format!("failed/{number}"), reasons::BUILD_FAILED, Tone::Bad, weight, title);
        reply.text = attempt.error_words();
        reply.excerpt = attempt.excerpt();
        if number == 1 {
            reply.facts.extend(attempt.commit.map(|commit| (COMMIT, self.context.commit_words(commit))));
            reply.next = Some(self.log_advice());
            reply.links.extend(attempt.commit.and_then(|commit| self.context.commit_link(commit)));
        }
        reply
    }

    fn giving_up(&self) -> Message {
        let failed = match self.attempts.len() {
            1 => "a failed build".to_owned(),
            many => format!("{many} failed builds"),
        };
        let title = format!("{}: no more retries after {failed}", self.name());
        let mut reply = message("gave-up", reasons::RETRY_LIMIT, Tone::Person, Weight::Loud, title);
        reply.text = self.last().error_words();
        reply.next = Some(self.advice());
        reply
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
    match Trigger::parse(why) {
        Some(Trigger::Missing) => "there was no active image",
        Some(Trigger::Expired) => "the image expired",
        Some(Trigger::Deprecated) => "the image is deprecated in EC2",
        Some(Trigger::BaseImage) => "a newer base image is available",
        Some(Trigger::Template) => "the template changed",
        Some(Trigger::Spec) => "the builder's commands or region changed",
        Some(Trigger::Retry) => "earlier attempts failed",
        // An unknown trigger, of a newer version of Opsy.
        None => why,
    }
}

/// Capitalizes the first letter, for the start of a sentence.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// Returns the message of a condition without the error, which the notification already contains.
fn until_error(message: &str) -> &str {
    message.split("; last error").next().unwrap_or(message)
}
