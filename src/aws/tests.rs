//! What is sent, to the letter, and how answers are read: the parts no emulator would miss.

use std::sync::Arc;

use super::eks::MaxUnavailable;
use super::wire::{Reply, Wire, ok, region, xml_error};
use super::*;
use crate::api::{BuildId, ClientToken};

const IMAGE: &str = "ami-0123456789abcdef0";

fn image_xml(id: &str, name: &str, created: &str, deprecated: &str) -> String {
    format!(
        "<item><imageId>{id}</imageId><name>{name}</name><imageOwnerId>602401143452</imageOwnerId>\
         <imageState>available</imageState><architecture>arm64</architecture>\
         <creationDate>{created}</creationDate>{deprecated}\
         <blockDeviceMapping><item><ebs><snapshotId>snap-1</snapshotId></ebs></item>\
         <item><virtualName>ephemeral0</virtualName></item></blockDeviceMapping>\
         <tagSet><item><key>k</key><value>v</value></item></tagSet></item>"
    )
}

fn images_xml(images: &[String], next: &str) -> String {
    let images = images.concat();
    format!("<DescribeImagesResponse><imagesSet>{images}</imagesSet>{next}</DescribeImagesResponse>")
}

fn query(owners: &[&str]) -> ImageQuery {
    ImageQuery {
        region: region(),
        owners: owners.iter().map(ToString::to_string).collect(),
        filters: vec![Filter { name: "name".to_owned(), values: vec!["a*".to_owned(), "b".to_owned()] }],
    }
}

fn source() -> TemplateVersion {
    let template = TemplateId::parse("lt-0123456789abcdef0").expect("an id");
    TemplateVersion { template, version: "3".to_owned() }
}

#[tokio::test]
async fn a_query_sends_owners_and_asks_for_hidden_images_page_by_page() {
    let first =
        images_xml(&[image_xml(IMAGE, "x", "2026-08-01T00:00:00.000Z", "")], "<nextToken>more</nextToken>");
    let wire = Wire::new([ok(first), ok(images_xml(&[], ""))]);
    let aws = wire.aws().await;
    let found = aws.find_images(&query(&["self", "amazon"]), Fresh::Cached).await.expect("images");
    assert_eq!(found.len(), 1);
    let sent = wire.sent();
    assert_eq!(sent.len(), 2);
    for part in [
        "Owner.1=self&Owner.2=amazon",
        "IncludeDeprecated=true&IncludeDisabled=true",
        "MaxResults=1000",
        "Filter.1.Name=name&Filter.1.Value.1=a%2A&Filter.1.Value.2=b",
    ] {
        assert!(sent[0].contains(part), "{part} in {}", sent[0]);
    }
    assert!(sent[1].contains("NextToken=more") && sent[1].contains("Owner.1=self"), "{}", sent[1]);
    assert_eq!(aws.calls(), BTreeMap::from([("ec2:DescribeImages 200".to_owned(), 2)]));
}

#[tokio::test]
async fn a_query_without_owner_is_never_sent() {
    let wire = Wire::default();
    let error = wire.aws().await.find_images(&query(&[]), Fresh::Now).await.expect_err("refused");
    assert_eq!(error.class(), Class::Invalid);
    assert!(wire.sent().is_empty());
}

#[tokio::test]
async fn newest_first_then_by_name_and_deprecated_last() {
    let (old, new) = ("2026-07-01T00:00:00.000Z", "2026-08-01T00:00:00.000Z");
    let past = "<deprecationTime>1969-01-01T00:00:00.000Z</deprecationTime>";
    let future = "<deprecationTime>2030-01-01T00:00:00.000Z</deprecationTime>";
    let images = [
        image_xml("ami-00000000000000001", "deprecated", new, past),
        image_xml("ami-00000000000000002", "old", old, ""),
        image_xml("ami-00000000000000003", "b", new, ""),
        image_xml("ami-00000000000000004", "a", new, future),
    ];
    let aws = Wire::new([ok(images_xml(&images, ""))]).aws().await;
    let found = aws.find_images(&query(&["self"]), Fresh::Now).await.expect("images");
    let names: Vec<&str> = found.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "old", "deprecated"]);
}

