//! The marker, and the decision about the one comment.

use super::{NEW, OLD, comment, pull};
use crate::forge::comment::{self as rules, Decision, MOST_BYTES, Marker, Step, Why};
use crate::forge::contract::Author;
use crate::forge::{ForgeError, State, Status};

fn marker(head: &str) -> Marker {
    Marker { target: "prod".to_owned(), head: head.to_owned(), base: OLD.to_owned() }
}

fn body(head: &str, text: &str) -> String {
    rules::compose(&marker(head), text).expect("short enough")
}

fn decide(head: &str, text: &str, at: &str, comments: &[(u64, &str, String)]) -> Decision {
    let comments: Vec<_> = comments.iter().map(|(id, author, body)| comment(*id, author, body)).collect();
    rules::decide(&marker(head), &body(head, text), &pull(at), &Author::new(["opsy-bot"]), &comments)
}

fn step(head: &str, text: &str, at: &str, comments: &[(u64, &str, String)]) -> Step {
    decide(head, text, at, comments).step
}

#[test]
fn the_marker_is_the_first_line_and_survives_hostile_targets() {
    assert_eq!(
        marker(NEW).line(),
        format!(r#"<!-- opsy:plan {{"target":"prod","head":"{NEW}","base":"{OLD}"}} -->"#)
    );
    let evil = Marker { target: "a --> <b>\n\"\u{2028}é".to_owned(), ..marker(NEW) };
    let text = rules::compose(&evil, "x").expect("short enough");
    assert_eq!(text.matches("-->").count(), 1, "{text}");
    assert_eq!(Marker::of(&text.replace('\n', "\r\n")), Some(evil));
    for other in
        ["", "x", "<!-- opsy:plan -->", "<!-- opsy:plan {} -->", &format!("x\n{}", marker(NEW).line())]
    {
        assert_eq!(Marker::of(other), None, "{other}");
    }
}

#[test]
fn the_comment_is_created_and_then_updated() {
    assert_eq!(step(NEW, "a", NEW, &[]), Step::Create);
    assert_eq!(step(NEW, "b", NEW, &[(5, "opsy-bot", body(OLD, "a"))]), Step::Update(5));
    assert_eq!(
        step(NEW, "a", NEW, &[(5, "Opsy-Bot", body(OLD, "a"))]),
        Step::Update(5),
        "names have no case"
    );
}

#[test]
fn an_equal_comment_is_left_alone() {
    let stored = body(NEW, "a\nb").trim_end().replace('\n', "\r\n");
    assert_eq!(step(NEW, "a\nb", NEW, &[(5, "opsy-bot", stored)]), Step::Leave(Why::Same));
}

#[test]
fn only_comments_of_the_own_user_and_target_count() {
    let other =
        rules::compose(&Marker { target: "dev".to_owned(), ..marker(NEW) }, "a").expect("short enough");
    let comments = [
        (1, "eve", body(NEW, "a")),
        (2, "opsy-bot", other),
        (3, "opsy-bot", format!("> quoted\n{}", body(NEW, "a"))),
        (4, "", body(NEW, "a")),
    ];
    assert_eq!(step(NEW, "a", NEW, &comments), Step::Create);
}

#[test]
fn an_older_commit_never_overwrites_a_newer_one() {
    let head = || NEW.to_owned();
    let newer = [(5, "opsy-bot", body(NEW, "a"))];
    assert_eq!(step(OLD, "b", NEW, &newer), Step::Leave(Why::Newer { head: head() }));
    assert_eq!(step(OLD, "b", NEW, &[]), Step::Leave(Why::Outdated { head: head() }));
    assert_eq!(step(OLD, "b", OLD, &newer), Step::Update(5), "a person went back to the older commit");
}

#[test]
fn a_closed_pull_request_gets_no_comment() {
    let mut closed = pull(NEW);
    closed.is_open = false;
    let decision = rules::decide(&marker(NEW), &body(NEW, "a"), &closed, &Author::new(["opsy-bot"]), &[]);
    assert_eq!(decision.step, Step::Leave(Why::Closed));
}

#[test]
fn of_duplicates_the_last_is_updated_and_the_others_are_named() {
    let comments =
        [(9, "opsy-bot", body(OLD, "a")), (3, "opsy-bot", body(OLD, "b")), (4, "eve", body(OLD, "c"))];
    assert_eq!(decide(NEW, "d", NEW, &comments), Decision { step: Step::Update(9), duplicates: vec![3] });
}

#[test]
fn the_maximum_counts_bytes_with_the_marker() {
    let room = MOST_BYTES - body(NEW, "").len();
    assert_eq!(body(NEW, &"x".repeat(room)).len(), MOST_BYTES);
    let too_long = rules::compose(&marker(NEW), &"é".repeat(room / 2 + 1)).expect_err("too long");
    assert!(matches!(too_long, ForgeError::TooLong { most: MOST_BYTES, .. }), "{too_long}");
    assert!(rules::outdated(&body(NEW, &"x".repeat(room)), OLD).len() < 65_536);
}

#[test]
fn an_outdated_comment_says_so_and_keeps_its_marker() {
    let text = rules::outdated(&body(OLD, "### Plan"), NEW);
    assert_eq!(Marker::of(&text), Some(marker(OLD)));
    assert!(text.contains(
        "> [!WARNING]\n> This plan is outdated: the head of the pull request is now 222222222222."
    ));
    assert!(text.ends_with("### Plan\n"));
}

#[test]
fn the_description_of_a_status_is_one_short_line() {
    let status = Status::new(".", State::Success, &format!("1 build,\n  {}", "é".repeat(200)), None);
    assert_eq!(status.description.chars().count(), 140);
    assert!(status.description.starts_with("1 build, é") && status.description.ends_with('…'));
    let context = |target: &str| Status::new(target, State::Success, "", None).context;
    assert_eq!((context("."), context("prod")), ("opsy/plan".to_owned(), "opsy/plan: prod".to_owned()));
    assert_eq!(context(&"x".repeat(300)).chars().count(), 100);
}
