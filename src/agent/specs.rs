//! The rules of the reconcilers for the specs of documents, as the manifest reader and `opsy validate` apply them.

use crate::api::Kind;
use crate::manifest::Document;
use crate::{builder, refresher};

/// Problems of a document's spec: field and message. A document that is no object of its kind has other problems, which
/// the reader reports.
pub fn spec_problems(document: &Document) -> Vec<(String, String)> {
    let json = document.json.as_str();
    match document.object.kind {
        Kind::PackerBuilder => serde_json::from_str(json)
            .map_or_else(|_| Vec::new(), |object| builder::spec::parse(&object).err().unwrap_or_default()),
        Kind::AMIRefresher => serde_json::from_str(json)
            .map_or_else(|_| Vec::new(), |object| refresher::spec::parse(&object).err().unwrap_or_default()),
    }
}
