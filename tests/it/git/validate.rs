//! `opsy validate --fetch`: template repositories are fetched and checked before a manifest is merged.

use std::path::Path;
use std::process::{Command, Output};

use super::bed::Bed;

fn manifest(url: &str, branch: &str, dir: &str, secret: &str) -> String {
    format!(
        "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: node\nspec:\n  region: us-east-1\n  \
         gitSync:\n    secret: {secret}\n  builder:\n    repoURL: {url}\n    branch: {branch}\n    dir: {dir}\n    \
         commands:\n    - subCommand: build\n      workingDir: {dir}\n      variablesFile: {dir}/x.pkrvars.hcl\n"
    )
}

fn validate(folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_opsy"))
        .args(["validate", "--output", "text"])
        .args(more)
        .arg(folder)
        .env("OPSY_SECRET_DEFAULT_GIT__TOKEN", "hunter2")
        .env("OPSY_SECRET_DEFAULT_OTHER__TOKEN", "wrong-5up3r")
        .output()
        .expect("opsy runs")
}

#[test]
fn what_a_template_repository_does_not_have_is_found_before_the_merge() {
    let bed = Bed::guarded("*:hunter2\n");
    let files =
        [("node/node.pkr.hcl", Some("")), ("node/x.pkrvars.hcl", Some("")), ("bare/readme", Some(""))];
    bed.remote().commit("main", &files);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("node.yaml");
    let url = bed.url();
    let check = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).expect("written");
        let output = validate(folder.path(), more);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("hunter2") && !said.contains("5up3r"), "{said}");
        (output.status.success(), said)
    };

    let (good, said) = check(&manifest(&url, "main", "node", "git"), &[]);
    assert!(good && said.contains("are not checked; --fetch fetches and checks them"), "{said}");
    assert_eq!(bed.journal(), Vec::<String>::new(), "nothing is fetched without the flag");
    let (good, said) = check(&manifest(&url, "main", "node", "git"), &["--fetch"]);
    assert!(good && said.contains("1 valid object, 0 errors, 0 notes"), "{said}");
    assert_eq!(
        bed.journal().iter().filter(|line| line.contains("info/refs")).count(),
        2,
        "one fetch, after the challenge"
    );

    for (text, words) in [
        (manifest(&url, "release", "node", "git"), "has no branch \"release\", only main"),
        (
            manifest(&url, "main", "nod", "git"),
            ":15: spec.builder.commands[0].workingDir: template \"nod\" does not exist",
        ),
        (manifest(&url, "main", "bare", "git"), "contains no Packer template"),
        (manifest(&url, "main", "node", "other"), "refuses the credentials"),
        (manifest(&url, "main", "node", "none"), "default/none"),
        (manifest(&url.replace("repo.git", "gone.git"), "main", "node", "git"), "is not a Git repository"),
    ] {
        let (good, said) = check(&text, &["--fetch"]);
        assert!(!good && said.contains(words), "{words}: {said}");
    }

    let mirrored = manifest("https://git.example/team/repo.git", "main", "node", "git");
    let rewrite = format!("https://git.example/team/={}", url.trim_end_matches("repo.git"));
    let (good, said) = check(&mirrored, &["--fetch", "--git-rewrite", &rewrite]);
    assert!(good, "{said}");
}
