//! Values of status fields that more than one module reads or writes, each defined once. They are a public interface:
//! people filter by them, and other versions of Opsy have written them. Pure.

/// Defines an enum with the string of each variant.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the string as status stores it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Parses the string. Returns `None` for an unknown one, such as one of a newer version.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The result of a build run (`status.history[].result` of a builder).
    RunResult {
        Succeeded = "Succeeded",
        /// Its images are not needed any more, because the inputs changed during the build.
        Superseded = "Superseded",
        Failed = "Failed",
        TimedOut = "TimedOut",
        Cancelled = "Cancelled",
        /// The run has ended, and its result cannot be determined.
        Lost = "Lost",
    }
}

impl RunResult {
    /// Returns whether the run failed. A canceled or superseded run did not.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Lost)
    }
}

words! {
    /// The phase of a live build run (`status.jobStatus` of a builder; after the run it is a `RunResult`).
    RunPhase {
        Pending = "Pending",
        Running = "Running",
        Stopping = "Stopping",
    }
}

words! {
    /// Why a build is started (`status.reason` of a builder, `status.history[].why`).
    Trigger {
        Missing = "Missing",
        Expired = "Expired",
        Deprecated = "Deprecated",
        BaseImage = "BaseImage",
        Template = "Template",
        Spec = "Spec",
        Retry = "Retry",
    }
}

words! {
    /// What a failed build means for the next attempt (`status.history[].failure` of a builder).
    FailureKind {
        /// It counts toward `failurePolicy.limit`.
        Template = "Template",
        /// The cause is outside of the template: the build is retried without a limit.
        Transient = "Transient",
        /// Another build of the same inputs would fail in the same way.
        Final = "Final",
    }
}

words! {
    /// The result of a rollout (`status.history[].result` of a refresher).
    RolloutResult {
        Done = "Done",
        Failed = "Failed",
        /// It ended before all groups were moved, and a newer image replaced its target.
        Replaced = "Replaced",
        /// It ended before all groups were moved, because a person holds its image.
        Held = "Held",
        /// A rollback that moved every group back.
        RolledBack = "RolledBack",
    }
}

words! {
    /// The kind of a node group (`status.nodeGroups[].kind` of a refresher).
    NodeGroupKind {
        /// EKS owns the Auto Scaling group and replaces the nodes.
        Managed = "Managed",
        /// An Auto Scaling group of a person; instance refreshes replace the nodes.
        SelfManaged = "SelfManaged",
    }
}

words! {
    /// The state of a node group (`status.nodeGroups[].state` of a refresher).
    GroupState {
        Current = "Current",
        Excluded = "Excluded",
        Pending = "Pending",
        Updating = "Updating",
        Drifted = "Drifted",
        Failed = "Failed",
        Unsupported = "Unsupported",
        /// It could not be read.
        Unknown = "Unknown",
    }
}

words! {
    /// The state of a wave (`status.rollout.waves[].state` of a refresher).
    WaveState {
        /// Groups of earlier waves are left, or none of its own has started yet.
        Pending = "Pending",
        /// It is next, and may not start yet: a soak, a missing approval, a window or a freeze.
        Waiting = "Waiting",
        Updating = "Updating",
        /// All its groups run the target, and the next wave waits until the soak time has passed.
        Soaking = "Soaking",
        Done = "Done",
        /// None of its groups had to be moved.
        Skipped = "Skipped",
        Failed = "Failed",
    }
}

words! {
    /// What a finding on the nodes of a group means before its update starts (`rollout.preflight` of a refresher).
    PreflightMode {
        Warn = "Warn",
        Block = "Block",
    }
}

words! {
    /// Where Packer runs (`builder.runFrom`).
    RunFrom {
        Repository = "Repository",
        Template = "Template",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        assert!(RunResult::ALL.iter().all(|word| RunResult::parse(word.as_str()) == Some(*word)));
        assert!(GroupState::ALL.iter().all(|word| GroupState::parse(word.as_str()) == Some(*word)));
        assert_eq!(Trigger::parse("missing"), None);
    }
}
