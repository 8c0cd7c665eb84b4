//! The reconcilers' specs report what a schema cannot express: once, with file and line.

use super::*;

/// Expects exactly these messages for one file, with all rules.
fn expect(text: &str, messages: &[&str]) {
    let set = Reader::new(crate::agent::spec_problems).read(&[source("a.yaml", text)]);
    assert_eq!(lines(&set), messages, "{text}");
    assert_eq!(set.documents.is_empty(), !set.complete(), "{text}");
}

/// A valid builder that ends with the given lines, under `spec.builder` or under `spec`.
fn builder(last: &str) -> String {
    format!("{BUILDER}  region: us-east-1\n  builder:\n    branch: main\n{last}")
}

#[test]
fn wrong_values_of_a_builder_are_named_once() {
    expect(&builder(""), &[]);
    let moon = builder("").replace("us-east-1", "moon");
    expect(&moon, &["a.yaml:6: spec.region: \"moon\" is not a region (like eu-west-1)"]);
    for (last, message) in [
        (
            "  rebuildOn: [Expired, Spce]\n",
            "a.yaml:9: spec.rebuildOn[1]: \"Spce\" is not one of Expired, BaseImage, Template, Spec; did you mean Spec?",
        ),
        (
            "  timeOuts:\n    expiresIn: 30 days\n",
            "a.yaml:10: spec.timeOuts.expiresIn: \"30 days\" is not a duration: write a number and a unit (s, m, h, d, w, y), like 72h or 30d; m is minutes",
        ),
        (
            "  amiFilters:\n  - values: [x]\n",
            "a.yaml:10: spec.amiFilters[0].name: is required: name an EC2 filter, for example `name` or `tag:status`",
        ),
        (
            "  amiFilters:\n  - name: x\n",
            "a.yaml:10: spec.amiFilters[0].values: a filter without values matches nothing",
        ),
        (
            "    dir: ../up\n",
            "a.yaml:9: spec.builder.dir: \"../up\" leaves the repository; write it relative to the repository's root",
        ),
        (
            "    dir: /abs\n",
            "a.yaml:9: spec.builder.dir: \"/abs\" is an absolute path; write it relative to the repository's root",
        ),
        (
            "    inputs: ['a/../../b']\n",
            "a.yaml:9: spec.builder.inputs[0]: \"a/../../b\" leaves the repository; write it relative to the repository's root",
        ),
        (
            "    inputs: ['a[']\n",
            "a.yaml:9: spec.builder.inputs[0]: \"a[\" is not a valid glob: unclosed character class; missing ']'",
        ),
        (
            "    secret: ../etc\n",
            "a.yaml:9: spec.builder.secret: \"../etc\" is not a valid object name (a-z, 0-9, '-' and '.')",
        ),
        (
            "    commands:\n    - subCommand: biuld\n",
            "a.yaml:10: spec.builder.commands[0].subCommand: \"biuld\" is not one of init, validate, build; did you mean build?",
        ),
        (
            "    commands:\n    - args: [x]\n",
            "a.yaml:10: spec.builder.commands[0].subCommand: is required: must be init, validate or build",
        ),
        (
            "    commands:\n    - subCommand: build\n      onError: retry\n",
            "a.yaml:11: spec.builder.commands[0].onError: \"retry\" is not one of cleanup, abort, run-cleanup-provisioner",
        ),
        (
            "    commands:\n    - subCommand: build\n      workingDir: a/..\n",
            "a.yaml:11: spec.builder.commands[0].workingDir: \"a/..\" leaves the repository; write it relative to the repository's root",
        ),
        (
            "    commands:\n    - subCommand: build\n      variablesFile: /etc/passwd\n",
            "a.yaml:11: spec.builder.commands[0].variablesFile: \"/etc/passwd\" is an absolute path; write it relative to the repository's root",
        ),
        (
            "    commands:\n    - subCommand: build\n      onError: ask\n",
            "a.yaml:11: spec.builder.commands[0].onError: ask needs a person at a terminal: must be one of cleanup, abort, run-cleanup-provisioner",
        ),
        (
            "    dir: 'a\\b'\n",
            "a.yaml:9: spec.builder.dir: \"a\\\\b\" contains a character that is not allowed in a path; write it relative to the repository's root",
        ),
        ("  timeOuts:\n    build: 0s\n", "a.yaml:10: spec.timeOuts.build: must be greater than zero"),
        (
            "  failurePolicy:\n    backoff: soon\n",
            "a.yaml:10: spec.failurePolicy.backoff: \"soon\" is not a duration: write a number and a unit (s, m, h, d, w, y), like 72h or 30d; m is minutes",
        ),
        (
            "  failurePolicy:\n    limit: 0\n",
            "a.yaml:10: spec.failurePolicy.limit: 0 is out of range: the minimum is 1",
        ),
        (
            "  amiFilters:\n  - name: x\n    values: [a, '']\n",
            "a.yaml:11: spec.amiFilters[0].values[1]: an empty value matches nothing",
        ),
        (
            "  gitSync:\n    secret: A\n",
            "a.yaml:10: spec.gitSync.secret: \"A\" is not a valid object name (a-z, 0-9, '-' and '.')",
        ),
        (
            "  notifier:\n    slack:\n      secret: A\n",
            "a.yaml:11: spec.notifier.slack.secret: \"A\" is not a valid object name (a-z, 0-9, '-' and '.')",
        ),
        (
            "  notifier:\n    sns:\n      topicARN: images\n",
            "a.yaml:11: spec.notifier.sns.topicARN: \"images\" is not the ARN of an SNS topic (arn:aws:sns:<region>:<account>:<name>)",
        ),
    ] {
        expect(&builder(last), &[message]);
    }
}

