//! What a change of the repository would do, for `opsy plan`: the decisions of both reconcilers for two trees, compared.
//!
//! ```text
//! base tree ─> Side (documents, decisions) ─┐
//! head tree ─> Side ────────────────────────┴─> compare ─> Report ─> text, Markdown, JSON
//! ```
//! `agent` makes the sides: it syncs each tree and asks `builder::preview` and `refresher::preview`. Everything here is
//! pure. A report has three parts that are kept apart: what happens because of the change, what would happen anyway, and
//! drift that nothing corrects.

mod builders;
mod compare;
mod fields;
mod refreshers;
pub mod render;
pub mod report;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{Key, ObjectKey};
use crate::builder::preview as builder;
use crate::manifest::ObjectSet;
use crate::refresher::preview as refresher;
pub use compare::compare;

/// One tree, and what the agent would do if it were the tip of the branch.
#[derive(Clone, Debug, Default)]
pub struct Side {
    pub set: Arc<ObjectSet>,
    pub builders: BTreeMap<Key, builder::Preview>,
    pub refreshers: BTreeMap<Key, refresher::Preview>,
}

impl Side {
    /// The file that declares an object.
    fn file(&self, object: &ObjectKey) -> Option<String> {
        self.set.documents.get(object).map(|document| document.file.clone())
    }
}
