//! Every source of credentials, as the SDK finds them in a real environment. Each case is a separate process with its
//! own variables and files. One server plays STS, SSO and the agent of a container. The account that it returns names
//! the access key and the region of the caller.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::fake::{Wire, ok, region as home, sts};
use super::super::{Aging, Aws, defaults};
use super::*;
use crate::api::Class;
use crate::api::network::Network;
use crate::api::proxy::Proxies;

/// The variable that tells a process that it runs a case.
const CASE: &str = "OPSY_TEST_CREDENTIALS";
/// A file that is put in place after the second attempt: `from=>to`.
const FIX: &str = "OPSY_TEST_FIX";
/// The process of a case prints this before each result.
const RESULT: &str = "RESULT ";
/// Name of the cached token of the SSO session `corp`, as the AWS CLI creates it.
const TOKEN: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";

/// The process of a case. It looks up the account as the agent does: twice, and once more after the fix.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a case consists of the environment of its process")]
#[expect(clippy::print_stdout, reason = "the test that started it reads its results")]
async fn process_of_a_case() {
    if std::env::var_os(CASE).is_none() {
        return;
    }
    let proxies = Proxies::read(|name| std::env::var(name).ok()).expect("proxies");
    let network = Network { proxies, ..Network::default() };
    let aws = Aws::from_env(std::env::var("AWS_PROFILE").ok(), &network).await.expect("a configuration");
    let region = Region::parse("eu-central-1").expect("a region");
    let ask = || async {
        match aws.account(&region).await {
            Ok(account) => println!("{RESULT}{account}"),
            Err(error) => println!("{RESULT}{:?} {error}", error.class()),
        }
    };
    ask().await;
    ask().await;
    if let Ok(fix) = std::env::var(FIX) {
        let (from, to) = fix.split_once("=>").expect("from and to");
        fs::rename(from, to).expect("the fix");
        ask().await;
    }
}

/// The home directory and the variables of a case.
struct Case {
    dir: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Case {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let home = dir.path().display().to_string();
        let variables = [
            (CASE, "1"),
            ("HOME", &home),
            ("AWS_ENDPOINT_URL", &serve()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("PATH", "/usr/bin:/bin"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let case = Self { dir, variables };
        case.file(".aws/config", config);
        case
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("a file");
        path
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Runs the case and returns its results, in order.
    #[expect(clippy::disallowed_methods, reason = "a case is a separate process")]
    fn results(&self) -> Vec<String> {
        let program = std::env::current_exe().expect("this program");
        let name = "aws::credentials::tests::process_of_a_case";
        let mut command = std::process::Command::new(program);
        command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
        let done = command.env_clear().envs(&self.variables).output().expect("a process");
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{printed}{}", String::from_utf8_lossy(&done.stderr));
        let results = printed.lines().filter_map(|line| Some(line.split_once(RESULT)?.1.to_owned()));
        results.collect()
    }
}

/// Starts the server and returns its address.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = serve_one(stream);
        }
    });
    url
}

