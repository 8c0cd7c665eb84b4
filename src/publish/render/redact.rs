//! Leaves out of a published status what templates printed (`publish.errors: false`): it would stay in Git forever.
//! Pure.

use crate::api::PackerBuilderStatus;
use crate::api::builder::RunRecord;
use crate::api::conditions::{READY, RECONCILING, STALLED};

/// Stands in for a message that may quote output.
const WITHHELD: &str = "not published (publish.errors: false); `opsy status` prints the message";

/// Removes output and errors of builds, and the messages that may quote them.
pub fn remove_errors(status: &mut PackerBuilderStatus) {
    let mut may_be_quoted = status.last_run_message.take().is_some();
    for run in status.history.iter_mut().flatten() {
        may_be_quoted |= run.has_failed() || run.errors.is_some() || run.output.is_some();
        *run = without_output(std::mem::take(run));
    }
    if !may_be_quoted {
        return;
    }
    // Only the reconciler quotes builds. The messages of other conditions are about pushes, manifests and
    // notifications.
    let quoting = [READY, RECONCILING, STALLED];
    let conditions = status.conditions.iter_mut().flatten();
    for condition in conditions.filter(|condition| quoting.contains(&condition.r#type.as_str())) {
        condition.message = Some(WITHHELD.to_owned());
    }
}

/// A record with only the fields that cannot contain output. A field that is added later is not published until it is
/// listed here.
fn without_output(run: RunRecord) -> RunRecord {
    RunRecord {
        id: run.id,
        result: run.result,
        why: run.why,
        commit: run.commit,
        inputs: run.inputs,
        images: run.images,
        base_ami: run.base_ami,
        started_at: run.started_at,
        ended_at: run.ended_at,
        failure: run.failure,
        step: run.step,
        packer_build: run.packer_build,
        advice: run.advice,
        reset: run.reset,
        ..RunRecord::default()
    }
}
