//! The status of a commit beside the comment.

use opsy::forge::{ForgeError, State, Status};
use serde_json::{Value, json};

use super::{Bed, Pull};

const JOB: &str = "https://ci.example.com/jobs/1";

async fn set(pull: &Pull<'_>, state: State, description: &str) -> Result<(), ForgeError> {
    let status = Status::new(".", state, description, Some(JOB.to_owned()));
    let client = pull.client();
    let read = client.pull_request(pull.number).await?;
    client.set_status(&read, &pull.head, &status).await
}

fn shown(pull: &Pull<'_>) -> Vec<Value> {
    let state = pull.state();
    let statuses = state["statuses"].as_array().expect("a list").iter();
    statuses.map(|status| json!([status["sha"], status["context"], status["state"], status["url"]])).collect()
}

#[tokio::test]
async fn every_state_has_a_word_of_the_forge() {
    let bed = Bed::start();
    for mut pull in bed.pulls() {
        let failure = if pull.name() == "GitLab" { "failed" } else { "failure" };
        for (state, word) in [(State::Success, "success"), (State::Failure, failure)] {
            set(&pull, state, "1 build").await.expect("set");
            let last = shown(&pull).pop().expect("a status");
            assert_eq!(last, json!([pull.head, "opsy/plan", word, JOB]), "{}", pull.name());
            pull.push();
        }
    }
}

#[tokio::test]
async fn a_long_description_is_shortened_and_the_same_state_can_be_set_again() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        for _ in 0..2 {
            set(&pull, State::Success, &"a long text ".repeat(40)).await.expect("set");
        }
        let state = pull.state();
        let description = state["statuses"][0]["description"].as_str().expect("a text");
        assert!(description.chars().count() <= 140 && description.ends_with('…'), "{description}");
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let bed = Bed::start();
    let table = [
        ("statuses:write", "Commit statuses: write"),
        ("developer", "role Developer"),
        ("write:repository", "scope write:repository"),
    ];
    for (pull, (right, remedy)) in bed.pulls().iter().zip(table) {
        bed.control("tokens", json!({ "token": super::TOKEN, "lacks": [right] }));
        let error = set(pull, State::Success, "1 build").await.expect_err("refused").to_string();
        assert!(error.contains("set the status of a commit") && error.contains(remedy), "{error}");
    }
}
