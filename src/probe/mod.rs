//! Edge: asks the servers that health checks of rollouts name, by HTTP. A check is a GET of a URL, or an instant query of
//! a Prometheus. The author of a manifest chooses the address, so the rules of webhooks apply: no metadata services, no
//! redirects, no credentials, time limits, and of a response only as much as is needed. Messages contain nothing that a
//! server wrote except for the numbers of a query.
//!
//! ```text
//! refresher (observe) ─Probe─> probe: fence, address, request ─Verdict─> refresher (plan)
//! ```

mod address;
mod prometheus;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;

use crate::api::fence::Fence;
use crate::api::network::{self, Network};
use crate::resolve;
pub use address::{Address, query_url};

/// Time limit of a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time limit of a whole request. A health endpoint that takes longer is not healthy.
const WHOLE: Duration = Duration::from_secs(10);
/// Maximum number of bytes that are read of a response. A query with more series than this is not a check.
const MOST_READ: usize = 256 * 1024;

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A response with status 2xx is good.
    Url(Address),
    /// A result with at least one sample is good, unless one of them is 0 or not a number.
    Prometheus { address: Address, query: String },
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub is_good: bool,
    /// The response in a few words.
    pub response: String,
}

/// The client of all checks. Cheap to clone.
#[derive(Clone)]
pub struct Probes {
    client: reqwest::Client,
    /// Which hosts each namespace may ask.
    hosts: Arc<Fence>,
}

impl Verdict {
    fn good(response: impl Into<String>) -> Self {
        Self { is_good: true, response: response.into() }
    }

    fn bad(response: impl Into<String>) -> Self {
        Self { is_good: false, response: response.into() }
    }
}

impl Probes {
    /// # Errors
    /// The certificate authorities cannot be used.
    pub fn new(network: &Network, hosts: Arc<Fence>) -> Result<Self, reqwest::Error> {
        let client = resolve::client(network, CONNECT, WHOLE)?.pool_max_idle_per_host(0).build()?;
        Ok(Self { client, hosts })
    }

    /// Asks for an object of this namespace.
    pub async fn ask(&self, namespace: &str, probe: &Probe) -> Verdict {
        let (Probe::Url(address) | Probe::Prometheus { address, .. }) = probe;
        if let Some(advice) = self.hosts.refusal(namespace, address.host()) {
            return Verdict::bad(format!("namespace {namespace} may not ask {}: {advice}", address.host()));
        }
        match probe {
            Probe::Url(address) => match self.get(address).await {
                Ok(response) if response.status().is_success() => Verdict::good(status(&response)),
                Ok(response) => Verdict::bad(status(&response)),
                Err(why) => Verdict::bad(why),
            },
            Probe::Prometheus { address, query } => self.query(&query_url(address, query)).await,
        }
    }

    async fn query(&self, address: &Address) -> Verdict {
        let mut response = match self.get(address).await {
            Ok(response) => response,
            Err(why) => return Verdict::bad(why),
        };
        let code = status(&response);
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(part)) if body.len() + part.len() <= MOST_READ => body.extend_from_slice(&part),
                Ok(Some(_)) => {
                    return Verdict::bad("its response is too large: let the query return one number");
                }
                Ok(None) => break,
                Err(error) => return Verdict::bad(no_answer(&error)),
            }
        }
        prometheus::judge(&code, &body)
    }

    async fn get(&self, address: &Address) -> Result<Response, String> {
        self.client.get(address.url().clone()).send().await.map_err(|error| no_answer(&error))
    }
}

fn status(response: &Response) -> String {
    format!("HTTP {}", response.status().as_u16())
}

/// Why there was no response. The messages of the libraries are not used: they contain addresses.
fn no_answer(error: &reqwest::Error) -> String {
    let mut chain = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        chain.push_str(&error.to_string());
        next = error.source();
    }
    let what = if chain.contains(resolve::REFUSED) {
        resolve::REFUSED
    } else if let Some(advice) = network::advice(&chain) {
        advice
    } else if error.is_timeout() {
        "no response in time"
    } else if error.is_connect() && chain.contains("refused") {
        "connection refused"
    } else if error.is_connect() {
        "the connection failed"
    } else {
        "the connection was closed without a response"
    };
    what.to_owned()
}
