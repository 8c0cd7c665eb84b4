//! Manifests as the operator documents them are accepted as they are.

use std::process::Command;

use crate::world::{fixtures, run};

#[test]
fn manifests_of_the_operator_are_valid() {
    let mut opsy = Command::new(env!("CARGO_BIN_EXE_opsy"));
    opsy.args(["validate", "--output", "json"]).arg(fixtures().join("operator"));
    let outcome = run(opsy);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(
        (&found["errors"], found["objects"].as_array().map(Vec::len)),
        (&0.into(), Some(6)),
        "{found:#}"
    );
}
