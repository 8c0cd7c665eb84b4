//! How a build runs in a cluster, according to the manifest. It is validated, so that the API server accepts the Job.
//! Pure; part of parsing the spec.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::builder::{
    BuilderRun, EnvVar, GitSync, PackerBuilderSpec, PodResources, PodSettings, Quantity, Toleration,
};
use crate::api::checks::is_object_name;
use crate::api::checks::{Problems, written};
use crate::engine::{GitSyncRun, PodSpec};

/// Default name of git-sync's container.
const GIT_SYNC: &str = "git-sync";
/// Suffixes of Kubernetes quantities.
const SUFFIXES: [&str; 16] =
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const OPERATORS: [&str; 2] = ["Equal", "Exists"];
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Returns the settings of the pod. git-sync's repository is set later, because the manifest need not contain it.
pub fn spec(spec: &PackerBuilderSpec, run: &BuilderRun, problems: &mut Problems) -> PodSpec {
    let settings = run.pod.clone().unwrap_or_default();
    check(&settings, problems);
    PodSpec {
        image: written(run.image.as_ref()).map(str::to_owned),
        service_account: written(run.job_service_account_name.as_ref()).map(str::to_owned),
        withheld: BTreeSet::new(),
        settings,
        git_sync: spec.git_sync.as_ref().and_then(git_sync),
    }
}

fn git_sync(sync: &GitSync) -> Option<GitSyncRun> {
    Some(GitSyncRun {
        image: written(sync.image.as_ref()).map(str::to_owned)?,
        container: written(sync.name.as_ref()).map(str::to_owned).unwrap_or_else(|| GIT_SYNC.to_owned()),
        secret: written(sync.secret.as_ref()).map(str::to_owned),
        user: None,
        repository: String::new(),
    })
}

fn check(settings: &PodSettings, problems: &mut Problems) {
    let PodResources { requests, limits } = settings.resources.clone().unwrap_or_default();
    check_quantities(requests.as_ref(), "spec.builder.pod.resources.requests", problems);
    check_quantities(limits.as_ref(), "spec.builder.pod.resources.limits", problems);
    for (index, toleration) in settings.tolerations.iter().flatten().enumerate() {
        check_toleration(toleration, &format!("spec.builder.pod.tolerations[{index}]"), problems);
    }
    for (index, variable) in settings.env.iter().flatten().enumerate() {
        check_variable(variable, &format!("spec.builder.pod.env[{index}]"), problems);
    }
    for (index, name) in settings.image_pull_secrets.iter().flatten().enumerate() {
        if !is_object_name(name) {
            let path = format!("spec.builder.pod.imagePullSecrets[{index}]");
            problems.add(path, format!("{name:?} is not a valid Secret name"));
        }
    }
}

fn check_quantities(quantities: Option<&BTreeMap<String, Quantity>>, path: &str, problems: &mut Problems) {
    for (name, Quantity(text)) in quantities.into_iter().flatten() {
        if !is_quantity(text) {
            problems.add(
                format!("{path}.{name}"),
                format!("{text:?} is not a valid quantity (for example 500m or 2Gi)"),
            );
        }
    }
}

/// Returns whether a string is a quantity: digits, optionally with a decimal point, and a suffix.
fn is_quantity(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[number.len()..];
    let digits = number.chars().filter(char::is_ascii_digit).count();
    let points = number.chars().filter(|c| *c == '.').count();
    digits > 0 && points <= 1 && digits + points == number.len() && SUFFIXES.contains(&suffix)
}

fn check_toleration(toleration: &Toleration, path: &str, problems: &mut Problems) {
    let mut one_of = |field: &str, word: Option<&str>, words: &[&str]| {
        if let Some(word) = word.filter(|word| !word.is_empty() && !words.contains(word)) {
            problems.add(format!("{path}.{field}"), format!("{word:?} is not one of {}", words.join(", ")));
        }
    };
    one_of("operator", toleration.operator.as_deref(), &OPERATORS);
    one_of("effect", toleration.effect.as_deref(), &EFFECTS);
    let exists = toleration.operator.as_deref() == Some("Exists");
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if exists && !empty(&toleration.value) {
        problems.add(format!("{path}.value"), "must be empty with operator Exists");
    }
    if !exists && empty(&toleration.key) {
        problems.add(format!("{path}.key"), "is required with operator Equal");
    }
    if toleration.toleration_seconds.is_some() && toleration.effect.as_deref() != Some("NoExecute") {
        problems.add(format!("{path}.tolerationSeconds"), "is only allowed with effect NoExecute");
    }
}

fn check_variable(variable: &EnvVar, path: &str, problems: &mut Problems) {
    let name = variable.name.as_deref().unwrap_or_default();
    if name.is_empty() || name.contains('=') || !name.is_ascii() {
        problems.add(format!("{path}.name"), format!("{name:?} is not a valid environment variable name"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_kubernetes_amounts() {
        for text in ["2", "0.5", "100m", "2Gi", "1.5Gi", "4Ei", "1k"] {
            assert!(is_quantity(text), "{text}");
        }
        for text in ["", "Gi", "2GB", "-1", "1.2.3", "1 Gi", "1e3x"] {
            assert!(!is_quantity(text), "{text}");
        }
    }

    #[test]
    fn what_a_job_would_be_refused_for_is_said_with_its_path() {
        let settings: PodSettings = serde_json::from_value(serde_json::json!({
            "resources": {"requests": {"memory": "2GB"}, "limits": {"cpu": 2}},
            "tolerations": [
                {"key": "a", "operator": "Is"},
                {"operator": "Exists", "value": "x", "effect": "Never"},
                {"operator": "Equal"},
                {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5},
                {"operator": "Exists"},
            ],
            "env": [{"name": "A=B", "value": "x"}, {"name": "OK", "value": "x"}],
            "imagePullSecrets": ["registry", "Not/A name"],
        }))
        .expect("settings");
        let mut problems = Problems::default();
        check(&settings, &mut problems);
        let paths: Vec<&str> = problems.0.iter().map(|(path, _)| path.as_str()).collect();
        let under = |path: &str| format!("spec.builder.pod.{path}");
        assert_eq!(
            paths,
            [
                under("resources.requests.memory"),
                under("tolerations[0].operator"),
                under("tolerations[1].effect"),
                under("tolerations[1].value"),
                under("tolerations[2].key"),
                under("tolerations[3].tolerationSeconds"),
                under("env[0].name"),
                under("imagePullSecrets[1]"),
            ]
        );
    }
}
