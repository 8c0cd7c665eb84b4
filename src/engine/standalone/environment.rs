//! Which variables of the agent's environment a build inherits: those that programs commonly need, and those of AWS and
//! Packer. The others may be secrets of the user who started the agent, and others write the templates. Pure.

use std::ffi::OsString;

use crate::api::glob::Matcher;

/// The variables that every build inherits. None of these patterns matches the agent's own settings.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "SSL_CERT_*",
    "*_PROXY",
    "*_proxy",
    "AWS_*",
    "PACKER_*",
    "PKR_*",
];
/// Prefix of the agent's own settings and secrets, which are never inherited, even if `--pass-env` names them.
const OWN: &str = "OPSY_";

/// The names of variables that builds inherit.
#[derive(Clone, Debug)]
pub struct Inherited(Vec<Matcher>);

impl Inherited {
    /// The names that all builds need, and further ones. Globs are allowed.
    ///
    /// # Errors
    /// A name is not a valid glob.
    pub fn with(further: &[String]) -> Result<Self, String> {
        let names = INHERITED.into_iter().chain(further.iter().map(String::as_str));
        let read =
            |name: &str| Matcher::new(name).map_err(|why| format!("{name:?} is not a valid glob: {why}"));
        names.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a build inherits this variable.
    fn has(&self, name: &str) -> bool {
        !name.starts_with(OWN) && self.0.iter().any(|pattern| pattern.is_match(name))
    }

    /// The variables of an environment that a build inherits.
    pub fn of(&self, environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
        environment.filter(|(name, _)| name.to_str().is_some_and(|name| self.has(name))).collect()
    }
}

/// Whether, by its name, a variable contains a secret that must be masked in logs. The path of a file is not a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    let has = |word: &&str| name.contains(*word);
    let words =
        ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "PRIVATE_KEY", "API_KEY"];
    !name.ends_with("_FILE") && !name.ends_with("_URI") && (words.iter().any(has) || name.ends_with("_KEY"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_inherits_what_it_needs_and_nothing_else() {
        let further = ["VAULT_ADDR".to_owned(), "CI_*".to_owned(), "OPSY_*".to_owned()];
        let (plain, extended) =
            (Inherited::with(&[]).expect("globs"), Inherited::with(&further).expect("globs"));
        for name in ["PATH", "LC_ALL", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "AWS_REGION", "PKR_VAR_x"]
        {
            assert!(plain.has(name), "{name}");
        }
        for name in
            ["GITHUB_TOKEN", "KUBECONFIG", "SSH_AUTH_SOCK", "PATHS", "MY_AWS_KEY", "VAULT_ADDR", "CI_JOB"]
        {
            assert!(!plain.has(name), "{name}");
        }
        assert!(extended.has("VAULT_ADDR") && extended.has("CI_JOB") && !extended.has("VAULT_TOKEN"));
        assert!(
            !extended.has("OPSY_GIT_TOKEN") && !extended.has("OPSY_SECRET_DEFAULT_X__Y"),
            "they are the agent's"
        );
        let environment = [("PATH", "/bin"), ("GITHUB_TOKEN", "t")];
        let environment = environment.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(plain.of(environment.into_iter()), [(OsString::from("PATH"), OsString::from("/bin"))]);
        assert!(Inherited::with(&["[".to_owned()]).is_err());
    }

    #[test]
    fn names_that_mean_secrets() {
        for name in ["AWS_SECRET_ACCESS_KEY", "PKR_VAR_api_key", "CI_JOB_TOKEN", "DB_PASSWORD", "SIGNING_KEY"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["AWS_WEB_IDENTITY_TOKEN_FILE", "PKR_VAR_key_name", "AWS_REGION", "KEYBOARD", "PATH"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
