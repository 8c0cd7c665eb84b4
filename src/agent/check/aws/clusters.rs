//! The reads of the agent in EKS and EC2 Auto Scaling, for the clusters of refreshers. They also return the launch
//! templates that rollouts change.

use std::collections::BTreeMap;

use super::super::Checks;
use super::super::report::Check;
use super::GROUP;
use crate::api::{Class, Region};
use crate::aws::{Aws, AwsError, Fresh, ManagedNodegroup, TemplateVersion};
use crate::refresher::spec::Spec;

const DESCRIBE_CLUSTER: &str = "eks:DescribeCluster";
const LIST_GROUPS: &str = "eks:ListNodegroups";
const DESCRIBE_GROUP: &str = "eks:DescribeNodegroup";
const LIST_UPDATES: &str = "eks:ListUpdates";
const DESCRIBE_UPDATE: &str = "eks:DescribeUpdate";
const SCALING_GROUPS: &str = "autoscaling:DescribeAutoScalingGroups";
const REFRESHES: &str = "autoscaling:DescribeInstanceRefreshes";
const HOOKS: &str = "autoscaling:DescribeLifecycleHooks";

/// The actions that are tried.
#[cfg(test)]
pub const ACTIONS: [&str; 8] = [
    DESCRIBE_CLUSTER,
    LIST_GROUPS,
    DESCRIBE_GROUP,
    LIST_UPDATES,
    DESCRIBE_UPDATE,
    SCALING_GROUPS,
    REFRESHES,
    HOOKS,
];

/// The type of node groups whose launch template names the image. Rollouts move no others.
const CUSTOM: &str = "CUSTOM";

/// The launch template of a node group in scope.
pub struct Launched {
    pub template: TemplateVersion,
    /// The image in force.
    pub image: Option<String>,
    pub instance_type: Option<String>,
    /// How messages call the node group.
    pub group: String,
}

/// Makes the checks of the clusters of these refreshers.
pub async fn check(aws: &Aws, region: &Region, refreshers: &[Spec]) -> (Checks, Vec<Launched>) {
    let mut by_cluster: BTreeMap<&str, Vec<&Spec>> = BTreeMap::new();
    for spec in refreshers {
        by_cluster.entry(&spec.cluster).or_default().push(spec);
    }
    let (mut checks, mut launched) = (Vec::new(), BTreeMap::new());
    for (name, specs) in by_cluster {
        let cluster = Cluster { aws, region, name };
        let (of_eks, groups) = cluster.check_eks().await;
        checks.extend(of_eks);
        checks.extend(cluster.check_autoscaling().await);
        let in_scope = |group: &&ManagedNodegroup| {
            specs.iter().any(|spec| spec.scope.managed && !spec.scope.excludes(&group.name))
        };
        let found = groups.iter().filter(in_scope).filter_map(|group| launched_by(group, name));
        launched.extend(found.map(|found| (found.template.template.clone(), found)));
    }
    (checks, launched.into_values().collect())
}

fn launched_by(group: &ManagedNodegroup, cluster: &str) -> Option<Launched> {
    Some(Launched {
        template: group.launch_template.clone().filter(|_| group.ami_type == CUSTOM)?,
        image: group.release_version.clone(),
        instance_type: group.instance_types.first().cloned(),
        group: format!("node group {} of cluster {cluster}", group.name),
    })
}

struct Cluster<'a> {
    aws: &'a Aws,
    region: &'a Region,
    name: &'a str,
}

