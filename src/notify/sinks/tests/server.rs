//! A server that sends prepared replies, one per request, and records the requests.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::api::network::Network;
use crate::notify::sinks::http::{Address, Http};

/// How the server reacts to a request.
pub enum Reply {
    /// Status, headers and body.
    Answer(&'static str, &'static str),
    /// Reads the request, then closes the connection.
    BreakOff,
    /// Reads the request, and never responds.
    Silence,
    /// Sends a plain HTTP response before the request, so that a TLS handshake fails.
    Unasked,
}

/// Head and body of all requests so far.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

pub struct Server {
    pub address: String,
    seen: Seen,
}

impl Server {
    pub async fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Seen::default();
        tokio::spawn(serve(listener, replies, Arc::clone(&seen)));
        Self { address, seen }
    }

    /// Creates a server that sends the same response to a number of requests.
    pub async fn always(times: usize, head: &'static str, body: &'static str) -> Self {
        Self::new((0..times).map(|_| Reply::Answer(head, body)).collect()).await
    }

    pub fn at(&self, path: &str) -> Address {
        Address::parse(&format!("{}{path}", self.address)).expect("an address")
    }

    /// Returns head and body of the requests.
    pub fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().expect("no panic").clone()
    }
}

async fn serve(listener: TcpListener, replies: Vec<Reply>, seen: Seen) {
    let mut held = Vec::new();
    for reply in replies {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        if matches!(reply, Reply::Unasked) {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("a reader");
            held.push(stream);
            continue;
        }
        let request = read(&mut stream).await;
        seen.lock().expect("no panic").push(request);
        match reply {
            Reply::Answer(head, body) => {
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.expect("a reader");
            }
            Reply::BreakOff => drop(stream),
            Reply::Silence | Reply::Unasked => held.push(stream),
        }
    }
    // Keeps the connections open until the runtime of the test ends.
    std::future::pending::<()>().await;
}

async fn read(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.expect("a request");
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
            return (head, body.to_owned());
        }
    }
}

pub fn http() -> Http {
    Http::new(&Network::default()).expect("a client")
}
