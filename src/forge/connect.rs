//! Connects to the forge that flags and the CI name: reads the event and the token, and makes the client.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::client::Client;
use super::detect::{Detected, Flags, detect};
use super::error::ForgeError;
use super::token;
use crate::api::network::Network;

/// The variable with the file of the event, in Actions of GitHub, Gitea and Forgejo.
const EVENT: &str = "GITHUB_EVENT_PATH";
/// The name of the token's user, for tokens that may not ask for it.
const AUTHOR: &str = "OPSY_FORGE_AUTHOR";
/// Maximum size of an event. Those of GitHub have less than 25 MB.
const MOST_EVENT: u64 = 32 * 1024 * 1024;

/// Returns what is known about the pull request, and a client of its forge. `variables` is the environment.
///
/// # Errors
/// The forge, the repository or the token is missing or not valid. The message says how to set it.
pub fn connect(
    flags: &Flags,
    variables: &BTreeMap<String, String>,
    network: &Network,
    now: fn() -> Timestamp,
) -> Result<(Detected, Client), ForgeError> {
    let event = variables.get(EVENT).filter(|path| !path.is_empty());
    let event = event.map(|path| read_event(Path::new(path))).transpose()?;
    let detected = detect(flags, variables, event.as_ref()).map_err(ForgeError::Config)?;
    let source = token::find(detected.place.kind, variables)?;
    // Another step of the job may have set the variable with the address, and that step may run code of a pull request.
    if !detected.is_own_api && !source.is_of_opsy() {
        return Err(ForgeError::Config(format!(
            "{source} is not sent to {}, because neither the CI job nor the public service has its API there: set \
             OPSY_FORGE_TOKEN or OPSY_FORGE_TOKEN_FILE",
            detected.place.api
        )));
    }
    let token = source.read()?;
    let author = variables.get(AUTHOR).filter(|name| !name.is_empty()).cloned();
    let client = Client::new(network, detected.place.clone(), token, author, now)?;
    Ok((detected, client))
}

fn read_event(path: &Path) -> Result<Value, ForgeError> {
    let failed = |why: &dyn std::fmt::Display| {
        ForgeError::Config(format!("{EVENT} ({}) cannot be read: {why}", path.display()))
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    file.take(MOST_EVENT).read_to_string(&mut text).map_err(|error| failed(&error))?;
    serde_json::from_str(&text).map_err(|error| failed(&error))
}
