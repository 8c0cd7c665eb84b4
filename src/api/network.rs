//! How the agent reaches other systems: proxies, certificate authorities that are trusted in addition to those of the
//! system, and the remedy if one of them prevents a connection. Pure: `settings` reads both.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::proxy::Proxies;

/// How other systems are reached. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Network {
    pub proxies: Proxies,
    pub authorities: Option<Authorities>,
    /// `SSL_CERT_FILE` is set, and builds on this machine inherit it.
    pub has_cert_file: bool,
}

impl Network {
    /// Returns the variable that makes builds on this machine trust the same authorities, or `None` if they inherit it.
    /// Programs written in Go and those that use OpenSSL also read the certificate directory of the system.
    pub fn build_variable(&self) -> Option<(&'static str, String)> {
        let authorities = self.authorities.as_ref().filter(|_| !self.has_cert_file)?;
        Some((CERT_FILE, authorities.file().to_string_lossy().into_owned()))
    }
}

/// The variable that names a file of certificate authorities.
pub const CERT_FILE: &str = "SSL_CERT_FILE";

/// The certificate authorities of `--ca-file`, all of them valid. Cheap to clone.
#[derive(Clone)]
pub struct Authorities(Arc<Inner>);

struct Inner {
    file: PathBuf,
    pem: String,
    ders: Vec<Vec<u8>>,
}

impl Authorities {
    /// `pem` contains the certificates and nothing else, and `ders` the same certificates in DER.
    pub fn new(file: PathBuf, pem: String, ders: Vec<Vec<u8>>) -> Self {
        Self(Arc::new(Inner { file, pem, ders }))
    }

    /// Returns the absolute path of the file that they were read from.
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// Returns the certificates, without anything else that the file contains.
    pub fn pem(&self) -> &str {
        &self.0.pem
    }

    /// Returns the certificates in DER.
    pub fn ders(&self) -> &[Vec<u8>] {
        &self.0.ders
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.file.display())
    }
}

/// What to do about a certificate of an unknown authority.
pub const TRUST: &str = "its certificate is not signed by a trusted authority: pass the authority's certificates \
                         with --ca-file (OPSY_CA_FILE)";
/// What to do about a proxy that responds with 407.
pub const AUTHENTICATE: &str = "the proxy asks for credentials (HTTP 407): set the user and password in \
                                HTTPS_PROXY, for example http://user:password@proxy.example.com:3128";
/// What to do about a proxy that refuses the connection.
pub const REFUSED: &str = "the proxy refuses to connect to it: allow it in the proxy, or add it to NO_PROXY if it can be \
                       reached without a proxy";
const AWAY: &str = "the proxy cannot be reached: check HTTPS_PROXY, or add the server to NO_PROXY if it can be \
                    reached without a proxy";

/// Returns what prevents a connection and the remedy, from the text of an error and its causes. All HTTP clients except
/// libgit2 use the libraries hyper-util and rustls, which have these messages.
pub fn advice(error: &str) -> Option<&'static str> {
    let table = [
        ("UnknownIssuer", TRUST),
        ("tunnel error: proxy authorization required", AUTHENTICATE),
        ("tunnel error: failed to create underlying connection", AWAY),
        ("tunnel error", REFUSED),
    ];
    table.into_iter().find(|(words, _)| error.contains(words)).map(|(_, advice)| advice)
}
