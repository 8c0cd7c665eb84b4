//! Which files a query selects, and when its tag changes.

use super::choice::{Choice, Part, choose};
use super::resolver::{first, tag};
use super::*;
use crate::git::ignore::Ignore;
use crate::git::{Entry, EntryKind, Listing};

fn listing(files: &[(&str, &str)]) -> Listing {
    files.iter().map(|(path, what)| ((*path).to_owned(), entry(what))).collect()
}

/// `->target` is a link, `x:id` an executable file, `submodule` a submodule; anything else is a file with that ID.
fn entry(what: &str) -> Entry {
    let (id, kind) = match what.split_at_checked(2) {
        Some(("->", target)) => (what, EntryKind::Link(target.to_owned())),
        Some(("x:", id)) => (id, EntryKind::File { executable: true }),
        _ if what == "submodule" => (what, EntryKind::Submodule),
        _ => (what, EntryKind::File { executable: false }),
    };
    Entry { id: id.to_owned(), kind }
}

fn query(template: &str) -> TemplateQuery {
    TemplateQuery { template: template.to_owned(), ..TemplateQuery::default() }
}

/// The status directory and the files `own.yaml` belong to Opsy.
fn opsy_files() -> OpsyFiles {
    OpsyFiles {
        status: "status".to_owned(),
        files: ["own.yaml", "packer/node/own.yaml"].map(str::to_owned).into(),
    }
}

fn choice(files: &[(&str, &str)], query: &TemplateQuery) -> Result<Choice, String> {
    choose(&listing(files), query, &opsy_files()).map_err(|problems| first(&problems))
}

fn paths(files: &[(&str, &str)], query: &TemplateQuery) -> Result<Vec<(String, String)>, String> {
    choice(files, query).map(|choice| choice.inputs.into_iter().map(|(path, file)| (path, file.id)).collect())
}

fn names(files: &[(&str, &str)], query: &TemplateQuery) -> Vec<String> {
    paths(files, query).expect("resolves").into_iter().map(|(path, _)| path).collect()
}

/// Returns the companions of the inputs.
fn companions(files: &[(&str, &str)], query: &TemplateQuery) -> Vec<String> {
    choice(files, query).expect("resolves").companions.into_keys().collect()
}

fn tag_of(files: &[(&str, &str)], query: &TemplateQuery) -> String {
    tag(&choice(files, query).expect("resolves").inputs)
}

const REPO: &[(&str, &str)] = &[
    ("builders/node.yaml", "1"),
    ("own.yaml", "1"),
    ("packer/node/harden.sh", "x:2"),
    ("packer/node/node.pkr.hcl", "3"),
    ("packer/other/o.pkr.hcl", "4"),
    ("scripts/a.sh", "5"),
    ("scripts/deep/b.sh", "6"),
    ("status/x.yaml", "7"),
    ("vars/prod.pkrvars.hcl", "8"),
];

#[test]
fn a_folder_a_file_and_the_root() {
    assert_eq!(names(REPO, &query("packer/node/")), ["packer/node/harden.sh", "packer/node/node.pkr.hcl"]);
    assert_eq!(names(REPO, &query("./packer/node/node.pkr.hcl")), ["packer/node/node.pkr.hcl"]);
    let mut root = REPO.to_vec();
    root.push(("root.pkr.hcl", "9"));
    let all = names(&root, &query("."));
    assert_eq!(all.len(), root.len() - 2, "the status path and the files of Opsy are not inputs: {all:?}");
}

