//! What a build may not receive: the agent's own ServiceAccount, Secrets that the agent uses itself, and, if the agent
//! watches several namespaces, everything that is not labeled for builds. Part of the Job. Pure.
//!
//! Anyone who can create a PackerBuilder runs a container of their choice, and can read everything that it receives.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::setup::{Own, Setup};
use crate::api::{Key, annotations};
use crate::engine::RunRequest;
use crate::engine::kubernetes::{BUILD_FOR, BUILD_LABEL, Scope};

/// The ServiceAccount of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";
/// Value of the label on what builds may use.
const ALLOWED: &str = "true";

/// The kind of an object that a build uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsedKind {
    ServiceAccount,
    Secret,
}

impl UsedKind {
    /// The name for kubectl.
    fn word(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccount",
            Self::Secret => "secret",
        }
    }
}

impl fmt::Display for UsedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A ServiceAccount or Secret that a build uses according to its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub kind: UsedKind,
    pub key: Key,
    /// The field of the manifest that names it.
    field: &'static str,
    /// Namespace of the builder, if it is another one.
    elsewhere: Option<String>,
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.kind, self.key, self.field)
    }
}

/// Everything that a build uses according to its manifest. What the flags add was chosen by whoever runs the agent.
pub fn used(request: &RunRequest, setup: &Setup) -> Vec<Used> {
    let namespace = setup.namespace_of(&request.facts.builder);
    let one = |kind, name: &str, field| {
        let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
        let builder = &request.facts.builder.namespace;
        let elsewhere = (builder != namespace).then(|| builder.clone());
        Used { kind, key, field, elsewhere }
    };
    let secret = |name: &String, field| one(UsedKind::Secret, name, field);
    let pod = &request.pod;
    let account = match pod.service_account.as_deref() {
        Some(name) => one(UsedKind::ServiceAccount, name, "spec.builder.jobServiceAccountName"),
        None => {
            let field = "spec.builder.jobServiceAccountName is not set";
            one(UsedKind::ServiceAccount, DEFAULT_ACCOUNT, field)
        }
    };
    let of_packer = request.secret.iter().map(|name| secret(name, "spec.builder.secret"));
    let of_git_sync = pod.git_sync.iter().filter_map(|sync| sync.secret.as_ref());
    let of_git_sync = of_git_sync.map(|name| secret(name, "spec.gitSync.secret"));
    let pulling = pod.settings.image_pull_secrets.iter().flatten();
    let pulling = pulling.map(|name| secret(name, "spec.builder.pod.imagePullSecrets"));
    [account].into_iter().chain(of_packer).chain(of_git_sync).chain(pulling).collect()
}

/// The Secret with which the agent fetches a template repository. The namespace of `secret` is the builder's.
pub fn git_secret(secret: &Key, setup: &Setup) -> Used {
    let namespace = setup.namespace_of(secret).to_owned();
    let elsewhere = setup.is_elsewhere(secret).then(|| secret.namespace.clone());
    let key = Key { namespace, name: secret.name.clone() };
    Used { kind: UsedKind::Secret, key, field: "spec.gitSync.secret", elsewhere }
}

/// Why a build is refused because it uses something that belongs to the agent itself.
pub fn refusal(request: &RunRequest, setup: &Setup) -> Option<String> {
    used(request, setup).iter().find_map(|used| own(used, setup, &request.pod.withheld))
}

/// Why a build may not use this, if it belongs to the agent itself.
pub fn own(used: &Used, setup: &Setup, withheld: &BTreeSet<Key>) -> Option<String> {
    let Own { account, secrets } = &setup.own;
    match used.kind {
        UsedKind::ServiceAccount if account.as_ref() == Some(&used.key) => Some(format!(
            "{used}: the agent itself runs under this account, and no build may use it: create another ServiceAccount with \
             the permissions that the template needs, and name it in spec.builder.jobServiceAccountName"
        )),
        UsedKind::Secret if secrets.contains(&used.key) || withheld.contains(&used.key) => Some(format!(
            "{used}: the agent itself uses this Secret, and no build may use it: create a separate Secret with what the \
             build needs"
        )),
        _ => None,
    }
}

/// Whether what a build uses must be labeled: if people of more than one namespace can have builds there.
pub fn needs_labels(scope: &Scope, setup: &Setup, builder: &Key) -> bool {
    scope.is_several() || setup.is_elsewhere(builder)
}

