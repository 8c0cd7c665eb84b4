//! What a schema cannot say about either kind, on the typed spec: durations, regions, ids, globs,
//! words, and paths that must stay in the repository.
//!
//! What the operator accepted stays accepted: its empty texts and zeros meant "not set" and still do.

use globset::Glob;

use crate::api::builder::{AmiFilter, BuilderRun, Command, Notifier};
use crate::api::{AMIRefresherSpec, ImageId, PackerBuilderSpec, Region, duration};
use crate::manifest::Severity;

use super::closest;

const SUB_COMMANDS: [&str; 3] = ["init", "validate", "build"];
const ON_ERROR: [&str; 4] = ["cleanup", "abort", "ask", "run-cleanup-provisioner"];
const REBUILD_ON: [&str; 4] = ["Expired", "BaseImage", "Template", "Spec"];
/// What EKS takes, as a count and as a percentage.
const UNAVAILABLE: std::ops::RangeInclusive<i32> = 1..=100;
/// Most characters of an object's name.
const NAME_LIMIT: usize = 253;
/// Most characters of a DNS label.
const LABEL_LIMIT: usize = 63;

/// A rule that is not kept: field path, what is wrong, how bad.
pub type Broken = (String, String, Severity);

/// Collects what breaks the rules.
#[derive(Default)]
pub struct Rules {
    pub broken: Vec<Broken>,
}

impl Rules {
    pub fn error(&mut self, path: impl Into<String>, words: impl Into<String>) {
        self.broken.push((path.into(), words.into(), Severity::Error));
    }

    fn note(&mut self, path: impl Into<String>, words: impl Into<String>) {
        self.broken.push((path.into(), words.into(), Severity::Note));
    }

    /// A text that is set: an empty one is noted and counts as absent.
    fn set<'a>(&mut self, path: &str, text: &'a Option<String>) -> Option<&'a str> {
        let text = text.as_deref()?;
        if text.is_empty() {
            self.note(path, "is empty and counts as not set");
            return None;
        }
        Some(text)
    }

    pub fn duration(&mut self, path: &str, text: &Option<String>) {
        if let Some(Err(bad)) = self.set(path, text).map(duration::parse) {
            self.error(path, bad.to_string());
        }
    }

    fn region(&mut self, path: &str, text: &Option<String>) {
        if let Some(Err(bad)) = self.set(path, text).map(Region::parse) {
            self.error(path, bad.to_string());
        }
    }

    fn word(&mut self, path: &str, text: &str, words: &[&str]) {
        if !words.contains(&text) {
            let meant = closest(text, words.iter().copied());
            let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            self.error(path, format!("{text:?} is not one of {}{meant}", words.join(", ")));
        }
    }

    fn globs(&mut self, path: &str, globs: &Option<Vec<String>>) {
        for (index, glob) in globs.iter().flatten().enumerate() {
            if let Err(bad) = Glob::new(glob) {
                self.error(format!("{path}[{index}]"), format!("{glob:?} is not a glob: {}", bad.kind()));
            } else if glob.is_empty() {
                self.error(format!("{path}[{index}]"), "an empty glob matches nothing");
            }
        }
    }

    /// A path below the repository's root.
    pub fn inside(&mut self, path: &str, text: &str) {
        if let Some(why) = leaves(text) {
            self.error(path, format!("{text:?} {why}; write it relative to the repository's root"));
        }
    }

    fn secret(&mut self, path: &str, text: &Option<String>) {
        if let Some(name) = self.set(path, text).filter(|name| !is_object_name(name)) {
            self.error(path, format!("{name:?} is not the name of an object (a-z, 0-9, '-' and '.')"));
        }
    }

    fn filters(&mut self, path: &str, filters: &Option<Vec<AmiFilter>>) {
        for (index, filter) in filters.iter().flatten().enumerate() {
            let at = format!("{path}[{index}]");
            if filter.name.as_deref().unwrap_or_default().is_empty() {
                self.error(
                    format!("{at}.name"),
                    "a filter needs the name of an EC2 filter, like `name` or `tag:status`",
                );
            }
            let values = filter.values.as_deref().unwrap_or_default();
            if values.is_empty() {
                self.error(format!("{at}.values"), "a filter without values finds nothing");
            }
            for (n, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
                self.error(format!("{at}.values[{n}]"), "an empty value finds nothing");
            }
        }
    }

    fn notifier(&mut self, notifier: &Option<Notifier>) {
        if let Some(slack) = notifier.as_ref().and_then(|notifier| notifier.slack.as_ref()) {
            self.secret("spec.notifier.slack.secret", &slack.secret);
        }
    }
}

