//! Where the facts of a plan come from, the same word for both reconcilers and the report.

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
