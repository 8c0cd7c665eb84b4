//! Selects where a command reads and acts: the state directory of a standalone agent, or a cluster. All commands for
//! live objects use the same rules, which the README also lists.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::engine::kubernetes::{Access, Cluster, has_kubeconfig};
use crate::engine::standalone::lock::{self, EngineKind};
use crate::settings::{NetworkFlags, default_state};

/// The rules, as the help of each command prints them.
pub const RULE: &str = "\
The command uses a state directory or a cluster. The first rule that applies selects it:
  1. --state names a state directory; --kubeconfig or --context names a cluster.
  2. OPSY_KUBECONFIG names a cluster, as for opsy run.
  3. A standalone agent is running in the state directory (OPSY_STATE, else the default).
  4. The command runs in a pod: the cluster of kubectl (rule 6) if there is one, else that of the pod.
  5. OPSY_STATE names a state directory.
  6. kubectl has a kubeconfig with a current context (KUBECONFIG, else ~/.kube/config): that cluster.
  7. The default state directory exists: /var/lib/opsy for root, else ~/.local/state/opsy.";

/// Flags that select the place.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct PlaceFlags {
    /// Use this state directory of a standalone agent [env: OPSY_STATE]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "context"])]
    pub state: Option<PathBuf>,
    /// Use the cluster of this kubeconfig [env: OPSY_KUBECONFIG]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Use the cluster of this context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of the object; default: the namespace of the context, or `default` in a state directory. status, tree
    /// and trace show all namespaces of a state directory, and trace those of a cluster
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub network: NetworkFlags,
}

/// Where a command reads and acts.
pub enum Place {
    Cluster(ClusterPlace),
    State(StatePlace),
}

/// A cluster with a connection.
pub struct ClusterPlace {
    pub cluster: Cluster,
    /// The server and the context, for messages.
    name: String,
    /// A state directory that exists, if no flag selects the cluster: the user may have meant it.
    other: Option<PathBuf>,
}

/// A state directory.
pub struct StatePlace {
    pub path: PathBuf,
    /// Only the last rule applied: nothing else selects a place.
    is_fallback: bool,
}

/// The facts that the rules use.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    state_flag: bool,
    cluster_flag: bool,
    kubeconfig_variable: bool,
    /// A standalone agent is running in the state directory.
    agent: bool,
    in_pod: bool,
    state_variable: bool,
    kubectl: bool,
    state_exists: bool,
}

/// The selected place. `Kubeconfig` is the one that is named, else that of kubectl; `Fallback` is the default state
/// directory, selected by the last rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Kubeconfig,
    Pod,
    State,
    Fallback,
}

/// Applies the rules; returns `None` if no rule applies.
fn choose(facts: Facts) -> Option<Choice> {
    let lines = [
        (facts.state_flag, Choice::State),
        (facts.cluster_flag || facts.kubeconfig_variable, Choice::Kubeconfig),
        (facts.agent, Choice::State),
        // As kubectl: what was written in the pod for another cluster is meant.
        (facts.in_pod && facts.kubectl, Choice::Kubeconfig),
        (facts.in_pod, Choice::Pod),
        (facts.state_variable, Choice::State),
        (facts.kubectl, Choice::Kubeconfig),
        (facts.state_exists, Choice::Fallback),
    ];
    lines.into_iter().find(|(applies, _)| *applies).map(|(_, choice)| choice)
}

impl PlaceFlags {
    /// Selects the place, and connects to it if it is a cluster.
    ///
    /// # Errors
    /// No rule applies, or the cluster cannot be connected to.
    pub async fn find(&self) -> anyhow::Result<Place> {
        let (state_variable, kubeconfig_variable) = (variable("OPSY_STATE"), variable("OPSY_KUBECONFIG"));
        let state = self.state.clone().or_else(|| state_variable.clone()).unwrap_or_else(default_state);
        let state = std::path::absolute(state)?;
        let facts = Facts {
            state_flag: self.state.is_some(),
            cluster_flag: self.kubeconfig.is_some() || self.context.is_some(),
            kubeconfig_variable: kubeconfig_variable.is_some(),
            agent: lock::holder(&state) == Some(EngineKind::Standalone),
            in_pod: variable("KUBERNETES_SERVICE_HOST").is_some(),
            state_variable: state_variable.is_some(),
            kubectl: has_kubeconfig(),
            state_exists: state.is_dir(),
        };
        let other = (facts.state_exists && !facts.cluster_flag).then(|| state.clone());
        match choose(facts) {
            Some(Choice::Kubeconfig) => {
                let file = self.kubeconfig.clone().or(kubeconfig_variable);
                let access = Access::Kubeconfig { file, context: self.context.clone() };
                self.connect(&access, other).await.map(Place::Cluster)
            }
            Some(Choice::Pod) => self.connect(&Access::Pod, other).await.map(Place::Cluster),
            Some(choice @ (Choice::State | Choice::Fallback)) => {
                Ok(Place::State(StatePlace { path: state, is_fallback: choice == Choice::Fallback }))
            }
            None => Err(anyhow::anyhow!(
                "no state directory and no cluster found: kubectl has no kubeconfig with a current context, \
                 and {} does not exist; name a state directory with --state (or OPSY_STATE) or a cluster \
                 with --kubeconfig (or OPSY_KUBECONFIG) or --context, or start `opsy run`",
                state.display()
            )),
        }
    }

