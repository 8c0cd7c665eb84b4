//! `opsy check` on one machine: what it finds, what it says of each missing part, and that it changes nothing. The tests
//! in a cluster are in `cluster/check.rs`.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::chat::{CHANNEL, Chat, TOKEN};
use crate::world::{Outcome, World, run};

/// A run of `opsy check`.
pub struct Checked {
    pub outcome: Outcome,
    report: Value,
}

impl Checked {
    pub fn by(mut opsy: Command) -> Self {
        opsy.args(["check", "--output", "json"]);
        let outcome = run(opsy);
        let report = serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
        Self { outcome, report }
    }

    pub fn code(&self) -> Option<i32> {
        self.outcome.status.code()
    }

    /// Names of the checks of a group with this outcome.
    pub fn with(&self, group: &str, outcome: &str) -> Vec<&str> {
        let checks = self.report["checks"].as_array().expect("a list").iter();
        let found = checks.filter(|check| check["group"] == group && check["outcome"] == outcome);
        found.filter_map(|check| check["name"].as_str()).collect()
    }

    /// Outcome, message and remedy of a check.
    pub fn line(&self, name: &str) -> [&str; 3] {
        let mut checks = self.report["checks"].as_array().expect("a list").iter();
        let found = checks.find(|check| check["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no check {name}: {:#}", self.report));
        ["outcome", "message", "remedy"].map(|field| found[field].as_str().unwrap_or_default())
    }

    /// Asserts that this check alone of its group is not as it should be, and returns its message with the remedy.
    pub fn only_fails(&self, group: &str, name: &str) -> String {
        let (failed, unknown) = (self.with(group, "Failed"), self.with(group, "Undetermined"));
        assert_eq!((failed, unknown), (vec![name], vec![]), "{:#}", self.report);
        assert_eq!((self.code(), &self.report["passed"]), (Some(1), &json!(false)));
        let [_, message, remedy] = self.line(name);
        assert!(!message.is_empty() && !remedy.is_empty(), "{message} → {remedy}");
        format!("{message} → {remedy}")
    }

    pub fn assert_passed(&self) {
        for group in ["Git", "AWS", "Cluster", "Packer", "Notifications"] {
            for outcome in ["Failed", "Undetermined"] {
                assert_eq!(self.with(group, outcome), Vec::<&str>::new(), "{group}: {:#}", self.report);
            }
        }
        assert_eq!((self.code(), &self.report["passed"]), (Some(0), &json!(true)), "{:?}", self.outcome);
    }
}

/// Calls to AWS that are neither reads nor dry runs.
pub fn changes(world: &World) -> Vec<String> {
    let is_read = |operation: &str| ["Describe", "List"].iter().any(|read| operation.starts_with(read));
    let journal = world.account.journal();
    let calls =
        journal.iter().map(|call| (call["operation"].as_str().expect("a name"), &call["params"]["DryRun"]));
    let others = calls.filter(|(operation, dry)| {
        !is_read(operation) && *operation != "GetCallerIdentity" && **dry != json!(true)
    });
    others.map(|(operation, _)| operation.to_owned()).collect()
}

fn check(world: &World) -> Checked {
    Checked::by(world.opsy())
}

fn check_with(world: &World, name: &str, value: &str) -> Checked {
    let mut opsy = world.opsy();
    opsy.env(name, value);
    Checked::by(opsy)
}

