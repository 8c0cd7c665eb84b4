//! Observes the template of a builder: whether the builder may use it, and what its inputs are.

use crate::api::builder::PackerBuilder;
use crate::api::{Class, Key, Kind, ObjectKey, Seen};
use crate::builder::Context;
use crate::builder::spec::Spec;
use crate::git::templates::Resolved;
use crate::sync::Synced;

/// Resolves the template to a commit and its inputs, if the builder may use it.
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
    // A manifest in Git allows only what it contains itself, not what somebody has written into the object since.
    if !(ctx.in_sync)(object) {
        let why = "the object differs from its manifest in Git: nothing is built until it is in sync";
        return Seen::Unknown(Class::Conflict, why.to_owned());
    }
    let is_own = spec.template.source.as_ref().is_none_or(|source| source.repository.is_none());
    // An object whose document was removed or cannot be read counts as declared: it starts nothing anyway.
    let declared = ObjectKey { kind: Kind::PackerBuilder, key: key.clone() };
    let is_declared = synced.set.declares(&declared) || (ctx.undeclared)(key).is_some();
    if is_own && let Err(why) = ctx.access.check(&key.namespace, is_declared, &spec.template) {
        return Seen::Unknown(Class::Invalid, why);
    }
    let resolved = ctx.templates.resolve(&spec.template, key).await;
    resolved.map_or_else(|error| Seen::Unknown(error.class, error.message), Seen::Is)
}
