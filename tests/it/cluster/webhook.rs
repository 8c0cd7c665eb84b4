//! Push webhooks with two replicas: whichever of them gets a delivery, the active one fetches.

use super::replicas::{Replicas, blocking};
use crate::webhook::{SECRET, deliver, has_synced, pushed};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_to_a_replica_that_stands_by_makes_the_other_one_fetch() {
    let builder = "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {name: node}\n\
                   spec:\n  region: us-east-1\n  suspend: true\n  builder: {dir: packer}\n";
    let replicas = Replicas::served("publish: {enabled: false}\n", &[("node.yaml", builder)]).await;
    blocking(move || {
        let environment = [
            ("OPSY_INTERVAL", "1h"),
            ("OPSY_WEBHOOK_LISTEN", "127.0.0.1:0"),
            ("OPSY_WEBHOOK_SECRET", SECRET),
        ];
        let first = replicas.start_with("first", &environment);
        replicas.works(&first);
        let second = replicas.start_with("second", &environment);
        let world = &replicas.world;
        let url = world.server.as_ref().expect("a server").url();
        let reached = world.logged(&second.log, "webhook");
        for number in 0..2 {
            let manifest = builder.replace("dir: packer", &format!("dir: packer{number}"));
            let commit = world.push(&[("node.yaml", Some(&manifest))], "policy: next");
            assert_eq!(deliver(&reached, SECRET, &pushed(&url, "main")), 202);
            world.wait("the fetch of the active replica", || has_synced(&first.log, &commit).then_some(()));
            assert!(!has_synced(&second.log, &commit));
        }
        // The replica that takes over has the newest commit, and earlier deliveries do not prevent its fetch.
        assert_eq!(first.agent.stop().code(), Some(0));
        replicas.works(&second);
        let commit = world.push(&[("node.yaml", Some(builder))], "policy: last");
        assert_eq!(deliver(&reached, SECRET, &pushed(&url, "main")), 202);
        world.wait("the fetch", || has_synced(&second.log, &commit).then_some(()));
    })
    .await;
}
