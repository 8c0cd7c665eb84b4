//! Notes about builders whose templates were not written for Opsy.

use serde_json::{Value, json};

use super::*;
use crate::git::{Entry, EntryKind};

/// Calls `ask` with a repository of these paths and contents. The ID of a file is its content.
fn ask<T>(files: &[(&str, &str)], ask: impl Fn(&Repository<'_>) -> T) -> T {
    let entry = |(path, text): &(&str, &str)| {
        ((*path).to_owned(), Entry { id: (*text).to_owned(), kind: EntryKind::File { executable: false } })
    };
    let listing: Listing = files.iter().map(entry).collect();
    let (opsy_files, text) = (OpsyFiles::default(), |id: &str| Some(id.to_owned()));
    ask(&Repository { listing: &listing, opsy_files: &opsy_files, is_source: false, text: &text })
}

fn object(builder: Value) -> PackerBuilder {
    let spec = json!({"region": "us-east-1", "builder": builder});
    let metadata = json!({"name": "node", "namespace": "default"});
    let object = json!({"apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder", "metadata": metadata, "spec": spec});
    serde_json::from_value(object).expect("a builder")
}

fn notes_of(files: &[(&str, &str)], builder: Value) -> Vec<String> {
    let object = object(builder);
    assert_eq!(ask(files, |repository| problems(&object, repository)), [], "it is valid");
    ask(files, |repository| notes(&object, repository)).into_iter().map(|(_, words)| words).collect()
}

/// Checks that there is exactly one note, and that it contains these parts.
fn expect(files: &[(&str, &str)], builder: Value, parts: &[&str]) {
    let notes = notes_of(files, builder);
    assert!(notes.len() == 1 && parts.iter().all(|part| notes[0].contains(part)), "{parts:?}: {notes:?}");
}

const SCRIPT: &str = "provisioner \"shell\" { script = \"scripts/a.sh\" }";

#[test]
fn a_template_written_for_its_own_folder_is_told_of_run_from() {
    let files = [("packer/web/scripts/a.sh", "1"), ("packer/web/web.pkr.hcl", SCRIPT)];
    expect(
        &files,
        json!({"dir": "packer/web"}),
        &["scripts/a.sh", "packer/web/scripts/a.sh", "runFrom: Template"],
    );
    assert_eq!(notes_of(&files, json!({"dir": "packer/web", "runFrom": "Template"})), [""; 0]);
    let shared = [("packer/shared/a.sh", "1"), ("packer/web/web.pkr.hcl", "script = \"../shared/a.sh\"")];
    let parts = ["runFrom: Template", "add packer/shared/a.sh to spec.builder.inputs"];
    expect(&shared, json!({"dir": "packer/web"}), &parts);
    let builder = json!({"dir": "packer/web", "runFrom": "Template"});
    expect(&shared, builder, &["does not receive packer/shared/a.sh", "spec.builder.inputs"]);
    let builder = json!({"dir": "packer/web", "runFrom": "Template", "inputs": ["packer/shared/**"]});
    assert_eq!(notes_of(&shared, builder), [""; 0]);
}

#[test]
fn a_template_written_for_the_root_is_told_of_run_from() {
    let files = [("packer/web/web.pkr.hcl", "script = \"scripts/a.sh\""), ("scripts/a.sh", "1")];
    expect(&files, json!({"dir": "packer/web"}), &["does not receive scripts/a.sh"]);
    let builder = json!({"dir": "packer/web", "runFrom": "Template", "inputs": ["scripts"]});
    expect(&files, builder, &["runFrom: Repository"]);
}

#[test]
fn a_template_below_dir_is_told_where_packer_runs() {
    let build = json!({"subCommand": "build", "workingDir": "images/ami/web.pkr.hcl"});
    let builder = |run_from: &str| json!({"dir": "images", "runFrom": run_from, "commands": [build]});
    let above = [("images/a.sh", "1"), ("images/ami/web.pkr.hcl", "script = \"a.sh\"")];
    expect(&above, builder("Repository"), &["images/a.sh", "runFrom: Template"]);
    assert_eq!(notes_of(&above, builder("Template")), [""; 0]);
    let beside = [("images/ami/a.sh", "1"), ("images/ami/web.pkr.hcl", "script = \"a.sh\"")];
    for run_from in ["Repository", "Template"] {
        expect(&beside, builder(run_from), &["images/ami/a.sh", "prefix it with ${path.root}/"]);
    }
}

#[test]
fn a_file_beside_a_template_that_is_no_input_is_named() {
    let files = [("packer/a.sh", "1"), ("packer/web.json", "{\"script\": \"{{template_dir}}/a.sh\"}")];
    let build = json!({"subCommand": "build", "workingDir": "packer/web.json"});
    expect(&files, json!({"commands": [build]}), &["a change to packer/a.sh", "does not trigger a build"]);
    assert_eq!(notes_of(&files, json!({"dir": "packer", "commands": [build]})), [""; 0]);
}

#[test]
fn a_template_at_the_root_is_narrowed_by_inputs() {
    let files = [("README.md", "1"), ("web.pkr.hcl", "source")];
    expect(&files, json!({"dir": "."}), &["at the repository's root", ".opsyignore"]);
    assert_eq!(notes_of(&files, json!({"dir": ".", "inputs": ["web.pkr.hcl"]})), [""; 0]);
}

#[test]
fn several_sources_for_one_lane_are_named() {
    let two = "source \"amazon-ebs\" \"std\" {\n}\nsource \"amazon-ebs\" \"gpu\" {\n}\n";
    let files = [("packer/web.pkr.hcl", two)];
    expect(&files, json!({"dir": "packer"}), &["amazon-ebs.std, amazon-ebs.gpu", "-only=amazon-ebs.std"]);
    let only = json!({"subCommand": "build", "args": ["-only=amazon-ebs.gpu"]});
    assert_eq!(notes_of(&files, json!({"dir": "packer", "commands": [only]})), [""; 0]);
    let arm = two.replace("\"gpu\" {\n", "\"gpu\" {\n  instance_type = \"m7g.large\"\n");
    assert_eq!(notes_of(&[("packer/web.pkr.hcl", &arm)], json!({"dir": "packer"})), [""; 0]);
}

#[test]
fn removing_the_image_first_is_named() {
    let build = json!({"subCommand": "build", "args": ["-var", "a=b", "-force"]});
    let object = object(json!({"dir": "packer", "commands": [build]}));
    let files = [("packer/web.pkr.hcl", "force_deregister  = true")];
    let notes = ask(&files, |repository| notes(&object, repository));
    let fields: Vec<_> = notes.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["spec.builder.commands[0].args[2]", "spec.builder"]);
    assert!(notes.iter().all(|(_, words)| words.contains("there is no active image")), "{notes:?}");
}

