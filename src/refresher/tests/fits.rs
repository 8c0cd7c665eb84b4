//! Tables: which image fits which group.

use serde_json::json;

use super::groups::{nodegroup, seen, template};
use super::tables::{arm, id, image, parsed, target};
use crate::api::Seen;
use crate::aws::{Disk, Image, LaunchTemplateVersion, Volume};
use crate::refresher::fit::{Question, Skew, Way, disks, skew, too_small, way};
use crate::refresher::seen::{Gap, Need, Observed};

/// Where `web` goes when it runs image 1 and the target is image 2.
fn goes(spec: serde_json::Value, seen: &Observed) -> Result<Way, Gap> {
    let (spec, group, target) = (parsed(spec), nodegroup(|_| {}), target(&[2]));
    way(Question { spec: &spec, group: &group, target: &target, also: &[].into(), seen })
}

fn unfit(found: Result<Way, Gap>) -> String {
    match found {
        Ok(Way::Unfit(why)) => why,
        other => panic!("it is {other:?}"),
    }
}

fn named(mut image: Image, name: &str) -> Image {
    image.name = name.to_owned();
    image
}

#[test]
fn another_machine_or_another_operating_system_does_not_fit() {
    let two = || image(2, 1, &[]);
    let own = Some("ami-00000001");
    let to = Ok(Way::To(id(2)));
    let of = |one: Image, two: Image| goes(json!({}), &seen(&[one, two], 3, own));
    assert_eq!(of(image(1, 9, &[]), two()), to);

    let mut windows = image(1, 9, &[]);
    windows.machine.platform = "windows".to_owned();
    assert_eq!(unfit(of(windows, two())), "runs Windows, and ami-00000002 is Linux");

    let (mut one, mut other) = (image(1, 9, &[]), two());
    one.machine.root_device = "/dev/sda1".to_owned();
    other.machine.root_device = "/dev/xvda".to_owned();
    let why = unfit(of(one, other));
    assert_eq!(why, "has its root volume at /dev/sda1, and ami-00000002 at /dev/xvda");

    let al2 = named(image(1, 9, &[]), "amazon-eks-node-1.31-v20260101");
    let al2023 = named(two(), "amazon-eks-node-al2023-x86_64-standard-1.31-v20260801");
    let why = unfit(of(al2.clone(), al2023.clone()));
    assert!(why.starts_with("runs AL2, and ami-00000002 is made from AL2023"), "{why}");
    let vouched = json!({ "nodeGroups": { "include": ["web"] } });
    let both = seen(&[al2, al2023.clone()], 3, own);
    assert_eq!(goes(vouched, &both), to, "a person names the group: they vouch for its user data");

    // By the names of the base images.
    let base = |number: u32, name: &str| named(image(number, 9, &[]), name);
    let built = [
        image(1, 9, &[("base-ami", "ami-00000003")]),
        image(2, 1, &[("base-ami", "ami-00000004")]),
        base(3, "bottlerocket-aws-k8s-1.31-x86_64-v1.20.0"),
        base(4, "amazon-eks-node-al2023-x86_64-standard-1.31-v20260801"),
    ];
    let why = unfit(goes(json!({}), &seen(&built, 3, own)));
    assert!(why.starts_with("runs Bottlerocket, and ami-00000002 is made from AL2023"), "{why}");
}

