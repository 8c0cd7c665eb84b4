//! The effect on a builder: what its decision means for a reader of the report. Pure.

use super::effect::{Effect, Matters};
use super::report::{Action, Item};
use super::words::{list, short};
use crate::api::{Key, Kind, ObjectKey};
use crate::builder::preview::{Intent, Preview};

/// The effect of a decision; `None` if nothing happens. `doubt` is why the facts of the decision may not be right.
pub fn effect(preview: &Preview, doubt: Option<String>) -> Option<Effect> {
    let object = short(&object(&preview.key));
    match &preview.intent {
        Intent::Build { trigger, why, inputs } => Some(Effect {
            item: Item {
                replaces: preview.images.clone(),
                usual_seconds: preview.usual.map(|usual| usual.as_secs()),
                ..Item::new(object, Action::Build, build(preview), why.clone())
            },
            matters: Matters::Build { trigger: *trigger, inputs: inputs.clone() },
        }),
        Intent::Stalled { message } => {
            Some(Effect::of_message(object, Action::NeedsAttention, "no image is built", message.clone()))
        }
        Intent::Unknown { message } | Intent::Outdated { message } => {
            Some(Effect::unknown(object, message.clone()))
        }
        Intent::Keep { .. } => doubt.map(|doubt| Effect::unknown(object, doubt)),
        Intent::Wait { .. } => None,
    }
}

pub fn object(key: &Key) -> ObjectKey {
    ObjectKey { kind: Kind::PackerBuilder, key: key.clone() }
}

fn build(preview: &Preview) -> String {
    match (preview.lanes.as_slice(), &preview.region) {
        ([], Some(region)) => format!("builds its first image in {region}"),
        ([], None) => "builds its first image".to_owned(),
        ([lane], _) => format!("builds an image for {lane}"),
        (lanes, _) => format!("builds images for {}", list(lanes)),
    }
}
