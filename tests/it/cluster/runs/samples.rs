//! The sample manifests of the operator in a cluster, unchanged: the node pulls the images that they name from a
//! mirror, and pods fetch their templates from mirrors with git-sync.

use serde_json::json;

use super::agents::Cluster;
use super::node::Relay;
use super::registry::Registry;
use crate::chat::TOKEN;
use crate::packers::folder;
use crate::samples::{BUILDERS, CHANNEL, Mirrors, REGION, assert_images, chat, image, releases, seed};
use crate::world::fixtures;

/// The path of the current Packer and its plugins in the image.
const PACKER: &str = "/opt/packer";

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_of_the_operator_become_images_and_a_rollout_in_a_cluster() {
    let Some(cluster) = Cluster::new().await else { return };
    let (mirrors, chat, world) = (Mirrors::start(), chat(), &cluster.world);
    let key = world.account.unrestricted_key();
    let mut aws = cluster.environment(&key);
    aws.insert("PKR_VAR_record".to_owned(), "/dev/stdout".to_owned());

    let registry = Registry::instead_of(cluster.place.plane, &["docker.io", "registry.k8s.io"]);
    // One sample names no Secret: its pods have their own credentials, in EKS those of a ServiceAccount.
    let mut variables = aws.clone();
    variables.extend(
        [
            ("CHECKPOINT_DISABLE", "1".to_owned()),
            ("PACKER_PLUGIN_PATH", format!("{PACKER}/plugins")),
            ("PATH", format!("{PACKER}:/usr/bin:/bin")),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let packer = json!({"env": variables, "files": {PACKER: folder()}});
    registry.serve("hashicorp/packer:latest", "packer", packer);
    registry.serve("git-sync/git-sync:v4.2.3", "git_sync", json!({}));

    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let login = [("username", "ann"), ("token", "t0ken-of-ann")].map(pair);
    cluster.secret("aws-creds", aws).await;
    cluster.secret("git-sync", login.into()).await;
    cluster.secret("slack-token", [("token", TOKEN)].map(pair).into()).await;

    let newest = seed(world);
    let namespace = cluster.place.namespace.as_str();
    let settings = format!("namespace: {namespace}\npublish:\n  quietPeriod: 100ms\n");
    world.push(&[("opsy.yaml", Some(&settings))], "policy: a namespace");
    world.push_folder(&fixtures().join("samples/manifests"), "policy: the samples");
    let mut opsy = cluster.opsy("state");
    opsy.env("OPSY_GIT_REWRITE", mirrors.rewrites(|server| Relay::to(server).url))
        // Pods reach this machine at an address that is not loopback.
        .env("OPSY_INSECURE_HTTP", "true")
        .env("OPSY_SLACK_API", format!("{}/api/", chat.url))
        .env("AWS_ACCESS_KEY_ID", &key);
    let _agent = world.start(opsy);

    cluster.ready(BUILDERS.len()).await;
    let published = async || {
        let amis = world.amis();
        BUILDERS.iter().all(|(name, ..)| image(&amis, namespace, name).is_some()).then_some(amis)
    };
    let amis = cluster.until("all images in amis.json", published).await;
    assert_images(&world.account.state_in(REGION), &amis, namespace);
    let refreshed = async || {
        releases(&world.account.state_in(REGION)).iter().all(|release| *release == newest).then_some(())
    };
    cluster.until("all groups on the newest image", refreshed).await;
    let notified = async || (!chat.messages(CHANNEL).is_empty()).then_some(());
    cluster.until("a notification", notified).await;
    assert_eq!(chat.messages(CHANNEL).len(), 1, "Slack is notified of the builder that asks for it");
    for manifest in ["hashicorp/packer/manifests/latest", "git-sync/git-sync/manifests/v4.2.3"] {
        assert!(registry.pulls(manifest) > 0, "the node pulls {manifest}");
    }
    assert!(
        mirrors.private.users().iter().all(|user| user == "ann"),
        "with the Secret that the samples name"
    );
}
