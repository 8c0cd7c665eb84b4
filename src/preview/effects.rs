//! What happens to each object of a tree. A refresher follows the builders of its images. Pure.

use std::collections::BTreeMap;

use super::effect::Effect;
use super::refreshers::{Built, Upstream};
use super::report::Action;
use super::words::{list, short};
use super::{Side, builders, refreshers};
use crate::api::{Assumption, ObjectKey};
use crate::builder::preview as builder;
use crate::refresher::preview as refresher;

/// The effects of a tree. What was assumed for it must be what was assumed for the base.
pub fn effects(side: &Side, base: Option<&Side>) -> BTreeMap<ObjectKey, Effect> {
    let mut all = BTreeMap::new();
    for preview in side.builders.values() {
        let before = base.and_then(|base| base.builders.get(&preview.key));
        let doubt = before.and_then(|before| doubt(&before.assumed, &preview.assumed));
        let effect = builders::effect(preview, doubt);
        all.extend(effect.map(|effect| (builders::object(&preview.key), effect)));
    }
    let mut of_refreshers = Vec::new();
    for preview in side.refreshers.values() {
        let before = base.and_then(|base| base.refreshers.get(&preview.key));
        let doubt = before.and_then(|before| doubt(&before.assumed, &preview.assumed));
        let upstream = upstream(side, preview, &all);
        let upstream = Upstream { doubt: doubt.or(upstream.doubt), ..upstream };
        let effect = refreshers::effect(preview, &upstream);
        of_refreshers.extend(effect.map(|effect| (refreshers::object(&preview.key), effect)));
    }
    all.extend(of_refreshers);
    all
}

/// The builds and the unknown builders that can change the target of a refresher.
fn upstream<'a>(
    side: &'a Side,
    preview: &refresher::Preview,
    effects: &BTreeMap<ObjectKey, Effect>,
) -> Upstream<'a> {
    let mut upstream = Upstream::default();
    for built in side.builders.values().filter(|built| takes(&preview.source, built)) {
        let effect = effects.get(&builders::object(&built.key));
        match &built.intent {
            builder::Intent::Build { inputs, .. } => {
                upstream.builds.push(Built { builder: &built.key, inputs });
            }
            // Its groups would be compared with an image that is not the active one.
            builder::Intent::Outdated { .. } => {
                let builder = short(&builders::object(&built.key));
                upstream.doubt =
                    Some(format!("the published status of {builder} is older than its active image"));
            }
            _ if effect.is_some_and(|effect| effect.item.action == Action::Unknown) => {
                upstream.unknown.push(&built.key);
            }
            _ => {}
        }
    }
    upstream
}

/// Whether images of this builder become the target.
pub fn takes(source: &refresher::ImageSource, built: &builder::Preview) -> bool {
    let (cluster, region) = (built.cluster.as_deref(), built.region.as_deref());
    source.takes(refresher::BuiltBy { key: &built.key, cluster, region })
}

/// What is not known without AWS, because the change is about it.
fn doubt(before: &[Assumption], after: &[Assumption]) -> Option<String> {
    let is_changed = |assumed: &&Assumption| !before.contains(assumed);
    let changed: Vec<&str> = after.iter().filter(is_changed).map(|assumed| assumed.what).collect();
    (!changed.is_empty())
        .then(|| format!("its manifest changes, and {} can only be read from AWS", list(changed)))
}
