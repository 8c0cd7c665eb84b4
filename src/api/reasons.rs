//! Reasons of conditions, Events and notifications: one CamelCase word each. They are a public interface, because
//! people filter and alert by them. Pure.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $text;)+
        /// Every reason above. Modules with reasons of their own, such as the sinks, define them.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

reasons! {
    // Reasons of both kinds.
    /// The spec is invalid.
    INVALID_SPEC = "InvalidSpec";
    SUSPENDED = "Suspended";
    DELETED = "Deleted";
    /// No manifest declares the object, and it is not pruned yet.
    NOT_IN_GIT = "NotInGit";
    /// The file of the manifest cannot be read.
    MANIFEST_BROKEN = "ManifestBroken";
    ACCOUNT_NOT_ALLOWED = "AccountNotAllowed";
    AWS_DENIED = "AwsDenied";
    AWS_REFUSED = "AwsRefused";
    AWS_UNAVAILABLE = "AwsUnavailable";
    AWS_NOT_FOUND = "AwsNotFound";
    /// Builds or objects cannot be read from the engine.
    ENGINE_UNAVAILABLE = "EngineUnavailable";
    /// A problem is resolved.
    RECOVERED = "Recovered";

    // Reasons of builders.
    IMAGE_READY = "ImageReady";
    IMAGE_PENDING = "ImagePending";
    IMAGE_GONE = "ImageGone";
    IMAGE_ACTIVE = "ImageActive";
    IMAGE_DEPRECATED = "ImageDeprecated";
    IMAGE_SUPERSEDED = "ImageSuperseded";
    BASE_IMAGE_NOT_FOUND = "BaseImageNotFound";
    BUILD_PENDING = "BuildPending";
    BUILD_STARTED = "BuildStarted";
    BUILD_RUNNING = "BuildRunning";
    BUILD_STOPPING = "BuildStopping";
    BUILD_SUCCEEDED = "BuildSucceeded";
    BUILD_SUPERSEDED = "BuildSuperseded";
    BUILD_FAILED = "BuildFailed";
    BUILD_CANCELLED = "BuildCancelled";
    /// The last build of these inputs was canceled.
    CANCELLED = "Cancelled";
    /// The engine refuses to start the build.
    BUILD_REFUSED = "BuildRefused";
    CONCURRENCY_LIMIT = "ConcurrencyLimit";
    RETRY_LIMIT = "RetryLimit";
    /// The images that status names belong to another owner; in a cluster, the object does.
    ANOTHER_OWNER = "AnotherOwner";
    UNRECORDED_IMAGE = "UnrecordedImage";
    MASS_BUILD_REFUSED = "MassBuildRefused";
    TEMPLATE_INVALID = "TemplateInvalid";
    TEMPLATE_UNAVAILABLE = "TemplateUnavailable";
    SNAPSHOTS_NOT_TAGGED = "SnapshotsNotTagged";
    LEFTOVERS_REMOVED = "LeftoversRemoved";
    SWEEP_FAILED = "SweepFailed";
    SWEEP_GIVEN_UP = "SweepGivenUp";

    // Reasons of refreshers.
    DISABLED = "Disabled";
    ROLLING_OUT = "RollingOut";
    ROLLOUT_DONE = "RolloutDone";
    ROLLOUT_FAILED = "RolloutFailed";
    ROLLOUT_FAILING = "RolloutFailing";
    ROLLOUT_REPLACED = "RolloutReplaced";
    /// A rollout ended because a person holds its image.
    ROLLOUT_HELD = "RolloutHeld";
    /// A failed rollout is rolled back.
    ROLLING_BACK = "RollingBack";
    ROLLED_BACK = "RolledBack";
    /// The newest image is held because its rollout failed.
    IMAGE_HELD = "ImageHeld";
    UPDATE_STARTED = "UpdateStarted";
    UPDATE_FAILED = "UpdateFailed";
    UPDATE_OVERDUE = "UpdateOverdue";
    /// The instance refresh of a self-managed group is rolled back or canceled.
    UPDATE_TURNED_BACK = "UpdateTurnedBack";
    /// A self-managed group was set to a launch template version by number.
    NODE_GROUP_PINNED = "NodeGroupPinned";
    WAVE_DONE = "WaveDone";
    NODE_GROUP_UPDATED = "NodeGroupUpdated";
    UP_TO_DATE = "UpToDate";
    NO_ELIGIBLE_IMAGE = "NoEligibleImage";
    AMBIGUOUS_TARGET = "AmbiguousTarget";
    NO_NODE_GROUPS = "NoNodeGroups";
    CLUSTER_NOT_ALLOWED = "ClusterNotAllowed";
    CLUSTER_NOT_FOUND = "ClusterNotFound";
    KUBERNETES_TOO_NEW = "KubernetesTooNew";
    KUBERNETES_TOO_OLD = "KubernetesTooOld";
    NODE_GROUP_DEGRADED = "NodeGroupDegraded";
    UNSUPPORTED = "Unsupported";
    UPDATE_REFUSED = "UpdateRefused";
    VERSION_KEPT = "VersionKept";
    VERSION_MADE = "VersionMade";
    WAITING = "Waiting";
    WAITING_FOR_NODE_GROUP = "WaitingForNodeGroup";
    /// A wave starts only when a person approves it.
    WAITING_FOR_APPROVAL = "WaitingForApproval";
    /// No update may start now because of `rollout.windows`.
    WAITING_FOR_WINDOW = "WaitingForWindow";
    /// No update may start now because of `rollout.freezes`.
    FROZEN = "Frozen";
    /// The next wave starts after the soak time of the last one.
    SOAKING = "Soaking";
    /// Pods on the nodes of a group prevent or delay its update, or lose their data.
    PREFLIGHT = "Preflight";
    /// The same, and `rollout.preflight: Block` holds the update of the group back.
    PREFLIGHT_FAILED = "PreflightFailed";
    /// The nodes of a group host a build.
    WAITING_FOR_BUILD = "WaitingForBuild";
    /// A PodDisruptionBudget or a pod prevents a running update from replacing nodes.
    UPDATE_BLOCKED = "UpdateBlocked";
    /// The agent may not read nodes, pods or PodDisruptionBudgets.
    NODES_UNREADABLE = "NodesUnreadable";
    /// A check of `rollout.healthCheck` failed while a wave soaked.
    CHECK_FAILED = "CheckFailed";
    WAITING_FOR_REPOSITORY = "WaitingForRepository";
    /// Another writer undoes what Opsy does.
    ANOTHER_WRITER = "AnotherWriter";

    // Reasons of the repository.
    REPOSITORY_UNAVAILABLE = "RepositoryUnavailable";
    REPOSITORY_DENIED = "RepositoryDenied";
    REPOSITORY_UNREADABLE = "RepositoryUnreadable";
    /// A proxy or a certificate prevents access to the Git repository.
    NETWORK_REFUSED = "NetworkRefused";
    BRANCH_REWRITTEN = "BranchRewritten";
    COMMIT_NOT_VERIFIED = "CommitNotVerified";
    COMMIT_NOT_TAKEN = "CommitNotTaken";
    PRUNE_REFUSED = "PruneRefused";
    OBJECTS_REFUSED = "ObjectsRefused";
    NAMESPACE_UNREADABLE = "NamespaceUnreadable";
    PUSH_FAILED = "PushFailed";
    PUSH_REFUSED = "PushRefused";
    /// The Git host refuses to open, update or close the pull request of the agent, or cannot be reached.
    PULL_REQUEST_FAILED = "PullRequestFailed";
    /// The branch of the agent's pull request has commits of others.
    BRANCH_NOT_OWN = "BranchNotOwn";
    /// A marker of a setter is not valid, or refers to an image that does not exist.
    SETTER_INVALID = "SetterInvalid";

    // Reasons for failures to apply an object in a cluster.
    APPLY_FAILED = "ApplyFailed";
    CONFLICT = "Conflict";
    SPEC_UNREADABLE = "SpecUnreadable";
    NAMESPACE_NOT_WATCHED = "NamespaceNotWatched";
    DRIFT_REVERTED = "DriftReverted";
}