/// The rules of a PackerBuilder's spec.
pub fn builder(spec: &PackerBuilderSpec) -> Vec<Broken> {
    let mut rules = Rules::default();
    rules.region("spec.region", &spec.region);
    rules.set("spec.clusterName", &spec.cluster_name);
    rules.filters("spec.amiFilters", &spec.ami_filters);
    if let Some(times) = &spec.time_outs {
        rules.duration("spec.timeOuts.expiresIn", &times.expires_in);
        rules.duration("spec.timeOuts.controllerTimer", &times.controller_timer);
        rules.duration("spec.timeOuts.build", &times.build);
        rules.duration("spec.timeOuts.pending", &times.pending);
    }
    if let Some(policy) = &spec.failure_policy {
        rules.duration("spec.failurePolicy.backoff", &policy.backoff);
        rules.duration("spec.failurePolicy.maxBackoff", &policy.max_backoff);
    }
    for (index, word) in spec.rebuild_on.iter().flatten().enumerate() {
        rules.word(&format!("spec.rebuildOn[{index}]"), word, &REBUILD_ON);
    }
    if let Some(sync) = &spec.git_sync {
        rules.secret("spec.gitSync.secret", &sync.secret);
    }
    if let Some(run) = &spec.builder {
        run_rules(&mut rules, run);
    }
    rules.notifier(&spec.notifier);
    rules.broken
}

fn run_rules(rules: &mut Rules, run: &BuilderRun) {
    if let Some(url) = rules.set("spec.builder.repoURL", &run.repo_url)
        && has_credentials(url)
    {
        let words = "holds a user or password; take it out of the URL, and change it where it is valid: it is in the history now";
        rules.error("spec.builder.repoURL", words);
    }
    if let Some(dir) = rules.set("spec.builder.dir", &run.dir) {
        rules.inside("spec.builder.dir", dir);
    }
    rules.secret("spec.builder.secret", &run.secret);
    rules.secret("spec.builder.jobServiceAccountName", &run.job_service_account_name);
    rules.globs("spec.builder.inputs", &run.inputs);
    for (index, glob) in run.inputs.iter().flatten().enumerate() {
        rules.inside(&format!("spec.builder.inputs[{index}]"), glob);
    }
    for (index, command) in run.commands.iter().flatten().enumerate() {
        command_rules(rules, &format!("spec.builder.commands[{index}]"), command);
    }
}

fn command_rules(rules: &mut Rules, at: &str, command: &Command) {
    let path = format!("{at}.subCommand");
    match command.sub_command.as_deref() {
        None | Some("") => rules.error(path, "is missing: say init, validate or build"),
        Some(word) => rules.word(&path, word, &SUB_COMMANDS),
    }
    let path = format!("{at}.onError");
    if let Some(word) = rules.set(&path, &command.on_error) {
        rules.word(&path, word, &ON_ERROR);
        if word == "ask" {
            rules.note(path, "nobody is there to answer: cleanup is what happens");
        }
    }
    for (field, text) in [("workingDir", &command.working_dir), ("variablesFile", &command.variables_file)] {
        let path = format!("{at}.{field}");
        if let Some(text) = rules.set(&path, text) {
            rules.inside(&path, text);
        }
    }
}