/// Why a build may not use this: it lacks the label, or its annotation does not name the builder's namespace.
pub fn unlabeled(used: &Used, metadata: &ObjectMeta) -> Option<String> {
    let Key { namespace, name } = &used.key;
    let word = used.kind.word();
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(BUILD_LABEL));
    if label.is_none_or(|value| value != ALLOWED) {
        return Some(format!(
            "{used} lacks the label {BUILD_LABEL}: if several namespaces share the agent or the namespace of builds, \
             builds may use only what is labeled for them: kubectl label {word} {name} --namespace {namespace} \
             {BUILD_LABEL}={ALLOWED}",
        ));
    }
    // In a namespace that is not the builder's own, the label alone would allow the builds of all namespaces to use it.
    let of = used.elsewhere.as_deref()?;
    let named = annotations::value(metadata, BUILD_FOR).unwrap_or_default();
    if named.split(',').any(|name| name.trim() == of) {
        return None;
    }
    let all = if named.is_empty() { of.to_owned() } else { format!("{named},{of}") };
    Some(format!(
        "{used} is not for builds of namespace {of}: its annotation {BUILD_FOR} must name that namespace: kubectl \
         annotate --overwrite {word} {name} --namespace {namespace} {BUILD_FOR}={all}",
    ))
}

/// Why a pod in another namespace than its builder may not have the annotations of the manifest, if there are any.
/// Controllers grant roles and secrets of the pod's namespace by annotations.
pub fn annotated(request: &RunRequest, setup: &Setup) -> Option<String> {
    let name = request.pod.settings.annotations.iter().flatten().map(|(name, _)| name).next()?;
    setup.is_elsewhere(&request.facts.builder).then(|| {
        format!(
            "spec.builder.pod.annotations sets {name}, but builds run in a namespace that is not the builder's own, where \
             annotations could give a build the roles and secrets of others: remove spec.builder.pod.annotations"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;
    use crate::engine::GitSyncRun;

    fn key(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn setup(account: Option<Key>) -> Setup {
        let own = Own { account, secrets: [key("images", "git"), key("opsy", "signing")].into() };
        Setup { own, ..Setup::default() }
    }

    /// The names in a manifest of namespace `images`.
    #[derive(Default)]
    struct Names {
        account: Option<&'static str>,
        secret: Option<&'static str>,
        sync: Option<&'static str>,
        pull: &'static [&'static str],
    }

    fn request_with(names: &Names) -> RunRequest {
        let mut request = request();
        request.secret = names.secret.map(str::to_owned);
        request.pod.service_account = names.account.map(str::to_owned);
        request.pod.git_sync = names.sync.map(|secret| GitSyncRun {
            image: "git-sync:4".into(),
            container: "fetch".into(),
            secret: Some(secret.to_owned()),
            user: None,
            repository: "https://git.example/fleet".into(),
        });
        request.pod.settings.image_pull_secrets =
            Some(names.pull.iter().map(|name| (*name).to_owned()).collect());
        request.pod.withheld = [key("images", "slack")].into();
        request
    }

    #[test]
    fn what_is_the_agents_own_is_refused_by_name() {
        let own = || setup(Some(key("images", "opsy")));
        let none = Names::default;
        let elsewhere = || Setup { namespace: Some("builds".to_owned()), ..own() };
        let cases = [
            (none(), own(), None),
            (Names { account: Some("opsy"), ..none() }, own(), Some("jobServiceAccountName)")),
            (Names { account: Some("packer"), ..none() }, own(), None),
            // The agent's account is in another namespace, or unknown.
            (Names { account: Some("opsy"), ..none() }, setup(Some(key("opsy", "opsy"))), None),
            (Names { account: Some("opsy"), ..none() }, setup(None), None),
            (none(), setup(Some(key("images", "default"))), Some("jobServiceAccountName is not set")),
            (Names { secret: Some("aws"), sync: Some("deploy"), pull: &["registry"], ..none() }, own(), None),
            (Names { secret: Some("git"), ..none() }, own(), Some("Secret images/git (spec.builder.secret)")),
            (Names { secret: Some("slack"), ..none() }, own(), Some("Secret images/slack")),
            (Names { secret: Some("signing"), ..none() }, own(), None),
            (Names { sync: Some("git"), ..none() }, own(), Some("(spec.gitSync.secret)")),
            (
                Names { pull: &["registry", "git"], ..none() },
                own(),
                Some("(spec.builder.pod.imagePullSecrets)"),
            ),
            // Builds run in another namespace, where the same names are other objects.
            (
                Names { account: Some("opsy"), secret: Some("git"), sync: Some("slack"), ..none() },
                elsewhere(),
                None,
            ),
        ];
        for (names, setup, expected) in cases {
            let refused = refusal(&request_with(&names), &setup);
            match expected {
                None => assert_eq!(refused, None),
                Some(words) => {
                    let refused = refused.expect(words);
                    assert!(refused.contains(words) && refused.contains("agent itself"), "{refused}");
                }
            }
        }
        // The namespace of the builds counts, not that of the builder.
        let there = Setup { namespace: Some("opsy".to_owned()), ..own() };
        assert!(refusal(&request_with(&Names { secret: Some("signing"), ..none() }), &there).is_some());
    }

    fn labeled(value: &str, build_for: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            labels: Some([(BUILD_LABEL.to_owned(), value.to_owned())].into()),
            annotations: build_for.map(|names| [(BUILD_FOR.to_owned(), names.to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn in_a_shared_namespace_what_is_used_must_name_the_builders_namespace() {
        let elsewhere = Setup { namespace: Some("builds".to_owned()), ..setup(None) };
        let used = used(&request_with(&Names { secret: Some("aws"), ..Names::default() }), &elsewhere);
        let [account, secret] = used.as_slice() else { panic!("{used:?}") };
        for names in ["images", "other,images", " images , other"] {
            assert_eq!(unlabeled(secret, &labeled("true", Some(names))), None, "{names}");
            assert_eq!(unlabeled(account, &labeled("true", Some(names))), None, "{names}");
            assert!(unlabeled(secret, &labeled("false", Some(names))).is_some(), "{names}");
        }
        for (names, all) in [
            (None, "images"),
            (Some("other"), "other,images"),
            (Some("*"), "*,images"),
            (Some("imag"), "imag,images"),
        ] {
            let why = unlabeled(secret, &labeled("true", names)).expect("a refusal");
            let command = format!("secret aws --namespace builds ami.opsy.dev/build-for={all}");
            assert!(why.ends_with(&command), "{why}");
        }
    }

    #[test]
    fn labels_are_required_if_people_of_more_than_one_namespace_can_have_builds() {
        let of = |names: &[&str]| Scope::Namespaces(names.iter().map(|name| (*name).to_owned()).collect());
        let at =
            |namespace: Option<&str>| Setup { namespace: namespace.map(str::to_owned), ..Setup::default() };
        let cases = [
            (of(&["images"]), at(None), false),
            (of(&["images"]), at(Some("images")), false),
            (of(&["images"]), at(Some("builds")), true),
            (of(&["images", "other"]), at(None), true),
            (Scope::All, at(None), true),
        ];
        for (scope, setup, expected) in cases {
            assert_eq!(needs_labels(&scope, &setup, &key("images", "node")), expected, "{scope:?} {setup:?}");
        }
    }

    #[test]
    fn a_pod_in_a_shared_namespace_may_not_have_the_annotations_of_its_manifest() {
        let elsewhere = || Setup { namespace: Some("builds".to_owned()), ..Setup::default() };
        let mut request = request_with(&Names::default());
        assert_eq!(annotated(&request, &elsewhere()), None);
        let role = ("iam.amazonaws.com/role".to_owned(), "another".to_owned());
        request.pod.settings.annotations = Some([role].into());
        let why = annotated(&request, &elsewhere()).expect("a refusal");
        assert!(why.contains("iam.amazonaws.com/role"), "{why}");
        assert_eq!(annotated(&request, &Setup::default()), None, "in the builder's own namespace");
    }

    #[test]
    fn the_refusal_of_what_is_not_labeled_contains_the_command() {
        let used = used(&request_with(&Names { secret: Some("aws"), ..Names::default() }), &setup(None));
        let [account, secret] = used.as_slice() else { panic!("{used:?}") };
        let labels = |value: &str| labeled(value, None);
        assert_eq!(unlabeled(secret, &labels("true")), None);
        for labels in [labels("false"), ObjectMeta::default()] {
            let words = unlabeled(secret, &labels).expect("a refusal");
            let command = "kubectl label secret aws --namespace images ami.opsy.dev/build=true";
            assert!(words.contains(command), "{words}");
        }
        let words = unlabeled(account, &ObjectMeta::default()).expect("a refusal");
        assert!(words.contains("kubectl label serviceaccount default --namespace images"), "{words}");
    }
}
