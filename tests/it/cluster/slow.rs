//! A slow API server: every response is late, but no request is repeated, lost or abandoned because of that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opsy::engine::kubernetes::lease::acquire;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::lease::terms;
use super::world::Agent;
use super::{Place, SOON, until};

/// The delay in each direction: some hundred times the usual one.
const LATE: Duration = Duration::from_millis(200);
const OBJECTS: u32 = 40;
/// The duration of the Lease: a renewal on a new connection takes five times the delay.
const DURATION: Duration = Duration::from_secs(9);

/// Starts a proxy that forwards everything with a delay, and returns its address. It ends with the test's runtime.
async fn slow_way_to(server: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.expect("the API server listens");
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::join!(late(from_client, to_server), late(from_server, to_client));
            });
        }
    });
    format!("https://{address}")
}

async fn late(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        tokio::time::sleep(LATE).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    // The reader may have closed the connection already.
    let _ = to.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_api_server_gets_each_request_once() {
    let place = Place::new().await;
    let server = place.plane.address("server").as_str().expect("an address");
    let server = server.strip_prefix("https://").and_then(|at| at.parse().ok()).expect("an address");
    let (cluster, requests) = place.cluster_at(place.scope(), Some(&slow_way_to(server).await)).await;
    let terms = terms("slow", DURATION);
    let held = tokio::time::timeout(SOON, acquire(&cluster, terms)).await.expect("the Lease");
    let mut lost = held.lost;
    let agent = Agent::on(cluster, requests).await;
    let documents: Vec<_> =
        (0..OBJECTS).map(|n| place.document(&format!("b{n}"), json!({"region": "us-east-1"}))).collect();

    let start = Instant::now();
    agent.load(&documents).await.expect("loaded");
    agent.settle().await;
    let took = start.elapsed();
    let one_by_one = LATE * 2 * 2 * OBJECTS;
    assert!(took < one_by_one / 2, "requests wait for each other: {took:?}");
    assert_eq!(agent.home.failing(), 0);
    let writes = agent.requests.writes();
    let count = |part: &str| writes.iter().filter(|line| line.contains(part)).count();
    assert_eq!((count("force=true"), count("/status?")), (40, 40), "{writes:?}");
    for document in &documents {
        let name = &document.object.key.name;
        assert_eq!(agent.passes(name), 1, "{name}");
        let stored = place.builder(name).await.expect("the object");
        assert_eq!(stored.data["status"]["observedGeneration"], 1, "{name}");
    }

    // Manual changes are observed late, and are reverted nevertheless.
    place.kubectl(&["patch", "pb", "b7", "--type=merge", "-p", r#"{"spec":{"region":"mars-1"}}"#], "");
    until("the old region", SOON, async || {
        (place.builder("b7").await?.data["spec"]["region"] == "us-east-1").then_some(())
    })
    .await;
    // Longer than the Lease lasts without being renewed.
    let words = tokio::time::timeout(DURATION, &mut lost).await;
    assert!(words.is_err(), "the Lease is lost: {words:?}");
}
