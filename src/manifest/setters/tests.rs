//! Inputs and outputs, byte by byte, and properties that hold for every file.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const NEW: &str = "ami-0fedcba9876543210";
const OLD: &str = "ami-0123456789abcdef0";
/// What `OLD` and the marker are written as in the tables.
const SHORT: [(&str, &str); 2] = [("OLD", OLD), ("$M", r#"{"$opsy": "default/eks-node:us-east-1:x86_64"}"#)];

fn expanded(text: &str) -> String {
    SHORT.iter().fold(text.to_owned(), |text, (short, long)| text.replace(short, long))
}

fn found(value: &str) -> impl Fn(&Reference) -> Found {
    let value = value.to_owned();
    move |_| Found::Value(value.clone())
}

fn edited(text: &str, format: &Format, value: &str) -> Result<String, Vec<String>> {
    let edited = edit(text.as_bytes(), format, "default", &found(value));
    let edited = edited.map(|edited| String::from_utf8(edited.content).expect("UTF-8"));
    edited.map_err(|all| {
        all.into_iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect()
    })
}

/// Asserts that each text becomes itself with `NEW` in place of `OLD`.
fn assert_edited(format: &Format, texts: &[&str]) {
    for text in texts {
        let text = expanded(text);
        let due = text.replace(OLD, NEW);
        assert_ne!(text, due);
        assert_eq!(edited(&text, format, NEW), Ok(due.clone()), "{text:?}");
        assert_eq!(edited(&due, format, NEW), Ok(due.clone()), "{text:?} a second time");
    }
}

#[test]
fn values_in_yaml() {
    assert_edited(
        &Format::Yaml,
        &[
            "ami: OLD # $M\n",
            "ami: OLD # $M",
            "ami: \"OLD\" # $M\n",
            "ami: 'OLD'    #$M   \n",
            "# about nodes\nspec:\n  ami:   OLD   # $M\n  other: [a,  b]   # kept\n",
            "images:\n- OLD # $M\n-   x\n",
            "images: {x: ami-1, node: OLD} # $M\n",
            "images: [ami-1, 'OLD']\t# $M\n",
            "ami: OLD # $M\r\nother: \"#no\" # c\r\n",
            "a: 1\n---\n# two\nb:\n  c: OLD # $M\n...\n---\nd: 2\n",
            "\u{feff}ami: OLD # $M\n",
            "täg: 'ü # {\"$opsy\": \"x\"}'\nämi: OLD # $M\n",
            "text: |\n  ami: x # $M\nami: OLD # $M\n",
            "ami: &node !!str OLD # $M\n",
            "a: {\n  b: OLD, # $M\n  c: d\n}\n",
        ],
    );
    let same = expanded("# $M\nami: OLD\n# {\"$opsi\": 1}\nb: c # see {\"$opsy\": \"x\"}\n");
    let why = edited(&same, &Format::Yaml, NEW).expect_err("no value");
    assert_eq!(why, ["1: the marker has no value before it in its line"]);
    let unmarked = "ami: ami-1 # {\"$opsi\": 1}\nb: c # see {\"$opsy\": \"x\"}\n";
    assert_eq!(edited(unmarked, &Format::Yaml, NEW), Ok(unmarked.to_owned()));
}

#[test]
fn values_that_need_quotes_in_yaml() {
    for (value, plain) in [
        ("ami-1", "ami-1"),
        ("amazon/eks-1.2_x", "amazon/eks-1.2_x"),
        ("123456789012", "\"123456789012\""),
        ("1e10", "\"1e10\""),
        ("true", "\"true\""),
        ("No", "\"No\""),
        ("null", "\"null\""),
        ("a: b", "\"a: b\""),
        ("[x] (y)", "\"[x] (y)\""),
        ("a #b", "\"a #b\""),
    ] {
        let marker = SHORT[1].1;
        let edited = edited(&format!("a: ami-2 # {marker}\n"), &Format::Yaml, value);
        assert_eq!(edited, Ok(format!("a: {plain} # {marker}\n")));
        let edited = self::edited(&format!("a: 'ami-2' # {marker}\n"), &Format::Yaml, &format!("{value}'s"));
        assert_eq!(edited, Ok(format!("a: '{value}''s' # {marker}\n")));
    }
}

#[test]
fn layouts_of_yaml_that_cannot_be_edited() {
    for (text, due) in [
        ("ami: # $M\n  OLD\n", "1: the marker has no value"),
        ("ami:\n  # $M\n  OLD\n", "2: the marker has no value"),
        ("ami: *node # $M\nx: &node y\n", "1: "),
        ("ami: \"OLD\n  x\" # $M\n", "2: the value before the marker cannot be edited"),
        ("OLD: # $M\n  a: b\n", "1: the marker has no value"),
        ("a: b # {\"$opsy\": \"x\"}\n", "1: \"x\" is not a reference"),
        ("a: b # {\"$opsy\": 1}\n", "1: the marker is not valid"),
        ("a: b # $M please\n", "1: the marker is not valid"),
        ("a: b\n  c: d # $M\n", "2: "),
    ] {
        let why = edited(&expanded(text), &Format::Yaml, NEW).expect_err(text);
        assert!(why[0].starts_with(due), "{text:?}: {why:?}");
    }
    // Without a marker, a file need not be YAML.
    let template = "{{- if .Values.x }}\na: {{ .Values.y }}\n{{- end }}\n";
    assert_eq!(edited(template, &Format::Yaml, NEW), Ok(template.to_owned()));
}

#[test]
fn values_in_hcl() {
    const EXPRESSION: &str = "1: the value before the marker contains an expression";
    assert_edited(
        &Format::Hcl,
        &[
            "ami = \"OLD\" # $M\n",
            "ami   =   \"OLD\"   //$M",
            "images = {\n  node = \"OLD\", # $M\r\n  \"us-east-1\" = \"x\" # no\n}\n",
            "images = [\"ami-1\", \"OLD\"] # $M\n",
            "images = { \"a\" : \"OLD\" } # $M\n",
            "x = \"a # ${b}\" # c\nami = \"OLD\" # $M\n",
            "x = \"${file(\"a # }\")} \\\" //\" # other\nami = \"OLD\" # $M\n",
            "x = <<EOT\nami = \"ami-1\" # $M\n  EOT\nami = \"OLD\" # $M\n",
            "x = <<-\"EOT\"\n\nami = \"OLD\" # $M\n",
            "/* ami = \"x\" # $M\n*/ ami = \"OLD\" # $M\n",
            "resource \"aws_launch_template\" \"n\" {\n  image_id = \"OLD\" # $M\n}\n",
            "ami = (\"OLD\") # $M\n",
            "all = merge(var.all, { node = \"OLD\" }) # $M\n",
            "all = tomap({\n  (var.key[\"a\"]) = \"OLD\" # $M\n})\n",
            "all = concat(var.all, [\"OLD\"]) # $M\n",
            "x = y[\"a\"]\nall = [\n  \"OLD\", # $M\n]\n",
            "ami = var.x == 1 ? \"ami-1\" : \"OLD\" # $M\n",
            "ami = coalesce(var.ami, \"OLD\") # $M\n",
            "ami = try(var.amis[\"a\"], (\"OLD\")) # $M\n",
            "ami = coalesce(\n  var.ami,\n  \"OLD\", # $M\n)\n",
            "ami = lookup(m, \"ami-1\", \"OLD\") # $M\n",
        ],
    );
    for (text, due) in [
        ("ami = var.ami # $M\n", "1: the marker has no string"),
        ("# a\n\n# $M\nami = \"OLD\"\n", "3: the marker has no string"),
        ("ami = \"${var.x}\" # $M\n", "1: the value before the marker contains an expression"),
        ("\"OLD\" = x # $M\n", "1: the marker has no string"),
        ("ami = var.amis[\"us-east-1\"] # $M\n", EXPRESSION),
        ("ami = var.amis [(\"us-east-1\")] # $M\n", EXPRESSION),
        ("ami = var.amis.*[\"us-east-1\"] # $M\n", EXPRESSION),
        ("ami = var.amis[0][\"us-east-1\"] # $M\n", EXPRESSION),
        ("ami = f(x)[\"us-east-1\"] # $M\n", EXPRESSION),
        ("ami = {\"a\" = \"b\"}[\"a\"] # $M\n", EXPRESSION),
        ("ami = file(\"x.txt\") # $M\n", EXPRESSION),
        ("ami = lookup(m, \"k\") # $M\n", EXPRESSION),
        ("ami = coalesce(var.ami, \"ami-1\") # $M\n", EXPRESSION),
        ("ami = coalesce(var.ami, \"ami-0123456789ABCDEF0\") # $M\n", EXPRESSION),
        ("ami = coalesce(var.ami, \"OLD-x\") # $M\n", EXPRESSION),
        ("ami = coalesce(var.ami, \"OLD${x}\") # $M\n", EXPRESSION),
        ("ami = f(var.ami == \"OLD\") # $M\n", EXPRESSION),
        ("ami = var.amis[\"OLD\"] # $M\n", EXPRESSION),
        ("ami = [file((\"x.txt\"))] # $M\n", EXPRESSION),
        ("ami = provider::x::f(/* c */ \"k\") # $M\n", EXPRESSION),
        ("is_old = var.ami == \"OLD\" # $M\n", EXPRESSION),
        ("is_new = var.ami != \"OLD\" # $M\n", EXPRESSION),
        ("ami = \"OLD\" # {\"$opsy\": \"a\"}\n", "1: \"a\" is not a reference"),
    ] {
        let why = edited(&expanded(text), &Format::Hcl, NEW).expect_err(text);
        assert!(why[0].starts_with(due), "{text:?}: {why:?}");
    }
    let name = edited(&expanded("n = \"$${x}\" # $M\n"), &Format::Hcl, "a ${b} \"c\" %{d}");
    assert_eq!(name, Ok(expanded("n = \"a $${b} \\\"c\\\" %%{d}\" # $M\n")));
}

fn json(pointers: &[&str]) -> Format {
    let reference = Reference::parse("eks-node:us-east-1:x86_64", "default").expect("a reference");
    Format::Json(pointers.iter().map(|pointer| ((*pointer).to_owned(), reference.clone())).collect())
}

#[test]
fn values_in_json() {
    for (pointer, text) in [
        ("/ami", "{\"ami\":\"OLD\"}"),
        (
            "/eks/node/0",
            "{\n\t\"x\": [1, -2.5e3, true, null, {\"eks\": []}],\r\n\t\"eks\": {\"node\": [ \"OLD\" , 2]}\r\n}\r\n",
        ),
        ("/a~1b/c~0d", "{\"a/b\": {\"c~d\": \"OLD\"}}\n"),
        ("/ämi", "\u{feff}{\"text\": \"} \\\" ] ,\", \"\\u00e4mi\" : \"OLD\"}"),
        ("/1/x", "[{\"x\": \"ami-1\"}, {\"y\": {}, \"x\": \"OLD\"}]"),
        ("/ami", "{\"ami\": \"first\", \"ami\": \"OLD\"}"),
    ] {
        assert_edited(&json(&[pointer]), &[text]);
    }
    let twice = edited("{\"a\": \"x\"}", &json(&["/a", "/a"]), NEW).expect_err("the same value");
    assert_eq!(twice, ["1: is set by two setters of opsy.yaml: remove one"]);
    assert_edited(&json(&["/b", "/a"]), &["{\"a\": \"OLD\", \"b\": \"OLD\"}"]);
    for (pointer, text, due) in [
        ("/b", "{\"a\": \"x\"}", "1: has no value at /b"),
        ("/a/b", "{\"a\": \"x\"}", "1: has no value at /a/b"),
        ("/a", "{\"a\": 1}", "1: the value at /a is not a string"),
        ("/a", "{\n\"a\": }", "2: is not JSON"),
        ("/a", "version https://git-lfs.github.com/spec/v1\n", "1: is not JSON"),
    ] {
        let why = edited(text, &json(&[pointer]), NEW).expect_err(text);
        assert!(why[0].starts_with(due), "{text:?}: {why:?}");
    }
}

#[test]
fn an_error_leaves_the_file_as_it_is_and_names_every_line() {
    let text = expanded(
        "a: x # $M\nb: y # {\"$opsy\": \"gone:us-east-1:arm64\"}\nc: z # {\"$opsy\": \"gone:b:c\"}\n",
    );
    let find = |reference: &Reference| match reference.builder.name.as_str() {
        "gone" => Found::Nothing(format!("no {}", reference.builder)),
        _ => Found::Value(NEW.to_owned()),
    };
    let why = edit(text.as_bytes(), &Format::Yaml, "team", &find).expect_err("two are missing");
    let why: Vec<_> = why.iter().map(|problem| (problem.line, problem.message.as_str())).collect();
    assert_eq!(why, [(2, "no team/gone"), (3, "no team/gone")]);
    let pending = edit(text.as_bytes(), &Format::Yaml, "team", &|_| Found::Pending);
    assert_eq!(pending, Ok(Edited { content: text.into_bytes(), withheld: Vec::new() }));
    assert_eq!(
        edit(b"\xff", &Format::Hcl, "team", &find).expect_err("no text")[0].message,
        "is not UTF-8 text"
    );
}

#[test]
fn a_value_that_must_not_be_named_stays_and_is_reported_and_the_others_are_set() {
    let text =
        expanded("a: OLD # $M\nb: \"OLD\" # $M\nc: x # $M\nd: OLD # {\"$opsy\": \"web:us-east-1:arm64\"}\n");
    let find = |reference: &Reference| match reference.builder.name.as_str() {
        "web" => Found::Value(NEW.to_owned()),
        _ => Found::Withheld(OLD.to_owned()),
    };
    let edited = edit(text.as_bytes(), &Format::Yaml, "team", &find).expect("valid markers");
    let due = text.replace(&format!("d: {OLD}"), &format!("d: {NEW}"));
    assert_eq!(String::from_utf8(edited.content), Ok(due));
    let lines: Vec<usize> = edited.withheld.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 2]);
    assert!(edited.withheld[0].message.starts_with(&format!("still names {OLD}, an image that is held")));
}

