//! A real control plane, and for each test a namespace with the chart's own Role: no test can do what the chart does
//! not allow.

mod account;
mod chart;
mod check;
mod commands;
mod drains;
mod helm;
mod lease;
mod live;
mod namespaces;
mod nodes;
mod objects;
mod outages;
mod refusals;
mod replicas;
mod rivals;
mod rules;
mod runs;
mod scale;
mod secrets;
mod slow;
mod told;
mod webhook;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Api, Client, Config, ResourceExt};
use opsy::api::schema;
use opsy::engine::kubernetes::{Cluster, Scope};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub use chart::{rules, rules_of};

/// Building the control plane takes minutes the first time; starting it, seconds.
const START: Duration = Duration::from_secs(900);
/// Deadline for anything on a control plane without outages.
pub const SOON: Duration = Duration::from_secs(30);
/// A token outlives the tests.
const TOKEN_SECONDS: i64 = 3600 * 6;

/// A control plane: a running one that is found by its address file, or one that starts and ends with this test binary.
pub struct ControlPlane {
    address: Value,
    child: Option<Mutex<Child>>,
}

/// Ends a control plane when it is dropped.
pub struct Ends(&'static ControlPlane);

impl Drop for Ends {
    fn drop(&mut self) {
        let child = self.0.child.as_ref().and_then(|child| child.lock().ok());
        if let Some(mut child) = child {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl ControlPlane {
    /// The control plane that all tests share. `OPSY_BED_CLUSTER` names the address file of a running one.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let plane = match std::env::var_os("OPSY_BED_CLUSTER") {
                    Some(file) => Self { address: read(Path::new(&file)), child: None },
                    None => Self::start().await,
                };
                plane.install_definitions().await;
                plane
            })
            .await
    }

    /// A separate control plane that ends with the test, because an idle one uses CPU time and half a gigabyte of memory.
    pub async fn own() -> (&'static Self, Ends) {
        let plane: &'static Self = Box::leak(Box::new(Self::start().await));
        (plane, Ends(plane))
    }

    /// A separate control plane, for tests that stop or change parts of it.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A separate control plane, with further arguments to the bed.
    pub async fn start_with(args: &[&std::ffi::OsStr]) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory").keep();
        let (send, receive) = tokio::sync::oneshot::channel();
        let file = scratch.join("address.json");
        let mut command = Command::new(root().join("tests/bed/controlplane/up"));
        command.args(["--die-with-parent", "--dir"]).arg(scratch.join("data"));
        command.arg("--address-file").arg(&file).args(args).stdout(Stdio::null());
        // A process with --die-with-parent ends with the thread that started it, so that this thread must stay.
        std::thread::spawn(move || {
            send.send(command.spawn()).expect("a test waits for it");
            loop {
                std::thread::park();
            }
        });
        let child = receive.await.expect("the thread runs").expect("the control plane starts");
        until("the control plane", START, async || file.exists().then_some(())).await;
        Self { address: read(&file), child: Some(Mutex::new(child)) }
    }

    pub async fn install_definitions(&self) {
        for (_, definition) in schema::crds() {
            self.install(definition).await;
        }
    }

    /// Installs a definition and waits until it is served.
    pub async fn install(&self, definition: &Value) {
        let name = definition["metadata"]["name"].as_str().expect("a name");
        let api: Api<DynamicObject> = Api::all_with(self.admin().await, &definitions());
        let params = PatchParams::apply("tests").force();
        let mut definition = definition.clone();
        definition["apiVersion"] = json!("apiextensions.k8s.io/v1");
        definition["kind"] = json!("CustomResourceDefinition");
        api.patch(name, &params, &Patch::Apply(&definition)).await.expect("the definition is applied");
        let plural = definition["spec"]["names"]["plural"].as_str().expect("a plural").to_owned();
        let admin = self.admin().await;
        until("the definition", SOON, async || {
            let all = format!("/apis/ami.opsy.dev/v1alpha1/{plural}");
            let request = http::Request::get(all).body(Vec::new()).expect("a request");
            admin.request_text(request).await.ok()
        })
        .await;
    }

    /// Deletes a definition with all its objects, and waits until it is gone.
    pub async fn uninstall(&self, name: &str) {
        let api: Api<DynamicObject> = Api::all_with(self.admin().await, &definitions());
        api.delete(name, &Default::default()).await.expect("the definition is deleted");
        until("the definition to be deleted", SOON, async || {
            api.get_opt(name).await.expect("the API server answers").is_none().then_some(())
        })
        .await;
    }

    /// A value of the address file.
    pub fn address(&self, key: &str) -> &Value {
        &self.address[key]
    }

    /// A client with all rights.
    pub async fn admin(&self) -> Client {
        Client::try_from(self.config().await).expect("a client")
    }

    async fn config(&self) -> Config {
        let file =
            Kubeconfig::read_from(self.address["kubeconfig"].as_str().expect("a path")).expect("a file");
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a configuration")
    }

    /// Makes the bed act on a component, as in `apiserver/stop`.
    pub fn act(&self, what: &str) {
        let url = format!("{}/_bed/{what}", self.address["control"].as_str().expect("an address"));
        ureq::post(&url).send_empty().unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// kubectl, as cluster admin.
    pub fn kubectl(&self, args: &[&str], input: &str) -> String {
        use std::io::Write;
        let mut command = Command::new(self.address["kubectl"].as_str().expect("a path"));
        command.arg("--kubeconfig").arg(self.address["kubeconfig"].as_str().expect("a path")).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("kubectl reads");
        let output = child.wait_with_output().expect("kubectl ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A namespace with a ServiceAccount that has the chart's Role.
pub struct Place {
    pub namespace: String,
    pub plane: &'static ControlPlane,
    pub admin: Client,
}

impl Place {
    /// A namespace on the shared control plane.
    pub async fn new() -> Self {
        Self::on(ControlPlane::shared().await).await
    }

    pub async fn on(plane: &'static ControlPlane) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = Self {
            namespace: format!("t{}-{number}", std::process::id()),
            plane,
            admin: plane.admin().await,
        };
        place.create_namespace(&place.namespace).await;
        let account = json!({"metadata": {"name": "opsy"}});
        let accounts: Api<ServiceAccount> = Api::namespaced(place.admin.clone(), &place.namespace);
        let account = serde_json::from_value(account).expect("an account");
        accounts.create(&PostParams::default(), &account).await.expect("an account");
        place.allow(&place.namespace, |_| true).await;
        place
    }

    pub async fn create_namespace(&self, name: &str) {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
    }

    /// Gives the account only those rules of the chart's Role, one for each resource and verb, that `wanted` selects.
    pub async fn allow(&self, namespace: &str, wanted: impl Fn(&(String, String)) -> bool) {
        let rules: Vec<PolicyRule> =
            rules().into_iter().filter(|(name, _)| wanted(name)).map(|(_, rule)| rule).collect();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "opsy"}, "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "opsy"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "opsy"},
            "subjects": [{"kind": "ServiceAccount", "name": "opsy", "namespace": self.namespace}],
        });
        let params = PatchParams::apply("tests").force();
        let roles: Api<Role> = Api::namespaced(self.admin.clone(), namespace);
        roles.patch("opsy", &params, &Patch::Apply(&role)).await.expect("a role");
        let bindings: Api<RoleBinding> = Api::namespaced(self.admin.clone(), namespace);
        bindings.patch("opsy", &params, &Patch::Apply(&binding)).await.expect("a binding");
    }

    /// The agent's connection, and a record of its requests.
    pub async fn cluster(&self, scope: Scope) -> (Cluster, Requests) {
        self.cluster_at(scope, None).await
    }

    /// As `cluster`, with another address of the API server.
    pub async fn cluster_at(&self, scope: Scope, address: Option<&str>) -> (Cluster, Requests) {
        let mut config = self.plane.config().await;
        if let Some(address) = address {
            config.cluster_url = address.parse().expect("an address");
        }
        config.auth_info =
            kube::config::AuthInfo { token: Some(self.token().await.into()), ..Default::default() };
        let requests = Requests::default();
        let note = requests.0.clone();
        let layer = tower::util::MapRequestLayer::new(move |request: http::Request<kube::client::Body>| {
            let line = format!("{} {}", request.method(), request.uri());
            note.lock().expect("no test panics while it records").push(line);
            request
        });
        let denied = requests.1.clone();
        let answers = tower::util::MapResponseLayer::new(move |answer: http::Response<_>| {
            if answer.status() == http::StatusCode::FORBIDDEN {
                denied.fetch_add(1, Ordering::Relaxed);
            }
            answer
        });
        let client = ClientBuilder::try_from(config)
            .expect("a client")
            .with_layer(&layer)
            .with_layer(&answers)
            .build();
        (Cluster { client, namespace: self.namespace.clone(), scope }, requests)
    }

    /// A token of the account.
    async fn token(&self) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), &self.namespace);
        let wanted = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..Default::default() },
            ..Default::default()
        };
        let made = accounts.create_token_request("opsy", &PostParams::default(), &wanted).await;
        made.expect("a token").status.expect("a token").token
    }

    /// The scope of this namespace alone.
    pub fn scope(&self) -> Scope {
        Scope::Namespaces(vec![self.namespace.clone()])
    }

    /// The builders of this namespace, as the API server stores them.
    pub fn builders(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.admin.clone(), &self.namespace, &builder_resource())
    }

    pub async fn builder(&self, name: &str) -> Option<DynamicObject> {
        self.builders().get_opt(name).await.expect("the API server answers")
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, args: &[&str], input: &str) -> String {
        self.plane.kubectl(&[&["--namespace", &self.namespace], args].concat(), input)
    }
}

