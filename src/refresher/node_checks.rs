//! What the nodes of a group showed before, during and after its update, as far as it is needed later: times, counts,
//! and what was already reported. A part of the memory: typed here, lenient values in status. Pure.

use jiff::Timestamp;

use crate::api::refresher::GroupNodes;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeChecks {
    /// Number of nodes before the update. Absent if the agent runs in another cluster, or may not read them.
    pub total: Option<u32>,
    /// What was found and reported before the update.
    pub preflight: Vec<String>,
    pub preflight_at: Option<Timestamp>,
    /// Nodes that the update has not replaced yet, when counted last.
    pub left: Option<u32>,
    pub left_since: Option<Timestamp>,
    pub counted_at: Option<Timestamp>,
    /// What prevents the update from replacing further nodes.
    pub blocked_by: Option<String>,
    /// When the update had ended. From then on, its nodes must become ready.
    pub updated_at: Option<Timestamp>,
}

impl NodeChecks {
    pub fn read(written: Option<&GroupNodes>) -> Self {
        let written = written.cloned().unwrap_or_default();
        let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
        Self {
            total: count(written.total),
            preflight: written.preflight.unwrap_or_default(),
            preflight_at: written.preflight_at,
            left: count(written.left),
            left_since: written.left_since,
            counted_at: written.counted_at,
            blocked_by: written.blocked_by,
            updated_at: written.updated_at,
        }
    }

    /// `None` if there is nothing to remember.
    pub fn write(&self) -> Option<GroupNodes> {
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let written = GroupNodes {
            total: self.total.map(count),
            preflight: (!self.preflight.is_empty()).then(|| self.preflight.clone()),
            preflight_at: self.preflight_at,
            left: self.left.map(count),
            left_since: self.left_since,
            counted_at: self.counted_at,
            blocked_by: self.blocked_by.clone(),
            updated_at: self.updated_at,
        };
        (written != GroupNodes::default()).then_some(written)
    }
}
