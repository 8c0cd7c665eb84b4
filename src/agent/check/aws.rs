//! The checks of AWS: whose credentials are in use, and per region of the manifests which rights of the agent's policy
//! they have. EC2 tells by dry runs; for EKS and EC2 Auto Scaling, only the reads of the agent can be tried.

mod clusters;
mod rights;

use std::collections::BTreeMap;

use super::Checks;
use super::declared::{Declared, declared};
use super::report::{Check, Group};
use crate::api::Region;
use crate::api::network::Network;
use crate::aws::{Aws, Identity};
use crate::manifest::ObjectSet;
use crate::refresher::spec::{self, Spec};
use crate::settings;

const GROUP: Group = Group::Aws;

/// Makes the checks, and returns the clients if they can be made.
pub async fn check(set: &ObjectSet, network: &Network) -> (Checks, Option<Aws>) {
    const REMEDY: &str = "Correct the variables AWS_* and the files of the AWS profile.";
    let aws = match settings::aws_profile() {
        Ok(profile) => Aws::from_env(profile, network).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    let aws = match aws {
        Ok(aws) => aws,
        Err(why) => return (vec![GROUP.failed("configuration", why, REMEDY)], None),
    };
    let regions = regions(set);
    let configured = || Region::parse(aws.config().region()?.as_ref()).ok();
    let Some(region) = regions.keys().next().cloned().or_else(configured) else {
        let why = "neither AWS_REGION nor a manifest names a region";
        return (vec![GROUP.failed("identity", why, REMEDY)], Some(aws));
    };
    let (identity, is_known) = identity(&aws, &region, set).await;
    let mut checks = vec![identity];
    match (is_known, regions.is_empty()) {
        (false, _) => checks.push(GROUP.skipped("rights", "not checked: the identity is unknown")),
        (_, true) => {
            checks.push(GROUP.skipped("rights", "not checked: no manifest that can be read names a region"))
        }
        _ => {
            for (region, refreshers) in &regions {
                checks.extend(rights::check(&aws, region, refreshers).await);
            }
            checks.push(rights::without_dry_run());
        }
    }
    (checks, Some(aws))
}

/// The regions that manifests name, with the refreshers whose clusters are in them.
fn regions(set: &ObjectSet) -> BTreeMap<Region, Vec<Spec>> {
    let mut regions: BTreeMap<Region, Vec<Spec>> = BTreeMap::new();
    for (_, object) in declared(set) {
        let Some(region) = object.region().and_then(|region| Region::parse(region).ok()) else { continue };
        let refreshers = regions.entry(region).or_default();
        if let Declared::Refresher(refresher) = object {
            refreshers.extend(spec::parse(&refresher).ok());
        }
    }
    regions
}

/// Whose credentials are in use, and whether that is known.
async fn identity(aws: &Aws, region: &Region, set: &ObjectSet) -> (Check, bool) {
    const NAME: &str = "identity";
    const REMEDY: &str = "Give the agent valid credentials: an IAM role for the pod or instance, a profile, or AWS_* \
                          variables. If AWS cannot be reached, check the network and HTTPS_PROXY.";
    match aws.identity(region).await {
        Ok(Identity { account, arn }) => {
            let allowed = set.settings.accounts.as_ref();
            let check = if allowed.is_some_and(|allowed| !allowed.contains(&account)) {
                GROUP.failed(
                    NAME,
                    format!("{arn} is in account {account}, which accounts in opsy.yaml does not list"),
                    format!(
                        "Use credentials of a listed account, or add {account} to accounts in opsy.yaml."
                    ),
                )
            } else {
                GROUP.passed(NAME, format!("{arn} in account {account}"))
            };
            (check, true)
        }
        Err(error) => (GROUP.failed(NAME, error.to_string(), REMEDY), false),
    }
}
