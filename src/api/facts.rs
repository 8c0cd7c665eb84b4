//! Where the facts of a plan come from, the same words for both reconcilers and the report. Pure.

use schemars::JsonSchema;
use serde::Serialize;

/// Where the facts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Facts {
    /// AWS is read.
    Live,
    /// The published status is all that is known. Nothing is asked.
    Recorded,
}

/// What a plan without AWS assumes to be as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumption {
    /// For people.
    pub what: &'static str,
    /// The part of the spec that it is about. Where that differs between two trees, nothing is known.
    pub about: String,
}
