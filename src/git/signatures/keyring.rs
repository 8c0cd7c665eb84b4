//! The trusted keys, and the verification of a commit with them. Pure.

use jiff::Timestamp;

use super::allowed::{self, Signer};
use super::openpgp::{self, BLOCK, Certificate};
use super::refusal::Refusal;
use super::signed;
use super::ssh;
use super::times::Times;

/// The keys that may sign commits.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    pub ssh: Vec<Signer>,
    pub openpgp: Vec<Certificate>,
}

impl Keyring {
    /// Adds the keys of a file: lines of Git's allowed signers, armored OpenPGP public keys, or both.
    ///
    /// # Errors
    /// If a line is invalid. A file with an invalid line is not trusted at all, because the line could be meant as a
    /// restriction.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let mut block: Option<(usize, String)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let at = |number: usize, why: String| format!("line {number} {why}");
            let (begin, end) = BLOCK;
            if line.contains("PRIVATE KEY") && line.starts_with("-----BEGIN") {
                return Err(at(number, "begins a private key; use a file of public keys".to_owned()));
            }
            if let Some((first, armored)) = &mut block {
                armored.push_str(line);
                armored.push('\n');
                if line.trim_end() == end {
                    let found = Certificate::parse(armored).map_err(|why| at(*first, why))?;
                    self.openpgp.extend(found);
                    block = None;
                }
            } else if line.trim_end() == begin {
                block = Some((number, format!("{line}\n")));
            } else {
                self.ssh.extend(allowed::line(line).map_err(|why| at(number, why))?);
            }
        }
        match block {
            Some((first, _)) => {
                Err(format!("line {first} begins an OpenPGP public key that has no end line"))
            }
            None => Ok(()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.ssh.is_empty() && self.openpgp.is_empty()
    }

    /// Verifies the bytes of a commit object.
    ///
    /// # Errors
    /// If it has no valid signature of a trusted signer.
    pub fn verify(&self, raw: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let signed = signed::split(raw)?;
        let (armored, now) = (signed.signature.trim_start(), now.as_second());
        if armored.starts_with(ssh::BEGIN) {
            let times = Times { signed: signed.committed, now };
            return ssh::verify(armored, &signed.payload, times, &self.ssh);
        }
        if armored.starts_with(openpgp::BEGIN) {
            return openpgp::verify(armored, &signed.payload, now, &self.openpgp);
        }
        Err(Refusal::OtherKind)
    }
}

#[cfg(test)]
mod tests;
