//! The table of condition reasons: when people are notified, whether a commit is the cause, and what to do about it.

use crate::api::reasons;

/// When people are notified of a condition with this reason. `Stalled` notifies at once, regardless of its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once, but never for `Ready`: an object that is not ready is usually in progress, or is in the state that
    /// people asked for.
    OnOwnCondition,
    /// At once, also for `Ready`: only a person can fix it, although Opsy retries.
    Immediately,
    /// After a short time, and never for `Ready`: a single refusal may be a mistake of the server, or may come before
    /// the creation of what it depends on.
    OnceConfirmed,
    /// After a longer time, also for `Ready`: it may end without action.
    OncePersistent,
}

/// What notifications need to know about a reason.
pub struct Reason {
    name: &'static str,
    pub when: When,
    /// A commit caused it, and only a commit can fix it.
    pub by_commit: bool,
    /// The repository reports it as well, so that one notification is enough if both are sent to the same destinations.
    pub of_repository: bool,
    /// What to do, for reasons whose condition message does not say it.
    pub advice: Option<&'static str>,
}

const AWS_RETRY: &str =
    "Opsy retries. If the problem persists, check the AWS Health Dashboard and the agent's network access.";
const GIT_RETRY: &str = "Opsy retries. If the problem persists, check the Git server.";
const LAST_COMMIT: &str =
    "Opsy retries, and the last good commit stays in force. If the problem persists, check the agent's log.";

const KNOWN: [Reason; 31] = [
    on_own_condition(reasons::INVALID_SPEC)
        .by_commit()
        .advice("Fix the manifest in Git. `opsy validate` finds such problems before a merge."),
    on_own_condition(reasons::MANIFEST_BROKEN).by_commit().of_repository().advice(
        "Fix the file in Git. Until then, its objects are retained and start no new builds or rollouts. \
         `opsy validate` finds such problems before a merge.",
    ),
    on_own_condition(reasons::PRUNE_REFUSED).by_commit().of_repository(),
    on_own_condition(reasons::TEMPLATE_INVALID).by_commit().advice("Fix the path or the file in Git."),
    on_own_condition(reasons::ACCOUNT_NOT_ALLOWED)
        .advice("Check the agent's credentials, or `accounts` in opsy.yaml."),
    on_own_condition(reasons::PUSH_REFUSED)
        .advice("Allow Opsy to push to this branch, or name another branch in publish.branch of opsy.yaml."),
    // The message says what to do.
    on_own_condition(reasons::BRANCH_NOT_OWN),
    on_own_condition(reasons::SETTER_INVALID).by_commit().advice(
        "Fix the marker or the file in Git. Until then, the file is not edited. `opsy validate` finds most such \
         problems before a merge.",
    ),
    entry(When::Immediately, reasons::AWS_DENIED)
        .advice("Allow the action in the agent's IAM policy, or renew the credentials. Opsy retries."),
    entry(When::OnceConfirmed, reasons::REPOSITORY_DENIED)
        .advice("Check the agent's credentials for the repository. Opsy retries."),
    // The message names the proxy or the certificate, and what to do.
    entry(When::OnceConfirmed, reasons::NETWORK_REFUSED),
    entry(When::Immediately, reasons::BRANCH_REWRITTEN),
    entry(When::Immediately, reasons::COMMIT_NOT_VERIFIED),
    entry(When::OnceConfirmed, reasons::REPOSITORY_UNREADABLE).advice(
        "Fix the problem in Git, or fix the address in the agent's settings. Until then, the last good \
         commit stays in force. `opsy validate` finds invalid files before a merge.",
    ),
    entry(When::OnceConfirmed, reasons::OBJECTS_REFUSED)
        .advice("Fix what the cluster reports, in Git or in the cluster. Opsy retries."),
    entry(When::OnceConfirmed, reasons::NAMESPACE_UNREADABLE).of_repository().advice(
        "Objects in an unreadable namespace wait until Opsy can read it again. Other namespaces are not \
         affected.",
    ),
    entry(When::OnceConfirmed, reasons::ANOTHER_WRITER),
    // The message says how to approve.
    entry(When::Immediately, reasons::WAITING_FOR_APPROVAL),
    // The message names the budgets and pods.
    entry(When::OncePersistent, reasons::PREFLIGHT_FAILED),
    entry(When::OncePersistent, reasons::AWS_UNAVAILABLE).advice(AWS_RETRY),
    entry(When::OncePersistent, reasons::AWS_NOT_FOUND).advice(AWS_RETRY),
    entry(When::OncePersistent, reasons::AWS_REFUSED).advice(AWS_RETRY),
    entry(When::OncePersistent, reasons::TEMPLATE_UNAVAILABLE).advice(GIT_RETRY),
    entry(When::OncePersistent, reasons::ENGINE_UNAVAILABLE),
    entry(When::OncePersistent, reasons::BASE_IMAGE_NOT_FOUND)
        .advice("Check spec.amiFilters: name, architecture and owner-id."),
    entry(When::OncePersistent, reasons::REPOSITORY_UNAVAILABLE).advice(LAST_COMMIT),
    entry(When::OncePersistent, reasons::COMMIT_NOT_TAKEN).advice(LAST_COMMIT),
    entry(When::OncePersistent, reasons::PUSH_FAILED).advice(GIT_RETRY),
    // The message names the missing right.
    entry(When::OncePersistent, reasons::PULL_REQUEST_FAILED),
    entry(When::OncePersistent, reasons::APPLY_FAILED),
    entry(When::OncePersistent, reasons::CONFLICT),
];

