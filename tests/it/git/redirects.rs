//! Redirects: credentials are sent only to the scheme, host and port for which they were set.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opsy::git::address::Address;
use opsy::git::commit::{Edit, Outcome};
use opsy::git::{GitError, Handle, Options};

use super::bed::{Bed, http, token};
use super::push::change;

/// Requests to a server: their first lines, and their `authorization` headers.
type Seen = Arc<Mutex<Vec<String>>>;

/// Starts a server on this machine. `answer` gets whether a request has credentials, and returns the response.
fn server(answer: impl Fn(bool) -> String + Send + 'static) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let seen = Seen::default();
    let noted = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = serve(stream, &answer, &noted);
        }
    });
    (url, seen)
}

fn serve(mut stream: TcpStream, answer: &impl Fn(bool) -> String, seen: &Seen) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut authorized, mut line) = (false, String::new());
    while reader.read_line(&mut line)? > 2 {
        if line.starts_with("GET ") || line.to_ascii_lowercase().starts_with("authorization:") {
            seen.lock().expect("no panic").push(line.trim().to_owned());
        }
        authorized |= line.to_ascii_lowercase().starts_with("authorization:");
        line.clear();
    }
    stream.write_all(answer(authorized).as_bytes())
}

fn response(status: &str, header: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn unauthorized() -> String {
    response("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"")
}

/// The error of a fetch from this URL.
async fn fetch(url: &str) -> GitError {
    let folder = tempfile::tempdir().expect("a directory");
    let git = Handle::start(Options {
        address: Address::parse(&format!("{url}/repo.git")).expect("an address"),
        branch: None,
        path: String::new(),
        folder: folder.path().join("clone"),
        credentials: Some(token("hunter2")),
        http: http(),
        history: opsy::git::History::Recent,
        signers: None,
        signing_key: None,
    });
    git.expect("a handle").fetch().await.expect_err("there is no repository")
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_port() {
    for asks_first in [false, true] {
        let (other, seen) = server(|_| unauthorized());
        let to = format!("Location: {other}/repo.git/info/refs?service=git-upload-pack");
        let (url, first) = server(move |authorized| match authorized || !asks_first {
            true => response("302 Found", &to),
            false => unauthorized(),
        });
        let error = fetch(&url).await;
        assert!(matches!(error, GitError::Redirected { .. }), "{asks_first}: {error}");
        assert!(error.to_string().contains(&other), "it says where: {error}");
        let seen = seen.lock().expect("no panic");
        assert!(!seen.iter().any(|line| line.contains("uthorization")), "{asks_first}: {seen:?}");
        assert_eq!(
            first.lock().expect("no panic").iter().any(|line| line.contains("uthorization")),
            asks_first
        );
    }
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_to_fetch_and_to_push() {
    for private in [false, true] {
        let bed = Bed::guarded("*:hunter2\n");
        let tip = bed.remote().commit("main", &[("a.yaml", Some("# 1"))]);
        let url = bed.moved("repo", private);
        let git = bed.handle_with(|options| {
            options.address = Address::parse(&url).expect("an address");
            options.credentials = Some(token("hunter2"));
        });
        let fetched = git.fetch().await.expect("the repository behind the redirect");
        assert_eq!(fetched.commit.as_str(), tip);
        let edits = [("status/a.yaml", Edit::Put(b"1".to_vec()))];
        let pushed = git.commit(&change("main", &edits)).await.expect("pushed there");
        assert!(matches!(pushed, Outcome::Pushed { .. }), "{pushed:?}");
        assert_eq!(bed.remote().log("main").len(), 2);
    }
}
