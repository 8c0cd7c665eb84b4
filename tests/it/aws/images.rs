//! Images: lookups, shared responses, tags.

use std::collections::BTreeSet;

use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use opsy::api::ImageId;
use opsy::api::tags::BROUGHT_BY;
use opsy::aws::{Filter, Fresh, ImageQuery, ImageState};
use serde_json::json;

use super::{edge, image, region, sdk, tags, text};
use crate::bed::Account;

const BROUGHT: [(&str, &str); 1] = [BROUGHT_BY];

fn base_images(filters: &[(&str, &str)]) -> ImageQuery {
    let filters = filters
        .iter()
        .map(|(name, value)| Filter { name: (*name).to_owned(), values: vec![(*value).to_owned()] });
    ImageQuery {
        region: region().clone(),
        owners: vec!["602401143452".to_owned()],
        filters: filters.collect(),
    }
}

#[tokio::test]
async fn base_images_come_newest_first_and_are_shared_by_query() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let x86 = base_images(&[("architecture", "x86_64"), ("name", "amazon-eks-node-al2023-*")]);
    let found = join_all((0..8).map(|_| aws.find_images(&x86, Fresh::Cached))).await;
    for images in found {
        let ids: Vec<String> = images.expect("images").iter().map(|image| image.id.to_string()).collect();
        let expected = ["v20260801", "v20260702", "v20260604"].map(|v| text(&seed["base_images"][v]));
        assert_eq!(ids, expected);
    }
    assert_eq!(account.count("ec2:DescribeImages"), 1);
    let arm = base_images(&[("architecture", "arm64")]);
    assert_eq!(aws.find_images(&arm, Fresh::Cached).await.expect("images").len(), 1);
    assert_eq!(account.count("ec2:DescribeImages"), 2);
    let newer = json!({ "region": "us-east-1", "version": "v20261001" });
    account.post("base-image", newer);
    assert_eq!(aws.find_images(&x86, Fresh::Cached).await.expect("images").len(), 3, "still shared");
    assert_eq!(aws.find_images(&x86, Fresh::Now).await.expect("images").len(), 4);
    assert_eq!(aws.find_images(&x86, Fresh::Cached).await.expect("images").len(), 4);
    assert_eq!(account.count("ec2:DescribeImages"), 3);
}

#[tokio::test]
async fn all_objects_of_a_region_share_one_read_until_we_write() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let own = || aws.own_images(region(), Fresh::Cached);
    for images in join_all((0..20).map(|_| own())).await {
        assert!(images.expect("images").is_empty(), "none is ours yet");
    }
    assert_eq!(account.count("ec2:DescribeImages"), 1);
    let first = text(&seed["initial_image"]);
    aws.tag(region(), std::slice::from_ref(&first), &tags(&BROUGHT)).await.expect("tagged");
    let images = own().await.expect("images");
    assert_eq!(images.iter().map(|image| image.id.to_string()).collect::<Vec<_>>(), [first]);
    assert_eq!(images[0].tags["team"], "platform", "other tags stay");
    assert_eq!(account.count("ec2:DescribeImages"), 2);
    assert_eq!(aws.calls()["ec2:DescribeImages 200"], 2);
}

#[tokio::test]
async fn own_images_are_seen_even_disabled_and_deprecated() {
    let (account, seed) = Account::seeded();
    let (aws, sdk) = (edge(&account).await, sdk(&account).await);
    let id = text(&seed["initial_image"]);
    aws.tag(region(), std::slice::from_ref(&id), &tags(&BROUGHT)).await.expect("tagged");
    let in_an_hour = aws_sdk_ec2::primitives::DateTime::from_secs(Timestamp::now().as_second() + 3600);
    sdk.enable_image_deprecation().image_id(&id).deprecate_at(in_an_hour).send().await.expect("deprecated");
    sdk.disable_image().image_id(&id).send().await.expect("disabled");
    let images = aws.own_images(region(), Fresh::Now).await.expect("images");
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].state, ImageState::Disabled);
    assert!(images[0].deprecated.is_some_and(|at| at > Timestamp::now()), "{:?}", images[0].deprecated);
}

#[tokio::test]
async fn one_unknown_image_does_not_hide_the_others() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let known: Vec<ImageId> =
        ["v20260604", "v20260702", "v20260801"].map(|v| image(&seed["base_images"][v])).to_vec();
    let unknown = ImageId::parse("ami-00000000000000bad").expect("an id");
    let asked = [known[0].clone(), unknown.clone(), known[1].clone(), known[2].clone()];
    let found = aws.images_by_id(region(), &asked).await.expect("a response");
    let ids: BTreeSet<ImageId> = found.into_iter().map(|image| image.id).collect();
    assert_eq!(ids, known.into_iter().collect());
    assert!(aws.images_by_id(region(), &[unknown]).await.expect("a response").is_empty());
    let gone = image(&seed["initial_image"]);
    let deregister = sdk(&account).await.deregister_image().image_id(gone.as_str()).send().await;
    deregister.expect("deregistered");
    assert!(aws.images_by_id(region(), &[gone]).await.expect("a response").is_empty());
}

#[tokio::test]
async fn the_account_is_that_of_the_credentials() {
    let account = Account::new();
    let aws = edge(&account).await;
    let answers = try_join_all((0..5).map(|_| aws.account(region()))).await.expect("an account");
    assert!(answers.iter().all(|id| *id == account.id), "{answers:?}");
    assert_eq!(account.count("sts:GetCallerIdentity"), 1);
    let agent = text(&account.journal()[0]["user_agent"]);
    assert!(agent.contains(concat!("app/opsy-", env!("CARGO_PKG_VERSION"))), "{agent}");
}
