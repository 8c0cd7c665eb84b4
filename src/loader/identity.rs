//! Whose agent this is: the owner that the flag or `opsy.yaml` names. Only a person changes it, by the flag.
//!
//! Otherwise, anyone who can push to the repository could make this agent adopt, and prune, the objects of another
//! agent.

use std::sync::{Mutex, MutexGuard};

use crate::api::Owner;
use crate::api::lock::lock;
use crate::settings::RepoSettings;

/// What the owner of a commit is compared with.
pub struct Identity {
    flag: Option<Owner>,
    /// The owner if neither the flag nor `opsy.yaml` names one.
    default: Owner,
    /// The owner that this agent has worked for, as the engine has recorded it.
    recorded: Mutex<Option<Owner>>,
}

impl Identity {
    pub fn new(flag: Option<Owner>, default: Owner, recorded: Option<String>) -> Self {
        let recorded = recorded.and_then(|recorded| Owner::parse(recorded.trim()).ok());
        Self { flag, default, recorded: Mutex::new(recorded) }
    }

    /// Why the settings of a commit are refused, if they are.
    pub fn refusal(&self, settings: &RepoSettings) -> Option<String> {
        let declared = settings.agent_id.as_ref().and_then(|id| Owner::parse(id.as_str()).ok());
        refusal(self.flag.as_ref(), self.recorded().as_ref(), declared.as_ref(), &self.default)
    }

    /// Returns whether the owner has to be recorded.
    pub fn is_new(&self, owner: &Owner) -> bool {
        self.recorded().as_ref() != Some(owner)
    }

    /// Takes note of the owner that was recorded.
    pub fn record(&self, owner: Owner) {
        *self.recorded() = Some(owner);
    }

    fn recorded(&self) -> MutexGuard<'_, Option<Owner>> {
        lock(&self.recorded)
    }
}

fn refusal(
    flag: Option<&Owner>,
    recorded: Option<&Owner>,
    declared: Option<&Owner>,
    default: &Owner,
) -> Option<String> {
    match (flag, recorded, declared) {
        (Some(flag), _, Some(declared)) if declared != flag => Some(format!(
            "agentID {declared} is not the ID of this agent: it was started with --agent-id {flag}; set agentID to \
             {flag} or remove it, or restart the agent with --agent-id {declared}"
        )),
        (None, Some(recorded), _) if declared.unwrap_or(default) != recorded => {
            let cause = match declared {
                Some(declared) => format!("agentID {declared}"),
                None => "no agentID".to_owned(),
            };
            let owner = declared.unwrap_or(default);
            Some(format!(
                "{cause} would change the owner of this agent from {recorded} to {owner}: to confirm that, restart the \
                 agent with --agent-id {owner} (OPSY_AGENT_ID); else set agentID to {recorded}"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_person_changes_whose_agent_it_is() {
        let owner = |name: &str| Owner::parse(name).expect("an owner");
        let settings =
            |id: Option<&str>| RepoSettings { agent_id: id.map(str::to_owned), ..RepoSettings::default() };
        // Flag, recorded, declared; part of the refusal.
        type Row = (Option<&'static str>, Option<&'static str>, Option<&'static str>, Option<&'static str>);
        let table: [Row; 12] = [
            (None, None, None, None),
            (None, None, Some("a"), None),
            (None, Some("a"), Some("a"), None),
            (None, Some("default"), None, None),
            (None, Some("a"), Some("b"), Some("restart the agent with --agent-id b")),
            (None, Some("a"), None, Some("restart the agent with --agent-id default")),
            (None, Some("default"), Some("b"), Some("else set agentID to default")),
            (Some("a"), None, None, None),
            (Some("a"), Some("b"), None, None),
            (Some("a"), Some("b"), Some("a"), None),
            (Some("a"), Some("a"), Some("b"), Some("it was started with --agent-id a")),
            (Some("a"), Some("b"), Some("b"), Some("it was started with --agent-id a")),
        ];
        for (flag, recorded, declared, part) in table {
            let identity = Identity::new(flag.map(owner), owner("default"), recorded.map(str::to_owned));
            let refused = identity.refusal(&settings(declared));
            let found = refused.as_deref().map(|refusal| part.is_some_and(|part| refusal.contains(part)));
            assert_eq!(found, part.map(|_| true), "{flag:?} {recorded:?} {declared:?}: {refused:?}");
        }
    }

    #[test]
    fn the_first_one_seen_is_noted() {
        let owner = |name: &str| Owner::parse(name).expect("an owner");
        let identity = Identity::new(None, owner("default"), Some("not one of those\n".to_owned()));
        let other = RepoSettings { agent_id: Some("b".to_owned()), ..RepoSettings::default() };
        assert!(identity.is_new(&owner("a")) && identity.refusal(&other).is_none());
        identity.record(owner("a"));
        assert!(!identity.is_new(&owner("a")) && identity.refusal(&other).is_some());
    }
}
