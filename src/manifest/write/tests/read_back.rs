//! Status files are read back as they were written.

use proptest::prelude::*;

use super::*;

#[test]
fn a_status_file_is_read_back() {
    let written = file(built(Phase::Ready, 0), None);
    let (object, status) = read_status_file(&written).unwrap();
    assert_eq!(status_path(&object), "default/packerbuilders/node.yaml");
    let ObjectStatus::PackerBuilder(status) = status else { panic!("{status:?}") };
    let whole = built(Phase::Ready, 0);
    assert_eq!(
        (&status.images, &status.inputs, &status.history),
        (&whole.images, &whole.inputs, &whole.history)
    );
    assert_eq!(file(*status, None), written);
}

#[test]
fn what_is_no_status_file_is_an_error() {
    for text in [
        "",
        "a: 1",
        "[",
        "kind: Secret\nmetadata: {name: a, namespace: b}",
        "kind: PackerBuilder\nmetadata: {name: a, namespace: b}\nstatus: {history: 5}",
    ] {
        assert!(read_status_file(text).is_err(), "{text}");
        assert!(
            file(built(Phase::Ready, 0), Some(text)).contains("ami-0123456789abcdef0"),
            "a broken file is replaced"
        );
    }
    assert!(read_status_file("kind: PackerBuilder\nmetadata: {name: a, namespace: b}\n").is_ok());
}

/// Strings that YAML readers may read as something else.
fn nasty() -> impl Strategy<Value = String> {
    let known = [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "null",
        "~",
        "true",
        "False",
        "1e3",
        "0x1F",
        "0o17",
        "012",
        "1_000",
        "1:30",
        "12:30:45",
        ".5",
        "+1",
        ".inf",
        ".nan",
        "2025-01-01",
        "2025-01-01T00:00:00Z",
        "# x",
        "a # b",
        "a: b",
        "a:",
        ":",
        "- a",
        "-",
        "---",
        "...",
        "? a",
        "!t",
        "&a",
        "*a",
        "<<",
        "@a",
        "`a",
        "%a",
        "{a",
        "[a",
        "|",
        ">",
        "'",
        "\"",
        "a'b",
        "a\"b",
        "\\",
        "a\nb",
        "a\n",
        "\na",
        "a\n\n",
        " a",
        "a ",
        "a\t",
        "\ta",
        "",
        " ",
        "é",
        "日本",
        "🦀",
        "\u{feff}a",
        "a\u{2028}b",
        "\u{85}",
        "\r\n",
        "\u{7f}",
        "\0",
        "a\u{200b}b",
        "=",
        "a,b",
        "a]",
    ];
    prop_oneof![
        proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        any::<String>(),
        "[ -~\n]{0,120}"
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Bool(true)),
        any::<i32>().prop_map(Value::from),
        nasty().prop_map(Value::String)
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(nasty(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_equal(value in any_json()) {
        let text = to_yaml(&json!({"value": value})).unwrap();
        let stream = yaml::parse(&text);
        prop_assert_eq!(&stream.broken, &[], "{}", text);
        prop_assert_eq!(stream.documents[0].root.json()["value"].clone(), value, "{}", text);
    }

    #[test]
    fn a_status_with_any_words_reads_back_equal(words in proptest::collection::vec(nasty(), 1..5)) {
        let mut status = built(Phase::Ready, 0);
        status.history.as_mut().unwrap()[0].errors = Some(words.clone());
        let (_, read) = read_status_file(&file(status, None)).unwrap();
        let ObjectStatus::PackerBuilder(read) = read else { panic!("{read:?}") };
        prop_assert_eq!(read.history.unwrap()[0].errors.clone(), Some(words));
    }
}

#[test]
fn a_status_file_seeds_nothing_that_opsy_does_not_publish() {
    let mut image = image("us-east-1", "x86_64", "ami-0123456789abcdef0");
    image.since = Some(at(0));
    let forged = PackerBuilderStatus {
        images: Some(vec![image.clone()]),
        job_id: Some("u1".to_owned()),
        job_facts: Some(JobFacts { build: "fedcba9876543210".to_owned(), ..JobFacts::default() }),
        job_status: Some("Running".to_owned()),
        last_handled_reconcile_at: Some("x".to_owned()),
        notifications: Some(vec![Notification::default()]),
        ..built(Phase::Ready, 1)
    };
    assert!(forged.sweeps.is_some());
    let ObjectStatus::PackerBuilder(seeded) = seed(ObjectStatus::PackerBuilder(Box::new(forged.clone())))
    else {
        panic!("a builder's")
    };
    image.since = None;
    assert_eq!((seeded.images.clone(), seeded.history.clone()), (Some(vec![image]), forged.history.clone()));
    let text = serde_json::to_value(&*seeded).expect("JSON");
    for field in ["sweeps", "jobID", "jobFacts", "jobName", "jobStatus", "buildID", "notifications"] {
        assert!(text.get(field).is_none(), "{field}: {text}");
    }
    // Everything that was published is restored.
    let published = file(built(Phase::Ready, 1), None);
    let (_, status) = read_status_file(&published).expect("a status");
    assert_eq!(seed(status.clone()), status);
}