#[test]
fn where_the_running_image_is_gone_the_instance_types_tell_the_architecture() {
    let spec = json!({});
    let mut gone = seen(&[image(2, 1, &[])], 3, Some("ami-00000001"));
    let types = vec!["m7g.large".to_owned()];
    let version = |instance_type| LaunchTemplateVersion {
        number: 3,
        image: Some("ami-00000001".to_owned()),
        instance_type,
        ..LaunchTemplateVersion::default()
    };
    gone.templates.insert(template(), Seen::Is(vec![version(Some("m7g.large".to_owned()))]));
    assert_eq!(goes(spec.clone(), &gone), Err(Gap::Look(Need::Architectures(types.clone()))));
    gone.architectures.insert(types.clone(), Seen::Is(["arm64".to_owned()].into()));
    assert_eq!(unfit(goes(spec.clone(), &gone)), "runs arm64, and there is no such image to move it to");
    gone.images.insert(id(2), Seen::Is(Some(arm(image(2, 1, &[])))));
    assert_eq!(goes(spec.clone(), &gone), Ok(Way::To(id(2))));
    gone.architectures.insert(types, Seen::Is(["arm64".to_owned(), "x86_64".to_owned()].into()));
    assert!(unfit(goes(spec.clone(), &gone)).contains("do not tell its architecture"));
    gone.templates.insert(template(), Seen::Is(vec![version(None)]));
    assert!(unfit(goes(spec, &gone)).contains("do not tell its architecture"));
    let vouched = json!({ "nodeGroups": { "include": ["web"] } });
    assert_eq!(goes(vouched, &gone), Ok(Way::To(id(2))));
}

#[test]
fn nodes_are_never_newer_than_the_cluster() {
    let spec = parsed(json!({}));
    let of = |version: &str, cluster: &str| {
        let mut seen = seen(&[image(2, 1, &[("kubernetes-version", version)])], 3, None);
        seen.cluster = Some(Seen::Is(cluster.to_owned()));
        skew(&spec, &id(2), &seen).expect("all is known")
    };
    assert_eq!(
        (of("1.31", "1.31"), of("1.28.3", "1.31"), of("", "1.31")),
        (Skew::Fits, Skew::Fits, Skew::Fits)
    );
    assert!(
        matches!(of("1.32", "1.31"), Skew::TooNew(why) if why.contains("upgrade the control plane first"))
    );
    assert!(matches!(of("1.27", "1.31"), Skew::TooOld(_)));
    let unasked = seen(&[image(2, 1, &[])], 3, None);
    assert_eq!(skew(&spec, &id(2), &unasked), Ok(Skew::Fits), "the cluster is not asked for nothing");
}

#[test]
fn disks_with_snapshots_are_sent_whole_and_a_small_root_is_found() {
    let disk = |device: &str, snapshot: Option<&str>, size: i32| Disk {
        device: device.to_owned(),
        volume: Some(Volume {
            snapshot: snapshot.map(str::to_owned),
            size: Some(size),
            kms_key: Some("key".to_owned()),
            ..Volume::default()
        }),
        ..Disk::default()
    };
    let group = nodegroup(|_| {});
    let of = |list: &[Disk]| {
        let mut two = image(2, 1, &[]);
        (two.machine.root_device, two.machine.root_size) = ("/dev/xvda".to_owned(), Some(20));
        let mut seen = seen(&[two], 3, None);
        let version = LaunchTemplateVersion {
            number: 3,
            image: Some("ami-00000001".to_owned()),
            disks: list.to_vec(),
            ..LaunchTemplateVersion::default()
        };
        seen.templates.insert(template(), Seen::Is(vec![version]));
        let small = too_small(&group, &id(2), &seen).expect("known");
        (disks(&group, &id(2), &seen).expect("known"), small)
    };
    let (root, data) = (disk("/dev/xvda", Some("snap-old"), 20), disk("/dev/xvdb", Some("snap-cache"), 50));
    let (sent, small) = of(&[root.clone(), data.clone()]);
    assert_eq!((sent, small), (vec![disk("/dev/xvda", None, 20), data], None));
    assert_eq!(of(&[root, disk("/dev/xvdb", None, 50)]).0, Vec::new(), "EC2 copies all of these");
    let (_, small) = of(&[disk("/dev/xvda", None, 10)]);
    let why = small.expect("too small");
    assert!(why.contains("10 GiB, and ami-00000002 needs 20"), "{why}");
}
