//! `opsy run --once`: one sync, reconciles until nothing is left to do, one push, and the exit code.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use super::engine::while_held;
use super::{Agent, Signals};
use crate::api::{ObjectKey, reasons};
use crate::engine::ObjectHealth;
use crate::loader::{Loaded, Loader};
use crate::publish::Publishing;
use crate::sync::Sync;
use crate::telemetry::out;

/// The push has this long.
const PUSH: Duration = Duration::from_secs(120);

/// Exit codes.
const SETTLED: u8 = 0;
const NEEDS_ATTENTION: u8 = 2;
const WAITING: u8 = 3;

/// How a run ended.
pub struct Finished {
    pub code: ExitCode,
    /// What decided the code. Afterwards, an object may be woken again.
    pub health: BTreeMap<ObjectKey, ObjectHealth>,
}

impl Agent {
    /// Works until nothing that was started is left.
    ///
    /// # Errors
    /// The repository could not be loaded, a signal came, or the claim was lost.
    pub async fn once(mut self, signals: Signals) -> anyhow::Result<Finished> {
        let lost = self.running.claim.take_lost();
        while_held(lost, self.work_once(signals)).await
    }

    async fn work_once(self, mut signals: Signals) -> anyhow::Result<Finished> {
        let Self { mut sync, mut running, .. } = self;
        let state = sync.state();
        tokio::select! {
            loaded = load(&mut sync, &running.loader) => loaded?,
            () = signals.next() => anyhow::bail!("interrupted before the first commit was loaded"),
        }
        let (health, is_interrupted) = tokio::select! {
            health = running.settled() => (health, false),
            () = signals.next() => (running.objects.board.health(), true),
        };
        let published = running.publisher.flush(PUSH).await;
        // The status of the repository reports the result of the push.
        running.repository.reconcile().await;
        running.end_reconciles().await;
        running.stop.cancel();
        (running.claim.release)().await;
        let unpublished = unpublished(published.as_ref());
        if let Some(why) = &unpublished {
            out::error(why);
        }
        if is_interrupted {
            anyhow::bail!("interrupted; builds continue, and the next run resumes them");
        }
        let is_complete = running.synced.borrow().as_ref().is_some_and(|synced| synced.set.complete());
        let is_complete = is_complete && state.borrow().held.is_none() && unpublished.is_none();
        Ok(Finished { code: ExitCode::from(exit_code(&health, is_complete)), health })
    }
}

/// Loads the tip of the branch, which may have to be read a second time.
async fn load(sync: &mut Sync, loader: &Loader) -> anyhow::Result<()> {
    sync.once().await?;
    while loader.load(false).await? == Loaded::ReadAgain {
        sync.once().await?;
    }
    Ok(())
}

/// Why status is not in the repository, if it is not. `None` as the result means that the push took too long.
fn unpublished(result: Option<&Publishing>) -> Option<String> {
    match result {
        Some(state) if state.is_up_to_date() => None,
        Some(Publishing::Rejected { message, .. }) => {
            Some(format!("the push of status was refused: {message}"))
        }
        Some(Publishing::Failed { reason: reasons::SETTER_INVALID, message, .. }) => {
            Some(format!("setters cannot edit files: {message}"))
        }
        Some(Publishing::Failed { message, .. }) => Some(format!("status is not published: {message}")),
        _ => Some(format!("status is not published: the push did not end within {} s", PUSH.as_secs())),
    }
}

/// The exit code for the health of all objects. Without the whole commit, or without its status in the repository, the
/// result cannot be relied on, whatever the objects say.
fn exit_code(health: &BTreeMap<ObjectKey, ObjectHealth>, is_complete: bool) -> u8 {
    let any = |wanted| health.values().any(|found| *found == wanted);
    if !is_complete || any(ObjectHealth::Stalled) || any(ObjectHealth::Failing) {
        NEEDS_ATTENTION
    } else if any(ObjectHealth::Waiting) {
        WAITING
    } else {
        SETTLED
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::{Class, Key, Kind};

    #[test]
    fn the_exit_code_is_that_of_the_object_in_the_worst_health() {
        let of = |health: &[ObjectHealth], is_complete| {
            let name = |number: usize| Key { namespace: "default".to_owned(), name: number.to_string() };
            let object = |number| ObjectKey { kind: Kind::PackerBuilder, key: name(number) };
            let all = health.iter().enumerate().map(|(number, one)| (object(number), *one));
            exit_code(&all.collect(), is_complete)
        };
        assert_eq!(of(&[], true), 0);
        assert_eq!(of(&[ObjectHealth::Settled, ObjectHealth::Settled], true), 0);
        assert_eq!(of(&[ObjectHealth::Settled, ObjectHealth::Waiting], true), 3);
        assert_eq!(of(&[ObjectHealth::Waiting, ObjectHealth::Failing], true), 2);
        assert_eq!(of(&[ObjectHealth::Waiting, ObjectHealth::Stalled], true), 2);
        assert_eq!(of(&[ObjectHealth::Settled], false), 2, "a file is broken, or status is not pushed");
    }

    #[test]
    fn status_that_is_not_in_the_repository_is_an_error_that_says_why() {
        let since = Timestamp::UNIX_EPOCH;
        for good in [Publishing::Off, Publishing::Done { commit: None }] {
            assert_eq!(unpublished(Some(&good)), None);
        }
        let refused = Publishing::Rejected { message: "protected branch".to_owned(), since };
        let why = unpublished(Some(&refused)).expect("an error");
        assert_eq!(why, "the push of status was refused: protected branch");
        let (class, message) = (Class::TRANSIENT, "no route".to_owned());
        let failed = Publishing::Failed { reason: reasons::PUSH_FAILED, class, message, since };
        assert_eq!(unpublished(Some(&failed)).expect("an error"), "status is not published: no route");
        assert!(unpublished(None).expect("an error").contains("120 s"));
    }
}
