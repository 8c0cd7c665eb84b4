//! What a refresher does with the next image that its source offers, for a plan in which a build comes first. Pure.

use super::{Group, GroupState, Intent, Preview};
use crate::api::builder::InputsRecord;

/// What happens with the next image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is rolled out to all groups that can be moved.
    RollsOut,
    /// It is not, and why.
    Stays(String),
    /// Something could not be read.
    Unknown(String),
}

impl Preview {
    /// What happens with images that are built from these inputs. A paused refresher rolls nothing out.
    pub fn next(&self, inputs: &[&InputsRecord]) -> Next {
        match &self.intent {
            Intent::Unknown { message } => return Next::Unknown(message.clone()),
            Intent::Stalled { message, until_next_image: false } | Intent::Paused { message } => {
                return Next::Stays(message.clone());
            }
            _ => {}
        }
        let held: Vec<String> =
            inputs.iter().filter_map(|inputs| self.failed.holds_built_from(inputs)).collect();
        let are_held = held.len() == inputs.len();
        held.into_iter().next().filter(|_| are_held).map_or(Next::RollsOut, Next::Stays)
    }
}

impl Group {
    /// Whether a rollout moves it, if it does not run the image already.
    pub fn is_movable(&self) -> bool {
        matches!(self.state, GroupState::OnTarget | GroupState::Drifted(_))
    }
}
