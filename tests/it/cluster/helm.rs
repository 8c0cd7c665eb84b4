//! The chart with real Helm: the API server validates what it renders, wrong values are refused with a message, and it
//! is installed, upgraded and uninstalled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{ControlPlane, Place, root};
use crate::world::{Outcome, run};

/// The required values.
const LEAST: &str =
    "{repo: {url: https://git.example.com/images.git}, image: {repository: registry.example.com/opsy}}";
/// Combinations of values, each in addition to the required ones. NS and TEAM are namespaces that exist.
const CASES: [(&str, &str); 11] = [
    ("the required values", "{}"),
    (
        "a token, pinned images and pull Secrets",
        "{repo: {branch: main, path: images, interval: 1m30s, credentials: {secret: git}},
          image: {digest: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', pullPolicy: Always},
          imagePullSecrets: [{name: registry}, {name: other}], packerImage: 'registry.example.com/packer@sha256:00'}",
    ),
    (
        "a password, and a private CA behind a proxy",
        "{repo: {credentials: {secret: git, username: opsy, passwordKey: password}},
          caBundle: {configMap: authorities}, ownSecrets: [git, aws],
          proxy: {https: 'http://proxy.example.com:3128', http: 'http://proxy.example.com:3128', noProxy: [10.0.0.0/8]}}",
    ),
    (
        "several namespaces with fences",
        "{namespaces: [NS, TEAM], agentID: platform, leaseName: images, leaseDuration: 30s,
          clusters: {NS: ['*'], TEAM: ['dev-*', test], '*': [sandbox]}, templates: {TEAM: ['packer/team/**']}, checkHosts: {TEAM: ['*.team.svc']},
          notifications: {secrets: [slack], topics: {TEAM: ['arn:aws:sns:*:111122223333:team-*']},
            recipients: {TEAM: ['*@example.com']}, slackAPI: 'https://slack-gov.com/api/'}, builds: {secrets: [packer]}}",
    ),
    ("all namespaces, builds in one of their own", "{allNamespaces: true, builds: {namespace: TEAM, secrets: [packer]}}"),
    ("all namespaces", "{allNamespaces: true, notifications: {secrets: [slack]}}"),
    (
        "everything of a pod",
        "{replicas: 1, revisionHistoryLimit: 0, port: 9090, extraArgs: ['--output=text'], stateSizeLimit: 10Gi,
          env: [{name: AWS_REGION, value: us-east-1}, {name: TOKEN, valueFrom: {secretKeyRef: {name: aws, key: token}}}],
          envFrom: [{secretRef: {name: aws}}, {configMapRef: {name: more, optional: true}}],
          extraVolumes: [{name: more, configMap: {name: more}}], extraVolumeMounts: [{name: more, mountPath: /more}],
          podAnnotations: {a: b}, podLabels: {team: images, app.kubernetes.io/name: ignored},
          commonLabels: {cost-center: '42'}, commonAnnotations: {c: d}, nodeSelector: {kubernetes.io/arch: amd64},
          tolerations: [{key: dedicated, operator: Exists}], priorityClassName: system-cluster-critical,
          affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms:
            [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]}}},
          topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule,
            labelSelector: {matchLabels: {app.kubernetes.io/name: opsy}}}],
          resources: {requests: {cpu: 1, memory: 1Gi, ephemeral-storage: 2Gi}, limits: {memory: 1Gi}},
          hostNetwork: true, dnsConfig: {options: [{name: ndots, value: '1'}]}}",
    ),
    (
        "OpenShift",
        "{podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}, securityContext: {runAsNonRoot: true}}",
    ),
    (
        "an existing ServiceAccount, no roles",
        "{serviceAccount: {create: false, name: theirs}, rbac: {create: false, aggregateToView: false}}",
    ),
    (
        "policies, monitors and rights of users",
        "{networkPolicy: {enabled: true, from: [{namespaceSelector: {}}], egress: [{ports: [{port: 443, protocol: TCP}]}]},
          serviceMonitor: {enabled: true, interval: 1m, labels: {release: prometheus}}, rbac: {aggregateToEdit: true, nodes: false},
          service: {annotations: {prometheus.io/scrape: 'true'}}, serviceAccount: {annotations: {a: b}}}",
    ),
    ("other names, and as a dependency", "{nameOverride: images, global: {a: b}, enabled: true, networkPolicy: {enabled: true}}"),
];

