//! Pull requests that Opsy opens: one per target, updated, closed when obsolete, and never reopened.

use opsy::forge::pull_request::{Proposal, Why, Wish, branch};
use opsy::forge::{Proposed, propose};
use serde_json::{Value, json};

use super::{Bed, Pull};

fn wish(content: &str) -> Wish {
    Wish::Open(Proposal {
        target: "prod".to_owned(),
        base: "main".to_owned(),
        title: format!("Update AMI IDs to {content}"),
        text: "Two images were built.".to_owned(),
        content: content.to_owned(),
    })
}

fn obsolete() -> Wish {
    Wish::Obsolete { why: "The images are not active any more.".to_owned() }
}

async fn next(pull: &Pull<'_>, wish: &Wish) -> Proposed {
    let proposed = propose(&pull.client(), &branch("opsy/", "prod"), wish).await;
    proposed.unwrap_or_else(|error| panic!("{}: {error}", pull.name()))
}

/// The pull requests of Opsy: state and title.
fn own(pull: &Pull<'_>) -> Vec<Value> {
    let state = pull.state();
    let pulls = state["pulls"].as_array().expect("a list").iter();
    let is_own = |shown: &&Value| shown["branch"] == "opsy/prod" && shown["source"] == pull.repository;
    pulls.filter(is_own).map(|shown| json!([shown["state"], shown["title"]])).collect()
}

fn pushed(bed: &Bed) -> Vec<Pull<'_>> {
    let pulls = bed.pulls();
    for pull in &pulls {
        pull.control("push", json!({ "branch": "opsy/prod" }));
    }
    pulls
}

#[tokio::test]
async fn one_is_opened_updated_and_closed() {
    let bed = Bed::start();
    for pull in pushed(&bed) {
        assert_eq!(next(&pull, &obsolete()).await, Proposed::Left(Why::Absent), "{}", pull.name());
        let Proposed::Created { number, url } = next(&pull, &wish("a")).await else {
            panic!("{}", pull.name())
        };
        assert!(url.contains(&pull.repository), "{url}");
        bed.requests();
        assert_eq!(next(&pull, &wish("a")).await, Proposed::Left(Why::Same(number)), "{}", pull.name());
        assert_eq!(bed.writes(), [], "{}", pull.name());
        assert_eq!(next(&pull, &wish("b")).await, Proposed::Updated(number), "{}", pull.name());
        assert_eq!(own(&pull), [json!(["open", "Update AMI IDs to b"])], "{}", pull.name());
        assert_eq!(next(&pull, &obsolete()).await, Proposed::Closed(number), "{}", pull.name());
        assert_eq!(own(&pull), [json!(["closed", "Update AMI IDs to b"])], "{}", pull.name());
        let shown = pull.shown(number);
        let comments: Vec<&Value> = shown["comments"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|comment| comment["system"] == false)
            .collect();
        assert_eq!(comments.len(), 1, "{}: {comments:?}", pull.name());
        assert_eq!(comments[0]["body"], "The images are not active any more.", "{}", pull.name());
    }
}

#[tokio::test]
async fn a_change_that_a_person_closed_is_not_proposed_again() {
    let bed = Bed::start();
    for pull in pushed(&bed) {
        let Proposed::Created { number, .. } = next(&pull, &wish("a")).await else {
            panic!("{}", pull.name())
        };
        pull.control("change-pull", json!({ "number": number, "state": "closed" }));
        assert_eq!(next(&pull, &wish("a")).await, Proposed::Left(Why::Declined(number)), "{}", pull.name());
        let created = next(&pull, &wish("b")).await;
        assert!(matches!(created, Proposed::Created { number: new, .. } if new > number), "{}", pull.name());
        let states = own(&pull);
        assert_eq!(
            states,
            [json!(["closed", "Update AMI IDs to a"]), json!(["open", "Update AMI IDs to b"])]
        );
    }
}

#[tokio::test]
async fn a_branch_of_the_same_name_in_a_fork_is_not_touched() {
    let bed = Bed::start();
    for pull in pushed(&bed) {
        let fork =
            bed.pull(pull.kind, &json!({ "branch": "opsy/prod", "fork": "eve/images", "title": "mine" }));
        let created = next(&pull, &wish("a")).await;
        assert!(matches!(created, Proposed::Created { .. }), "{}: {created:?}", pull.name());
        next(&pull, &obsolete()).await;
        let theirs = pull.shown(fork.number);
        assert_eq!((&theirs["state"], &theirs["title"]), (&json!("open"), &json!("mine")), "{}", pull.name());
    }
}

#[tokio::test]
async fn it_is_found_among_many_others() {
    let bed = Bed::start();
    for pull in pushed(&bed) {
        let Proposed::Created { number, .. } = next(&pull, &wish("a")).await else {
            panic!("{}", pull.name())
        };
        for index in 0..120 {
            pull.control("pull", json!({ "branch": format!("other-{index}") }));
        }
        assert_eq!(next(&pull, &wish("b")).await, Proposed::Updated(number), "{}", pull.name());
    }
}

#[tokio::test]
async fn a_lost_response_leads_to_no_second_one() {
    let bed = Bed::start();
    for pull in pushed(&bed) {
        pull.control("faults", json!({ "kind": "lost", "method": "POST", "count": 1 }));
        let found = next(&pull, &wish("a")).await;
        assert!(matches!(found, Proposed::Left(Why::Same(_))), "{}: {found:?}", pull.name());
        assert_eq!(own(&pull).len(), 1, "{}", pull.name());
    }
}

#[tokio::test]
async fn one_that_is_opened_at_the_same_time_is_found() {
    let bed = Bed::start();
    for pull in pushed(&bed) {
        let (client, name) = ([pull.client(), pull.client()], branch("opsy/", "prod"));
        let wish = wish("a");
        let (one, two) = tokio::join!(propose(&client[0], &name, &wish), propose(&client[1], &name, &wish));
        one.expect("proposed");
        two.expect("proposed");
        assert_eq!(own(&pull).len(), 1, "{}", pull.name());
    }
}

#[tokio::test]
async fn one_for_another_base_is_closed_before_the_new_one_is_opened() {
    let bed = Bed::start();
    for pull in pushed(&bed) {
        pull.control("push", json!({ "branch": "release" }));
        let Proposed::Created { number, .. } = next(&pull, &wish("a")).await else {
            panic!("{}", pull.name())
        };
        let Wish::Open(proposal) = wish("a") else { unreachable!("it is open") };
        let other = Wish::Open(Proposal { base: "release".to_owned(), ..proposal });
        let created = next(&pull, &other).await;
        assert!(matches!(created, Proposed::Created { .. }), "{}: {created:?}", pull.name());
        assert_eq!(pull.shown(number)["state"], "closed", "{}", pull.name());
    }
}

#[tokio::test]
async fn a_workflow_may_open_none_unless_a_setting_allows_it() {
    let bed = Bed::start();
    let pull = pushed(&bed).remove(0);
    bed.control("tokens", json!({ "token": "ghs_1", "kind": "actions" }));
    let client = pull.client_of("ghs_1", None);
    let error = propose(&client, "opsy/prod", &wish("a")).await.expect_err("not allowed").to_string();
    assert!(error.contains("Settings > Actions > General"), "{error}");
    bed.control("settings", json!({ "github_actions_create_pulls": true }));
    propose(&client, "opsy/prod", &wish("a")).await.expect("allowed");
}
