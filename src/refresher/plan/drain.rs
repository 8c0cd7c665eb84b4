//! What the drain of a node does to the pods on it, as far as a person should know before it begins, or while it hangs.
//! Used by `admission`, `preflight` and `stuck`. Pure.
//!
//! EKS drains a node by the Eviction API, for at most 15 minutes. Therefore PodDisruptionBudgets hold it up, unless
//! `force` is set. Everything else is evicted: pods without a controller, pods with emptyDir or hostPath volumes, whose
//! data is lost, and pods with the annotations of autoscalers, which EKS does not know. The nodes of self-managed groups
//! are drained by what responds to their lifecycle hook, in the same way, until the hook times out; `force` means nothing
//! to it.

use std::collections::BTreeMap;

use super::super::node_group::NodeGroup;
use super::super::spec::Spec;
use super::super::step::Explanation;
use crate::api::reasons;
use crate::engine::nodes::{Budget, NodePod};

/// Names in one line; the others are counted.
const MOST_NAMES: usize = 3;
/// How a finding about a PodDisruptionBudget begins, and what follows the name of one that allows nothing.
const BUDGET: &str = "PodDisruptionBudget";
const REFUSES: &str = " allows no disruption of";

/// What was found, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// These hold an update back with `rollout.preflight: Block`.
    pub blocking: Vec<String>,
    /// These are only reported.
    pub others: Vec<String>,
}

/// Whether the drain of a group overrides PodDisruptionBudgets.
pub fn forces(spec: &Spec, group: &NodeGroup) -> bool {
    spec.update.force && group.self_managed_kind().is_none()
}

/// The nodes could not be read: the sentence that is recorded, the same for every group.
pub fn unchecked(why: &str) -> String {
    format!("the nodes of node groups are not checked: {why}")
}

pub fn unavailable(why: &str) -> Explanation {
    Explanation::new(reasons::ENGINE_UNAVAILABLE, why)
}

/// What the drain would find on these pods. `force` overrides the budgets.
pub fn findings(pods: &[NodePod], force: bool) -> Findings {
    let staying: Vec<&NodePod> = pods.iter().filter(|pod| !pod.is_terminating).collect();
    let mut found = Findings::default();
    let held = held_by_budgets(&staying);
    match force {
        false => found.blocking.extend(held),
        true => found
            .others
            .extend(held.into_iter().map(|text| format!("{text}; refreshConfig.force overrides it"))),
    }
    let names = |wanted: &dyn Fn(&NodePod) -> bool| -> Vec<&str> {
        staying.iter().filter(|pod| wanted(pod)).map(|pod| pod.name.as_str()).collect()
    };
    let bare = names(&|pod| !pod.has_controller);
    if !bare.is_empty() {
        found.blocking.push(format!("{} no controller that would recreate it elsewhere", has(&bare)));
    }
    let mut asking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pod in &staying {
        if let Some(annotation) = pod.do_not_evict {
            asking.entry(annotation).or_default().push(&pod.name);
        }
    }
    let asking = asking.into_iter();
    found.blocking.extend(asking.map(|(annotation, pods)| {
        let verb = if pods.len() == 1 { "is" } else { "are" };
        format!("{} the annotation {annotation}, but {verb} evicted anyway", has(&pods))
    }));
    let returning = names(&|pod| pod.tolerates_all && pod.has_controller);
    if !returning.is_empty() {
        found.others.push(format!(
            "{} a toleration of every taint, and may return to a node that is drained",
            has(&returning)
        ));
    }
    let with_data: Vec<String> = staying
        .iter()
        .filter_map(|pod| Some(format!("{} ({})", pod.name, pod.local_volume.as_ref()?)))
        .collect();
    if !with_data.is_empty() {
        let with_data: Vec<&str> = with_data.iter().map(String::as_str).collect();
        found.others.push(format!("data on the node is lost: {}", listed(&with_data)));
    }
    found
}

/// The budgets that let no pod of these be evicted now, and the pods that no budget ever lets be evicted.
pub fn held_by_budgets(pods: &[&NodePod]) -> Vec<String> {
    let mut held: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut doubly = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.is_pending) {
        match pod.budgets.as_slice() {
            [budget] if refuses(budget, pod) => held.entry(&budget.name).or_default().push(&pod.name),
            [] | [_] => {}
            [first, second, ..] => doubly.push(format!(
                "PodDisruptionBudgets {} and {} both select pod {}, which can therefore not be evicted",
                first.name, second.name, pod.name
            )),
        }
    }
    let held = held.into_iter().map(|(budget, pods)| format!("{BUDGET} {budget}{REFUSES} {}", named(&pods)));
    held.chain(doubly.into_iter().take(MOST_NAMES)).collect()
}

/// Whether a finding is that a budget lets no pod be evicted.
pub fn is_of_budget(finding: &str) -> bool {
    finding.starts_with(BUDGET)
}

/// Whether two findings name the same budget, whichever pods it selects.
pub fn is_same_budget(one: &str, other: &str) -> bool {
    let budget = |finding: &str| finding.split_once(REFUSES).map(|(budget, _)| budget.to_owned());
    is_of_budget(one) && (one == other || budget(one).is_some_and(|named| Some(named) == budget(other)))
}

/// A pod that is not ready may be evicted although the budget allows no disruption, if it is not counted as healthy.
fn refuses(budget: &Budget, pod: &NodePod) -> bool {
    !budget.allows && (pod.is_ready || !budget.spares_unready)
}

fn has(pods: &[&str]) -> String {
    format!("{} {}", named(pods), if pods.len() == 1 { "has" } else { "have" })
}

fn named(pods: &[&str]) -> String {
    format!("{} {}", if pods.len() == 1 { "pod" } else { "pods" }, listed(pods))
}

/// The first names, and the number of the others.
pub fn listed(names: &[&str]) -> String {
    let shown = names[..names.len().min(MOST_NAMES)].join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