/// Wrong values, and the error messages of Helm.
const WRONG: [(&str, &str); 25] = [
    ("namespace: team", "additional properties 'namespace' not allowed"),
    ("repo: {urls: x}", "additional properties 'urls' not allowed"),
    ("namespaces: 'a,b'", "at '/namespaces': got string, want array"),
    ("namespaces: [Team]", "at '/namespaces/0': 'Team' does not match pattern"),
    ("replicas: '2'", "at '/replicas': got string, want integer"),
    ("port: 0", "at '/port': minimum: got 0, want 1"),
    ("leaseDuration: 15", "at '/leaseDuration': got number, want string"),
    ("repo: {interval: 30 seconds}", "at '/repo/interval': '30 seconds' does not match pattern"),
    ("image: {digest: sha256:0}", "at '/image/digest': 'sha256:0' does not match pattern"),
    (
        "image: {pullPolicy: Sometimes}",
        "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
    ),
    ("imagePullSecrets: [registry]", "at '/imagePullSecrets/0': got string, want object"),
    ("clusters: {team: dev-*}", "at '/clusters/team': got string, want array"),
    ("clusters: {team: []}", "at '/clusters/team': minItems: got 0, want 1"),
    ("clusters: {team: ['a,b']}", "at '/clusters/team/0': 'a,b' does not match pattern"),
    ("proxy: {https: 'http://user:secret@proxy:3128'}", "at '/proxy/https'"),
    ("env: {AWS_REGION: x}", "at '/env': got object, want array"),
    ("repo: {url: ''}", "repo.url is required: the address of the repository to follow"),
    ("image: {repository: ''}", "image.repository is required: the agent's image, without a tag"),
    ("repo: {url: 'https://opsy:secret@git.example.com/a.git'}", "repo.url contains a password"),
    ("repo: {url: 'http://git.example.com/a.git'}", "use https://, or set repo.insecureHttp"),
    (
        "repo: {credentials: {secret: git, passwordKey: password}}",
        "repo.credentials.username is required with repo.credentials.passwordKey",
    ),
    ("{allNamespaces: true, namespaces: [a]}", "namespaces and allNamespaces exclude each other"),
    ("serviceAccount: {create: false}", "serviceAccount.name is required if serviceAccount.create is false"),
    ("env: [{name: OPSY_INTERVAL, value: 1m}]", "env: OPSY_INTERVAL is set twice"),
    ("rbac: {nodes: 'yes'}", "at '/rbac/nodes': got string, want boolean"),
];

/// Kinds that the chart creates.
const KINDS: &str = "deployments,replicasets,pods,services,serviceaccounts,roles,rolebindings,clusterroles,\
                     clusterrolebindings,poddisruptionbudgets,networkpolicies";

/// Creates a namespace without the Role of the tests, which is in the namespace of the place.
async fn empty(place: &Place) -> String {
    let namespace = format!("{}-h", place.namespace);
    place.create_namespace(&namespace).await;
    namespace
}

fn chart() -> PathBuf {
    root().join("deploy/chart")
}

/// Runs Helm with these values and its own directories.
fn helm(args: &[&str], values: &[&str]) -> Outcome {
    let helm = PathBuf::from(std::env::var_os("OPSY_BED_HELM").unwrap_or_default());
    assert!(
        helm.is_file(),
        "OPSY_BED_HELM ({}) is not a Helm program: run the tests with `make test`, or set it to the output of \
         tests/bed/bin/helm",
        helm.display()
    );
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(helm);
    command.args(args);
    for (number, text) in values.iter().enumerate() {
        let file = scratch.path().join(format!("{number}.yaml"));
        std::fs::write(&file, text).expect("a file");
        command.arg("--values").arg(file);
    }
    for (name, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(name, scratch.path().join(folder));
    }
    run(command)
}

