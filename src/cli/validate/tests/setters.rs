//! `opsy validate` on setters.

use super::*;

#[test]
fn setters_that_cannot_be_set_are_named_with_their_line() {
    const MARKER: &str = "{\"$opsy\": \"REF\"}";
    let hcl = |reference: &str| format!("# x\nami = \"ami-1\" # {}\n", MARKER.replace("REF", reference));
    let repository = repository(GOOD);
    let folder = repository.path();
    let settings =
        "setters:\n  paths: ['**']\n  json: [{path: a.json, pointer: /x, value: 'node:us-east-1:x86_64'}]\n";
    put(folder, "opsy.yaml", settings);
    put(folder, "infra/good.tfvars", &hcl("default/node:us-east-1:x86_64"));
    put(folder, "infra/builder.tfvars", &hcl("other/node:us-east-1:x86_64"));
    put(folder, "infra/lane.tfvars", &hcl("node:us-east-1:arm64"));
    put(folder, "infra/form.tfvars", &hcl("node"));
    put(folder, "packer/node/x.auto.pkrvars.hcl", &hcl("node:us-east-1:x86_64"));
    put(folder, "status/x.tfvars", &hcl("node:us-east-1:x86_64"));
    put(
        folder,
        "infra/place.yaml",
        &format!("a: # {}\n  b\n", MARKER.replace("REF", "node:us-east-1:x86_64")),
    );
    let amis = "{\"default/node\": {\"us-east-1\": {\"x86_64\": \"ami-2\"}}}";
    put(folder, "status/amis.json", amis);
    let due = [
        "a.json:1: is not a file of at most",
        "infra/builder.tfvars:2: PackerBuilder other/node is not declared in the repository",
        "infra/form.tfvars:2: \"node\" is not a reference to an image",
        "infra/lane.tfvars:2: PackerBuilder default/node has no image for us-east-1:arm64; it has images for us-east-1:x86_64",
        "infra/place.yaml:1: the marker has no value before it in its line",
        "packer/node/x.auto.pkrvars.hcl:2: is an input of PackerBuilder/default/node",
        "status/x.tfvars:2: is in the status directory",
    ];
    let all = folder_set(folder, None);
    let errors = all.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let errors: Vec<String> = errors.map(ToString::to_string).collect();
    assert_eq!(errors.len(), due.len(), "{errors:#?}");
    for (error, due) in errors.iter().zip(due) {
        assert!(error.starts_with(due), "{due}: {error}");
    }
    put(folder, "a.json", "{\"x\": \"ami-1\"}");
    put(folder, ".opsyignore", "infra/\nstatus/x.tfvars\n");
    let said = said(folder);
    assert!(!said.iter().any(|line| line.starts_with("a.json")), "{said:?}");
    assert!(
        said.iter().any(|line| line.starts_with("infra/lane.tfvars:2")),
        "ignored files are edited: {said:?}"
    );
}

#[test]
fn setters_are_checked_as_by_the_agent() {
    let repository =
        repository(&GOOD.replace("dir:", "repoURL: https://git.example.com/platform/images\n    dir:"));
    let folder = repository.path();
    put(folder, "opsy.yaml", "setters: {paths: ['**']}\n");
    put(folder, "packer/node/x.pkrvars.hcl", "ami = \"ami-1\" # {\"$opsy\": \"node:us-east-1:x86_64\"}\n");
    let notes = said(folder);
    assert!(
        notes.len() == 1 && notes[0].contains("are not checked; --fetch"),
        "another repository: {notes:?}"
    );
    let clone = git2::Repository::init(folder).unwrap();
    clone.remote("origin", "git@git.example.com:platform/images.git").unwrap();
    let errors = said(folder);
    let due = "packer/node/x.pkrvars.hcl:1: is an input of PackerBuilder/default/node";
    assert!(errors.len() == 1 && errors[0].starts_with(due), "{errors:?}");
    (0..997).for_each(|number| put(folder, &format!("infra/{number}.tfvars"), ""));
    assert_eq!(said(folder), ["opsy.yaml: setters.paths: matches 1001 files, more than 1000: name fewer"]);
}
