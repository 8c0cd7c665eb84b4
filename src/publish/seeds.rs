//! Status read back from status files: it seeds an object whose status the engine has lost. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::ObjectKey;
use crate::manifest::write;

/// The published status of each object. `files` are paths and contents of the status folder; a file that is not a
/// status file is skipped, since anyone who can push may have written it.
pub fn seeds(files: &[(String, Vec<u8>)]) -> BTreeMap<ObjectKey, Value> {
    let read = |(_, content): &(String, Vec<u8>)| {
        let (object, status) = write::read_status_file(std::str::from_utf8(content).ok()?).ok()?;
        Some((object, serde_json::to_value(write::seed(status)).ok()?))
    };
    files.iter().filter_map(read).collect()
}
