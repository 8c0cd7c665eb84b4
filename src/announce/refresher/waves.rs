//! What a rollout's story says about its waves: what the next one waits for, and which are done. That a wave waits for
//! an approval is a problem of its own, because a person must act. Pure.

use super::super::context::took;
use super::super::{Message, Tone, Weight, message};
use crate::api::reasons;
use crate::api::refresher::{Rollout, RolloutWave};
use crate::api::words::WaveState;

/// Returns what the rollout waits for, if no group may start now.
pub fn waiting(rollout: &Rollout) -> Option<&str> {
    let waiting = rollout.waves.iter().flatten().find(|wave| is_in(wave, WaveState::Waiting));
    waiting?.reason.as_deref().filter(|_| rollout.finished_at.is_none())
}

/// Returns one message per wave that was moved. `name` is the name of the refresher.
pub fn done(name: &str, rollout: &Rollout) -> Vec<Message> {
    let moved = rollout.waves.iter().flatten().filter(|wave| wave.finished_at.is_some());
    let reply = |wave: &RolloutWave| {
        let took =
            took(wave.started_at, wave.finished_at).map(|took| format!(" in {took}")).unwrap_or_default();
        let groups = match wave.total.unwrap_or_default() {
            1 => "1 node group".to_owned(),
            total => format!("{total} node groups"),
        };
        let title = format!("{name}: wave {} is done: {groups}{took}", wave.name);
        let id = format!("wave/{}/done", wave.name);
        let mut reply = message(id, reasons::WAVE_DONE, Tone::Good, Weight::Detail, title);
        reply.text = wave.soak_until.map(|until| format!("It soaks until {until}.")).unwrap_or_default();
        reply
    };
    moved.map(reply).collect()
}

fn is_in(wave: &RolloutWave, state: WaveState) -> bool {
    wave.state.as_deref() == Some(state.as_str())
}
