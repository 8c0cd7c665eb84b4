use proptest::prelude::*;
use serde_json::json;

use super::*;

const BUILDER: &str =
    "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: node\nspec:\n";
const REFRESHER: &str = "apiVersion: ami.opsy.dev/v1alpha1\nkind: AMIRefresher\nmetadata:\n  name: demo\nspec:\n  region: us-east-1\n  clusterName: demo\n";

fn source(path: &str, content: &str) -> SourceFile {
    let blob = crate::api::ids::digest(&[content]);
    SourceFile { path: path.to_owned(), blob, content: content.as_bytes().to_vec() }
}

fn read(files: &[(&str, &str)]) -> ObjectSet {
    let files: Vec<_> = files.iter().map(|(path, content)| source(path, content)).collect();
    Reader::default().read(&files)
}

fn lines(set: &ObjectSet) -> Vec<String> {
    let said = |problem: &Problem| match problem.severity {
        Severity::Error => problem.to_string(),
        Severity::Note => format!("note {problem}"),
    };
    set.problems.iter().map(said).collect()
}

/// Exactly these messages for one file, and no object when any is an error.
fn expect(text: &str, messages: &[&str]) {
    let set = read(&[("a.yaml", text)]);
    assert_eq!(lines(&set), messages, "{text}");
    assert_eq!(set.documents.is_empty(), !set.complete() || text.is_empty(), "{text}");
}

