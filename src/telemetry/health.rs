//! The HTTP endpoints for machines: `/healthz` (liveness), `/readyz` (readiness during a rollout of the agent) and
//! `/metrics`. They are served at any stage, also while the agent waits for the Lease. `listen` accepts the
//! connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
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

/// As OpenMetrics names its text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A scrape waits no longer for values that must be asked for, and then reports the last ones.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Where the agent is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Another replica works; this one takes over when it goes.
    StandBy,
    /// The one that works, before its first commit.
    Starting,
    Working,
    Stopping,
}

/// Answers a sentence when the agent is wedged there.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;
/// Asks for values that metrics then hold.
type Ask = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What the agent tells, and what is measured. Handed to whoever tells.
pub struct Health {
    pub metrics: Metrics,
    /// Why this replica stands by for what will not come; whoever waits says so.
    pub blocked: watch::Sender<Option<String>>,
    stage: Mutex<Stage>,
    checks: Mutex<Vec<(&'static str, Check)>>,
    asks: Mutex<Vec<Ask>>,
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
            asks: Mutex::default(),
            scraping: tokio::sync::Mutex::default(),
        });
        let leader = Arc::downgrade(&health);
        health.metrics.read("opsy_leader", "Is this the replica that works?", Shape::Gauge, move || {
            let leads = leader.upgrade().is_some_and(|health| health.stage() != Stage::StandBy);
            vec![Sample::of(f64::from(u8::from(leads)))]
        });
        health
    }

    /// Goes on to a stage. Nothing comes after `Stopping`.
    pub fn enter(&self, stage: Stage) {
        let mut now = locked(&self.stage);
        if *now != Stage::Stopping {
            *now = stage;
        }
    }

    pub fn stage(&self) -> Stage {
        *locked(&self.stage)
    }

    /// Has `/healthz` look at this, too.
    pub fn check(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        locked(&self.checks).push((name, Box::new(check)));
    }

    /// Has this done before each scrape.
    pub fn ask_first(&self, ask: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        locked(&self.asks).push(Box::new(ask));
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

    fn wedged(&self) -> Vec<String> {
        let look = |(name, check): &(&str, Check)| Some(format!("{name}: {}", check().err()?));
        locked(&self.checks).iter().filter_map(look).collect()
    }
}

async fn alive(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let wedged = health.wedged();
    if wedged.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, wedged.join("\n") + "\n")
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let blocked = health.blocked.borrow().clone();
    let (code, words) = match (health.stage(), blocked) {
        (Stage::StandBy, Some(words)) => return (StatusCode::SERVICE_UNAVAILABLE, words + "\n"),
        (Stage::StandBy, None) => (StatusCode::OK, "ok: standing by\n"),
        (Stage::Starting, _) => (StatusCode::SERVICE_UNAVAILABLE, "no commit was taken over yet\n"),
        (Stage::Working, _) => (StatusCode::OK, "ok\n"),
        (Stage::Stopping, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    };
    (code, words.to_owned())
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let _one = health.scraping.lock().await;
    let asked: Vec<_> = locked(&health.asks).iter().map(|ask| ask()).collect();
    // After the limit the last values are reported once more.
    let _ = tokio::time::timeout(ASK_LIMIT, futures::future::join_all(asked)).await;
    match health.metrics.text() {
        Ok(text) => Ok(([(CONTENT_TYPE, OPEN_METRICS)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this")
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
        health.check("sync", || Err("has not looked for an hour".to_owned()));
        assert_eq!(health.wedged(), ["sync: has not looked for an hour"]);
        let answer = alive(State(health)).await.into_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
