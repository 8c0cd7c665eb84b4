//! Selects the proxy of a request. Pure: `settings` reads the variables, and every client uses this module.
//!
//! The rules are those of programs written in Go (kubectl, Packer, git-sync, Flux), so that one setting works for all
//! of them: `HTTPS_PROXY` and `HTTP_PROXY` by the scheme of the request, `NO_PROXY` for exceptions, each in upper or
//! lower case. One rule is added: addresses that no proxy can reach are never proxied.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use url::Url;

/// An example of a valid value.
const EXAMPLE: &str = "http://proxy.example.com:3128";

/// A proxy. Its user and password are secrets, which only [`Proxy::secret_url`] returns.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
}

impl Proxy {
    /// Parses an address. `from` names the variable or flag that sets it. An address without a scheme has the scheme
    /// `http`.
    ///
    /// # Errors
    /// Returns what is wrong, without the address.
    pub fn parse(from: &str, text: &str) -> Result<Self, String> {
        let text = text.trim();
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&full)
            .map_err(|error| format!("{from} is not a valid address ({error}): write it as {EXAMPLE}"))?;
        let scheme = url.scheme();
        if !["http", "https"].contains(&scheme) {
            return Err(format!(
                "{from} is a {scheme}:// proxy, which is not supported: use http:// or https://"
            ));
        }
        url.set_path("");
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { url })
    }

    /// Returns the address with user and password: for clients, never for messages.
    pub fn secret_url(&self) -> &str {
        self.url.as_str()
    }

    pub fn has_credentials(&self) -> bool {
        !self.url.username().is_empty() || self.url.password().is_some()
    }

    /// Returns whether the connection to the proxy itself is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.url.host_str().unwrap_or_default())?;
        self.url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a request reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    Through(&'a Proxy),
    /// Without a proxy: the server is local, or `NO_PROXY` names it.
    Direct,
    /// No proxy is set for this scheme.
    Unset,
}

/// The proxies that the environment sets. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Arc<Rules>);

#[derive(Debug, Default)]
struct Rules {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<Except>,
    /// `NO_PROXY` as written.
    no_proxy: String,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
enum Except {
    All,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    Domain {
        /// Starts with a dot.
        suffix: String,
        /// The entry also covers the domain itself.
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the variables. Upper case takes precedence over lower case, and an empty variable counts as not set.
    ///
    /// # Errors
    /// A variable does not contain the address of a proxy.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let either = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            names.into_iter().find_map(|name| {
                let value = variable(&name).filter(|value| !value.trim().is_empty())?;
                Some((name, value))
            })
        };
        let proxy = |name: &str| either(name).map(|(name, value)| Proxy::parse(&name, &value)).transpose();
        let no_proxy = either("NO_PROXY").map(|(_, value)| value).unwrap_or_default();
        let except = no_proxy.split(',').filter_map(Except::parse).collect();
        Ok(Self(Arc::new(Rules {
            http: proxy("HTTP_PROXY")?,
            https: proxy("HTTPS_PROXY")?,
            except,
            no_proxy,
        })))
    }

    /// Returns how a request to this URL reaches its server.
    pub fn route(&self, url: &str) -> Route<'_> {
        let Some((scheme, host, port)) = parts(url) else { return Route::Unset };
        let proxy = match scheme {
            "http" => &self.0.http,
            "https" => &self.0.https,
            _ => return Route::Unset,
        };
        let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
        let host = host.to_ascii_lowercase();
        if is_near(&host) || self.0.except.iter().any(|except| except.covers(&host, port)) {
            return Route::Direct;
        }
        proxy.as_ref().map_or(Route::Unset, Route::Through)
    }

    /// Returns the proxy of a URL, if any.
    pub fn of(&self, url: &str) -> Option<&Proxy> {
        match self.route(url) {
            Route::Through(proxy) => Some(proxy),
            Route::Direct | Route::Unset => None,
        }
    }

    pub fn http(&self) -> Option<&Proxy> {
        self.0.http.as_ref()
    }

    pub fn https(&self) -> Option<&Proxy> {
        self.0.https.as_ref()
    }

    /// Returns `NO_PROXY` as written.
    pub fn no_proxy(&self) -> &str {
        &self.0.no_proxy
    }
}

impl Except {
    /// Parses an entry. An empty entry, or one without a host, is ignored.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = text.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = split_port(&text);
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address, port));
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        match host.strip_prefix('.') {
            _ if host.is_empty() => None,
            Some(_) => Some(Self::Domain { suffix: host.to_owned(), itself: false, port }),
            None => Some(Self::Domain { suffix: format!(".{host}"), itself: true, port }),
        }
    }

    /// Returns whether the entry covers this host, in lower case, at this port.
    fn covers(&self, host: &str, at: u16) -> bool {
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        match self {
            Self::All => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Address(except, port) => {
                address == Some(except.to_canonical()) && port.is_none_or(|port| port == at)
            }
            Self::Domain { suffix, itself, port } => {
                let named = host.ends_with(suffix.as_str()) || *itself && host == &suffix[1..];
                named && port.is_none_or(|port| port == at)
            }
        }
    }
}

/// Returns whether a host is this machine, a link-local address, or one of the services that AWS provides to a machine
/// or pod (instance metadata, ECS, EKS Pod Identity). No proxy can reach these, and no proxy may see their responses.
fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.segments()[..2] == [0xfd00, 0x0ec2]
        }
        Err(_) => host == "localhost",
    }
}

/// Returns the scheme, the host without brackets, and the port of a URL.
fn parts(url: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = &rest[..authority_end(rest)];
    let authority = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = split_port(authority);
    (!host.is_empty()).then_some((scheme, host, port))
}

/// Splits `host:port`, and removes the brackets of an IPv6 address.
fn split_port(text: &str) -> (&str, Option<u16>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address.
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (text, None),
    }
}

fn authority_end(rest: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || ['/', '?', '#', '"', '\'', '`', '\\', '<', '>'].contains(&c);
    rest.find(ends).unwrap_or(rest.len())
}

/// Removes the user and password from every URL in a string: libraries repeat the address of a proxy in their errors.
pub fn without_user_info(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = authority_end(after);
        let place = after[..end].rfind('@').map_or(0, |at| at + 1);
        clean.push_str(&after[place..end]);
        rest = &after[end..];
    }
    clean + rest
}

#[cfg(test)]
mod tests;
