//! Decodes documents into the objects for the reconcilers. A document that cannot be decoded is left out and reported.

use std::collections::BTreeMap;

use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::object::{Stored, object};
use super::requests::Requested;
use crate::api::{Key, Kind, ObjectKey};
use crate::engine::board::Board;
use crate::engine::feed::Feed;
use crate::manifest::DocumentText;

/// What the state directory contains about objects.
pub(super) struct Known<'a> {
    pub stored: &'a BTreeMap<ObjectKey, Stored>,
    pub requested: &'a BTreeMap<ObjectKey, Requested>,
}

/// Objects with their keys.
pub(super) type Decoded<K> = Vec<(ObjectKey, K)>;

/// The objects of one kind, and why others of it cannot be decoded.
pub(super) fn decoded<K: DeserializeOwned>(
    kind: Kind,
    documents: &BTreeMap<ObjectKey, DocumentText>,
    known: &Known<'_>,
) -> (Decoded<K>, BTreeMap<ObjectKey, String>) {
    let (mut objects, mut undecodable) = (Vec::new(), BTreeMap::new());
    for (name, document) in documents.iter().filter(|(name, _)| name.kind == kind) {
        let Some(stored) = known.stored.get(name) else { continue };
        match object(document, stored, known.requested.get(name)) {
            Ok(object) => objects.push((name.clone(), object)),
            Err(why) => drop(undecodable.insert(name.clone(), why)),
        }
    }
    (objects, undecodable)
}

/// Replaces the objects of one kind in their store, and wakes them.
pub(super) fn load_kind<K>(feed: &Feed<K>, objects: Decoded<K>, board: &Board)
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + 'static,
{
    let keys: Vec<Key> = objects.iter().map(|(name, _)| name.key.clone()).collect();
    objects.iter().for_each(|(name, _)| board.enqueued(name));
    feed.load(objects.into_iter().map(|(_, object)| object), &keys);
}
