//! The status of a commit that Opsy sets beside a comment. Pure.

use super::text::one_line;

/// The name of the status of a plan of the whole repository.
const CONTEXT: &str = "opsy/plan";
/// Longer names are refused by some forges.
const LONGEST_CONTEXT: usize = 100;
/// GitHub refuses longer descriptions.
const LONGEST: usize = 140;

/// The result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Success,
    Failure,
}

/// A status of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub context: String,
    pub state: State,
    /// One line of at most 140 characters.
    pub description: String,
    /// The page of the job.
    pub url: Option<String>,
}

impl Status {
    /// The status of the plan of a target. Each target has a name of its own. Shortens the description to one line that
    /// every forge accepts.
    pub fn new(target: &str, state: State, description: &str, url: Option<String>) -> Self {
        let context = match target {
            "." => CONTEXT.to_owned(),
            target => one_line(&format!("{CONTEXT}: {target}"), LONGEST_CONTEXT),
        };
        Self { context, state, description: one_line(description, LONGEST), url }
    }
}
