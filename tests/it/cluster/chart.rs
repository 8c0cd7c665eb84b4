//! The RBAC rules of the chart, as the chart and the tests bind them.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::root;

/// The chart's rules, one for each resource and verb.
pub fn rules() -> Vec<((String, String), PolicyRule)> {
    let mut all = rules_of("role.yaml");
    let known: Vec<_> = all.iter().map(|(name, _)| name.clone()).collect();
    // A rule that is in both files is returned once.
    all.extend(rules_of("role-builds.yaml").into_iter().filter(|(name, _)| !known.contains(name)));
    all
}

/// The rules of one file of the chart.
pub fn rules_of(file: &str) -> Vec<((String, String), PolicyRule)> {
    let path = root().join("deploy/chart/files").join(file);
    let text = std::fs::read_to_string(path).expect("the chart's rules");
    let rules: Vec<PolicyRule> = serde_saphyr::from_str(&text).expect("a list of rules");
    let mut single = Vec::new();
    for rule in rules {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                let (resources, verbs) = (Some(vec![resource.clone()]), vec![verb.clone()]);
                let alone = PolicyRule { resources, verbs, ..rule.clone() };
                single.push(((resource.clone(), verb.clone()), alone));
            }
        }
    }
    single
}
