//! Tables: several results of a lane, lanes that are no longer made, images that are gone, deprecated or shown
//! without their tags.

use super::*;
use crate::api::Undeclared;
use crate::api::conditions::READY;
use crate::builder::history;
use crate::builder::report::{self, Outcome};
use crate::engine::Pass;

fn pass(seen: &Observed) -> Pass<PackerBuilderStatus> {
    let plan = plan::plan(seen, seen.now);
    let outcome = match &plan {
        Plan::Act { .. } => Outcome::Did(report::Done::AsPlanned),
        _ => Outcome::Nothing,
    };
    report::pass(seen, &plan, &outcome, seen.now)
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

/// A look at a builder whose run made these images, each with the tags of its promotion if so asked.
fn made(images: Vec<Located>, promoted: bool) -> Observed {
    let artifacts = images.iter().map(|located| Artifact {
        region: located.region.clone(),
        ..artifact(&home(), u32::from_str_radix(&located.image.id.as_str()[4..], 16).expect("hex"))
    });
    let ended = run(1, RunState::Succeeded(artifacts.collect()));
    let tags = crate::builder::inputs::image_tags(&subject(), &ended, None, images::ACTIVE);
    let images = images.into_iter().map(|mut located| {
        located.image.tags = if promoted { tags.clone() } else { Tags::new() };
        located
    });
    look(seen(), |seen| {
        seen.runs = Seen::Is(vec![ended.clone()]);
        seen.images = Seen::Is(images.collect());
    })
}

#[test]
fn two_results_of_one_lane_promote_nothing_and_name_their_sources() {
    let seen = made(vec![raw(1), raw(2), arm(raw(3))], false);
    let Step::Record(record) = step(&seen) else { panic!("nothing is tagged") };
    assert_eq!((record.run.result.as_str(), record.images.is_none()), (history::FAILED, true));
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
    let next = look(seen.clone(), |seen| {
        seen.status.history = Some(vec![record.run.clone()]);
        seen.runs = Seen::Is(Vec::new());
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
        let mut seen = made(vec![raw(1)], true);
        images_of(&mut seen).push(dropped.clone());
        let Plan::Act { step: Step::Demote(tagging), why } = plan::plan(&seen, seen.now) else {
            panic!("{lane:?} is demoted")
        };
        assert_eq!((tagging.region, tagging.images), (lane.region.clone(), vec!["ami-00000008".to_owned()]));
        assert!(why.contains(&lane.architecture) && why.contains(lane.region.as_str()), "{why}");
        let note = &pass(&seen).notes[0];
        assert!(note.message.contains("makes no image for"), "{}", note.message);
        // The result of a lost run may not be all that it made.
        let lost = look(seen.clone(), |seen| {
            seen.runs = Seen::Is(vec![run(1, RunState::Lost("killed".into()))]);
        });
        assert!(!matches!(step(&lost), Step::Demote(_)));
        images_of(&mut seen)[1].image.tags.insert(images::STATUS.into(), images::DEPRECATED.into());
        let Step::Record(record) = step(&seen) else { panic!("then it is recorded") };
        assert_eq!(record.images.expect("images").len(), 1);
    }
}

#[test]
fn the_home_region_leads_what_is_recorded() {
    let asia = Region::parse("ap-south-1").expect("a region");
    let mut copy = raw(1);
    copy.region = asia;
    let seen = made(vec![copy, raw(2), arm(raw(3))], true);
    let Step::Record(record) = step(&seen) else { panic!("all are promoted") };
    assert_eq!(record.run.images.expect("images"), ["ami-00000003", "ami-00000002", "ami-00000001"]);
    let status = pass(&seen).status;
    assert_eq!(status.last_run_built_image_id.as_deref(), Some("ami-00000003"));
    assert_eq!(status.images.expect("images")[0].id, "ami-00000003");
}

#[test]
fn an_active_image_that_is_gone_is_marked_and_said_at_once_and_keeps_its_lane() {
    let failed = look(settled(), |seen| {
        images_of(seen).clear();
        seen.status.history = Some(vec![record(2, history::FAILED, seen.now)]);
    });
    let told = pass(&failed);
    assert!(message(&told).contains("ami-00000001 (x86_64, us-east-1) is gone"), "{}", message(&told));
    assert!(message(&told).contains("-force"), "{}", message(&told));
    let images = told.status.images.clone().expect("the lane is kept");
    assert_eq!((images.len(), images[0].gone), (1, Some(true)));
    assert!(told.notes.iter().any(|note| note.reason == "ImageGone" && note.warning));
    let again = pass(&look(failed.clone(), |seen| seen.status = told.status.clone()));
    assert!(again.notes.iter().all(|note| note.reason != "ImageGone"), "it is told once");
    let back = pass(&look(settled(), |seen| seen.status = told.status.clone()));
    assert_eq!(back.status.images.expect("images")[0].gone, None, "it is there again");
    // What is gone by the wrong account, or everywhere at once, is not believed.
    for doubtful in [
        look(failed.clone(), |seen| {
            seen.accounts = Some(vec!["1".into()]);
            seen.account = Some(Seen::Is("2".into()));
        }),
        look(failed.clone(), |seen| (seen.fleet.lost, seen.fleet.builders) = (3, 3)),
        look(failed.clone(), |seen| seen.fleet.outstanding = vec![key()]),
        look(failed, |seen| seen.images = unknown()),
    ] {
        assert_eq!(pass(&doubtful).status.images.expect("images")[0].gone, None, "{doubtful:?}");
    }
}

#[test]
fn an_image_shown_without_its_tags_counts_for_a_while() {
    let bare = |minutes: u32, change: fn(&mut Observed)| {
        let mut seen = settled();
        images_of(&mut seen)[0].image.tags = Tags::new();
        seen.status.images.as_mut().expect("one")[0].since = Some(seen.now);
        seen.status.inputs = Some(wanted());
        seen.now = time::after(seen.now, HOUR / 60 * minutes).expect("in range");
        change(&mut seen);
        planned(&seen)
    };
    assert_eq!(bare(1, |_| ()), "done ami-00000001");
    assert_eq!(bare(6, |_| ()), "start Missing", "by now EC2 shows what was written");
    assert_eq!(
        bare(1, |seen| drop(
            images_of(seen)[0].image.tags.insert(images::STATUS.into(), "deprecated".into())
        )),
        "start Missing",
        "a changed tag is a change"
    );
    assert_eq!(
        bare(1, |seen| drop(images_of(seen)[0].image.tags.insert(images::OWNER.into(), "agent-2".into()))),
        "start Missing"
    );
    assert_eq!(bare(1, |seen| images_of(seen)[0].image.state = ImageState::Disabled), "start Missing");
    let stale = look(settled(), |seen| {
        images_of(seen)[0].image.tags = Tags::new();
        seen.status.images.as_mut().expect("one")[0].since = Some(seen.now);
        seen.status.inputs = Some(wanted());
    });
    assert_eq!(pass(&stale).status.inputs, Some(wanted()), "what is recorded stands");
}

#[test]
fn an_image_says_since_when_it_counts() {
    let adopted = pass(&look(settled(), |seen| seen.status.images = None)).status;
    let since = adopted.images.as_ref().expect("one")[0].since;
    assert_eq!(since, Some(at_hour(1)));
    let later = look(settled(), |seen| (seen.status, seen.now) = (adopted.clone(), at_hour(9)));
    assert_eq!(pass(&later).status.images.expect("one")[0].since, since, "from the first time on");
    assert_eq!(pass(&settled()).status.images.expect("one")[0].since, None, "an older version did not say");
}

#[test]
fn a_deprecated_image_is_out_of_date_for_its_builder() {
    let deprecated = |hours: u64, change: fn(&mut Spec)| {
        let mut seen = settled();
        images_of(&mut seen)[0].image.deprecated = Some(at_hour(hours));
        change(spec_of(&mut seen));
        seen.now = at_hour(48);
        seen
    };
    assert_eq!(planned(&deprecated(47, |_| ())), "start Deprecated");
    assert_eq!(planned(&deprecated(49, |_| ())), "done ami-00000001");
    let Plan::Done { expires, look, .. } = plan::plan(&deprecated(49, |_| ()), at_hour(48)) else {
        panic!("not yet")
    };
    assert_eq!((expires, look), (Some(at_hour(49)), HOUR / 6));
    let never = deprecated(47, |spec| spec.rebuild_on.expired = false);
    assert!(message(&pass(&never)).contains("rebuildOn does not name Expired"), "{}", message(&pass(&never)));
    let at_once = deprecated(1, |_| ());
    assert_eq!(planned(&at_once), "done ami-00000001", "another one would be so, too");
    assert!(message(&pass(&at_once)).contains("deprecate_at"), "{}", message(&pass(&at_once)));
}

#[test]
fn a_builder_whose_manifest_is_gone_starts_nothing() {
    let undeclared = |seen: Observed| look(seen, |seen| seen.undeclared = Some(Undeclared::Gone));
    assert_eq!(planned(&undeclared(seen())), "wait NotInGit");
    let told = pass(&undeclared(seen()));
    assert!(message(&told).contains("gone from Git"), "{}", message(&told));
    let ended = look(seen(), |seen| seen.runs = Seen::Is(vec![run(1, succeeded(&[1]))]));
    assert_eq!(planned(&undeclared(ended)), "wait ImagePending", "what runs is brought to its end");
}

#[test]
fn a_builder_whose_manifest_is_broken_starts_nothing_and_names_the_file() {
    let file = || Some(Undeclared::Broken { file: "builders/node.yaml".to_owned() });
    let broken = look(seen(), |seen| seen.undeclared = file());
    assert!(planned(&broken).starts_with("wait ManifestBroken"), "{}", planned(&broken));
    let told = message(&pass(&broken));
    assert!(told.contains("its manifest in builders/node.yaml is broken"), "{told}");
    let suspended = look(broken, |seen| seen.suspended = true);
    assert_eq!(planned(&suspended), "wait Suspended", "it stays so when the file is fixed");
}