/// The entry of every reason that is not in the table.
const OTHER: Reason = on_own_condition("");

/// Returns the entry of a reason.
pub fn of(name: &str) -> &'static Reason {
    KNOWN.iter().find(|known| known.name == name).unwrap_or(&OTHER)
}

const fn on_own_condition(name: &'static str) -> Reason {
    entry(When::OnOwnCondition, name)
}

const fn entry(when: When, name: &'static str) -> Reason {
    Reason { name, when, by_commit: false, of_repository: false, advice: None }
}

impl Reason {
    const fn by_commit(mut self) -> Self {
        self.by_commit = true;
        self
    }

    const fn of_repository(mut self) -> Self {
        self.of_repository = true;
        self
    }

    const fn advice(mut self, text: &'static str) -> Self {
        self.advice = Some(text);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Reasons without an entry: they are in progress, wanted, or reported by the story of a build or rollout or by an
    /// Event. A new reason belongs here or into `KNOWN`.
    const WITHOUT_ENTRY: &[&str] = &[
        reasons::SUSPENDED,
        reasons::DELETED,
        reasons::PREFLIGHT,
        reasons::WAITING_FOR_BUILD,
        reasons::UPDATE_BLOCKED,
        reasons::NODES_UNREADABLE,
        reasons::CHECK_FAILED,
        reasons::NOT_IN_GIT,
        reasons::RECOVERED,
        reasons::IMAGE_READY,
        reasons::IMAGE_PENDING,
        reasons::IMAGE_GONE,
        reasons::IMAGE_ACTIVE,
        reasons::IMAGE_DEPRECATED,
        reasons::IMAGE_SUPERSEDED,
        reasons::BUILD_PENDING,
        reasons::BUILD_STARTED,
        reasons::BUILD_RUNNING,
        reasons::BUILD_STOPPING,
        reasons::BUILD_SUCCEEDED,
        reasons::BUILD_SUPERSEDED,
        reasons::BUILD_FAILED,
        reasons::BUILD_CANCELLED,
        reasons::CANCELLED,
        reasons::BUILD_REFUSED,
        reasons::CONCURRENCY_LIMIT,
        reasons::RETRY_LIMIT,
        reasons::ANOTHER_OWNER,
        reasons::UNRECORDED_IMAGE,
        reasons::MASS_BUILD_REFUSED,
        reasons::SNAPSHOTS_NOT_TAGGED,
        reasons::LEFTOVERS_REMOVED,
        reasons::SWEEP_FAILED,
        reasons::SWEEP_GIVEN_UP,
        reasons::DISABLED,
        reasons::ROLLING_OUT,
        reasons::ROLLOUT_DONE,
        reasons::ROLLOUT_FAILED,
        reasons::ROLLOUT_FAILING,
        reasons::ROLLOUT_REPLACED,
        reasons::ROLLOUT_HELD,
        reasons::ROLLING_BACK,
        reasons::ROLLED_BACK,
        reasons::IMAGE_HELD,
        reasons::UPDATE_STARTED,
        reasons::UPDATE_FAILED,
        reasons::UPDATE_OVERDUE,
        reasons::UPDATE_TURNED_BACK,
        reasons::NODE_GROUP_PINNED,
        reasons::NODE_GROUP_UPDATED,
        reasons::WAVE_DONE,
        reasons::UP_TO_DATE,
        reasons::NO_ELIGIBLE_IMAGE,
        reasons::AMBIGUOUS_TARGET,
        reasons::NO_NODE_GROUPS,
        reasons::CLUSTER_NOT_ALLOWED,
        reasons::CLUSTER_NOT_FOUND,
        reasons::KUBERNETES_TOO_NEW,
        reasons::KUBERNETES_TOO_OLD,
        reasons::NODE_GROUP_DEGRADED,
        reasons::UNSUPPORTED,
        reasons::UPDATE_REFUSED,
        reasons::VERSION_KEPT,
        reasons::VERSION_MADE,
        reasons::WAITING,
        reasons::WAITING_FOR_NODE_GROUP,
        reasons::WAITING_FOR_REPOSITORY,
        reasons::WAITING_FOR_WINDOW,
        reasons::FROZEN,
        reasons::SOAKING,
        reasons::SPEC_UNREADABLE,
        reasons::NAMESPACE_NOT_WATCHED,
        reasons::DRIFT_REVERTED,
    ];

    #[test]
    fn every_reason_is_known_or_needs_no_notification_of_its_own() {
        let known: BTreeSet<&str> = KNOWN.iter().map(|reason| reason.name).collect();
        let without: BTreeSet<&str> = WITHOUT_ENTRY.iter().copied().collect();
        let all: BTreeSet<&str> = reasons::ALL.iter().copied().collect();
        assert_eq!(known.intersection(&without).count(), 0, "a reason is in both");
        assert_eq!(known.union(&without).copied().collect::<BTreeSet<_>>(), all);
    }
}
