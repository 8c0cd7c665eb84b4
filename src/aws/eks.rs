//! EKS: managed node groups and their updates. `convert` turns responses into the types of the edge.

mod convert;

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_eks::types;
use futures::{StreamExt, stream};

use super::{Aws, AwsError, Fresh, ManagedNodegroup, TemplateVersion, Update, UpdateStatus, unreadable};
use crate::api::lock::lock;
use crate::api::{Class, ClientToken, Region};
use convert::{given, group_of};

/// Names per page, the maximum of EKS.
const PAGE: i32 = 100;
/// Groups that are described at the same time: EKS has no call for several groups, and allows few calls per second.
const AT_ONCE: usize = 8;

/// Ended updates that are kept, over all groups: the histories of a few groups whose start was lost. About 500 bytes
/// each.
const KEPT_UPDATES: usize = 2000;

/// The name of a node group, and what was read of it. `None` means that it was not requested.
pub type Described = (String, Option<Reading>);

/// A node group that exists, as read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub group: Result<Arc<ManagedNodegroup>, AwsError>,
    /// It counts as read now.
    pub is_fresh: bool,
}

/// A shared response: the group, `None` if it does not exist, or the denial.
pub(super) type Kept = Result<Option<Arc<ManagedNodegroup>>, AwsError>;

/// Region, cluster, node group and ID.
pub(super) type UpdateKey = (Region, String, String, String);

/// How many nodes of a group an update may replace at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxUnavailable {
    pub count: Option<i32>,
    pub percentage: Option<i32>,
}

impl Aws {
    /// Returns the sorted names of all managed node groups of a cluster. Shared for 30 s, single-flight.
    pub async fn nodegroup_names(
        &self,
        region: &Region,
        cluster: &str,
        fresh: Fresh,
    ) -> Result<Arc<Vec<String>>, AwsError> {
        let key = (region.clone(), cluster.to_owned());
        let ask = || async {
            let eks = self.0.clients.eks(region);
            let call = eks.sdk.list_nodegroups().cluster_name(cluster).max_results(PAGE);
            let pages = call.into_paginator().items().send();
            let mut names: Vec<String> = pages.try_collect().await.map_err(eks.failed("ListNodegroups"))?;
            names.sort();
            Ok(Arc::new(names))
        };
        self.0.nodegroup_names.get(&key, fresh, ask).await
    }

