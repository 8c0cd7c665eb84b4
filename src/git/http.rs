//! The HTTP client of all clones, for requests that libgit2 cannot send. It follows no redirect, so credentials reach
//! only the server that they are configured for.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, Proxy, StatusCode, redirect};

use crate::api::network::{Authorities, Network};
use crate::api::proxy::Proxies;

/// Shorter than the limit of libgit2, which connects next if there is no response.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest request: servers respond within a second.
const WHOLE: Duration = Duration::from_secs(10);
/// The maximum size of a response, which has some hundred bytes.
const MAX_RESPONSE: usize = 64 * 1024;
/// Some servers recognize Git by the start of this header.
const USER_AGENT: &str = concat!("git/2.0 (opsy ", env!("CARGO_PKG_VERSION"), ")");

/// How repositories are reached. Cheap to clone. The client is created for the first request.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

struct Inner {
    network: Network,
    runtime: tokio::runtime::Handle,
    client: OnceLock<Option<Client>>,
}

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The body of a response of the requested type.
    Body(Vec<u8>),
    /// The server requires credentials, or refuses those of the request.
    Unauthorized,
    /// The server cannot be reached, or is unavailable at the moment.
    Unavailable,
    /// Any other response.
    Other,
}

impl Http {
    /// Must be called in a runtime, which sends the requests.
    pub fn new(network: &Network) -> Self {
        let (network, runtime) = (network.clone(), tokio::runtime::Handle::current());
        Self(Arc::new(Inner { network, runtime, client: OnceLock::new() }))
    }

    pub fn proxies(&self) -> &Proxies {
        &self.0.network.proxies
    }

    /// Sends a request to `git-upload-pack` of the repository at `url`, in version 2 of the protocol. `login` is user
    /// and password. Blocks, so must be called outside of the runtime.
    pub(super) fn upload_pack(&self, url: &str, login: Option<(&str, &str)>, body: Vec<u8>) -> Answer {
        let client = self.0.client.get_or_init(|| client(&self.0.network).ok());
        match client {
            Some(client) => self.0.runtime.block_on(upload_pack(client, url, login, body)),
            None => Answer::Other,
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http(…)")
    }
}

fn client(network: &Network) -> Result<Client, reqwest::Error> {
    let proxies = network.proxies.clone();
    let ders = network.authorities.iter().flat_map(Authorities::ders);
    let authorities: Vec<_> = ders.map(|der| Certificate::from_der(der)).collect::<Result<_, _>>()?;
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .redirect(redirect::Policy::none())
        .referer(false)
        .proxy(Proxy::custom(move |url| proxies.of(url.as_str()).map(|proxy| proxy.secret_url().to_owned())))
        .tls_certs_merge(authorities)
        .build()
}

async fn upload_pack(client: &Client, url: &str, login: Option<(&str, &str)>, body: Vec<u8>) -> Answer {
    const RESULT: &str = "application/x-git-upload-pack-result";
    let mut request = client
        .post(format!("{url}/git-upload-pack"))
        .header("Git-Protocol", "version=2")
        .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
        .header(ACCEPT, RESULT)
        .body(body);
    if let Some((user, password)) = login {
        request = request.basic_auth(user, Some(password));
    }
    let Ok(response) = request.send().await else { return Answer::Unavailable };
    let is_result = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == RESULT);
    match response.status() {
        StatusCode::OK if is_result => body_of(response).await,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::Unauthorized,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Answer::Unavailable,
        status if status.is_server_error() => Answer::Unavailable,
        _ => Answer::Other,
    }
}

/// Returns the body of a response, unless it is longer than any useful one. The rest of that is not read.
async fn body_of(mut response: reqwest::Response) -> Answer {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(part)) if body.len() + part.len() > MAX_RESPONSE => return Answer::Other,
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => return Answer::Body(body),
            Err(_) => return Answer::Unavailable,
        }
    }
}
