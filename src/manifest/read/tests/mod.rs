//! Reading the files of a commit, by topic: fields against their schema, rules that a schema cannot express, whole
//! documents, `opsy.yaml`, and several files together.

mod documents;
mod edits;
mod fields;
mod files;
mod saved;
mod settings;
mod values;

use serde_json::json;

use super::*;

const BUILDER: &str =
    "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: node\nspec:\n";
const REFRESHER: &str = "apiVersion: ami.opsy.dev/v1alpha1\nkind: AMIRefresher\nmetadata:\n  name: demo\nspec:\n  region: us-east-1\n  clusterName: demo\n";

fn source(path: &str, content: &str) -> SourceFile {
    let blob = crate::api::ids::digest(&[content]);
    SourceFile { path: path.to_owned(), blob, content: content.as_bytes().to_vec().into(), form: Form::File }
}

fn read(files: &[(&str, &str)]) -> ObjectSet {
    let files: Vec<_> = files.iter().map(|(path, content)| source(path, content)).collect();
    Reader::default().read(&files)
}

/// The first document.
fn first(set: &ObjectSet) -> &Document {
    set.documents.iter().next().expect("a document")
}

fn lines(set: &ObjectSet) -> Vec<String> {
    let said = |problem: &Problem| match problem.severity {
        Severity::Error => problem.to_string(),
        Severity::Note => format!("note {problem}"),
        Severity::Foreign => format!("foreign {problem}"),
    };
    set.problems.iter().map(said).collect()
}

/// Expects exactly these messages for one file, and no object if one of them is an error.
fn expect(text: &str, messages: &[&str]) {
    let set = read(&[("a.yaml", text)]);
    assert_eq!(lines(&set), messages, "{text}");
    assert_eq!(set.documents.is_empty(), !set.complete() || text.is_empty(), "{text}");
}
