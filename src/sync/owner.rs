//! The owner that a synced commit declares. Pure.

use super::Synced;
use crate::api::Owner;

impl Synced {
    /// The owner of the objects of this commit: `agentID` of its `opsy.yaml`, else `default`.
    pub fn owner(&self, default: &Owner) -> Owner {
        let declared = self.set.settings.agent_id.as_deref().and_then(|id| Owner::parse(id).ok());
        declared.unwrap_or_else(|| default.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::CommitId;
    use crate::manifest::ObjectSet;

    #[test]
    fn the_owner_is_that_of_opsy_yaml_if_it_names_a_valid_one() {
        let owner = |id: Option<&str>| {
            let mut set = ObjectSet::default();
            set.settings.agent_id = id.map(str::to_owned);
            let commit = CommitId::parse("a".repeat(40)).expect("an id");
            let synced = Synced { commit, set: set.into(), status_files: Arc::default(), difference: None };
            synced.owner(&Owner::parse("default").expect("an owner")).to_string()
        };
        assert_eq!(owner(Some("team-a")), "team-a");
        assert_eq!(owner(None), "default");
        assert_eq!(owner(Some("not an owner")), "default");
    }
}
