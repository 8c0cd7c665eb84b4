//! The HTTP client of all SDK clients. Proxies are those of the environment, but never for what is on the
//! machine or beside it: credentials of a pod or an instance come from link-local addresses, which no proxy
//! reaches, and which must not be shown to one.

use std::net::IpAddr;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// Clients share connections and proxies by it.
pub(super) fn client() -> SharedHttpClient {
    SharedHttpClient::new(Split { near: through(ProxyConfig::disabled), far: through(ProxyConfig::from_env) })
}

fn through(proxy: fn() -> ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(proxy()));
        connector.build()
    })
}

/// Two ways: `near` by no proxy, `far` by that of the environment.
#[derive(Debug)]
struct Split<T> {
    near: T,
    far: T,
}

impl HttpClient for Split<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let of = |client: &SharedHttpClient| client.http_connector(settings, components);
        SharedHttpConnector::new(Split { near: of(&self.near), far: of(&self.far) })
    }
}

impl HttpConnector for Split<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let way = if is_near(host(request.uri())) { &self.near } else { &self.far };
        way.call(request)
    }
}

/// Host of an address, without its port.
fn host(url: &str) -> &str {
    let authority = super::clients::host(url);
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// This machine, or the services that AWS puts beside it: instance metadata, ECS, EKS Pod Identity.
fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.segments()[..2] == [0xfd00, 0x0ec2],
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_pods_and_instances_go_by_no_proxy() {
        for url in [
            "http://169.254.169.254/latest/meta-data/",
            "http://169.254.170.2/v2/credentials/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fd00:ec2::254]:80/latest",
            "http://127.0.0.1:5000",
            "http://localhost:4566/",
        ] {
            assert!(is_near(host(url)), "{url}");
        }
        for url in ["https://ec2.us-east-1.amazonaws.com/", "http://10.0.0.1:8080", "https://169.255.0.1"] {
            assert!(!is_near(host(url)), "{url}");
        }
    }
}
