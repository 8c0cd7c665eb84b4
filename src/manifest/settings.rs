//! Reads `opsy.yaml` as strictly as any manifest: a typing error in `agentID` must never make an agent believe that it
//! owns nothing.

use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::api::checks::{Problem, Problems, escapes_root, is_label, written};
use crate::api::ids::Owner;
use crate::api::notifier::{self, Notifier};
use crate::api::paths;
use crate::api::schema;
use crate::settings::{RepoSettings, SetterSettings};

use super::Severity;
use super::check::notes::{Note, Notes};
use super::check::{self, Finding};
use super::setters::Reference;
use super::yaml;

/// Number of digits of an AWS account ID.
const ACCOUNT_DIGITS: usize = 12;

static SCHEMA: LazyLock<Json> = LazyLock::new(schema::of::<RepoSettings>);

/// Returns the settings, if they can be read, and findings about them. If only the notifier section is invalid, the
/// section of `before` stays in force: an invalid notifier must not stop builds.
pub fn read(content: &[u8], before: Option<&RepoSettings>) -> (Option<RepoSettings>, Vec<Finding>) {
    let Ok(text) = str::from_utf8(content) else {
        return (None, vec![Finding::error(1, "is not UTF-8 text")]);
    };
    let stream = yaml::parse(text);
    let mut findings: Vec<_> =
        stream.broken.iter().map(|(line, words)| Finding::error(*line, words)).collect();
    let mut documents = stream.documents.iter().filter(|parsed| !parsed.root.is_null());
    let first = documents.next();
    if let Some(second) = documents.next() {
        findings.push(Finding::error(
            second.root.line,
            "contains a second document; settings must be a single document",
        ));
    }
    let Some(parsed) = first else {
        let settings = findings.is_empty().then(RepoSettings::default);
        return (settings, findings);
    };
    findings.extend(parsed.complaints.iter().map(|(line, words)| Finding::error(*line, words)));
    check::against(&parsed.root, &SCHEMA, "", parsed.root.line, &mut findings);
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return (None, findings);
    }
    match serde_json::from_value::<RepoSettings>(parsed.root.json()) {
        Err(error) => {
            findings.push(Finding::error(parsed.root.line, error.to_string()));
            (None, findings)
        }
        Ok(settings) => {
            let said =
                |(path, words): (String, String)| (parsed.root.line_of(&path), format!("{path}: {words}"));
            findings.extend(
                rules(&settings).into_iter().map(said).map(|(line, words)| Finding::error(line, words)),
            );
            findings.extend(
                notes(&settings).into_iter().map(said).map(|(line, words)| Finding::note(line, words)),
            );
            let wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
            let untold = told(&settings);
            let settings = if untold.is_empty() { settings } else { told_as(settings, before) };
            findings.extend(untold.into_iter().map(said).map(|(line, words)| Finding::error(line, words)));
            ((!wrong).then_some(settings), findings)
        }
    }
}

fn notes(settings: &RepoSettings) -> Vec<Note> {
    let mut notes = Notes::default();
    notes.empty(
        "publish.quietPeriod",
        &settings.publish.as_ref().and_then(|publish| publish.quiet_period.clone()),
    );
    for (path, words) in settings.notifier.iter().flat_map(notifier::checks::notes) {
        notes.0.push((without_spec(&path).to_owned(), words));
    }
    notes.0
}

