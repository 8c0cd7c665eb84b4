//! Tokens of GitHub Apps: requested with the private key of the App, cached, and renewed before they expire.
//!
//! ```text
//! private key, App ID ─> signed request (JWT) ─> api.github.com ─> installation token ─> cache ─> credentials
//! ```
//! Source: "Generating an installation access token for a GitHub App" in GitHub's documentation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::ACCEPT;
use reqwest::{Certificate, Proxy, StatusCode, redirect};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use url::Url;

use super::GitError;
use super::secret::Secret;
use crate::api::git_host::GITHUB_API;
use crate::api::ids::digest;
use crate::api::lock::lock;
use crate::api::network::{Authorities, Network};

/// GitHub accepts signed requests with a lifetime of at most ten minutes, by its own clock.
const REQUEST_LIFETIME: SignedDuration = SignedDuration::from_mins(9);
/// The tolerated difference between the clocks.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(1);
/// A token that expires this soon is not used, since a long fetch can request credentials late. Tokens are valid for an
/// hour.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);
/// GitHub responds within a second.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The maximum size of a response, which has some hundred bytes: the author of a Secret can choose the server.
const MAX_RESPONSE: usize = 64 * 1024;
/// The maximum number of characters of GitHub's message in an error.
const MAX_MESSAGE: usize = 200;

/// An installation of a GitHub App in an organization, with the private key of the App.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// App ID or client ID.
    pub id: String,
    pub installation: String,
    /// The RSA private key in PEM, as GitHub generates it.
    pub key: Secret,
    pub api: String,
    /// Whether to request tokens that can only read the content of repositories.
    pub read_only: bool,
}

impl App {
    /// Checks the IDs and the API, which the URL of requests contains.
    ///
    /// # Errors
    /// If one of them is invalid.
    pub fn check(&self) -> Result<(), GitError> {
        let plain =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
        if !plain(&self.id) {
            return Err(GitError::Credentials(format!(
                "{:?} is not a valid ID of a GitHub App: use the App ID or the client ID from the page of the App",
                self.id
            )));
        }
        if self.installation.is_empty() || !self.installation.chars().all(|c| c.is_ascii_digit()) {
            let why = "is not a valid installation ID of a GitHub App: use the number at the end of the URL of the \
                       installation's page";
            return Err(GitError::Credentials(format!("{:?} {why}", self.installation)));
        }
        self.address().map(drop)
    }

    /// Returns the URL for requests of tokens.
    fn address(&self) -> Result<Url, GitError> {
        let text = format!(
            "{}/app/installations/{}/access_tokens",
            self.api.trim_end_matches('/'),
            self.installation
        );
        let invalid = || {
            GitError::Credentials(format!(
                "{:?} is not a valid API URL of a GitHub server: use {GITHUB_API}, or https://<host>/api/v3",
                self.api
            ))
        };
        let url = Url::parse(&text).map_err(|_| invalid())?;
        let is_loopback = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            _ => false,
        };
        let has_login = !url.username().is_empty() || url.password().is_some();
        match url.scheme() == "https" || url.scheme() == "http" && is_loopback {
            true if !has_login && url.query().is_none() && url.fragment().is_none() => Ok(url),
            _ => Err(invalid()),
        }
    }

    /// Returns a JWT for a request of a token, signed with the private key.
    fn assertion(&self, pem: &str, now: Timestamp) -> Result<String, GitError> {
        let invalid =
            |why: &str| GitError::Credentials(format!("the private key of GitHub App {}: {why}", self.id));
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| invalid("it is not a private key in PEM; generate one on the App's page"))?;
        let pair = match &key {
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(invalid("it is not an RSA key; generate one on the App's page")),
        };
        let pair = pair.map_err(|_| invalid("it is not a valid RSA key; generate one on the App's page"))?;
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let issued = now - CLOCK_SKEW;
        let claims = json!({
            "iat": issued.as_second(), "exp": (issued + REQUEST_LIFETIME).as_second(), "iss": self.id,
        });
        let signed = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| invalid("it cannot sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The tokens of all Apps. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
    now: fn() -> Timestamp,
    cached: std::sync::Mutex<BTreeMap<String, Slot>>,
}

/// The token of one App. It is locked during a request, so that it is requested once, and other Apps are not blocked.
type Slot = Arc<Mutex<Option<Token>>>;

