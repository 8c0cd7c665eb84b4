//! Checks while a wave soaks, against real HTTP servers: what they ask, what counts as good, and what a failure does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opsy::api::AMIRefresherStatus;
use opsy::api::fence::Fence;
use opsy::api::network::Network;
use opsy::engine::{ObjectHealth, Pass};
use opsy::probe::{Address, Probe, Probes};
use serde_json::{Value, json};

use crate::refresher::{Rolling, names, reason};

const RECONCILES: usize = 200;

/// A server that answers every request with the current response, and records the paths.
struct Server {
    address: SocketAddr,
    response: Arc<Mutex<String>>,
    paths: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            response: Arc::default(),
            paths: Arc::default(),
            count: Arc::default(),
        };
        let (response, paths, count) = (server.response.clone(), server.paths.clone(), server.count.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut buffer = [0; 8192];
                let read = stream.read(&mut buffer).unwrap_or(0);
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                paths.lock().expect("no panic").push(path);
                count.fetch_add(1, Ordering::Relaxed);
                let response = response.lock().expect("no panic").clone();
                // The client may have closed the connection.
                let _ = stream.write_all(response.as_bytes());
            }
        });
        server
    }

    fn answer(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        *self.response.lock().expect("no panic") = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
    }

    fn answer_query(&self, values: &[&str]) {
        let samples: Vec<Value> =
            values.iter().map(|value| json!({"metric": {}, "value": [1.0, value]})).collect();
        let data = json!({"resultType": "vector", "result": samples});
        self.answer("200 OK", "", &json!({"status": "success", "data": data}).to_string());
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// A canary that soaks for ten minutes before the other groups.
async fn rolling(checks: Value) -> Rolling {
    let mut rolling = Rolling::new(json!({"rollout": {
        "waves": [{"name": "canary", "nodeGroups": ["system"], "soak": "10m"}],
        "healthCheck": {"checks": checks},
    }}))
    .await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling
}

async fn until(
    rolling: &mut Rolling,
    what: &str,
    holds: impl Fn(&Pass<AMIRefresherStatus>) -> bool,
) -> Pass<AMIRefresherStatus> {
    for _ in 0..RECONCILES {
        let pass = rolling.pass().await;
        if holds(&pass) {
            return pass;
        }
        rolling.step(pass.look.as_secs().max(1));
    }
    panic!("never {what}: {:#?}", rolling.object.status);
}

#[tokio::test]
async fn a_wave_starts_after_a_soak_in_which_url_and_query_stayed_good() {
    let (shop, prometheus) = (Server::start(), Server::start());
    shop.answer("204 No Content", "", "");
    prometheus.answer_query(&["0.002"]);
    let checks = json!([
        {"name": "shop", "url": format!("http://{}/healthz", shop.address)},
        {"name": "errors", "prometheus": {
            "address": format!("http://{}/base", prometheus.address), "query": "rate(errors[5m]) < 0.01",
        }},
    ]);
    let mut rolling = rolling(checks).await;
    until(&mut rolling, "settled", |pass| pass.health == ObjectHealth::Settled).await;
    assert_eq!(rolling.on(&rolling.image()), names(&["batch", "system", "web"]));
    assert!(shop.count() >= 10 && prometheus.count() >= 10, "{} {}", shop.count(), prometheus.count());
    let is = |server: &Server, path: &str| {
        server.paths.lock().expect("no panic").iter().all(|asked| asked == path)
    };
    assert!(is(&shop, "/healthz"));
    assert!(is(&prometheus, "/base/api/v1/query?query=rate%28errors%5B5m%5D%29+%3C+0.01"));
    let asked = shop.count();
    rolling.step(600);
    rolling.pass().await;
    assert_eq!(shop.count(), asked, "nothing is asked after the soak");
}

#[tokio::test]
async fn a_url_that_stops_to_be_good_fails_the_rollout_with_its_response() {
    let shop = Server::start();
    shop.answer("200 OK", "", "fine");
    let mut rolling = rolling(json!([{"name": "shop", "url": format!("http://{}/", shop.address)}])).await;
    until(&mut rolling, "soaking", |pass| reason(pass).0 == "Soaking").await;
    shop.answer("503 Service Unavailable", "", "password: hunter2");
    let pass = until(&mut rolling, "failed", |pass| pass.health == ObjectHealth::Stalled).await;
    let (why, message) = reason(&pass);
    let expected =
        "check \"shop\" failed while wave \"canary\" soaks: HTTP 503 (failed 3 times, failureThreshold is 2)";
    assert!(why == "UpdateFailed" && message.contains(expected), "{why}: {message}");
    assert_eq!(rolling.on(&rolling.image()), names(&["system"]));
    let status = serde_json::to_string(&pass.status).expect("JSON");
    assert!(!status.contains("hunter2"), "{status}");
}

#[tokio::test]
async fn a_query_without_a_result_fails_the_rollout() {
    let prometheus = Server::start();
    prometheus.answer_query(&[]);
    let check = json!({"address": format!("http://{}", prometheus.address), "query": "errors < 1"});
    let mut rolling = rolling(json!([{"name": "errors", "prometheus": check}])).await;
    let pass = until(&mut rolling, "failed", |pass| pass.health == ObjectHealth::Stalled).await;
    assert!(reason(&pass).1.contains("the query returned no sample"), "{:?}", reason(&pass));
    assert_eq!(rolling.on(&rolling.image()), names(&["system"]));
}

fn url(text: &str) -> Probe {
    Probe::Url(Address::parse(text).expect("an address"))
}

#[tokio::test]
async fn a_check_follows_no_redirect_and_reaches_only_hosts_that_are_allowed() {
    let (target, shop) = (Server::start(), Server::start());
    target.answer("200 OK", "", "");
    shop.answer("302 Found", &format!("location: http://{}/\r\n", target.address), "");
    let rules = ["team=127.0.0.1"].map(|rule| rule.parse().expect("a rule"));
    let fence = Fence::new("--check-hosts", Some("opsy".to_owned()), rules.into());
    let probes = Probes::new(&Network::default(), Arc::new(fence)).expect("a client");
    let there = url(&format!("http://{}/", shop.address));
    let verdict = probes.ask("team", &there).await;
    assert_eq!((verdict.is_good, verdict.response.as_str()), (false, "HTTP 302"));
    assert_eq!((shop.count(), target.count()), (1, 0));
    let refused = probes.ask("other", &there).await;
    assert!(!refused.is_good && refused.response.contains("--check-hosts=other=127.0.0.1"), "{refused:?}");
    assert_eq!(shop.count(), 1);
    let closed = probes.ask("team", &url("http://127.0.0.1:1/")).await;
    assert_eq!((closed.is_good, closed.response.as_str()), (false, "connection refused"));
}