#[test]
fn var_files_and_inputs_come_along() {
    let mut wide = query("packer/node/node.pkr.hcl");
    wide.var_files = vec!["vars/prod.pkrvars.hcl".to_owned()];
    wide.inputs = vec!["scripts/*.sh".to_owned()];
    assert_eq!(names(REPO, &wide), ["packer/node/node.pkr.hcl", "scripts/a.sh", "vars/prod.pkrvars.hcl"]);
    for whole in ["scripts", "scripts/", "./scripts", "scripts/**"] {
        wide.inputs = vec![whole.to_owned()];
        assert_eq!(names(REPO, &wide).len(), 4, "{whole}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let missing = |query: &TemplateQuery| paths(REPO, query).expect_err("refused");
    assert!(missing(&query("packer/nod")).contains("template \"packer/nod\" does not exist"));
    assert!(missing(&query("../x")).contains("leaves the repository"));
    let mut wide = query("packer/node");
    wide.var_files = vec!["vars/dev.hcl".to_owned()];
    assert!(missing(&wide).contains("variables file \"vars/dev.hcl\""));
    wide.var_files = vec!["vars".to_owned()];
    assert!(missing(&wide).contains("variables file \"vars\" is a directory"));
    wide.var_files.clear();
    wide.inputs = vec!["script/*.sh".to_owned()];
    assert!(missing(&wide).contains("input \"script/*.sh\" matches nothing"));
    wide.inputs = vec!["a[".to_owned()];
    assert!(missing(&wide).contains("is not a valid glob"));
}

#[test]
fn the_tag_changes_with_content_name_and_mode_alone() {
    let base = tag_of(REPO, &query("packer/node"));
    let with = |path: &'static str, what: &'static str| {
        let mut files = REPO.to_vec();
        files.retain(|(known, _)| *known != path);
        files.push((path, what));
        tag_of(&files, &query("packer/node"))
    };
    assert_eq!(base, with("packer/other/o.pkr.hcl", "9"));
    assert_eq!(base, with("status/x.yaml", "9"));
    assert_ne!(base, with("packer/node/node.pkr.hcl", "9"));
    assert_ne!(base, with("packer/node/new.sh", "9"));
    assert_ne!(base, with("packer/node/harden.sh", "2"), "no longer executable");
}

#[test]
fn the_tag_format_is_pinned() {
    // If this value changes, every image is out of date: the prefix must then be `v3-`.
    assert_eq!(
        tag_of(REPO, &query("packer/node")),
        "v2-650351c2c83f6c8ba9acd4f9d0363db0d167cc0173065a64ea78a036856e49ea"
    );
}

#[test]
fn links_become_what_they_point_to() {
    let files = [
        ("packer/a/link.sh", "->../../shared/x.sh"),
        ("packer/a/lib", "->../../shared/lib"),
        ("packer/a/t.pkr.hcl", "1"),
        ("shared/lib/one", "2"),
        ("shared/lib/two", "->one"),
        ("shared/x.sh", "x:3"),
    ];
    let want = [
        ("packer/a/lib/one", "2"),
        ("packer/a/lib/two", "2"),
        ("packer/a/link.sh", "3"),
        ("packer/a/t.pkr.hcl", "1"),
    ];
    assert_eq!(
        paths(&files, &query("packer/a")),
        Ok(want.map(|(p, i)| (p.to_owned(), i.to_owned())).to_vec())
    );
    assert_eq!(names(&files, &query("packer/a/lib/two")), ["packer/a/lib/two"]);
    let mut changed = files;
    changed[5].1 = "x:4";
    assert_ne!(
        tag_of(&files, &query("packer/a")),
        tag_of(&changed, &query("packer/a")),
        "the target of a link is part of the tag"
    );
}

#[test]
fn links_that_lead_nowhere_are_errors() {
    for (target, word) in [
        ("->/etc/passwd", "outside"),
        ("->../../../etc/passwd", "outside"),
        ("->gone", "does not exist"),
        ("->l", "too many"),
        ("->.", "too many"),
    ] {
        let error = paths(&[("packer/a/l", target), ("packer/a/t.pkr.hcl", "1")], &query("packer/a"))
            .expect_err(target);
        assert!(error.contains(word), "{target}: {error}");
    }
}

#[test]
fn submodules_are_errors() {
    let error = paths(&[("packer/a/vendored", "submodule"), ("packer/a/t.pkr.hcl", "1")], &query("packer/a"));
    assert!(error.expect_err("refused").contains("packer/a/vendored is a submodule"));
}

const MIXED: &[(&str, &str)] = &[
    (".opsyignore", "1"),
    ("README.md", "1"),
    ("docs/latest", "->/usr/share/doc"),
    ("own.yaml", "1"),
    ("packer/node/node.pkr.hcl", "1"),
    ("plugins/x", "submodule"),
    ("root.pkr.hcl", "1"),
    ("root.auto.pkrvars.hcl", "1"),
    ("scripts/a.sh", "1"),
    ("web.json", "1"),
];

#[test]
fn what_another_build_reads_stops_none() {
    assert_eq!(names(MIXED, &query("packer/node")), ["packer/node/node.pkr.hcl"]);
    let whole = TemplateQuery { whole: true, ..query("packer/node") };
    let laid_out = companions(MIXED, &whole);
    assert!(laid_out.contains(&"scripts/a.sh".to_owned()), "{laid_out:?}");
    assert!(!laid_out.iter().any(|path| path.contains("plugins") || path.contains("latest")), "{laid_out:?}");
    let error = paths(MIXED, &query(".")).expect_err("the root has them");
    assert!(error.contains("docs/latest") && error.contains(".opsyignore"), "{error}");
}

#[test]
fn a_template_named_as_a_file_gets_its_folder_and_is_the_only_input() {
    let query = query("web.json");
    assert_eq!(names(MIXED, &query), ["web.json"]);
    let laid_out = companions(MIXED, &query);
    for path in ["README.md", "packer/node/node.pkr.hcl", "scripts/a.sh"] {
        assert!(laid_out.contains(&path.to_owned()), "{path}: {laid_out:?}");
    }
    let files = [("t/al2023/a.sh", "1"), ("t/al2023/template.json", "1"), ("t/other/a.sh", "1")];
    let query = TemplateQuery { template: "t/al2023/template.json".to_owned(), ..query };
    assert_eq!(companions(&files, &query), ["t/al2023/a.sh"]);
    let with_dir = TemplateQuery { dir: Some("t/al2023".to_owned()), ..query };
    assert_eq!(names(&files, &with_dir), ["t/al2023/a.sh", "t/al2023/template.json"]);
}

#[test]
fn inputs_narrow_a_template_at_the_root() {
    let narrow = TemplateQuery { inputs: vec!["scripts/**".to_owned()], ..query(".") };
    assert_eq!(names(MIXED, &narrow), ["root.auto.pkrvars.hcl", "root.pkr.hcl", "scripts/a.sh"]);
    assert!(companions(MIXED, &narrow).contains(&"README.md".to_owned()), "it is copied nevertheless");
    let mut newer = MIXED.to_vec();
    newer[1].1 = "2";
    assert_eq!(tag_of(MIXED, &narrow), tag_of(&newer, &narrow));
}

#[test]
fn ignored_files_are_as_if_they_were_not_there() {
    let ignore = |patterns: &str| {
        let ignore = Ignore::read([(".opsyignore", patterns.as_bytes())]);
        choose(&listing(MIXED).without(&ignore), &query("."), &opsy_files())
            .map_err(|problems| first(&problems))
    };
    let choice = ignore("docs/\nplugins/\n*.md\n").expect("files with errors are excluded");
    let inputs: Vec<&String> = choice.inputs.keys().collect();
    assert_eq!(
        inputs,
        ["packer/node/node.pkr.hcl", "root.auto.pkrvars.hcl", "root.pkr.hcl", "scripts/a.sh", "web.json"]
    );
    assert_eq!(choice.companions.keys().collect::<Vec<_>>(), [".opsyignore", "own.yaml"]);
    assert!(ignore("*.hcl\ndocs\nplugins").expect_err("no template").contains("contains no Packer template"));
    let named = TemplateQuery { var_files: vec!["README.md".to_owned()], ..query("packer/node") };
    let listing = listing(MIXED).without(&Ignore::read([(".opsyignore", &b"*.md"[..])]));
    let problems = choose(&listing, &named, &opsy_files()).expect_err("excluded");
    assert_eq!((problems[0].part, problems[0].name.as_str()), (Part::VarFile, "README.md"));
    assert!(problems[0].why.contains(".opsyignore"), "{}", problems[0]);
}

#[test]
fn a_folder_without_a_template_is_named() {
    let error = paths(REPO, &query("scripts")).expect_err("no template");
    assert!(error.contains("\"scripts\" contains no Packer template"), "{error}");
    let deep = [("packer/a/b/t.pkr.hcl", "1")];
    assert!(paths(&deep, &query("packer/a")).is_err(), "Packer does not read subdirectories");
}

#[test]
fn a_file_that_cannot_be_laid_out_is_named() {
    let template = ("packer/a/t.pkr.hcl", "1");
    for (kind, word) in [(EntryKind::Misnamed, "not UTF-8"), (EntryKind::Pointer, "Git LFS pointer")] {
        let mut files = vec![("packer/a/t.pkr.hcl".to_owned(), entry(template.1))];
        files.push(("packer/a/odd".to_owned(), Entry { id: "2".to_owned(), kind }));
        let error =
            choose(&files.into_iter().collect(), &query("packer/a"), &opsy_files()).expect_err("refused");
        assert!(error[0].why.contains("packer/a/odd") && error[0].why.contains(word), "{}", error[0]);
    }
}

#[test]
fn links_in_a_circle_end_where_files_are_only_laid_out() {
    let files = [
        ("a/x/l", "->.."),
        ("a/x/m", "->../../a/x"),
        ("a/x/n", "->../y"),
        ("a/y/l", "->../x"),
        ("a/y/m", "->../x"),
        ("a/t.json", "1"),
        ("a/y/file", "2"),
    ];
    let laid_out = companions(&files, &query("a/t.json"));
    assert!(laid_out.contains(&"a/x/n/file".to_owned()) && laid_out.len() < 20, "{laid_out:?}");
}

/// Thirty directories, each with two links to the next: without a limit, there are 2^29 paths to the last one.
#[test]
fn links_that_name_more_paths_than_memory_holds_are_refused() {
    for last in [Some("1"), None] {
        let mut files = vec![("d0/t.pkr.hcl".to_owned(), "1".to_owned())];
        for n in 0..29 {
            files.extend(["a", "b"].map(|link| (format!("d{n}/{link}"), format!("->../d{}", n + 1))));
        }
        files.push(("d29/end".to_owned(), last.unwrap_or("->gone").to_owned()));
        let files: Vec<_> = files.iter().map(|(path, id)| (path.as_str(), id.as_str())).collect();
        let named = TemplateQuery { template: "d0/t.pkr.hcl".to_owned(), ..query("") };
        for query in [query("d0"), named] {
            let why = choose(&listing(&files), &query, &opsy_files()).expect_err("refused");
            let expected = if last.is_none() && query.template == "d0" { "d29/end" } else { "at most" };
            assert!(why[0].why.contains(expected), "{}", why[0]);
        }
    }
}