#[test]
fn an_object_is_handed_on_as_written_without_nulls_and_with_its_namespace() {
    let text = format!(
        "{BUILDER}  region: us-east-1\n  builder:\n    commands:\n    - subCommand: build\n      args: null\n"
    );
    let set = read(&[("opsy.yaml", "namespace: images\n"), ("b/node.yaml", &text)]);
    assert_eq!(lines(&set), Vec::<String>::new());
    assert_eq!(set.documents.len(), 1);
    let document = &set.documents[0];
    assert_eq!((document.file.as_str(), document.line), ("b/node.yaml", 1));
    assert_eq!(document.object.to_string(), "PackerBuilder/images/node");
    assert_eq!(
        document.json.value(),
        json!({
            "apiVersion": "ami.opsy.dev/v1alpha1",
            "kind": "PackerBuilder",
            "metadata": {"name": "node", "namespace": "images"},
            "spec": {"region": "us-east-1", "builder": {"commands": [{"subCommand": "build"}]}},
        })
    );
}

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
            "  notifier:\n    slack:\n      channelIds: [x]\n",
            "a.yaml:8: spec.notifier.slack.channelIds: unknown field; did you mean `channelIDs`?",
        ),
        ("  region: [x]\n", "a.yaml:6: spec.region: must be a text, and this is a list"),
        ("  amiFilters: {name: x}\n", "a.yaml:6: spec.amiFilters: must be a list, and this is a map"),
        ("  builder: text\n", "a.yaml:6: spec.builder: must be a map, and this is `text`"),
        (
            "  suspend: yes\n",
            "a.yaml:6: spec.suspend: `yes` is a boolean in YAML 1.1 only; write true or false",
        ),
        (
            "  suspend: 'true'\n",
            "a.yaml:6: spec.suspend: must be true or false, and \"true\" is a text; leave the quotes away",
        ),
        ("  suspend: 1\n", "a.yaml:6: spec.suspend: must be true or false, and this is `1`"),
        (
            "  clusterName: 1.31\n",
            "a.yaml:6: spec.clusterName: must be a text, and 1.31 is a number; put it in quotes: \"1.31\"",
        ),
        (
            "  clusterName: true\n",
            "a.yaml:6: spec.clusterName: must be a text, and true is a boolean; put it in quotes: \"true\"",
        ),
        (
            "  failurePolicy:\n    limit: 0\n",
            "a.yaml:7: spec.failurePolicy.limit: 0 is out of bounds: the least is 1",
        ),
        (
            "  failurePolicy:\n    limit: 11\n",
            "a.yaml:7: spec.failurePolicy.limit: 11 is out of bounds: the most is 10",
        ),
        (
            "  failurePolicy:\n    limit: 1.5\n",
            "a.yaml:7: spec.failurePolicy.limit: must be a whole number, and this is `1.5`",
        ),
        ("  region: moon\n", "a.yaml:6: spec.region: \"moon\" is not a region (like eu-west-1)"),
        (
            "  rebuildOn: [Expired, Spce]\n",
            "a.yaml:6: spec.rebuildOn[1]: \"Spce\" is not one of Expired, BaseImage, Template, Spec; did you mean Spec?",
        ),
        (
            "  timeOuts:\n    expiresIn: 30 days\n",
            "a.yaml:7: spec.timeOuts.expiresIn: \"30 days\" is not a duration: write a number and a unit (s, m, h, d, w, y), like 72h or 30d; m is minutes",
        ),
        (
            "  amiFilters:\n  - values: [x]\n",
            "a.yaml:7: spec.amiFilters[0].name: a filter needs the name of an EC2 filter, like `name` or `tag:status`",
        ),
        (
            "  amiFilters:\n  - name: x\n",
            "a.yaml:7: spec.amiFilters[0].values: a filter without values finds nothing",
        ),
        (
            "  amiFilters:\n  - name: x\n    values: [null]\n",
            "a.yaml:8: spec.amiFilters[0].values[0]: must be a text, and this is empty",
        ),
        (
            "  builder:\n    dir: ../up\n",
            "a.yaml:7: spec.builder.dir: \"../up\" leaves the repository; write it relative to the repository's root",
        ),
        (
            "  builder:\n    dir: /abs\n",
            "a.yaml:7: spec.builder.dir: \"/abs\" is an absolute path; write it relative to the repository's root",
        ),
        (
            "  builder:\n    inputs: ['a/../../b']\n",
            "a.yaml:7: spec.builder.inputs[0]: \"a/../../b\" leaves the repository; write it relative to the repository's root",
        ),
        (
            "  builder:\n    inputs: ['a[']\n",
            "a.yaml:7: spec.builder.inputs[0]: \"a[\" is not a glob: unclosed character class; missing ']'",
        ),
        (
            "  builder:\n    secret: ../etc\n",
            "a.yaml:7: spec.builder.secret: \"../etc\" is not the name of an object (a-z, 0-9, '-' and '.')",
        ),
        (
            "  builder:\n    commands:\n    - subCommand: biuld\n",
            "a.yaml:8: spec.builder.commands[0].subCommand: \"biuld\" is not one of init, validate, build; did you mean build?",
        ),
        (
            "  builder:\n    commands:\n    - args: [x]\n",
            "a.yaml:8: spec.builder.commands[0].subCommand: is missing: say init, validate or build",
        ),
        (
            "  builder:\n    commands:\n    - subCommand: build\n      onError: retry\n",
            "a.yaml:9: spec.builder.commands[0].onError: \"retry\" is not one of cleanup, abort, ask, run-cleanup-provisioner",
        ),
        (
            "  builder:\n    commands:\n    - subCommand: build\n      workingDir: a/..\n",
            "a.yaml:9: spec.builder.commands[0].workingDir: \"a/..\" leaves the repository; write it relative to the repository's root",
        ),
        (
            "  builder:\n    commands:\n    - subCommand: build\n      variablesFile: /etc/passwd\n",
            "a.yaml:9: spec.builder.commands[0].variablesFile: \"/etc/passwd\" is an absolute path; write it relative to the repository's root",
        ),
        (
            "  builder:\n    commands:\n    - subCommand: build\n      variables: {n: 5}\n",
            "a.yaml:9: spec.builder.commands[0].variables.n: must be a text, and 5 is a number; put it in quotes: \"5\"",
        ),
        (
            "  region: us-east-1\n  region: us-east-2\n",
            "a.yaml:7: duplicate key `region`: it is already on line 6",
        ),
        ("  region: !secret us-east-1\n", "a.yaml:6: spec.region: the tag !secret means nothing here"),
    ] {
        expect(&format!("{BUILDER}{spec}"), &[message]);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = format!("{BUILDER}  regoin: x-1\n  builder:\n    dir: ../up\n");
    let outside = "a.yaml:8: spec.builder.dir: \"../up\" leaves the repository; write it relative to the repository's root";
    expect(&text, &["a.yaml:6: spec.regoin: unknown field; did you mean `region`?", outside]);
}

