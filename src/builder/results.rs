//! Whether an image that a run names is a result of that run. Pure; part of promotion.
//!
//! A template, or the program in a builder's container image, can name any image. A result belongs to this account, was
//! created after the run started, and has no tags of another builder or build.

use jiff::Timestamp;

use super::located::Located;
use crate::api::tags;
use crate::api::time::{self, SKEW};
use crate::engine::Run;

/// Returns why the image is not a result of the run, if it is not.
pub fn rejection(run: &Run, located: &Located, account: &str) -> Option<String> {
    let id = &located.image.id;
    let owner = &located.image.owner_id;
    if owner != account {
        return Some(format!(
            "image {id} belongs to account {owner}, but the build runs for account {account}"
        ));
    }
    if let Some(made) = located.image.created.filter(|made| predates(run, *made)) {
        let (made, started) = (time::to_second(made), time::to_second(run.facts.created_at));
        return Some(format!("image {id} was created at {made}, before the build started at {started}"));
    }
    let own = [(tags::BUILD, run.facts.build.to_string()), (tags::BUILDER, run.facts.builder.to_string())];
    let (tag, other) =
        own.iter().find_map(|(tag, own)| Some((tag, located.tag(tag).filter(|tag| tag != own)?)))?;
    Some(format!("image {id} has the tag {tag}={other} of another build"))
}

fn predates(run: &Run, made: Timestamp) -> bool {
    time::after(made, SKEW).is_some_and(|made| made < run.facts.created_at)
}
