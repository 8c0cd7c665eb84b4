//! Access to the forge: its flags, and for the pull requests of the agent its place by the address of the
//! repository, and its token.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt as _;

use super::now;
use crate::api::git_host::GitHost;
use crate::api::network::Network;
use crate::forge::{self, Client, Flags, ForgeError, Token};
use crate::git::address::Address;
use crate::git::auth::Credentials;
use crate::publish::Connect;
use crate::settings::{self, AccessFlags, ForgeFlags};

/// The variables for the token that only Opsy reads.
const OWN: [&str; 2] = ["OPSY_FORGE_TOKEN", "OPSY_FORGE_TOKEN_FILE"];

/// Returns how to connect. What is missing is an error of each use, because most agents open no pull requests.
pub fn connect(
    access: &AccessFlags,
    address: &Address,
    network: &Network,
    credentials: Option<Credentials>,
) -> Connect {
    let flags = flags(&access.forge, access.git.addresses.insecure_http);
    let (address, network) = (address.as_str().to_owned(), network.clone());
    let variables = Arc::new(variables(&access.forge));
    Arc::new(move || {
        let (flags, address, network) = (flags.clone(), address.clone(), network.clone());
        let (variables, credentials) = (variables.clone(), credentials.clone());
        async move {
            let place = forge::place_of(&address, &flags).map_err(ForgeError::Config)?;
            let is_near = forge::is_same_host(&place, &address);
            let token = token(place.kind, &variables, credentials.as_ref(), is_near).await?;
            Client::new(&network, place, token, None, now)
        }
        .boxed()
    })
}

/// Returns the flags as the forge takes them.
pub fn flags(flags: &ForgeFlags, insecure_http: bool) -> Flags {
    Flags {
        kind: flags.forge,
        api: flags.forge_api.clone(),
        repository: flags.forge_repository.clone(),
        number: None,
        insecure_http,
    }
}

/// Returns the environment, in which the flags for the token take precedence.
pub fn variables(flags: &ForgeFlags) -> BTreeMap<String, String> {
    let mut variables = settings::environment();
    let file = flags.forge_token_file.as_ref();
    variables.extend(file.map(|file| (OWN[1].to_owned(), file.display().to_string())));
    variables
}

/// Returns the token: Opsy's own, else that of the repository, else one that a CI system has set. The last two are sent
/// to no other host than that of the repository.
async fn token(
    kind: GitHost,
    variables: &BTreeMap<String, String>,
    credentials: Option<&Credentials>,
    is_near: bool,
) -> Result<Token, ForgeError> {
    let own = OWN.iter().filter_map(|name| Some(((*name).to_owned(), variables.get(*name)?.clone())));
    let own: BTreeMap<String, String> = own.filter(|(_, value)| !value.trim().is_empty()).collect();
    if !own.is_empty() {
        return forge::find_token(kind, &own)?.read();
    }
    if !is_near {
        return Err(ForgeError::Config(
            "no token for pull requests: the API is on another host than the repository, whose token is not sent there; \
             set --forge-token-file or OPSY_FORGE_TOKEN"
                .to_owned(),
        ));
    }
    let of_git = match credentials {
        Some(credentials) => credentials.token_for_api().await,
        None => Ok(None),
    };
    match of_git.map_err(|error| ForgeError::Config(error.to_string()))? {
        Some(token) => Token::new(&token, "the credentials of the repository"),
        None => forge::find_token(kind, variables).map_err(|_| no_token())?.read(),
    }
}

fn no_token() -> ForgeError {
    ForgeError::Config(
        "no token for pull requests: set --forge-token-file or OPSY_FORGE_TOKEN, or read the repository over HTTPS \
         with a token"
            .to_owned(),
    )
}
