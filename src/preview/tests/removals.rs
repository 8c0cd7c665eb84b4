//! Objects that a change no longer declares, and manifests that are invalid.

use super::*;

#[test]
fn a_deletion_comes_first_and_says_what_stays() {
    let report = plan(&calm(), &without(&calm(), Kind::PackerBuilder, "node"));
    expect(&report, &[("pb/node", Action::Prune)], &[]);
    let why = "its manifest is removed; its images are kept; ar/demo uses them and gets no new images";
    assert_eq!((report.because[0].why.as_str(), report.changes.pruned), (why, 1));
    let text = render::markdown(&report, None);
    let (alert, table) =
        (text.find("**Pruned:** pb/node").expect("a warning"), text.find("| object |").expect("a table"));
    assert!(alert < table, "{text}");
    // What counts is which images the refresher takes after the change.
    let takes = |mut side: Side, name: &str| {
        side.refreshers.get_mut(&key("demo")).expect("a refresher").source = ImageSource::Builder(key(name));
        side
    };
    let gone = without(&calm(), Kind::PackerBuilder, "node");
    let why = |base: &Side, head: &Side| plan(base, head).because[0].why.clone();
    let (uses, free) =
        ("; ar/demo uses them and gets no new images", "its manifest is removed; its images are kept");
    assert_eq!(why(&calm(), &takes(gone.clone(), "other")), free);
    assert_eq!(why(&takes(calm(), "other"), &gone), format!("{free}{uses}"));
    // Excluded groups have nothing to do with it.
    let report = plan(&calm(), &without(&calm(), Kind::AMIRefresher, "demo"));
    let why = "its manifest is removed; 1 node group keeps the images that they run";
    assert_eq!(report.because[0].why, why);
}

#[test]
fn a_refused_prune_says_how_to_allow_it() {
    let names: Vec<String> = (0..5).map(|number| format!("b{number}")).collect();
    let of = |names: &[String]| {
        let documents = names.iter().map(|name| document(Kind::PackerBuilder, name, &json!({})));
        let set = Arc::new(ObjectSet { documents: documents.collect(), ..ObjectSet::default() });
        Side { set, ..Side::default() }
    };
    let (base, head) = (of(&names), of(&names[..1]));
    let report = plan(&base, &head);
    assert!(report.because.iter().all(|item| item.action == Action::KeptAlthoughRemoved), "{report:?}");
    assert_eq!(render::headline(&report), "pruning of 4 objects refused");
    let markdown = render::markdown(&report, None);
    assert!(markdown.contains("set prune.allowMass: true in opsy.yaml"), "{markdown}");
    // They exist although the base does not declare them.
    let mut base = head.clone();
    base.undeclared = names[1..].iter().map(|name| object(Kind::PackerBuilder, name)).collect();
    let report = plan(&base, &head);
    assert_eq!((report.because.len(), report.anyway.len()), (0, 4));
    // What was pruned is not.
    base.undeclared = [object(Kind::PackerBuilder, "b1")].into();
    expect(&plan(&base, &head), &[], &[]);
}

#[test]
fn while_a_manifest_is_invalid_its_object_stays_and_nothing_is_pruned() {
    let problems = vec![problem("node.yaml", "is not YAML")];
    let broken = |documents| {
        let set = ObjectSet { problems: problems.clone(), documents, ..ObjectSet::default() };
        Side { set: Arc::new(set), ..Side::default() }
    };
    let head = broken(Documents::default());
    let report = plan(&calm(), &head);
    let expected = [("ar/demo", Action::KeptAlthoughRemoved), ("pb/node", Action::NeedsAttention)];
    expect(&report, &expected, &[]);
    assert_eq!(report.because[1].what, "stays as it is");
    assert!(report.has_errors() && !report.problems[0].is_old);
    assert!(render::headline(&report).starts_with("1 error, 1 object needs attention"));

    // The base has the error, too: the objects of its file exist.
    let mut base = broken(Documents::default());
    base.undeclared = [object(Kind::PackerBuilder, "node")].into();
    let report = plan(&base, &head);
    expect(&report, &[], &[("pb/node", Action::KeptAlthoughRemoved)]);
    assert_eq!(render::headline(&report), "no changes, 1 error also in the base");
    // The file is deleted with the object in it.
    let gone = Side { set: without(&calm(), Kind::PackerBuilder, "node").set, ..Side::default() };
    let report = plan(&base, &gone);
    assert!(actions(&report.because).contains(&("pb/node", Action::Prune)), "{report:?}");
    // The manifest is repaired: the object is not new.
    let report = plan(&base, &calm());
    let node = report.because.iter().find(|item| item.object == "pb/node").expect("it is applied");
    assert_eq!((node.what.as_str(), node.why.as_str()), ("updated", "its manifest is valid again"));
}
