//! Which arguments name an object, and the errors of the others.

use super::*;

#[test]
fn kinds_are_taken_as_kubectl_takes_them() {
    for word in [
        "pb/node",
        "PackerBuilder/node",
        "packerbuilders/node",
        "packerbuilder.ami.opsy.dev/node",
        "builder/node",
    ] {
        let target: Target = word.parse().expect(word);
        assert_eq!(target, Target { kind: Kind::PackerBuilder, name: "node".into() });
    }
    for word in ["ar/demo", "AMIRefresher/demo", "amirefreshers.ami.opsy.dev/demo"] {
        assert_eq!(word.parse::<Target>().expect(word).kind, Kind::AMIRefresher);
    }
}

#[test]
fn anything_else_is_refused_with_an_example() {
    for word in ["node", "pb/", "pb/a/b", "pb/a b", ""] {
        let error = word.parse::<Target>().expect_err(word);
        assert!(matches!(&error, BadTarget::Shape(text) if text == word), "{error}");
        assert!(error.to_string().contains("packerbuilder/node"));
    }
    let error = "deployment/web".parse::<Target>().expect_err("another kind");
    assert_eq!(
        error.to_string(),
        "\"deployment\" is an unknown kind: use packerbuilder (pb) or amirefresher (ar)"
    );
}

#[test]
fn only_a_missing_kind_needs_the_definitions() {
    let error = |message: &str| {
        let status = kube::core::Status { code: 404, message: message.to_owned(), ..Default::default() };
        refused(kube::Error::Api(Box::new(status)))
    };
    for (message, installs) in [
        ("the server could not find the requested resource", true),
        ("404 page not found\n", true),
        ("packerbuilders.ami.opsy.dev \"node\" not found", false),
        ("leases.coordination.k8s.io \"opsy\" not found", false),
    ] {
        let error = error(message);
        assert_eq!(error.to_string().contains(INSTALL_DEFINITIONS), installs, "{error}");
        assert!(!is_forbidden(&error));
    }
}

#[test]
fn a_denied_request_is_recognized() {
    let status = kube::core::Status { code: 403, message: "denied".to_owned(), ..Default::default() };
    let denied = refused(kube::Error::Api(Box::new(status)));
    assert!(is_forbidden(&denied) && is_forbidden(&denied.context("the objects of all namespaces")));
}
