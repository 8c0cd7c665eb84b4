//! The checks of the sinks that opsy.yaml and the manifests name: their Secret, and the token of Slack. No message is
//! sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::notifications::{fences, means};
use super::Checks;
use super::declared::declared;
use super::report::{Check, Group};
use crate::api::network::Network;
use crate::aws::Aws;
use crate::engine::SecretReader;
use crate::manifest::ObjectSet;
use crate::notifications::{audience, sinks};
use crate::notify::Open;
use crate::notify::destination::Destination;
use crate::notify::fences::{Addressed, Fences};
use crate::notify::sinks::{SinkError, Trouble};
use crate::settings::AccessFlags;

const GROUP: Group = Group::Notifications;

/// Makes the checks. `own` is the agent's own namespace, if it has one.
pub async fn check(
    flags: &AccessFlags,
    network: &Network,
    set: &ObjectSet,
    (secrets, aws): (Arc<dyn SecretReader>, Aws),
    own: Option<String>,
) -> Checks {
    let means = match means(flags, network, &aws) {
        Ok(means) => means,
        Err(error) => return vec![GROUP.failed("sinks", error.to_string(), "Correct --slack-api.")],
    };
    let open = sinks::opener(secrets, means);
    let (named, mut checks) = destinations(set, &fences(&flags.notify, own));
    if named.is_empty() && checks.is_empty() {
        return vec![GROUP.skipped("sinks", "opsy.yaml and the manifests name none")];
    }
    for (destination, by) in named {
        checks.push(sink(&open, destination, &by).await);
    }
    checks
}

/// Each destination with the file of one notifier that names it, and those that no flag allows.
fn destinations(set: &ObjectSet, fences: &Fences) -> (BTreeMap<Destination, String>, Checks) {
    let of_repository = audience::of_repository(set, fences).map(|to| ("opsy.yaml".to_owned(), to));
    let of_objects = declared(set).filter_map(|(document, object)| {
        let namespace = &document.object.key.namespace;
        let to = audience::of_object(object.notifier()?, namespace, object.region(), fences);
        Some((document.file.clone(), to))
    });
    let (mut named, mut refused) = (BTreeMap::new(), Vec::new());
    for (file, Addressed { to, refused: why }) in of_repository.into_iter().chain(of_objects) {
        let remedy = "Allow it with the flag that the message names, or remove the sink in Git.";
        refused.extend(why.map(|(_, why)| GROUP.failed(file.clone(), why, remedy)));
        for destination in to {
            named.entry(destination).or_insert_with(|| file.clone());
        }
    }
    (named, refused)
}

async fn sink(open: &Open, destination: Destination, by: &str) -> Check {
    let name = destination.name();
    let secret = destination.secret().map(|(namespace, name)| format!("Secret {namespace}/{name}"));
    let verified = async { open(destination).await?.verify().await };
    match (verified.await, secret) {
        (Ok(Some(owner)), _) => {
            GROUP.passed(name, format!("the token is accepted: {owner}; no message was sent"))
        }
        (Ok(None), Some(secret)) => {
            GROUP.passed(name, format!("{secret} has the keys that are needed; no message was sent"))
        }
        (Ok(None), None) => {
            GROUP.skipped(name, "not checked: only a message shows whether AWS allows the agent to send it")
        }
        (Err(error), _) => refused(name, &error, by),
    }
}

fn refused(name: String, error: &SinkError, by: &str) -> Check {
    match error.kind {
        Trouble::Closed | Trouble::Refused | Trouble::MessageGone => {
            let remedy = format!("Correct the Secret, or notifier in {by} in Git.");
            GROUP.failed(name, error.message.clone(), remedy)
        }
        Trouble::Transient { .. } | Trouble::Unclear => GROUP.undetermined(name, error.message.clone()),
    }
}
