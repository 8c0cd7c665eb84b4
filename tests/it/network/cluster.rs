//! The API server behind the proxy: how a command uses the environment and the kubeconfig.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::bed::{Network, PASSWORD};
use crate::cluster::Place;
use crate::world::{Outcome, run};

/// A proxy address at which nothing listens.
const DEAD: &str = "http://ann:pr0xy-hunter2@127.0.0.1:1";

/// Writes kubeconfigs for the bed's API server, with other addresses and cluster settings.
struct Server<'a> {
    place: &'a Place,
    folder: tempfile::TempDir,
}

impl Server<'_> {
    fn kubeconfig(&self, server: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let original = self.place.plane.address("kubeconfig").as_str().expect("a path");
        let text = std::fs::read(original).expect("a kubeconfig");
        let mut file: Value = serde_json::from_slice(&text).expect("JSON");
        let cluster = &mut file["clusters"][0]["cluster"];
        cluster["server"] = json!(server);
        // Its certificate is for this name.
        cluster["tls-server-name"] = json!("kubernetes");
        change(cluster);
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, file.to_string()).expect("written");
        path
    }

    /// Runs `opsy status` with these variables.
    async fn status(&self, kubeconfig: &Path, variables: &[(&str, &str)]) -> Outcome {
        let mut opsy = Command::new(env!("CARGO_BIN_EXE_opsy"));
        opsy.args(["status", "--namespace", &self.place.namespace, "--kubeconfig"]).arg(kubeconfig);
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE"] {
            opsy.env_remove(name);
        }
        opsy.envs(variables.iter().copied()).stdin(Stdio::null());
        let outcome = tokio::task::spawn_blocking(move || run(opsy)).await.expect("the command's end");
        let said = format!("{outcome:?}");
        assert!(!said.contains(PASSWORD), "{said}");
        outcome
    }

    async fn works(&self, kubeconfig: &Path, variables: &[(&str, &str)]) {
        let outcome = self.status(kubeconfig, variables).await;
        assert!(outcome.stdout.starts_with("No builders or refreshers"), "{variables:?}: {outcome:?}");
    }

    async fn fails(&self, kubeconfig: &Path, variables: &[(&str, &str)], words: &str) {
        let outcome = self.status(kubeconfig, variables).await;
        assert!(!outcome.status.success() && outcome.stderr.contains(words), "{variables:?}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_reached_as_the_environment_and_the_kubeconfig_say() {
    let place = Place::new().await;
    let network = tokio::task::spawn_blocking(Network::guarded).await.expect("a network");
    let address = place.plane.address("server").as_str().expect("an address").to_owned();
    network.pass("kube.corp.test", 6443, &address);
    let server = Server { place: &place, folder: tempfile::tempdir().expect("a directory") };
    let live = network.proxy_with_credentials();

    let named = server.kubeconfig("https://kube.corp.test:6443", |_| ());
    server.works(&named, &[("HTTPS_PROXY", &live)]).await;
    server.works(&named, &[("https_proxy", &live), ("NO_PROXY", "localhost,corp.test:443,")]).await;
    let journal = network.journal();
    assert!(
        !journal.is_empty() && journal.iter().all(|entry| entry == "kube.corp.test:6443 200"),
        "{journal:?}"
    );
    server
        .fails(&named, &[("HTTPS_PROXY", &network.proxy())], "the proxy asks for credentials (HTTP 407)")
        .await;
    server.fails(&named, &[("HTTPS_PROXY", DEAD)], "the proxy cannot be reached").await;
    server
        .fails(
            &named,
            &[("HTTPS_PROXY", "socks5://127.0.0.1:1")],
            "HTTPS_PROXY is a socks5:// proxy, which is not supported",
        )
        .await;
    network.journal();

    let proxied =
        server.kubeconfig("https://kube.corp.test:6443", |cluster| cluster["proxy-url"] = json!(live));
    server.works(&proxied, &[("HTTPS_PROXY", DEAD), ("NO_PROXY", "*")]).await;
    assert!(!network.journal().is_empty());

    // This machine, at an address that is not loopback, and then at one that is.
    let direct = server.kubeconfig(&address.replace("127.0.0.1", "0.0.0.0"), |_| ());
    server.fails(&direct, &[("HTTPS_PROXY", DEAD)], "the proxy cannot be reached").await;
    server.works(&direct, &[("HTTPS_PROXY", DEAD), ("no_proxy", "10.0.0.0/8, 0.0.0.0")]).await;
    server.works(&server.kubeconfig(&address, |_| ()), &[("HTTPS_PROXY", DEAD)]).await;

    let ca = place.plane.address("ca").as_str().expect("a path");
    let unknown = server.kubeconfig(&address, |cluster| {
        cluster.as_object_mut().expect("an object").remove("certificate-authority-data");
    });
    server.fails(&unknown, &[], "--ca-file").await;
    server.works(&unknown, &[("OPSY_CA_FILE", ca)]).await;
    assert!(network.journal().is_empty());
}
