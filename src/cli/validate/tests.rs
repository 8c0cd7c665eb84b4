//! `opsy validate` on folders: the checks that it adds to the rules of the agent, and its output.

mod setters;

use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;

/// The objects and problems of a folder.
fn folder_set(folder: &Path, root: Option<&Path>) -> Found {
    read_one(folder, root, io::empty()).unwrap()
}

fn read_one(path: &Path, root: Option<&Path>, input: impl Read) -> anyhow::Result<Found> {
    read(path, root, input, &Listed::default())
}

fn read_every(paths: &[PathBuf], root: Option<&Path>, input: impl Read) -> anyhow::Result<Found> {
    read_all(paths, root, input, &Listed::default())
}

/// The output for a path.
fn printed(path: &Path, set: &Found, verbose: bool) -> String {
    let mut set = set.clone();
    for problem in &mut set.problems {
        problem.file = shown(path, &problem.file).display().to_string();
    }
    print::text(&set, verbose)
}

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
    folder_set(folder, None).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_folder_has_no_problems() {
    let folder = repository(GOOD);
    let set = folder_set(folder.path(), None);
    assert_eq!(set.problems, []);
    assert_eq!(printed(Path::new("."), &set, false), "1 valid object, 0 errors, 0 notes\n");
}

#[test]
fn templates_and_files_that_are_not_there_are_named_with_their_line() {
    let commands = "    commands:\n    - subCommand: build\n      workingDir: packer/gone\n      variablesFile: packer/none.pkrvars.hcl\n";
    for (text, expected) in [
        (
            GOOD.replace("packer/node", "packer/nod"),
            vec![
                "builders/node.yaml:8: spec.builder.dir: template \"packer/nod\" does not exist in the repository",
            ],
        ),
        (
            GOOD.replace("packer/node", "builders"),
            vec![
                "builders/node.yaml:8: spec.builder.dir: template \"builders\" contains no Packer template (*.pkr.hcl, *.pkr.json)",
            ],
        ),
        (
            GOOD.replace("    dir: packer/node\n", "    branch: main\n"),
            vec![
                "builders/node.yaml:7: spec.builder: template \".\" contains no Packer template (*.pkr.hcl, *.pkr.json)",
            ],
        ),
        (
            format!("{GOOD}{commands}"),
            vec![
                "builders/node.yaml:11: spec.builder.commands[0].workingDir: template \"packer/gone\" does not exist in the repository",
                "builders/node.yaml:12: spec.builder.commands[0].variablesFile: variables file \"packer/none.pkrvars.hcl\" does not exist in the repository",
            ],
        ),
        (
            format!("{GOOD}    repoURL: https://git.example.com/templates.git\n")
                .replace("packer/node", "elsewhere"),
            vec![
                "builders/node.yaml:9: spec.builder.repoURL: templates of https://git.example.com/templates.git are not checked; --fetch fetches and checks them",
            ],
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
    assert_eq!(
        said(&policy),
        ["node.yaml:8: spec.builder.dir: template \"packer/node\" does not exist in the repository"]
    );
    assert!(folder_set(&policy, Some(folder.path())).count(Severity::Error) == 0);
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
    let said = said(folder.path());
    assert_eq!(said.len(), 1, "what is read itself is not hidden by a link: {said:?}");
    assert!(
        said[0].starts_with("builders/node.yaml:8: spec.builder.dir: packer/away is a link to"),
        "{said:?}"
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
            "builders/node.yaml:4: spec.builder: is required: set dir to the path of the Packer template",
            "builders/node.yaml:4: spec.region: is required: name the AWS region in which the image is built"
        ]
    );
}

#[test]
fn people_get_lines_and_machines_get_json() {
    let folder = repository(&GOOD.replace("region", "regoin"));
    put(folder.path(), "other.yaml", "kind: ConfigMap\n");
    put(folder.path(), ".git/config.yaml", "apiVersion: ami.opsy.dev/v1alpha1\n");
    let set = folder_set(folder.path(), None);
    assert_eq!(
        printed(Path::new("policy"), &set, false),
        "policy/builders/node.yaml:6: spec.regoin: unknown field; did you mean `region`?\n\
         0 valid objects, 1 error, 0 notes, 1 YAML file of other tools (-v lists them)\n"
    );
    let json = print::json(&set);
    assert_eq!((&json["errors"], &json["notes"], &json["objects"]), (&json!(1), &json!(0), &json!([])));
    assert_eq!(json["problems"][0]["line"], 6);
    assert_eq!(json["problems"][0]["severity"], "error");
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    assert!(read_one(Path::new("/nonexistent"), None, io::empty()).is_err());
}

#[test]
fn the_example_repository_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo");
    let set = folder_set(&folder, Some(&folder));
    assert_eq!(set.problems, []);
    assert_eq!(set.documents.len(), 2);
}

#[test]
fn what_was_written_for_the_operator_is_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/operator");
    let set = folder_set(&folder, None);
    let errors: Vec<_> = set.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    assert_eq!(errors, Vec::<&Problem>::new());
    assert_eq!(set.documents.len(), 6);
}

