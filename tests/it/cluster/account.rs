//! What the whole agent needs to run as the ServiceAccount of a namespace: a kubeconfig, and the chart's cluster-wide
//! rules.

use std::path::{Path, PathBuf};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Place, rules_of};

/// The rules of a file of the chart, without those for one resource.
fn rules_without(file: &str, resource: &str) -> Vec<PolicyRule> {
    rules_of(file).into_iter().filter(|((name, _), _)| name != resource).map(|(_, rule)| rule).collect()
}

impl Place {
    /// Gives the account the cluster-wide rules of the chart that every agent needs.
    pub async fn bind_cluster_rules(&self) {
        self.bind(&self.namespace, rules_without("clusterrole.yaml", "")).await;
    }

    /// Gives the account the rules of the chart to read nodes and what runs on them.
    pub async fn bind_node_rules(&self) {
        self.bind_node_rules_but("").await;
    }

    /// The same without the rule for one resource.
    pub async fn bind_node_rules_but(&self, resource: &str) {
        let name = format!("{}-nodes", self.namespace);
        self.bind(&name, rules_without("clusterrole-nodes.yaml", resource)).await;
    }

    async fn bind(&self, name: &str, rules: Vec<PolicyRule>) {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "opsy", "namespace": self.namespace}],
        });
        let params = PatchParams::apply("tests").force();
        let roles: Api<ClusterRole> = Api::all(self.admin.clone());
        roles.patch(name, &params, &Patch::Apply(&role)).await.expect("a role");
        let bindings: Api<ClusterRoleBinding> = Api::all(self.admin.clone());
        bindings.patch(name, &params, &Patch::Apply(&binding)).await.expect("a binding");
    }

    /// Writes a kubeconfig of the account to this directory, and returns its path.
    pub async fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let context = json!({"cluster": "bed", "user": "opsy", "namespace": self.namespace});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "opsy",
            "clusters": [{"name": "bed", "cluster": {
                "server": self.plane.address("server"), "certificate-authority": self.plane.address("ca"),
            }}],
            "users": [{"name": "opsy", "user": {"token": self.token().await}}],
            "contexts": [{"name": "opsy", "context": context}],
        });
        let file = directory.join("kubeconfig");
        std::fs::write(&file, config.to_string()).expect("a kubeconfig");
        file
    }
}