#[tokio::test]
async fn an_image_is_read_whole() {
    let image = image_xml(IMAGE, "node", "2026-08-01T10:20:30.000Z", "");
    let wire = Wire::new([ok(images_xml(&[image], ""))]);
    let id = ImageId::parse(IMAGE).expect("an id");
    let found = wire.aws().await.images_by_id(&region(), std::slice::from_ref(&id)).await.expect("images");
    let expected = Image {
        id,
        name: "node".to_owned(),
        owner_id: "602401143452".to_owned(),
        architecture: "arm64".to_owned(),
        state: ImageState::Available,
        state_reason: None,
        created: Some("2026-08-01T10:20:30Z".parse().expect("a time")),
        deprecated: None,
        tags: Tags::from([("k".to_owned(), "v".to_owned())]),
        snapshots: vec!["snap-1".to_owned()],
        source: None,
    };
    assert_eq!(found, [expected]);
    assert!(!wire.sent()[0].contains("MaxResults"), "a look-up by id cannot be paged");
}

#[tokio::test]
async fn an_unknown_image_alone_is_an_empty_answer() {
    for code in ["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed"] {
        let wire = Wire::new([xml_error(400, code, "no such image")]);
        let id = ImageId::parse(IMAGE).expect("an id");
        let found = wire.aws().await.images_by_id(&region(), &[id]).await.expect("an answer");
        assert_eq!((found.len(), wire.sent().len()), (0, 1), "{code}");
    }
}

#[tokio::test]
async fn no_ids_and_no_tags_cost_no_call() {
    let wire = Wire::default();
    let aws = wire.aws().await;
    assert!(aws.images_by_id(&region(), &[]).await.expect("an answer").is_empty());
    aws.tag(&region(), &[], &Tags::new()).await.expect("nothing to do");
    let refused = aws.delete_template_versions(&region(), &source().template, &[]).await;
    assert!(refused.expect("nothing to do").is_empty());
    aws.sweep(&region(), &Leftovers::default()).await.expect("nothing to do");
    assert!(wire.sent().is_empty());
}

#[tokio::test]
async fn a_template_version_changes_the_image_alone() {
    let made = "<CreateLaunchTemplateVersionResponse><launchTemplateVersion><versionNumber>4</versionNumber>\
                </launchTemplateVersion></CreateLaunchTemplateVersionResponse>";
    let wire = Wire::new([ok(made)]);
    let (image, token) = (ImageId::parse(IMAGE).expect("an id"), ClientToken::of(&["x"]));
    let aws = wire.aws().await;
    let number = aws.create_template_version(&region(), &source(), &image, "opsy", &token).await;
    assert_eq!(number.expect("a number"), 4);
    let sent = wire.sent().concat();
    let body = sent.rsplit_once(' ').expect("a body").1;
    let mut fields: Vec<&str> = body.split('&').collect();
    fields.sort_unstable();
    let token = format!("ClientToken={token}");
    let image = format!("LaunchTemplateData.ImageId={IMAGE}");
    assert_eq!(
        fields,
        [
            "Action=CreateLaunchTemplateVersion",
            &token,
            &image,
            "LaunchTemplateId=lt-0123456789abcdef0",
            "SourceVersion=3",
            "Version=2016-11-15",
            "VersionDescription=opsy",
        ]
    );
}

#[tokio::test]
async fn versions_that_are_gone_are_deleted_and_refusals_come_back() {
    let item = |number: i64, code: &str| {
        format!(
            "<item><versionNumber>{number}</versionNumber><responseError><code>{code}</code>\
             <message>why</message></responseError></item>"
        )
    };
    let answer = format!(
        "<DeleteLaunchTemplateVersionsResponse><unsuccessfullyDeletedLaunchTemplateVersionSet>{}{}\
         </unsuccessfullyDeletedLaunchTemplateVersionSet></DeleteLaunchTemplateVersionsResponse>",
        item(7, "launchTemplateVersionDoesNotExist"),
        item(8, "unexpectedError")
    );
    let aws = Wire::new([ok(answer)]).aws().await;
    let refused = aws.delete_template_versions(&region(), &source().template, &[7, 8]).await;
    assert_eq!(refused.expect("an answer"), [(8, "unexpectedError: why".to_owned())]);
}

