//! The documents of a commit, sorted by object. The documents of two commits share what they have in common, so whatever
//! depends on them can follow what differs.

use std::sync::Arc;

use super::Document;
use crate::api::ObjectKey;
use crate::api::sorted::{Keyed, Sorted};

/// Documents, one per object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents(Sorted<Arc<Document>>);

impl Keyed for Arc<Document> {
    type Key = ObjectKey;
    fn key(&self) -> &ObjectKey {
        &self.object
    }
}

impl Documents {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Document> {
        self.0.iter().map(|document| &**document)
    }

    pub fn get(&self, object: &ObjectKey) -> Option<&Document> {
        self.0.get(object).map(|document| &**document)
    }

    /// Adds a document, in place of that of the same object.
    pub fn insert(&mut self, document: impl Into<Arc<Document>>) {
        self.0.insert(document.into());
    }

    pub fn remove(&mut self, object: &ObjectKey) {
        self.0.remove(object);
    }

    /// What differs from the documents of another commit: the document here and that there. Equal parts that are shared
    /// cost nothing.
    pub fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Document>, Option<&'a Document>)> {
        let of = |document: &'a Arc<Document>| &**document;
        self.0.differences(&other.0).into_iter().map(move |(one, two)| (one.map(of), two.map(of)))
    }

    /// The objects whose document differs from that of another commit, or that only one of the two declares.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a ObjectKey> {
        self.differences(other).filter_map(|(one, two)| one.or(two)).map(|document| &document.object)
    }

    /// The same documents. What they have in common with `other` is shared with it.
    #[must_use]
    pub fn sharing(self, other: &Self) -> Self {
        Self(self.0.sharing(&other.0))
    }
}

impl FromIterator<Arc<Document>> for Documents {
    fn from_iter<I: IntoIterator<Item = Arc<Document>>>(documents: I) -> Self {
        Self(documents.into_iter().collect())
    }
}

impl FromIterator<Document> for Documents {
    fn from_iter<I: IntoIterator<Item = Document>>(documents: I) -> Self {
        documents.into_iter().map(Arc::new).collect()
    }
}
