//! The results of `opsy check`, as values. Pure.

use serde::Serialize;

/// The version of the report.
const VERSION: u32 = 1;

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub enum Group {
    Git,
    #[serde(rename = "AWS")]
    Aws,
    Cluster,
    Packer,
    Notifications,
}

impl Group {
    /// In the order in which they are printed.
    pub const ALL: [Self; 5] = [Self::Git, Self::Aws, Self::Cluster, Self::Packer, Self::Notifications];

    pub fn title(self) -> &'static str {
        match self {
            Self::Git => "Git",
            Self::Aws => "AWS",
            Self::Cluster => "Cluster",
            Self::Packer => "Packer",
            Self::Notifications => "Notifications",
        }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub enum Outcome {
    Passed,
    Failed,
    /// The response shows neither that it would work nor that it would not.
    Undetermined,
    /// It does not apply, or there is no way to check it without a change.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Check {
    pub group: Group,
    pub name: String,
    pub outcome: Outcome,
    /// What was found.
    pub message: String,
    /// What to do, if the check failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Group {
    pub fn passed(self, name: impl Into<String>, message: impl Into<String>) -> Check {
        self.check(name, Outcome::Passed, message, None)
    }

    pub fn failed(
        self,
        name: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Check {
        self.check(name, Outcome::Failed, message, Some(remedy.into()))
    }

    pub fn undetermined(self, name: impl Into<String>, message: impl Into<String>) -> Check {
        let remedy = "Correct what the message names, and run `opsy check` again.".to_owned();
        self.check(name, Outcome::Undetermined, message, Some(remedy))
    }

    pub fn skipped(self, name: impl Into<String>, message: impl Into<String>) -> Check {
        self.check(name, Outcome::Skipped, message, None)
    }

    fn check(
        self,
        name: impl Into<String>,
        outcome: Outcome,
        message: impl Into<String>,
        remedy: Option<String>,
    ) -> Check {
        Check { group: self, name: name.into(), outcome, message: message.into(), remedy }
    }
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Report {
    pub version: u32,
    /// No check failed, and none is undetermined.
    pub passed: bool,
    pub checks: Vec<Check>,
}

impl Report {
    pub fn of(checks: Vec<Check>) -> Self {
        let holds = |check: &Check| matches!(check.outcome, Outcome::Passed | Outcome::Skipped);
        Self { version: VERSION, passed: checks.iter().all(holds), checks }
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        self.checks.iter().filter(|check| check.outcome == outcome).count()
    }

    /// The checks of a group, in the order in which they were made.
    pub fn of_group(&self, group: Group) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.group == group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undetermined_is_no_success_and_what_is_skipped_is_no_failure() {
        let passed = || Group::Git.passed("read", "yes");
        let report = |check| Report::of(vec![passed(), check]).passed;
        assert!(report(Group::Aws.skipped("rights", "no region")));
        assert!(!report(Group::Aws.undetermined("ec2:DescribeImages", "throttled")));
        assert!(!report(Group::Aws.failed("ec2:DescribeImages", "denied", "Allow it.")));
        assert!(Report::of(vec![passed()]).passed);
    }
}