/// Runs Helm with the chart on a release in a cluster, and asserts that it succeeds.
fn at(plane: &ControlPlane, verb: &str, release: &str, namespace: &str, values: &[&str]) -> String {
    let chart = chart();
    let kubeconfig = plane.address("kubeconfig").as_str().expect("a path");
    let mut args = vec![verb, release];
    if verb != "uninstall" {
        args.push(chart.to_str().expect("UTF-8"));
    }
    args.extend(["--namespace", namespace, "--kubeconfig", kubeconfig, "--timeout", "60s"]);
    if verb == "uninstall" {
        args.extend(["--wait"]);
    }
    let outcome = helm(&args, values);
    assert!(outcome.status.success(), "helm {args:?}: {outcome:?}");
    outcome.stdout
}

fn template(release: &str, namespace: &str, values: &[&str]) -> Outcome {
    let chart = chart();
    helm(&["template", release, chart.to_str().expect("UTF-8"), "--namespace", namespace], values)
}

/// The rendered chart as the API server returns it: with defaults and validated, but not stored.
fn rendered(plane: &ControlPlane, release: &str, namespace: &str, values: &str) -> Vec<Value> {
    let outcome = template(release, namespace, &[LEAST, values]);
    assert!(outcome.status.success(), "{values}: {outcome:?}");
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "--output=json",
        "-f",
        "-",
    ];
    let list: Value = serde_json::from_str(&plane.kubectl(&args, &outcome.stdout)).expect("JSON");
    list["items"].as_array().expect("a list").clone()
}

fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}

fn has(objects: &[Value], kind: &str) -> bool {
    objects.iter().any(|object| object["kind"] == kind)
}

fn pod(objects: &[Value]) -> &Value {
    &one(objects, "Deployment")["spec"]["template"]
}

