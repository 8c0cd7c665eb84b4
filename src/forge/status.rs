//! The status of a commit that Opsy sets beside a comment. Pure.

use super::text::one_line;

/// The name of the status.
pub const CONTEXT: &str = "opsy/plan";
/// GitHub refuses longer descriptions.
const LONGEST: usize = 140;

/// The result. A forge without a neutral state shows a success, because neutral blocks nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Success,
    Failure,
    Neutral,
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
    /// Shortens the description to one line that every forge accepts.
    pub fn new(context: &str, state: State, description: &str, url: Option<String>) -> Self {
        let description = one_line(description, LONGEST);
        Self { context: context.to_owned(), state, description, url }
    }
}
