//! A push to a Git repository as its server reports it, and the list of pushes that one replica passes to another.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::digest;

/// Maximum number of addresses of a repository. The servers send at most eight.
pub const MOST_ADDRESSES: usize = 16;
/// Maximum length of an address or branch in bytes. Longer ones are not real: most servers limit a ref to 255 bytes.
pub const LONGEST: usize = 512;
/// Maximum number of pushes in a list. If there are more within a few seconds, everything must be fetched.
const MOST_PUSHES: usize = 8;
/// Maximum size of a list. All annotations of an object together may have 256 KiB.
const MOST_BYTES: usize = 32 * 1024;

/// A push to a Git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// All addresses of the repository. If the sender names none, it may be any repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The branch. If the sender names none, it may be any branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

impl Pushed {
    /// Returns whether this push may concern a repository and branch. `is_same` compares an address with that of the
    /// repository. A branch that is not known yet may be any.
    pub fn concerns(&self, is_same: impl Fn(&str) -> bool, branch: Option<&str>) -> bool {
        let repository = self.addresses.is_empty() || self.addresses.iter().any(|address| is_same(address));
        let branch = match (&self.branch, branch) {
            (Some(pushed), Some(followed)) => pushed == followed,
            _ => true,
        };
        repository && branch
    }
}

/// The newest pushes, each with an identifier: what one replica passes to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushes(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    id: String,
    #[serde(flatten)]
    pushed: Pushed,
}

impl Pushes {
    /// Parses a list. If that fails, another version wrote it, and it counts as empty.
    pub fn parse(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Adds pushes and drops the oldest ones. `unique` must differ for every call.
    pub fn add(&mut self, pushes: &[Pushed], unique: &str) {
        let merged = match pushes.len() {
            0..=MOST_PUSHES => pushes.to_vec(),
            _ => vec![Pushed::default()],
        };
        for (number, pushed) in merged.into_iter().enumerate() {
            let id = digest(&[unique, &number.to_string()])[..16].to_owned();
            self.0.push(Entry { id, pushed });
        }
        let surplus = self.0.len().saturating_sub(MOST_PUSHES);
        self.0.drain(..surplus);
        if self.to_string().len() > MOST_BYTES {
            self.0.iter_mut().for_each(|entry| entry.pushed = Pushed::default());
        }
    }

    /// Returns the pushes that an earlier list does not contain. If a full list contains none of the earlier pushes,
    /// some may have been dropped unread, and everything must be fetched.
    pub fn since(&self, before: &Self) -> Vec<Pushed> {
        let is_known = |entry: &&Entry| before.0.iter().any(|known| known.id == entry.id);
        let new: Vec<Pushed> =
            self.0.iter().filter(|entry| !is_known(entry)).map(|entry| entry.pushed.clone()).collect();
        match new.len() == MOST_PUSHES {
            true => vec![Pushed::default()],
            false => new,
        }
    }
}

impl fmt::Display for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(address: &str) -> Pushed {
        Pushed { addresses: vec![address.to_owned()], branch: Some("main".to_owned()) }
    }

    #[test]
    fn a_push_concerns_its_repository_and_branch_and_an_unnamed_one_concerns_all() {
        let ours = |address: &str| address == "ours";
        let push = pushed("ours");
        assert!(push.concerns(ours, Some("main")) && push.concerns(ours, None));
        assert!(!push.concerns(ours, Some("release")) && !pushed("theirs").concerns(ours, Some("main")));
        let any = Pushed::default();
        assert!(any.concerns(ours, Some("main")) && any.concerns(|_| false, None));
        let any_branch = Pushed { branch: None, ..pushed("ours") };
        assert!(any_branch.concerns(ours, Some("release")));
    }

    #[test]
    fn a_reader_gets_each_push_once() {
        let mut list = Pushes::default();
        list.add(&[pushed("a")], "1");
        let seen = list.clone();
        list.add(&[pushed("b"), pushed("a")], "2");
        assert_eq!(list.since(&seen), [pushed("b"), pushed("a")]);
        assert_eq!(list.since(&list.clone()), []);
        assert_eq!(Pushes::parse(Some(&list.to_string())), list);
        for text in [None, Some(""), Some("{}"), Some("[{\"id\": 1}]")] {
            assert_eq!(Pushes::parse(text), Pushes::default(), "{text:?}");
        }
    }

    #[test]
    fn a_list_is_bounded_and_nothing_is_lost_by_it() {
        let mut list = Pushes::default();
        list.add(&[pushed("a")], "0");
        let seen = list.clone();
        for round in 0..20 {
            list.add(&[pushed(&format!("r{round}"))], &round.to_string());
        }
        assert_eq!(list.0.len(), MOST_PUSHES);
        assert_eq!(list.since(&seen), [Pushed::default()], "some were dropped: everything is fetched");
        let many: Vec<_> = (0..20).map(|n| pushed(&n.to_string())).collect();
        let mut list = Pushes::default();
        list.add(&many, "x");
        assert_eq!(list.since(&Pushes::default()), [Pushed::default()]);
        let large = Pushed { addresses: vec!["a".repeat(LONGEST); 100], branch: None };
        list.add(&[large], "y");
        assert!(list.to_string().len() <= MOST_BYTES);
    }
}
