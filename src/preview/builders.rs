//! The item of a builder: what its decision means for a reader of the report. Pure.

use super::report::{Action, Item};
use super::words::{list, short};
use crate::api::{Key, Kind, ObjectKey};
use crate::builder::preview::{Intent, Preview};

/// The item for a decision; `None` if nothing happens.
pub fn item(preview: &Preview) -> Option<Item> {
    let (action, what, why) = match &preview.intent {
        Intent::Build { why, .. } => (Action::Build, build(preview), why.clone()),
        Intent::Stalled { message, .. } => {
            (Action::NeedsAttention, "nothing is built".to_owned(), message.clone())
        }
        Intent::Unknown { message } => (Action::Unknown, "the effect is unknown".to_owned(), message.clone()),
        Intent::Keep { .. } | Intent::Wait { .. } => return None,
    };
    let usual = preview.usual.filter(|_| action == Action::Build).map(|usual| usual.as_secs());
    Some(Item {
        object: short(&object(&preview.key)),
        file: None,
        action,
        what,
        why,
        usual_seconds: usual,
        groups: Vec::new(),
        fields: Vec::new(),
        details: details(preview, action),
    })
}

pub fn object(key: &Key) -> ObjectKey {
    ObjectKey { kind: Kind::PackerBuilder, key: key.clone() }
}

fn build(preview: &Preview) -> String {
    match preview.lanes.as_slice() {
        [] => match &preview.region {
            Some(region) => format!("builds its first image in {region}"),
            None => "builds its first image".to_owned(),
        },
        lanes => format!("builds {}", list(lanes)),
    }
}

fn details(preview: &Preview, action: Action) -> Vec<String> {
    let mut details = Vec::new();
    if action == Action::Build {
        match preview.images.as_slice() {
            [] => {}
            images => details.push(format!("replaces {} as the active image", list(images))),
        }
    }
    if !preview.assumed.is_empty() {
        details.push(format!("planned without AWS; assumed: {}", list(&preview.assumed)));
    }
    details
}