fn serve_one(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line)? > 2 {
        head.push_str(&line);
        line.clear();
    }
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, body) = answer(&head, &String::from_utf8_lossy(&body));
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn answer(head: &str, body: &str) -> (u16, String) {
    let keys = |key: &str| format!("\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"AccessKeyId\":\"{key}\"");
    if head.starts_with("GET /container") {
        let expires = "\"Expiration\":\"2099-01-01T00:00:00Z\"";
        return match header(head, "authorization") {
            Some("letmein") => (200, format!("{{{},{expires}}}", keys("CONTAINER"))),
            _ => (403, String::new()),
        };
    }
    if head.starts_with("GET /federation/credentials") {
        return match header(head, "x-amz-sso_bearer_token") {
            Some("good") => {
                let expires = "\"expiration\":4070908800000";
                let keys = "\"accessKeyId\":\"SSO\",\"secretAccessKey\":\"s\",\"sessionToken\":\"t\"";
                (200, format!("{{\"roleCredentials\":{{{keys},{expires}}}}}"))
            }
            _ => (
                401,
                "{\"__type\":\"UnauthorizedException\",\"message\":\"Session token not found\"}".to_owned(),
            ),
        };
    }
    let scope =
        header(head, "authorization").and_then(|line| line.split_once("Credential=")).unwrap_or_default().1;
    let mut scope = scope.split('/');
    let (key, region) = (scope.next().unwrap_or_default(), scope.nth(1).unwrap_or_default());
    if body.contains("Action=GetCallerIdentity") {
        let account = format!("<Account>{key}@{region}</Account>");
        return (200, sts("GetCallerIdentity", &account));
    }
    if body.contains("role%2Fdenied") {
        let error = "<Error><Code>AccessDenied</Code><Message>not authorized to assume</Message></Error>";
        return (403, format!("<ErrorResponse>{error}</ErrorResponse>"));
    }
    let operation =
        if body.contains("AssumeRoleWithWebIdentity") { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
    let role = body.split("role%2F").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or_default();
    let by = if operation == "AssumeRole" {
        format!("{role}-by-{key}-in-{region}")
    } else {
        format!("{role}-by-token")
    };
    let credentials = format!(
        "<Credentials><AccessKeyId>{by}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
    );
    (200, sts(operation, &credentials))
}

const BASE: &str = "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = s\n";
const CORP: &str = "[profile corp]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = ops\n\
                    [sso-session corp]\nsso_start_url = https://corp.example\nsso_region = us-west-2\n";

#[test]
fn sources_that_work() {
    let role = |name: &str, source: &str| {
        format!(
            "[profile {name}]\nrole_arn = arn:aws:iam::123456789012:role/{name}\nsource_profile = {source}\n"
        )
    };
    let process =
        "{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"PROCESS\\\", \\\"SecretAccessKey\\\": \\\"s\\\"}";
    let process = format!("[profile process]\ncredential_process = /bin/echo \"{process}\"\n");
    let one = role("one", "base") + BASE;
    let two = role("two", "one") + &one;
    let named = |config: &str, profile: &str| Case::new(config).with("AWS_PROFILE", profile);
    let table = [
        (
            Case::new("").with("AWS_ACCESS_KEY_ID", "ENV").with("AWS_SECRET_ACCESS_KEY", "s"),
            "ENV@eu-central-1",
        ),
        (named(BASE, "base"), "BASE@eu-central-1"),
        // Without any region, that of the first object is used.
        (named(&one, "one"), "one-by-BASE-in-eu-central-1@eu-central-1"),
        (named(&two, "two"), "two-by-one-by-BASE-in-eu-central-1-in-eu-central-1@eu-central-1"),
        (named(&one, "one").with("AWS_REGION", "eu-west-3"), "one-by-BASE-in-eu-west-3@eu-central-1"),
        (named(&process, "process"), "PROCESS@eu-central-1"),
    ];
    for (case, due) in table {
        assert_eq!(case.results(), [due, due], "{:?}", case.variables);
    }
    let case = named(CORP, "corp");
    let token = r#"{"accessToken": "good", "expiresAt": "2099-01-01T00:00:00Z", "startUrl": "x", "region": "us-west-2"}"#;
    case.file(TOKEN, token);
    assert_eq!(case.results(), ["SSO@eu-central-1"; 2]);
}

#[test]
fn sources_of_pods_work_also_behind_a_proxy() {
    let case = Case::new("");
    let token = case.file("token", "a token");
    let case = case
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", token)
        .with("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/irsa");
    assert_eq!(case.results(), ["irsa-by-token@eu-central-1"; 2]);

    let case = Case::new("");
    let (token, url) = (case.file("token", "letmein"), case.variables["AWS_ENDPOINT_URL"].clone());
    // Nothing listens at this address.
    let proxy = "http://127.0.0.1:9";
    let case = case
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/container"))
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token)
        .with("HTTP_PROXY", proxy)
        .with("HTTPS_PROXY", proxy);
    assert_eq!(case.results(), ["CONTAINER@eu-central-1"; 2]);
}

/// Expects two results of this class with all of these parts.
fn refused(case: &Case, class: Class, parts: &[&str]) {
    let results = case.results();
    for result in &results[..2] {
        assert!(result.starts_with(&format!("{class:?} ")), "{result}");
        for part in parts {
            assert!(result.contains(part), "{part} in {result}");
        }
    }
}

