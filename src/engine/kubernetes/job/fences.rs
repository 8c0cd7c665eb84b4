//! What a build may not be given: the agent's own ServiceAccount, Secrets that the agent uses itself, and, where the
//! agent works in several namespaces, whatever is not labelled for builds. Pure; part of the Job.
//!
//! Whoever writes a PackerBuilder runs a container of their choice: what it is given, they have.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::setup::{Own, Setup};
use crate::api::{Key, annotations};
use crate::engine::RunRequest;
use crate::engine::kubernetes::{BUILD_FOR, BUILD_LABEL, Scope};

/// The account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";
/// Value of the label on what builds may use.
const ALLOWED: &str = "true";

/// What is used, and by which field of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ServiceAccount,
    Secret,
}

impl Kind {
    /// As kubectl writes it.
    fn word(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceaccount",
            Self::Secret => "secret",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A ServiceAccount or Secret that the manifest has a build use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub kind: Kind,
    pub key: Key,
    field: &'static str,
    /// Namespace of the builder, where it is another one.
    elsewhere: Option<String>,
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.kind, self.key, self.field)
    }
}

/// Everything that the manifest has a build use. What the flags add is the choice of who runs the agent.
pub fn used(request: &RunRequest, setup: &Setup) -> Vec<Used> {
    let namespace = setup.namespace_of(&request.facts.builder);
    let one = |kind, name: &str, field| {
        let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
        let builder = &request.facts.builder.namespace;
        let elsewhere = (builder != namespace).then(|| builder.clone());
        Used { kind, key, field, elsewhere }
    };
    let secret = |name: &String, field| one(Kind::Secret, name, field);
    let pod = &request.pod;
    let account = match pod.service_account.as_deref() {
        Some(name) => one(Kind::ServiceAccount, name, "spec.builder.jobServiceAccountName"),
        None => one(Kind::ServiceAccount, DEFAULT_ACCOUNT, "spec.builder.jobServiceAccountName is not set"),
    };
    let of_packer = request.secret.iter().map(|name| secret(name, "spec.builder.secret"));
    let of_git_sync = pod.git_sync.iter().filter_map(|sync| sync.secret.as_ref());
    let of_git_sync = of_git_sync.map(|name| secret(name, "spec.gitSync.secret"));
    let pulling = pod.settings.image_pull_secrets.iter().flatten();
    let pulling = pulling.map(|name| secret(name, "spec.builder.pod.imagePullSecrets"));
    [account].into_iter().chain(of_packer).chain(of_git_sync).chain(pulling).collect()
}

/// The Secret that the agent reads to fetch a template repository; `secret` has the namespace of the builder.
pub fn git_secret(secret: &Key, setup: &Setup) -> Used {
    let namespace = setup.namespace_of(secret).to_owned();
    let elsewhere = setup.is_elsewhere(secret).then(|| secret.namespace.clone());
    let key = Key { namespace, name: secret.name.clone() };
    Used { kind: Kind::Secret, key, field: "spec.gitSync.secret", elsewhere }
}

/// Why a build may not have something, if it asks for what is the agent's own.
pub fn refusal(request: &RunRequest, setup: &Setup) -> Option<String> {
    used(request, setup).iter().find_map(|used| own(used, setup, &request.pod.withheld))
}

/// Why a build may not have this, if it is the agent's own.
pub fn own(used: &Used, setup: &Setup, withheld: &BTreeSet<Key>) -> Option<String> {
    let Own { account, secrets } = &setup.own;
    match used.kind {
        Kind::ServiceAccount if account.as_ref() == Some(&used.key) => Some(format!(
            "{used}: the agent itself runs under this account, and no build may: create another ServiceAccount with the \
             rights that the template needs, and name it in spec.builder.jobServiceAccountName"
        )),
        Kind::Secret if secrets.contains(&used.key) || withheld.contains(&used.key) => Some(format!(
            "{used}: the agent itself uses this Secret, and no build may: put what the build needs into a Secret of its own"
        )),
        _ => None,
    }
}

/// Must what a build uses be labelled for it? Wherever people of more than one namespace can have builds.
pub fn needs_labels(scope: &Scope, setup: &Setup, builder: &Key) -> bool {
    scope.is_several() || setup.is_elsewhere(builder)
}

/// Why a build may not use something that lacks the label, or whose annotation does not name its builder's namespace.
pub fn unlabelled(used: &Used, metadata: &ObjectMeta) -> Option<String> {
    let Key { namespace, name } = &used.key;
    let word = used.kind.word();
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(BUILD_LABEL));
    if label.is_none_or(|value| value != ALLOWED) {
        return Some(format!(
            "{used} lacks the label {BUILD_LABEL}: where several namespaces share the agent or the namespace of builds, \
             builds may use only what is labelled for them: kubectl label {word} {name} --namespace {namespace} \
             {BUILD_LABEL}={ALLOWED}",
        ));
    }
    // In a namespace that is not the builder's own, the label alone would give it to the builds of all.
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

