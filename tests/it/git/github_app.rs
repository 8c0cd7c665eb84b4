//! GitHub Apps: tokens are requested with the private key of the App from an emulation of GitHub's API.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::Router;
use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use opsy::api::Class;
use opsy::api::network::Network;
use opsy::git::Secret;
use opsy::git::auth::{Credentials, LoginSource};
use opsy::git::commit::{Edit, Outcome};
use opsy::git::github_app::{App, Tokens};
use opsy::git::{GitError, Handle};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::bed::{Bed, keygen};
use super::push::change;

/// Emulates GitHub's handling of token requests: it verifies their signatures and records them.
struct GitHub {
    public: Mutex<Vec<u8>>,
    requests: Mutex<Vec<Value>>,
    /// The status and message with which requests are refused, if any.
    refuses: Mutex<Option<(StatusCode, &'static str)>>,
}

async fn access_token(
    State(github): State<Arc<GitHub>>,
    Segment(installation): Segment<String>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let (status, answer) = answer(&github, &installation, &headers, &body);
    (status, answer.to_string())
}

fn answer(github: &GitHub, installation: &str, headers: &HeaderMap, body: &str) -> (StatusCode, Value) {
    let header = headers["authorization"].to_str().expect("text");
    let jwt = header.strip_prefix("Bearer ").expect("a bearer token");
    let (signed, signature) = jwt.rsplit_once('.').expect("three parts");
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64url");
    let public = github.public.lock().expect("no panic").clone();
    let is_signed = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
        .verify(signed.as_bytes(), &decoded(signature))
        .is_ok();
    let claims: Value =
        serde_json::from_slice(&decoded(signed.split_once('.').expect("two parts").1)).expect("JSON");
    if !is_signed {
        return (StatusCode::UNAUTHORIZED, json!({"message": "A JSON web token could not be decoded"}));
    }
    if let Some((status, message)) = *github.refuses.lock().expect("no panic") {
        return (status, json!({"message": message}));
    }
    let mut requests = github.requests.lock().expect("no panic");
    requests.push(json!({"claims": claims, "installation": installation, "body": body}));
    let token = format!("ghs_{}", requests.len());
    let expires = clock() + SignedDuration::from_hours(1);
    (StatusCode::CREATED, json!({"token": token, "expires_at": expires.to_string()}))
}

/// Seconds by which the clock is ahead.
static AHEAD: AtomicI64 = AtomicI64::new(0);

fn clock() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(AHEAD.load(Ordering::Relaxed))
}

/// An App, its repository, and the API.
struct Desk {
    bed: Bed,
    github: Arc<GitHub>,
    app: App,
    tokens: Tokens,
}

