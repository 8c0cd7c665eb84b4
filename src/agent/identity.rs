//! Whose agent this is: the flag says, else the repository, for as long as it says the same.
//!
//! Who may push to the repository could otherwise make this agent take over, and prune, what a neighbor made.

use std::sync::{Mutex, MutexGuard};

use crate::api::Owner;
use crate::settings::RepoSettings;

/// What the owner is judged by.
pub struct Identity {
    flag: Option<Owner>,
    /// Where nobody says anything.
    otherwise: Owner,
    /// Whose agent it has been so far.
    noted: Mutex<Option<Owner>>,
}

impl Identity {
    pub fn new(flag: Option<Owner>, otherwise: Owner, noted: Option<String>) -> Self {
        let noted = noted.and_then(|noted| Owner::parse(noted.trim()).ok());
        Self { flag, otherwise, noted: Mutex::new(noted) }
    }

    /// Why settings are not taken, if they are not.
    pub fn refuses(&self, settings: &RepoSettings) -> Option<String> {
        let written = settings.agent_id.as_ref().and_then(|id| Owner::parse(id.as_str()).ok());
        refuses(self.flag.as_ref(), self.lock().as_ref(), written.as_ref(), &self.otherwise)
    }

    /// Is this to be noted?
    pub fn is_news(&self, owner: &Owner) -> bool {
        self.lock().as_ref() != Some(owner)
    }

    pub fn note(&self, owner: Owner) {
        *self.lock() = Some(owner);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Owner>> {
        self.noted.lock().expect("no code panics while it holds the owner")
    }
}

fn refuses(
    flag: Option<&Owner>,
    noted: Option<&Owner>,
    written: Option<&Owner>,
    otherwise: &Owner,
) -> Option<String> {
    match (flag, noted, written) {
        (Some(flag), _, Some(written)) if written != flag => Some(format!(
            "agentID {written} is not this agent's: it was started with --agent-id {flag}; set agentID to {flag} or leave it \
             out, or restart the agent with --agent-id {written}"
        )),
        (None, Some(noted), _) if written.unwrap_or(otherwise) != noted => {
            let says = match written {
                Some(written) => format!("agentID {written}"),
                None => "no agentID".to_owned(),
            };
            let owner = written.unwrap_or(otherwise);
            Some(format!(
                "{says} would make this the agent of owner {owner}, and so far it has been that of {noted}: to confirm that, \
                 restart the agent with --agent-id {owner} (OPSY_AGENT_ID); else set agentID to {noted}"
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
        // Flag, noted, written; the word of the refusal.
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
        for (flag, noted, written, words) in table {
            let identity = Identity::new(flag.map(owner), owner("default"), noted.map(str::to_owned));
            let refused = identity.refuses(&settings(written));
            let told = refused.as_deref().map(|said| words.is_some_and(|words| said.contains(words)));
            assert_eq!(told, words.map(|_| true), "{flag:?} {noted:?} {written:?}: {refused:?}");
        }
    }

    #[test]
    fn the_first_one_seen_is_noted() {
        let owner = |name: &str| Owner::parse(name).expect("an owner");
        let identity = Identity::new(None, owner("default"), Some("not one of those\n".to_owned()));
        let other = RepoSettings { agent_id: Some("b".to_owned()), ..RepoSettings::default() };
        assert!(identity.is_news(&owner("a")) && identity.refuses(&other).is_none());
        identity.note(owner("a"));
        assert!(!identity.is_news(&owner("a")) && identity.refuses(&other).is_some());
    }
}
