//! `opsy.yaml` is read strictly, and the last valid one stays in force.

use super::*;

#[test]
fn settings_are_read_strictly() {
    for (text, message) in [
        ("agentId: x\n", "opsy.yaml:1: agentId: unknown field; did you mean `agentID`?"),
        (
            "agentID: 'a b'\n",
            "opsy.yaml:1: agentID: \"a b\" is not an owner (1 to 63 of a-z, A-Z, 0-9, '-', '_', '.')",
        ),
        (
            "accounts: [123456789012]\n",
            "opsy.yaml:1: accounts[0]: must be a string, but 123456789012 is a number; quote it: \"123456789012\"",
        ),
        (
            "accounts: ['12345']\n",
            "opsy.yaml:1: accounts[0]: \"12345\" is not an account ID: write 12 digits in quotes",
        ),
        (
            "\nnamespace: A\n",
            "opsy.yaml:2: namespace: \"A\" is not a valid namespace: use at most 63 of a-z, 0-9 and '-'",
        ),
        (
            "statusPath: ../x\n",
            "opsy.yaml:1: statusPath: \"../x\" leaves the repository; write it relative to the path Opsy reads",
        ),
        (
            "statusPath: .\n",
            "opsy.yaml:1: statusPath: \".\" must name a separate directory, for example `status`",
        ),
        (
            "prune: {allowMass: on}\n",
            "opsy.yaml:1: prune.allowMass: `on` is a boolean in YAML 1.1 only; write true or false",
        ),
        (
            "publish:\n  quietPeriod: 2\n",
            "opsy.yaml:2: publish.quietPeriod: must be a string, but 2 is a number; quote it: \"2\"",
        ),
        (
            "publish:\n  quietPeriod: 2x\n",
            "opsy.yaml:2: publish.quietPeriod: \"2x\" is not a duration: write a number and a unit (s, m, h, d, w, y), like 72h or 30d; m is minutes",
        ),
        ("publish:\n  branch: 'a b'\n", "opsy.yaml:2: publish.branch: \"a b\" is not a valid branch name"),
        (
            "limits:\n  concurrentBuilds: 0\n",
            "opsy.yaml:2: limits.concurrentBuilds: 0 would never start a build; suspend builders instead",
        ),
        ("author:\n  name: \"a\\nb\"\n", "opsy.yaml:2: author.name: must be one line without < and >"),
        (
            "publish:\n  mode: Pull\n",
            "opsy.yaml:2: publish.mode: \"Pull\" must be one of Commit, PullRequest",
        ),
        (
            "setters:\n  paths: ['a/**']\npublish: {branch: x}\n",
            "opsy.yaml:1: setters: edit files of the branch that Opsy reads, so publish.branch cannot be set: remove one",
        ),
        ("setters:\n  paths: ['a[']\n", "opsy.yaml:2: setters.paths[0]: \"a[\" is not a valid glob"),
        (
            "setters:\n  json:\n  - {path: ../a.json, pointer: a, value: b}\n",
            "opsy.yaml:3: setters.json[0].path: \"../a.json\" is not the path of a JSON file: write it relative to the repository's root",
        ),
        ("a: 1\n---\nb: 1\n", "opsy.yaml:3: contains a second document; settings must be a single document"),
        ("[]\n", "opsy.yaml:1: must be a map, but is a list"),
    ] {
        let set = read(&[("opsy.yaml", text), ("a.yaml", REFRESHER)]);
        assert!(lines(&set)[0].starts_with(message), "{text}: {:?}", lines(&set));
        assert!(set.documents.is_empty(), "nothing is trusted while the owner is unknown");
    }
    let json = "setters: {json: [{path: ../a.json, pointer: a, value: b}]}\n";
    assert_eq!(lines(&read(&[("opsy.yaml", json)])).len(), 3, "path, pointer and value");
    let good = read(&[("opsy.yaml", "agentID: team-a\nstatusPath: out\n"), ("out/x.yaml", "[")]);
    assert_eq!((good.settings.agent_id.as_deref(), good.problems.len()), (Some("team-a"), 0));
}

#[test]
fn broken_settings_leave_the_last_good_ones_in_force() {
    let mut reader = Reader::default();
    reader.read(&[source("opsy.yaml", "agentID: team-a\nnamespace: images\n")]);
    let set = reader.read(&[source("opsy.yaml", "agentID: [\n"), source("a.yaml", REFRESHER)]);
    assert_eq!(set.settings.agent_id.as_deref(), Some("team-a"));
    assert_eq!(first(&set).object.key.namespace, "images");
    assert!(!set.complete());
}

#[test]
fn whoever_is_told_stands_in_nobodys_way() {
    let who = "agentID: a\nnotifier: {slack: {channelIDs: [C0], secret: s}}\n";
    let zone = |zone: &str| format!("{who}digest: {{time: \"08:30\", timeZone: {zone}}}\n");
    let mut reader = Reader::default();
    // At the start, the invalid section is left out, and everything else is in force.
    let set = reader.read(&[source("opsy.yaml", &zone("Europe/Berln")), source("a.yaml", REFRESHER)]);
    assert_eq!((set.settings.agent_id.as_deref(), set.documents.len()), (Some("a"), 1));
    assert!(set.settings.digest.is_none() && !set.complete());
    assert!(
        set.problems[0].to_string().contains("opsy.yaml:3: digest.timeZone: \"Europe/Berln\""),
        "{set:?}"
    );
    // After a valid section, an invalid one leaves the valid one in force.
    reader.read(&[source("opsy.yaml", &zone("Europe/Berlin"))]);
    let set = reader.read(&[source("opsy.yaml", "agentID: b\ndigest: {time: \"8\"}\n")]);
    assert_eq!(set.settings.agent_id.as_deref(), Some("b"));
    assert!(set.settings.notifier.is_some() && set.settings.digest.is_some(), "{:?}", set.settings);
    assert_eq!(set.problems.len(), 2, "{:?}", set.problems);
}

#[test]
fn settings_by_another_name_are_never_left_out() {
    for name in ["opsy.yml", "Opsy.yaml", "OPSY.YML"] {
        let set = read(&[(name, "agentID: team-a\n"), ("a.yaml", REFRESHER)]);
        assert!(
            set.without_settings && set.documents.is_empty(),
            "{name}: the owner of the objects is not known"
        );
        assert_eq!(
            lines(&set),
            [format!("{name}:1: settings are read from opsy.yaml only: rename this file")]
        );
    }
    let both = read(&[("opsy.yml", "agentID: team-b\n"), ("opsy.yaml", "agentID: team-a\n")]);
    assert_eq!((both.complete(), both.settings.agent_id.as_deref()), (false, Some("team-a")));
    assert!(read(&[("examples/opsy.yml", "agentID: team-a\n")]).complete(), "it is not the settings file");
}

#[test]
fn settings_that_turned_into_something_else_are_not_left_out() {
    let form = Form::Unfit("is a link".to_owned());
    let link = SourceFile { form, ..source("opsy.yaml", "agentID: team-a\n") };
    let pointer = source("opsy.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n");
    for file in [link, pointer] {
        let set = Reader::default().read(&[file]);
        assert!(set.without_settings && !set.complete(), "{:?}", lines(&set));
    }
}
