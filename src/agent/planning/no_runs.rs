//! An engine without runs, which starts none: a plan is about what follows from a commit, and it never acts.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use opsy_runner::request::Progress;

use crate::api::{Key, RunName};
use crate::engine::{EngineError, Run, RunRequest, Runs, Stop};

/// No runs.
pub struct NoRuns;

impl Runs for NoRuns {
    fn start(&self, _: RunRequest) -> BoxFuture<'_, Result<String, EngineError>> {
        refused()
    }
    fn of<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Vec<Run>, EngineError>> {
        ready(Ok(Vec::new())).boxed()
    }
    fn live(&self) -> BoxFuture<'_, Result<usize, EngineError>> {
        ready(Ok(0)).boxed()
    }
    fn stop<'a>(&'a self, _: &'a RunName, _: Stop) -> BoxFuture<'a, Result<(), EngineError>> {
        refused()
    }
    fn forget<'a>(&'a self, _: &'a RunName) -> BoxFuture<'a, Result<(), EngineError>> {
        refused()
    }
    fn secret<'a>(
        &'a self,
        _: &'a Key,
        _: &'a BTreeSet<Key>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        refused()
    }
    fn progress(&self) -> Vec<(Key, Progress)> {
        Vec::new()
    }
}

fn refused<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, EngineError>> {
    ready(Err(EngineError::invalid("a plan changes nothing"))).boxed()
}
