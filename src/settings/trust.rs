//! Flags that say who may use what: they restrict what a repository and its objects may choose.

use clap::Args;

use crate::api::fence::Rule;

/// Who may use what.
#[derive(Args, Clone, Debug, Default)]
pub struct TrustFlags {
    /// Let refreshers of a namespace roll out to the EKS clusters that match; `*` stands for every namespace.
    /// Default: the namespace of the agent to any cluster, other namespaces to none
    #[arg(long, env = "OPSY_CLUSTERS", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub clusters: Vec<Rule>,
    /// Let objects of a namespace notify the SNS topics (ARNs) that match, with the AWS credentials of the agent.
    /// Default: the namespace of the agent any topic, other namespaces none
    #[arg(long, env = "OPSY_NOTIFY_TOPICS", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub notify_topics: Vec<Rule>,
    /// Let objects of a namespace send mail by SES to the addresses that match. Default: the namespace of the agent to
    /// any address, other namespaces to none
    #[arg(long, env = "OPSY_NOTIFY_RECIPIENTS", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub notify_recipients: Vec<Rule>,
}