#[test]
fn everything_is_fine_before_the_first_run_and_after_it_and_nothing_is_changed() {
    let world = World::new();
    let log = world.log();
    let first = check(&world);
    first.assert_passed();
    assert!(!world.state().exists());
    assert_eq!((world.log(), changes(&world)), (log, Vec::<String>::new()));
    let [_, read, _] = first.line("read");
    let tip = world.git(&world.remote(), &["rev-parse", "main"]);
    assert!(read.contains("branch main") && read.ends_with(&tip[..12]), "{read}");
    assert_eq!(first.line("manifests")[1], "2 objects: PackerBuilder 1, AMIRefresher 1; no problems");
    assert!(first.line("push")[1].contains("to branch main; nothing was pushed"), "{:?}", first.line("push"));
    assert!(first.line("identity")[1].contains(&world.account.id));
    assert!(first.line("packer")[1].starts_with("Packer v"), "{:?}", first.line("packer"));
    assert_eq!(first.line("us-east-1 ec2:CreateTags")[0], "Skipped");
    for operation in ["CreateLaunchTemplateVersion", "DeleteLaunchTemplateVersions", "RunInstances"] {
        let name = format!("us-east-1 ec2:{operation} (node group batch of cluster demo)");
        assert_eq!(first.line(&name)[0], "Passed");
    }

    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let resources = || {
        let state = world.account.state();
        ["images", "snapshots", "launch_templates", "updates", "node_groups"].map(|kind| state[kind].clone())
    };
    let (log, before) = (world.log(), resources());
    world.account.clear_journal();
    let second = check(&world);
    second.assert_passed();
    assert_eq!(second.line("us-east-1 ec2:CreateTags")[0], "Passed");
    assert_eq!(second.line("us-east-1 eks:DescribeUpdate (demo)")[0], "Passed");
    assert_eq!((world.log(), changes(&world)), (log, Vec::<String>::new()));
    assert_eq!(resources(), before);

    let mut opsy = world.opsy();
    opsy.args(["check", "--output", "text"]);
    let text = run(opsy).stdout;
    for line in [
        "Git\n  ✔ read: branch main of ",
        "\nAWS\n  ✔ identity: ",
        "  - other rights: ",
        "\nPacker\n  ✔ packer: ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn a_token_that_may_only_read_fails_the_push_alone() {
    let world = World::served(Some("x-access-token:token-1\nx-access-token:token-2"));
    world.push_folder(&crate::world::fixtures().join("repo"), "policy: first");
    let server = world.server.as_ref().expect("a server");
    server.only_reads(&["x-access-token"]);
    let why = check_with(&world, "OPSY_GIT_TOKEN", "token-1").only_fails("Git", "push");
    assert!(why.contains("refuses the credentials") && why.contains("write access"), "{why}");
    assert!(!why.contains("token-1"), "{why}");
    world.push(&[("opsy.yaml", Some("publish: {enabled: false}\n"))], "policy: publish nothing");
    let unpublished = check_with(&world, "OPSY_GIT_TOKEN", "token-1");
    assert_eq!((unpublished.code(), unpublished.line("push")[0]), (Some(0), "Skipped"));

    server.only_reads(&[]);
    world.push(&[("opsy.yaml", Some("publish: {branch: opsy-status}\n"))], "policy: another branch");
    let other = check_with(&world, "OPSY_GIT_TOKEN", "token-2");
    other.assert_passed();
    assert!(other.line("push")[1].contains("branch opsy-status, which the first push creates"));
    assert_eq!(server.remote().tip("opsy-status"), None);

    let mistaken = check_with(&world, "OPSY_GIT_TOKEN", "token-3");
    assert_eq!(mistaken.with("Git", "Failed"), ["read", "push"]);
    assert_eq!((mistaken.line("identity")[0], mistaken.line("rights")[0]), ("Passed", "Skipped"));
}

/// Attaches the agent's policy without these actions.
fn deny(world: &World, actions: &[&str]) {
    let policy = json!({
        "user": "agent", "access_key": world.account.env()["AWS_ACCESS_KEY_ID"],
        "files": ["agent.json"], "values": {"VPC": world.seed["vpc"]},
    });
    let mut documents = world.account.post("policy", policy.clone())["documents"].clone();
    for document in documents.as_array_mut().expect("a list") {
        let statements = document["Statement"].as_array_mut().expect("a list");
        for statement in statements.iter_mut() {
            let all = match &statement["Action"] {
                Value::Array(all) => all.clone(),
                one => vec![one.clone()],
            };
            let rest: Vec<Value> = all
                .into_iter()
                .filter(|action| !actions.contains(&action.as_str().unwrap_or_default()))
                .collect();
            statement["Action"] = json!(rest);
        }
        statements.retain(|statement| statement["Action"] != json!([]));
    }
    let mut attached = policy;
    attached["files"] = Value::Null;
    attached["documents"] = documents;
    world.account.post("policy", attached);
}

#[test]
fn each_missing_right_is_named_with_what_to_allow() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    world.account.clear_journal();
    let denied = [
        "ec2:DescribeVolumes",
        "ec2:CreateTags",
        "ec2:CreateLaunchTemplateVersion",
        "ec2:RunInstances",
        "eks:ListUpdates",
        "autoscaling:DescribeLifecycleHooks",
    ];
    deny(&world, &denied);
    let checked = check(&world);
    let failed = checked.with("AWS", "Failed");
    for action in denied {
        let name = failed
            .iter()
            .find(|name| name.contains(action))
            .unwrap_or_else(|| panic!("{action}: {failed:?}"));
        let [_, message, remedy] = checked.line(name);
        assert!(
            message.contains(action) && remedy.starts_with(&format!("Allow {action} to the agent")),
            "{message} → {remedy}"
        );
        assert!(!message.contains("Encoded authorization"), "{message}");
    }
    assert!(failed.iter().all(|name| denied.iter().any(|action| name.contains(action))), "{failed:?}");
    // Whether a volume could be deleted is unknown, which is no success.
    assert_eq!(checked.with("AWS", "Undetermined"), ["us-east-1 ec2:DeleteVolume"]);
    assert_eq!(checked.code(), Some(1));
    assert_eq!(changes(&world), Vec::<String>::new());
}

