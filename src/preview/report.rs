//! The report of a plan: what `opsy plan --output json` prints, and what the other formats are made of.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

pub use crate::api::Facts;

/// The version of the format.
const VERSION: u32 = 1;

/// What a change would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this format. A new field does not change it.
    pub version: u32,
    /// Name of what is planned: the path of the manifests in the repository, or `.` for its root, and the agent and the
    /// branch if flags name them.
    pub target: String,
    /// Whether both trees have the same files.
    pub is_same: bool,
    pub base: Revision,
    pub head: Revision,
    /// Whether AWS was read (`Live`), or only the published status (`Recorded`).
    pub facts: Facts,
    /// Time of the plan.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub planned_at: Timestamp,
    /// Number of builds, node groups that are moved, and objects that are pruned because of the change.
    pub changes: Counts,
    /// Errors of manifests. While there is one, nothing is pruned.
    pub problems: Vec<Finding>,
    /// Settings of the agent in `opsy.yaml` that the change sets, those that move ownership or allow more first.
    pub settings: Vec<Setting>,
    /// What happens because of the change, the most destructive first.
    pub because: Vec<Item>,
    /// Objects for which something could not be read, so that the effect of the change on them is unknown.
    pub unknown: Vec<Item>,
    /// What would happen without it.
    pub anyway: Vec<Item>,
    /// Node groups that do not run the target and that nothing moves.
    pub drift: Vec<Item>,
    /// Objects with which nothing happens, as `pb/NAME` or `ar/NAME`.
    pub unchanged: Vec<String>,
    /// What is assumed to be as it was when the status was published, because AWS was not read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
}

/// One of the two trees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// How it was named.
    pub name: String,
    /// ID of the commit; absent for a work tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Numbers of effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub builds: usize,
    pub node_groups: usize,
    pub pruned: usize,
}

/// A problem of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    pub message: String,
    /// Whether the base has it, too.
    pub is_old: bool,
}

/// A setting in `opsy.yaml` that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Path of the field, such as `prune.allowMass`.
    pub name: String,
    /// Value in the base; absent if it is not set. That of `notifier` is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// New value; absent if it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What the change means.
    pub effect: String,
    /// It changes what belongs to the agent, or allows it to do more.
    pub is_warning: bool,
}

/// What happens to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// `pb/NAME` or `ar/NAME`, with the namespace before the name if it is not `default`.
    pub object: String,
    /// File that declares it, or declared it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    pub action: Action,
    /// The action in a few words.
    pub what: String,
    /// The reason.
    pub why: String,
    /// IDs of the active images that a build replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// Seconds that the last build of the builder took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual_seconds: Option<u64>,
    /// The node groups that are moved, in the order of their waves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupMove>,
    /// Fields of the manifest that differ from the base. Their values are not shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Further lines for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What happens to an object. In the order of a report: what cannot be undone comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum Action {
    /// The object is deleted, because no manifest declares it.
    Prune,
    /// It would be deleted, but that is refused.
    KeptAlthoughRemoved,
    /// A person must act before anything happens.
    NeedsAttention,
    /// A build starts.
    Build,
    /// Node groups are moved.
    Rollout,
    /// Node groups are moved later: an approval, a window or a soak is missing.
    Wait,
    /// Something could not be read.
    Unknown,
    /// The manifest is applied, and nothing else happens now.
    Apply,
    /// Node groups do not run the target, and nothing moves them.
    Drift,
}

/// A node group that is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupMove {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wave: Option<String>,
    /// Number of its nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// ID of the image that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// ID of the image that it is moved to, or the builder that builds it.
    pub to: String,
}

impl Item {
    /// An item with what every item has.
    pub fn new(object: String, action: Action, what: impl Into<String>, why: String) -> Self {
        Self {
            object,
            file: None,
            action,
            what: what.into(),
            why,
            replaces: Vec::new(),
            usual_seconds: None,
            groups: Vec::new(),
            fields: Vec::new(),
            details: Vec::new(),
        }
    }
}

impl Report {
    /// A report without contents.
    pub fn new(
        target: String,
        (base, head): (Revision, Revision),
        facts: Facts,
        planned_at: Timestamp,
    ) -> Self {
        Self {
            version: VERSION,
            target,
            is_same: false,
            base,
            head,
            facts,
            planned_at,
            changes: Counts::default(),
            problems: Vec::new(),
            settings: Vec::new(),
            because: Vec::new(),
            unknown: Vec::new(),
            anyway: Vec::new(),
            drift: Vec::new(),
            unchanged: Vec::new(),
            assumed: Vec::new(),
        }
    }

    /// Whether the change must not be merged as it is, or its effect is not known: a manifest is invalid, an object needs
    /// attention because of the change, or something could not be planned.
    pub fn has_errors(&self) -> bool {
        let needs_attention = |item: &Item| item.action == Action::NeedsAttention;
        !self.problems.is_empty() || !self.unknown.is_empty() || self.because.iter().any(needs_attention)
    }

    /// Whether the plan has an effect. If both trees are the same, what would happen anyway counts.
    pub fn has_changes(&self) -> bool {
        let items = if self.is_same { &self.anyway } else { &self.because };
        !items.is_empty() || !self.settings.is_empty()
    }
}