impl Cluster<'_> {
    async fn check_eks(&self) -> (Checks, Vec<ManagedNodegroup>) {
        let version = self.aws.cluster_version(self.region, self.name).await;
        let mut checks =
            vec![self.read(DESCRIBE_CLUSTER, version.map(|version| format!("Kubernetes {version}")))];
        let described = self.aws.nodegroups(self.region, self.name, Fresh::Now, |_| Some(Fresh::Now)).await;
        let described = match described {
            Ok(described) => described,
            Err(error) => {
                checks.push(self.read(LIST_GROUPS, Err(error)));
                return (checks, Vec::new());
            }
        };
        checks.push(self.read(LIST_GROUPS, Ok(count(described.len(), "node group", "node groups"))));
        let (mut groups, mut failure) = (Vec::new(), None);
        for reading in described.into_iter().filter_map(|(_, reading)| reading) {
            match reading.group {
                Ok(group) => groups.push(ManagedNodegroup::clone(&group)),
                Err(error) => failure = Some(error),
            }
        }
        checks.push(match (failure, groups.len()) {
            (Some(error), _) => self.read(DESCRIBE_GROUP, Err(error)),
            (None, 0) => self.skipped(DESCRIBE_GROUP, "the cluster has no managed node group"),
            (None, read) => self.read(DESCRIBE_GROUP, Ok(count(read, "node group", "node groups"))),
        });
        checks.extend(self.check_updates(groups.first()).await);
        (checks, groups)
    }

    async fn check_updates(&self, group: Option<&ManagedNodegroup>) -> [Check; 2] {
        let Some(group) = group else {
            let why = "no managed node group can be read";
            return [LIST_UPDATES, DESCRIBE_UPDATE].map(|action| self.skipped(action, why));
        };
        match self.aws.update_ids(self.region, self.name, &group.name).await {
            Ok(ids) => {
                let described = match ids.first() {
                    Some(id) => {
                        let read = self.aws.update(self.region, self.name, &group.name, id).await;
                        self.read(DESCRIBE_UPDATE, read.map(|update| format!("update {}", update.id)))
                    }
                    None => self.skipped(DESCRIBE_UPDATE, "there is no update yet"),
                };
                [self.read(LIST_UPDATES, Ok(count(ids.len(), "update", "updates"))), described]
            }
            Err(error) => {
                let described = self.skipped(DESCRIBE_UPDATE, "updates cannot be listed");
                [self.read(LIST_UPDATES, Err(error)), described]
            }
        }
    }

    async fn check_autoscaling(&self) -> [Check; 3] {
        let Self { aws, region, .. } = *self;
        let groups = match aws.auto_scaling_groups(region, self.name, Fresh::Now).await {
            Ok((groups, _)) => groups,
            Err(error) => {
                let skipped = |action| self.skipped(action, "Auto Scaling groups cannot be listed");
                return [self.read(SCALING_GROUPS, Err(error)), skipped(REFRESHES), skipped(HOOKS)];
            }
        };
        let listed = self.read(SCALING_GROUPS, Ok(count(groups.len(), "group", "groups")));
        let Some(group) = groups.first().map(|group| group.name.as_str()) else {
            let skipped = |action| self.skipped(action, "no Auto Scaling group has the tag of the cluster");
            return [listed, skipped(REFRESHES), skipped(HOOKS)];
        };
        let refreshes = aws.instance_refreshes(region, group, Fresh::Now).await;
        let refreshes =
            refreshes.map(|(found, _)| count(found.len(), "instance refresh", "instance refreshes"));
        let hooks = aws.terminating_hooks(region, group).await;
        let hooks = hooks.map(|found| count(found.len(), "lifecycle hook", "lifecycle hooks"));
        [listed, self.read(REFRESHES, refreshes), self.read(HOOKS, hooks)]
    }

    /// The result of a read, with what it has found.
    fn read(&self, action: &str, found: Result<String, AwsError>) -> Check {
        let name = self.title(action);
        let error = match found {
            Ok(found) => return GROUP.passed(name, format!("allowed ({found})")),
            Err(error) => error,
        };
        let remedy = match error.class() {
            Class::Denied => {
                format!("Allow {action} to the agent as in deploy/iam/agent.json, for cluster {}.", self.name)
            }
            Class::NotFound => "Correct clusterName and region of the AMIRefresher in Git.".to_owned(),
            _ => return GROUP.undetermined(name, error.message()),
        };
        GROUP.failed(name, error.message(), remedy)
    }

    fn skipped(&self, action: &str, why: &str) -> Check {
        GROUP.skipped(self.title(action), format!("cannot be tried: {why}"))
    }

    fn title(&self, action: &str) -> String {
        format!("{} {action} ({})", self.region, self.name)
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
