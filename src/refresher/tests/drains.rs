//! Tables of what the drain of a node does to pods, as it is reported.

use crate::engine::nodes::{Budget, NodePod};
use crate::refresher::plan::drain::{Findings, findings, is_of_budget, is_same_budget};

/// A running pod of a ReplicaSet, without anything to report.
fn pod(name: &str) -> NodePod {
    NodePod {
        name: format!("shop/{name}"),
        node: "node-1".to_owned(),
        has_controller: true,
        is_ready: true,
        ..NodePod::default()
    }
}

fn budget(name: &str) -> Budget {
    Budget { name: format!("shop/{name}"), allows: false, spares_unready: false }
}

fn found(pods: &[NodePod]) -> Findings {
    findings(pods, false)
}

fn blocking(pods: &[NodePod]) -> String {
    let Findings { blocking, others } = found(pods);
    assert_eq!(others, Vec::<String>::new());
    blocking.join("; ")
}

#[test]
fn nothing_is_reported_of_pods_that_can_be_evicted() {
    let allowing = Budget { allows: true, ..budget("api") };
    let pods = [
        pod("api-0"),
        NodePod { budgets: vec![allowing], ..pod("api-1") },
        NodePod { is_terminating: true, has_controller: false, budgets: vec![budget("x")], ..pod("api-2") },
    ];
    assert_eq!(found(&pods), Findings::default());
}

#[test]
fn a_budget_that_allows_nothing_is_named_with_its_pods() {
    let held = |name: &str| NodePod { budgets: vec![budget("api")], ..pod(name) };
    assert_eq!(blocking(&[held("a")]), "PodDisruptionBudget shop/api allows no disruption of pod shop/a");
    let many = ["a", "b", "c", "d", "e"].map(held);
    assert_eq!(
        blocking(&many),
        "PodDisruptionBudget shop/api allows no disruption of pods shop/a, shop/b, shop/c and 2 more"
    );
}

#[test]
fn a_pod_that_is_not_counted_needs_no_budget() {
    let spares = Budget { spares_unready: true, ..budget("api") };
    let unready = NodePod { is_ready: false, budgets: vec![spares.clone()], ..pod("a") };
    let pending = NodePod { is_ready: false, is_pending: true, budgets: vec![budget("api")], ..pod("b") };
    assert_eq!(found(&[unready.clone(), pending]), Findings::default());
    let counted = NodePod { budgets: vec![budget("api")], ..unready };
    assert!(blocking(&[counted]).contains("allows no disruption of pod shop/a"));
    assert!(blocking(&[NodePod { budgets: vec![spares], ..pod("a") }]).contains("of pod shop/a"));
}

#[test]
fn two_budgets_of_one_pod_prevent_every_eviction() {
    let allowing = Budget { allows: true, ..budget("b") };
    let pod = NodePod { budgets: vec![budget("a"), allowing], ..pod("x") };
    let expected =
        "PodDisruptionBudgets shop/a and shop/b both select pod shop/x, which can therefore not be evicted";
    assert_eq!(blocking(&[pod]), expected);
}

#[test]
fn a_budget_is_recognized_whichever_pods_it_selects() {
    let held = |by: &str, name: &str| {
        let Findings { blocking, .. } = found(&[NodePod { budgets: vec![budget(by)], ..pod(name) }]);
        blocking.into_iter().next().expect("it is held")
    };
    let by_two = NodePod { budgets: vec![budget("api"), budget("b")], ..pod("a") };
    let doubly = blocking(&[by_two]);
    assert!(is_same_budget(&held("api", "a"), &held("api", "b")) && is_same_budget(&doubly, &doubly));
    for other in [held("api-2", "a"), doubly, blocking(&[NodePod { has_controller: false, ..pod("a") }])] {
        assert!(!is_same_budget(&held("api", "a"), &other), "{other}");
    }
    assert!(is_of_budget(&held("api", "a")));
    assert!(!is_of_budget(&blocking(&[NodePod { has_controller: false, ..pod("a") }])));
}

#[test]
fn force_overrides_budgets_and_nothing_else() {
    let held = NodePod { budgets: vec![budget("api")], ..pod("a") };
    let bare = NodePod { has_controller: false, ..pod("b") };
    let Findings { blocking, others } = findings(&[held, bare], true);
    assert_eq!(blocking, ["pod shop/b has no controller that would recreate it elsewhere"]);
    let overridden =
        "PodDisruptionBudget shop/api allows no disruption of pod shop/a; refreshConfig.force overrides it";
    assert_eq!(others, [overridden]);
}

#[test]
fn pods_that_ask_not_to_be_evicted_are_named_by_annotation() {
    let asks = |name: &str, annotation| NodePod { do_not_evict: Some(annotation), ..pod(name) };
    let pods = [asks("a", "karpenter.sh/do-not-disrupt"), asks("b", "karpenter.sh/do-not-disrupt")];
    let expected =
        "pods shop/a, shop/b have the annotation karpenter.sh/do-not-disrupt, but are evicted anyway";
    assert_eq!(blocking(&pods), expected);
}

#[test]
fn lost_data_and_universal_tolerations_are_reported_and_hold_nothing_up() {
    let data = NodePod { local_volume: Some("emptyDir volume data".to_owned()), ..pod("a") };
    let returning = NodePod { tolerates_all: true, ..pod("b") };
    let Findings { blocking, others } = found(&[data, returning]);
    assert_eq!(blocking, Vec::<String>::new());
    let expected = [
        "pod shop/b has a toleration of every taint, and may return to a node that is drained",
        "data on the node is lost: shop/a (emptyDir volume data)",
    ];
    assert_eq!(others, expected);
}