#[test]
fn wrong_fields_of_a_refresher_name_their_line() {
    for (spec, message) in [
        ("  ami: ami-1\n", "a.yaml:8: spec.ami: \"ami-1\" is not an image id (ami-…)"),
        (
            "  amiFrom: {}\n",
            "a.yaml:8: spec.amiFrom.packerBuilder: must be the name of a PackerBuilder of the same namespace",
        ),
        (
            "  exclude: ['sys[']\n",
            "a.yaml:8: spec.exclude[0]: \"sys[\" is not a glob: unclosed character class; missing ']'",
        ),
        (
            "  nodeGroups:\n    include: ['']\n",
            "a.yaml:9: spec.nodeGroups.include[0]: an empty glob matches nothing",
        ),
        (
            "  expiresIn: soon\n",
            "a.yaml:8: spec.expiresIn: \"soon\" is not a duration: write a number and a unit (s, m, h, d, w, y), like 72h or 30d; m is minutes",
        ),
        (
            "  refreshConfig:\n    maxUnavailable: -1\n",
            "a.yaml:9: spec.refreshConfig.maxUnavailable: -1 is out of bounds: it goes from 1 to 100",
        ),
        (
            "  refreshConfig:\n    maxUnavailable: 9999999999\n",
            "a.yaml:9: spec.refreshConfig.maxUnavailable: 9999999999 is too large",
        ),
        (
            "  refreshConfig:\n    maxUnavailablePercentage: 101\n",
            "a.yaml:9: spec.refreshConfig.maxUnavailablePercentage: 101 is out of bounds: it goes from 1 to 100",
        ),
        (
            "  refreshConfig:\n    maxUnavailable: 1\n    maxUnavailablePercentage: 33\n",
            "a.yaml:10: spec.refreshConfig.maxUnavailablePercentage: EKS takes either a number or a percentage: drop this or `maxUnavailable`",
        ),
    ] {
        expect(&format!("{REFRESHER}{spec}"), &[message]);
    }
    let missing = "apiVersion: ami.opsy.dev/v1alpha1\nkind: AMIRefresher\nmetadata: {name: demo}\nspec:\n  exclude: []\n";
    expect(
        missing,
        &[
            "a.yaml:4: spec.clusterName: is required and missing",
            "a.yaml:4: spec.region: is required and missing",
        ],
    );
}