    /// Returns all managed node groups of a cluster, by name. Only those for which `wanted` returns how fresh the read
    /// must be are described. A group that was deleted meanwhile is left out, and one that cannot be read does not
    /// affect the others.
    pub async fn nodegroups(
        &self,
        region: &Region,
        cluster: &str,
        fresh: Fresh,
        wanted: impl Fn(&str) -> Option<Fresh>,
    ) -> Result<Vec<Described>, AwsError> {
        let names = self.nodegroup_names(region, cluster, fresh).await?;
        let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), wanted(name))).collect();
        Ok(self.described(region, cluster, &wanted).await)
    }

    /// Describes these groups without the cache, like `nodegroups`.
    pub async fn nodegroups_named(
        &self,
        region: &Region,
        cluster: &str,
        names: &BTreeSet<String>,
    ) -> Vec<Described> {
        let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), Some(Fresh::Now))).collect();
        self.described(region, cluster, &wanted).await
    }

    async fn described(
        &self,
        region: &Region,
        cluster: &str,
        wanted: &[(&str, Option<Fresh>)],
    ) -> Vec<Described> {
        let mut reads = Vec::with_capacity(wanted.len());
        for (name, fresh) in wanted {
            reads.push(async move {
                match fresh {
                    None => Some(((*name).to_owned(), None)),
                    Some(fresh) => {
                        let read = self.nodegroup(region, cluster, name, *fresh).await?;
                        Some(((*name).to_owned(), Some(read)))
                    }
                }
            });
        }
        let read: Vec<Option<Described>> = stream::iter(reads).buffered(AT_ONCE).collect().await;
        read.into_iter().flatten().collect()
    }

    /// Reads one group; `None` if it does not exist. Shared for 30 s, single-flight, dropped on our own writes. For
    /// `Fresh::Within`, an older response is used if the group was at rest; a denial is kept as long, because it lasts
    /// until a person changes a policy.
    pub async fn nodegroup(
        &self,
        region: &Region,
        cluster: &str,
        name: &str,
        fresh: Fresh,
    ) -> Option<Reading> {
        let first = self.kept_nodegroup(region, cluster, name, fresh).await;
        let again = match (fresh, &first) {
            // It will change soon.
            (Fresh::Within(_), Ok((Ok(group), false))) if !group.as_deref().is_some_and(is_at_rest) => {
                Some(Fresh::Cached)
            }
            (Fresh::Cached, Ok((Err(_), false))) => Some(Fresh::Now),
            _ => None,
        };
        let read = match again {
            Some(fresh) => self.kept_nodegroup(region, cluster, name, fresh).await,
            None => first,
        };
        match read {
            Ok((Ok(None), _)) => None,
            Ok((Ok(Some(group)), is_fresh)) => Some(Reading { group: Ok(group), is_fresh }),
            Ok((Err(error), is_fresh)) => Some(Reading { group: Err(error), is_fresh }),
            Err(error) => Some(Reading { group: Err(error), is_fresh: true }),
        }
    }

    async fn kept_nodegroup(
        &self,
        region: &Region,
        cluster: &str,
        name: &str,
        fresh: Fresh,
    ) -> Result<(Kept, bool), AwsError> {
        let key = (region.clone(), cluster.to_owned(), name.to_owned());
        let ask = || async {
            let eks = self.0.clients.eks(region);
            let call = eks.sdk.describe_nodegroup().cluster_name(cluster).nodegroup_name(name);
            match call.send().await.map_err(eks.failed("DescribeNodegroup")) {
                Ok(answer) => match answer.nodegroup() {
                    Some(group) => Ok(Ok(Some(Arc::new(group_of(name, group))))),
                    None => Err(unreadable("eks:DescribeNodegroup", "no node group")),
                },
                Err(error) if error.class() == Class::NotFound => Ok(Ok(None)),
                Err(error) if error.class() == Class::Denied => Ok(Err(error)),
                Err(error) => Err(error),
            }
        };
        self.0.nodegroups.read(&key, fresh, ask).await
    }

    /// Returns the Kubernetes version of a cluster, for example `1.31`. Shared for 5 min.
    pub async fn cluster_version(&self, region: &Region, cluster: &str) -> Result<String, AwsError> {
        let key = (region.clone(), cluster.to_owned());
        let ask = || async {
            let eks = self.0.clients.eks(region);
            let answer = eks.sdk.describe_cluster().name(cluster).send().await;
            let answer = answer.map_err(eks.failed("DescribeCluster"))?;
            let version = answer.cluster().and_then(|cluster| cluster.version()).map(str::to_owned);
            version.ok_or_else(|| unreadable("eks:DescribeCluster", "no version"))
        };
        self.0.clusters.get(&key, Fresh::Cached, ask).await
    }

    /// Returns an update of a group as it is now.
    pub async fn update(
        &self,
        region: &Region,
        cluster: &str,
        nodegroup: &str,
        id: &str,
    ) -> Result<Update, AwsError> {
        let key = (region.clone(), cluster.to_owned(), nodegroup.to_owned(), id.to_owned());
        let ask = || async {
            let eks = self.0.clients.eks(region);
            let call = eks.sdk.describe_update().name(cluster).nodegroup_name(nodegroup).update_id(id);
            let answer = call.send().await.map_err(eks.failed("DescribeUpdate"))?;
            given(answer.update(), "eks:DescribeUpdate")
        };
        self.0.updates.get(&key, Fresh::Now, ask).await
    }

    /// Returns an update of a group's history. One that has ended does not change any more, so it is kept.
    pub async fn past_update(
        &self,
        region: &Region,
        cluster: &str,
        nodegroup: &str,
        id: &str,
    ) -> Result<Update, AwsError> {
        let key = (region.clone(), cluster.to_owned(), nodegroup.to_owned(), id.to_owned());
        if let Some(ended) = lock(&self.0.ended_updates).get(&key) {
            return Ok(ended.clone());
        }
        let update = self.update(region, cluster, nodegroup, id).await?;
        if has_ended(&update.status) {
            let mut kept = lock(&self.0.ended_updates);
            if kept.len() >= KEPT_UPDATES {
                kept.clear();
            }
            kept.insert(key, update.clone());
        }
        Ok(update)
    }

    /// Returns the IDs of a group's updates (all pages, in no order).
    pub async fn update_ids(
        &self,
        region: &Region,
        cluster: &str,
        nodegroup: &str,
    ) -> Result<Vec<String>, AwsError> {
        let ask = || async {
            let eks = self.0.clients.eks(region);
            let call = eks.sdk.list_updates().name(cluster).nodegroup_name(nodegroup).max_results(PAGE);
            let pages = call.into_paginator().items().send();
            pages.try_collect().await.map_err(eks.failed("ListUpdates"))
        };
        let key = (region.clone(), cluster.to_owned(), nodegroup.to_owned());
        self.0.update_ids.get(&key, Fresh::Now, ask).await
    }

    /// Calls UpdateNodegroupVersion with template ID and number only: with a custom image, EKS refuses a Kubernetes
    /// version, a release version, and a template with both ID and name.
    pub async fn update_version(
        &self,
        region: &Region,
        cluster: &str,
        nodegroup: &str,
        template: &TemplateVersion,
        force: bool,
        token: &ClientToken,
    ) -> Result<Update, AwsError> {
        let eks = self.0.clients.eks(region);
        let launch = types::LaunchTemplateSpecification::builder()
            .id(template.template.as_str())
            .version(&template.version)
            .build();
        let call = eks.sdk.update_nodegroup_version().cluster_name(cluster);
        let call = call.nodegroup_name(nodegroup).launch_template(launch);
        let call = call.set_force(force.then_some(true)).client_request_token(token.as_str());
        let answer = call.send().await;
        self.forget_nodegroup(region, cluster, nodegroup);
        let answer = answer.map_err(eks.failed("UpdateNodegroupVersion"))?;
        given(answer.update(), "eks:UpdateNodegroupVersion")
    }

    /// Calls UpdateNodegroupConfig with maxUnavailable or its percentage, and with the current update strategy, because
    /// EKS may reset what is not sent.
    pub async fn update_config(
        &self,
        region: &Region,
        cluster: &str,
        nodegroup: &str,
        max: MaxUnavailable,
        strategy: Option<&str>,
        token: &ClientToken,
    ) -> Result<Update, AwsError> {
        let eks = self.0.clients.eks(region);
        let config = types::NodegroupUpdateConfig::builder()
            .set_max_unavailable(max.count)
            .set_max_unavailable_percentage(max.percentage)
            .set_update_strategy(strategy.map(types::NodegroupUpdateStrategies::from))
            .build();
        let call = eks.sdk.update_nodegroup_config().cluster_name(cluster);
        let call = call.nodegroup_name(nodegroup).update_config(config);
        let answer = call.client_request_token(token.as_str()).send().await;
        self.forget_nodegroup(region, cluster, nodegroup);
        let answer = answer.map_err(eks.failed("UpdateNodegroupConfig"))?;
        given(answer.update(), "eks:UpdateNodegroupConfig")
    }

    /// Drops the shared response. Even a failed write may have taken effect.
    fn forget_nodegroup(&self, region: &Region, cluster: &str, name: &str) {
        self.0.nodegroups.drop_key(&(region.clone(), cluster.to_owned(), name.to_owned()));
    }
}

/// Whether nothing is in progress on a group.
fn is_at_rest(group: &ManagedNodegroup) -> bool {
    matches!(group.status.as_str(), "ACTIVE" | "DEGRADED")
}

/// Whether an update has ended for certain, so that it does not change any more.
fn has_ended(status: &UpdateStatus) -> bool {
    matches!(status, UpdateStatus::Successful | UpdateStatus::Failed | UpdateStatus::Cancelled)
}
