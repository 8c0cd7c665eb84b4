//! What the API server shows of itself without a change: its version, what the agent may do, and the schema of a kind
//! as it is installed. For `opsy check`.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use serde_json::Value;

use super::Cluster;
use super::error::Refusal;
use super::send::send;
use crate::api::{GROUP, Kind, VERSION};

impl Cluster {
    /// Returns the version of Kubernetes.
    pub async fn version(&self) -> Result<String, Refusal> {
        Ok(self.client.apiserver_version().await?.git_version)
    }

    /// Returns whether the agent may make a request. The server stores nothing of a review.
    pub async fn may(&self, request: ResourceAttributes) -> Result<bool, Refusal> {
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(request), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// Returns the schemas that the API server publishes for both kinds. Unlike the definitions themselves, everyone who
    /// has a login may read them. They are `Null` if no definition is installed.
    pub async fn published_schemas(&self) -> Result<Value, Refusal> {
        let request = http::Request::get(format!("/openapi/v3/apis/{GROUP}/{VERSION}")).body(Vec::new());
        match send(&self.client, request.map_err(kube::core::request::Error::BuildRequest)).await {
            Ok(text) => {
                serde_json::from_str(&text).map_err(|error| Refusal::without_response(error.to_string()))
            }
            Err(refusal) if refusal.is_not_found() => Ok(Value::Null),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Returns the schema of a kind among published schemas, if its definition is installed.
pub fn published(schemas: &Value, kind: Kind) -> Option<&Value> {
    let is_kind = |schema: &&Value| {
        let names = schema["x-kubernetes-group-version-kind"].as_array();
        names.into_iter().flatten().any(|name| name["kind"] == kind.to_string().as_str())
    };
    schemas["components"]["schemas"].as_object()?.values().find(is_kind)
}
