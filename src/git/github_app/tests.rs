//! Tokens of GitHub Apps: the URL of requests, and keys that cannot be used.

use super::*;

fn app() -> App {
    App {
        id: "123456".to_owned(),
        installation: "77".to_owned(),
        key: Secret::Value("key".to_owned()),
        api: GITHUB_API.to_owned(),
        read_only: false,
    }
}

#[test]
fn requests_go_to_the_api_of_a_github_server_by_https_alone() {
    assert_eq!(
        app().address().expect("an address").as_str(),
        "https://api.github.com/app/installations/77/access_tokens"
    );
    let enterprise = App { api: "https://ghe.example/api/v3/".to_owned(), ..app() };
    assert_eq!(
        enterprise.address().expect("an address").as_str(),
        "https://ghe.example/api/v3/app/installations/77/access_tokens"
    );
    for api in [
        "http://ghe.example",
        "ghe.example",
        "",
        "https://ann:hunter2@ghe.example",
        "https://ghe.example/?x",
        "file:///x",
    ] {
        let error = App { api: api.to_owned(), ..app() }.check().expect_err(api);
        assert!(matches!(&error, GitError::Credentials(_)), "{error}");
    }
}

#[test]
fn ids_cannot_lead_elsewhere() {
    assert!(app().check().is_ok() && App { id: "Iv23li.abc".to_owned(), ..app() }.check().is_ok());
    for id in ["", "1/2", "a b"] {
        assert!(App { id: id.to_owned(), ..app() }.check().is_err(), "{id}");
    }
    for installation in ["", "../7", "x", "7?y"] {
        let error = App { installation: installation.to_owned(), ..app() }.check().expect_err(installation);
        assert!(error.to_string().contains("installation"), "{error}");
    }
}

#[test]
fn a_key_that_cannot_be_used_is_explained_and_not_repeated() {
    let garbled = "-----BEGIN RSA PRIVATE KEY-----\naHVudGVyMg==\n-----END RSA PRIVATE KEY-----\n";
    let other = "-----BEGIN EC PRIVATE KEY-----\naHVudGVyMg==\n-----END EC PRIVATE KEY-----\n";
    for (pem, expected) in
        [("hunter2", "not a private key in PEM"), (garbled, "not a valid RSA key"), (other, "not an RSA key")]
    {
        let error = app().assertion(pem, Timestamp::UNIX_EPOCH).expect_err(expected).to_string();
        assert!(error.contains("GitHub App 123456") && error.contains(expected), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("aHVu"), "{error}");
    }
}

#[test]
fn a_token_is_of_one_app_key_and_set_of_rights() {
    let ids = [
        cache_id(&app(), "a"),
        cache_id(&app(), "b"),
        cache_id(&App { read_only: true, ..app() }, "a"),
        cache_id(&App { installation: "78".to_owned(), ..app() }, "a"),
        cache_id(&App { api: "https://ghe.example".to_owned(), ..app() }, "a"),
    ];
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
}
