//! Tables: several results for one lane, lanes that are not built any more, and images that are missing, deprecated or
//! shown without their tags.

use super::*;
use crate::api::Undeclared;
use crate::api::conditions::READY;
use crate::api::tags;
use crate::api::words::RunResult;
use crate::builder::outcome;
use crate::builder::outcome::Outcome;
use crate::builder::report;
use crate::engine::Pass;

fn pass(observed: &Observed) -> Pass<PackerBuilderStatus> {
    let plan = plan::plan(observed, observed.now);
    let outcome = match &plan {
        Plan::Act { .. } => Outcome::Did(outcome::Done::AsPlanned),
        _ => Outcome::Nothing,
    };
    report::pass(observed, &plan, &outcome, observed.now)
}

fn message(pass: &Pass<PackerBuilderStatus>) -> String {
    let mut ready = pass.status.conditions.iter().flatten().filter(|c| c.r#type == READY);
    ready.next().and_then(|ready| ready.message.clone()).unwrap_or_default()
}

fn europe() -> Region {
    Region::parse("eu-west-1").expect("a region")
}

fn arm(mut image: Located) -> Located {
    image.image.architecture = "arm64".into();
    image
}

/// The observation of a builder whose run made these images, with the tags of a promotion if `promoted`.
fn made(images: Vec<Located>, promoted: bool) -> Observed {
    let artifacts = images.iter().map(|located| Artifact {
        region: located.region.clone(),
        ..artifact(&home(), u32::from_str_radix(&located.image.id.as_str()[4..], 16).expect("hex"))
    });
    let ended = run(1, RunState::Succeeded(artifacts.collect()));
    let tags = crate::builder::inputs::image_tags(&subject(), &ended, None, tags::ACTIVE);
    let images = images.into_iter().map(|mut located| {
        located.image.tags = if promoted { tags.clone() } else { Tags::new() };
        located
    });
    altered(observed(), |observed| {
        observed.runs = Seen::Is(vec![ended.clone()]);
        observed.images = Seen::Is(images.collect());
    })
}

#[test]
fn two_results_of_one_lane_promote_nothing_and_name_their_sources() {
    let observed = made(vec![raw(1), raw(2), arm(raw(3))], false);
    let Step::Record(record) = step(&observed) else { panic!("nothing is tagged") };
    assert_eq!((record.run.result.as_str(), record.images.is_none()), (RunResult::Failed.as_str(), true));
    let words = &record.run.errors.as_ref().expect("a reason")[0];
    for part in [
        "AmbiguousResult",
        "2 images for x86_64 in us-east-1",
        "ami-00000001 by amazon-ebs.1",
        "ami-00000002 by amazon-ebs.2",
        "-only=amazon-ebs.1",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let next = altered(observed.clone(), |observed| {
        observed.status.history = Some(vec![record.run.clone()]);
        observed.runs = Seen::Is(Vec::new());
    });
    assert_eq!(planned(&next), "stalled NoUse", "the same inputs make them again");
    assert!(matches!(step(&made(vec![raw(1), arm(raw(2))], false)), Step::Activate(_)), "one for each lane");
}

#[test]
fn a_lane_that_is_no_longer_made_is_demoted_and_said() {
    let in_europe = |mut image: Located| {
        image.region = europe();
        image
    };
    for dropped in [arm(active(8, start_of_time())), in_europe(active(8, start_of_time()))] {
        let lane = dropped.lane();
        let mut observed = made(vec![raw(1)], true);
        images_of(&mut observed).push(dropped.clone());
        let Plan::Act { step: Step::Demote(tagging), why } = plan::plan(&observed, observed.now) else {
            panic!("{lane:?} is demoted")
        };
        assert_eq!((tagging.region, tagging.images), (lane.region.clone(), vec!["ami-00000008".to_owned()]));
        assert!(why.contains(&lane.architecture) && why.contains(lane.region.as_str()), "{why}");
        let note = &pass(&observed).notes[0];
        assert!(note.message.contains("makes no image for"), "{}", note.message);
        // A lost run may have made more images than were found.
        let lost = altered(observed.clone(), |observed| {
            observed.runs = Seen::Is(vec![run(1, RunState::Lost("killed".into()))]);
        });
        assert!(!matches!(step(&lost), Step::Demote(_)));
        images_of(&mut observed)[1].image.tags.insert(tags::STATUS.into(), tags::DEPRECATED.into());
        let Step::Record(record) = step(&observed) else { panic!("then it is recorded") };
        assert_eq!(record.images.expect("images").len(), 1);
    }
}

#[test]
fn the_home_region_leads_what_is_recorded() {
    let asia = Region::parse("ap-south-1").expect("a region");
    let mut copy = raw(1);
    copy.region = asia;
    let observed = made(vec![copy, raw(2), arm(raw(3))], true);
    let Step::Record(record) = step(&observed) else { panic!("all are promoted") };
    assert_eq!(record.run.images.expect("images"), ["ami-00000003", "ami-00000002", "ami-00000001"]);
    let status = pass(&observed).status;
    assert_eq!(status.last_run_built_image_id.as_deref(), Some("ami-00000003"));
    assert_eq!(status.images.expect("images")[0].id, "ami-00000003");
}

#[test]
fn an_active_image_that_is_gone_is_marked_and_said_at_once_and_keeps_its_lane() {
    let failed = altered(settled(), |observed| {
        images_of(observed).clear();
        observed.status.history = Some(vec![record(2, RunResult::Failed, observed.now)]);
    });
    let reported = pass(&failed);
    assert!(
        message(&reported).contains("ami-00000001 (x86_64, us-east-1) is gone"),
        "{}",
        message(&reported)
    );
    assert!(message(&reported).contains("-force"), "{}", message(&reported));
    let images = reported.status.images.clone().expect("the lane is kept");
    assert_eq!((images.len(), images[0].gone), (1, Some(true)));
    assert!(reported.notes.iter().any(|note| note.reason == "ImageGone" && note.warning));
    let again = pass(&altered(failed.clone(), |observed| observed.status = reported.status.clone()));
    assert!(again.notes.iter().all(|note| note.reason != "ImageGone"), "it is reported once");
    let back = pass(&altered(settled(), |observed| observed.status = reported.status.clone()));
    assert_eq!(back.status.images.expect("images")[0].gone, None, "it exists again");
    // A loss in a wrong account, or of most builders at once, is not credible.
    for doubtful in [
        altered(failed.clone(), |observed| {
            observed.accounts = Some(vec!["1".into()]);
            observed.account = Some(Seen::Is("2".into()));
        }),
        altered(failed.clone(), |observed| (observed.fleet.lost, observed.fleet.builders) = (3, 3)),
        altered(failed.clone(), |observed| observed.fleet.outstanding = vec![key()]),
        altered(failed, |observed| observed.images = unknown()),
    ] {
        assert_eq!(pass(&doubtful).status.images.expect("images")[0].gone, None, "{doubtful:?}");
    }
}

#[test]
fn an_image_shown_without_its_tags_counts_for_a_while() {
    let bare = |minutes: u32, change: fn(&mut Observed)| {
        let mut observed = settled();
        images_of(&mut observed)[0].image.tags = Tags::new();
        observed.status.images.as_mut().expect("one")[0].since = Some(observed.now);
        observed.status.inputs = Some(wanted());
        observed.now = time::after(observed.now, HOUR / 60 * minutes).expect("in range");
        change(&mut observed);
        planned(&observed)
    };
    assert_eq!(bare(1, |_| ()), "done ami-00000001");
    assert_eq!(bare(6, |_| ()), "start Missing", "EC2 must show the tags by now");
    assert_eq!(
        bare(1, |observed| drop(
            images_of(observed)[0].image.tags.insert(tags::STATUS.into(), "deprecated".into())
        )),
        "start Missing",
        "a changed tag is a change"
    );
    assert_eq!(
        bare(1, |observed| drop(
            images_of(observed)[0].image.tags.insert(tags::OWNER.into(), "agent-2".into())
        )),
        "start Missing"
    );
    assert_eq!(
        bare(1, |observed| images_of(observed)[0].image.state = ImageState::Disabled),
        "start Missing"
    );
    let stale = altered(settled(), |observed| {
        images_of(observed)[0].image.tags = Tags::new();
        observed.status.images.as_mut().expect("one")[0].since = Some(observed.now);
        observed.status.inputs = Some(wanted());
    });
    assert_eq!(pass(&stale).status.inputs, Some(wanted()), "the recorded inputs are kept");
}

#[test]
fn an_image_says_since_when_it_counts() {
    let adopted = pass(&altered(settled(), |observed| observed.status.images = None)).status;
    let since = adopted.images.as_ref().expect("one")[0].since;
    assert_eq!(since, Some(at_hour(1)));
    let later =
        altered(settled(), |observed| (observed.status, observed.now) = (adopted.clone(), at_hour(9)));
    assert_eq!(pass(&later).status.images.expect("one")[0].since, since, "it is set once");
    assert_eq!(
        pass(&settled()).status.images.expect("one")[0].since,
        None,
        "an older version did not record it"
    );
}

#[test]
fn an_image_records_those_that_were_active_before_it() {
    let named = |ids: &[u32]| {
        let ids: Vec<String> = ids.iter().map(|id| image_id(*id).to_string()).collect();
        (!ids.is_empty()).then_some(ids)
    };
    let mut status = settled().status;
    let former = |number: u32| {
        let mut former = active(number, at_hour(0));
        former.image.tags.insert(tags::STATUS.to_owned(), tags::DEPRECATED.to_owned());
        former
    };
    let mut next = |number: u32, gone: bool| {
        let replaced = altered(settled(), |observed| {
            let others = (1..10).filter(|other| *other != number).map(former);
            observed.images = Seen::Is(others.chain([active(number, at_hour(0))]).collect());
            observed.status = status.clone();
            observed.status.images.as_mut().expect("one")[0].gone = gone.then_some(true);
            let images = Some(vec![image_id(number).to_string()]);
            let run = record(u64::from(number), RunResult::Succeeded, at_hour(0));
            observed.status.history = Some(vec![RunRecord { images, ..run }]);
        });
        status = pass(&replaced).status;
        status.images.as_ref().expect("one")[0].previous.clone()
    };
    assert_eq!(next(1, false), None);
    for _ in 0..2 {
        assert_eq!(next(2, false), named(&[1]), "it is set once");
    }
    assert_eq!(next(3, true), named(&[1]), "an image that is gone cannot be launched");
    assert_eq!(next(1, false), named(&[3]), "it is active again");
    (4..9).for_each(|number| drop(next(number, false)));
    assert_eq!(next(9, false), named(&[8, 7, 6, 5, 4]), "at most five");
    let left = |existing: Seen<Vec<Located>>, change: fn(&mut Observed)| {
        let observed = altered(settled(), |observed| {
            (observed.images, observed.status, observed.now) = (existing, status.clone(), at_hour(2));
            change(observed);
        });
        pass(&observed).status.images.expect("one")[0].previous.clone()
    };
    let mut deprecated = former(8);
    deprecated.image.deprecated = Some(at_hour(1));
    let mut disabled = former(7);
    disabled.image.state = ImageState::Disabled;
    let existing = || Seen::Is(vec![active(9, at_hour(0)), deprecated.clone(), disabled.clone(), former(5)]);
    assert_eq!(
        left(existing(), |_| ()),
        named(&[5]),
        "no file goes back to an image that cannot be launched"
    );
    let elsewhere = |observed: &mut Observed| observed.accounts = Some(vec!["999999999999".to_owned()]);
    assert_eq!(left(existing(), elsewhere), named(&[6, 5, 4]), "another account does not show them");
    let unknown = || Seen::Unknown(Class::TRANSIENT, "away".to_owned());
    assert_eq!(left(unknown(), |_| ()), named(&[8, 7, 6, 5, 4]), "a failed read shows nothing");
}

#[test]
fn a_deprecated_image_is_out_of_date_for_its_builder() {
    let deprecated = |hours: u64, change: fn(&mut Spec)| {
        let mut observed = settled();
        images_of(&mut observed)[0].image.deprecated = Some(at_hour(hours));
        change(spec_of(&mut observed));
        observed.now = at_hour(48);
        observed
    };
    assert_eq!(planned(&deprecated(47, |_| ())), "start Deprecated");
    assert_eq!(planned(&deprecated(49, |_| ())), "done ami-00000001");
    let Plan::Done { expires, requeue, .. } = plan::plan(&deprecated(49, |_| ()), at_hour(48)) else {
        panic!("not yet")
    };
    assert_eq!((expires, requeue), (Some(at_hour(49)), HOUR / 6));
    let never = deprecated(47, |spec| spec.rebuild_on.expired = false);
    assert!(
        message(&pass(&never)).contains("rebuildOn does not contain Expired"),
        "{}",
        message(&pass(&never))
    );
    let at_once = deprecated(1, |_| ());
    assert_eq!(planned(&at_once), "done ami-00000001", "another one would be deprecated too");
    assert!(message(&pass(&at_once)).contains("deprecate_at"), "{}", message(&pass(&at_once)));
}

#[test]
fn a_builder_whose_manifest_is_gone_starts_nothing() {
    let undeclared =
        |observed: Observed| altered(observed, |observed| observed.undeclared = Some(Undeclared::Gone));
    assert_eq!(planned(&undeclared(observed())), "wait NotInGit");
    let reported = pass(&undeclared(observed()));
    assert!(message(&reported).contains("removed from Git"), "{}", message(&reported));
    let ended = altered(observed(), |observed| observed.runs = Seen::Is(vec![run(1, succeeded(&[1]))]));
    assert_eq!(planned(&undeclared(ended)), "wait ImagePending", "an ended run is still collected");
}

#[test]
fn a_builder_whose_manifest_is_broken_starts_nothing_and_names_the_file() {
    let file = || Some(Undeclared::Broken { file: "builders/node.yaml".to_owned() });
    let broken = altered(observed(), |observed| observed.undeclared = file());
    assert!(planned(&broken).starts_with("wait ManifestBroken"), "{}", planned(&broken));
    let reported = message(&pass(&broken));
    assert!(reported.contains("its manifest in builders/node.yaml is broken"), "{reported}");
    let suspended = altered(broken, |observed| observed.suspended = true);
    assert_eq!(planned(&suspended), "wait Suspended", "it stays so when the file is fixed");
}
