//! What a rollout's story says about its waves: what the next one waits for, and which are done. That a wave waits for
//! an approval is a problem of its own, because a person must act. Pure.

use super::super::context::{node_groups, took};
use super::super::{Message, Tone, Weight, message};
use super::is_done;
use crate::api::reasons;
use crate::api::refresher::{Rollout, RolloutGroup, RolloutWave};
use crate::api::words::WaveState;

/// Returns what the rollout waits for, if no group may start now.
pub fn waiting(rollout: &Rollout) -> Option<&str> {
    let waiting = rollout.waves.iter().flatten().find(|wave| is_in(wave, WaveState::Waiting));
    waiting?.reason.as_deref().filter(|_| rollout.finished_at.is_none())
}

/// Returns one message per wave that was moved. `name` is the name of the refresher, and `groups` are those that this
/// rollout moves: the other groups of a wave had the image before.
pub fn done(name: &str, rollout: &Rollout, groups: &[&RolloutGroup]) -> Vec<Message> {
    let moved = rollout.waves.iter().flatten().filter(|wave| wave.finished_at.is_some());
    let reply = |wave: &RolloutWave| {
        let took =
            took(wave.started_at, wave.finished_at).map(|took| format!(" in {took}")).unwrap_or_default();
        let is_moved = |group: &&&RolloutGroup| group.wave.as_ref() == Some(&wave.name) && is_done(group);
        let moved = node_groups(groups.iter().filter(is_moved).count());
        let title = format!("{name}: wave {} is done: {moved} moved{took}", wave.name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_reported_once_it_is_done_and_the_next_with_what_it_waits_for() {
        let rollout = serde_json::json!({ "id": "r1", "target": "ami-00000001", "waves": [
            { "name": "canary", "state": "Soaking", "total": 3, "startedAt": "2026-03-01T11:00:00Z",
              "finishedAt": "2026-03-01T11:12:00Z", "soakUntil": "2026-03-01T12:12:01Z" },
            { "name": "prod", "state": "Waiting", "total": 2, "reason": "wave \"canary\" soaks until noon" },
        ], "groups": [
            { "name": "a", "wave": "canary", "finishedAt": "2026-03-01T11:12:00Z" },
            { "name": "b", "wave": "canary", "finishedAt": "2026-03-01T11:12:00Z", "lastFailure": "PodEvictionFailure" },
            { "name": "c", "wave": "prod", "finishedAt": "2026-03-01T11:12:00Z" },
        ] });
        let mut rollout: Rollout = serde_json::from_value(rollout).expect("a rollout");
        let of_rollout = rollout.groups.clone().unwrap_or_default();
        let groups: Vec<&RolloutGroup> = of_rollout.iter().collect();
        let done: Vec<_> = done("demo", &rollout, &groups)
            .into_iter()
            .map(|done| (done.id, done.title, done.text))
            .collect();
        let text = |text: &str| text.to_owned();
        let canary = (
            text("wave/canary/done"),
            text("demo: wave canary is done: 1 node group moved in 12 min"),
            text("It soaks until 2026-03-01T12:12:01Z."),
        );
        assert_eq!(done, [canary]);
        assert_eq!(waiting(&rollout), Some("wave \"canary\" soaks until noon"));
        rollout.finished_at = "2026-03-01T12:00:00Z".parse().ok();
        assert_eq!(waiting(&rollout), None);
    }
}
