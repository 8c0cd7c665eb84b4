//! Access to the forge on which the agent opens pull requests: its place by the flags and the address of the repository,
//! and its token.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt as _;

use super::inputs::Inputs;
use super::now;
use crate::forge::{self, Client, Flags, ForgeError, Kind, Token};
use crate::git::auth::Credentials;
use crate::publish::Connect;
use crate::settings::{self, RunFlags};

/// The variables for the token that only Opsy reads.
const OWN: [&str; 2] = ["OPSY_FORGE_TOKEN", "OPSY_FORGE_TOKEN_FILE"];

/// Returns how to connect. What is missing is an error of each use, because most agents open no pull requests.
pub fn connect(inputs: &Inputs, credentials: Option<Credentials>) -> Connect {
    let flags = flags(&inputs.flags);
    let (address, network) = (inputs.repository.as_str().to_owned(), inputs.network.clone());
    let mut variables = settings::environment();
    if let Some(file) = &inputs.flags.forge.forge_token_file {
        variables.insert(OWN[1].to_owned(), file.display().to_string());
    }
    let variables = Arc::new(variables);
    Arc::new(move || {
        let (flags, address, network) = (flags.clone(), address.clone(), network.clone());
        let (variables, credentials) = (variables.clone(), credentials.clone());
        async move {
            let place = forge::place_of(&address, &flags.map_err(ForgeError::Config)?);
            let place = place.map_err(ForgeError::Config)?;
            let token = token(place.kind, &variables, credentials.as_ref()).await?;
            Client::new(&network, place, token, None, now)
        }
        .boxed()
    })
}

fn flags(flags: &RunFlags) -> Result<Flags, String> {
    let kind = flags.forge.forge.as_deref().map(str::parse::<Kind>).transpose();
    Ok(Flags {
        kind: kind.map_err(|why| format!("--forge: {why}"))?,
        api: flags.forge.forge_api.clone(),
        repository: flags.forge.forge_repository.clone(),
        number: None,
        insecure_http: flags.git.addresses.insecure_http,
    })
}

/// Returns the token: Opsy's own, else that of the repository, else one that a CI system has set.
async fn token(
    kind: Kind,
    variables: &BTreeMap<String, String>,
    credentials: Option<&Credentials>,
) -> Result<Token, ForgeError> {
    let own = OWN.iter().filter_map(|name| Some(((*name).to_owned(), variables.get(*name)?.clone())));
    if let Ok(source) = forge::find_token(kind, &own.collect()) {
        return source.read();
    }
    let of_git = match credentials {
        Some(credentials) => credentials.token_for_api().await,
        None => Ok(None),
    };
    match of_git.map_err(|error| ForgeError::Config(error.to_string()))? {
        Some(token) => Token::new(&token, "the credentials of the repository"),
        None => forge::find_token(kind, variables)?.read(),
    }
}