fn rules(settings: &RepoSettings) -> Vec<Problem> {
    let mut rules = Problems::default();
    if let Some(Err(bad)) = settings.agent_id.as_ref().map(Owner::parse) {
        rules.add("agentID", bad.to_string());
    }
    for (index, account) in settings.accounts.iter().flatten().enumerate() {
        if account.len() != ACCOUNT_DIGITS || !account.chars().all(|c| c.is_ascii_digit()) {
            rules.add(
                format!("accounts[{index}]"),
                format!("{account:?} is not an account ID: write {ACCOUNT_DIGITS} digits in quotes"),
            );
        }
    }
    if let Some(namespace) = settings.namespace.as_ref().filter(|namespace| !is_label(namespace)) {
        rules.add(
            "namespace",
            format!("{namespace:?} is not a valid namespace: use at most 63 of a-z, 0-9 and '-'"),
        );
    }
    if let Some(path) = &settings.status_path {
        match escapes_root(path) {
            Some(why) => {
                rules.add("statusPath", format!("{path:?} {why}; write it relative to the path Opsy reads"))
            }
            None if path.split('/').any(|step| matches!(step, "" | ".")) => {
                rules.add(
                    "statusPath",
                    format!("{path:?} must name a separate directory, for example `status`"),
                );
            }
            None => {}
        }
    }
    if let Some(publish) = &settings.publish {
        rules.duration("publish.quietPeriod", publish.quiet_period.as_ref());
        if let Some(branch) = publish.branch.as_ref().filter(|branch| !is_branch(branch)) {
            rules.add("publish.branch", format!("{branch:?} is not a valid branch name"));
        }
        one_line(&mut rules, "publish.commitSuffix", &publish.commit_suffix);
    }
    if let Some(setters) = &settings.setters {
        setter_rules(&mut rules, settings, setters);
    }
    if let Some(author) = &settings.author {
        one_line(&mut rules, "author.name", &author.name);
        one_line(&mut rules, "author.email", &author.email);
    }
    if let Some(Some(builds)) = settings.limits.as_ref().map(|limits| limits.concurrent_builds)
        && builds < 1
    {
        rules.add(
            "limits.concurrentBuilds",
            format!("{builds} would never start a build; suspend builders instead"),
        );
    }
    rules.0
}

fn setter_rules(rules: &mut Problems, settings: &RepoSettings, setters: &SetterSettings) {
    if settings.publish.as_ref().is_some_and(|publish| publish.branch.is_some()) {
        rules.add(
            "setters",
            "edit files of the branch that Opsy reads, so publish.branch cannot be set: remove one",
        );
    }
    rules.globs("setters.paths", setters.paths.as_deref().unwrap_or_default());
    for (index, setter) in setters.json.iter().flatten().enumerate() {
        let at = |field: &str| format!("setters.json[{index}].{field}");
        if paths::plain(&setter.path).as_ref() != Some(&setter.path) || !setter.path.ends_with(".json") {
            let words = "is not the path of a JSON file: write it relative to the repository's root";
            rules.add(at("path"), format!("{:?} {words}", setter.path));
        }
        if !setter.pointer.starts_with('/') {
            let words = "is not a JSON pointer: it must start with /, as in /eks/ami_id";
            rules.add(at("pointer"), format!("{:?} {words}", setter.pointer));
        }
        if let Err(why) = Reference::parse(&setter.value, settings.namespace()) {
            rules.add(at("value"), why);
        }
    }
}

/// Returns what is wrong with the notifier and the digest.
fn told(settings: &RepoSettings) -> Vec<Problem> {
    let notifier = settings.notifier.as_ref();
    let (mut found, mut rules) = (Problems::default(), Problems::default());
    notifier::checks::check(notifier, &mut found);
    found.0.into_iter().for_each(|(path, words)| rules.add(without_spec(&path), words));
    let ses = notifier.and_then(|notifier| notifier.ses.as_ref());
    if ses.is_some_and(|ses| written(ses.region.as_ref()).is_none()) {
        rules.add("notifier.ses.region", "missing: set the region of the verified sender");
    }
    let Some(digest) = &settings.digest else { return rules.0 };
    if let Err((field, words)) = digest.daily() {
        rules.add(format!("digest.{field}"), words);
    }
    if notifier.is_none_or(|notifier| *notifier == Notifier::default()) {
        rules.add("digest", "has no recipients: add a `notifier` to opsy.yaml");
    }
    rules.0
}

fn told_as(settings: RepoSettings, before: Option<&RepoSettings>) -> RepoSettings {
    let notifier = before.and_then(|before| before.notifier.clone());
    let digest = before.and_then(|before| before.digest.clone());
    RepoSettings { notifier, digest, ..settings }
}

/// Removes `spec.` from a path: manifests have the notifier in their spec, settings at the top level.
fn without_spec(path: &str) -> &str {
    path.strip_prefix("spec.").unwrap_or(path)
}

fn one_line(rules: &mut Problems, path: &str, text: &Option<String>) {
    if text.as_ref().is_some_and(|text| text.contains(['\n', '\r', '\0', '<', '>'])) {
        rules.add(path, "must be one line without < and >");
    }
}

/// Returns whether Git accepts the name of a branch.
fn is_branch(name: &str) -> bool {
    let bad = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    !name.is_empty()
        && !name.contains(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.starts_with('-')
        && !name.ends_with('.')
        && name.split('/').all(|step| !step.is_empty() && !step.starts_with('.') && !step.ends_with(".lock"))
}
