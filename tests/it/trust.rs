//! What a namespace may not do to others, judged by the calls to AWS.

use std::sync::Arc;

use opsy::api::fence::Fence;
use opsy::engine::ObjectHealth;
use serde_json::json;

use crate::refresher::{Rolling, reason};

fn clusters(own: &str, rules: &[&str]) -> Arc<Fence> {
    let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
    Arc::new(Fence::new("--clusters", Some(own.to_owned()), rules))
}

#[tokio::test]
async fn a_tenants_refresher_on_a_cluster_of_others_is_refused_before_aws_is_asked() {
    let mut rolling = Rolling::new(json!({ "refreshConfig": { "force": true } })).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    rolling.object.metadata.namespace = Some("tenant".to_owned());
    for rules in [&[][..], &["tenant=dev-*"], &["other=demo"]] {
        rolling.context.clusters = clusters("platform", rules);
        let pass = rolling.pass().await;
        let (reason, message) = reason(&pass);
        assert_eq!((pass.health, reason.as_str()), (ObjectHealth::Stalled, "ClusterNotAllowed"));
        assert_eq!(
            message,
            "namespace tenant may not roll out to cluster demo: use a cluster of the namespace, or start the agent with \
             --clusters=tenant=demo to allow it"
        );
    }
    assert_eq!(rolling.account.calls(), Vec::<String>::new(), "not even a read");
    rolling.context.clusters = clusters("platform", &["tenant=demo"]);
    rolling.rest().await;
    assert!(rolling.on(&image).contains("web"), "the flag allows the rollout");
}
