//! What errors say, and what is to be done about them.

use std::time::Duration;

use crate::api::Class;
use crate::forge::ForgeError;

fn right() -> ForgeError {
    ForgeError::Right {
        forge: "GitHub",
        from: "GITHUB_TOKEN".to_owned(),
        action: "write comments on pull requests".to_owned(),
        said: "HTTP 403: Resource not accessible by integration".to_owned(),
        remedy: "give it the permission Pull requests: write".to_owned(),
    }
}

#[test]
fn a_missing_right_is_named_with_the_way_to_give_it() {
    assert_eq!(
        right().to_string(),
        "GitHub: the token in GITHUB_TOKEN is not allowed to write comments on pull requests (HTTP 403: Resource not \
         accessible by integration); give it the permission Pull requests: write"
    );
    assert_eq!(right().class(), Class::Denied);
}

#[test]
fn in_a_fork_no_right_can_be_given() {
    assert!(right().in_fork(true).to_string().contains("workflow_run"));
    assert_eq!(right().in_fork(false), right());
    let busy = ForgeError::Busy { forge: "GitHub", status: 502 };
    assert_eq!(busy.clone().in_fork(true), busy);
}

#[test]
fn rate_limits_say_when_to_try_again() {
    let limited = |seconds| ForgeError::Limited { forge: "GitLab", after: Duration::from_secs(seconds) };
    assert_eq!(limited(30).to_string(), "GitLab: the rate limit is reached; try again in 30 seconds");
    assert_eq!(limited(3541).to_string(), "GitLab: the rate limit is reached; try again in 60 minutes");
    assert_eq!(limited(30).class(), Class::Transient { after: Some(Duration::from_secs(30)) });
}
