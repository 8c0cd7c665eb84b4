//! Proxy and certificate authorities of the connection to the API server.
//!
//! kube reads a proxy only from a kubeconfig, and compares `NO_PROXY` with the proxy instead of the server. Therefore
//! both are decided here.

use kube::Config;
use kube::config::Kubeconfig;

use super::ConnectError;
use crate::api::network::{Authorities, Network};
use crate::api::proxy::Proxy;

/// Set as the proxy, it keeps kube from reading the environment. Nothing connects to it.
const PLACEHOLDER: &str = "http://proxy.invalid";

/// Removes the proxies from a kubeconfig, and returns that of the context's cluster.
pub(super) fn take_proxy(file: &mut Kubeconfig, context: Option<&str>) -> Option<String> {
    let context = context.or(file.current_context.as_deref());
    let context = file.contexts.iter().find(|named| Some(named.name.as_str()) == context);
    let name = context.and_then(|named| Some(named.context.as_ref()?.cluster.clone()));
    let mut found = None;
    for named in &mut file.clusters {
        let Some(cluster) = &mut named.cluster else { continue };
        let proxy = cluster.proxy_url.replace(PLACEHOLDER.to_owned());
        if Some(&named.name) == name.as_ref() {
            found = proxy.filter(|proxy| !proxy.trim().is_empty());
        }
    }
    found
}

/// Sets proxy and authorities of a connection. A proxy of the kubeconfig takes precedence over those of the
/// environment, and `NO_PROXY` does not apply to it.
pub(super) fn prepare(
    config: &mut Config,
    named: Option<String>,
    network: &Network,
) -> Result<(), ConnectError> {
    trust(config, network.authorities.as_ref());
    let server = config.cluster_url.to_string();
    let named = named.map(|text| Proxy::parse("proxy-url of the kubeconfig", &text)).transpose();
    let named = named.map_err(ConnectError::Proxy)?;
    let proxy = named.as_ref().or_else(|| network.proxies.of(&server));
    if let Some(proxy) = proxy {
        check(proxy, config)?;
        tracing::info!(%proxy, server, "the API server is reached through a proxy");
    }
    let url = proxy.map(|proxy| proxy.secret_url().parse()).transpose();
    config.proxy_url = url.map_err(|_| ConnectError::Proxy("the proxy is not a valid address".to_owned()))?;
    Ok(())
}

/// Refuses an encrypted proxy: kube would verify its certificate with the cluster's own authority.
fn check(proxy: &Proxy, config: &Config) -> Result<(), ConnectError> {
    if proxy.is_encrypted() && config.root_cert.is_some() {
        return Err(ConnectError::Proxy(format!(
            "the proxy {proxy} uses https://, but the API server can be reached only through an http:// proxy; if no \
             proxy is needed to reach it, add its host to NO_PROXY"
        )));
    }
    Ok(())
}

/// Adds the authorities of the flags. A cluster that names its own authority is verified with that one alone.
fn trust(config: &mut Config, authorities: Option<&Authorities>) {
    let Some(authorities) = authorities else { return };
    if config.root_cert.is_some() || config.accept_invalid_certs {
        return;
    }
    let system = rustls_native_certs::load_native_certs().certs;
    let valid = system.into_iter().filter(|der| rustls::RootCertStore::empty().add(der.clone()).is_ok());
    let system = valid.map(|der| der.to_vec());
    config.root_cert = Some(system.chain(authorities.ders().iter().cloned()).collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proxy::Proxies;

    const KUBECONFIG: &str = "
current-context: a
contexts:
- {name: a, context: {cluster: a}}
- {name: b, context: {cluster: b}}
clusters:
- {name: a, cluster: {server: 'https://a.test', proxy-url: 'http://ann:hunter2@p:1'}}
- {name: b, cluster: {server: 'https://b.test'}}
";

    fn network(no_proxy: &'static str) -> Network {
        let variable = move |name: &str| match name {
            "HTTPS_PROXY" => Some("http://ann:hunter2@env:2".to_owned()),
            "NO_PROXY" => Some(no_proxy.to_owned()),
            _ => None,
        };
        Network { proxies: Proxies::read(variable).expect("proxies"), ..Network::default() }
    }

    fn proxy(context: Option<&str>, no_proxy: &'static str) -> Option<String> {
        let mut file = Kubeconfig::from_yaml(KUBECONFIG).expect("a kubeconfig");
        let named = take_proxy(&mut file, context);
        let server = if context == Some("b") { "https://b.test:6443" } else { "https://a.test" };
        let mut config = Config::new(server.parse().expect("a URL"));
        prepare(&mut config, named, &network(no_proxy)).expect("prepared");
        config.proxy_url.map(|url| url.to_string())
    }

    #[test]
    fn the_server_and_not_the_proxy_is_compared_with_no_proxy() {
        assert_eq!(proxy(Some("b"), "env").as_deref(), Some("http://ann:hunter2@env:2/"));
        assert_eq!(proxy(Some("b"), "b.test"), None);
        assert_eq!(proxy(Some("b"), "b.test:443").as_deref(), Some("http://ann:hunter2@env:2/"));
    }

    #[test]
    fn the_proxy_of_the_kubeconfig_takes_precedence() {
        assert_eq!(proxy(None, "*").as_deref(), Some("http://ann:hunter2@p:1/"));
        assert_eq!(proxy(Some("a"), "").as_deref(), Some("http://ann:hunter2@p:1/"));
    }

    #[test]
    fn the_error_about_an_unusable_proxy_does_not_contain_its_credentials() {
        for url in ["socks5://ann:hunter2@p:1", "https://ann:hunter2@p:1"] {
            let mut config = Config::new("https://a.test".parse().expect("a URL"));
            config.root_cert = Some(Vec::new());
            let error = prepare(&mut config, Some(url.to_owned()), &Network::default()).expect_err("refused");
            let words = error.to_string();
            assert!(words.contains("http://") && !words.contains("hunter2"), "{words}");
        }
    }
}
