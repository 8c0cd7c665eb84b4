//! Where credentials may go: to the scheme, host and port they were given for, and nowhere a server redirects
//! to. libgit2 compares hosts alone.

/// May what was given for one address go to the other?
pub(super) fn is_same(given: &str, asks: &str) -> bool {
    parts(given).is_some_and(|given| Some(given) == parts(asks))
}

/// Scheme, host and port of an address.
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

/// The address without what only leads to a place in it.
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
        let given = "https://git.example.com/r.git";
        for same in
            ["https://git.example.com:443/other", "https://GIT.example.com", "https://u@git.example.com/r"]
        {
            assert!(is_same(given, same), "{same}");
        }
        for other in [
            "http://git.example.com/r.git",
            "https://git.example.com:8443/r.git",
            "https://example.com/r.git",
            "https://git.example.com.evil.io/r.git",
            "ssh://git.example.com/r.git",
            "",
        ] {
            assert!(!is_same(given, other), "{other}");
        }
        assert!(
            is_same("http://[::1]:8080/r", "http://[::1]:8080/x")
                && !is_same("http://[::1]/r", "http://[::1]:81/r")
        );
        assert_eq!(shown("https://h/secret/path?token=x"), "https://h:443");
    }
}
