//! Fields checked against their schema: unknown fields, wrong types, bounds.

use super::*;

#[test]
fn wrong_fields_of_a_builder_name_their_line() {
    for (spec, message) in [
        ("  regoin: x-1\n", "a.yaml:6: spec.regoin: unknown field; did you mean `region`?"),
        ("  frobnicate: 1\n", "a.yaml:6: spec.frobnicate: unknown field"),
        ("  expiresIn: 1d\n", "a.yaml:6: spec.expiresIn: unknown field here; it belongs under `timeOuts`"),
        (
            "  builder:\n    repoUrl: x\n",
            "a.yaml:7: spec.builder.repoUrl: unknown field; did you mean `repoURL`?",
        ),
        (
            "  amiFilters:\n  - name: a\n    values: [x]\n  - name: b\n    values: [x]\n    value: [z]\n",
            "a.yaml:11: spec.amiFilters[1].value: unknown field; did you mean `values`?",
        ),
        (
            "  notifier:\n    slack:\n      secret: s\n      channelIds: [x]\n",
            "a.yaml:9: spec.notifier.slack.channelIds: unknown field; did you mean `channelIDs`?",
        ),
        ("  region: [x]\n", "a.yaml:6: spec.region: must be a string, but is a list"),
        ("  amiFilters: {name: x}\n", "a.yaml:6: spec.amiFilters: must be a list, but is a map"),
        ("  builder: text\n", "a.yaml:6: spec.builder: must be a map, but is `text`"),
        (
            "  suspend: yes\n",
            "a.yaml:6: spec.suspend: `yes` is a boolean in YAML 1.1 only; write true or false",
        ),
        (
            "  suspend: 'true'\n",
            "a.yaml:6: spec.suspend: must be true or false, but \"true\" is a string; remove the quotes",
        ),
        ("  suspend: 1\n", "a.yaml:6: spec.suspend: must be true or false, but is `1`"),
        (
            "  clusterName: 1.31\n",
            "a.yaml:6: spec.clusterName: must be a string, but 1.31 is a number; quote it: \"1.31\"",
        ),
        (
            "  clusterName: true\n",
            "a.yaml:6: spec.clusterName: must be a string, but true is a boolean; quote it: \"true\"",
        ),
        (
            "  failurePolicy:\n    limit: 0\n",
            "a.yaml:7: spec.failurePolicy.limit: 0 is out of range: the minimum is 1",
        ),
        (
            "  failurePolicy:\n    limit: 11\n",
            "a.yaml:7: spec.failurePolicy.limit: 11 is out of range: the maximum is 10",
        ),
        (
            "  failurePolicy:\n    limit: 1.5\n",
            "a.yaml:7: spec.failurePolicy.limit: must be a whole number, but is `1.5`",
        ),
        (
            "  amiFilters:\n  - name: x\n    values: [null]\n",
            "a.yaml:8: spec.amiFilters[0].values[0]: must be a string, but is empty",
        ),
        (
            "  builder:\n    commands:\n    - subCommand: build\n      variables: {n: 5}\n",
            "a.yaml:9: spec.builder.commands[0].variables.n: must be a string, but 5 is a number; quote it: \"5\"",
        ),
        (
            "  region: us-east-1\n  region: us-east-2\n",
            "a.yaml:7: duplicate key `region`: it is already on line 6",
        ),
        ("  region: !secret us-east-1\n", "a.yaml:6: spec.region: the YAML tag !secret is not supported"),
    ] {
        expect(&format!("{BUILDER}{spec}"), &[message]);
    }
}

#[test]
fn numbers_beyond_all_bounds_and_missing_fields_of_a_refresher_are_named() {
    expect(
        &format!("{REFRESHER}  refreshConfig:\n    maxUnavailable: 9999999999\n"),
        &["a.yaml:9: spec.refreshConfig.maxUnavailable: 9999999999 is too large"],
    );
    let missing = "apiVersion: ami.opsy.dev/v1alpha1\nkind: AMIRefresher\nmetadata: {name: demo}\nspec:\n  exclude: []\n";
    expect(
        missing,
        &[
            "a.yaml:4: spec.clusterName: is required but missing",
            "a.yaml:4: spec.region: is required but missing",
        ],
    );
}

#[test]
fn odd_but_harmless_is_a_note() {
    for (text, note) in [
        (
            format!("{BUILDER}  builder:\n    secret: ''\n"),
            "note a.yaml:7: spec.builder.secret: is empty and counts as not set",
        ),
        (
            format!("{BUILDER}  timeOuts:\n    expiresIn: ''\n"),
            "note a.yaml:7: spec.timeOuts.expiresIn: is empty and counts as not set",
        ),
        (
            format!("{BUILDER}  clusterName: on\n"),
            "note a.yaml:6: spec.clusterName: `on` is a string here, but a boolean in YAML 1.1; quote it",
        ),
        (
            format!("{BUILDER}  region: us-east-1\nstatus:\n  state: x\n"),
            "note a.yaml:7: status: is written by Opsy and ignored here",
        ),
        (
            format!(
                "{BUILDER}  notifier:\n    slack:\n      secret: s\n      channelIDs:\n      - C01\n      - '#ops'\n"
            ),
            "note a.yaml:11: spec.notifier.slack.channelIDs[1]: \"#ops\" is the name of a channel: use the channel ID, which the details of the channel show",
        ),
        (
            format!("{REFRESHER}  notifier:\n    slack:\n      channelIDs: [C01]\n"),
            "note a.yaml:9: spec.notifier.slack.secret: names no Secret, so no messages are sent to Slack",
        ),
        (
            format!("{REFRESHER}  refreshConfig:\n    maxUnavailable: 0\n    maxUnavailablePercentage: 33\n"),
            "note a.yaml:9: spec.refreshConfig.maxUnavailable: 0 counts as not set",
        ),
    ] {
        expect(&text, &[note]);
    }
}
