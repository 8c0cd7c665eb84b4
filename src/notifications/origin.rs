//! Which builder built an image, according to the histories of the builders.

use crate::announce::Origin;
use crate::api::PackerBuilder;
use crate::api::builder::RunRecord;
use crate::engine::objects::Objects;

/// The builder and the commit that a target was built from; `None` if no builder has it in its history.
pub fn of(objects: &Objects, target: &str) -> Option<Origin> {
    let mut candidates = image_ids(target)
        .flat_map(|image| objects.builders.holding(image).map(move |builder| (image, builder)));
    candidates.find_map(|(image, builder)| built(&builder, image))
}

/// The image IDs in a target: it names several images if its node groups have several architectures.
fn image_ids(target: &str) -> impl Iterator<Item = &str> {
    target.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|id| !id.is_empty())
}

fn built(builder: &PackerBuilder, image: &str) -> Option<Origin> {
    let history = builder.status.as_ref()?.history.as_deref().unwrap_or_default();
    let made = |run: &&RunRecord| run.images.iter().flatten().any(|made| made == image);
    let run = history.iter().find(made)?;
    Some(Origin { builder: builder.metadata.name.clone().unwrap_or_default(), commit: run.commit.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_comes_from_the_build_in_the_history_that_made_it() {
        let mut builder = PackerBuilder::new("web", serde_json::from_value(json!({})).expect("a spec"));
        let runs = json!([
            {"id": "b2", "result": "Failed", "commit": "c2"},
            {"id": "b1", "result": "Succeeded", "commit": "c1", "images": ["ami-1", "ami-2"]},
        ]);
        builder.status = serde_json::from_value(json!({ "history": runs })).expect("a status");
        let origin = built(&builder, "ami-2").expect("known");
        assert_eq!((origin.builder.as_str(), origin.commit.as_deref()), ("web", Some("c1")));
        assert_eq!(built(&builder, "ami-3"), None);
    }

    #[test]
    fn a_target_may_name_several_images() {
        let ids = |target| image_ids(target).collect::<Vec<_>>();
        assert_eq!(ids("ami-1"), ["ami-1"]);
        assert_eq!(ids("ami-1, ami-2"), ["ami-1", "ami-2"]);
        assert_eq!(ids(""), [""; 0]);
    }
}