/// Requests, as `METHOD path?query`.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>);

impl Requests {
    /// Requests since the last call, without gets, lists and watches.
    pub fn writes(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.0.lock().expect("no test panics while it records"));
        all.into_iter().filter(|line| !line.starts_with("GET ")).collect()
    }

    /// Returns whether such a request was sent since the record was last cleared.
    pub fn has(&self, method: &str, path: &str) -> bool {
        let all = self.0.lock().expect("no test panics while it records");
        all.iter().any(|line| line.starts_with(method) && line.contains(path))
    }

    /// Number of requests that were forbidden.
    pub fn denied(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }

    /// All requests since the last call.
    pub fn all(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no test panics while it records"))
    }
}

/// A definition that validates nothing: objects that the operator stored may not fit Opsy's definition.
pub fn lax(definition: &Value) -> Value {
    let mut lax = definition.clone();
    let fields = &mut lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for part in ["spec", "status"] {
        fields[part] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    lax
}

pub fn builder_resource() -> ApiResource {
    ApiResource::erase::<opsy::api::PackerBuilder>(&())
}

fn definitions() -> ApiResource {
    ApiResource {
        group: "apiextensions.k8s.io".into(),
        version: "v1".into(),
        api_version: "apiextensions.k8s.io/v1".into(),
        kind: "CustomResourceDefinition".into(),
        plural: "customresourcedefinitions".into(),
    }
}

/// Waits until `look` returns a value, and panics after `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < limit, "timed out after {limit:?} waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The value of a label of an object.
pub fn label(object: &DynamicObject, name: &str) -> Option<String> {
    object.labels().get(name).cloned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).expect("an address file")).expect("JSON")
}
