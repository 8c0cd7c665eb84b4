//! The origin (scheme, host and port) of an address. Credentials are sent only to the origin that they are configured
//! for, never to another one that a server redirects to. libgit2 compares only hosts.

/// Returns true if both addresses have the same origin, so that credentials for one may be sent to the other.
pub(super) fn is_same(configured: &str, requested: &str) -> bool {
    parts(configured).is_some_and(|configured| Some(configured) == parts(requested))
}

/// Returns scheme, host and port of an http(s) address.
fn parts(url: &str) -> Option<(String, String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // A colon within brackets belongs to an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let port = if port.is_empty() { usual } else { port.parse().ok()? };
    (!host.is_empty()).then(|| (scheme, host.to_ascii_lowercase(), port))
}

/// Returns the origin of an address, for errors: path and query can contain a token.
pub(super) fn shown(url: &str) -> String {
    parts(url).map_or_else(
        || "another address".to_owned(),
        |(scheme, host, port)| format!("{scheme}://{host}:{port}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_host_and_port_are_the_same() {
        let configured = "https://git.example.com/r.git";
        for same in
            ["https://git.example.com:443/other", "https://GIT.example.com", "https://u@git.example.com/r"]
        {
            assert!(is_same(configured, same), "{same}");
        }
        for other in [
            "http://git.example.com/r.git",
            "https://git.example.com:8443/r.git",
            "https://example.com/r.git",
            "https://git.example.com.evil.io/r.git",
            "ssh://git.example.com/r.git",
            "",
        ] {
            assert!(!is_same(configured, other), "{other}");
        }
        assert!(
            is_same("http://[::1]:8080/r", "http://[::1]:8080/x")
                && !is_same("http://[::1]/r", "http://[::1]:81/r")
        );
        assert_eq!(shown("https://h/secret/path?token=x"), "https://h:443");
    }
}
