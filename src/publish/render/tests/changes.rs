//! Which objects are decoded and rendered again after what changed.

use super::*;

fn images(id: &str) -> Value {
    json!({"images": [{"region": "us-east-1", "architecture": "x86_64", "id": id}]})
}

#[test]
fn only_what_changed_since_it_was_published_is_decoded_and_rendered() {
    let (synced, mut renderer) = (synced(&["web", "db"]), Renderer::default());
    let both = |web: u64, db: u64, id: &str| {
        vec![at(web, builder("web", images(id))), at(db, builder("db", images("ami-db")))]
    };
    let all = [WEB, "default/packerbuilders/db.yaml", "amis.json"];
    for _ in 0..2 {
        let (batch, decoded) = decoding(&synced, both(1, 1, "ami-1"), vec![], &mut renderer);
        assert_eq!((paths(&batch), decoded.len()), (all.to_vec(), 2), "until it is published");
    }
    renderer.published();
    let (batch, decoded) = decoding(&synced, both(1, 1, "ami-1"), vec![], &mut renderer);
    assert!(batch.files.is_empty() && decoded.is_empty(), "{batch:?} {decoded:?}");

    let (batch, decoded) = decoding(&synced, both(2, 1, "ami-2"), vec![], &mut renderer);
    assert_eq!((paths(&batch), decoded), (vec![WEB, "amis.json"], vec!["web".to_owned()]));
    let merged = content(&batch.files[1]);
    assert!(merged.contains("ami-2") && !merged.contains("ami-db"), "the entry of one builder: {merged}");
    renderer.published();
    let (batch, _) = decoding(&synced, both(3, 1, "ami-2"), vec![], &mut renderer);
    assert_eq!(paths(&batch), [WEB], "no image has changed");
    renderer.published();

    renderer.forget();
    let (batch, decoded) = decoding(&synced, both(3, 1, "ami-2"), vec![], &mut renderer);
    assert_eq!((paths(&batch), decoded.len()), (all.to_vec(), 2));
    assert!(content(&batch.files[2]).contains("ami-db"));
}

#[test]
fn work_in_progress_is_known_without_decoding_it_again() {
    let (synced, mut renderer) = (synced(&["web"]), Renderer::default());
    let web = |version: u64, status: Value| vec![at(version, builder("web", status))];
    let busy = json!({"conditions": [{"type": "Reconciling", "status": "True"}]});
    for decodes in [1, 0] {
        let (batch, decoded) = decoding(&synced, web(1, busy.clone()), vec![], &mut renderer);
        assert!(batch.files.is_empty() && batch.is_incomplete && decoded.len() == decodes, "{batch:?}");
        renderer.published();
    }
    renderer.forget();
    let (batch, decoded) = decoding(&synced, web(1, busy), vec![], &mut renderer);
    assert!(batch.is_incomplete && decoded.is_empty(), "it has no file yet, whatever the branch has");
    let (batch, _) = decoding(&synced, web(2, images("ami-1")), vec![], &mut renderer);
    assert_eq!((paths(&batch), batch.is_incomplete), (vec![WEB, "amis.json"], false));
}

/// The objects of an engine that tells which of them were written.
fn written<'a>(
    decoded: &'a RefCell<Vec<String>>,
    builder: PackerBuilder,
    refresher: AMIRefresher,
    written: &[Kind],
) -> Engine<'a> {
    let version = refresher.metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
    let key = |kind: Kind| match kind {
        Kind::PackerBuilder => ObjectKey::of(kind, &builder),
        Kind::AMIRefresher => ObjectKey::of(kind, &refresher),
    };
    let changed = Some(written.iter().map(|kind| key(*kind)).collect());
    Engine { builders: vec![builder], refreshers: vec![refresher], version, changed, ..Engine::new(decoded) }
}

