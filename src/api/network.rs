//! How the agent reaches what is outside: proxies, certificate authorities that are trusted in addition to
//! the system's, and what to do when one of them stands in the way. Pure: `settings` reads both.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::proxy::Proxies;

/// How the outside is reached. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Network {
    pub proxies: Proxies,
    pub authorities: Option<Authorities>,
    /// `SSL_CERT_FILE` is set: builds on this machine inherit it.
    pub has_cert_file: bool,
}

impl Network {
    /// The variable by which builds on this machine trust the same authorities; none where they inherit it.
    /// Programs written in Go and those that use OpenSSL read the system's folder of certificates beside it.
    pub fn build_variable(&self) -> Option<(&'static str, String)> {
        let authorities = self.authorities.as_ref().filter(|_| !self.has_cert_file)?;
        Some((CERT_FILE, authorities.file().to_string_lossy().into_owned()))
    }
}

/// Names a file of certificate authorities.
pub const CERT_FILE: &str = "SSL_CERT_FILE";

/// Certificate authorities of `--ca-file`, each of them valid. Cheap to clone.
#[derive(Clone)]
pub struct Authorities(Arc<Inner>);

struct Inner {
    file: PathBuf,
    pem: String,
    ders: Vec<Vec<u8>>,
}

impl Authorities {
    /// `pem` holds the certificates alone, `ders` the same ones.
    pub fn new(file: PathBuf, pem: String, ders: Vec<Vec<u8>>) -> Self {
        Self(Arc::new(Inner { file, pem, ders }))
    }

    /// The file they were read from, absolute.
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// The certificates, and nothing else that is in the file.
    pub fn pem(&self) -> &str {
        &self.0.pem
    }

    /// The certificates in DER.
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
pub const TRUST: &str = "its certificate is not signed by a trusted authority: name the authority's certificates in \
                         --ca-file (OPSY_CA_FILE)";
/// What to do about a proxy that answers 407.
pub const AUTHENTICATE: &str = "the proxy asks for credentials (HTTP 407): write user and password into HTTPS_PROXY, \
                                as in http://user:password@proxy.example.com:3128";
/// What to do about a proxy that refuses.
pub const REFUSED: &str = "the proxy does not connect to it: allow it there, or name it in NO_PROXY if it is reached \
                       without a proxy";
const AWAY: &str = "the proxy cannot be reached: check HTTPS_PROXY, or name the server in NO_PROXY if it is reached \
                    without a proxy";

/// What stands in the way, and what to do, by an error's words with those of its causes. All HTTP clients but
/// libgit2 are made of the same two libraries, hyper-util and rustls: these are their words.
pub fn advice(error: &str) -> Option<&'static str> {
    let table = [
        ("UnknownIssuer", TRUST),
        ("tunnel error: proxy authorization required", AUTHENTICATE),
        ("tunnel error: failed to create underlying connection", AWAY),
        ("tunnel error", REFUSED),
    ];
    table.into_iter().find(|(words, _)| error.contains(words)).map(|(_, advice)| advice)
}