#[derive(Clone, Deserialize)]
struct Token {
    token: String,
    expires_at: Timestamp,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tokens {}

impl Tokens {
    /// Creates a cache. Requests use the proxies and certificate authorities of `network`. Must be called in a runtime,
    /// which sends the requests.
    ///
    /// # Errors
    /// If the client cannot be created.
    pub fn new(network: &Network, now: fn() -> Timestamp) -> Result<Self, reqwest::Error> {
        let proxies = network.proxies.clone();
        let ders = network.authorities.iter().flat_map(Authorities::ders);
        let authorities: Vec<_> = ders.map(|der| Certificate::from_der(der)).collect::<Result<_, _>>()?;
        let client = reqwest::Client::builder()
            .user_agent(concat!("opsy/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .proxy(Proxy::custom(move |url| {
                proxies.of(url.as_str()).map(|proxy| proxy.secret_url().to_owned())
            }))
            .tls_certs_merge(authorities)
            .build()?;
        let runtime = tokio::runtime::Handle::current();
        Ok(Self(Arc::new(Inner { client, runtime, now, cached: std::sync::Mutex::default() })))
    }

    /// Returns a token of an App that is valid for at least some minutes.
    pub(super) async fn token(&self, app: &App) -> Result<String, GitError> {
        self.0.get(app).await
    }

    /// As `token`. Blocks, so must be called outside of the runtime.
    pub(super) fn get(&self, app: &App) -> Result<String, GitError> {
        self.0.runtime.block_on(self.0.get(app))
    }

    /// Discards the token of an App after a server refused it.
    pub(super) fn discard(&self, app: &App) {
        if let Ok(id) = app.key.text().map(|key| cache_id(app, &key)) {
            self.0.slots().remove(&id);
        }
    }
}

impl Inner {
    async fn get(&self, app: &App) -> Result<String, GitError> {
        let key = app.key.text()?;
        let id = cache_id(app, &key);
        let now = (self.now)();
        let is_valid = |token: &Token| now + RENEW_BEFORE < token.expires_at;
        let slot = {
            let mut slots = self.slots();
            // Locked tokens are in use.
            slots
                .retain(|_, slot| slot.try_lock().map_or(true, |token| token.as_ref().is_some_and(is_valid)));
            slots.entry(id).or_default().clone()
        };
        let mut cached = slot.lock().await;
        if let Some(found) = cached.as_ref().filter(|token| is_valid(token)) {
            return Ok(found.token.clone());
        }
        let token = self.request(app, &key, now).await?;
        Ok(cached.insert(token).token.clone())
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        lock(&self.cached)
    }

    async fn request(&self, app: &App, key: &str, now: Timestamp) -> Result<Token, GitError> {
        let address = app.address()?;
        let assertion = app.assertion(key, now)?;
        let body = match app.read_only {
            true => json!({"permissions": {"contents": "read"}}),
            false => json!({}),
        };
        let unreachable =
            |why: &dyn fmt::Display| GitError::Unreachable { url: app.api.clone(), why: why.to_string() };
        let request =
            self.client.post(address).bearer_auth(assertion).header(ACCEPT, "application/vnd.github+json");
        let response = request.json(&body).send().await.map_err(|error| unreachable(&error.without_url()))?;
        let status = response.status();
        let text = body_of(response).await.map_err(|error| unreachable(&error.without_url()))?;
        if status == StatusCode::CREATED {
            return serde_json::from_str(&text).map_err(|_| unreachable(&"its response contains no token"));
        }
        let message = message_of(&text);
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(unreachable(&format_args!("HTTP {status} {message}")));
        }
        Err(GitError::App {
            id: app.id.clone(),
            why: format!("{} (HTTP {status} {message})", advice(status, app)),
        })
    }
}

/// Returns the body of a response, up to the maximum size.
async fn body_of(mut response: reqwest::Response) -> Result<String, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < MAX_RESPONSE
        && let Some(part) = response.chunk().await?
    {
        body.extend_from_slice(&part[..part.len().min(MAX_RESPONSE - body.len())]);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Returns the key of the cache: a token is valid for one App, installation and set of permissions.
fn cache_id(app: &App, key: &str) -> String {
    let permissions = if app.read_only { "read" } else { "all" };
    digest(&[&app.api, &app.id, &app.installation, permissions, key])
}

/// Returns the message of GitHub from the body of a response.
fn message_of(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let message = body["message"].as_str().unwrap_or_default();
    message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

fn advice(status: StatusCode, app: &App) -> String {
    match status {
        StatusCode::UNAUTHORIZED => {
            "GitHub refuses its private key; check the App ID, whether the key was deleted, and this machine's clock"
                .to_owned()
        }
        StatusCode::NOT_FOUND => format!(
            "it has no installation {}; check the installation ID, and whether the App was uninstalled",
            app.installation
        ),
        StatusCode::FORBIDDEN => "its installation is suspended or not permitted; check the App's page".to_owned(),
        StatusCode::UNPROCESSABLE_ENTITY => {
            "its installation does not grant access to the content of repositories; add the permission Contents"
                .to_owned()
        }
        _ => "GitHub does not issue a token".to_owned(),
    }
}

#[cfg(test)]
mod tests;
