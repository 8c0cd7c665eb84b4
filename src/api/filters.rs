//! Filters of EC2 images, which both kinds use. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Filter of EC2 DescribeImages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmiFilter {
    /// Name of the filter, for example `name` or `tag:status`. `owner-id` and `owner-alias` select the owners of
    /// images. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Values of the filter. An image matches if it has one of them. At least one is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}
