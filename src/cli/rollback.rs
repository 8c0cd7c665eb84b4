//! `opsy rollback ar/NAME`: commits that a refresher returns to its previous image.
//!
//! The command only edits the manifest in Git: `ami` names the image to return to, and `held` the image that is left. The
//! agent then moves the node groups as for any other commit. `manifest` edits the text, `repository` commits it.

mod repository;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::bail;
use serde_json::Value;

use super::annotate::Named;
use super::{network, target};
use crate::api::ids::short_commit;
use crate::api::refresher::AMIRefresherStatus;
use crate::api::status::RepositoryStatus;
use crate::api::{ImageId, Kind};
use crate::manifest::edit::Pin;
use crate::telemetry::out;
use repository::{Changed, Repository, RepositoryFlags};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub named: Named,
    /// Return to this image; default: the image before the last rollout, as status records it
    #[arg(long, value_name = "AMI")]
    pub to: Option<ImageId>,
    /// Why, for spec.held and the commit message
    #[arg(long, value_name = "TEXT", default_value = "rolled back by opsy rollback")]
    pub reason: String,
    /// Print the change as a patch, and commit nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Read from the Lease with this name whether the agent verifies signatures; default: opsy
    #[arg(long, env = "OPSY_LEASE_NAME", value_name = "NAME")]
    pub lease_name: Option<String>,
    #[command(flatten)]
    pub repository: RepositoryFlags,
}

/// Commits the rollback, or prints it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.named.target.kind != Kind::AMIRefresher {
        bail!("{} is not rolled out: roll back an AMIRefresher, such as ar/demo", args.named.target);
    }
    // SAFETY: the command has started no thread yet.
    let network = unsafe { network::read(&args.named.place.network)? };
    target::wait(async {
        let live = args.named.find().await?;
        let (name, place) = (&live.name, live.place());
        let status = live.object["status"].clone();
        let current = current(&status);
        let ami = match &args.to {
            Some(ami) => ami.clone(),
            None => previous(&status).map_err(|why| anyhow::anyhow!("{name}: {why} ({place})"))?,
        };
        let held = current.filter(|current| *current != ami).map(|current| (current, args.reason.clone()));
        let pin = Pin { ami, held };
        let repository = Repository::open(&args.repository, &network)?;
        let changed = repository.find(&live.key, &pin).await?;
        let Changed { file, patch, .. } = &changed;
        if patch.is_empty() {
            out::line(format_args!(
                "{name}: {file} names {} already, so there is nothing to commit",
                pin.ami
            ))?;
            return Ok(ExitCode::SUCCESS);
        }
        if args.dry_run {
            out::document(patch)?;
            return Ok(ExitCode::SUCCESS);
        }
        let verifies =
            live.recorded(args.lease_name.as_deref()).await.ok().and_then(|status| verifies(&status));
        repository.check_signature(&changed, verifies).await?.iter().for_each(out::error);
        let commit = repository.commit(&live.key, &changed, &pin, &args.reason).await?;
        let short = short_commit(commit.as_str());
        out::line(format_args!("{name} returns to {}: commit {short} changes {file}", pin.ami))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Whether the agent verifies signatures, by its record. Before the first sync, it has none.
fn verifies(status: &RepositoryStatus) -> Option<bool> {
    status.last.as_ref().map(|last| last.verified.is_some())
}

/// The image that is rolled out now. A target with one image per architecture is not held: `ami` can name only one image.
fn current(status: &Value) -> Option<ImageId> {
    // A newer target may wait for its rollout. Of a rollback, the image that failed is left.
    let rollout = &status["rollout"];
    let left = rollout["rollback"]["target"].as_str().or(rollout["target"].as_str());
    ImageId::parse(left.or(status["targetAMI"].as_str())?).ok()
}

/// The image before the last rollout.
fn previous(status: &Value) -> Result<ImageId, String> {
    let status: AMIRefresherStatus = serde_json::from_value(status.clone()).unwrap_or_default();
    let rollout = status.rollout.unwrap_or_default();
    let target = rollout.target.clone();
    if rollout.rollback.is_some() {
        return Err("the last rollout was a rollback: name the image to return to with --to".to_owned());
    }
    let begun = rollout.groups.iter().flatten().filter(|group| group.started_at >= rollout.started_at);
    let images: BTreeSet<ImageId> = begun
        .filter_map(|group| ImageId::parse(group.previous_ami.clone()?).ok())
        .filter(|image| !target.split(',').any(|target| target == image.as_str()))
        .collect();
    let mut images = images.into_iter();
    match (images.next(), images.next()) {
        (Some(image), None) => Ok(image),
        (None, _) => Err("status records no image before the last rollout: name one with --to".to_owned()),
        (Some(first), Some(second)) => Err(format!(
            "the node groups ran different images before ({first}, {second}, …): name one with --to"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_before_the_last_rollout_is_found_in_status() {
        let group = |name: &str, previous: &str, started: &str| serde_json::json!({ "name": name, "previousAMI": previous, "startedAt": started });
        let status = |groups: Vec<Value>| {
            serde_json::json!({ "targetAMI": "ami-00000002", "rollout": {
                "id": "r", "target": "ami-00000002", "startedAt": "2026-01-02T00:00:00Z", "groups": groups,
            } })
        };
        let (now, before) = ("2026-01-02T00:00:01Z", "2026-01-01T00:00:00Z");
        let one = status(vec![group("a", "ami-00000001", now), group("b", "ami-00000000", before)]);
        assert_eq!(previous(&one).map(|image| image.to_string()), Ok("ami-00000001".to_owned()));
        assert_eq!(current(&one).map(|image| image.to_string()).as_deref(), Some("ami-00000002"));
        let two = status(vec![group("a", "ami-00000001", now), group("b", "ami-00000000", now)]);
        assert!(previous(&two).is_err_and(|why| why.contains("(ami-00000000, ami-00000001, …)")));
        assert!(previous(&status(vec![])).is_err_and(|why| why.contains("--to")));
        let mut back = one.clone();
        back["rollout"]["rollback"] = serde_json::json!({ "of": "q", "target": "ami-00000003" });
        assert!(previous(&back).is_err_and(|why| why.contains("was a rollback")));
        assert!(previous(&Value::Null).is_err_and(|why| why.contains("--to")));
    }
}
