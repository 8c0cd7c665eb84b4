//! Several files together: the files around a manifest, duplicates, files of other tools, and what is remembered
//! between commits.

use proptest::prelude::*;

use super::*;
use crate::manifest::file::MAX_FILE_BYTES;

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
        ["b.yaml:2: PackerBuilder/default/node is already defined at a.yaml:1; neither definition is used"]
    );
    let kept: Vec<_> = set.documents.iter().map(|document| document.object.to_string()).collect();
    assert_eq!(kept, ["PackerBuilder/other/node", "AMIRefresher/default/demo"]);
    let same_name = read(&[("opsy.yaml", "namespace: other"), ("a.yaml", &one), ("c.yaml", &elsewhere)]);
    assert!(!same_name.complete(), "the namespace of opsy.yaml makes them the same");
}

#[test]
fn files_of_others_are_ignored() {
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
            "foreign config.yaml:1: ConfigMap is not a kind of Opsy: ignored",
            "foreign packer/x/cloud-init.yml:1: has no apiVersion and kind, so it is not a Kubernetes object: ignored",
            "foreign packer/x/template.yaml:1: is not valid YAML: unclosed bracket '['; it does not mention ami.opsy.dev: ignored",
        ]
    );
    assert!(set.complete());
}

#[test]
fn unreadable_files_of_ours_are_errors() {
    let mut files = vec![source("large.yaml", &format!("# ami.opsy.dev\n{}", "#".repeat(MAX_FILE_BYTES)))];
    files.push(SourceFile {
        content: b"kind: PackerBuilder \xff".to_vec().into(),
        ..source("latin.yaml", "")
    });
    let set = Reader::default().read(&files);
    assert_eq!(
        lines(&set),
        [
            "large.yaml:1: has more than 1048576 bytes and is not read; if it is not meant for Opsy, list it in .opsyignore",
            "latin.yaml:1: is not UTF-8 text: save it as UTF-8; if it is not meant for Opsy, list it in .opsyignore"
        ]
    );
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 812\n";

/// Returns the message about a file that makes the set incomplete.
fn error_of(file: SourceFile) -> String {
    let path = file.path.clone();
    let set = Reader::default().read(&[file]);
    assert!(!set.complete() && set.documents.is_empty(), "{path}: {:?}", lines(&set));
    set.problems[0].message.clone()
}

#[test]
fn what_a_manifest_turned_into_is_an_error() {
    let utf16 =
        |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<_>>();
    for (name, content) in [
        ("little", utf16(&format!("\u{feff}{REFRESHER}"), u16::to_le_bytes)),
        ("big", utf16(&format!("\u{feff}{REFRESHER}"), u16::to_be_bytes)),
        ("no mark", utf16(REFRESHER, u16::to_le_bytes)),
    ] {
        let words = error_of(SourceFile { content: content.into(), ..source("a.yaml", "") });
        assert!(words.contains("save it as UTF-8"), "{name}: {words}");
    }
    assert!(error_of(source("a.yaml", POINTER)).contains("Git LFS pointer"));
    let unfit =
        |content: &str| SourceFile { form: Form::Unfit("is a link".to_owned()), ..source("a.yaml", content) };
    assert!(error_of(unfit(REFRESHER)).contains("is a link"));
    assert!(Reader::default().read(&[unfit("packages: [vim]")]).complete(), "it hides no object of Opsy");
    let mut reader = Reader::default();
    assert!(reader.read(&[source("a.yaml", REFRESHER)]).complete());
    assert!(!reader.read(&[unfit(REFRESHER)]).complete(), "a link has the same blob as its target");
    let unknown = SourceFile { form: Form::Unknown("is a submodule".to_owned()), ..source("a.yaml", "") };
    assert!(error_of(unknown).contains("is a submodule"));
    let foreign =
        SourceFile { content: utf16("packages: [vim]", u16::to_le_bytes).into(), ..source("b.yaml", "") };
    assert!(Reader::default().read(&[foreign]).complete());
    let marked = Reader::default().read(&[source("a.yaml", &format!("\u{feff}{REFRESHER}"))]);
    assert_eq!(
        (lines(&marked), marked.documents.len()),
        (Vec::new(), 1),
        "a byte order mark is not part of the text"
    );
}

#[test]
fn a_folder_of_manifests_that_turned_into_a_submodule_is_an_error() {
    let submodule =
        || SourceFile { form: Form::Unknown("is a submodule".to_owned()), ..source("builders", "") };
    assert!(Reader::default().read(&[submodule()]).complete(), "it never contained objects");
    let mut reader = Reader::default();
    assert!(reader.read(&[source("builders/a.yaml", REFRESHER)]).complete());
    for _ in 0..2 {
        assert_eq!(
            lines(&reader.read(&[submodule()])),
            ["builders:1: is a submodule; if it is not meant for Opsy, list it in .opsyignore"]
        );
    }
    assert!(reader.read(&[]).complete(), "a deleted file is not an error");
    assert!(reader.read(&[submodule()]).complete());
}

#[test]
fn a_file_that_held_an_object_before_the_start_is_still_its_own() {
    let submodule =
        || SourceFile { form: Form::Unknown("is a submodule".to_owned()), ..source("builders", "") };
    let templated = || source("builders/a.yaml", &REFRESHER.replace("name: demo", "name: {{ .name }}"));
    let encrypted =
        || SourceFile { content: b"\0GITCRYPT\0\xff".to_vec().into(), ..source("builders/a.yaml", "") };
    let emptied = || source("builders/a.yaml", "");
    for (file, is_error) in
        [(submodule(), true), (templated(), true), (encrypted(), true), (emptied(), false)]
    {
        let mut reader = Reader::default();
        assert!(reader.read(std::slice::from_ref(&file)).complete(), "it is another tool's: {file:?}");
        reader.known_files().learn(["builders/a.yaml".to_owned()]);
        let set = reader.read(std::slice::from_ref(&file));
        assert_eq!(set.complete(), !is_error, "{file:?}: {:?}", lines(&set));
    }
}

const CHART_TEMPLATE: &str = "{{- range .Values.images }}\n---\napiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: {{ .name }}\n{{- end }}\n";

#[test]
fn templates_and_patches_of_other_tools_leave_the_set_complete() {
    let patch = format!("{BUILDER}  region: us-west-2\n");
    let quoted = BUILDER.replace("name: node", "name: \"{{ .Values.name }}\"") + "  region: us-east-1\n";
    let in_name = "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: {{ cookiecutter.name }}\nspec: {}\n";
    let set = read(&[
        ("builders/node.yaml", &format!("{BUILDER}  region: us-east-1\n")),
        ("charts/images/Chart.yaml", "apiVersion: v2\nname: images\n"),
        ("charts/images/templates/deep/quoted.yaml", &quoted),
        ("charts/images/templates/pb.yaml", CHART_TEMPLATE),
        ("overlays/prod/kustomization.yaml", "resources: [../../builders]\npatches: [{path: patch.yaml}]\n"),
        ("overlays/prod/patch.yaml", &patch),
        ("scaffold/pb.yaml", in_name),
    ]);
    assert!(set.complete(), "{:?}", lines(&set));
    let names: Vec<_> = set.documents.iter().map(|document| document.file.as_str()).collect();
    assert_eq!(names, ["builders/node.yaml"], "a patch is not a second object with that name");
    let said: Vec<_> = lines(&set).into_iter().filter(|line| line.starts_with("note ")).collect();
    let chart =
        "is a template of the Helm chart \"charts/images\": ignored, although it mentions kinds of Opsy";
    assert_eq!(
        said,
        [
            format!("note charts/images/templates/deep/quoted.yaml:1: {chart}"),
            format!("note charts/images/templates/pb.yaml:1: {chart}"),
            "note overlays/prod/patch.yaml:1: is a patch of overlays/prod/kustomization.yaml: ignored, although it mentions kinds of Opsy".to_owned(),
            "note scaffold/pb.yaml:1: is a template ({{ }}), not a manifest: ignored, although it mentions kinds of Opsy".to_owned(),
        ]
    );
}

#[test]
fn a_resource_of_a_kustomization_is_a_manifest() {
    let set = read(&[
        ("builders/kustomization.yaml", "resources: [demo.yaml]\npatches: [{path: demo.yaml}]\n"),
        ("builders/demo.yaml", REFRESHER),
    ]);
    assert_eq!((set.complete(), set.documents.len()), (true, 1));
}

#[test]
fn a_manifest_does_not_become_another_tools_template() {
    let mut reader = Reader::default();
    assert!(reader.read(&[source("a.yaml", REFRESHER)]).complete());
    let templated = source("a.yaml", &REFRESHER.replace("name: demo", "name: {{ .name }}"));
    for _ in 0..2 {
        assert!(!reader.read(std::slice::from_ref(&templated)).complete(), "its object would be pruned");
    }
    assert!(Reader::default().read(&[templated]).complete());
    let kustomization = source("kustomization.yaml", "kind: Kustomization\npatches:\n- path: b.yaml\n");
    assert_eq!(reader.read(&[source("b.yaml", REFRESHER)]).documents.len(), 1);
    let patched = reader.read(&[source("b.yaml", REFRESHER), kustomization]);
    assert_eq!(
        patched.documents.len(),
        1,
        "a manifest does not become a patch of another tool: {:?}",
        lines(&patched)
    );
    let in_a_value = format!("{BUILDER}  region: {{{{ .Values.region }}}}\n");
    assert!(
        !read(&[("a.yaml", &in_a_value)]).complete(),
        "a template action in a value is a mistake in a manifest"
    );
}

#[test]
fn files_of_ours_are_listed_for_the_builds_that_do_not_go_by_them() {
    let mut broken = BUILDER.to_owned();
    broken.push_str("  regoin: us-east-1\n");
    let set = read(&[
        ("a.yaml", REFRESHER),
        ("b.yaml", &broken),
        ("c.yaml", "packages: [vim]\n"),
        ("opsy.yaml", ""),
    ]);
    assert_eq!(*set.own_files, ["opsy.yaml", "a.yaml", "b.yaml"].map(str::to_owned).into());
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
    assert_eq!(reader.parsed.len(), 1, "a deleted file is forgotten");
}

#[test]
fn rules_of_others_are_reported_with_their_line() {
    let mut reader = Reader::new(|document| match document.json.value()["spec"].get("failurePolicy") {
        Some(_) => vec![("spec.failurePolicy.limit".to_owned(), "is not a number of failures".to_owned())],
        None if document.object.key.name == "demo" => Vec::new(),
        None => vec![("spec.builder.dir".to_owned(), "is needed".to_owned())],
    });
    let bad = format!("{BUILDER}  builder:\n    branch: x\n    dir: d\n");
    let none = BUILDER.replace("node", "none") + "  failurePolicy: {limit: 0}\n";
    let set = reader.read(&[source("a.yaml", &bad), source("b.yaml", REFRESHER), source("c.yaml", &none)]);
    assert_eq!(
        lines(&set),
        [
            "a.yaml:8: spec.builder.dir: is needed",
            "c.yaml:6: spec.failurePolicy.limit: 0 is out of range: the minimum is 1"
        ],
        "each field is reported once"
    );
    assert_eq!(set.documents.len(), 1);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: \\{name: x\\}\nspec:\n)?[ -~\n]{0,120}") {
        read(&[("a.yaml", &text), ("opsy.yaml", &text)]);
    }
}