#[test]
fn a_json_template_beside_its_scripts_is_good() {
    let builder = "  region: us-east-1\n  builder:\n    dir: packer\n    commands: [{subCommand: build, workingDir: packer/web.json}]\n";
    let folder = repository(&(GOOD[..GOOD.find("  region").unwrap()].to_owned() + builder));
    put(folder.path(), "packer/web.json", "{\"builders\": []}");
    assert_eq!(said(folder.path()), Vec::<String>::new());
}

#[test]
fn what_the_build_does_not_read_stops_nothing() {
    let folder = repository(GOOD);
    fs::create_dir_all(folder.path().join("docs")).unwrap();
    symlink("/usr/share/doc", folder.path().join("docs/latest")).unwrap();
    put(folder.path(), "plugins/x/.git", "gitdir: elsewhere");
    put(folder.path(), "plugins/x/broken.yaml", "kind: PackerBuilder\n  a");
    assert_eq!(said(folder.path()), Vec::<String>::new());
    symlink("/etc/passwd", folder.path().join("packer/node/link")).unwrap();
    let said = said(folder.path());
    assert!(said.len() == 1 && said[0].contains("packer/node/link is a link to"), "{said:?}");
}

#[test]
fn a_pointer_of_git_lfs_is_named_although_the_file_is_here() {
    let folder = repository(GOOD);
    git2::Repository::init(folder.path()).unwrap();
    put(folder.path(), ".gitattributes", "*.rpm filter=lfs\n");
    put(folder.path(), "packer/node/agent.rpm", "the file itself");
    let said = said(folder.path());
    assert!(said.len() == 1 && said[0].contains("packer/node/agent.rpm is a Git LFS pointer"), "{said:?}");
    put(folder.path(), ".opsyignore", "*.rpm\n[z\n");
    let said = super::tests::said(folder.path());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with(".opsyignore:2: \"[z\" is not a valid pattern"), "{said:?}");
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 812\n";
const REMEDY: &str = "if it is not meant for Opsy, list it in .opsyignore";

/// The agent reports the same errors for such a commit: `tests/it/git/sync.rs` expects the same text.
#[test]
fn what_cannot_be_read_is_the_same_error_as_the_agents() {
    let folder = repository(GOOD);
    fs::write(folder.path().join("builders/large.yaml"), "#".repeat(1024 * 1024 + 1)).unwrap();
    put(folder.path(), "shared/big.bin", POINTER);
    symlink("../shared/big.bin", folder.path().join("builders/link.yaml")).unwrap();
    put(folder.path(), "builders/pointer.yaml", POINTER);
    let lines = [
        "builders/large.yaml:1: has more than 1048576 bytes and is not read; ",
        "builders/link.yaml:1: is a link to shared/big.bin, and links are not followed: commit the file itself, without Git LFS; ",
        "builders/pointer.yaml:1: is a Git LFS pointer, and the file itself is not in the repository: commit it without LFS; ",
    ];
    assert_eq!(said(folder.path()), lines.map(|line| format!("{line}{REMEDY}")));
    let large = folder.path().join("builders/large.yaml");
    let set = read_one(&large, Some(folder.path()), io::empty()).unwrap();
    assert!(
        set.count(Severity::Error) > 0 && set.problems[0].message.contains("is not read"),
        "{:?}",
        set.problems
    );
}

#[test]
fn an_ignore_file_that_cannot_be_read_is_an_error() {
    let folder = repository(GOOD);
    let ignore = folder.path().join(".opsyignore");
    fs::write(&ignore, b"caf\xe9/\n").unwrap();
    assert_eq!(said(folder.path()), [".opsyignore: is not UTF-8 text: save it as UTF-8"]);
    fs::remove_file(&ignore).unwrap();
    symlink("packer/node/node.pkr.hcl", &ignore).unwrap();
    let links = said(folder.path());
    assert_eq!(links, [".opsyignore: is a link, and links are not followed: commit the file itself"]);
    fs::remove_file(&ignore).unwrap();
    fs::create_dir(&ignore).unwrap();
    put(folder.path(), ".opsyignore/x", "");
    assert_eq!(said(folder.path()), [".opsyignore: is a directory: replace it with a file, or remove it"]);
    fs::remove_dir_all(&ignore).unwrap();
    put(folder.path(), ".opsyignore", "vendor/\n");
    put(folder.path(), "vendor/.opsyignore/x", "");
    assert_eq!(said(folder.path()), Vec::<String>::new(), "it is in a folder that is left out");
}

