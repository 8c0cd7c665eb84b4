//! Network settings: the proxies in the environment, and the file with additional certificate authorities.

use std::path::{Path, PathBuf};

use clap::Args;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::api::network::{Authorities, CERT_FILE, Network};
use crate::api::proxy::Proxies;

/// The lines at the beginning and the end of a certificate in a PEM file.
const CERTIFICATE: (&str, &str) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
/// Build pods receive the file in a ConfigMap, which limits its size. All public authorities together have 230 kB.
const MOST_BYTES: u64 = 512 * 1024;

/// Flags for the network. The variables `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are read, too.
#[derive(Args, Clone, Debug, Default)]
pub struct NetworkFlags {
    /// Trust the certificate authorities in this PEM file in addition to those of the system
    #[arg(long, env = "OPSY_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl NetworkFlags {
    /// Reads the variables and the file.
    ///
    /// # Errors
    /// A variable or the file is not valid. The error says what it must be.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn read(&self) -> Result<Network, String> {
        let proxies = Proxies::read(|name| std::env::var(name).ok())?;
        let authorities = self.ca_file.as_deref().map(authorities).transpose()?;
        let has_cert_file = std::env::var_os(CERT_FILE).is_some_and(|file| !file.is_empty());
        Ok(Network { proxies, authorities, has_cert_file })
    }
}

fn authorities(file: &Path) -> Result<Authorities, String> {
    let failed = |why: String| format!("--ca-file {}: {why}", file.display());
    let file = std::path::absolute(file).map_err(|error| failed(error.to_string()))?;
    let size = std::fs::metadata(&file).map_err(|error| failed(error.to_string()))?.len();
    if size > MOST_BYTES {
        return Err(failed(format!(
            "has {size} bytes, more than {MOST_BYTES}: include only your own authorities"
        )));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| failed(error.to_string()))?;
    let (pem, ders) = certificates(&text).map_err(failed)?;
    Ok(Authorities::new(file, pem, ders))
}

/// Returns the certificates of a PEM file after checking that each can be a certificate authority. Ignores everything
/// else in the file, such as a private key.
fn certificates(text: &str) -> Result<(String, Vec<Vec<u8>>), String> {
    let (begin, end) = CERTIFICATE;
    let mut pem = String::new();
    for part in text.split(begin).skip(1) {
        let Some((body, _)) = part.split_once(end) else {
            return Err(format!("holds a certificate without {end}"));
        };
        pem.push_str(&format!("{begin}{body}{end}\n"));
    }
    if pem.is_empty() {
        return Err(format!("holds no certificate: it must be a PEM file with {begin}"));
    }
    let mut ders = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let number = ders.len() + 1;
        let invalid = |error: &dyn std::fmt::Display| format!("certificate {number} is not valid: {error}");
        let der = der.map_err(|error| invalid(&error))?;
        RootCertStore::empty().add(der.clone()).map_err(|error| invalid(&error))?;
        ders.push(der.to_vec());
    }
    Ok((pem, ders))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate authority that was created for this test and is valid for a hundred years.
    const AUTHORITY: &str = include_str!("network/authority.pem");

    #[test]
    fn nothing_but_certificates_is_taken_from_the_file() {
        let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        let text = format!("# ours\n{AUTHORITY}{key}# again\n{AUTHORITY}");
        let (pem, ders) = certificates(&text).expect("certificates");
        assert_eq!(ders.len(), 2);
        assert!(!pem.contains("c2VjcmV0") && !pem.contains('#') && pem.matches(CERTIFICATE.0).count() == 2);
    }

    #[test]
    fn a_file_that_cannot_be_trusted_is_explained() {
        let (begin, end) = CERTIFICATE;
        for (text, words) in [
            (String::new(), "holds no certificate"),
            (format!("{begin}\nYQ==\n"), "without"),
            (format!("{begin}\nYQ==\n{end}\n"), "certificate 1 is not valid"),
            (format!("{AUTHORITY}{begin}\n!\n{end}\n"), "certificate 2 is not valid"),
        ] {
            let error = certificates(&text).expect_err("refused");
            assert!(error.contains(words), "{error}");
        }
        let error = authorities(Path::new("/nowhere/ca.pem")).expect_err("refused");
        assert!(error.starts_with("--ca-file /nowhere/ca.pem: No such file"), "{error}");
    }
}
