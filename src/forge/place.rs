//! Which forge, at which address, and which repository. Pure.

use std::fmt;
use std::net::IpAddr;

use url::Url;

use crate::api::git_host::GitHost;
use crate::resolve;

/// Maximum length of an address and of the path of a repository. No forge has longer ones.
const LONGEST: usize = 500;

/// The address of an API, such as `https://api.github.com` or `https://gitlab.example.com/api/v4`.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Parses an address. It must use https, or http if `insecure_http` is set or the server is this machine.
    ///
    /// # Errors
    /// Returns what is wrong.
    pub fn parse(text: &str, insecure_http: bool) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(format!("the address is longer than {LONGEST} characters"));
        }
        let mut url = Url::parse(text).map_err(|error| format!("the address is not valid ({error})"))?;
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let literal = host.parse::<IpAddr>().ok();
        if literal.is_some_and(resolve::is_refused) {
            return Err(resolve::REFUSED.to_owned());
        }
        let is_local = host == "localhost" || literal.is_some_and(|ip| ip.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if is_local || insecure_http => {}
            "http" => {
                return Err(
                    "the address must start with https://, because http does not protect the token: use \
                            --insecure-http if the network is trusted"
                        .to_owned(),
                );
            }
            _ => return Err("the address must start with https://".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "the address must not contain a user or password: set the token in a variable".to_owned()
            );
        }
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self(url))
    }

    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Returns the address of a resource. Each segment is encoded, so that it remains one.
    pub(super) fn with(&self, segments: &[String], query: &[(&'static str, String)]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A repository of a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub kind: GitHost,
    pub api: Address,
    /// `owner/name`, and for GitLab also `group/subgroup/name`.
    pub repository: String,
}

impl Place {
    /// # Errors
    /// Returns what is wrong with the path of the repository.
    pub fn new(kind: GitHost, api: Address, repository: &str) -> Result<Self, String> {
        let parts: Vec<&str> = repository.split('/').collect();
        let is_segment = |part: &&str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
            !part.is_empty() && *part != "." && *part != ".." && part.chars().all(is_plain)
        };
        let has_depth = if kind == GitHost::GitLab { parts.len() >= 2 } else { parts.len() == 2 };
        if !has_depth || repository.len() > LONGEST || !parts.iter().all(is_segment) {
            return Err(format!("{repository:?} is not a repository of {}: write owner/name", kind.name()));
        }
        Ok(Self { kind, api, repository: repository.to_owned() })
    }

    /// Returns the owner and the name of the repository.
    pub(super) fn owner_and_name(&self) -> (&str, &str) {
        self.repository.rsplit_once('/').unwrap_or(("", &self.repository))
    }
}
