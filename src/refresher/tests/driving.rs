//! Reconciles the simulated world until something holds, each time when the last reconcile requested it.

use super::world::{Mishap, World, reason};
use crate::api::AMIRefresherStatus;
use crate::engine::{ObjectHealth, Pass};

/// Reconciles at most this many times.
const RECONCILES: usize = 300;

pub fn wait(world: &mut World, pass: &Pass<AMIRefresherStatus>) {
    world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
}

/// Reconciles until the condition holds, and returns all passes.
pub fn passes_until(
    world: &mut World,
    what: &str,
    holds: impl Fn(&World, &Pass<AMIRefresherStatus>) -> bool,
) -> Vec<Pass<AMIRefresherStatus>> {
    let mut passes = Vec::new();
    for _ in 0..RECONCILES {
        let pass = world.pass(Mishap::None);
        let ends = holds(world, &pass);
        passes.push(pass.clone());
        if ends {
            return passes;
        }
        wait(world, &pass);
    }
    panic!("never {what}: {:#?}", world.object.status);
}

/// Reconciles until Ready has this reason.
pub fn until(world: &mut World, wanted: &str) -> Pass<AMIRefresherStatus> {
    passes_until(world, wanted, |_, pass| reason(pass) == wanted).pop().expect("some")
}

/// Reconciles until this many updates and refreshes were started.
pub fn until_started(world: &mut World, count: usize) {
    while world.started.len() < count {
        let pass = world.pass(Mishap::None);
        wait(world, &pass);
    }
}

/// The messages of all Events with this reason.
pub fn events(passes: &[Pass<AMIRefresherStatus>], reason: &str) -> Vec<String> {
    let notes = passes.iter().flat_map(|pass| &pass.notes);
    notes.filter(|note| note.reason == reason).map(|note| note.message.clone()).collect()
}

pub fn is_settled(_: &World, pass: &Pass<AMIRefresherStatus>) -> bool {
    pass.health == ObjectHealth::Settled
}
