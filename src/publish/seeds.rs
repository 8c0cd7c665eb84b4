//! Status read back from status files: it seeds an object whose status the engine has lost. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::ObjectKey;
use crate::manifest::write;
use crate::sync::StatusFile;

/// The published status of each object. A file that is not a status file is skipped, since anyone who can push may have written it.
pub fn seeds(files: &[StatusFile]) -> BTreeMap<ObjectKey, Value> {
    let read = |file: &StatusFile| {
        let (object, status) = write::read_status_file(std::str::from_utf8(&file.content).ok()?).ok()?;
        Some((object, serde_json::to_value(write::seed(status)).ok()?))
    };
    files.iter().filter_map(read).collect()
}
