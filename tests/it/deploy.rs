//! The files in `deploy` match the program: the IAM policies name every call, and the chart has every setting.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Actions of the policy that are no calls of `src/aws`, each with what needs it.
const BESIDE_CALLS: [(&str, &str); 4] = [
    (
        "ec2:RunInstances",
        "EKS and EC2 Auto Scaling try a launch in the caller's name before they update a group",
    ),
    ("iam:PassRole", "that launch, which passes the nodes' role"),
    ("ses:SendEmail", "notifier.ses"),
    ("sns:Publish", "notifier.sns"),
];

/// Actions that a policy allows.
fn allowed(policy: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deploy/iam").join(policy)).expect("a policy");
    let policy: Value = serde_json::from_str(&text).expect("JSON");
    let statements = policy["Statement"].as_array().expect("statements");
    let actions = statements.iter().flat_map(|statement| match &statement["Action"] {
        Value::Array(actions) => actions.clone(),
        action => vec![action.clone()],
    });
    actions.map(|action| action.as_str().expect("an action").to_owned()).collect()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// Operations that the sources call, as named in their errors.
fn called() -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for path in sources(&root().join("src/aws")) {
        let text = fs::read_to_string(&path).expect("a source file");
        for (at, mark) in text.match_indices(".failed(\"") {
            let service = text[..at].rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let operation = text[at + mark.len()..].split('"').next().unwrap_or_default();
            called.insert(format!("{service}:{operation}"));
        }
    }
    called
}

/// Other tests run under the policy, which shows that it suffices. This test also finds a missing action for a call
/// that no other test makes, and an action that nothing needs.
#[test]
fn the_agents_policy_names_every_call_and_no_other() {
    let (called, allowed) = (called(), allowed("agent.json"));
    assert!(called.len() > 20, "the calls are found: {called:#?}");
    // AWS always allows this call.
    let needed = called.iter().filter(|action| *action != "sts:GetCallerIdentity");
    let missing: Vec<_> = needed.filter(|action| !allowed.contains(*action)).collect();
    assert!(missing.is_empty(), "not in agent.json: {missing:?}");
    let beside: BTreeSet<String> = BESIDE_CALLS.map(|(action, _)| action.to_owned()).into();
    let surplus: Vec<_> = allowed.difference(&called).filter(|action| !beside.contains(*action)).collect();
    assert!(surplus.is_empty(), "nothing needs {surplus:?}");
    let gone: Vec<_> =
        beside.iter().filter(|action| !allowed.contains(*action) || called.contains(*action)).collect();
    assert!(gone.is_empty(), "wrong entries of BESIDE_CALLS: {gone:?}");
}

#[test]
fn one_command_updates_the_definitions_wherever_it_is_named() {
    let notes =
        fs::read_to_string(root().join("deploy/chart/templates/NOTES.txt")).expect("the chart's notes");
    assert!(notes.contains(opsy::api::INSTALL_DEFINITIONS), "{notes}");
}