impl Desk {
    async fn new() -> Self {
        let bed = Bed::guarded("*:ghs_1\n");
        let key = bed.folder.path().join("app.pem");
        let public = new_key(&key);
        let github = Arc::new(GitHub {
            public: Mutex::new(public),
            requests: Mutex::default(),
            refuses: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let api = format!("http://{}/api/v3", listener.local_addr().expect("an address"));
        let route = "/api/v3/app/installations/{installation}/access_tokens";
        let router = Router::new().route(route, post(access_token)).with_state(github.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let app = App {
            id: "123456".into(),
            installation: "77".into(),
            key: Secret::File(key),
            api,
            read_only: false,
        };
        let tokens = Tokens::new(&Network::default(), clock).expect("a client");
        Self { bed, github, app, tokens }
    }

    fn handle(&self) -> Handle {
        let login = LoginSource::App(self.app.clone(), self.tokens.clone());
        self.bed.handle_with(|options| {
            options.credentials = Some(Credentials { login: Some(login), ..Credentials::default() });
        })
    }

    fn requests(&self) -> usize {
        self.github.requests.lock().expect("no panic").len()
    }

    fn key_file(&self) -> &Path {
        match &self.app.key {
            Secret::File(file) => file,
            Secret::Value(_) => unreachable!("the key is a file"),
        }
    }
}

/// Generates a private key in GitHub's format, and returns its public key.
fn new_key(file: &Path) -> Vec<u8> {
    let _ = std::fs::remove_file(file);
    keygen(file, "rsa -b 2048 -m PEM", "");
    let PrivateKeyDer::Pkcs1(der) = PrivateKeyDer::from_pem_file(file).expect("a key") else {
        panic!("PKCS#1")
    };
    let pair = aws_lc_rs::rsa::KeyPair::from_der(der.secret_pkcs1_der()).expect("a key");
    pair.public_key().as_ref().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_app_is_requested_once_and_renewed_before_it_expires() {
    let desk = Desk::new().await;
    let tip = desk.bed.remote().commit("main", &[("a.yaml", Some("# 1"))]);
    let git = desk.handle();
    assert_eq!(git.fetch().await.expect("fetched").commit.as_str(), tip);
    let edits = [("status/a.yaml", Edit::Put(b"1".to_vec()))];
    let pushed = git.commit(&change("main", &edits)).await.expect("pushed");
    assert!(matches!(pushed, Outcome::Pushed { .. }), "{pushed:?}");
    let users: BTreeSet<String> = desk.bed.users().into_iter().collect();
    assert_eq!(users, BTreeSet::from(["x-access-token".to_owned()]));
    assert_eq!(desk.requests(), 1, "one token for all requests");
    let request = desk.github.requests.lock().expect("no panic")[0].clone();
    let claims = &request["claims"];
    let (issued, expires) =
        (claims["iat"].as_i64().expect("a time"), claims["exp"].as_i64().expect("a time"));
    assert_eq!((claims["iss"].as_str(), request["installation"].as_str()), (Some("123456"), Some("77")));
    assert!(issued < clock().as_second() && expires - clock().as_second() <= 600, "{claims}");

    // A token that was revoked is refused once, and replaced.
    desk.bed.allow("*:ghs_2\n");
    let error = git.fetch().await.expect_err("it was revoked");
    assert!(matches!(error, GitError::Rejected { .. }), "{error}");
    git.fetch().await.expect("the next token");
    assert_eq!(desk.requests(), 2);

    desk.bed.allow("*:ghs_3\n");
    AHEAD.store(3600 - 4 * 60, Ordering::Relaxed);
    git.fetch().await.expect("a token that is valid for an hour again");
    assert_eq!(desk.requests(), 3);

    // The private key is replaced in its file.
    *desk.github.public.lock().expect("no panic") = new_key(desk.key_file());
    desk.bed.allow("*:ghs_4\n");
    git.fetch().await.expect("a token by the new key");
    assert_eq!(desk.requests(), 4);
    AHEAD.store(0, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_refuses_is_explained() {
    let desk = Desk::new().await;
    let git = desk.handle();
    for (status, message, words) in [
        (StatusCode::NOT_FOUND, "Not Found", "no installation 77"),
        (StatusCode::FORBIDDEN, "This installation has been suspended", "suspended"),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            "The permissions requested are not granted",
            "permission Contents",
        ),
    ] {
        *desk.github.refuses.lock().expect("no panic") = Some((status, message));
        let error = git.fetch().await.expect_err(words);
        assert_eq!(error.class(), Class::Denied, "{error}");
        let said = error.to_string();
        assert!(
            said.contains("GitHub App 123456") && said.contains(words) && said.contains(message),
            "{said}"
        );
    }
    *desk.github.refuses.lock().expect("no panic") = Some((StatusCode::BAD_GATEWAY, ""));
    let error = git.fetch().await.expect_err("an outage");
    assert!(matches!(&error, GitError::Unreachable { url, .. } if *url == desk.app.api), "{error}");

    // The key was deleted on the App's page: GitHub knows another one.
    *desk.github.refuses.lock().expect("no panic") = None;
    *desk.github.public.lock().expect("no panic") = new_key(&desk.bed.folder.path().join("other.pem"));
    let error = git.fetch().await.expect_err("another key");
    let said = error.to_string();
    assert!(said.contains("whether the key was deleted") && said.contains("could not be decoded"), "{said}");
    assert_eq!(desk.bed.users(), Vec::<String>::new(), "no credentials are sent without a token");
}
