//! An object of a file, before it is known which namespace a manifest without one is for. Pure.

use std::sync::{Arc, Mutex};

use serde_json::Value as Json;

use super::{Document, DocumentText};
use crate::api::lock::lock;

/// An object without errors, with the document that was last made from it: the next commit most likely has the same
/// one.
#[derive(Debug)]
pub struct Draft {
    /// The manifest names a namespace.
    is_placed: bool,
    made: Mutex<Arc<Document>>,
}

impl Draft {
    pub fn new(is_placed: bool, made: Arc<Document>) -> Self {
        Self { is_placed, made: Mutex::new(made) }
    }

    /// Whether the manifest names a namespace, and the document that was made last.
    pub fn made(&self) -> (bool, Arc<Document>) {
        (self.is_placed, Arc::clone(&lock(&self.made)))
    }

    /// Returns the document, in its own namespace or else in the given one.
    pub fn document(&self, file: &str, namespace: &str) -> Arc<Document> {
        let mut made = lock(&self.made);
        if made.file != file {
            file.clone_into(&mut Arc::make_mut(&mut made).file);
        }
        if !self.is_placed && made.object.key.namespace != namespace {
            let made = Arc::make_mut(&mut made);
            let mut json = made.json.value();
            json["metadata"]["namespace"] = Json::String(namespace.to_owned());
            made.json = DocumentText::from(&json);
            namespace.clone_into(&mut made.object.key.namespace);
        }
        Arc::clone(&made)
    }
}