#[test]
fn wrong_values_of_a_refresher_are_named_once() {
    for (spec, message) in [
        (
            "  amiFilters:\n  - name: x\n",
            "a.yaml:9: spec.amiFilters[0].values: a filter without values matches nothing",
        ),
        ("  ami: ami-1\n", "a.yaml:8: spec.ami: \"ami-1\" is not an image ID (ami-…)"),
        (
            "  amiFrom: {}\n",
            "a.yaml:8: spec.amiFrom.packerBuilder: must be the name of a PackerBuilder in the same namespace",
        ),
        (
            "  exclude: ['sys[']\n",
            "a.yaml:8: spec.exclude[0]: \"sys[\" is not a valid glob: unclosed character class; missing ']'",
        ),
        (
            "  nodeGroups:\n    include: ['']\n",
            "a.yaml:9: spec.nodeGroups.include[0]: an empty glob matches nothing",
        ),
        (
            "  notifier:\n    ses: {from: 'Ops <ops@example.com>', to: [ops@example.com]}\n",
            "a.yaml:9: spec.notifier.ses.from: \"Ops <ops@example.com>\" is not an email address (write only name@example.com)",
        ),
        (
            "  expiresIn: soon\n",
            "a.yaml:8: spec.expiresIn: \"soon\" is not a duration: write a number and a unit (s, m, h, d, w, y), like 72h or 30d; m is minutes",
        ),
        (
            "  refreshConfig:\n    maxUnavailable: -1\n",
            "a.yaml:9: spec.refreshConfig.maxUnavailable: must be between 1 and 100, but is -1",
        ),
        (
            "  refreshConfig:\n    maxUnavailablePercentage: 101\n",
            "a.yaml:9: spec.refreshConfig.maxUnavailablePercentage: must be between 1 and 100, but is 101",
        ),
        (
            "  refreshConfig:\n    maxUnavailable: 1\n    maxUnavailablePercentage: 33\n",
            "a.yaml:10: spec.refreshConfig.maxUnavailablePercentage: EKS accepts either a number or a percentage: remove this field or `maxUnavailable`",
        ),
    ] {
        expect(&format!("{REFRESHER}{spec}"), &[message]);
    }
}