#[test]
fn wrong_documents_name_their_line() {
    for (text, message) in [
        (
            "apiVersion: ami.opsy.dev/v1\nkind: PackerBuilder\n",
            "a.yaml:1: apiVersion: PackerBuilder has no version v1; write ami.opsy.dev/v1alpha1",
        ),
        (
            "apiVersion: ami.opsi.dev/v1alpha1\nkind: PackerBuilder\n",
            "a.yaml:1: apiVersion: PackerBuilder is of ami.opsy.dev/v1alpha1, not of ami.opsi.dev",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuild\n",
            "a.yaml:1: kind: ami.opsy.dev has no kind PackerBuild; did you mean PackerBuilder?",
        ),
        ("apiVersion: ami.opsy.dev/v1alpha1\n", "a.yaml:1: kind: is required and missing"),
        (
            "kind: AMIRefresher\n",
            "a.yaml:1: apiVersion: is required and missing; AMIRefresher is of ami.opsy.dev/v1alpha1",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nspec: {}\n",
            "a.yaml:1: metadata: is required and missing",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {}\nspec: {}\n",
            "a.yaml:3: metadata.name: is required and missing",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: Node_1\nspec: {}\n",
            "a.yaml:4: metadata.name: \"Node_1\" is not a name: use a-z, 0-9, '-' and '.', beginning and ending with a letter or digit",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n  namespace: a.b\nspec: {}\n",
            "a.yaml:5: metadata.namespace: \"a.b\" is not a namespace: use a-z, 0-9 and '-', at most 63",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n  lables: {}\nspec: {}\n",
            "a.yaml:5: metadata.lables: unknown field; did you mean `labels`?",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n  labels:\n    a: 1\nspec: {}\n",
            "a.yaml:6: metadata.labels.a: must be a text, and 1 is a number; put it in quotes: \"1\"",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n  labels:\n    a: 'x y'\nspec: {}\n",
            "a.yaml:6: metadata.labels.a: \"x y\" is not a valid label value",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n",
            "a.yaml:1: spec: is required and missing",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\nspecs: {}\nspec: {}\n",
            "a.yaml:5: specs: unknown field; did you mean `spec`?",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: [\n",
            "a.yaml:3: is not valid YAML: unclosed bracket '['",
        ),
    ] {
        expect(text, &[message]);
    }
}

#[test]
fn credentials_in_a_url_are_refused_and_not_repeated() {
    for url in [
        "https://me:hunter2@example.com/x.git",
        "https://hunter2@example.com/x",
        "ssh://git:hunter2@example.com/x",
    ] {
        let set = read(&[("a.yaml", &format!("{BUILDER}  builder:\n    repoURL: {url}\n"))]);
        let said = lines(&set).join("\n");
        assert!(said.starts_with("a.yaml:7: spec.builder.repoURL: holds a user or password"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    for url in ["ssh://git@example.com/x.git", "git@example.com:x.git", "https://example.com/x@y"] {
        expect(&format!("{BUILDER}  builder:\n    repoURL: {url}\n"), &[]);
    }
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
            "note a.yaml:6: spec.clusterName: `on` is read as a text, other readers take it for a boolean; put it in quotes",
        ),
        (
            format!("{BUILDER}  region: us-east-1\nstatus:\n  state: x\n"),
            "note a.yaml:7: status: is Opsy's to write and ignored here",
        ),
        (
            format!("{REFRESHER}  refreshConfig:\n    maxUnavailable: 0\n    maxUnavailablePercentage: 33\n"),
            "note a.yaml:9: spec.refreshConfig.maxUnavailable: 0 counts as not set",
        ),
    ] {
        expect(&text, &[note]);
    }
}

#[test]
fn what_kubectl_exports_is_read() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: ami.opsy.dev/v1alpha1\n  kind: PackerBuilder\n  metadata:\n    name: node\n    uid: u\n    resourceVersion: '5'\n    creationTimestamp: null\n    labels: null\n    annotations:\n      kubectl.kubernetes.io/last-applied-configuration: '{}'\n      keep: me\n  spec: {}\n  status: {state: running}\n- apiVersion: v1\n  kind: Secret\n";
    let set = read(&[("a.yaml", text)]);
    assert_eq!(
        lines(&set),
        [
            "note a.yaml:16: status: is Opsy's to write and ignored here",
            "note a.yaml:8: metadata.uid, metadata.resourceVersion: set by the server and ignored here",
            "note a.yaml:17: Secret is not ours: ignored",
        ]
    );
    assert_eq!(set.documents[0].line, 4);
    assert_eq!(
        set.documents[0].json.value()["metadata"],
        json!({"name": "node", "namespace": "default", "annotations": {"keep": "me"}})
    );
}

#[test]
fn neighbours_of_a_broken_object_are_kept() {
    let good = format!("{BUILDER}  region: us-east-1\n");
    let bad = good.replace("name: node", "name: bad").replace("region", "regoin");
    let broken = "apiVersion: ami.opsy.dev/v1alpha1\nkind: [PackerBuilder\n";
    let other = good.replace("name: node", "name: other");
    let set =
        read(&[("a.yaml", &format!("{good}---\n{bad}---\n{broken}---\n{other}")), ("b.yaml", REFRESHER)]);
    let names: Vec<_> = set.documents.iter().map(|document| document.object.key.name.as_str()).collect();
    assert_eq!(names, ["node", "other", "demo"]);
    assert!(!set.complete());
    assert_eq!(set.problems.len(), 2, "{:?}", lines(&set));
}

#[test]
fn of_an_object_that_is_there_twice_neither_is_taken() {
    let one = format!("{BUILDER}  region: us-east-1\n");
    let elsewhere = one.replace("name: node", "name: node\n  namespace: other");
    let set = read(&[
        ("a.yaml", &one),
        ("b.yaml", &format!("# same\n{one}")),
        ("c.yaml", &elsewhere),
        ("d.yaml", REFRESHER),
    ]);
    assert_eq!(
        lines(&set),
        ["b.yaml:2: PackerBuilder/default/node is already at a.yaml:1; neither is taken"]
    );
    let kept: Vec<_> = set.documents.iter().map(|document| document.object.to_string()).collect();
    assert_eq!(kept, ["PackerBuilder/other/node", "AMIRefresher/default/demo"]);
    let same_name = read(&[("opsy.yaml", "namespace: other"), ("a.yaml", &one), ("c.yaml", &elsewhere)]);
    assert!(!same_name.complete(), "the namespace of opsy.yaml makes them the same");
}

#[test]
fn files_of_others_are_ignored_with_a_note() {
    let set = read(&[
        ("comment.yaml", "# nothing\n"),
        ("config.yaml", "apiVersion: v1\nkind: ConfigMap\na: 1\na: 2\n"),
        ("packer/x/cloud-init.yml", "packages: [vim]\n"),
        ("packer/x/template.yaml", "{{ if }}: [\n"),
        ("status/default/packerbuilders/node.yaml", "not: [read"),
        ("README.md", "x"),
    ]);
    assert_eq!(
        lines(&set),
        [
            "note config.yaml:1: ConfigMap is not ours: ignored",
            "note packer/x/cloud-init.yml:1: has no apiVersion and kind, so it is no object: ignored",
            "note packer/x/template.yaml:1: is not valid YAML: unclosed bracket '['; it does not mention ami.opsy.dev: ignored",
        ]
    );
    assert!(set.complete());
}

#[test]
fn unreadable_files_of_ours_are_errors() {
    let mut files = vec![source("large.yaml", &format!("# ami.opsy.dev\n{}", "#".repeat(MAX_FILE_BYTES)))];
    files.push(SourceFile { content: b"kind: PackerBuilder \xff".to_vec(), ..source("latin.yaml", "") });
    let set = Reader::default().read(&files);
    assert_eq!(
        lines(&set),
        [
            "large.yaml:1: has more than 1048576 bytes and is not read",
            "latin.yaml:1: is not UTF-8 text and is not read"
        ]
    );
}

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
            "opsy.yaml:1: accounts[0]: must be a text, and 123456789012 is a number; put it in quotes: \"123456789012\"",
        ),
        (
            "accounts: ['12345']\n",
            "opsy.yaml:1: accounts[0]: \"12345\" is not an account id: 12 digits, in quotes",
        ),
        (
            "\nnamespace: A\n",
            "opsy.yaml:2: namespace: \"A\" is not a namespace: use a-z, 0-9 and '-', at most 63",
        ),
        (
            "statusPath: ../x\n",
            "opsy.yaml:1: statusPath: \"../x\" leaves the repository; write it relative to the path Opsy reads",
        ),
        ("statusPath: .\n", "opsy.yaml:1: statusPath: \".\" must name a folder of its own, like `status`"),
        (
            "prune: {allowMass: on}\n",
            "opsy.yaml:1: prune.allowMass: `on` is a boolean in YAML 1.1 only; write true or false",
        ),
        (
            "publish:\n  quietPeriod: 2\n",
            "opsy.yaml:2: publish.quietPeriod: must be a text, and 2 is a number; put it in quotes: \"2\"",
        ),
        (
            "publish:\n  quietPeriod: 2x\n",
            "opsy.yaml:2: publish.quietPeriod: \"2x\" is not a duration: write a number and a unit (s, m, h, d, w, y), like 72h or 30d; m is minutes",
        ),
        ("publish:\n  branch: 'a b'\n", "opsy.yaml:2: publish.branch: \"a b\" is not the name of a branch"),
        (
            "limits:\n  concurrentBuilds: 0\n",
            "opsy.yaml:2: limits.concurrentBuilds: 0 would build nothing; suspend builders instead",
        ),
        ("author:\n  name: \"a\\nb\"\n", "opsy.yaml:2: author.name: must be one line without < and >"),
        ("a: 1\n---\nb: 1\n", "opsy.yaml:3: holds a second document; settings are one"),
        ("[]\n", "opsy.yaml:1: must be a map, and this is a list"),
    ] {
        let set = read(&[("opsy.yaml", text), ("a.yaml", REFRESHER)]);
        assert_eq!(lines(&set)[0], message, "{text}");
        assert!(set.documents.is_empty(), "nothing is trusted while the owner is unknown");
    }
    let good = read(&[("opsy.yaml", "agentID: team-a\nstatusPath: out\n"), ("out/x.yaml", "[")]);
    assert_eq!((good.settings.agent_id.as_deref(), good.problems.len()), (Some("team-a"), 0));
}

