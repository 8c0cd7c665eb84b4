//! Notifications: what flags allow them to reach, and how their sinks are opened.

use std::sync::Arc;

use tokio::sync::watch;

use super::engine::Engine;
use super::inputs::Inputs;
use super::now;
use crate::api::fence::Fence;
use crate::api::network::Network;
use crate::aws::Aws;
use crate::git::Handle;
use crate::git::templates::Templates;
use crate::notifications::{Notifications, Parts, sinks};
use crate::notify::Means;
use crate::notify::fences::Fences;
use crate::notify::sinks::http::{Address, Http};
use crate::settings::{AccessFlags, NotifyFlags};
use crate::sync::Synced;

/// The parts of the agent that notifications use.
pub struct Uses<'a> {
    pub engine: &'a Engine,
    pub aws: &'a Aws,
    pub git: Handle,
    pub templates: Templates,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
}

/// Starts notifications.
///
/// # Errors
/// `--slack-api` is not an address.
pub fn start(inputs: &Inputs, uses: Uses<'_>) -> anyhow::Result<Arc<Notifications>> {
    let Uses { engine, aws, git, templates, synced } = uses;
    let means = means(&inputs.flags.access, &inputs.network, aws)?;
    Ok(Notifications::start(Parts {
        open: sinks::opener(engine.home.clone(), means),
        fences: fences(&inputs.flags.access.notify, engine.namespace.clone()),
        objects: engine.objects.clone(),
        git,
        templates,
        synced,
        now,
    }))
}

/// What sinks are created from.
///
/// # Errors
/// `--slack-api` is not an address.
pub(super) fn means(flags: &AccessFlags, network: &Network, aws: &Aws) -> anyhow::Result<Means> {
    let slack_api = &flags.slack_api;
    let slack = Address::parse(slack_api).map_err(|why| anyhow::anyhow!("--slack-api {slack_api}: {why}"))?;
    // Without certificates everything else works: only destinations that need them report it.
    let http = Http::new(network)
        .map_err(|error| format!("the certificates of this machine cannot be read: {error}"));
    Ok(Means { http, slack, aws: aws.config(), now })
}

/// What each namespace may use. `own` is the agent's own namespace, if it has one.
pub(super) fn fences(flags: &NotifyFlags, own: Option<String>) -> Fences {
    Fences {
        topics: Fence::new("--notify-topics", own.clone(), flags.notify_topics.clone()),
        recipients: Fence::new("--notify-recipients", own.clone(), flags.notify_recipients.clone()),
        own: own.unwrap_or_else(|| "default".to_owned()),
    }
}