#[test]
fn what_is_missing_is_named_where_it_should_be() {
    expect(
        &format!("{BUILDER}  clusterName: demo\n"),
        &[
            "a.yaml:5: spec.region: is required: name the AWS region in which the image is built",
            "a.yaml:5: spec.builder: is required: set dir to the path of the Packer template",
        ],
    );
    expect(
        &builder("").replace("region:", "regoin:"),
        &["a.yaml:6: spec.regoin: unknown field; did you mean `region`?"],
    );
    let empty = REFRESHER.replace("us-east-1", "''").replace("clusterName: demo", "clusterName: ''");
    expect(
        &empty,
        &[
            "a.yaml:6: spec.region: \"\" is not a region (like eu-west-1)",
            "a.yaml:7: spec.clusterName: is empty: name the EKS cluster",
        ],
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = builder("    dir: ../up\n  regoin: x-1\n").replace("name: node", "labels: {a: b}");
    expect(
        &text,
        &[
            "a.yaml:3: metadata.name: is required but missing",
            "a.yaml:10: spec.regoin: unknown field; did you mean `region`?",
            "a.yaml:9: spec.builder.dir: \"../up\" leaves the repository; write it relative to the repository's root",
        ],
    );
}

#[test]
fn packers_own_debugging_is_not_what_happens() {
    let note = "note a.yaml:11: spec.builder.commands[0].debug: Packer's -debug waits for input at every step; PACKER_LOG=1 is set instead";
    expect(&builder("    commands:\n    - subCommand: build\n      debug: true\n"), &[note]);
}

#[test]
fn credentials_in_a_url_are_refused_and_not_repeated() {
    let with = |url: &str| builder(&format!("    repoURL: {url}\n"));
    for url in [
        "https://me:hunter2@example.com/x.git",
        "https://hunter2@example.com/x",
        "ssh://git:hunter2@example.com/x",
    ] {
        let set = Reader::new(crate::agent::spec_problems).read(&[source("a.yaml", &with(url))]);
        let said = lines(&set).join("\n");
        assert!(
            said.starts_with("a.yaml:9: spec.builder.repoURL: contains a user name or password"),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
    for url in ["ssh://git@example.com/x.git", "git@example.com:x.git", "https://example.com/x@y"] {
        expect(&with(url), &[]);
    }
}

#[test]
fn an_annotation_that_would_have_no_effect_is_an_error() {
    let with = |annotation: &str| {
        format!("{BUILDER}  region: us-east-1\n")
            .replace("  name: node\n", &format!("  name: node\n  annotations:\n    {annotation}\n"))
    };
    for (annotation, expected) in [
        ("ami.opsy.dev/suspend: \"True\"", "must be \"true\" or \"false\", but is \"True\""),
        ("ami.opsy.dev/suspend: \"yes\"", "must be \"true\" or \"false\", but is \"yes\""),
        (
            "ami.opsy.dev/suspended: \"true\"",
            "unknown annotation ami.opsy.dev/suspended; did you mean `ami.opsy.dev/suspend`?",
        ),
        ("ami.opsy.dev/reconcile-at: \"1\"", "did you mean `ami.opsy.dev/reconcileAt`?"),
    ] {
        let set = read(&[("a.yaml", &with(annotation))]);
        assert!(
            set.problems.len() == 1 && set.problems[0].line == Some(6),
            "{annotation}: {:?}",
            lines(&set)
        );
        assert!(set.problems[0].message.contains(expected), "{annotation}: {:?}", lines(&set));
    }
    for annotation in [
        "ami.opsy.dev/suspend: \"false\"",
        "ami.opsy.dev/runbook: https://x",
        "ami.opsy.dev/retry: ami-0123456789abcdef0",
        "team.example/suspended: \"yes\"",
    ] {
        assert_eq!(lines(&read(&[("a.yaml", &with(annotation))])), Vec::<String>::new());
    }
    for value in ["\"True\"", "\"yes\"", "yes"] {
        let text = format!("{BUILDER}  region: us-east-1\n  suspend: {value}\n");
        assert!(!read(&[("a.yaml", &text)]).complete(), "{value}");
    }
}