#[test]
fn secrets_are_read_by_name_and_nothing_else_is_done_to_them() {
    let chart = root().join("deploy/chart");
    let rules = |file: &str| -> Vec<PolicyRule> {
        let text = fs::read_to_string(chart.join("files").join(file)).expect("the chart's rules");
        serde_saphyr::from_str(&text).expect("a list of rules")
    };
    let about = |resource: &str, rule: &PolicyRule| rule.resources.iter().flatten().any(|it| it == resource);
    for file in ["role.yaml", "role-builds.yaml"] {
        let secrets: Vec<_> =
            rules(file).into_iter().filter(|rule| about("secrets", rule) || about("*", rule)).collect();
        let [rule] = secrets.as_slice() else { panic!("not exactly one rule: {secrets:?}") };
        assert_eq!(
            rule.resources,
            Some(vec!["secrets".to_owned()]),
            "a separate rule, so that names can be added to it"
        );
        assert_eq!(
            (rule.api_groups.as_deref(), rule.verbs.as_slice()),
            (Some(&[String::new()][..]), &["get".to_owned()][..])
        );
    }
    let anywhere = [rules("clusterrole.yaml"), rules("clusterrole-nodes.yaml")].concat();
    assert!(!anywhere.iter().any(|rule| about("secrets", rule) || about("*", rule)), "{anywhere:?}");
    // The names in the values are added to the rule.
    let read = |path: &str| fs::read_to_string(chart.join(path)).expect("a file of the chart");
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).expect("YAML");
    assert_eq!(values["notifications"]["secrets"], serde_json::json!([]));
    assert_eq!(values["builds"]["secrets"], serde_json::json!([]));
    for named in ["$.root.Values.notifications.secrets", "$values.builds.secrets"] {
        assert!(read("templates/_helpers.tpl").contains(&format!(r#"set . "resourceNames" {named}"#)));
    }
}

#[test]
fn the_agent_only_lists_nodes_and_what_runs_on_them() {
    let file = root().join("deploy/chart/files/clusterrole-nodes.yaml");
    let text = fs::read_to_string(file).expect("the chart's rules");
    let rules: Vec<PolicyRule> = serde_saphyr::from_str(&text).expect("a list of rules");
    assert!(rules.iter().all(|rule| rule.verbs == ["list"]), "{rules:?}");
    let resources: BTreeSet<&str> =
        rules.iter().flat_map(|rule| rule.resources.iter().flatten()).map(String::as_str).collect();
    assert_eq!(resources, ["nodes", "poddisruptionbudgets", "pods"].into());
}

/// Settings that the chart leaves to `env` and `extraArgs`, each with the reason.
const NOT_IN_THE_CHART: [(&str, &str); 7] = [
    ("SSH_AUTH_SOCK", "a pod has no SSH agent: the chart mounts a signing key"),
    ("OPSY_KUBECONFIG", "the pod's own cluster"),
    ("OPSY_IDENTITY", "the name of the pod"),
    ("OPSY_PACKER", "builds run in Jobs"),
    ("OPSY_PACKER_PLUGINS", "builds run in Jobs"),
    ("OPSY_SECRETS", "Secrets are those of the cluster"),
    ("OPSY_PASS_ENV", "builds run in Jobs"),
];

#[test]
fn the_chart_sets_the_variables_there_are() {
    let files = [root().join("src/settings.rs")].into_iter().chain(sources(&root().join("src/settings")));
    let flags: String = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    let template =
        fs::read_to_string(root().join("deploy/chart/templates/deployment.yaml")).expect("a template");
    let names: BTreeSet<String> = template
        .split("name: OPSY_")
        .skip(1)
        .filter_map(|rest| rest.split([',', '\n', '}']).next())
        .map(|name| format!("OPSY_{}", name.trim()))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    let known: BTreeSet<String> = flags
        .split("env = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect();
    let none: Vec<_> = names.difference(&known).collect();
    assert!(none.is_empty(), "not settings of Opsy: {none:?}");
    let left_out: Vec<_> =
        known.difference(&names).filter(|name| !NOT_IN_THE_CHART.iter().any(|(it, _)| it == name)).collect();
    assert!(left_out.is_empty(), "the chart has no value for {left_out:?}");
}

#[test]
fn the_chart_installs_the_definitions_of_the_program() {
    let chart = fs::canonicalize(root().join("deploy/chart/crds")).expect("the chart's definitions");
    let truth = fs::canonicalize(root().join("schemas/crds")).expect("the program's definitions");
    assert_eq!(chart, truth);
    assert!(Path::new(&chart).join("packerbuilders.yaml").exists());
}

#[test]
fn the_readme_says_what_terraform_must_ignore_and_what_no_proxy_may_see() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let readme = read("README.md");
    for words in
        ["ignore_changes = [launch_template[0].version]", "status/amis.json", "eksctl", "CloudFormation"]
    {
        assert!(readme.contains(words), "{words}");
    }
    for file in [readme, read("deploy/chart/values.yaml")] {
        for address in ["169.254.170.23", "[fd00:ec2::23]", "169.254.169.254"] {
            assert!(file.contains(address), "{address}");
        }
    }
}

/// The names of tests in the last column of the tables, and in parentheses below them.
fn named_tests(page: &str) -> BTreeSet<&str> {
    let spans = page.split('`').skip(1).step_by(2);
    spans.filter(|span| span.matches('_').count() >= 3 && span.chars().all(is_of_a_name)).collect()
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

#[test]
fn every_boundary_of_the_security_page_is_held_by_a_test_there_is() {
    let page = fs::read_to_string(root().join("docs/security.md")).expect("the page");
    let folders = ["src", "runner/src", "tests/it", "tests/bed"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| sources(folder));
    let is_code = |path: &PathBuf| path.extension().is_some_and(|it| it == "rs" || it == "py");
    let code: Vec<String> = files.filter(is_code).filter_map(|path| fs::read_to_string(path).ok()).collect();
    let is_there = |name: &str| {
        let (rust, python) = (format!("fn {name}("), format!("def {name}("));
        code.iter().any(|text| text.contains(&rust) || text.contains(&python))
    };
    let named = named_tests(&page);
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "there are no such tests: {missing:?}");
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [attempt, _, test] = cells[..] else { continue };
        assert!(test == "test" || !named_tests(test).is_empty(), "the row names no test: {attempt}");
    }
}