#[test]
fn broken_settings_leave_the_last_good_ones_in_force() {
    let mut reader = Reader::default();
    reader.read(&[source("opsy.yaml", "agentID: team-a\nnamespace: images\n")]);
    let set = reader.read(&[source("opsy.yaml", "agentID: [\n"), source("a.yaml", REFRESHER)]);
    assert_eq!(set.settings.agent_id.as_deref(), Some("team-a"));
    assert_eq!(set.documents[0].object.key.namespace, "images");
    assert!(!set.complete());
}

#[test]
fn a_file_is_parsed_once_per_blob() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut reader = Reader::new(|_| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    });
    let first = reader.read(&[source("a.yaml", REFRESHER)]);
    assert_eq!(
        reader.read(&[source("a.yaml", REFRESHER), source("opsy.yaml", "namespace: default")]).documents,
        first.documents
    );
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    reader.read(&[source("a.yaml", &REFRESHER.replace("demo", "other"))]);
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    assert_eq!(reader.parsed.len(), 1, "what is gone is forgotten");
}

#[test]
fn rules_of_others_are_reported_with_their_line() {
    let mut reader = Reader::new(|document| match document.json.value()["spec"].get("region") {
        Some(region) if region == "moon" => vec![("spec.region".to_owned(), "is far".to_owned())],
        Some(_) => Vec::new(),
        None => vec![("spec.builder.dir".to_owned(), "is needed".to_owned())],
    });
    let bad = format!("{BUILDER}  builder:\n    branch: x\n    dir: d\n");
    let moon = BUILDER.replace("node", "moon") + "  region: moon\n";
    let set = reader.read(&[source("a.yaml", &bad), source("b.yaml", REFRESHER), source("c.yaml", &moon)]);
    assert_eq!(
        lines(&set),
        [
            "a.yaml:8: spec.builder.dir: is needed",
            "c.yaml:6: spec.region: \"moon\" is not a region (like eu-west-1)"
        ],
        "a field is named once"
    );
    assert_eq!(set.documents.len(), 1);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: \\{name: x\\}\nspec:\n)?[ -~\n]{0,120}") {
        read(&[("a.yaml", &text), ("opsy.yaml", &text)]);
    }
}
