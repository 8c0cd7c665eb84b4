//! What `opsy validate` found in all paths together. Unlike the documents of a commit, those of two paths can declare the same
//! object.

use crate::manifest::{Document, ObjectSet, Problem, Severity};

/// Objects and problems.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub documents: Vec<Document>,
    pub problems: Vec<Problem>,
}

impl Found {
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }
}

impl From<ObjectSet> for Found {
    fn from(set: ObjectSet) -> Self {
        Self { documents: set.documents.iter().cloned().collect(), problems: set.problems }
    }
}
