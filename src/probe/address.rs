//! The address of a check: `http` or `https`, without credentials, and not of a metadata service. Pure.

use std::fmt;

use reqwest::Url;

use crate::resolve;

/// Maximum length of an address. No service uses longer ones.
const LONGEST: usize = 2000;

/// An address that may be asked. In a cluster, services are reached by plain HTTP, and nothing secret is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(format!("the URL is longer than {LONGEST} characters"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("the URL must not contain spaces or control characters".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("not a valid URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("the URL must start with https:// or http://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL must not contain a user name or a password".to_owned());
        }
        let address = Self(url);
        let literal = address.host().trim_start_matches('[').trim_end_matches(']');
        if literal.parse().is_ok_and(resolve::is_refused) {
            return Err(resolve::REFUSED.to_owned());
        }
        Ok(address)
    }

    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

/// The address of an instant query, below the address of a Prometheus, which may have a path.
pub fn query_url(address: &Address, query: &str) -> Address {
    let mut url = address.0.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["api", "v1", "query"]);
    }
    url.set_fragment(None);
    url.query_pairs_mut().append_pair("query", query);
    Address(url)
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/…", self.0.scheme(), self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_credentials_and_is_no_metadata_service() {
        for text in
            ["https://shop.example.com/healthz", "http://prometheus.monitoring.svc:9090", "http://10.0.0.1/"]
        {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
        for (text, words) in [
            ("https://ann:hunter2@shop.example.com", "user name or a password"),
            ("http://169.254.169.254/latest", "link-local"),
            ("http://[fd00:ec2::254]/latest", "link-local"),
            ("file:///etc/passwd", "https:// or http://"),
            ("shop.example.com", "not a valid URL"),
            ("http://a b", "spaces"),
        ] {
            let error = Address::parse(text).expect_err(text);
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_query_is_asked_below_the_path_of_the_address() {
        let address = Address::parse("https://metrics.example.com/prometheus/").expect("an address");
        let url = query_url(&address, "up == 1");
        assert_eq!(url.0.as_str(), "https://metrics.example.com/prometheus/api/v1/query?query=up+%3D%3D+1");
        assert_eq!(format!("{url:?}"), "https://metrics.example.com/…");
    }
}
