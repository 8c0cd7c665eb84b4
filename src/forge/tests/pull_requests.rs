//! The branch and the pull request of a target.

use std::collections::BTreeSet;

use super::{NEW, pull};
use crate::forge::contract::PullRequest;
use crate::forge::pull_request::{Decision, Known, Proposal, Why, Wish, branch, closed_body, decide, target};

fn proposal(content: &str) -> Proposal {
    Proposal {
        target: "prod".to_owned(),
        base: "main".to_owned(),
        title: "Update AMI IDs".to_owned(),
        text: "Two images were built.".to_owned(),
        content: content.to_owned(),
    }
}

fn wish(content: &str) -> Wish {
    Wish::Open(proposal(content))
}

fn own(number: u64, content: &str) -> PullRequest {
    let body = proposal(content).body().expect("short enough");
    PullRequest { number, title: "Update AMI IDs".to_owned(), body, ..pull(NEW) }
}

fn next(wish: &Wish, pulls: &[PullRequest]) -> Decision {
    decide(wish, pulls).expect("a decision")
}

fn create(content: &str) -> Decision {
    Decision::Create {
        title: "Update AMI IDs".to_owned(),
        body: proposal(content).body().expect("short enough"),
    }
}

#[test]
fn one_is_opened_left_alone_and_updated() {
    assert_eq!(next(&wish("a"), &[]), create("a"));
    assert_eq!(next(&wish("a"), &[own(3, "a")]), Decision::Leave(Why::Same(3)));
    let (title, body) = ("Update AMI IDs".to_owned(), proposal("b").body().expect("short enough"));
    assert_eq!(next(&wish("b"), &[own(3, "a")]), Decision::Update { number: 3, title, body });
}

#[test]
fn an_obsolete_one_is_closed() {
    let obsolete = Wish::Obsolete { why: "The images are active.".to_owned() };
    // Without the marker: if the same change is due again, it is proposed again.
    let (why, body) = ("The images are active.".to_owned(), "Two images were built.\n".to_owned());
    let close = Decision::Close { number: 3, why, body: body.clone() };
    let closed = PullRequest { is_open: false, body, ..own(3, "a") };
    assert_eq!(next(&wish("a"), &[closed]), create("a"));
    assert_eq!(next(&obsolete, &[own(3, "a")]), close);
    assert_eq!(
        next(&obsolete, &[PullRequest { is_open: false, ..own(3, "a") }]),
        Decision::Leave(Why::Absent)
    );
}

#[test]
fn a_closed_one_is_never_reopened_and_its_change_not_proposed_again() {
    let closed = |number, content| PullRequest { is_open: false, ..own(number, content) };
    assert_eq!(next(&wish("a"), &[closed(3, "a")]), Decision::Leave(Why::Declined(3)));
    assert_eq!(next(&wish("b"), &[closed(3, "a")]), create("b"));
    assert_eq!(next(&wish("a"), &[closed(3, "a"), closed(4, "b")]), Decision::Leave(Why::Declined(3)));
    let merged = PullRequest { is_merged: true, ..closed(3, "a") };
    assert_eq!(
        next(&wish("a"), &[merged]),
        create("a"),
        "what was merged and reverted can be proposed again"
    );
    let of_a_person = PullRequest { body: "a".to_owned(), ..closed(3, "a") };
    assert_eq!(next(&wish("a"), &[of_a_person]), create("a"));
}

#[test]
fn what_a_person_closed_is_known_before_anything_is_pushed() {
    let of = |number, content: &str| {
        let made = Proposal { target: "main".to_owned(), ..proposal(content) };
        PullRequest { is_open: false, body: made.body().expect("short enough"), ..own(number, content) }
    };
    let pulls = [
        of(1, "a"),
        PullRequest { is_merged: true, ..of(2, "b") },
        PullRequest { base_branch: "other".to_owned(), ..of(3, "c") },
        PullRequest { is_open: true, base_branch: "other".to_owned(), ..of(4, "d") },
    ];
    let declined = ["a".to_owned()];
    assert_eq!(Known::of(&pulls, "main"), Known { is_open: false, declined: declined.clone().into() });
    let open = [of(1, "a"), PullRequest { is_open: true, ..of(2, "e") }];
    assert_eq!(Known::of(&open, "main"), Known { is_open: true, declined: declined.into() });
}

#[test]
fn one_for_another_branch_is_closed_first() {
    let other = PullRequest { base_branch: "old`main".to_owned(), ..own(3, "a") };
    let why = "Changes are now proposed for the branch `main`.".to_owned();
    let body = "Two images were built.\n".to_owned();
    assert_eq!(next(&wish("a"), &[other]), Decision::Close { number: 3, why, body });
}

#[test]
fn the_marker_names_the_target_until_opsy_closes_the_pull_request() {
    assert_eq!(target(&own(3, "a")).as_deref(), Some("prod"));
    assert_eq!(target(&PullRequest { is_open: false, ..own(3, "a") }).as_deref(), Some("prod"));
    assert_eq!(target(&PullRequest { body: closed_body(&own(3, "a")), ..own(3, "a") }), None);
    assert_eq!(target(&PullRequest { body: "a copy".to_owned(), ..own(3, "a") }), None);
}

#[test]
fn too_long_texts_are_refused_and_titles_are_shortened() {
    let long = Proposal { text: "x".repeat(60_000), ..proposal("a") };
    decide(&Wish::Open(long), &[]).expect_err("too long");
    let titled = Proposal { title: "long ".repeat(100), ..proposal("a") };
    let Decision::Create { title, .. } = next(&Wish::Open(titled), &[]) else { panic!("one is created") };
    assert_eq!(title.chars().count(), 255);
}

#[test]
fn every_target_has_a_branch_of_its_own_that_git_accepts() {
    assert_eq!(branch("opsy/", "prod"), "opsy/prod");
    let long = "x".repeat(300);
    let targets = ["a/b", "a-b", "a b", "A-B", "", "..", "-", "é", &long];
    let names = targets.map(|target| branch("opsy/", target));
    let different: BTreeSet<&String> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "{names:?}");
    for name in &names {
        assert!(git2::Reference::is_valid_name(&format!("refs/heads/{name}")), "{name}");
    }
    assert_eq!(names, targets.map(|target| branch("opsy/", target)), "a branch never changes");
}
