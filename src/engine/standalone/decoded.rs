//! From documents to the objects that reconcilers see. One that cannot be decoded is not among them, and ends nothing.

use std::collections::BTreeMap;

use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::asked::Asked;
use super::object::{Stored, object};
use crate::api::{Key, Kind, ObjectKey};
use crate::engine::board::Board;
use crate::engine::feed::Feed;
use crate::manifest::Json;

/// What the state directory knows of objects.
pub(super) struct Known<'a> {
    pub stored: &'a BTreeMap<ObjectKey, Stored>,
    pub asked: &'a BTreeMap<ObjectKey, Asked>,
}

/// Objects by their names.
pub(super) type Decoded<K> = Vec<(ObjectKey, K)>;

/// The objects of one kind, and those that cannot be decoded, with why.
pub(super) fn decoded<K: DeserializeOwned>(
    kind: Kind,
    documents: &BTreeMap<ObjectKey, Json>,
    known: &Known<'_>,
) -> (Decoded<K>, BTreeMap<ObjectKey, String>) {
    let (mut objects, mut unusable) = (Vec::new(), BTreeMap::new());
    for (name, document) in documents.iter().filter(|(name, _)| name.kind == kind) {
        let Some(stored) = known.stored.get(name) else { continue };
        match object(document, stored, known.asked.get(name)) {
            Ok(object) => objects.push((name.clone(), object)),
            Err(why) => drop(unusable.insert(name.clone(), why)),
        }
    }
    (objects, unusable)
}

/// Puts the objects of one kind into their store and wakes them.
pub(super) fn load_kind<K>(feed: &Feed<K>, objects: Decoded<K>, board: &Board)
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + 'static,
{
    let keys: Vec<Key> = objects.iter().map(|(name, _)| name.key.clone()).collect();
    objects.iter().for_each(|(name, _)| board.woken(name));
    feed.load(objects.into_iter().map(|(_, object)| object), &keys);
}