    async fn connect(&self, access: &Access, other: Option<PathBuf>) -> anyhow::Result<ClusterPlace> {
        let network = self.network.read().map_err(anyhow::Error::msg)?;
        let connected = Cluster::connect_as_user(access, self.namespace.as_deref(), &network).await;
        let correct = match access {
            Access::Kubeconfig { .. } => "correct the kubeconfig",
            Access::Pod => "name a kubeconfig with --kubeconfig",
        };
        let (cluster, name) = connected.with_context(|| {
            format!("cannot connect to the cluster; {correct}, or name a state directory with --state")
        })?;
        Ok(ClusterPlace { cluster, name, other })
    }
}

impl ClusterPlace {
    /// A hint for the case that something is not in the cluster and a state directory exists.
    pub fn hint(&self) -> String {
        let hint = |dir: &PathBuf| format!("; use the state directory with --state {}", dir.display());
        self.other.as_ref().map(hint).unwrap_or_default()
    }
}

impl StatePlace {
    /// A state directory that is named.
    #[cfg(test)]
    pub fn of(path: &std::path::Path) -> Self {
        Self { path: path.to_owned(), is_fallback: false }
    }

    /// Returns true if an agent is running that serves requests.
    pub fn has_agent(&self) -> bool {
        lock::holder(&self.path) == Some(EngineKind::Standalone)
    }

    /// The warning to print before reading if the last agent may have stopped long ago.
    pub fn warning(&self) -> Option<String> {
        let stale = self.is_fallback && !self.has_agent();
        stale.then(|| {
            format!("no agent is running in the {self}: its status is from the last run; start `opsy run`")
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(place) => place.fmt(f),
            Self::State(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for ClusterPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}", self.name)
    }
}

impl fmt::Display for StatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state directory {}", self.path.display())
    }
}

/// Reads a variable that names a path, or whose presence matters.
#[expect(clippy::disallowed_methods, reason = "the command line of a person, whose environment decides")]
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_the_rule_that_applies_decides() {
        // Each fact alone, and with every later one: an earlier line always wins.
        type Set = fn(&mut Facts);
        let lines: [(Set, Choice); 8] = [
            (|facts| facts.state_flag = true, Choice::State),
            (|facts| facts.cluster_flag = true, Choice::Kubeconfig),
            (|facts| facts.kubeconfig_variable = true, Choice::Kubeconfig),
            (|facts| facts.agent = true, Choice::State),
            (|facts| facts.in_pod = true, Choice::Pod),
            (|facts| facts.state_variable = true, Choice::State),
            (|facts| facts.kubectl = true, Choice::Kubeconfig),
            (|facts| facts.state_exists = true, Choice::Fallback),
        ];
        assert_eq!(choose(Facts::default()), None);
        let mut later = Facts::default();
        for (set, choice) in lines.iter().rev() {
            let mut alone = Facts::default();
            set(&mut alone);
            set(&mut later);
            assert_eq!(choose(alone), Some(*choice), "{alone:?}");
            // In a pod, the kubeconfig of kubectl is a part of the same rule.
            let choice = if *choice == Choice::Pod { Choice::Kubeconfig } else { *choice };
            assert_eq!(choose(later), Some(choice), "{later:?}");
        }
    }

    #[test]
    fn a_directory_that_an_agent_left_behind_does_not_win_over_the_cluster_of_kubectl() {
        let left = Facts { state_exists: true, kubectl: true, ..Facts::default() };
        assert_eq!(choose(left), Some(Choice::Kubeconfig));
        assert_eq!(choose(Facts { agent: true, ..left }), Some(Choice::State));
        // The chart sets OPSY_STATE for the clone.
        let chart = Facts { in_pod: true, state_variable: true, state_exists: true, ..Facts::default() };
        assert_eq!(choose(chart), Some(Choice::Pod));
        // A job that wrote a kubeconfig in its pod means that cluster.
        assert_eq!(choose(Facts { kubectl: true, ..chart }), Some(Choice::Kubeconfig));
    }
}
