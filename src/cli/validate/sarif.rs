//! The problems as SARIF 2.1.0 (docs.oasis-open.org/sarif), which code scanning of GitHub and other tools read. Pure.

use serde_json::{Value, json};

use super::found::Found;
use super::place;
use crate::manifest::{Problem, Severity};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// The rule of all problems: the messages say the rest.
const RULE: &str = "manifest";

/// The document. `line` returns a line of a file.
pub fn document(found: &Found, line: &dyn Fn(&str, usize) -> Option<String>) -> Value {
    let results = found.problems.iter().filter_map(|problem| {
        let level = match problem.severity {
            Severity::Error => "error",
            Severity::Note => "note",
            Severity::Foreign => return None,
        };
        Some(json!({
            "ruleId": RULE,
            "level": level,
            "message": { "text": problem.message },
            "locations": [{ "physicalLocation": location(problem, line) }],
        }))
    });
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "opsy",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": [{
                    "id": RULE,
                    "shortDescription": { "text": "The manifests and opsy.yaml must be valid" },
                }],
            } },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

fn location(problem: &Problem, line: &dyn Fn(&str, usize) -> Option<String>) -> Value {
    let artifact = json!({ "uri": uri(&problem.file) });
    let Some(number) = problem.line else { return json!({ "artifactLocation": artifact }) };
    let mut region = json!({ "startLine": number });
    if let Some(text) = line(&problem.file, number) {
        let part = place::part(&text, &problem.message);
        region["startColumn"] = json!(place::column(&text, part.start));
        region["endColumn"] = json!(place::column(&text, part.end));
    }
    json!({ "artifactLocation": artifact, "region": region })
}

/// A path as a relative reference: every character with another meaning in one is encoded.
fn uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode =
        |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.trim_start_matches("./").bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_a_place_in_its_file() {
        let problem = |file: &str, line, severity| Problem {
            file: file.to_owned(),
            line,
            message: "spec.bogus: unknown field".to_owned(),
            severity,
        };
        let problems = vec![
            problem("./builders/a b.yaml", Some(7), Severity::Error),
            problem("chart.yaml", None, Severity::Note),
            problem("other.yaml", None, Severity::Foreign),
        ];
        let found = Found { problems, ..Found::default() };
        let sarif = document(&found, &|_, number| (number == 7).then(|| "  bogus: 1".to_owned()));
        let results = sarif["runs"][0]["results"].as_array().expect("results");
        assert_eq!(results.len(), 2, "files of other tools are no results");
        let place = &results[0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "builders/a%20b.yaml");
        assert_eq!(place["region"], json!({ "startLine": 7, "startColumn": 3, "endColumn": 8 }));
        assert_eq!((&results[0]["level"], &results[1]["level"]), (&json!("error"), &json!("note")));
        assert_eq!(results[1]["locations"][0]["physicalLocation"]["region"], Value::Null);
    }
}
