//! Tables: which images of the operator a builder adopts, and which it never demotes.

use super::*;
use crate::builder::active::Active;
use crate::builder::promote;
use crate::builder::subject::BuiltFrom;
use crate::builder::trust::Origin;

/// An active image with the tags that the operator sets for its builder `created_by`.
fn operators(number: u32, created_by: &str, created: Timestamp) -> Located {
    let mut image = image(number, created);
    image.tags = map(&[
        ("brought-to-you-by", "opsy-the-ami-operator"),
        ("status", "active"),
        ("cluster-name", "demo"),
        ("created-by", created_by),
        ("packer-repo", "git@git.example:platform"),
        ("packer-repo-branch", "main"),
        ("base-ami", "ami-0000ba5d"),
        ("create-timestamp", &created.to_string()),
    ]);
    located(image)
}

/// The observation of a new builder, with these images.
fn sees(images: Vec<Located>) -> Observed {
    altered(observed(), |observed| observed.images = Seen::Is(images))
}

fn named(name: &str, images: Vec<Located>) -> Observed {
    altered(sees(images), |observed| observed.subject.key.name = name.into())
}

#[test]
fn two_builders_of_one_repository_cluster_and_architecture_adopt_each_its_own() {
    let both = || vec![operators(7, "node", at_hour(0)), operators(8, "gpu", start_of_time())];
    assert_eq!(planned(&named("node", both())), "done ami-00000007");
    assert_eq!(planned(&named("gpu", both())), "done ami-00000008", "and nothing is demoted");
    assert_eq!(planned(&named("other", both())), "start Missing");
}

#[test]
fn an_image_is_adopted_by_its_builder_and_repository_or_by_status() {
    let with = |tag: &str, value: &str| sees(vec![tagged(operators(7, "node", at_hour(0)), tag, value)]);
    assert_eq!(planned(&sees(vec![operators(7, "node", at_hour(0))])), "done ami-00000007");
    let by_status = |mut observed: Observed| {
        observed.status.last_run_built_image_id = Some("ami-00000007".into());
        planned(&observed)
    };
    for (tag, value) in [("packer-repo", "https://git.example/other.git"), ("created-by", "other")] {
        assert_eq!(planned(&with(tag, value)), "start Missing", "{tag}");
        assert_eq!(by_status(with(tag, value)), "done ami-00000007", "{tag}");
    }
    let mut unnamed = operators(7, "node", at_hour(0));
    unnamed.image.tags.remove("created-by");
    assert_eq!(planned(&sees(vec![unnamed])), "start Missing", "the repository alone is not enough");
    assert_eq!(by_status(with("cluster-name", "other")), "start Missing");
}

#[test]
fn an_adopted_image_waits_for_its_expiry_unless_the_manifest_asks_for_more() {
    let adopted = sees(vec![operators(7, "node", at_hour(0))]);
    let newer_base = altered(adopted, |observed| {
        observed.base = Seen::Is(Base { found: Some(image(0xba5f, at_hour(5))), ..Base::default() });
    });
    assert_eq!(planned(&newer_base), "done ami-00000007");
    assert_eq!(
        planned(&altered(newer_base, |observed| spec_of(observed).rebuild_on.explicit = true)),
        "start BaseImage"
    );
}

#[test]
fn what_may_be_another_builders_is_not_demoted() {
    let two = || vec![operators(7, "node", at_hour(1)), operators(8, "node", start_of_time())];
    assert!(matches!(step(&sees(two())), Step::Demote(older) if older.images == ["ami-00000008"]));
    let claimed = altered(sees(two()), |observed| observed.fleet.claimed.extend([image_id(8)]));
    assert_eq!(planned(&claimed), "done ami-00000007", "another status names it");
    let unreported = altered(sees(two()), |observed| observed.fleet.namesakes.push(key()));
    assert_eq!(planned(&unreported), "done ami-00000007", "a builder of the same name has not reported yet");
    let images = [active(1, at_hour(0)), active(2, start_of_time())];
    let of_ours = |image| Active { image, from: BuiltFrom::Inputs(wanted()), origin: Origin::Recorded };
    let own: Vec<_> = images.iter().map(of_ours).collect();
    let unreported = altered(observed(), |observed| observed.fleet.namesakes.push(key()));
    assert!(
        promote::demotion(&unreported, &own, &images[0].lane()).is_some(),
        "images of its own are demoted"
    );
}