#[test]
fn an_image_that_a_refresher_holds_is_not_named_even_while_another_one_is_built() {
    let reference = |field: &str| Reference::parse(&format!("web:us-east-1:x86_64{field}"), "default");
    let found = |renderer: &Renderer, field: &str, builder: &PackerBuilder| {
        renderer.find(&reference(field).expect("a reference"), builder.status.as_ref().expect("a status"))
    };
    let value = |text: &str| Found::Value(text.to_owned());
    let (synced, mut renderer, decoded) = (synced(&["web"]), Renderer::default(), RefCell::default());
    let images =
        json!([{"region": "us-east-1", "architecture": "x86_64", "id": "ami-2", "previous": ["ami-1"]}]);
    let building = json!([{"type": "Reconciling", "status": "True"}]);
    let settled = at(1, builder("web", json!({"images": images})));
    let busy = at(2, builder("web", json!({"images": images, "conditions": building})));
    let demo = |version: u64, held: Value| {
        at(version, refresher("demo", json!({"targetAMI": "ami-1", "held": held})))
    };
    let (none, held) = (json!(null), json!([{"ami": "ami-2"}]));
    let named = |batch: &Batch| batch.files.iter().find(|file| file.path == "amis.json").map(content);
    let refreshed = "default/amirefreshers/demo.yaml";
    let all = [WEB, refreshed, "amis.json"];

    let first = written(&decoded, settled.clone(), demo(1, none.clone()), &[]);
    assert!(named(&renderer.render(&first, &synced)).is_some_and(|text| text.contains("ami-2")));
    renderer.published();
    let failed = written(&decoded, settled.clone(), demo(2, held.clone()), &[Kind::AMIRefresher]);
    for _ in 0..2 {
        let batch = renderer.render(&failed, &synced);
        let text = named(&batch).expect("another image is named");
        assert!(text.contains("ami-1") && !text.contains("ami-2"), "{text}");
        assert_eq!(paths(&batch), all, "until it is published");
    }
    renderer.published();
    assert!(renderer.render(&failed, &synced).files.is_empty());
    assert_eq!(found(&renderer, "", &busy), value("ami-1"), "a build may take hours");
    // The earlier image is deregistered while the next one is built.
    let alone = json!([{"region": "us-east-1", "architecture": "x86_64", "id": "ami-2", "name": "web 2"}]);
    let busy_alone = at(3, builder("web", json!({"images": alone, "conditions": building})));
    let deregistered = written(&decoded, busy_alone.clone(), demo(2, held.clone()), &[Kind::PackerBuilder]);
    for _ in 0..2 {
        let text = named(&renderer.render(&deregistered, &synced)).expect("until it is published");
        assert!(!text.contains("ami-"), "{text}");
    }
    renderer.published();
    for (field, due) in [("", "ami-2"), (":name", "web 2")] {
        assert_eq!(found(&renderer, field, &busy_alone), Found::Withheld(due.to_owned()));
    }
    let busy = at(4, busy);
    let released = written(&decoded, busy.clone(), demo(3, none), &[Kind::AMIRefresher, Kind::PackerBuilder]);
    let batch = renderer.render(&released, &synced);
    assert!(named(&batch).is_some_and(|text| text.contains("ami-2")));
    assert_eq!(found(&renderer, "", &busy), Found::Pending, "as its status file");
    assert_eq!(found(&renderer, "", &settled), value("ami-2"));
    assert_eq!(batch.files[1].summary.as_deref(), Some("web: amis.json names ami-2"));
    assert_eq!((paths(&batch), batch.is_incomplete), (vec![refreshed, "amis.json"], true));
}

#[test]
fn another_setting_renders_all_files_again() {
    let (first, mut renderer) = (synced(&["web"]), Renderer::default());
    let web = || vec![at(1, builder("web", images("ami-1")))];
    rendered(&first, web(), vec![], &mut renderer);
    renderer.published();
    let mut second = Arc::unwrap_or_clone(first.clone());
    Arc::make_mut(&mut second.set).settings.publish =
        Some(PublishSettings { errors: Some(false), ..PublishSettings::default() });
    let batch = rendered(&Arc::new(second), web(), vec![], &mut renderer);
    assert_eq!(paths(&batch), [WEB, "amis.json"]);
    renderer.published();
    assert_eq!(paths(&rendered(&first, web(), vec![], &mut renderer)), [WEB, "amis.json"]);
}

#[test]
fn an_object_that_was_created_again_is_rendered_and_one_without_a_version_always_is() {
    let (synced, mut renderer) = (synced(&["web"]), Renderer::default());
    for (builders, expected) in [
        (vec![at(1, builder("web", images("ami-1")))], vec![WEB, "amis.json"]),
        (vec![], vec![]),
        (vec![at(1, builder("web", images("ami-1")))], vec![WEB, "amis.json"]),
        (vec![builder("web", images("ami-1"))], vec![WEB]),
        (vec![builder("web", images("ami-1"))], vec![WEB]),
    ] {
        let batch = rendered(&synced, builders, vec![], &mut renderer);
        assert_eq!(paths(&batch), expected);
        renderer.published();
    }
}
