//! What happens to one object of a tree, and what decides whether the same happens in another tree. Pure.

use super::report::{Action, Item};
use crate::api::builder::InputsRecord;
use crate::api::words::Trigger;

/// What happens to an object.
#[derive(Clone, Debug)]
pub struct Effect {
    pub item: Item,
    pub matters: Matters,
}

/// What must be equal in two trees for the same to happen. The words of an item may differ: they contain times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matters {
    Build {
        trigger: Trigger,
        inputs: InputsRecord,
    },
    Rollout {
        action: Action,
        /// Group, wave and image.
        moves: Vec<(String, Option<String>, String)>,
        /// What the images are built from, if they do not exist yet.
        built_from: Vec<InputsRecord>,
        /// What it waits for.
        waits: Option<String>,
    },
    Message(Action, String),
}

impl Effect {
    /// An effect for which the message alone matters.
    pub fn of_message(object: String, action: Action, what: &str, why: String) -> Self {
        let matters = Matters::Message(action, why.clone());
        Self { item: Item::new(object, action, what, why), matters }
    }

    /// Something could not be read.
    pub fn unknown(object: String, why: String) -> Self {
        Self::of_message(object, Action::Unknown, "could not be planned", why)
    }
}