#[test]
fn one_file_and_standard_input_can_be_read() {
    let folder = repository(GOOD);
    put(folder.path(), "builders/bad.yaml", &GOOD.replace("region", "regoin"));
    let good = folder.path().join("builders/node.yaml");
    let set = read_one(&good, Some(folder.path()), io::empty()).unwrap();
    assert_eq!((set.problems.as_slice(), set.documents.len()), (&[][..], 1));
    let bad = folder.path().join("builders/bad.yaml");
    let set = read_one(&bad, Some(folder.path()), io::empty()).unwrap();
    let expected = format!("{}:6: spec.regoin: unknown field", bad.display());
    assert!(printed(&bad, &set, false).starts_with(&expected), "{}", printed(&bad, &set, false));
    let text = GOOD.replace("region", "regoin");
    let set = read_one(Path::new("-"), Some(folder.path()), text.as_bytes()).unwrap();
    assert!(printed(Path::new("-"), &set, false).starts_with("stdin:6: spec.regoin"));
    assert!(read_one(&folder.path().join("packer/node/node.pkr.hcl"), None, io::empty()).is_err());
}

#[test]
fn files_that_name_our_kinds_and_are_ignored_are_noted() {
    let folder = repository(GOOD);
    let templated = GOOD.replace("name: node", "name: {{ .name }}");
    put(folder.path(), "charts/x/Chart.yaml", "apiVersion: v2\nname: x\n");
    put(folder.path(), "charts/x/templates/pb.yaml", &templated);
    put(folder.path(), "charts/x/templates/cm.yaml", "kind: ConfigMap\nmetadata: {name: {{ .name }}}\n");
    put(folder.path(), "overlays/kustomization.yaml", "patches: [{path: patch.yaml}]\n");
    put(folder.path(), "overlays/patch.yaml", GOOD);
    put(folder.path(), "scaffold/pb.yaml", &templated);
    let set = folder_set(folder.path(), None);
    let text = printed(Path::new("."), &set, false);
    for line in [
        "charts/x/templates/pb.yaml:1: note: is a template of the Helm chart \"charts/x\": ignored",
        "overlays/patch.yaml:1: note: is a patch of overlays/kustomization.yaml: ignored",
        "scaffold/pb.yaml:1: note: is a template ({{ }}), not a manifest: ignored",
        "1 valid object, 0 errors, 3 notes, 3 YAML files of other tools (-v lists them)\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("cm.yaml"), "{text}");
}

#[test]
fn files_of_other_tools_are_counted_and_listed_when_asked_for() {
    let folder = repository(GOOD);
    put(folder.path(), "a.yaml", "kind: ConfigMap\n---\nkind: Secret\n");
    put(folder.path(), "b.yaml", "packages: [vim]\n");
    let set = folder_set(folder.path(), None);
    let summary = "1 valid object, 0 errors, 0 notes, 2 YAML files of other tools";
    assert_eq!(printed(Path::new("."), &set, false), format!("{summary} (-v lists them)\n"));
    let all = printed(Path::new("."), &set, true);
    assert!(
        all.contains("a.yaml:1: note: ")
            && all.contains("ignored, and 1 more in this file")
            && all.contains("b.yaml:1: note: ")
            && all.ends_with(&format!("{summary}\n")),
        "{all}"
    );
    assert_eq!(print::json(&set)["ignored"], 2);
}

#[test]
fn a_file_name_makes_no_line_of_its_own() {
    let folder = repository(GOOD);
    put(folder.path(), "builders/x\n::set-output name=a::b.yaml", "kind: PackerBuilder\n\tx");
    let text = printed(Path::new("."), &folder_set(folder.path(), None), true);
    assert!(text.contains("builders/x ::set-output"), "{text}");
    assert!(text.lines().all(|line| !line.trim_start().starts_with("::")), "{text}");
}

#[test]
fn several_paths_are_checked_each_by_itself() {
    let folder = repository(GOOD);
    put(folder.path(), "other/node.yaml", &GOOD.replace("region", "regoin"));
    fs::create_dir(folder.path().join(".git")).unwrap();
    let paths =
        |names: &[&str]| -> Vec<PathBuf> { names.iter().map(|name| folder.path().join(name)).collect() };
    let set = read_every(&paths(&["builders", "other"]), None, io::empty()).unwrap();
    assert_eq!((set.documents.len(), set.problems.len()), (1, 1));
    let expected = format!("{}:6: spec.regoin", folder.path().join("other/node.yaml").display());
    assert!(print::text(&set, false).starts_with(&expected), "{}", print::text(&set, false));
    let again = ["other/node.yaml", "builders/node.yaml", "builders", "other", "./other"];
    let again = read_every(&paths(&again), None, io::empty()).unwrap();
    assert_eq!((again.documents.len(), again.problems.len()), (1, 1), "{:?}", again.problems);
    let mixed = [paths(&["builders"]), vec![PathBuf::from("-")]].concat();
    let set = read_every(&mixed, Some(folder.path()), GOOD.replace("region", "regoin").as_bytes()).unwrap();
    assert!(print::text(&set, false).starts_with("stdin:6: spec.regoin"), "{}", print::text(&set, false));
    let stdin = PathBuf::from("-");
    assert!(read_every(&[stdin.clone(), stdin], None, io::empty()).is_err());
    assert!(read_every(&paths(&["builders", "none"]), None, io::empty()).is_err());
}
