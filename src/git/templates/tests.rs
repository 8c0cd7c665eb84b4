//! Which files a query names, and when its tag changes.

use super::*;

fn listing(files: &[(&str, &str)]) -> Listing {
    files.iter().map(|(path, what)| ((*path).to_owned(), entry(what))).collect()
}

/// `->target` is a link, `x:id` executable, `submodule` one, anything else a file with that id.
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
    TemplateQuery { template: template.to_owned(), var_files: Vec::new(), inputs: Vec::new(), whole: false }
}

fn paths(files: &[(&str, &str)], query: &TemplateQuery) -> Result<Vec<(String, String)>, String> {
    choose(&listing(files), query, "status")
        .map(|chosen| chosen.into_iter().map(|(path, file)| (path, file.id)).collect())
}

fn names(files: &[(&str, &str)], query: &TemplateQuery) -> Vec<String> {
    paths(files, query).expect("resolves").into_iter().map(|(path, _)| path).collect()
}

fn tag_of(files: &[(&str, &str)], query: &TemplateQuery) -> String {
    tag(&choose(&listing(files), query, "status").expect("resolves"))
}

const REPO: &[(&str, &str)] = &[
    ("builders/node.yaml", "1"),
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
    assert_eq!(names(REPO, &query(".")).len(), REPO.len() - 1, "the status path is left out");
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
    wide.var_files.clear();
    wide.inputs = vec!["script/*.sh".to_owned()];
    assert!(missing(&wide).contains("input \"script/*.sh\" matches nothing"));
    wide.inputs = vec!["a[".to_owned()];
    assert!(missing(&wide).contains("is no glob"));
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
    // A different value here makes every image look out of date: then it must be `v2-`.
    assert_eq!(
        tag_of(REPO, &query("packer/node")),
        "v1-650351c2c83f6c8ba9acd4f9d0363db0d167cc0173065a64ea78a036856e49ea"
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
        "a link's target counts"
    );
}

#[test]
fn links_that_lead_nowhere_are_errors() {
    for (target, word) in [
        ("->/etc/passwd", "outside"),
        ("->../../../etc/passwd", "outside"),
        ("->gone", "nothing"),
        ("->l", "too many"),
        ("->.", "too many"),
    ] {
        let error =
            paths(&[("packer/a/l", target), ("packer/a/t", "1")], &query("packer/a")).expect_err(target);
        assert!(error.contains(word), "{target}: {error}");
    }
}

#[test]
fn submodules_are_errors() {
    let error = paths(&[("packer/a/vendored", "submodule"), ("packer/a/t", "1")], &query("packer/a"));
    assert!(error.expect_err("refused").contains("packer/a/vendored is a submodule"));
}
