//! What a namespace may use beyond itself: rules `<namespace>=<glob>`, which only flags of the agent can set. Pure.
//!
//! Objects name clusters, topics and recipients, and the agent acts on them with its own credentials. A fence prevents
//! one namespace from acting on what belongs to another.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::checks::is_label;

/// Maximum length of a glob in bytes. A flag contains names and asterisks, which need far less.
const GLOB_SIZE: usize = 256;
/// Matches every namespace.
const EVERY: &str = "*";

/// One rule of a flag: the namespace may use what the glob matches.
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
            return Err(format!(
                "{namespace:?} is not a valid namespace; write a name, or * for all namespaces"
            ));
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
/// A namespace with rules may use what one of them matches. Of the namespaces without rules, the agent's own may use
/// anything and the others nothing. Outside a cluster, no namespace is the agent's own. If there are no rules either,
/// each namespace may use anything, because all of them come from one repository.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// The flag that sets the rules, for messages.
    flag: &'static str,
    own: Own,
    rules: Vec<Rule>,
}

/// The namespace of the agent.
#[derive(Clone, Debug, Default)]
enum Own {
    /// The agent is not in a cluster.
    #[default]
    Outside,
    Named(String),
    /// The agent is not this program.
    Unknown,
}

impl Fence {
    pub fn new(flag: &'static str, own: Option<String>, rules: Vec<Rule>) -> Self {
        Self { flag, own: own.map_or(Own::Outside, Own::Named), rules }
    }

    /// The fence of an agent elsewhere, whose namespace is not known: a namespace without rules may use anything.
    pub fn elsewhere(flag: &'static str, rules: Vec<Rule>) -> Self {
        Self { flag, own: Own::Unknown, rules }
    }

    /// Returns how to allow `name` if the namespace may not use it, or `None` if it may.
    pub fn refusal(&self, namespace: &str, name: &str) -> Option<String> {
        let mut concerned = self.rules.iter().filter(|rule| rule.concerns(namespace)).peekable();
        let allowed = if concerned.peek().is_some() {
            concerned.any(|rule| rule.glob.is_match(name))
        } else {
            match &self.own {
                Own::Outside => self.rules.is_empty(),
                Own::Named(own) => own == namespace,
                Own::Unknown => true,
            }
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
            assert_eq!(in_cluster.refusal(namespace, name).is_none(), allowed, "{namespace} {name}");
        }
        let says = in_cluster.refusal("team-c", "prod").expect("refused");
        assert_eq!(says, "start the agent with --clusters=team-c=prod to allow it");
    }

    #[test]
    fn rules_bind_the_agents_own_namespace_too_and_an_asterisk_binds_all() {
        let bound = fence(Some("opsy"), &["opsy=prod"]);
        assert!(bound.refusal("opsy", "prod").is_none() && bound.refusal("opsy", "dev").is_some());
        let open = fence(Some("opsy"), &["*=*"]);
        assert!(open.refusal("anyone", "prod").is_none());
        let narrow = fence(Some("opsy"), &["*=dev-*"]);
        assert!(narrow.refusal("opsy", "prod").is_some() && narrow.refusal("team", "dev-1").is_none());
    }

    #[test]
    fn without_a_cluster_only_rules_refuse() {
        assert!(fence(None, &[]).refusal("team-a", "prod").is_none());
        assert!(fence(None, &["team-a=dev"]).refusal("team-a", "prod").is_some());
        assert!(fence(None, &["team-a=dev"]).refusal("team-b", "dev").is_some());
    }

    #[test]
    fn of_an_agent_elsewhere_the_rules_are_known() {
        let rules = vec!["team-a=dev".parse().expect("a rule")];
        let elsewhere = Fence::elsewhere("--clusters", rules);
        assert!(elsewhere.refusal("team-a", "prod").is_some() && elsewhere.refusal("opsy", "prod").is_none());
    }

    #[test]
    fn a_rule_says_what_is_wrong_with_it() {
        for (text, says) in [
            ("prod", "must be <namespace>=<glob>"),
            ("team-a=", "must be <namespace>=<glob>"),
            ("Team=prod", "is not a valid namespace"),
            ("=prod", "is not a valid namespace"),
            ("a=[", "is not a valid glob"),
            (&format!("a={}", "{a,b}".repeat(99)), "the limit is 256"),
        ] {
            let error = text.parse::<Rule>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!("team-a=dev-*".parse::<Rule>().expect("a rule").to_string(), "team-a=dev-*");
    }
}
