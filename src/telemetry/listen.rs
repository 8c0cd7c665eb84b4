//! Accepts connections for the HTTP endpoints of `health` and of the push webhook. Limits bound the memory that clients
//! can use, and ensure that the kubelet always gets a response.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Limits for the clients of a port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; one more closes the oldest.
    pub connections: usize,
    /// Time until the headers of a request must have arrived.
    pub headers: Duration,
    /// Time for a whole connection, which serves one request.
    pub connection: Duration,
    /// Pause before the next attempt if no connection can be accepted (no free file descriptor).
    pub pause: Duration,
}

/// Probes and scrapes take milliseconds, so the kubelet and Prometheus never have 256 connections at once. An idle
/// connection takes about 10 KiB.
pub const LIMITS: Limits = Limits {
    connections: 256,
    headers: Duration::from_secs(5),
    connection: Duration::from_secs(15),
    pause: Duration::from_secs(1),
};

/// Listens on an address. `[::]` includes IPv4; if the kernel has no IPv6, it means `0.0.0.0`.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && lacks_ipv6(&error) => {
            tracing::info!("this machine has no IPv6: listening on IPv4 only");
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Returns true if the kernel was built or started without IPv6, or has no IPv6 address.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, routes: Router, limits: Limits) {
    let mut open = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection cannot be accepted");
                #[expect(
                    clippy::disallowed_methods,
                    reason = "no state to wait for: descriptors become free"
                )]
                tokio::time::sleep(limits.pause).await;
                continue;
            }
        };
        open.retain(|connection: &AbortOnDropHandle<()>| !connection.is_finished());
        if open.len() >= limits.connections {
            open.pop_front();
        }
        open.push_back(AbortOnDropHandle::new(tokio::spawn(answer(stream, routes.clone(), limits))));
    }
}

async fn answer(stream: TcpStream, routes: Router, limits: Limits) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // It does not matter to the agent if a client disconnects or sends no request.
    let _ = tokio::time::timeout(limits.connection, connection).await;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn served(limits: Limits) -> (SocketAddr, AbortOnDropHandle<()>) {
        let listener = bind("[::]:0".parse().expect("an address")).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let routes = Router::new().route("/healthz", get(|| async { "ok" }));
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, routes, limits)));
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), serving)
    }

    async fn request(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("a response and the end of the connection");
        text
    }

    #[tokio::test]
    async fn the_unspecified_address_of_ipv6_answers_on_both_families() {
        let (address, _serving) = served(LIMITS).await;
        assert!(request(address).await.ends_with("ok"));
        assert!(request((Ipv6Addr::LOCALHOST, address.port()).into()).await.ends_with("ok"));
    }

    #[tokio::test]
    async fn idle_connections_keep_nobody_out_and_end() {
        let limits = Limits { connections: 8, headers: Duration::from_millis(300), ..LIMITS };
        let (address, _serving) = served(limits).await;
        let began = Instant::now();
        let mut idle = Vec::new();
        for _ in 0..50 {
            idle.push(TcpStream::connect(address).await.expect("connected"));
        }
        assert!(request(address).await.starts_with("HTTP/1.1 200"));
        for mut stream in idle {
            let mut rest = Vec::new();
            // Closed by the limit on connections, or on the time for headers (perhaps with a response 408).
            let _ = stream.read_to_end(&mut rest).await;
        }
        assert!(began.elapsed() < limits.connection, "{:?}", began.elapsed());
    }
}
