//! Looks at the template of a builder: may the builder have it, and what are its inputs?

use super::builders;
use crate::api::builder::PackerBuilder;
use crate::api::{Class, Key, Seen};
use crate::builder::Context;
use crate::builder::spec::Spec;
use crate::git::templates::Resolved;
use crate::sync::Synced;

/// The template's inputs at the synced commit, where the builder may have them.
pub async fn resolve(
    object: &PackerBuilder,
    spec: Option<&Spec>,
    key: &Key,
    synced: &Synced,
    ctx: &Context,
) -> Seen<Resolved> {
    let Some(spec) = spec else {
        return Seen::Unknown(Class::Invalid, "the spec is invalid".to_owned());
    };
    // A document in Git vouches for what it says itself, and for nothing that somebody wrote into the object since.
    if !(ctx.in_sync)(object) {
        let why = "the object is not what its manifest in Git says: nothing is built until it is reverted";
        return Seen::Unknown(Class::Conflict, why.to_owned());
    }
    let is_own = spec.template.elsewhere.as_ref().is_none_or(|elsewhere| elsewhere.repository.is_none());
    // One that only lost its document starts nothing.
    let is_declared = builders(synced).contains(key) || (ctx.undeclared)(key).is_some();
    if is_own && let Err(why) = ctx.access.check(&key.namespace, is_declared, &spec.template) {
        return Seen::Unknown(Class::Invalid, why);
    }
    let resolved = ctx.templates.resolve(&spec.template, key).await;
    resolved.map_or_else(|error| Seen::Unknown(error.class, error.message), Seen::Is)
}