#[test]
fn a_commit_with_more_findings_than_are_kept_still_names_every_broken_file() {
    let broken: String =
        BUILDER.to_owned() + &(0..300).map(|n| format!("  field{n}: 1\n")).collect::<String>();
    let files: Vec<(String, String)> =
        (0..100).map(|n| (format!("{n:03}.yaml"), format!("{broken}# {n}\n"))).collect();
    let sources: Vec<_> = files.iter().map(|(path, text)| source(path, text)).collect();
    let mut reader = Reader::default();
    for _ in 0..2 {
        let set = reader.read(&sources);
        assert!(set.problems.len() < FINDINGS + 3 * files.len(), "{}", set.problems.len());
        let of = |file: &str| -> Vec<&Problem> {
            set.problems.iter().filter(|problem| problem.file == file).collect()
        };
        assert_eq!(of("000.yaml").len(), 201);
        assert!(of("000.yaml")[200].message == "and 100 more", "{}", of("000.yaml")[200].message);
        for (path, _) in &files {
            assert!(of(path).iter().any(|problem| problem.severity == Severity::Error), "{path}");
        }
        let kept: usize = reader.parsed.values().map(|parsed| parsed.file.kept()).sum();
        assert!(kept <= FINDINGS + file::FINDINGS, "{kept}");
    }
    let set = reader.read(&sources[99..]);
    assert_eq!(set.problems.len(), 201, "{:?}", set.problems.first());
}

