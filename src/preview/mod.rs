//! What a change to the repository would do, for `opsy plan`: the decisions of both reconcilers for two trees, compared.
//!
//! ```text
//! base tree ─> Side (documents, decisions) ─> effects ─┐
//! head tree ─> Side ────────────────────────> effects ─┴─> compare ─> Report ─> text, Markdown, JSON
//! ```
//! `agent` makes the sides: it syncs each tree and asks `builder::preview` and `refresher::preview`. Everything here is
//! pure. A report has four parts that are kept apart: what happens because of the change, what could not be planned, what
//! would happen anyway, and drift that nothing corrects. What is unknown is never reported as unchanged.

mod builders;
mod change;
mod compare;
mod effect;
mod effects;
mod fields;
mod refreshers;
mod removals;
pub mod render;
pub mod report;
pub mod settings;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
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
    /// Objects that the agent has published a status for and that the tree does not declare.
    pub undeclared: BTreeSet<ObjectKey>,
}

impl Side {
    /// The file that declares an object.
    fn file(&self, object: &ObjectKey) -> Option<String> {
        self.set.documents.get(object).map(|document| document.file.clone())
    }
}
