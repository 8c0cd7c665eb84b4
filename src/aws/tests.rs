//! The exact requests, and how responses are parsed: mistakes that no emulator would notice.

use super::eks::MaxUnavailable;
use super::fake::{Reply, Wire, ok, region, sts, xml_error};
use super::*;
use crate::api::{BuildId, ClientToken};

const IMAGE: &str = "ami-0123456789abcdef0";

fn image_xml(id: &str, name: &str, created: &str, deprecated: &str) -> String {
    format!(
        "<item><imageId>{id}</imageId><name>{name}</name><imageOwnerId>602401143452</imageOwnerId>\
         <imageState>available</imageState><architecture>arm64</architecture>\
         <creationDate>{created}</creationDate>{deprecated}\
         <rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping>\
         <item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-1</snapshotId>\
         <volumeSize>20</volumeSize></ebs></item>\
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
async fn instances_are_found_by_a_filter_page_by_page_and_name_their_image() {
    let page = |instance: &str, next: &str| {
        ok(format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet><item>{instance}</item></instancesSet></item>\
             </reservationSet>{next}</DescribeInstancesResponse>"
        ))
    };
    let running = format!(
        "<instanceId>i-1</instanceId><imageId>{IMAGE}</imageId><instanceState><name>running</name></instanceState>"
    );
    let wire =
        Wire::new([page(&running, "<nextToken>more</nextToken>"), page("<instanceId>i-2</instanceId>", "")]);
    let wanted = Filter { name: "private-dns-name".to_owned(), values: vec!["ip-1".to_owned()] };
    let found = wire.aws().await.instances(&region(), &wanted).await.expect("instances");
    let image = ImageId::parse(IMAGE).expect("an id");
    let expected = Instance { id: "i-1".to_owned(), image, state: Some("running".to_owned()) };
    assert_eq!(found, [expected], "an instance without an image leads nowhere");
    let sent = wire.sent();
    assert!(sent[0].contains("Filter.1.Name=private-dns-name&Filter.1.Value.1=ip-1"), "{}", sent[0]);
    assert!(sent[1].contains("NextToken=more"), "{}", sent[1]);
}

#[tokio::test]
async fn a_query_without_owner_is_never_sent() {
    let wire = Wire::default();
    let error = wire.aws().await.find_images(&query(&[]), Fresh::Now).await.expect_err("refused");
    assert_eq!(error.class(), Class::Invalid);
    assert!(wire.sent().is_empty());
}

#[tokio::test]
async fn a_plan_asks_for_no_image_twice() {
    let image = |id: &str| image_xml(id, "x", "2026-08-01T00:00:00.000Z", "");
    let [own, other, gone] = ["ami-00000000000000001", "ami-00000000000000002", "ami-00000000000000003"]
        .map(|id| ImageId::parse(id.to_owned()).expect("an ID"));
    let wire = Wire::new([
        ok(images_xml(&[image(own.as_str())], "")),
        ok(images_xml(&[image(other.as_str())], "")),
        xml_error(400, "InvalidAMIID.NotFound", "The image id does not exist"),
        Reply::Refused,
    ]);
    let aws = wire.snapshot().await;
    for _ in 0..2 {
        for ids in [vec![own.clone()], vec![own.clone(), other.clone()], vec![gone.clone()]] {
            let found = aws.images_by_id(&region(), &ids).await.expect("images");
            let exist = ids.iter().filter(|id| **id != gone).count();
            assert_eq!(found.len(), exist, "{ids:?}");
        }
        aws.own_images(&region(), Fresh::Now).await.expect("images");
        let both = aws.images_by_id(&region(), &[gone.clone(), other.clone()]).await;
        assert!(both.is_err(), "a failure is a response, too");
    }
    assert_eq!(wire.sent().len(), 4, "{:?}", wire.sent());
}

#[tokio::test]
async fn a_plan_asks_for_the_account_once_even_if_the_call_fails() {
    let wire = Wire::new([Reply::Refused]);
    let aws = wire.snapshot().await;
    for _ in 0..3 {
        assert!(aws.account(&region()).await.is_err());
    }
    assert_eq!(wire.sent().len(), 1);
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
        machine: Machine {
            platform: String::new(),
            root_device: "/dev/xvda".to_owned(),
            root_size: Some(20),
        },
    };
    assert_eq!(found, [expected]);
    assert!(!wire.sent()[0].contains("MaxResults"), "a lookup by ID cannot be paged");
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
    aws.sweep(&region(), &Orphans::default()).await.expect("nothing to do");
    assert!(wire.sent().is_empty());
}

#[tokio::test]
async fn a_template_version_changes_the_image_alone() {
    let made = "<CreateLaunchTemplateVersionResponse><launchTemplateVersion><versionNumber>4</versionNumber>\
                </launchTemplateVersion></CreateLaunchTemplateVersionResponse>";
    let wire = Wire::new([ok(made)]);
    let (image, token) = (ImageId::parse(IMAGE).expect("an id"), ClientToken::of(&["x"]));
    let aws = wire.aws().await;
    let number = aws.create_template_version(&region(), &source(), &image, &[], "opsy", &token).await;
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
    let minimal = Some("MINIMAL");
    let update = aws.update_config(&region(), "c", "g", max, minimal, &token).await.expect("an update");
    assert_eq!(update.status, UpdateStatus::Cancelled);
    let body = json(&wire.sent()[0]);
    let expected = serde_json::json!({ "maxUnavailablePercentage": 33, "updateStrategy": "MINIMAL" });
    assert_eq!(body["updateConfig"], expected);
}

