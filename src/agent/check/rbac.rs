//! The rights that the agent needs in the cluster: the rules of the chart, in the namespaces of the flags. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::api::Key;
use crate::engine::kubernetes::Scope;

/// Rules of the chart: its file, and the content.
type File = (&'static str, &'static str);
const ROLE: File = ("role.yaml", include_str!("../../../deploy/chart/files/role.yaml"));
const BUILDS: File = ("role-builds.yaml", include_str!("../../../deploy/chart/files/role-builds.yaml"));
const CLUSTER: File = ("clusterrole.yaml", include_str!("../../../deploy/chart/files/clusterrole.yaml"));
const NODES: File =
    ("clusterrole-nodes.yaml", include_str!("../../../deploy/chart/files/clusterrole-nodes.yaml"));

/// What of the flags and manifests the rights depend on.
pub struct Needs<'a> {
    pub scope: &'a Scope,
    /// The agent's own namespace.
    pub own: &'a str,
    pub lease: &'a str,
    /// The owner is derived from the cluster.
    pub is_owner_derived: bool,
    pub builds_namespace: Option<&'a str>,
    /// The Secrets that notifiers and template repositories name.
    pub secrets: BTreeSet<Key>,
    /// The Secrets that builds get, in the namespace in which they run.
    pub build_secrets: BTreeSet<Key>,
}

/// Verbs on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// `None`: in all namespaces, or the resource has none.
    pub namespace: Option<String>,
    pub group: String,
    /// With its subresource, as in `packerbuilders/status`.
    pub resource: String,
    /// The only object that is needed.
    pub name: Option<String>,
    pub verbs: Vec<String>,
    /// The file of the chart.
    pub file: &'static str,
    /// Without it, the agent leaves something out and works.
    pub is_optional: bool,
}

/// Returns what the agent needs.
pub fn rights(needs: &Needs<'_>) -> BTreeSet<Right> {
    let watched: Vec<Option<&str>> = match needs.scope {
        Scope::All => vec![None],
        Scope::Namespaces(names) => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let builds = needs.builds_namespace.map_or_else(|| watched.clone(), |name| vec![Some(name)]);
    // Only then the agent reads the labels of what builds use.
    let needs_labels =
        needs.scope.is_several() || needs.builds_namespace.is_some_and(|name| name != needs.own);
    let mut all = BTreeSet::new();
    for right in rules(ROLE) {
        match right.resource.as_str() {
            "leases" => {
                all.insert(Right { namespace: Some(needs.own.to_owned()), ..named(right, needs.lease) })
            }
            "secrets" => extend(&mut all, secrets(&right, &needs.secrets)),
            "events" => extend(&mut all, in_each(&right, watched.iter().copied().chain([Some(needs.own)]))),
            _ => extend(&mut all, in_each(&right, watched.iter().copied())),
        };
    }
    for right in rules(BUILDS) {
        match right.resource.as_str() {
            "secrets" if needs_labels => extend(&mut all, secrets(&right, &needs.build_secrets)),
            "serviceaccounts" if needs_labels => extend(&mut all, in_each(&right, builds.iter().copied())),
            "secrets" | "serviceaccounts" => false,
            _ => extend(&mut all, in_each(&right, builds.iter().copied())),
        };
    }
    extend(&mut all, rules(CLUSTER).filter(|_| needs.is_owner_derived));
    extend(&mut all, rules(NODES).map(|right| Right { is_optional: true, ..right }));
    all
}

/// The rules of a file, one for each resource.
fn rules((file, text): File) -> impl Iterator<Item = Right> {
    let rules: Vec<PolicyRule> = serde_saphyr::from_str(text).expect("the chart's rules are a list of rules");
    rules.into_iter().flat_map(move |rule| {
        let group = rule.api_groups.iter().flatten().next().cloned().unwrap_or_default();
        let name = rule.resource_names.iter().flatten().next().cloned();
        let right = move |resource: String| Right {
            namespace: None,
            group: group.clone(),
            resource,
            name: name.clone(),
            verbs: rule.verbs.clone(),
            file,
            is_optional: false,
        };
        rule.resources.unwrap_or_default().into_iter().map(right)
    })
}

/// The chart replaces the name of the Lease.
fn named(right: Right, lease: &str) -> Right {
    Right { name: right.name.as_ref().map(|_| lease.to_owned()), ..right }
}

fn in_each<'a>(
    right: &Right,
    namespaces: impl Iterator<Item = Option<&'a str>>,
) -> impl Iterator<Item = Right> {
    namespaces.map(|namespace| Right { namespace: namespace.map(str::to_owned), ..right.clone() })
}

/// The chart may limit the rule to names, so the agent is asked only about those that manifests name.
fn secrets(right: &Right, keys: &BTreeSet<Key>) -> impl Iterator<Item = Right> {
    keys.iter().map(|Key { namespace, name }| Right {
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        ..right.clone()
    })
}

/// Returns whether something was added.
fn extend(all: &mut BTreeSet<Right>, rights: impl Iterator<Item = Right>) -> bool {
    let before = all.len();
    all.extend(rights);
    all.len() > before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(needs: &Needs<'_>) -> Vec<String> {
        let line = |right: &Right| {
            let (namespace, name) = (right.namespace.as_deref().unwrap_or("*"), right.name.as_deref());
            format!("{namespace} {} {}", right.resource, name.unwrap_or("-"))
        };
        rights(needs).iter().map(line).collect()
    }

    #[test]
    fn rights_are_those_of_the_chart_in_the_namespaces_of_the_flags() {
        let key = |name: &str| Key { namespace: "ops".to_owned(), name: name.to_owned() };
        let one = Scope::Namespaces(vec!["ops".to_owned()]);
        let needs = Needs {
            scope: &one,
            own: "ops",
            lease: "second",
            is_owner_derived: false,
            builds_namespace: None,
            secrets: [key("slack")].into(),
            build_secrets: [key("aws")].into(),
        };
        let lines_of_one = lines(&needs);
        for expected in ["ops leases second", "ops leases -", "ops secrets slack", "ops jobs -", "* nodes -"]
        {
            assert!(lines_of_one.contains(&expected.to_owned()), "{expected}: {lines_of_one:#?}");
        }
        for unneeded in ["ops secrets aws", "ops serviceaccounts -", "* namespaces kube-system"] {
            assert!(!lines_of_one.contains(&unneeded.to_owned()), "{unneeded}: {lines_of_one:#?}");
        }
        let all =
            Needs { scope: &Scope::All, is_owner_derived: true, builds_namespace: Some("builds"), ..needs };
        let lines_of_all = lines(&all);
        for expected in [
            "* packerbuilders -",
            "ops leases second",
            "ops events -",
            "builds jobs -",
            "builds serviceaccounts -",
            "ops secrets aws",
            "* namespaces kube-system",
        ] {
            assert!(lines_of_all.contains(&expected.to_owned()), "{expected}: {lines_of_all:#?}");
        }
    }
}
