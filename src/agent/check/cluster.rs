//! The checks of the cluster: access, definitions, and the rules of the chart's Role by access reviews.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use serde_json::Value;

use super::Checks;
use super::declared::{Declared, declared};
use super::definitions::differences;
use super::rbac::{self, Needs, Right};
use super::report::{Check, Group};
use crate::api::network::Network;
use crate::api::notifier::Notifier;
use crate::api::{INSTALL_DEFINITIONS, Key, Kind, schema};
use crate::engine::kubernetes::Cluster;
use crate::engine::kubernetes::access::published;
use crate::manifest::ObjectSet;
use crate::settings::AccessFlags;

const GROUP: Group = Group::Cluster;
/// Access reviews at the same time.
const AT_ONCE: usize = 8;
/// Differences that a message names.
const SHOWN: usize = 5;

/// The name and the remedy of the first check.
const ACCESS: &str = "access";
const REMEDY: &str = "Check --kubeconfig or KUBECONFIG, the network, and that the credentials are valid.";

/// Makes the checks, and returns the connection if there is one.
pub async fn check(flags: &AccessFlags, network: &Network, set: &ObjectSet) -> (Checks, Option<Cluster>) {
    let kubeconfig = flags.cluster.kubeconfig.as_deref();
    match Cluster::connect(kubeconfig, &flags.cluster.namespaces, network).await {
        Ok(cluster) => (check_access(flags, &cluster, set).await, Some(cluster)),
        Err(error) => (vec![GROUP.failed(ACCESS, error.to_string(), REMEDY)], None),
    }
}

/// Makes the checks with this connection.
pub async fn check_access(flags: &AccessFlags, cluster: &Cluster, set: &ObjectSet) -> Checks {
    let version = match cluster.version().await {
        Ok(version) => version,
        Err(refusal) => return vec![GROUP.failed(ACCESS, refusal.to_string(), REMEDY)],
    };
    let access = format!("Kubernetes {version}; namespace of the agent: {}", cluster.namespace);
    let mut checks = vec![GROUP.passed(ACCESS, access)];
    checks.extend(check_definitions(cluster).await);
    let rights = rbac::rights(&needs(flags, cluster, set));
    let reviews = stream::iter(&rights).map(|right| review(cluster, right)).buffered(AT_ONCE);
    checks.extend(reviews.collect::<Checks>().await);
    checks
}

async fn check_definitions(cluster: &Cluster) -> Checks {
    let schemas = match cluster.published_schemas().await {
        Ok(schemas) => schemas,
        Err(refusal) => return vec![GROUP.undetermined("definitions", refusal.to_string())],
    };
    schema::crds().iter().map(|(kind, ours)| definition(*kind, ours, published(&schemas, *kind))).collect()
}

fn definition(kind: Kind, ours: &Value, installed: Option<&Value>) -> Check {
    let name = format!("definition {kind}");
    let remedy = format!("Install the definitions of this version: {INSTALL_DEFINITIONS}");
    let Some(installed) = installed else {
        return GROUP.failed(name, "is not installed", remedy);
    };
    let ours = &ours["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let of_part = |part: &str| differences(part, &ours["properties"][part], &installed["properties"][part]);
    let found: Vec<String> = ["spec", "status"].into_iter().flat_map(of_part).collect();
    match found.len() {
        0 => GROUP.passed(name, "is installed and has the schema of this version"),
        count => {
            let shown = found[..count.min(SHOWN)].join("; ");
            let more = if count > SHOWN { format!(" (and {} more)", count - SHOWN) } else { String::new() };
            GROUP.failed(name, format!("differs from that of this version: {shown}{more}"), remedy)
        }
    }
}

fn needs<'a>(flags: &'a AccessFlags, cluster: &'a Cluster, set: &ObjectSet) -> Needs<'a> {
    let builds_namespace = flags.cluster.builds_namespace.as_deref();
    let (mut secrets, mut build_secrets) = (set.settings.notifier_secrets(), BTreeSet::new());
    for (document, object) in declared(set) {
        let namespace = &document.object.key.namespace;
        secrets.extend(
            object.notifier().into_iter().flat_map(Notifier::secrets).map(|name| key(namespace, name)),
        );
        if let Declared::Builder(builder) = object {
            let spec = builder.spec;
            let template = spec.git_sync.and_then(|sync| sync.secret);
            secrets.extend(template.map(|name| key(namespace, &name)));
            let build = spec.builder.and_then(|builder| builder.secret);
            build_secrets.extend(build.map(|name| key(builds_namespace.unwrap_or(namespace), &name)));
        }
    }
    // An empty name is none, as in the manifests of the operator.
    for secrets in [&mut secrets, &mut build_secrets] {
        secrets.retain(|key| !key.name.is_empty());
    }
    Needs {
        scope: &cluster.scope,
        own: &cluster.namespace,
        lease: &flags.cluster.lease_name,
        is_owner_derived: flags.agent_id.is_none(),
        builds_namespace,
        secrets,
        build_secrets,
    }
}

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Asks the API server about each verb of a right.
async fn review(cluster: &Cluster, right: &Right) -> Check {
    let place = match &right.namespace {
        Some(namespace) => format!(" in namespace {namespace}"),
        None => " in the whole cluster".to_owned(),
    };
    let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
    let object = right.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let name = format!("{}{group}{object}{place}", right.resource);
    let mut missing = Vec::new();
    for verb in &right.verbs {
        match cluster.may(request(right, verb)).await {
            Ok(true) => {}
            Ok(false) => missing.push(verb.as_str()),
            Err(refusal) => return GROUP.undetermined(name, refusal.to_string()),
        }
    }
    let verbs = right.verbs.join(", ");
    if missing.is_empty() {
        return GROUP.passed(name, format!("allowed: {verbs}"));
    }
    let message = format!("not allowed: {}", missing.join(", "));
    if right.is_optional {
        let left_out = "the agent does not check nodes before and after updates (rbac.nodes of the chart)";
        return GROUP.skipped(name, format!("{message}; {left_out}"));
    }
    let remedy = format!("Bind the rules of deploy/chart/files/{} to the agent{place}.", right.file);
    GROUP.failed(name, message, remedy)
}

fn request(right: &Right, verb: &str) -> ResourceAttributes {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource.as_str(), None),
    };
    ResourceAttributes {
        namespace: right.namespace.clone(),
        group: Some(right.group.clone()),
        resource: Some(resource.to_owned()),
        subresource,
        name: right.name.clone(),
        verb: Some(verb.to_owned()),
        ..Default::default()
    }
}