#[test]
fn another_account_and_an_unclear_response_are_no_success() {
    let world = World::new();
    world.push(&[("opsy.yaml", Some("agentID: test\naccounts: ['111122223333']\n"))], "policy: one account");
    let why = check(&world).only_fails("AWS", "identity");
    assert!(why.contains("which accounts in opsy.yaml does not list"), "{why}");
    world.push(&[("opsy.yaml", Some("agentID: test\n"))], "policy: any account");
    world.account.fault(json!({"service": "ec2", "operation": "DescribeKeyPairs", "kind": "error", "code": "InternalError", "status": 500, "lasting": 1800}));
    let checked = check(&world);
    assert!(
        checked.with("AWS", "Undetermined").contains(&"us-east-1 ec2:DescribeKeyPairs"),
        "{:?}",
        checked.outcome
    );
    assert_eq!(checked.code(), Some(1));
}

#[test]
fn flags_manifests_and_packer_are_checked_to_the_end() {
    let world = World::new();
    world.edit(
        "builders/node.yaml",
        "  region: us-east-1",
        "  region: us-east-1\n  bogus: 1",
        "policy: mistake",
    );
    let missing = world.root().join("missing");
    let mut opsy = world.opsy();
    opsy.env("OPSY_PACKER", &missing).env("OPSY_PACKER_PLUGINS", &missing).env("OPSY_SIGNING_KEY", &missing);
    let checked = Checked::by(opsy);
    assert_eq!(checked.with("Git", "Failed"), ["signatures", "manifests"]);
    assert_eq!(checked.with("Packer", "Failed"), ["packer", "plugins"]);
    let [_, message, remedy] = checked.line("manifests");
    assert!(message.contains("builders/node.yaml:7: spec.bogus: unknown field"), "{message}");
    assert!(remedy.contains("`opsy validate`"), "{remedy}");
    assert_eq!(checked.line("identity")[0], "Passed");
    assert_eq!(checked.code(), Some(1));

    let script = world.root().join("not-packer");
    fs::write(&script, "#!/bin/sh\necho Terraform v1\n").expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    let why =
        check_with(&world, "OPSY_PACKER", script.to_str().expect("UTF-8")).only_fails("Packer", "packer");
    assert!(why.contains("\"Terraform v1\" instead of its version"), "{why}");
}

#[test]
fn a_sink_needs_its_secret_and_slack_accepts_the_token_without_a_message() {
    let world = World::new();
    let notifier = "notifier: {slack: {channelIDs: [C0DEMO0001], secret: team}, sns: {topicARN: 'arn:aws:sns:us-east-1:111122223333:opsy'}}\n";
    world.push(&[("opsy.yaml", Some(&format!("agentID: test\n{notifier}")))], "policy: notify");
    let chat = Chat::start();
    let with_token = |token: Option<&str>| {
        let mut opsy = world.opsy();
        opsy.env("OPSY_SLACK_API", format!("{}/api/", chat.url));
        opsy.envs(token.map(|token| ("OPSY_SECRET_DEFAULT_TEAM__TOKEN", token)));
        Checked::by(opsy)
    };
    let why = with_token(None).only_fails("Notifications", "slack/C0DEMO0001");
    assert!(why.contains("default/team") && why.contains("notifier in opsy.yaml"), "{why}");
    let why = with_token(Some("xoxb-revoked")).only_fails("Notifications", "slack/C0DEMO0001");
    assert!(why.contains("rejects the bot's token (invalid_auth)") && !why.contains("xoxb-revoked"), "{why}");
    let checked = with_token(Some(TOKEN));
    checked.assert_passed();
    assert!(checked.line("slack/C0DEMO0001")[1].contains("bot opsy of workspace bed"));
    assert_eq!(checked.line("sns/arn:aws:sns:us-east-1:111122223333:opsy")[0], "Skipped");
    assert_eq!(chat.messages(CHANNEL), Vec::<Value>::new());
    assert!(chat.calls().iter().all(|call| call[0] == "/api/auth.test"), "{:?}", chat.calls());
    assert_eq!(changes(&world), Vec::<String>::new());
}
