//! The HTTP client of all SDK clients: one connection path without a proxy, and one through each proxy of the
//! environment. `api::proxy` selects the path of each request.

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use super::AwsError;
use crate::api::Class;
use crate::api::network::{Authorities, Network};
use crate::api::proxy::{Proxies, Proxy};

/// Creates the client. All SDK clients share its connections and proxies.
///
/// # Errors
/// The SDK's client does not accept a proxy.
pub(super) fn client(network: &Network) -> Result<SharedHttpClient, AwsError> {
    let tls = trust(network.authorities.as_ref())?;
    let mut ways = Ways {
        proxies: network.proxies.clone(),
        direct: way(ProxyConfig::disabled(), &tls),
        through: Vec::new(),
    };
    for proxy in [network.proxies.http(), network.proxies.https()].into_iter().flatten() {
        if ways.through.iter().all(|(known, _)| known != proxy) {
            let config = ProxyConfig::all(proxy.secret_url());
            let config = config.map_err(|_| invalid(format!("the proxy {proxy} cannot be used")))?;
            ways.through.push((proxy.clone(), way(config, &tls)));
        }
    }
    Ok(SharedHttpClient::new(ways))
}

fn invalid(words: String) -> AwsError {
    AwsError::new(Class::Invalid, "aws", words)
}

/// Trusts the authorities of the system and these.
fn trust(authorities: Option<&Authorities>) -> Result<TlsContext, AwsError> {
    let mut store = TrustStore::default();
    if let Some(authorities) = authorities {
        store.add_pem_certificate(authorities.pem());
    }
    let context = TlsContext::builder().with_trust_store(store).build();
    context.map_err(|error| invalid(format!("the certificate authorities cannot be used: {error}")))
}

fn way(proxy: ProxyConfig, tls: &TlsContext) -> SharedHttpClient {
    let tls = tls.clone();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(proxy.clone()));
        connector.tls_context(tls.clone()).build()
    })
}

/// All connection paths.
#[derive(Debug)]
struct Ways<T> {
    proxies: Proxies,
    direct: T,
    through: Vec<(Proxy, T)>,
}

impl<T> Ways<T> {
    /// Returns the connection path of a request to this URL.
    fn of(&self, url: &str) -> &T {
        let proxy = self.proxies.of(url);
        let through = self.through.iter().find(|(known, _)| Some(known) == proxy);
        through.map_or(&self.direct, |(_, way)| way)
    }
}

impl HttpClient for Ways<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let of = |client: &SharedHttpClient| client.http_connector(settings, components);
        let through = self.through.iter().map(|(proxy, way)| (proxy.clone(), of(way))).collect();
        SharedHttpConnector::new(Ways { proxies: self.proxies.clone(), direct: of(&self.direct), through })
    }
}

impl HttpConnector for Ways<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.of(request.uri()).call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_takes_the_way_of_its_scheme_and_credentials_of_pods_none() {
        let variables = |name: &str| match name {
            "HTTP_PROXY" => Some("http://a:1".to_owned()),
            "HTTPS_PROXY" => Some("http://b:2".to_owned()),
            _ => None,
        };
        let proxies = Proxies::read(variables).expect("proxies");
        let both = [proxies.http(), proxies.https()].into_iter().flatten();
        let through = both.map(|proxy| (proxy.clone(), proxy.to_string())).collect();
        let ways = Ways { proxies: proxies.clone(), direct: "direct".to_owned(), through };
        assert_eq!(ways.of("https://ec2.us-east-1.amazonaws.com/"), "http://b:2");
        assert_eq!(ways.of("http://sns.internal/"), "http://a:1");
        assert_eq!(ways.of("http://169.254.170.23/v1/credentials"), "direct");
    }
}
