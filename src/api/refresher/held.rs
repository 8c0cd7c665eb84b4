//! Images that are not rolled out, and the rollback that made Opsy hold one.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Image that a person holds back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldAmi {
    /// ID of the image. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami: Option<String>,
    /// Why it is held. Status repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The failed rollout that a rollback undoes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRollback {
    /// ID of the failed rollout.
    pub of: String,
    /// ID of the image that failed. If there is one per architecture, the IDs are separated by commas.
    pub target: String,
    /// Why the rollout failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Image whose rollout failed and was rolled back. It is held, as is any other image that was built from the same
/// inputs, until `ami` names it or the annotation `ami.opsy.dev/retry` does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedAmi {
    /// ID of the image.
    pub ami: String,
    /// Why its rollout failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time at which its rollout failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
    /// Hash of the inputs that the image was built from, if its tags contain them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
    /// `ami` named the image when its rollout failed, and has named no other image since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<bool>,
}