#[tokio::test]
async fn a_failed_update_names_what_it_failed_on() {
    let error = r#"{"errorCode":"PodEvictionFailure","errorMessage":"Reached max retries","resourceIds":["ip-10-0-3-4"]}"#;
    let wire = Wire::new([ok(format!(r#"{{"update":{{"id":"u","status":"Failed","errors":[{error}]}}}}"#))]);
    let update = wire.aws().await.update(&region(), "c", "g", "u").await.expect("an update");
    assert_eq!(update.errors, ["PodEvictionFailure: Reached max retries (ip-10-0-3-4)"]);
}

#[tokio::test]
async fn only_wanted_groups_are_described_and_one_that_cannot_be_read_spoils_no_other() {
    let group = |name: &str| ok(format!(r#"{{"nodegroup":{{"nodegroupName":"{name}","status":"ACTIVE"}}}}"#));
    let denied = super::fake::json_error(403, "AccessDeniedException", "not authorized");
    let wire = Wire::new([ok(r#"{"nodegroups":["a","b","c"]}"#), group("a"), denied]);
    let aws = wire.aws().await;
    let read = aws
        .nodegroups(&region(), "c", Fresh::Now, |name| (name != "c").then_some(Fresh::Now))
        .await
        .expect("a list");
    let words: Vec<_> = read
        .iter()
        .map(|(name, read)| {
            (name.as_str(), read.as_ref().map(|read| read.group.as_ref().err().map(AwsError::class)))
        })
        .collect();
    assert_eq!(words, [("a", Some(None)), ("b", Some(Some(Class::Denied))), ("c", None)]);
    assert_eq!(wire.sent().len(), 3);
}

#[tokio::test]
async fn a_denial_is_kept_only_for_those_who_accept_an_older_answer() {
    let denied = || super::fake::json_error(403, "AccessDeniedException", "not authorized");
    let group = ok(r#"{"nodegroup":{"nodegroupName":"g","status":"ACTIVE"}}"#);
    let wire = Wire::new([denied(), denied(), group]);
    let (aws, region, hour) = (wire.aws().await, region(), Duration::from_secs(3600));
    let read = async |fresh| {
        let read = aws.nodegroup(&region, "c", "g", fresh).await.expect("it exists");
        (read.group.is_ok(), read.is_fresh, wire.sent().len())
    };
    assert_eq!(read(Fresh::Within(hour)).await, (false, true, 1));
    assert_eq!(read(Fresh::Within(hour)).await, (false, false, 1));
    assert_eq!(read(Fresh::Cached).await, (false, true, 2));
    assert_eq!(read(Fresh::Now).await, (true, true, 3));
    assert_eq!(read(Fresh::Within(hour)).await, (true, false, 3));
}

#[tokio::test]
async fn an_instance_type_tells_its_architectures_once() {
    let answer = "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>m7g.large</instanceType>\
                  <processorInfo><supportedArchitectures><item>arm64</item></supportedArchitectures>\
                  </processorInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>";
    let wire = Wire::new([ok(answer)]);
    let aws = wire.aws().await;
    for _ in 0..2 {
        let found = aws.architectures(&region(), &["m7g.large".to_owned()]).await.expect("known");
        assert_eq!(found, std::collections::BTreeSet::from(["arm64".to_owned()]));
    }
    assert_eq!(wire.sent().len(), 1);
}

#[tokio::test]
async fn a_version_with_disks_sends_them_whole() {
    let made = "<CreateLaunchTemplateVersionResponse><launchTemplateVersion><versionNumber>4</versionNumber>\
                </launchTemplateVersion></CreateLaunchTemplateVersionResponse>";
    let wire = Wire::new([ok(made)]);
    let volume = Volume { snapshot: Some("snap-9".to_owned()), size: Some(50), ..Volume::default() };
    let disk = Disk { device: "/dev/xvdb".to_owned(), volume: Some(volume), ..Disk::default() };
    let (image, token) = (ImageId::parse(IMAGE).expect("an id"), ClientToken::of(&["x"]));
    let aws = wire.aws().await;
    let number = aws.create_template_version(&region(), &source(), &image, &[disk], "d", &token).await;
    assert_eq!(number.expect("a number"), 4);
    for part in ["DeviceName=%2Fdev%2Fxvdb", "Ebs.SnapshotId=snap-9", "Ebs.VolumeSize=50"] {
        let field = format!("LaunchTemplateData.BlockDeviceMapping.1.{part}");
        assert!(wire.sent()[0].contains(&field), "{field} in {}", wire.sent()[0]);
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_still_drops_what_is_shared() {
    let read = || ok(r#"{"nodegroup":{"nodegroupName":"g"}}"#);
    let wire = Wire::new([read(), Reply::Refused, read()]);
    let (aws, token) = (wire.aws().await, ClientToken::of(&["x"]));
    let region = region();
    let group = async || {
        let read = aws.nodegroup(&region, "c", "g", Fresh::Cached).await;
        read.map(|read| read.group.expect("a group"))
    };
    let (one, two) = (group().await, group().await);
    assert!(one.is_some() && one == two && wire.sent().len() == 1);
    aws.update_version(&region, "c", "g", &source(), false, &token).await.expect_err("lost");
    group().await.expect("a group");
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
    let answer = sts("GetCallerIdentity", "<Account>123456789012</Account>");
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