/// Lines of a file: those with a marker have `OLD` as their value.
fn file(lines: &'static [&'static str]) -> impl Strategy<Value = String> {
    let newline = select(vec!["\n", "\r\n"]);
    (prop::collection::vec(select(lines), 0..12), newline, any::<bool>()).prop_map(
        |(lines, newline, ends)| {
            let end = if ends { newline } else { "" };
            expanded(&(lines.join(newline) + end))
        },
    )
}

const YAML_LINES: &[&str] = &[
    "- OLD # $M",
    "- \"OLD\" #$M",
    "- {a: 'OLD'}  # $M ",
    "- ami-1 # no marker",
    "- '# $M'",
    "",
    "# comment",
    "- {b: \"ü\", c: OLD}\t# $M",
];
const HCL_LINES: &[&str] = &[
    "a = \"OLD\" # $M",
    "b = [\"ü\", \"OLD\", ] // $M",
    "c = \"x\" # no marker",
    "d = \"# ${x(\"#\")} //\"",
    "",
    "# comment",
    "e = \"\\\"\"",
];
const VALUES: &[&str] = &[NEW, OLD, "a b", "12", "it's \"x\"", "${y}", "ü: # [", "-"];

fn assert_properties(text: &str, format: &Format, value: &str) {
    let once = edited(text, format, value).expect("every marker is valid");
    assert_eq!(edited(&once, format, value).as_ref(), Ok(&once), "a second edit changes nothing");
    assert_eq!(edited(&once, format, OLD).as_deref(), Ok(text), "another value restores the file");
    let count = references(text.as_bytes(), format, "default").expect("valid").len();
    assert_eq!(text.matches(OLD).count(), count, "only marked values are values");
}

