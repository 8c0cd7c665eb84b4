//! The rights of the agent's policy in one region. The policy is the one of deploy/iam, so that no right is forgotten.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use futures::stream::{self, StreamExt as _};
use serde_json::Value;

use super::super::Checks;
use super::super::report::Check;
use super::GROUP;
use super::clusters::{self, Launched};
use crate::api::Region;
use crate::api::tags::{BUILD, STATUS};
use crate::aws::dry_run::{Change, Listing, Resource, Trial, Verdict};
use crate::aws::{Aws, AwsError, Fresh};
use crate::refresher::spec::Spec;

/// The policy of the agent.
const POLICY: &str = include_str!("../../../../deploy/iam/agent.json");
/// Calls at the same time.
const AT_ONCE: usize = 8;

/// All actions of the policy.
static ACTIONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let policy: Value = serde_json::from_str(POLICY).expect("the policy of the program is JSON");
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let actions = statements.flat_map(|statement| match &statement["Action"] {
        Value::Array(actions) => actions.clone(),
        one => vec![one.clone()],
    });
    actions.filter_map(|action| action.as_str().map(str::to_owned)).collect()
});

/// Makes the checks of a region with the refreshers whose clusters are in it.
pub async fn check(aws: &Aws, region: &Region, refreshers: &[Spec]) -> Checks {
    let listings = Listing::ALL.map(Trial::Describe);
    let asked = listings.iter().map(|trial| aws.dry_run(region, trial));
    let verdicts: Vec<Verdict> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let has_dry_runs = !verdicts.contains(&Verdict::Ignored);
    let shown = |(trial, verdict)| shown(region, trial, "", verdict);
    let mut checks: Checks = listings.iter().zip(verdicts).map(shown).collect();
    if !has_dry_runs {
        return checks;
    }
    checks.push(tag(aws, region).await);
    let removals = Resource::ALL.map(|resource| remove(aws, region, resource));
    checks.extend(stream::iter(removals).buffered(AT_ONCE).collect::<Checks>().await);
    let (of_clusters, launched) = clusters::check(aws, region, refreshers).await;
    checks.extend(of_clusters);
    for launched in &launched {
        checks.extend(launch_template(aws, region, launched).await);
    }
    checks
}

/// The actions that AWS can check only by doing them.
pub fn without_dry_run() -> Check {
    let is_read = |action: &str| action.contains(":Describe") || action.contains(":List");
    let rest = ACTIONS.iter().filter(|action| !action.starts_with("ec2:") && !is_read(action));
    let rest: Vec<&str> = rest.map(String::as_str).collect();
    let message = format!("not checked, because AWS has no dry run of them: {}", rest.join(", "));
    GROUP.skipped("other rights", message)
}

/// Tries a call. `of` distinguishes checks of the same action.
async fn tried(aws: &Aws, region: &Region, trial: &Trial, of: &str) -> Check {
    shown(region, trial, of, aws.dry_run(region, trial).await)
}

fn shown(region: &Region, trial: &Trial, of: &str, verdict: Verdict) -> Check {
    let action = format!("ec2:{}", trial.operation());
    let name = format!("{region} {action}{of}");
    match verdict {
        Verdict::Allowed => GROUP.passed(name, "allowed"),
        Verdict::Denied(why) => GROUP.failed(name, why, remedy(&action, trial)),
        Verdict::Ignored => {
            GROUP.undetermined(name, "the server ignores DryRun, so nothing that changes something is tried")
        }
        Verdict::Undetermined(why) => GROUP.undetermined(name, why),
    }
}

/// What to do if an action is denied.
fn remedy(action: &str, trial: &Trial) -> String {
    let policy = format!("Allow {action} to the agent as in deploy/iam/agent.json.");
    match trial {
        Trial::Change(Change::CreateVersion { source: of, .. } | Change::DeleteVersion(of)) => format!(
            "{policy} The policy requires the tag opsy.dev/roll=true on launch template {}.",
            of.template
        ),
        _ => policy,
    }
}

/// The result if a read failed that finds what could be tried.
fn unread(region: &Region, operation: &str, error: &AwsError) -> Check {
    GROUP.undetermined(format!("{region} ec2:{operation}"), error.to_string())
}

fn nothing_to_try(region: &Region, operation: &str, why: &str) -> Check {
    GROUP.skipped(format!("{region} ec2:{operation}"), format!("cannot be tried: {why}"))
}

/// The policy allows tags on what builds have created alone, so it can be tried only on such an image.
async fn tag(aws: &Aws, region: &Region) -> Check {
    const OPERATION: &str = "CreateTags";
    let images = match aws.own_images(region, Fresh::Cached).await {
        Ok(images) => images,
        Err(error) => return unread(region, OPERATION, &error),
    };
    let tagged = images.iter().find_map(|image| {
        let status = image.tags.get(BUILD).and(image.tags.get(STATUS))?;
        Some((image.id.to_string(), status.clone()))
    });
    match tagged {
        Some((image, status)) => tried(aws, region, &Trial::Change(Change::Tag { image, status }), "").await,
        None => nothing_to_try(region, OPERATION, "no image of Opsy exists yet"),
    }
}

/// The policy allows the removal of what builds have created alone, so it can be tried only on such a resource.
async fn remove(aws: &Aws, region: &Region, resource: Resource) -> Check {
    match aws.of_builds(region, resource).await {
        Ok(Some(id)) => tried(aws, region, &Trial::Remove(resource, id), "").await,
        Ok(None) => nothing_to_try(region, resource.removal(), "no build has left such a resource"),
        Err(error) => unread(region, resource.removal(), &error),
    }
}

/// What a rollout does with the launch template of a node group.
async fn launch_template(aws: &Aws, region: &Region, launched: &Launched) -> Checks {
    let Launched { template, image, instance_type, group } = launched;
    let changes = [
        Change::CreateVersion { source: template.clone(), image: image.clone() },
        Change::DeleteVersion(template.clone()),
        Change::Launch { template: template.clone(), instance_type: instance_type.clone() },
    ];
    let (trials, of) = (changes.map(Trial::Change), format!(" ({group})"));
    stream::iter(&trials).then(|trial| tried(aws, region, trial, &of)).collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ec2_action_of_the_policy_is_tried() {
        let listings = Listing::ALL.map(|listing| Trial::Describe(listing).operation());
        let removals = Resource::ALL.map(Resource::removal);
        let changes =
            ["CreateLaunchTemplateVersion", "CreateTags", "DeleteLaunchTemplateVersions", "RunInstances"];
        let tried: BTreeSet<&str> = listings.into_iter().chain(removals).chain(changes).collect();
        let named: BTreeSet<&str> = ACTIONS.iter().filter_map(|action| action.strip_prefix("ec2:")).collect();
        assert_eq!(tried, named);
    }

    #[test]
    fn every_other_action_of_the_policy_is_read_or_named() {
        let named = without_dry_run().message;
        let read = clusters::ACTIONS;
        for action in ACTIONS.iter().filter(|action| !action.starts_with("ec2:")) {
            assert!(named.contains(action.as_str()) != read.contains(&action.as_str()), "{action}: {named}");
        }
    }
}
