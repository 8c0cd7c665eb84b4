//! Tables: which image fits which group.

use serde_json::json;

use super::groups::{nodegroup, seen, template};
use super::tables::{arm, id, image, parsed, target};
use crate::api::Seen;
use crate::aws::{Disk, Image, LaunchTemplateVersion, Volume};
use crate::refresher::fit::{
    Fit, FitQuery, VersionSkew, disks_to_send, find_fit, root_volume_too_small, version_skew,
};
use crate::refresher::observed::{MissingFact, Need, Observed};

/// Whether image 2 fits `web`, which runs image 1.
fn fit(spec: serde_json::Value, observed: &Observed) -> Result<Fit, MissingFact> {
    let (spec, group, target) = (parsed(spec), nodegroup(|_| {}), target(&[2]));
    find_fit(FitQuery { spec: &spec, group: &group, target: &target, batch: &[].into(), observed })
}

fn unfit(found: Result<Fit, MissingFact>) -> String {
    match found {
        Ok(Fit::Unfit(why)) => why,
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
    let to = Ok(Fit::Fits(id(2)));
    let of = |one: Image, two: Image| fit(json!({}), &seen(&[one, two], 3, own));
    assert_eq!(of(image(1, 9, &[]), two()), to);

    let mut windows = image(1, 9, &[]);
    windows.machine.platform = "windows".to_owned();
    assert_eq!(unfit(of(windows, two())), "runs Windows, but ami-00000002 is Linux");

    let (mut one, mut other) = (image(1, 9, &[]), two());
    one.machine.root_device = "/dev/sda1".to_owned();
    other.machine.root_device = "/dev/xvda".to_owned();
    let why = unfit(of(one, other));
    assert_eq!(why, "has its root volume at /dev/sda1, but ami-00000002 has it at /dev/xvda");

    let al2 = named(image(1, 9, &[]), "amazon-eks-node-1.31-v20260101");
    let al2023 = named(two(), "amazon-eks-node-al2023-x86_64-standard-1.31-v20260801");
    let why = unfit(of(al2.clone(), al2023.clone()));
    assert!(why.starts_with("runs AL2, but ami-00000002 is based on AL2023"), "{why}");
    let vouched = json!({ "nodeGroups": { "include": ["web"] } });
    let both = seen(&[al2, al2023.clone()], 3, own);
    assert_eq!(fit(vouched, &both), to, "a person lists the group by name and vouches for its user data");

    // By the names of the base images.
    let base = |number: u32, name: &str| named(image(number, 9, &[]), name);
    let built = [
        image(1, 9, &[("base-ami", "ami-00000003")]),
        image(2, 1, &[("base-ami", "ami-00000004")]),
        base(3, "bottlerocket-aws-k8s-1.31-x86_64-v1.20.0"),
        base(4, "amazon-eks-node-al2023-x86_64-standard-1.31-v20260801"),
    ];
    let why = unfit(fit(json!({}), &seen(&built, 3, own)));
    assert!(why.starts_with("runs Bottlerocket, but ami-00000002 is based on AL2023"), "{why}");
}

#[test]
fn if_the_running_image_no_longer_exists_the_instance_types_determine_the_architecture() {
    let spec = json!({});
    let mut gone = seen(&[image(2, 1, &[])], 3, Some("ami-00000001"));
    let types = vec!["m7g.large".to_owned()];
    let version = |instance_type| LaunchTemplateVersion {
        number: 3,
        image: Some("ami-00000001".to_owned()),
        instance_type,
        ..LaunchTemplateVersion::default()
    };
    gone.templates.insert(template(), Seen::Is(vec![version(Some("m7g.large".to_owned()))].into()));
    assert_eq!(fit(spec.clone(), &gone), Err(MissingFact::NotRead(Need::Architectures(types.clone()))));
    gone.architectures.insert(types.clone(), Seen::Is(["arm64".to_owned()].into()));
    assert_eq!(unfit(fit(spec.clone(), &gone)), "runs arm64, but the target has no image for it");
    gone.images.insert(id(2), Seen::Is(Some(arm(image(2, 1, &[])))));
    assert_eq!(fit(spec.clone(), &gone), Ok(Fit::Fits(id(2))));
    gone.architectures.insert(types, Seen::Is(["arm64".to_owned(), "x86_64".to_owned()].into()));
    assert!(unfit(fit(spec.clone(), &gone)).contains("do not determine its architecture"));
    gone.templates.insert(template(), Seen::Is(vec![version(None)].into()));
    assert!(unfit(fit(spec, &gone)).contains("do not determine its architecture"));
    let vouched = json!({ "nodeGroups": { "include": ["web"] } });
    assert_eq!(fit(vouched, &gone), Ok(Fit::Fits(id(2))));
}

#[test]
fn nodes_are_never_newer_than_the_cluster() {
    let spec = parsed(json!({}));
    let of = |version: &str, cluster: &str| {
        let mut seen = seen(&[image(2, 1, &[("kubernetes-version", version)])], 3, None);
        seen.cluster_version = Some(Seen::Is(cluster.to_owned()));
        version_skew(&spec, &id(2), &seen).expect("all is known")
    };
    assert_eq!(
        (of("1.31", "1.31"), of("1.28.3", "1.31"), of("", "1.31")),
        (VersionSkew::Supported, VersionSkew::Supported, VersionSkew::Supported)
    );
    assert!(
        matches!(of("1.32", "1.31"), VersionSkew::TooNew(why) if why.contains("upgrade the control plane first"))
    );
    assert!(matches!(of("1.27", "1.31"), VersionSkew::TooOld(_)));
    let unasked = seen(&[image(2, 1, &[])], 3, None);
    assert_eq!(
        version_skew(&spec, &id(2), &unasked),
        Ok(VersionSkew::Supported),
        "the version of the cluster is not read if it is not needed"
    );
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
        seen.templates.insert(template(), Seen::Is(vec![version].into()));
        let small = root_volume_too_small(&group, &id(2), &seen).expect("known");
        (disks_to_send(&group, &id(2), &seen).expect("known"), small)
    };
    let (root, data) = (disk("/dev/xvda", Some("snap-old"), 20), disk("/dev/xvdb", Some("snap-cache"), 50));
    let (sent, small) = of(&[root.clone(), data.clone()]);
    assert_eq!((sent, small), (vec![disk("/dev/xvda", None, 20), data], None));
    assert_eq!(of(&[root, disk("/dev/xvdb", None, 50)]).0, Vec::new(), "EC2 copies all of these");
    let (_, small) = of(&[disk("/dev/xvda", None, 10)]);
    let why = small.expect("too small");
    assert!(why.contains("10 GiB, but ami-00000002 needs 20 GiB"), "{why}");
}