fn env(objects: &[Value]) -> Vec<(String, String)> {
    let env = pod(objects)["spec"]["containers"][0]["env"].as_array().expect("an environment").clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    env.iter().map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

fn variable(objects: &[Value], name: &str) -> Option<String> {
    env(objects).into_iter().find(|(it, _)| it == name).map(|(_, value)| value)
}

/// Kind, namespace and name of each object.
fn names(objects: &[Value]) -> BTreeSet<String> {
    let name = |object: &Value| {
        let meta = &object["metadata"];
        format!("{} {} {}", object["kind"], meta["namespace"], meta["name"])
    };
    objects.iter().map(name).collect()
}

/// A definition of the Prometheus operator's ServiceMonitor without a schema.
fn monitors() -> String {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
    .to_string()
}

#[test]
fn helm_lint_accepts_the_chart() {
    for (case, values) in CASES {
        let values = values.replace("TEAM", "team").replace("NS", "opsy");
        let chart = chart();
        let args = ["lint", "--strict", "--quiet", chart.to_str().expect("UTF-8")];
        let outcome = helm(&args, &[LEAST, &values]);
        assert!(outcome.status.success(), "{case}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_rendering() {
    let place = Place::new().await;
    let (plane, own, team) = (place.plane, &empty(&place).await, format!("{}-team", place.namespace));
    place.create_namespace(&team).await;
    plane.kubectl(&["apply", "-f", "-"], &monitors());
    plane.kubectl(&["wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com"], "");
    let cases = CASES.map(|(case, values)| {
        (case, rendered(plane, "opsy", own, &values.replace("TEAM", &team).replace("NS", own)))
    });
    let of = |case: &str| {
        let found = cases.iter().find(|(name, _)| *name == case);
        found.map(|(_, objects)| objects.as_slice()).unwrap_or_else(|| panic!("{case} is not in CASES"))
    };

    let least = of("the required values");
    assert_eq!(variable(least, "OPSY_LEASE_NAME").as_deref(), Some("opsy"));
    assert_eq!(variable(least, "OPSY_RUNNER_IMAGE").as_deref(), Some("registry.example.com/opsy:0.1.0"));
    assert!(has(least, "PodDisruptionBudget") && !has(least, "NetworkPolicy"));
    for absent in ["OPSY_CLUSTERS", "OPSY_AGENT_ID", "OPSY_INSECURE_HTTP", "OPSY_OWN_SECRETS", "NO_PROXY"] {
        assert_eq!(variable(least, absent), None);
    }
    let spec = &pod(least)["spec"];
    assert_eq!(spec["securityContext"]["runAsUser"], 65532);
    assert_eq!(spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!((&spec["automountServiceAccountToken"], &spec["hostNetwork"]), (&json!(true), &Value::Null));
    assert_eq!(one(least, "ServiceAccount")["automountServiceAccountToken"], false);

    let pinned = of("a token, pinned images and pull Secrets");
    let image = pod(pinned)["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned();
    assert!(image.starts_with("registry.example.com/opsy@sha256:0123"), "{image}");
    assert_eq!(variable(pinned, "OPSY_RUNNER_IMAGE"), Some(image));
    assert_eq!(variable(pinned, "OPSY_IMAGE_PULL_SECRETS").as_deref(), Some("registry,other"));
    assert_eq!(variable(pinned, "OPSY_GIT_TOKEN_FILE").as_deref(), Some("/etc/opsy/git/token"));
    assert_eq!(variable(pinned, "OPSY_OWN_SECRETS").as_deref(), Some("git"));

    let proxied = of("a password, and a private CA behind a proxy");
    assert_eq!(
        variable(proxied, "NO_PROXY").as_deref(),
        Some("$(KUBERNETES_SERVICE_HOST),localhost,127.0.0.1,.svc,.cluster.local,10.0.0.0/8")
    );
    assert_eq!(variable(proxied, "OPSY_CA_FILE").as_deref(), Some("/etc/opsy/ca/ca.crt"));
    assert_eq!(variable(proxied, "OPSY_OWN_SECRETS").as_deref(), Some("git,aws"));
    assert_eq!(variable(proxied, "OPSY_GIT_PASSWORD_FILE").as_deref(), Some("/etc/opsy/git/password"));

    let fenced = of("several namespaces with fences");
    let rules = variable(fenced, "OPSY_CLUSTERS").expect("fences");
    let rules: BTreeSet<_> = rules.split(',').map(str::to_owned).collect();
    let expected = [format!("{own}=*"), format!("{team}=dev-*"), format!("{team}=test"), "*=sandbox".into()];
    assert_eq!(rules, expected.into());
    assert_eq!(variable(fenced, "OPSY_NOTIFY_RECIPIENTS"), Some(format!("{team}=*@example.com")));
    assert_eq!(variable(fenced, "OPSY_LEASE_NAME").as_deref(), Some("images"));
    let leases = fenced.iter().filter(|object| object["kind"] == "Role").flat_map(|role| {
        role["rules"]
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .filter(|rule| rule["resources"][0] == "leases")
    });
    let named: Vec<_> = leases.filter(|rule| !rule["resourceNames"].is_null()).collect();
    assert!(named.len() == 1 && named[0]["resourceNames"] == json!(["images"]), "{named:?}");
    let of_lease = fenced.iter().find(|object| {
        let rules = object["rules"].as_array().into_iter().flatten();
        object["kind"] == "Role" && rules.into_iter().any(|rule| rule["resources"][0] == "leases")
    });
    let of_lease = of_lease.expect("a Role for the Lease")["rules"].as_array().expect("rules");
    assert!(
        of_lease.iter().any(|rule| rule["resources"][0] == "events"),
        "Events of the Lease: {of_lease:?}"
    );

    let full = of("everything of a pod");
    assert!(!has(full, "PodDisruptionBudget"));
    let labels = &pod(full)["metadata"]["labels"];
    assert_eq!((&labels["app.kubernetes.io/name"], &labels["team"]), (&json!("opsy"), &json!("images")));
    assert_eq!(pod(full)["spec"]["dnsPolicy"], "ClusterFirstWithHostNet");
    assert_eq!(pod(full)["spec"]["containers"][0]["args"], json!(["run", "--output=text"]));
    assert!(full.iter().all(|object| object["metadata"]["labels"]["cost-center"] == "42"
        && object["metadata"]["annotations"]["c"] == "d"));
    // The selector has no other labels.
    let selector = &one(full, "Deployment")["spec"]["selector"]["matchLabels"];
    assert_eq!(selector, &json!({"app.kubernetes.io/name": "opsy", "app.kubernetes.io/instance": "opsy"}));

    let openshift = &pod(of("OpenShift"))["spec"]["securityContext"];
    assert!(openshift["runAsUser"].is_null() && openshift["runAsNonRoot"] == true, "{openshift}");
    let theirs = of("an existing ServiceAccount, no roles");
    assert_eq!(pod(theirs)["spec"]["serviceAccountName"], "theirs");
    assert!(!["ServiceAccount", "Role", "ClusterRole", "RoleBinding"].iter().any(|kind| has(theirs, kind)));
    let guarded = one(of("policies, monitors and rights of users"), "NetworkPolicy").clone();
    assert_eq!(guarded["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(guarded["spec"]["ingress"][0]["ports"], json!([{"port": "http", "protocol": "TCP"}]));
    let open = one(of("other names, and as a dependency"), "NetworkPolicy");
    assert_eq!(
        (&open["spec"]["policyTypes"], &open["metadata"]["name"]),
        (&json!(["Ingress"]), &json!("opsy-images"))
    );
    assert!(open["spec"]["ingress"][0]["from"].is_null(), "{open}");
}

/// What Helm renders without a cluster.
fn text(values: &str) -> String {
    let outcome = template("opsy", "opsy", &[LEAST, values]);
    assert!(outcome.status.success(), "{values}: {outcome:?}");
    outcome.stdout
}

#[test]
fn secrets_of_the_agents_own_pod_are_withheld_from_builds() {
    let values = "env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: a}}}]
envFrom: [{secretRef: {name: all}}]
extraVolumes:
  - {name: v, secret: {secretName: volume}}
  - {name: p, projected: {sources: [{secret: {name: projected}}]}}
notifications: {secrets: [slack]}
ownSecrets: [more]
repo: {credentials: {secret: git}}
";
    assert!(text(values).contains("value: git,more,slack,keys,all,volume,projected\n"), "{}", text(values));
    assert!(!text("").contains("OPSY_OWN_SECRETS"));
}

#[test]
fn the_network_policy_lets_deliveries_in_where_they_are_received() {
    let ports = |values: &str| {
        let documents = text(values);
        let policy = documents.split("\n---\n").find(|document| document.contains("kind: NetworkPolicy"));
        let policy: Value = serde_saphyr::from_str(policy.expect("a policy")).expect("YAML");
        let rules = policy["spec"]["ingress"].as_array().cloned().unwrap_or_default();
        rules.iter().map(|rule| rule["ports"][0]["port"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ports("networkPolicy: {enabled: true}"), ["http"]);
    let both = "{networkPolicy: {enabled: true}, webhook: {enabled: true, secret: hook}}";
    assert_eq!(ports(both), ["http", "webhook"]);
}

#[test]
fn a_narrowed_list_of_secrets_is_not_widened_by_the_rules_of_builds() {
    let rules = |values: &str| {
        let documents: Vec<Value> = text(values)
            .split("\n---\n")
            .map(|document| serde_saphyr::from_str(document).expect("YAML"))
            .collect();
        let rules =
            documents.iter().flat_map(|object| object["rules"].as_array().cloned().unwrap_or_default());
        rules.filter(|rule| rule["resources"] == json!(["secrets"])).collect::<Vec<_>>()
    };
    let unnamed = |values: &str| rules(values).iter().any(|rule| rule["resourceNames"].is_null());
    assert!(unnamed("namespaces: [a, b]"));
    assert!(!unnamed("{namespaces: [a, b], notifications: {secrets: [slack]}}"));
    assert!(!unnamed("allNamespaces: true"));
    let named = rules("{namespaces: [a], builds: {secrets: [aws]}, notifications: {secrets: [slack]}}");
    let names: Vec<_> = named.iter().map(|rule| rule["resourceNames"].clone()).collect();
    assert_eq!(names, [json!(["slack"]), json!(["aws"])], "the named Secrets of builds, for gitSync.secret");
    let alone = rules("{namespaces: [a], notifications: {secrets: [slack]}}");
    assert!(alone.iter().all(|rule| rule["resourceNames"] == json!(["slack"])), "{alone:?}");
}

#[test]
fn wrong_values_are_refused_in_words() {
    for (values, words) in WRONG {
        let outcome = template("opsy", "opsy", &[LEAST, values]);
        assert!(!outcome.status.success(), "{values} is accepted");
        assert!(outcome.stderr.contains(words), "{values}: {outcome:?}");
    }
}

/// Each key of the values has a comment above it, and the schema has the same keys. If it names none, any key is valid.
#[test]
fn the_schema_knows_the_values_and_every_value_has_a_comment() {
    let read = |file: &str| std::fs::read_to_string(chart().join(file)).expect("a file of the chart");
    let text = read("values.yaml");
    let values: Value = serde_saphyr::from_str(&text).expect("YAML");
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    // Keys that Helm and charts that depend on this one add.
    let added = ["global", "enabled"].map(str::to_owned);
    compare("", &values, &schema, &added);

    let keyed = |line: &str| {
        let key = line.trim_start().split(':').next().unwrap_or_default().to_owned();
        (line.contains(':') && !key.is_empty() && key.chars().all(char::is_alphanumeric)).then_some(key)
    };
    let lines: Vec<&str> = text.lines().collect();
    let free = ["podSecurityContext", "securityContext"];
    let mut section = String::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(key) = keyed(line) else { continue };
        let nested = line.starts_with(' ');
        if !nested {
            section = key.clone();
        }
        let commented = number > 0 && lines[number - 1].trim_start().starts_with('#');
        assert!(commented || (nested && free.contains(&section.as_str())), "{key} has no comment");
    }
}

fn compare(path: &str, values: &Value, schema: &Value, added: &[String]) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path} allows no other keys");
    let values = values.as_object().unwrap_or_else(|| panic!("{path} is a map"));
    let known: BTreeSet<&String> = properties.keys().filter(|key| !added.contains(key)).collect();
    assert_eq!(known, values.keys().collect(), "the keys below {path:?}");
    for (key, property) in properties {
        let described = property["description"].as_str().is_some_and(|words| words.ends_with(['.', '/']));
        assert!(described || property["items"].is_object(), "{path}/{key} is described");
        if let Some(value) = values.get(key) {
            compare(&format!("{path}/{key}"), value, property, &[]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_upgraded_and_uninstalled_and_leaves_what_people_made() {
    let place = Place::new().await;
    let (plane, namespace) = (place.plane, place.namespace.as_str());
    let release = format!("images-{namespace}");
    let count = |selector: &str| -> usize {
        let args = ["get", KINDS, "--all-namespaces", "--output=name", "--selector", selector];
        plane.kubectl(&args, "").lines().count()
    };
    let selector = format!("app.kubernetes.io/instance={release}");
    let said = at(plane, "install", &release, namespace, &[LEAST, "{networkPolicy: {enabled: true}}"]);
    assert!(said.contains(opsy::api::INSTALL_DEFINITIONS), "{said}");
    assert!(count(&selector) >= 10, "{}", count(&selector));
    let deployment = format!("deployment/{release}-opsy");
    place.kubectl(&["get", &deployment, &format!("service/{release}-opsy")], "");
    place.kubectl(
        &["apply", "-f", "-"],
        "{apiVersion: ami.opsy.dev/v1alpha1, kind: PackerBuilder, metadata: {name: node}, spec: {region: us-east-1}}",
    );

    at(
        plane,
        "upgrade",
        &release,
        namespace,
        &[LEAST, "{replicas: 1, repo: {interval: 5m}, agentID: platform}"],
    );
    let path =
        "--output=jsonpath={.spec.template.spec.containers[0].env[?(@.name==\"OPSY_INTERVAL\")].value}";
    assert_eq!(place.kubectl(&["get", &deployment, path], ""), "5m");
    for gone in ["poddisruptionbudget", "networkpolicy"] {
        assert_eq!(place.kubectl(&["get", gone, "--selector", &selector, "--output=name"], ""), "");
    }

    at(plane, "uninstall", &release, namespace, &[]);
    // The pods of the Deployment have the labels, too, and end a little later.
    super::until("the release to be gone", super::SOON, async || (count(&selector) == 0).then_some(())).await;
    assert!(place.builder("node").await.is_some(), "definitions and objects stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_do_not_collide() {
    let place = Place::new().await;
    let (plane, a) = (place.plane, empty(&place).await);
    let a = a.as_str();
    let (ab, team) = (format!("{a}-b"), format!("{a}-team"));
    for namespace in [&ab, &team] {
        place.create_namespace(namespace).await;
    }
    // Namespaces and names that are equal once joined, two releases of one namespace, and two of one name. All of them
    // work in a namespace that is not their own.
    let shared = format!("{{namespaces: [{team}], builds: {{namespace: {team}}}}}");
    let releases = [("b-c", a), ("c", &ab), ("opsy", a), ("other", a), ("opsy", &ab)];
    for (release, namespace) in releases {
        at(plane, "install", release, namespace, &[LEAST, &shared]);
    }
    let mut seen = BTreeSet::new();
    let mut leases = BTreeSet::new();
    for (release, namespace) in releases {
        let objects = rendered(plane, release, namespace, &shared);
        for name in names(&objects) {
            assert!(seen.insert(name.clone()), "{name} belongs to another release, too");
        }
        let lease = variable(&objects, "OPSY_LEASE_NAME").expect("a Lease");
        assert!(leases.insert((namespace, lease)), "each release has its own Lease");
    }
    for (release, namespace) in releases {
        at(plane, "uninstall", release, namespace, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_with_view_see_and_people_with_edit_change_where_that_is_wanted() {
    let place = Place::new().await;
    let (plane, namespace) = (place.plane, empty(&place).await);
    let namespace = namespace.as_str();
    for role in ["view", "edit", "admin"] {
        let user = format!("--user={role}-{namespace}");
        let role = format!("--clusterrole={role}");
        plane.kubectl(&["create", "rolebinding", &user[7..], &role, &user, "--namespace", namespace], "");
    }
    let may_do = |who: &str, verb: &str, what: &str, subresource: &str| {
        let user = format!("{who}-{namespace}");
        // It exits with 1 if the answer is no.
        let mut command = Command::new(plane.address("kubectl").as_str().expect("a path"));
        command.arg("--kubeconfig").arg(plane.address("kubeconfig").as_str().expect("a path"));
        command.args(["auth", "can-i", verb, what, "--subresource", subresource]);
        command.args(["--as", &user, "--namespace", namespace]);
        run(command).stdout.starts_with("yes")
    };
    let may = |who: &str, verb: &str, what: &str| may_do(who, verb, what, "");
    at(plane, "install", "opsy", namespace, &[LEAST]);
    super::until("the rights of view", super::SOON, async || {
        may("view", "list", "packerbuilders.ami.opsy.dev").then_some(())
    })
    .await;
    assert!(
        may("edit", "watch", "amirefreshers.ami.opsy.dev")
            && may("admin", "get", "amirefreshers.ami.opsy.dev")
    );
    assert!(!may("view", "patch", "packerbuilders.ami.opsy.dev"));

    at(plane, "upgrade", "opsy", namespace, &[LEAST, "{rbac: {aggregateToEdit: true}}"]);
    super::until("the rights of edit", super::SOON, async || {
        may("edit", "patch", "packerbuilders.ami.opsy.dev").then_some(())
    })
    .await;
    assert!(may("admin", "create", "amirefreshers.ami.opsy.dev"));
    assert!(!may("view", "patch", "packerbuilders.ami.opsy.dev"));
    for who in ["edit", "admin"] {
        assert!(
            !may_do(who, "patch", "packerbuilders.ami.opsy.dev", "status"),
            "only the agent writes status"
        );
    }
    at(plane, "uninstall", "opsy", namespace, &[]);
}

/// Helm packages only files of the chart, including those behind the symbolic link to the definitions.
#[test]
fn a_package_has_the_definitions_and_the_schema() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (chart, to) = (chart(), folder.path().to_str().expect("UTF-8"));
    let outcome = helm(&["package", chart.to_str().expect("UTF-8"), "--destination", to], &[]);
    assert!(outcome.status.success(), "{outcome:?}");
    let package = Path::new(to).join("opsy-0.1.0.tgz");
    let mut tar = Command::new("tar");
    tar.arg("-tzf").arg(package);
    let listed = run(tar).stdout;
    let files: BTreeSet<&str> = listed.lines().collect();
    for file in
        ["crds/packerbuilders.yaml", "crds/amirefreshers.yaml", "values.schema.json", "files/role.yaml"]
    {
        assert!(files.contains(format!("opsy/{file}").as_str()), "{file}: {files:?}");
    }
}
