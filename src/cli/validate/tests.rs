//! `opsy validate` on folders: what it adds to the rules of the agent, and how it prints.

use std::os::unix::fs::symlink;

use super::*;

const GOOD: &str = "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: node\nspec:\n  region: us-east-1\n  builder:\n    dir: packer/node\n";

fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A folder with a template, and the given builder.
fn repository(builder: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "packer/node/node.pkr.hcl", "");
    put(folder.path(), "builders/node.yaml", builder);
    folder
}

fn said(folder: &Path) -> Vec<String> {
    super::folder(folder, None).unwrap().problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_folder_has_no_problems() {
    let folder = repository(GOOD);
    let set = super::folder(folder.path(), None).unwrap();
    assert_eq!(set.problems, []);
    assert_eq!(as_text(&set, Path::new(".")), "1 good object, 0 errors, 0 notes\n");
}

#[test]
fn templates_and_files_that_are_not_there_are_named_with_their_line() {
    let commands = "    commands:\n    - subCommand: build\n      workingDir: packer/gone\n      variablesFile: packer/none.pkrvars.hcl\n";
    for (text, expected) in [
        (
            GOOD.replace("packer/node", "packer/nod"),
            vec!["builders/node.yaml:8: spec.builder.dir: \"packer/nod\" is not there"],
        ),
        (
            GOOD.replace("packer/node", "builders"),
            vec![
                "builders/node.yaml:8: spec.builder.dir: \"builders\" holds no Packer template (*.pkr.hcl, *.pkr.json)",
            ],
        ),
        (
            GOOD.replace("    dir: packer/node\n", "    branch: main\n"),
            vec![
                "builders/node.yaml:7: spec.builder: \".\" holds no Packer template (*.pkr.hcl, *.pkr.json)",
            ],
        ),
        (
            format!("{GOOD}{commands}"),
            vec![
                "builders/node.yaml:11: spec.builder.commands[0].workingDir: \"packer/gone\" is not there",
                "builders/node.yaml:12: spec.builder.commands[0].variablesFile: \"packer/none.pkrvars.hcl\" is not there",
            ],
        ),
        (
            format!("{GOOD}    repoURL: https://git.example.com/templates.git\n")
                .replace("packer/node", "elsewhere"),
            vec![],
        ),
        (
            format!(
                "{GOOD}{}",
                commands
                    .replace("packer/gone", "packer/node/node.pkr.hcl")
                    .replace("packer/none.pkrvars.hcl", "builders/node.yaml")
            ),
            vec![],
        ),
    ] {
        assert_eq!(said(repository(&text).path()), expected, "{text}");
    }
}

#[test]
fn templates_may_be_relative_to_the_work_tree() {
    let folder = repository("");
    put(folder.path(), "policy/node.yaml", GOOD);
    let policy = folder.path().join("policy");
    assert_eq!(said(&policy), ["node.yaml:8: spec.builder.dir: \"packer/node\" is not there"]);
    assert!(super::folder(&policy, Some(folder.path())).unwrap().complete());
    fs::create_dir(folder.path().join(".git")).unwrap();
    assert_eq!(said(&policy), Vec::<String>::new());
}

#[test]
fn links_are_not_followed() {
    let folder = repository(&GOOD.replace("packer/node", "packer/away"));
    let outside = tempfile::tempdir().unwrap();
    put(outside.path(), "x.pkr.hcl", "");
    symlink(outside.path(), folder.path().join("packer/away")).unwrap();
    symlink("node.yaml", folder.path().join("builders/again.yaml")).unwrap();
    assert_eq!(
        said(folder.path()),
        [
            "builders/again.yaml: is a link: not read",
            "builders/node.yaml:8: spec.builder.dir: \"packer/away\" is a link that leads out of the repository",
            "packer/away: is a link that leads out of the folder: refused",
        ]
    );
}

#[test]
fn rules_of_the_reconcilers_are_applied() {
    let folder = repository(
        "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {name: node}\nspec:\n  clusterName: demo\n",
    );
    assert_eq!(
        said(folder.path()),
        [
            "builders/node.yaml:4: spec.builder: missing: say where the Packer template is",
            "builders/node.yaml:4: spec.region: missing: name the AWS region the image is built in"
        ]
    );
}

#[test]
fn people_get_lines_and_machines_get_json() {
    let folder = repository(&GOOD.replace("region", "regoin"));
    put(folder.path(), "other.yaml", "kind: ConfigMap\n");
    put(folder.path(), ".git/config.yaml", "apiVersion: ami.opsy.dev/v1alpha1\n");
    let set = super::folder(folder.path(), None).unwrap();
    assert_eq!(
        as_text(&set, Path::new("policy")),
        "policy/builders/node.yaml:6: spec.regoin: unknown field; did you mean `region`?\n\
         0 good objects, 1 error, 0 notes\n"
    );
    let json = as_json(&set);
    assert_eq!((&json["errors"], &json["notes"], &json["objects"]), (&json!(1), &json!(0), &json!([])));
    assert_eq!(json["problems"][0]["line"], 6);
    assert_eq!(json["problems"][0]["severity"], "error");
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    assert!(super::folder(Path::new("/nonexistent"), None).is_err());
}

#[test]
fn the_example_repository_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo");
    let set = super::folder(&folder, Some(&folder)).unwrap();
    assert_eq!(set.problems, []);
    assert_eq!(set.documents.len(), 2);
}

#[test]
fn what_was_written_for_the_operator_is_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/operator");
    let set = super::folder(&folder, None).unwrap();
    let errors: Vec<_> = set.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    assert_eq!(errors, Vec::<&Problem>::new());
    assert_eq!(set.documents.len(), 6);
}
