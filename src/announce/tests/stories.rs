//! What a message is part of: its story, its cause, and whether it is news.

use super::*;

#[test]
fn what_may_go_away_by_itself_is_held_back() {
    let conditions = json!([ready("False", "AwsUnavailable", "no response")]);
    let stories = builder(json!({ "conditions": conditions }));
    assert!(!stories[0].hold.is_zero());
    assert!(news(&[], &stories).is_empty(), "an Event reports it at once");
    let suspended = json!({"type": "Suspended", "status": "True", "reason": "Spec"});
    let stalled = json!({"type": "Stalled", "status": "True", "reason": "RetryLimit"});
    let paused = json!({"conditions": [ready("False", "RetryLimit", "no"), stalled, suspended]});
    assert!(builder(paused).is_empty(), "what people asked for is not a problem");
}

#[test]
fn a_recovery_is_one_whatever_came_between() {
    let history = [
        run("b4", "Succeeded", "Template"),
        run("b3", "Superseded", "Spec"),
        run("b2", "Cancelled", "Spec"),
        run("b1", "Failed", "Template"),
    ];
    let stories = builder(json!({ "history": history }));
    assert_eq!(stories[0].replies[0].weight, Weight::Loud, "{:?}", stories[0].replies);
}

#[test]
fn a_cause_is_the_same_for_objects_that_fail_alike() {
    let of = |object: &str, words: &str| cause(object, "BuildFailed", words);
    assert_eq!(
        of("a1", "no subnet for a1 in vpc-0a1b, request 77"),
        of("b2", "no subnet for b2 in vpc-0a1b, request 78")
    );
    assert_ne!(of("a1", "no subnet"), of("a1", "no key"));
}

#[test]
fn news_are_messages_that_were_not_there() {
    let ids = |before: &[Story], after: &[Story]| -> Vec<String> {
        news(before, after).iter().map(|message| message.id.clone()).collect()
    };
    let running = builder(live("b1", "Missing", "Running"));
    assert_eq!(ids(&[], &running), ["head"]);
    assert_eq!(ids(&running, &running), [""; 0]);
    let failed = builder(json!({"history": [run("b1", "Failed", "Missing")]}));
    assert_eq!(ids(&running, &failed), ["failed/1"]);
    assert_eq!(ids(&[], &failed), ["failed/1"], "the result is reported once");
    let again =
        builder(with(live("b2", "Retry", "Running"), json!({"history": [run("b1", "Failed", "Missing")]})));
    assert_eq!(ids(&failed, &again), ["started/2"]);
}

/// The first failure is announced to the channel, every other one to the thread, and none of them twice, whatever
/// follows.
#[test]
fn a_failure_is_one_message() {
    let ids = |before: &[Story], after: &[Story]| -> Vec<String> {
        let news = news(before, after);
        let failures = news.iter().filter(|message| message.id.contains("failed"));
        failures.map(|message| message.id.clone()).collect()
    };
    let both = two_failures();
    let first = rollout(json!([group("batch", json!({})), both["groups"][1]]), json!({}));
    let [first, both] = [first, both].map(|rollout| refresher(json!({"drifted": 2, "rollout": rollout})));
    assert_eq!(ids(&[], &first), ["failed"]);
    assert_eq!(ids(&first, &both), ["group/batch/1/failed"]);
    for result in ["Failed", "Replaced", "Held"] {
        let record = json!({"id": "r1", "target": "ami-0123456789abcdef0", "result": result,
            "failures": ["batch: NodeCreationFailure: not ready", "web: NodeCreationFailure: not ready"]});
        let ended = refresher(json!({"rollout": two_failures(), "history": [record]}));
        assert_eq!(ids(&both, &ended), [""; 0], "{result}");
        let next = json!({"id": "r2", "target": "ami-0fedcba9876543210", "groups": []});
        let next = refresher(json!({"rollout": next, "history": [record]}));
        assert_eq!(ids(&ended, &next), [""; 0], "{result}");
    }
}

#[test]
fn bad_news_carry_the_runbook() {
    let mut stories = builder(json!({"history": [run("b1", "Failed", "Missing")]}));
    with_runbook(&mut stories, Some("https://wiki.example.com/eks-node"));
    assert!(stories[0].head.links.iter().any(|link| link.label == "Runbook"));
    let mut stories = builder(live("b1", "Missing", "Running"));
    with_runbook(&mut stories, Some("https://wiki.example.com/eks-node"));
    assert!(stories[0].head.links.iter().all(|link| link.label != "Runbook"));
}
