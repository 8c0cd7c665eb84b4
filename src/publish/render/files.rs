//! The files of a batch. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::summary;
use crate::api::builder::LaneImage;
use crate::api::{Key, ObjectKey, ids};
use crate::git::commit::Edit;
use crate::manifest::write::{self, AMIS_FILE, AmiUpdate, ObjectStatus};
use crate::publish::Rendered;

/// The status file of an object. `version` identifies the status, and `read` returns it again when the file is written.
pub fn status(
    object: &ObjectKey,
    version: Option<String>,
    status: &ObjectStatus,
    read: impl Fn() -> Option<ObjectStatus> + Send + Sync + 'static,
) -> Rendered {
    let (summary, trailers) = (Some(summary::line(object, status)), summary::trailers(status));
    let key = object.key.clone();
    let write = move |previous: Option<&[u8]>| {
        let status = read().expect("the object had it when the batch was rendered");
        let previous = previous.map(String::from_utf8_lossy);
        let text =
            write::status_file(&key, &status, previous.as_deref()).map_err(|error| error.to_string())?;
        Ok(text.into_bytes())
    };
    Rendered {
        path: write::status_path(object),
        edit: Edit::Renew(Arc::new(write)),
        resource: Some(object.to_string()),
        summary,
        trailers,
        version,
    }
}

/// The removal of the status file of an object.
pub fn removed(object: &ObjectKey) -> Rendered {
    Rendered {
        path: write::status_path(object),
        edit: Edit::Remove,
        resource: Some(object.to_string()),
        summary: Some(format!("{} was removed", object.key.name)),
        trailers: Vec::new(),
        version: None,
    }
}

/// `amis.json` with the entries of some builders changed.
pub fn amis(amis: BTreeMap<Key, AmiUpdate>) -> Rendered {
    let (version, summary) = (Some(digest_of_updates(&amis)), named(&amis));
    let merge = move |previous: Option<&[u8]>| {
        write::amis_json(previous, &amis)
            .map_err(|error| format!("{AMIS_FILE}: {error}; correct the file or delete it"))
    };
    Rendered {
        path: AMIS_FILE.to_owned(),
        edit: Edit::Merge(Arc::new(merge)),
        resource: None,
        summary,
        trailers: Vec::new(),
        version,
    }
}

/// What `amis.json` names, if the entry of one builder changes.
fn named(amis: &BTreeMap<Key, AmiUpdate>) -> Option<String> {
    let (key, update) = amis.first_key_value().filter(|_| amis.len() == 1)?;
    let AmiUpdate::Images(images) = update else { return None };
    let ids: Vec<&str> =
        images.iter().filter(|image| image.gone != Some(true)).map(|image| image.id.as_str()).collect();
    let ids = if ids.is_empty() { "no image".to_owned() } else { ids.join(", ") };
    Some(format!("{}: {AMIS_FILE} names {ids}", key.name))
}

/// Identifies the images of a builder, as far as `amis.json` names them.
pub fn digest(images: &[LaneImage]) -> u64 {
    let parts: Vec<&str> = images.iter().flat_map(parts).collect();
    let digest = ids::digest(&parts);
    u64::from_str_radix(&digest[..16], 16).expect("a digest has 64 hexadecimal digits")
}

fn digest_of_updates(amis: &BTreeMap<Key, AmiUpdate>) -> String {
    let lines = amis.iter().map(|(key, update)| match update {
        AmiUpdate::Removed => format!("{key} removed"),
        AmiUpdate::Images(images) => format!("{key} {:016x}", digest(images)),
    });
    let lines: Vec<String> = lines.collect();
    ids::digest(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn parts(image: &LaneImage) -> [&str; 4] {
    let gone = if image.gone == Some(true) { "gone" } else { "" };
    [&image.region, &image.architecture, &image.id, gone]
}