#[test]
fn filters_that_find_several_architectures_are_named() {
    let filter = |name: &str, values: &[&str]| json!({"name": name, "values": values});
    let owner = filter("owner-alias", &["amazon"]);
    for (filters, expected) in [
        (vec![filter("name", &["al2023-ami-2023.*"])], true),
        (vec![filter("name", &["*-x86_64-*", "*-other-*"])], true),
        (vec![filter("architecture", &["x86_64", "arm64"])], true),
        (vec![filter("name", &["al2023-ami-*-x86_64"])], false),
        (vec![filter("name", &["al2023-*"]), filter("architecture", &["arm64"])], false),
        (vec![filter("image-id", &["ami-1"])], false),
    ] {
        let mut object = object(json!({"repoURL": "https://git.example.com/x.git"}));
        let filters: Vec<Value> = filters.into_iter().chain([owner.clone()]).collect();
        object.spec.ami_filters = serde_json::from_value(json!(filters)).expect("filters");
        let notes = ask(&[], |repository| notes(&object, repository));
        let elsewhere = (
            "spec.builder.repoURL".to_owned(),
            "templates of https://git.example.com/x.git are not checked; --fetch fetches and checks them"
                .to_owned(),
        );
        assert!(notes.contains(&elsewhere), "{notes:?}");
        assert_eq!(notes.len() == 2, expected, "{filters:?}: {notes:?}");
    }
}

#[test]
fn problems_name_the_field_they_are_in() {
    let files = [("packer/web.pkr.hcl", "1")];
    let build = |field: &str, value: Value| json!({"dir": "packer", "commands": [{"subCommand": "build", field: value}]});
    for (builder, expected) in [
        (json!({"dir": "none"}), "spec.builder.dir"),
        (json!({}), "spec.builder"),
        (build("workingDir", json!("./none")), "spec.builder.commands[0].workingDir"),
        (build("variablesFile", json!("none.hcl")), "spec.builder.commands[0].variablesFile"),
        (build("args", json!(["-only=a", "-var-file=none.hcl"])), "spec.builder.commands[0].args[1]"),
        (json!({"dir": "packer", "inputs": ["packer", "none/**"]}), "spec.builder.inputs[1]"),
        (
            json!({"dir": "none", "commands": [{"subCommand": "build", "workingDir": "packer"}]}),
            "spec.builder.dir",
        ),
    ] {
        let object = object(builder.clone());
        let found = ask(&files, |repository| problems(&object, repository));
        assert_eq!(
            found.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(),
            [expected],
            "{builder}"
        );
    }
    let elsewhere = object(json!({"dir": "none", "repoURL": "https://git.example.com/x.git"}));
    assert_eq!(ask(&files, |repository| problems(&elsewhere, repository)), []);
}