#[test]
fn documents_of_other_tools_are_one_finding_per_file() {
    let many = "kind: Pod\napiVersion: v1\n---\n".repeat(10_000);
    let set = read(&[("a.yaml", &many)]);
    assert_eq!(
        lines(&set),
        ["foreign a.yaml:1: Pod is not a kind of Opsy: ignored, and 9999 more in this file"]
    );
}

#[test]
fn a_message_about_a_huge_key_is_short() {
    let text = format!("{BUILDER}  {}: 1\n", "k".repeat(100_000));
    let set = read(&[("a.yaml", &text)]);
    assert!(!set.complete() && set.problems.iter().all(|problem| problem.message.len() < 2000));
}

#[test]
fn reading_ends_where_there_are_more_objects_than_an_agent_works_with() {
    let object = |n: usize| format!("---\n{}", REFRESHER.replace("name: demo", &format!("name: n{n}")));
    let file = |k: usize| (k * 2500..(k + 1) * 2500).map(object).collect::<String>();
    let mut sources: Vec<_> = (0..4).map(|k| source(&format!("{k}.yaml"), &file(k))).collect();
    let mut reader = Reader::default();
    let set = reader.read(&sources);
    assert_eq!(
        (set.documents.len(), set.too_many_objects),
        (OBJECT_LIMIT, false),
        "{:?}",
        set.problems.first()
    );
    sources.push(source("4.yaml", &object(10_000)));
    sources.push(source("5.yaml", "never: read"));
    let set = reader.read(&sources);
    assert_eq!((set.documents.len(), set.too_many_objects), (0, true));
    assert!(set.problems.iter().all(|problem| problem.file != "5.yaml"));
}

#[test]
fn what_was_read_from_a_file_without_content_is_forgotten() {
    let right = source("a.yaml", &format!("{BUILDER}{}", "  region: us-east-1\n"));
    let settings = source("opsy.yaml", "agentID: team\n");
    let broken = |file: &SourceFile| SourceFile { content: Vec::new().into(), ..file.clone() };
    let mut reader = Reader::default();
    let expected = reader.read(&[settings.clone(), right.clone()]);
    assert_eq!(expected.settings.agent_id.as_deref(), Some("team"));

    let mut reader = Reader::default();
    reader.read(&[settings.clone(), broken(&right)]);
    reader.discard();
    assert_eq!(reader.read(&[settings.clone(), right.clone()]), expected);

    reader.read(&[broken(&settings), right.clone()]);
    reader.discard();
    let kept = reader.read(&[source("opsy.yaml", "agentID: ["), right]);
    assert_eq!(kept.settings.agent_id.as_deref(), Some("team"), "the settings of the last good commit stay");
}
