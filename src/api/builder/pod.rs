//! `builder.pod`: settings of the pod of a build in a cluster, with the names and meaning that Kubernetes gives them.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Settings of the pod of a build in a cluster. They have no effect outside a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Resources of each container. Default: requests cpu 100m, memory 512Mi and ephemeral-storage 1Gi, limit memory
    /// 2Gi. The limit of ephemeral-storage is also the size of the build's working volume, which is 10Gi without a
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<PodResources>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that the pod tolerates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Annotations of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Environment variables of the container that runs Packer. Use `builder.secret` for secrets. To build with the
    /// role of the node, set AWS_EC2_METADATA_DISABLED to "false".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<EnvVar>>,
    /// Names of the Secrets with which the images of the pod are pulled, in addition to those of the agent's
    /// `--image-pull-secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<String>>,
}

/// Quantities by resource, for example `memory: 1Gi`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodResources {
    /// Quantities that a node must have available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// Quantities that a container may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<BTreeMap<String, Quantity>>,
}

/// Taint that the pod tolerates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint. If absent, all keys match, and the operator must be Exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How the taint is matched: Equal or Exists. Default Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Value of the taint. It must be absent if the operator is Exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Effect of the taint: NoSchedule, PreferNoSchedule or NoExecute. If absent, all effects match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// Time in seconds for which a taint with the effect NoExecute is tolerated. If absent, it is tolerated without a
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// Environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Value of the variable, exactly as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A quantity as Kubernetes writes it: `500m`, `2Gi`, or a bare `2`, which YAML reads as a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) if !number.is_f64() => Ok(Self(number.to_string())),
            // The schema (int-or-string) accepts only whole numbers and strings.
            serde_json::Value::Number(number) => Err(serde::de::Error::custom(format!(
                "a quantity with a fraction must be quoted: \"{number}\""
            ))),
            other => Err(serde::de::Error::custom(format!(
                "{other} is not a valid quantity (for example 500m or 2Gi)"
            ))),
        }
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_text_or_a_bare_number() {
        let read = serde_json::from_str::<BTreeMap<String, Quantity>>;
        let amounts = read(r#"{"cpu": 2, "memory": "2Gi"}"#).expect("quantities");
        assert_eq!(amounts["cpu"], Quantity("2".into()));
        assert_eq!(amounts["memory"], Quantity("2Gi".into()));
        assert!(read(r#"{"cpu": [2]}"#).is_err());
        assert!(read(r#"{"cpu": 0.5}"#).is_err_and(|error| error.to_string().contains("\"0.5\"")));
    }
}
