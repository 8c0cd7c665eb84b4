//! Notes about settings of either kind that are valid but have no effect, so that users do not rely on them.

use std::fmt;

use crate::api::builder::{BuilderRun, Command};
use crate::api::notifier::{Notifier, checks};
use crate::api::{AMIRefresherSpec, PackerBuilderSpec};

/// A field path and the note about it.
pub type Note = (String, String);

/// Collects notes.
#[derive(Default)]
pub struct Notes(pub Vec<Note>);

impl Notes {
    fn add(&mut self, path: impl Into<String>, words: &str) {
        self.0.push((path.into(), words.to_owned()));
    }

    /// Notes an empty string, which the operator treats as not set.
    pub fn empty(&mut self, path: impl fmt::Display, text: &Option<String>) {
        if text.as_deref() == Some("") {
            self.add(path.to_string(), "is empty and counts as not set");
        }
    }

    fn all_empty<const N: usize>(&mut self, at: impl fmt::Display, fields: [(&str, &Option<String>); N]) {
        for (field, text) in fields {
            self.empty(format_args!("{at}.{field}"), text);
        }
    }

    fn notifier(&mut self, notifier: &Option<Notifier>) {
        self.0.extend(notifier.iter().flat_map(checks::notes));
    }
}

/// Returns the notes about a PackerBuilder.
pub fn builder(spec: &PackerBuilderSpec) -> Vec<Note> {
    let mut notes = Notes::default();
    notes.all_empty("spec", [("clusterName", &spec.cluster_name)]);
    if let Some(times) = &spec.time_outs {
        notes.all_empty(
            "spec.timeOuts",
            [
                ("expiresIn", &times.expires_in),
                ("controllerTimer", &times.controller_timer),
                ("build", &times.build),
                ("pending", &times.pending),
            ],
        );
    }
    if let Some(policy) = &spec.failure_policy {
        notes.all_empty(
            "spec.failurePolicy",
            [("backoff", &policy.backoff), ("maxBackoff", &policy.max_backoff)],
        );
    }
    if let Some(sync) = &spec.git_sync {
        notes.empty("spec.gitSync.secret", &sync.secret);
    }
    if let Some(run) = &spec.builder {
        packer(&mut notes, run);
    }
    notes.notifier(&spec.notifier);
    notes.0
}

fn packer(notes: &mut Notes, run: &BuilderRun) {
    notes.all_empty(
        "spec.builder",
        [
            ("repoURL", &run.repo_url),
            ("dir", &run.dir),
            ("secret", &run.secret),
            ("jobServiceAccountName", &run.job_service_account_name),
        ],
    );
    for (index, command) in run.commands.iter().flatten().enumerate() {
        packer_command(notes, format_args!("spec.builder.commands[{index}]"), command);
    }
}

fn packer_command(notes: &mut Notes, at: fmt::Arguments<'_>, command: &Command) {
    notes.all_empty(
        at,
        [
            ("onError", &command.on_error),
            ("workingDir", &command.working_dir),
            ("variablesFile", &command.variables_file),
        ],
    );
    if command.debug == Some(true) {
        let words = "Packer's -debug waits for input at every step; PACKER_LOG=1 is set instead";
        notes.add(format!("{at}.debug"), words);
    }
}

/// Returns the notes about an AMIRefresher.
pub fn refresher(spec: &AMIRefresherSpec) -> Vec<Note> {
    let mut notes = Notes::default();
    let times = spec.time_outs.clone().unwrap_or_default();
    notes.all_empty(
        "spec.timeOuts",
        [("expiresIn", &times.expires_in), ("controllerTimer", &times.controller_timer)],
    );
    notes.all_empty(
        "spec",
        [("ami", &spec.ami), ("expiresIn", &spec.expires_in), ("controllerTimer", &spec.controller_timer)],
    );
    let config = spec.refresh_config.clone().unwrap_or_default();
    for (field, value) in [
        ("maxUnavailable", config.max_unavailable),
        ("maxUnavailablePercentage", config.max_unavailable_percentage),
    ] {
        if value == Some(0) {
            notes.add(format!("spec.refreshConfig.{field}"), "0 counts as not set");
        }
    }
    notes.notifier(&spec.notifier);
    notes.0
}
