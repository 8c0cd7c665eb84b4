//! Which paths of a commit can contain manifests, and their form; the limits on their number and size.

use super::*;
use crate::git::EntryKind;
use crate::git::{Entry, Listing};

fn listing(files: &[(&str, EntryKind)]) -> Listing {
    let entry = |(path, kind): &(&str, EntryKind)| {
        ((*path).to_owned(), Entry { id: format!("id of {path}"), kind: kind.clone() })
    };
    files.iter().map(entry).collect()
}

const FILE: EntryKind = EntryKind::File { executable: false };

fn link(target: &str) -> EntryKind {
    EntryKind::Link(target.to_owned())
}

/// Path, ID and the first words of the form.
fn picked(files: &[(&str, EntryKind)], path: &str) -> Vec<(String, String, String)> {
    let words = |form: &Form| match form {
        Form::File => "file".to_owned(),
        Form::Unfit(why) => format!("unfit {why}"),
        Form::Unknown(why) => format!("unknown {why}"),
    };
    let short = |text: String| text.split([',', ':']).next().unwrap_or_default().to_owned();
    pick(&listing(files), path)
        .expect("few")
        .into_iter()
        .map(|p| (p.path, p.id, short(words(&p.form))))
        .collect()
}

fn found(path: &str, id: &str, form: &str) -> (String, String, String) {
    (path.to_owned(), id.to_owned(), form.to_owned())
}

#[test]
fn yaml_below_the_path_is_read() {
    let files = [("fleet/a.yaml", FILE), ("fleet/b.yml", FILE), ("fleet/c.txt", FILE), ("d.yaml", FILE)];
    assert_eq!(
        picked(&files, "fleet"),
        [found("a.yaml", "id of fleet/a.yaml", "file"), found("b.yml", "id of fleet/b.yml", "file")]
    );
}

#[test]
fn what_a_link_hides_is_looked_into() {
    let files = [
        ("builders/again.yaml", link("node.yaml")),
        ("builders/away.yaml", link("/etc/node.yaml")),
        ("builders/gone.yaml", link("none")),
        ("builders/node.yaml", FILE),
        ("builders/real.yaml", link("../shared/real.tmpl")),
        ("docs/latest", link("/usr/share/doc")),
        ("shared/real.tmpl", FILE),
    ];
    assert_eq!(
        picked(&files, ""),
        [
            found("builders/away.yaml", "", "unknown is a link to \"/etc/node.yaml\""),
            found("builders/gone.yaml", "", "unknown is a link to \"none\""),
            found("builders/node.yaml", "id of builders/node.yaml", "file"),
            found("builders/real.yaml", "id of shared/real.tmpl", "unfit is a link to shared/real.tmpl"),
            found("docs/latest", "", "unknown is a link to \"/usr/share/doc\""),
        ]
    );
    let folder = [("fleet/builders", link("../shared")), ("shared/a.yaml", FILE), ("shared/b.sh", FILE)];
    assert_eq!(
        picked(&folder, "fleet"),
        [found("builders/a.yaml", "id of shared/a.yaml", "unfit is a link to shared/a.yaml")]
    );
    assert_eq!(picked(&folder, "").len(), 1, "it is read where it is");
}

#[test]
fn other_forms_are_named() {
    let files = [
        ("a\\xff.yaml", EntryKind::Misnamed),
        ("b.yaml", EntryKind::Pointer),
        ("c\\xff.sh", EntryKind::Misnamed),
        ("plugins/x", EntryKind::Submodule),
    ];
    let forms: Vec<_> =
        picked(&files, "").into_iter().map(|(path, _, form)| format!("{path} {form}")).collect();
    assert_eq!(
        forms,
        [
            "a\\xff.yaml unfit has a name that is not UTF-8",
            "b.yaml unknown is a Git LFS pointer",
            "plugins/x unknown is a submodule"
        ]
    );
}

#[test]
fn many_links_to_a_folder_with_many_files_are_refused() {
    let names = |what: &str| (0..300).map(|n| format!("{what}{n:03}.yaml")).collect::<Vec<_>>();
    let (links, hidden) = (names("fleet/l"), names("shared/h"));
    let links = links.iter().map(|path| (path.as_str(), link("../shared")));
    let hidden = hidden.iter().map(|path| (path.as_str(), FILE));
    let files: Vec<_> = links.chain(hidden).collect();
    let why = pick(&listing(&files), "fleet").expect_err("they name 90,000 files");
    assert!(why.contains("more than 25000 YAML files") && why.contains("--path"), "{why}");
    assert_eq!(pick(&listing(&files), "").map(|all| all.len()), Ok(300), "they are read where they are");
}

#[test]
fn the_sum_of_all_files_has_a_limit_that_too_large_ones_do_not_count_for() {
    assert_eq!(check_sum([12 << 20; 40].into_iter()), Ok(()));
    let why = check_sum([1 << 20; 65].into_iter()).expect_err("too much");
    assert!(why.contains("has YAML files of 68157440 bytes in total, more than 67108864"), "{why}");
}