/// The rules of an AMIRefresher's spec.
pub fn refresher(spec: &AMIRefresherSpec) -> Vec<Broken> {
    let mut rules = Rules::default();
    let region = Some(spec.region.clone());
    for (path, text) in [("spec.region", &region), ("spec.clusterName", &Some(spec.cluster_name.clone()))] {
        if text.as_deref() == Some("") {
            rules.error(path, "is required and empty");
        }
    }
    if !spec.region.is_empty() {
        rules.region("spec.region", &region);
    }
    if let Some(Err(bad)) = rules.set("spec.ami", &spec.ami).map(ImageId::parse) {
        rules.error("spec.ami", bad.to_string());
    }
    rules.filters("spec.amiFilters", &spec.ami_filters);
    if let Some(from) = &spec.ami_from {
        match from.packer_builder.as_deref() {
            Some(name) if is_object_name(name) => {}
            _ => rules.error(
                "spec.amiFrom.packerBuilder",
                "must be the name of a PackerBuilder of the same namespace",
            ),
        }
    }
    rules.globs("spec.exclude", &spec.exclude);
    if let Some(groups) = &spec.node_groups {
        rules.globs("spec.nodeGroups.include", &groups.include);
    }
    refresher_times(&mut rules, spec);
    refresher_config(&mut rules, spec);
    rules.notifier(&spec.notifier);
    rules.broken
}

fn refresher_times(rules: &mut Rules, spec: &AMIRefresherSpec) {
    let times = spec.time_outs.clone().unwrap_or_default();
    for (field, inner, outer) in [
        ("expiresIn", &times.expires_in, &spec.expires_in),
        ("controllerTimer", &times.controller_timer, &spec.controller_timer),
    ] {
        rules.duration(&format!("spec.timeOuts.{field}"), inner);
        rules.duration(&format!("spec.{field}"), outer);
    }
}

fn refresher_config(rules: &mut Rules, spec: &AMIRefresherSpec) {
    let Some(config) = &spec.refresh_config else { return };
    let (count, share) = (config.max_unavailable, config.max_unavailable_percentage);
    for (field, value) in [("maxUnavailable", count), ("maxUnavailablePercentage", share)] {
        let path = format!("spec.refreshConfig.{field}");
        match value {
            Some(0) => rules.note(path, "0 counts as not set"),
            Some(value) if !UNAVAILABLE.contains(&value) => {
                rules.error(path, format!("{value} is out of bounds: it goes from 1 to 100"));
            }
            _ => {}
        }
    }
    if count.is_some_and(|n| n != 0) && share.is_some_and(|n| n != 0) {
        let words = "EKS takes either a number or a percentage: drop this or `maxUnavailable`";
        rules.error("spec.refreshConfig.maxUnavailablePercentage", words);
    }
}

/// Why a path does not stay below the root it is relative to.
pub fn leaves(path: &str) -> Option<&'static str> {
    if path.starts_with('/') {
        return Some("is an absolute path");
    }
    if path.contains(['\0', '\\']) {
        return Some("holds a character that no path in a repository has");
    }
    path.split('/').any(|step| step == "..").then_some("leaves the repository")
}

/// Does a URL carry what belongs in a Secret? A user alone is a token over http, and harmless over ssh.
pub fn has_credentials(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => user.contains(':') || scheme != "ssh",
        None => false,
    }
}

/// A name Kubernetes gives to objects: labels of a DNS name, separated by dots.
pub fn is_object_name(name: &str) -> bool {
    name.len() <= NAME_LIMIT && name.split('.').all(|label| is_label_of(label, NAME_LIMIT))
}

/// A DNS label, as namespaces are named.
pub fn is_label(name: &str) -> bool {
    is_label_of(name, LABEL_LIMIT)
}

fn is_label_of(label: &str, most: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=most).contains(&label.len())
        && label.chars().all(|c| inner(c) || c == '-')
        && label.starts_with(inner)
        && label.ends_with(inner)
}
