//! Tables of variables and URLs, and the route of each request.

use super::*;

fn proxies(variables: &[(&str, &str)]) -> Proxies {
    let value = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Proxies::read(value).expect("proxies")
}

/// The proxy of a URL as it is displayed, or `-` without one.
fn shown(proxies: &Proxies, url: &str) -> String {
    proxies.of(url).map_or_else(|| "-".to_owned(), ToString::to_string)
}

#[test]
fn the_scheme_of_a_request_decides_and_upper_case_comes_first() {
    let both = proxies(&[
        ("HTTP_PROXY", "http://a:1"),
        ("https_proxy", "b:2"),
        ("http_proxy", "http://lower:3"),
        ("ALL_PROXY", "http://all:4"),
    ]);
    assert_eq!(shown(&both, "http://example.com/x"), "http://a:1");
    assert_eq!(shown(&both, "https://example.com/x"), "http://b:2");
    let empty = proxies(&[("HTTPS_PROXY", " "), ("https_proxy", "https://c:443/path?x")]);
    assert_eq!(shown(&empty, "https://example.com"), "https://c");
    assert_eq!(empty.route("http://example.com"), Route::Unset);
    assert_eq!(shown(&proxies(&[("ALL_PROXY", "http://all:4")]), "https://example.com"), "-");
    assert_eq!(both.route("/srv/fleet.git"), Route::Unset);
    assert_eq!(both.route("git@example.com:fleet"), Route::Unset);
}

#[test]
fn what_is_near_goes_through_no_proxy() {
    let all = proxies(&[("HTTP_PROXY", "http://p:1"), ("HTTPS_PROXY", "http://p:1")]);
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://169.254.170.2/v2/credentials/x",
        "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials",
        "http://[fd00:ec2::254]:80/latest",
        "http://127.0.0.1:5000",
        "http://[::1]:5000",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost:4566/",
        "https://LOCALHOST",
    ] {
        assert_eq!(all.route(url), Route::Direct, "{url}");
    }
    for url in [
        "https://ec2.us-east-1.amazonaws.com/",
        "http://10.0.0.1:8080",
        "https://169.255.0.1",
        "https://localhost.example.com",
        "https://[2001:db8::1]:6443/api",
    ] {
        assert_eq!(shown(&all, url), "http://p:1", "{url}");
    }
}

/// Entry of `NO_PROXY`, URLs that it covers, URLs that it does not cover.
const EXCEPTIONS: &[(&str, &[&str], &[&str])] = &[
    (
        "example.com",
        &["https://example.com", "https://a.example.com/x", "https://EXAMPLE.com:8443"],
        &["https://notexample.com", "https://example.com.evil"],
    ),
    (".example.com", &["https://a.example.com", "https://b.a.example.com"], &["https://example.com"]),
    ("*.example.com", &["https://a.example.com"], &["https://example.com"]),
    ("example.com:8443", &["https://example.com:8443/x"], &["https://example.com", "https://example.com:1"]),
    ("example.com:443", &["https://example.com/x"], &["http://example.com"]),
    ("10.0.0.0/8", &["https://10.1.2.3:6443"], &["https://11.0.0.1", "https://10.example.com"]),
    ("10.100.0.1", &["https://10.100.0.1", "https://10.100.0.1:6443"], &["https://10.100.0.10"]),
    ("10.100.0.1:443", &["https://10.100.0.1"], &["https://10.100.0.1:6443"]),
    ("fd12::/16", &["https://[fd12::1]:443"], &["https://[fd13::1]"]),
    ("[fd12::1]:443", &["https://[fd12::1]"], &["https://[fd12::1]:6443", "https://[fd12::2]"]),
    ("fd12::1", &["https://[fd12::1]:6443"], &["https://[fd12::2]"]),
    ("*", &["https://example.com", "http://10.0.0.1"], &[]),
    (" a.test ,, b.test,", &["https://a.test", "https://x.b.test"], &["https://c.test"]),
    (",", &[], &["https://c.test"]),
];

#[test]
fn exceptions_are_read_as_go_reads_them() {
    for (entry, covered, others) in EXCEPTIONS {
        let proxies =
            proxies(&[("HTTPS_PROXY", "http://p:1"), ("HTTP_PROXY", "http://p:1"), ("no_proxy", entry)]);
        for url in *covered {
            assert_eq!(proxies.route(url), Route::Direct, "{url} with NO_PROXY={entry}");
        }
        for url in *others {
            assert_eq!(shown(&proxies, url), "http://p:1", "{url} with NO_PROXY={entry}");
        }
    }
}

#[test]
fn credentials_of_a_proxy_are_for_clients_alone() {
    let proxies = proxies(&[("HTTPS_PROXY", "http://ann:hunter%402@p:3128/")]);
    let proxy = proxies.of("https://example.com").expect("a proxy");
    assert_eq!(proxy.secret_url(), "http://ann:hunter%402@p:3128/");
    assert!(proxy.has_credentials());
    let said = format!("{proxy} {proxy:?} {proxies:?}");
    assert!(said.contains("http://p:3128") && !said.contains("hunter") && !said.contains("ann"), "{said}");
    for text in ["socks5://ann:hunter2@p:1080", "http://ann:hunter2@p:port", "http://ann:hunter2@"] {
        let error = Proxy::parse("HTTPS_PROXY", text).expect_err("refused");
        assert!(error.starts_with("HTTPS_PROXY is ") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn no_text_keeps_the_user_info_of_a_url() {
    for (text, clean) in [
        ("no URL: a@b", "no URL: a@b"),
        ("cannot reach 'http://ann:hunter2@p:3128': refused", "cannot reach 'http://p:3128': refused"),
        ("http://a:p@ss@p/x@y and https://b@c", "http://p/x@y and https://c"),
        ("https://example.com/a@b", "https://example.com/a@b"),
        ("://", "://"),
    ] {
        assert_eq!(without_user_info(text), clean);
    }
}
