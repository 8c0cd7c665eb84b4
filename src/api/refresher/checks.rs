//! `spec.rollout.healthCheck` and `status.rollout.checks`: what must hold after the update of a group, and while a wave
//! soaks.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What must hold after the update of a group, and while a wave soaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// Time within which all nodes of the group must be Ready and run the new image, after EKS has updated the group.
    /// The nodes must be those of the cluster in which the agent runs. `0s` turns this check off. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_ready_within: Option<String>,
    /// Checks while a wave soaks, and once more right before the next wave starts. At most 20. They need a wave with a
    /// soak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<SoakCheck>>,
    /// Time between two evaluations of a check. At least 10s. Default 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Number of times that a check may fail during a soak. If it fails once more, the rollout has failed. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<i32>,
}

/// Check while a wave soaks: either `url` or `prometheus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoakCheck {
    /// Name of the check: letters, digits, `-`, `_` and `.`, at most 63 characters. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// URL, starting with https:// or http://, without credentials. The check is good if a GET returns a status 2xx.
    /// Redirects are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Query of a Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusCheck>,
}

/// Instant query that states what is good. The check is good if the result has at least one sample, and none of them is 0
/// or NaN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusCheck {
    /// Address of the Prometheus, for example `http://prometheus.monitoring.svc:9090`. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// PromQL, for example `sum(rate(http_requests_total{code=~"5.."}[5m])) < 1`. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// A check that has failed during the soak of a wave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckFailures {
    /// Name of the check.
    pub name: String,
    /// Wave that soaks.
    pub wave: String,
    /// Number of times that the check has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
    /// Time of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_failed_at: Option<Timestamp>,
    /// Response at the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_response: Option<String>,
}