#[test]
fn what_is_missing_is_named_at_every_call_and_what_to_do() {
    let named = |config: &str, profile: &str| Case::new(config).with("AWS_PROFILE", profile);
    let login = "aws sso login --profile corp";
    refused(&named(CORP, "corp"), Class::Denied, &["\"corp\"", login]);
    let revoked = named(CORP, "corp");
    revoked.file(TOKEN, r#"{"accessToken": "revoked", "expiresAt": "2099-01-01T00:00:00Z"}"#);
    refused(&revoked, Class::Denied, &[login]);
    let expired = named(CORP, "corp");
    expired.file(TOKEN, r#"{"accessToken": "good", "expiresAt": "2001-01-01T00:00:00Z"}"#);
    refused(&expired, Class::Denied, &[login]);

    let session = "[profile console]\nlogin_session = arn:aws:iam::123456789012:user/a\n";
    let export = "aws configure export-credentials --profile console";
    refused(&named(session, "console"), Class::Denied, &["\"console\"", export]);
    refused(&named(BASE, "typo"), Class::Denied, &["AWS_PROFILE is \"typo\"", "correct the name"]);
    let circle = "[profile a]\nrole_arn = arn:aws:iam::1:role/a\nsource_profile = b\n\
                  [profile b]\nrole_arn = arn:aws:iam::1:role/b\nsource_profile = a\n";
    refused(&named(circle, "a"), Class::Denied, &["configured wrongly", "\"a\"", "infinite loop"]);
    let sealed = "[profile p]\ncredential_process = /bin/sh -c \"echo vault is sealed >&2; exit 3\"\n";
    refused(&named(sealed, "p"), Class::Denied, &["credential_process", "\"p\"", "vault is sealed"]);
    let denied = "[profile d]\nrole_arn = arn:aws:iam::1:role/denied\nsource_profile = base\n";
    let denied = denied.to_owned() + BASE;
    refused(&named(&denied, "d"), Class::Denied, &["\"d\"", "AccessDenied: not authorized to assume"]);
    refused(&Case::new(""), Class::Denied, &["no AWS credentials found", "AWS_ACCESS_KEY_ID"]);
    let absent = Case::new("")
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
        .with("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/irsa");
    refused(&absent, Class::TRANSIENT, &["no AWS credentials at the moment", "No such file"]);
}

#[test]
fn what_a_person_mends_is_found_without_a_restart() {
    let case = Case::new("").with("AWS_PROFILE", "base");
    let (from, to) = (case.file("fixed", BASE), case.path(".aws/config"));
    let results = case.with(FIX, format!("{from}=>{to}")).results();
    assert!(results[1].contains("AWS_PROFILE is \"base\""), "{results:?}");
    assert_eq!(results[2], "BASE@eu-central-1");
}

/// Returns another access key from the third read on.
#[derive(Debug)]
struct Changing(AtomicU32);

impl ProvideCredentials for Changing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let key = if self.0.fetch_add(1, Ordering::SeqCst) < 2 { "OLD" } else { "NEW" };
        // They are about to expire, so each call reads them.
        let expires = std::time::UNIX_EPOCH + Duration::from_secs(1);
        future::ProvideCredentials::ready(Ok(Credentials::new(key, "s", None, Some(expires), "test")))
    }
}

#[tokio::test]
async fn the_account_is_asked_for_again_when_the_key_changes() {
    let identity = |account: &str| ok(sts("GetCallerIdentity", &format!("<Account>{account}</Account>")));
    let now = || jiff::Timestamp::UNIX_EPOCH;
    for aging in [Aging::By(now), Aging::Never] {
        let wire = Wire::new(["1", "1", "2", "2"].map(identity));
        let (http, provider) = (wire.http(), Arc::new(Changing(AtomicU32::new(0))));
        let load =
            move || defaults().http_client(http.clone()).credentials_provider(Shared(provider.clone()));
        let aws = Aws::of(None, load, now, aging).await;
        let account = || async { aws.account(&home()).await.expect("an account") };
        assert_eq!(account().await, "1");
        assert_eq!(account().await, "1");
        aws.identity(&home()).await.expect("an identity");
        assert_eq!(account().await, "1", "the key is the same: {aging:?}");
        aws.identity(&home()).await.expect("an identity");
        assert_eq!(account().await, "2", "the key is another: {aging:?}");
        assert_eq!(account().await, "2");
        assert_eq!(wire.sent().len(), 4);
    }
}

#[derive(Debug)]
struct Shared(Arc<Changing>);

impl ProvideCredentials for Shared {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.provide_credentials()
    }
}
