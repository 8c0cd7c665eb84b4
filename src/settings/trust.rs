//! Flags that restrict which clusters, topics, recipients and hosts the objects of a namespace can use.

use clap::Args;

use crate::api::fence::Rule;

/// Restrictions per namespace.
#[derive(Args, Clone, Debug, Default)]
pub struct TrustFlags {
    /// Allow refreshers of a namespace to roll out to matching EKS clusters; `*` means every namespace. Default: any
    /// cluster for the namespace of the agent, none for other namespaces
    #[arg(long, env = "OPSY_CLUSTERS", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub clusters: Vec<Rule>,
    /// Allow refreshers of a namespace to ask matching hosts in health checks of rollouts. Default: any host for the
    /// namespace of the agent, none for other namespaces
    #[arg(long, env = "OPSY_CHECK_HOSTS", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub check_hosts: Vec<Rule>,
}

/// Restrictions per namespace on notifications.
#[derive(Args, Clone, Debug, Default)]
pub struct NotifyFlags {
    /// Allow objects of a namespace to notify matching SNS topics (ARNs) with the AWS credentials of the agent.
    /// Default: any topic for the namespace of the agent, none for other namespaces
    #[arg(long, env = "OPSY_NOTIFY_TOPICS", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub notify_topics: Vec<Rule>,
    /// Allow objects of a namespace to send mail by SES to matching addresses. Default: any address for the namespace
    /// of the agent, none for other namespaces
    #[arg(long, env = "OPSY_NOTIFY_RECIPIENTS", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub notify_recipients: Vec<Rule>,
}
