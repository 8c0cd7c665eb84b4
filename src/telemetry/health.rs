//! The HTTP endpoints for health and metrics: `/healthz` (liveness), `/readyz` (readiness during a rollout of the
//! agent) and `/metrics`. They are served in every stage, also while the agent waits for the Lease. `listen` accepts
//! the connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::listen;
use super::metrics::{Metrics, Sample, Shape};
use super::process;
use crate::api::lock::lock;

/// The content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Maximum time that a scrape waits for values that must be requested. After it, the previous values are reported.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// The stage of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Another replica is the leader. This one becomes the leader when that one ends.
    StandBy,
    /// This replica is the leader, but has not loaded a commit yet.
    Starting,
    Working,
    Stopping,
}

/// Returns a message if this part of the agent is stuck.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;
/// Requests values that the metrics then report.
type Request = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The stage, the health checks and the metrics of the agent. Every part that reports to them has a reference.
pub struct Health {
    pub metrics: Metrics,
    /// Why this replica cannot become the leader until its settings change, if so. Set by the wait for the Lease.
    pub blocked: watch::Sender<Option<String>>,
    stage: Mutex<Stage>,
    checks: Mutex<Vec<(&'static str, Check)>>,
    before_scrape: Mutex<Vec<Request>>,
    /// One scrape at a time: each of them reads every object.
    scraping: tokio::sync::Mutex<()>,
}

impl Health {
    pub fn new() -> Arc<Self> {
        let health = Arc::new(Self {
            metrics: Metrics::default(),
            blocked: watch::Sender::new(None),
            stage: Mutex::new(Stage::StandBy),
            checks: Mutex::default(),
            before_scrape: Mutex::default(),
            scraping: tokio::sync::Mutex::default(),
        });
        let leader = Arc::downgrade(&health);
        process::register(&health.metrics);
        health.metrics.add_collector(
            "opsy_leader",
            "1 while this replica is the leader",
            Shape::Gauge,
            move || {
                let leads = leader.upgrade().is_some_and(|health| health.stage() != Stage::StandBy);
                vec![Sample::of(f64::from(u8::from(leads)))]
            },
        );
        health
    }

    /// Enters a stage. `Stopping` is final.
    pub fn enter(&self, stage: Stage) {
        let mut now = lock(&self.stage);
        if *now != Stage::Stopping {
            *now = stage;
        }
    }

    pub fn stage(&self) -> Stage {
        *lock(&self.stage)
    }

    /// Adds a check to `/healthz`.
    pub fn check(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        lock(&self.checks).push((name, Box::new(check)));
    }

    /// Adds a request for values, made before each scrape.
    pub fn before_scrape(&self, request: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        lock(&self.before_scrape).push(Box::new(request));
    }

    /// Serves until the returned handle is dropped.
    pub async fn serve(self: &Arc<Self>, address: SocketAddr) -> anyhow::Result<AbortOnDropHandle<()>> {
        let context = || format!("cannot listen on {address} (--listen)");
        let listener = listen::bind(address).await.with_context(context)?;
        let address = listener.local_addr().with_context(context)?;
        tracing::info!(%address, "serving /healthz, /readyz and /metrics");
        let routes = Router::new()
            .route("/healthz", get(alive))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self.clone());
        Ok(AbortOnDropHandle::new(tokio::spawn(listen::serve(listener, routes, listen::LIMITS))))
    }

    fn stuck(&self) -> Vec<String> {
        let look = |(name, check): &(&str, Check)| Some(format!("{name}: {}", check().err()?));
        lock(&self.checks).iter().filter_map(look).collect()
    }
}

async fn alive(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let stuck = health.stuck();
    if stuck.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, stuck.join("\n") + "\n")
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let blocked = health.blocked.borrow().clone();
    let (code, words) = match (health.stage(), blocked) {
        (Stage::StandBy, Some(words)) => return (StatusCode::SERVICE_UNAVAILABLE, words + "\n"),
        (Stage::StandBy, None) => (StatusCode::OK, "ok: standing by\n"),
        (Stage::Starting, _) => (StatusCode::SERVICE_UNAVAILABLE, "no commit has been loaded yet\n"),
        (Stage::Working, _) => (StatusCode::OK, "ok\n"),
        (Stage::Stopping, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    };
    (code, words.to_owned())
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let _one = health.scraping.lock().await;
    let requests: Vec<_> = lock(&health.before_scrape).iter().map(|request| request()).collect();
    // After the limit, the previous values are reported.
    let _ = tokio::time::timeout(REQUEST_LIMIT, futures::future::join_all(requests)).await;
    match health.metrics.text() {
        Ok(text) => Ok(([(CONTENT_TYPE, OPEN_METRICS)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_follows_the_stages_and_stopping_is_the_last() {
        let health = Health::new();
        let mut codes = Vec::new();
        for stage in [Stage::StandBy, Stage::Starting, Stage::Working, Stage::Stopping, Stage::Working] {
            health.enter(stage);
            codes.push(ready(State(health.clone())).await.into_response().status().as_u16());
        }
        assert_eq!(codes, [200, 503, 200, 503, 503]);
        assert!(health.metrics.text().expect("text").contains("\nopsy_leader 1.0\n"));
        let waiting = Health::new();
        waiting.blocked.send_replace(Some("wrong Lease".to_owned()));
        let answer = ready(State(waiting)).await.into_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn liveness_names_what_is_wedged() {
        let health = Health::new();
        health.check("fine", || Ok(()));
        assert_eq!(alive(State(health.clone())).await.into_response().status(), StatusCode::OK);
        health.check("sync", || Err("has not synced for an hour".to_owned()));
        assert_eq!(health.stuck(), ["sync: has not synced for an hour"]);
        let answer = alive(State(health)).await.into_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
