//! Tests of the addresses of repositories.

use super::*;

#[test]
fn addresses_hold_no_credentials() {
    for text in ["https://user:hunter2@h/r.git", "https://hunter2@h/r", "https://h/r?access_token=hunter2"] {
        let error = Address::parse(text).expect_err("refused").to_string();
        assert!(error.contains("must not contain credentials") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn plain_http_to_another_machine_is_refused_unless_a_flag_allows_it() {
    for text in ["http://git.example/r", "http://10.0.0.1:3000/r", "http://[2001:db8::1]/r"] {
        let error = Address::parse(text).expect_err("refused").to_string();
        assert!(error.contains("use https://") && error.contains("--insecure-http"), "{error}");
        let allowing = AddressRules { insecure_http: true, ..AddressRules::default() };
        assert!(allowing.parse(text).is_ok(), "{text}");
    }
    for text in
        ["http://127.0.0.1:80/r", "http://localhost/r", "http://[::1]:3000/r", "https://git.example/r"]
    {
        assert!(Address::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn addresses_as_azure_devops_hands_them_out_are_answered_with_what_to_write() {
    let right = "https://dev.azure.com/acme/My%20Project/_git/images";
    for text in [
        "https://acme@dev.azure.com/acme/My Project/_git/images",
        "https://dev.azure.com/acme/My Project/_git/images",
    ] {
        let error = Address::parse(text).expect_err("refused").to_string();
        assert!(error.ends_with(&format!("write {right}")), "{error}");
    }
    for text in [right, "https://acme@dev.azure.com/acme/My%20Project/_git/images"] {
        assert_eq!(Address::parse(text).expect("an address").as_str(), right);
    }
    let bitbucket = Address::parse("https://ann@bitbucket.org/acme/images.git").expect("an address");
    assert_eq!(bitbucket.as_str(), "https://bitbucket.org/acme/images.git");
    // Before another host, it may be a token.
    assert!(Address::parse("https://acme@dev.azure.com.example.org/r").is_err());
}

#[test]
fn hosts_and_paths_lead_nowhere_else() {
    for text in ["ssh://git@x\ny/r", "git@a b:r", "ssh://git@x;y/r"] {
        assert!(Address::parse(text).is_err(), "{text:?}");
    }
    let rewrites = ["https://git.example/=/srv/mirrors/".to_owned()];
    let rules = AddressRules::new(false, &rewrites).expect("rules");
    for text in
        ["https://git.example/../home/ann/r", "https://git.example/a/%2E%2e/r", "https://git.example/./r"]
    {
        assert!(rules.parse_remote(text).is_err(), "{text}");
    }
    assert!(rules.parse_remote("https://git.example/a..b/r.git").is_ok());
}

#[test]
fn other_schemes_name_what_to_use() {
    for text in ["git://h/r", "", "https://host", "https:///x", "ssh://h", "git@h:", "h:r", "ssh://git@h:x/r"]
    {
        assert!(Address::parse(text).is_err(), "{text}");
    }
    let refused = Address::parse("ssh://ann:hunter2@h/r").expect_err("refused").to_string();
    assert!(refused.contains("must not contain credentials") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn ssh_addresses_have_a_user_a_host_and_a_port() {
    for (text, user, host, port) in [
        ("git@github.com:o/r.git", "git", "github.com", 22),
        ("ssh://h/r", "git", "h", 22),
        ("ssh://ann@H:2222/r", "ann", "h", 2222),
        ("ssh://git@[::1]:22/r", "git", "::1", 22),
        ("git@[::1]:r", "git", "::1", 22),
        ("git@ssh.dev.azure.com:v3/acme/project/images", "git", "ssh.dev.azure.com", 22),
    ] {
        let address = Address::parse(text).expect(text);
        assert_eq!(address.ssh_endpoint(), Some((user, host, port)), "{text}");
    }
}

#[test]
fn a_mirror_is_reached_and_the_address_stays_as_it_is_written() {
    let rewrites = ["https://git.example/=http://127.0.0.1:1/", "https://git.example/team/=/srv/team/"];
    let rules = AddressRules::new(false, &rewrites.map(str::to_owned)).expect("rules");
    let address = rules.parse("https://git.example/r.git").expect("an address");
    assert_eq!((address.as_str(), address.url()), ("https://git.example/r.git", "http://127.0.0.1:1/r.git"));
    assert!(address.is_same("https://git.example/r") && address.is_same("http://127.0.0.1:1/r"));
    let longest = rules.parse_remote("https://git.example/team/r").expect("an address");
    assert_eq!(longest.url(), "/srv/team/r", "the longest prefix, also to a path");
    assert!(rules.parse_remote("/srv/team/r").is_err());
    assert!(rules.parse("https://ann:hunter2@git.example/r").is_err());
    for rule in ["x", "=x", "x="] {
        assert!(AddressRules::new(false, &[rule.to_owned()]).is_err(), "{rule}");
    }
}

#[test]
fn paths_become_absolute() {
    let address = Address::parse("some/repo").expect("a path");
    assert!(address.path().is_some_and(Path::is_absolute));
    assert_eq!(Address::parse("file:///srv/r.git").expect("a path").path(), Some(Path::new("/srv/r.git")));
}

#[test]
fn the_same_repository_in_other_words() {
    let own = Address::parse("https://GitHub.com/org/images.git").expect("an address");
    for same in [
        "https://github.com/org/images",
        "http://github.com/org/images/",
        "https://token@github.com:443/org/images.git/",
        "git@github.com:org/images.git",
        "ssh://git@github.com:22/org/images",
        "github.com:org/images",
    ] {
        assert!(own.is_same(same), "{same}");
    }
    for other in
        ["https://github.com/org/images2", "https://gitlab.com/org/images", "/org/images", "images", ""]
    {
        assert!(!own.is_same(other), "{other}");
    }
    let local = Address::parse("/srv/repo.git").expect("a path");
    assert!(local.is_same("file:///srv/repo.git") && local.is_same("/srv/repo/"));
    let port = Address::parse("http://127.0.0.1:8080/r.git").expect("an address");
    assert!(port.is_same("http://127.0.0.1:8080/r") && !port.is_same("http://127.0.0.1:8081/r"));
}
