//! Which addresses messages may be sent to, and health checks may ask. The author of a Secret or of a manifest chooses
//! the address, so addresses of services for the machine itself are refused, also if a name resolves to one: metadata
//! services and other link-local addresses. Private addresses are allowed, because many companies receive webhooks in
//! their own networks.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, redirect};

use crate::api::network::{Authorities, Network};

/// Why an address is refused.
pub const REFUSED: &str = "link-local addresses and metadata services are not allowed";
/// EC2's instance metadata service over IPv6. Over IPv4 its address is link-local.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// The network of AWS services for an instance and its pods: `fd00:ec2::/32`.
const AWS_LOCAL: [u16; 2] = [METADATA.segments()[0], METADATA.segments()[1]];

/// Returns whether nothing must be sent to this address.
pub fn is_refused(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_refused(IpAddr::V4(ip)),
            None => {
                let segments = ip.segments();
                ip.is_unicast_link_local()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || segments[..2] == AWS_LOCAL
            }
        },
    }
}

/// Returns the builder of a client for such addresses: without redirects and with time limits for the connection and for
/// the whole request.
///
/// # Errors
/// The certificate authorities cannot be used.
pub fn client(
    network: &Network,
    connect: Duration,
    whole: Duration,
) -> Result<ClientBuilder, reqwest::Error> {
    let proxies = network.proxies.clone();
    let ders = network.authorities.iter().flat_map(Authorities::ders);
    let authorities: Vec<_> = ders.map(|der| Certificate::from_der(der)).collect::<Result<_, _>>()?;
    Ok(Client::builder()
        .user_agent(concat!("opsy/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .timeout(whole)
        .redirect(redirect::Policy::none())
        .referer(false)
        .proxy(Proxy::custom(move |url| proxies.of(url.as_str()).map(|proxy| proxy.secret_url().to_owned())))
        .tls_certs_merge(authorities)
        .dns_resolver(Arc::new(Resolver)))
}

/// Resolves names, without the addresses that are refused.
#[derive(Debug)]
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|address| !is_refused(address.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(REFUSED.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_never_goes_to_the_machines_own_services() {
        let refused = |ip: &str| is_refused(ip.parse().expect("an address"));
        for ip in
            ["169.254.169.254", "169.254.170.2", "fe80::1", "fd00:ec2::254", "fd00:ec2::23", "0.0.0.0", "::"]
        {
            assert!(refused(ip), "{ip}");
        }
        assert!(refused("::ffff:169.254.169.254"), "also as an IPv4-mapped address");
        for ip in ["10.1.2.3", "192.168.0.1", "127.0.0.1", "::1", "fd12::1", "203.0.113.9", "2001:db8::1"] {
            assert!(!refused(ip), "{ip}");
        }
    }
}