/// What the documents contain.
fn parsed(text: &str) -> Vec<String> {
    let stream = crate::manifest::yaml::parse(text);
    assert!(stream.broken.is_empty(), "{text:?}");
    stream.documents.iter().map(|document| document.root.json().to_string()).collect()
}

proptest! {
    #[test]
    fn only_the_values_change_in_yaml(text in file(YAML_LINES), value in select(VALUES)) {
        if yaml::is_plain(value) {
            assert_properties(&text, &Format::Yaml, value);
        }
        let once = edited(&text, &Format::Yaml, value).expect("every marker is valid");
        assert_eq!(edited(&once, &Format::Yaml, value).as_ref(), Ok(&once), "a second edit changes nothing");
        let written = json::string(value);
        let due: Vec<_> = parsed(&text).iter().map(|json| json.replace(&json::string(OLD), &written)).collect();
        assert_eq!(parsed(&once), due);
        let comments = |text: &str| text.lines().map(|line| line.rsplit('#').next().map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(comments(&once), comments(&text));
    }

    #[test]
    fn only_the_values_change_in_hcl(text in file(HCL_LINES), value in select(VALUES)) {
        assert_properties(&text, &Format::Hcl, value);
    }

    #[test]
    fn only_the_values_change_in_json(before in ".{0,20}", value in select(VALUES), spaces in "[ \n\t]{0,4}") {
        let name = json::string(&before);
        let text = format!("{{{spaces}{name}: [{name}, {{\"x\": {name}}}],{spaces}\"ami\"{spaces}:{spaces}\"{OLD}\"}}");
        if before != "ami" && !before.contains(OLD) {
            assert_properties(&text, &json(&["/ami"]), value);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-{}\\[\\]\"'#/*<$%:, \nEOT\\\\a\u{fc}]{0,60}") {
        for format in [Format::Yaml, Format::Hcl, json(&["/a/0", ""])] {
            drop(edit(text.as_bytes(), &format, "default", &found(NEW)));
        }
    }
}
