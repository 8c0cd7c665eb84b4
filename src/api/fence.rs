//! What a namespace may use beyond itself: rules `<namespace>=<glob>`, which only whoever starts the agent sets. Pure.
//!
//! Objects choose clusters, topics and recipients by name, and the agent acts on them with its own credentials. A
//! fence keeps one namespace from acting on what belongs to another.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::checks::is_label;

/// The largest compiled glob, in bytes. A flag has names and asterisks, which compile to far less.
const GLOB_SIZE: usize = 256;
/// Stands for every namespace.
const EVERY: &str = "*";

/// One rule of a flag: this namespace may use what this glob matches.
#[derive(Clone, Debug)]
pub struct Rule {
    namespace: String,
    glob: GlobMatcher,
}

impl Rule {
    fn concerns(&self, namespace: &str) -> bool {
        self.namespace == EVERY || self.namespace == namespace
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.namespace, self.glob.glob())
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, glob) = text
            .trim()
            .split_once('=')
            .filter(|(_, glob)| !glob.is_empty())
            .ok_or("must be <namespace>=<glob>, such as team-a=dev-*")?;
        if namespace != EVERY && !is_label(namespace) {
            return Err(format!("{namespace:?} is not the name of a namespace, nor * for all of them"));
        }
        if glob.len() > GLOB_SIZE {
            return Err(format!("the glob has {} characters; the limit is {GLOB_SIZE}", glob.len()));
        }
        let built = GlobBuilder::new(glob).build();
        let built = built.map_err(|bad| format!("{glob:?} is not a valid glob: {}", bad.kind()))?;
        Ok(Self { namespace: namespace.to_owned(), glob: built.compile_matcher() })
    }
}

/// What each namespace may use.
///
/// A namespace with rules may use what one of them matches. Of the others, the agent's own may use anything and the
/// rest nothing. Without a cluster no namespace is the agent's own, and without rules each may use anything: all of
/// them come from one repository.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// The flag, for messages.
    flag: &'static str,
    /// The namespace of the agent, in a cluster.
    own: Option<String>,
    rules: Vec<Rule>,
}

impl Fence {
    pub fn new(flag: &'static str, own: Option<String>, rules: Vec<Rule>) -> Self {
        Self { flag, own, rules }
    }

    /// What to do where a namespace may not use `name`; nothing where it may.
    pub fn refuses(&self, namespace: &str, name: &str) -> Option<String> {
        let mut concerned = self.rules.iter().filter(|rule| rule.concerns(namespace)).peekable();
        let allowed = if concerned.peek().is_some() {
            concerned.any(|rule| rule.glob.is_match(name))
        } else {
            self.own.as_deref().map_or(self.rules.is_empty(), |own| own == namespace)
        };
        (!allowed).then(|| format!("start the agent with {}={namespace}={name} to allow it", self.flag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(own: Option<&str>, rules: &[&str]) -> Fence {
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        Fence::new("--clusters", own.map(str::to_owned), rules)
    }

    #[test]
    fn the_agents_own_namespace_may_use_anything_and_the_others_what_a_rule_names() {
        let in_cluster = fence(Some("opsy"), &["team-a=dev-*", "team-a=test", "team-b=*"]);
        for (namespace, name, allowed) in [
            ("opsy", "prod", true),
            ("team-a", "dev-1", true),
            ("team-a", "test", true),
            ("team-a", "prod", false),
            ("team-a", "my-dev-1", false),
            ("team-b", "prod", true),
            ("team-c", "dev-1", false),
        ] {
            assert_eq!(in_cluster.refuses(namespace, name).is_none(), allowed, "{namespace} {name}");
        }
        let says = in_cluster.refuses("team-c", "prod").expect("refused");
        assert_eq!(says, "start the agent with --clusters=team-c=prod to allow it");
    }

    #[test]
    fn rules_bind_the_agents_own_namespace_too_and_an_asterisk_binds_all() {
        let bound = fence(Some("opsy"), &["opsy=prod"]);
        assert!(bound.refuses("opsy", "prod").is_none() && bound.refuses("opsy", "dev").is_some());
        let open = fence(Some("opsy"), &["*=*"]);
        assert!(open.refuses("anyone", "prod").is_none());
        let narrow = fence(Some("opsy"), &["*=dev-*"]);
        assert!(narrow.refuses("opsy", "prod").is_some() && narrow.refuses("team", "dev-1").is_none());
    }

    #[test]
    fn without_a_cluster_only_rules_refuse() {
        assert!(fence(None, &[]).refuses("team-a", "prod").is_none());
        assert!(fence(None, &["team-a=dev"]).refuses("team-a", "prod").is_some());
        assert!(fence(None, &["team-a=dev"]).refuses("team-b", "dev").is_some());
    }

    #[test]
    fn a_rule_says_what_is_wrong_with_it() {
        for (text, says) in [
            ("prod", "must be <namespace>=<glob>"),
            ("team-a=", "must be <namespace>=<glob>"),
            ("Team=prod", "is not the name of a namespace"),
            ("=prod", "is not the name of a namespace"),
            ("a=[", "is not a valid glob"),
            (&format!("a={}", "{a,b}".repeat(99)), "the limit is 256"),
        ] {
            let error = text.parse::<Rule>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!("team-a=dev-*".parse::<Rule>().expect("a rule").to_string(), "team-a=dev-*");
    }
}
