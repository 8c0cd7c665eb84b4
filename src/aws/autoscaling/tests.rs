//! The exact requests to EC2 Auto Scaling, and how its responses are parsed: pages that no test account fills, and what
//! must be sent back as it was.

use super::super::fake::{Reply, Wire, ok, region};
use super::*;

const TEMPLATE: &str = "lt-0123456789abcdef0";

fn response(operation: &str, body: &str) -> Reply {
    ok(format!("<{operation}Response><{operation}Result>{body}</{operation}Result></{operation}Response>"))
}

fn refresh(id: &str, status: &str, more: &str) -> String {
    format!("<member><InstanceRefreshId>{id}</InstanceRefreshId><Status>{status}</Status>{more}</member>")
}

fn refreshes(members: &[String], next: &str) -> Reply {
    let body = format!("<InstanceRefreshes>{}</InstanceRefreshes>{next}", members.concat());
    response("DescribeInstanceRefreshes", &body)
}

fn version(number: &str) -> TemplateVersion {
    TemplateVersion { template: TemplateId::parse(TEMPLATE).expect("an id"), version: number.to_owned() }
}

/// AWS returns ID and name of a launch template.
fn specification(version: &str) -> String {
    let (id, name) = (
        "<LaunchTemplateId>lt-0123456789abcdef0</LaunchTemplateId>",
        "<LaunchTemplateName>n</LaunchTemplateName>",
    );
    format!("{id}{name}<Version>{version}</Version>")
}

#[tokio::test]
async fn all_pages_of_refreshes_are_read() {
    let desired = format!(
        "<DesiredConfiguration><LaunchTemplate>{}</LaunchTemplate></DesiredConfiguration>\
         <StartTime>2026-01-02T03:04:05Z</StartTime><PercentageComplete>40</PercentageComplete>\
         <StatusReason>warming up</StatusReason>",
        specification("7")
    );
    let wire = Wire::new([
        refreshes(&[refresh("r-3", "InProgress", &desired)], "<NextToken>page2</NextToken>"),
        refreshes(&[refresh("r-2", "RollbackFailed", ""), refresh("r-1", "Hibernating", "")], ""),
    ]);
    let (read, is_fresh) =
        wire.aws().await.instance_refreshes(&region(), "g", Fresh::Now).await.expect("read");
    assert!(is_fresh);
    let statuses: Vec<_> = read.iter().map(|refresh| (refresh.id.as_str(), refresh.status.clone())).collect();
    let unknown = RefreshStatus::Other("Hibernating".to_owned());
    let expected =
        [("r-3", RefreshStatus::InProgress), ("r-2", RefreshStatus::RollbackFailed), ("r-1", unknown)];
    assert_eq!(statuses, expected);
    let first = &read[0];
    let to = TemplateRef { template: version("7").template, version: VersionRef::Number(7) };
    assert_eq!((first.to.as_ref(), first.percentage), (Some(&to), Some(40)));
    assert_eq!(first.started, Some("2026-01-02T03:04:05Z".parse().expect("a time")));
    assert_eq!(first.reason.as_deref(), Some("warming up"));
    let sent = wire.sent();
    assert_eq!(sent.len(), 2);
    assert!(sent[0].contains("MaxRecords=100") && !sent[0].contains("NextToken"), "{}", sent[0]);
    assert!(sent[1].contains("NextToken=page2"), "{}", sent[1]);
}

#[tokio::test]
async fn a_policy_is_sent_back_whole_with_another_version() {
    let policy = format!(
        "<MixedInstancesPolicy><LaunchTemplate><LaunchTemplateSpecification>{}</LaunchTemplateSpecification><Overrides>\
         <member><InstanceType>m6i.large</InstanceType><WeightedCapacity>2</WeightedCapacity></member>\
         <member><InstanceType>m5.large</InstanceType></member></Overrides></LaunchTemplate><InstancesDistribution>\
         <OnDemandPercentageAboveBaseCapacity>25</OnDemandPercentageAboveBaseCapacity>\
         <SpotAllocationStrategy>capacity-optimized</SpotAllocationStrategy></InstancesDistribution></MixedInstancesPolicy>",
        specification("$Latest")
    );
    let instance = format!(
        "<member><InstanceId>i-1</InstanceId><LifecycleState>InService</LifecycleState><ProtectedFromScaleIn>true\
         </ProtectedFromScaleIn><LaunchTemplate>{}</LaunchTemplate></member>",
        specification("5")
    );
    let group = format!(
        "<AutoScalingGroups><member><AutoScalingGroupName>g</AutoScalingGroupName><DesiredCapacity>1</DesiredCapacity>\
         {policy}<Instances>{instance}</Instances><Tags><member><Key>k</Key><Value>v</Value></member></Tags></member>\
         </AutoScalingGroups>"
    );
    let started = "<InstanceRefreshId>r-1</InstanceRefreshId>";
    let wire =
        Wire::new([response("DescribeAutoScalingGroups", &group), response("StartInstanceRefresh", started)]);
    let aws = wire.aws().await;
    let (groups, _) = aws.auto_scaling_groups(&region(), "demo", Fresh::Now).await.expect("groups");
    let [group] = groups.as_slice() else { panic!("one group: {groups:?}") };
    let LaunchSource::Mixed(read) = &group.source else { panic!("a policy: {group:?}") };
    assert_eq!((&read.template.version, read.instance_types.len()), (&VersionRef::Latest, 2));
    assert!(!read.overrides_template && !read.overrides_image && !read.has_requirements);
    let [member] = group.instances.as_slice() else { panic!("one instance") };
    assert_eq!((member.version.clone(), member.is_protected), (Some(version("5")), true));

    let preferences = RefreshPreferences { min_healthy: Some(50), ..RefreshPreferences::default() };
    let id = aws.start_refresh(&region(), "demo", "g", &group.source, &version("9"), &preferences).await;
    assert_eq!(id.expect("a refresh"), "r-1");
    let sent = wire.sent();
    assert!(sent[0].contains("Filters.member.1.Name=tag%3Akubernetes.io%2Fcluster%2Fdemo"), "{}", sent[0]);
    let policy = "DesiredConfiguration.MixedInstancesPolicy.";
    for part in [
        "LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateId=lt-0123456789abcdef0",
        "LaunchTemplate.LaunchTemplateSpecification.Version=9",
        "LaunchTemplate.Overrides.member.1.InstanceType=m6i.large",
        "LaunchTemplate.Overrides.member.1.WeightedCapacity=2",
        "LaunchTemplate.Overrides.member.2.InstanceType=m5.large",
        "InstancesDistribution.OnDemandPercentageAboveBaseCapacity=25",
        "InstancesDistribution.SpotAllocationStrategy=capacity-optimized",
    ] {
        assert!(sent[1].contains(&format!("{policy}{part}")), "{part}: {}", sent[1]);
    }
    assert!(sent[1].contains("Preferences.SkipMatching=true"), "{}", sent[1]);
    assert!(sent[1].contains("Preferences.MinHealthyPercentage=50"), "{}", sent[1]);
    for absent in ["LaunchTemplateName", "AutoRollback", "%24Latest", "MaxHealthyPercentage"] {
        assert!(!sent[1].contains(absent), "{absent}: {}", sent[1]);
    }
}