/// Why the pod of a build may not have the annotations of its manifest, if it has any. By annotations, controllers hand out
/// roles and secrets of the namespace that the pod is in, and that is not the builder's.
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

    /// What a manifest of namespace `images` may name.
    #[derive(Default)]
    struct Names {
        account: Option<&'static str>,
        secret: Option<&'static str>,
        sync: Option<&'static str>,
        pull: &'static [&'static str],
    }

    fn asking(names: &Names) -> RunRequest {
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
            // The agent is in another namespace, or not known.
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
            // Builds are elsewhere: what has the same name there is something else.
            (
                Names { account: Some("opsy"), secret: Some("git"), sync: Some("slack"), ..none() },
                elsewhere(),
                None,
            ),
        ];
        for (names, setup, expected) in cases {
            let refused = refusal(&asking(&names), &setup);
            match expected {
                None => assert_eq!(refused, None),
                Some(words) => {
                    let refused = refused.expect(words);
                    assert!(refused.contains(words) && refused.contains("agent itself"), "{refused}");
                }
            }
        }
        // It is enough that one of them is the agent's, and where builds are counts, not where their builder is.
        let there = Setup { namespace: Some("opsy".to_owned()), ..own() };
        assert!(refusal(&asking(&Names { secret: Some("signing"), ..none() }), &there).is_some());
    }

    fn labelled(value: &str, build_for: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            labels: Some([(BUILD_LABEL.to_owned(), value.to_owned())].into()),
            annotations: build_for.map(|names| [(BUILD_FOR.to_owned(), names.to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn in_a_namespace_of_several_what_is_used_is_for_the_builders_namespace() {
        let elsewhere = Setup { namespace: Some("builds".to_owned()), ..setup(None) };
        let used = used(&asking(&Names { secret: Some("aws"), ..Names::default() }), &elsewhere);
        let [account, secret] = used.as_slice() else { panic!("{used:?}") };
        for names in ["images", "other,images", " images , other"] {
            assert_eq!(unlabelled(secret, &labelled("true", Some(names))), None, "{names}");
            assert_eq!(unlabelled(account, &labelled("true", Some(names))), None, "{names}");
            assert!(unlabelled(secret, &labelled("false", Some(names))).is_some(), "{names}");
        }
        for (names, all) in [
            (None, "images"),
            (Some("other"), "other,images"),
            (Some("*"), "*,images"),
            (Some("imag"), "imag,images"),
        ] {
            let why = unlabelled(secret, &labelled("true", names)).expect("a refusal");
            let command = format!("secret aws --namespace builds ami.opsy.dev/build-for={all}");
            assert!(why.ends_with(&command), "{why}");
        }
    }

    #[test]
    fn labels_are_read_wherever_people_of_more_than_one_namespace_have_builds() {
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
    fn a_pod_in_a_namespace_of_several_has_no_annotations_of_its_manifest() {
        let elsewhere = || Setup { namespace: Some("builds".to_owned()), ..Setup::default() };
        let mut request = asking(&Names::default());
        assert_eq!(annotated(&request, &elsewhere()), None);
        let role = ("iam.amazonaws.com/role".to_owned(), "another".to_owned());
        request.pod.settings.annotations = Some([role].into());
        let why = annotated(&request, &elsewhere()).expect("a refusal");
        assert!(why.contains("iam.amazonaws.com/role"), "{why}");
        assert_eq!(annotated(&request, &Setup::default()), None, "in the builder's own namespace");
    }

    #[test]
    fn what_is_not_labelled_says_how_to_label_it() {
        let used = used(&asking(&Names { secret: Some("aws"), ..Names::default() }), &setup(None));
        let [account, secret] = used.as_slice() else { panic!("{used:?}") };
        let labels = |value: &str| labelled(value, None);
        assert_eq!(unlabelled(secret, &labels("true")), None);
        for labels in [labels("false"), ObjectMeta::default()] {
            let words = unlabelled(secret, &labels).expect("a refusal");
            let command = "kubectl label secret aws --namespace images ami.opsy.dev/build=true";
            assert!(words.contains(command), "{words}");
        }
        let words = unlabelled(account, &ObjectMeta::default()).expect("a refusal");
        assert!(words.contains("kubectl label serviceaccount default --namespace images"), "{words}");
    }
}
