//! Reports as Markdown: what others have written has no meaning in it, and what must not be overlooked is never cut.

use super::*;

#[test]
fn text_of_others_has_no_meaning_in_markdown() {
    let hostile =
        "`a` <img src=x> @team #1 [l](https://evil.example) **b** www.evil.example\n> [!NOTE]\n| c ```";
    let report = plan(&calm(), &tree(builds(Trigger::Template, hostile), &json!({})));
    let text = render::markdown(&report, Some("javascript:alert(1)"));
    let outside = outside_fences(&text);
    for forbidden in
        ["<img", "@team", "](https://evil", "https://evil", "www.evil", "**b**", "\n> [!NOTE]", "javascript"]
    {
        assert!(!outside.contains(forbidden), "{forbidden} in {outside}");
    }
    assert_eq!(fences(&text) % 2, 0, "{text}");
}

fn fences(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("```")).count()
}

/// Lines that Markdown interprets.
fn outside_fences(text: &str) -> String {
    let parts = text.split("\n```");
    parts.step_by(2).collect::<Vec<_>>().join("\n")
}

/// A change with thousands of builds, errors and long messages.
fn flood() -> (Side, Side) {
    let names: Vec<String> = (0..3000).map(|number| format!("builder-{number:04}")).collect();
    let documents = || names.iter().map(|name| document(Kind::PackerBuilder, name, &json!({})));
    let gone = document(Kind::PackerBuilder, "precious", &json!({}));
    let set = ObjectSet { documents: documents().chain([gone]).collect(), ..ObjectSet::default() };
    let base = Side { set: Arc::new(set), ..Side::default() };
    let build = |name: &String| (key(name), builder(name, builds(Trigger::Template, &"<".repeat(2000))));
    let set = ObjectSet { documents: documents().collect(), ..ObjectSet::default() };
    (base, Side { set: Arc::new(set), builders: names.iter().map(build).collect(), ..Side::default() })
}

#[test]
fn what_must_not_be_overlooked_is_never_cut() {
    let (base, mut head) = flood();
    let report = plan(&base, &head);
    assert_eq!((report.changes.builds, report.changes.pruned), (3000, 1));
    let link = Some("https://ci.example.com/run/1");
    let check = |report: &Report, kept: &str| {
        let text = render::markdown(report, link);
        assert!(text.len() <= render::LIMIT, "{}", text.len());
        assert!(text.contains(kept), "{}", &text[..2000]);
        assert!(text.contains("[full output](https://ci.example.com/run/1)"));
        assert!(text.ends_with("This comment is not complete.\n"));
        assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
        assert_eq!(fences(&text) % 2, 0);
    };
    check(&report, "**Pruned:** pb/precious");
    // Errors do not displace it either.
    let mut set = ObjectSet::clone(&head.set);
    set.problems = (0..3000).map(|number| problem(&format!("{number}.yaml"), &"<".repeat(3000))).collect();
    head.set = Arc::new(set);
    let report = plan(&base, &head);
    assert_eq!(report.problems.len(), 3000);
    check(&report, "**Not pruned, although removed:** pb/precious");
}

#[test]
fn new_errors_come_first_and_the_number_of_those_that_are_left_out_is_said() {
    let broken = |names: &[String]| {
        let problems = names.iter().map(|name| problem(name, "is not YAML")).collect();
        Side { set: Arc::new(ObjectSet { problems, ..ObjectSet::default() }), ..Side::default() }
    };
    let mut names: Vec<String> = (0..60).map(|number| format!("{number:02}.yaml")).collect();
    let base = broken(&names);
    names.push("new.yaml".to_owned());
    let text = render::markdown(&plan(&base, &broken(&names)), None);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("is not YAML")).collect();
    assert_eq!(lines.len(), 61, "{text}");
    assert!(lines[0].starts_with("> - new.yaml:3: ") && lines[1].contains("(also in the base)"), "{text}");
    names.extend((0..400).map(|number| format!("more-{number}.yaml")));
    let text = render::markdown(&plan(&base, &broken(&names)), None);
    let shown = text.lines().filter(|line| line.contains("is not YAML")).count();
    assert!(text.contains(&format!("> - and {} more errors\n", names.len() - shown)), "{text}");
}

/// In the table once, and in a fold only with what the table does not say.
#[test]
fn an_object_is_not_repeated() {
    let text = render::markdown(&plan(&calm(), &tree(new_template(), &json!({}))), None);
    assert_eq!(text.matches("| pb/node |").count(), 1, "{text}");
    assert_eq!(text.matches("<summary>").count(), 1, "{text}");
    assert!(
        text.contains("<summary>🔁 ar/demo: 1 node group rolls (3 nodes), after the build</summary>"),
        "{text}"
    );
    assert_eq!(text.matches("the new image of pb/node").count(), 2, "{text}");
}
