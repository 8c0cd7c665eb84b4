//! Sends the requests of a forge with one HTTP client, and reads responses of a bounded size.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::contract::{Call, Forge};
use super::error::ForgeError;
use super::place::Address;
use super::token::Token;
use crate::api::network::{self, Network};
use crate::resolve;

/// Time limit of a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Time limit of a whole request. Pages with large comments take seconds.
const WHOLE: Duration = Duration::from_secs(60);
/// Maximum size of a response: a hundred comments of the maximum size of GitHub, or of half the maximum of GitLab.
const MOST_READ: usize = 64 * 1024 * 1024;

/// The HTTP client of a forge.
#[derive(Clone, Debug)]
pub struct Http(reqwest::Client);

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    body: Vec<u8>,
}

impl Http {
    /// # Errors
    /// The certificate authorities cannot be used.
    pub fn new(network: &Network) -> Result<Self, ForgeError> {
        let client = resolve::client(network, CONNECT, WHOLE).and_then(reqwest::ClientBuilder::build);
        client
            .map(Self)
            .map_err(|_| ForgeError::Config("the certificates of --ca-file cannot be used".to_owned()))
    }

    /// # Errors
    /// There is no response, or it is too large.
    pub async fn send(
        &self,
        forge: &dyn Forge,
        api: &Address,
        token: &Token,
        call: &Call,
        page: Option<&str>,
    ) -> Result<Response, ForgeError> {
        let mut url = api.with(&call.path, &call.query);
        if page.is_some() {
            url.set_query(page);
        }
        let mut request = self.0.request(call.method.clone(), url).headers(headers(forge, token)?);
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let failed = |error: reqwest::Error| failure(forge.name(), call, &error.without_url());
        let mut response = request.send().await.map_err(failed)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(failed)? {
            if body.len() + part.len() > MOST_READ {
                let most = MOST_READ / (1024 * 1024);
                let message = format!(
                    "{}: the response to the request to {} is larger than {most} MiB",
                    forge.name(),
                    call.action
                );
                return Err(ForgeError::Incomplete(message));
            }
            body.extend_from_slice(&part);
        }
        Ok(Response { status, headers, body })
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body as JSON, or `Null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the query of the next page. The link can name another server, for example if a proxy is in front of the
    /// forge, so only its query is used, and the token stays with this server.
    pub fn next_page(&self, call: &Call) -> Option<String> {
        let links = self.header("link").unwrap_or_default();
        if let Some(link) = links.split(',').find(|link| link.contains("rel=\"next\"")) {
            let target = link.split_once('<')?.1.split_once('>')?.0;
            return Url::parse(target).ok()?.query().map(str::to_owned);
        }
        // GitLab has a header of its own, which also passes proxies that limit the size of others.
        let page = self.header("x-next-page").filter(|page| !page.is_empty())?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        Some(query.extend_pairs(&call.query).append_pair("page", page).finish())
    }
}

fn headers(forge: &dyn Forge, token: &Token) -> Result<HeaderMap, ForgeError> {
    let mut headers = HeaderMap::new();
    for (name, value) in forge.headers(token.secret()) {
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            ForgeError::Config(format!("the token in {} cannot be used in a header", token.from()))
        })?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

/// Returns the error of a request without a response. One that was never sent can be repeated without risk.
fn failure(forge: &'static str, call: &Call, error: &reqwest::Error) -> ForgeError {
    let mut chain = String::new();
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        chain.push_str(&error.to_string());
        chain.push('\n');
        next = error.source();
    }
    if chain.contains(resolve::REFUSED) {
        return ForgeError::Config(format!("{forge}: {}; correct the address of the API", resolve::REFUSED));
    }
    if error.is_connect() || error.is_builder() {
        let advice = network::advice(&chain).map(str::to_owned);
        let why = advice.unwrap_or_else(|| cause(error, &chain).to_owned());
        return ForgeError::Unreachable { forge, why };
    }
    ForgeError::Unclear { forge, action: call.action.clone() }
}

fn cause(error: &reqwest::Error, chain: &str) -> &'static str {
    if error.is_timeout() {
        "the connection timed out"
    } else if chain.contains("refused") {
        "connection refused"
    } else if chain.contains("dns") || chain.contains("lookup") {
        "its host name cannot be resolved"
    } else if chain.contains("certificate") {
        "its certificate is not trusted"
    } else {
        "the connection failed"
    }
}