#[tokio::test]
async fn an_update_sends_template_id_and_number_only() {
    let update = r#"{"update":{"id":"u","status":"InProgress","type":"VersionUpdate","createdAt":1.5,
        "params":[{"type":"LaunchTemplateVersion","value":"3"}],
        "errors":[{"errorCode":"NodeCreationFailure","errorMessage":"no nodes"}]}}"#;
    let wire = Wire::new([ok(update), ok(update)]);
    let (aws, token) = (wire.aws().await, ClientToken::of(&["x"]));
    let update = aws.update_version(&region(), "c", "g", &source(), false, &token).await.expect("an update");
    let expected = Update {
        id: "u".to_owned(),
        kind: "VersionUpdate".to_owned(),
        status: UpdateStatus::InProgress,
        errors: vec!["NodeCreationFailure: no nodes".to_owned()],
        created: Timestamp::new(1, 500_000_000).ok(),
        params: BTreeMap::from([("LaunchTemplateVersion".to_owned(), "3".to_owned())]),
    };
    assert_eq!(update, expected);
    aws.update_version(&region(), "c", "g", &source(), true, &token).await.expect("an update");
    let bodies: Vec<serde_json::Value> = wire.sent().iter().map(|sent| json(sent)).collect();
    let launch = serde_json::json!({ "id": "lt-0123456789abcdef0", "version": "3" });
    let plain = serde_json::json!({ "launchTemplate": launch, "clientRequestToken": token });
    assert_eq!(bodies[0], plain);
    assert_eq!(bodies[1]["force"], true);
    assert!(wire.sent()[0].contains("/clusters/c/node-groups/g/update-version"), "{:?}", wire.sent());
}

#[tokio::test]
async fn a_config_update_sends_one_of_the_two_limits() {
    let wire = Wire::new([ok(r#"{"update":{"id":"u","status":"Cancelled"}}"#)]);
    let max = MaxUnavailable { count: None, percentage: Some(33) };
    let (aws, token) = (wire.aws().await, ClientToken::of(&["x"]));
    let update = aws.update_config(&region(), "c", "g", max, &token).await.expect("an update");
    assert_eq!(update.status, UpdateStatus::Cancelled);
    let body = json(&wire.sent()[0]);
    assert_eq!(body["updateConfig"], serde_json::json!({ "maxUnavailablePercentage": 33 }));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_still_drops_what_is_shared() {
    let list = || ok(r#"{"nodegroups":[]}"#);
    let wire = Wire::new([list(), Reply::Refused, list()]);
    let (aws, token) = (wire.aws().await, ClientToken::of(&["x"]));
    let region = region();
    let groups = || aws.nodegroups(&region, "c", Fresh::Cached);
    let (one, two) = (groups().await.expect("groups"), groups().await.expect("groups"));
    assert!(Arc::ptr_eq(&one, &two));
    aws.update_version(&region, "c", "g", &source(), false, &token).await.expect_err("lost");
    groups().await.expect("groups");
    assert_eq!(wire.sent().len(), 3);
}

#[tokio::test]
async fn images_of_a_build_go_by_its_tag_and_are_our_own() {
    let wire = Wire::new([ok(images_xml(&[], ""))]);
    let build = BuildId::of(&["x"]);
    wire.aws().await.images_of_build(&region(), &build).await.expect("images");
    let filter = format!("Filter.1.Name=tag%3Aopsy.dev%2Fbuild&Filter.1.Value.1={build}");
    assert!(wire.sent()[0].contains(&filter) && wire.sent()[0].contains("Owner.1=self"), "{:?}", wire.sent());
}

#[tokio::test]
async fn the_account_is_asked_for_once_and_a_failure_is_not_kept() {
    let answer = "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>\
                  </GetCallerIdentityResult></GetCallerIdentityResponse>";
    let denied = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
    let wire = Wire::new([Reply::Answer(403, None, denied.to_owned()), ok(answer)]);
    let aws = wire.aws().await;
    assert_eq!(aws.account(&region()).await.expect_err("denied").class(), Class::Denied);
    assert_eq!(aws.account(&region()).await.expect("an account"), "123456789012");
    assert_eq!(aws.account(&region()).await.expect("an account"), "123456789012");
    assert_eq!(wire.sent().len(), 2);
}

fn json(sent: &str) -> serde_json::Value {
    let body = &sent[sent.find('{').expect("a body")..];
    serde_json::from_str(body).expect("JSON")
}
