//! Secrets of builds and notifiers on one machine: files laid out like mounted Kubernetes Secrets, or environment
//! variables of the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::environment::is_secret;
use crate::api::Class;
use crate::api::lock::lock;
use crate::engine::{EngineError, SecretReader};

/// Where secrets are read, by namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// `<folder>/<namespace>/<name>/<KEY>`: one file per key.
    pub folder: Option<PathBuf>,
    /// `OPSY_SECRET_<NAMESPACE>_<NAME>__<KEY>` of the agent's environment, without the prefix.
    pub environment: BTreeMap<String, String>,
    /// Variables of every build: `OPSY_BUILD_<NAME>` of the agent's environment, without the prefix.
    pub every_build: BTreeMap<String, String>,
    /// The secrets that were read from variables, by the spelling of their variables.
    pub claimed: Arc<Mutex<BTreeMap<String, String>>>,
}

/// Variables that determine the AWS identity. Some take precedence over others, so they are replaced together.
const AWS_IDENTITY: [&str; 14] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    // Older names of the first three, which SDKs still read.
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    PROFILE,
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
const PROFILE: &str = "AWS_PROFILE";
/// Files with credentials. A profile refers to them, so a build with its own profile needs them.
const AWS_FILES: [&str; 2] = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];

/// The agent's variables that a build with these variables of its own must not inherit. A session token of the agent,
/// or a key that takes precedence over the build's profile, would result in the wrong identity.
pub fn replaced(own: &BTreeMap<String, String>) -> Vec<&'static str> {
    let has_any = |names: &[&str]| names.iter().any(|name| own.contains_key(*name));
    let is_replaced = has_any(&AWS_IDENTITY);
    let needs_files = own.contains_key(PROFILE) && !has_any(&AWS_FILES);
    let identity = AWS_IDENTITY.iter().filter(|_| is_replaced);
    let files = AWS_FILES.iter().filter(|_| is_replaced && !needs_files);
    identity.chain(files).copied().collect()
}

impl SecretReader for Secrets {
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        ready(self.in_any_case(namespace, name)).boxed()
    }
}

impl Secrets {
    /// The variables of a build in this namespace: those of every build, overridden by those of its secret.
    pub fn of_build(
        &self,
        namespace: &str,
        secret: Option<&str>,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let own = secret.map_or_else(|| Ok(BTreeMap::new()), |name| self.get(namespace, name))?;
        let mut variables = self.every_build.clone();
        let replaced = replaced(&own);
        variables.retain(|name, _| !replaced.contains(&name.as_str()));
        variables.extend(own);
        Ok(variables)
    }

    /// Names of a build's variables whose values are masked in its log.
    pub fn masked(&self, namespace: &str, secret: Option<&str>) -> Result<Vec<String>, EngineError> {
        let mut names: BTreeSet<String> =
            self.every_build.keys().filter(|name| is_secret(name)).cloned().collect();
        if let Some(name) = secret {
            names.extend(self.get(namespace, name)?.into_keys());
        }
        Ok(names.into_iter().collect())
    }

    /// Keys and values of a secret. The trailing newline of a file is not part of its value.
    pub fn get(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, EngineError> {
        let written = self.in_environment(namespace, name);
        if !written.is_empty() {
            self.claim(namespace, name)?;
        }
        self.with_files(written, namespace, name)
    }

    /// As above, with the keys of variables in lower case too: the keys of notifiers are in lower case, but variables
    /// hardly ever are.
    pub fn in_any_case(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, EngineError> {
        EngineError::unless_secret_name(namespace, name)?;
        let written = self.in_environment(namespace, name);
        // `SecretReader` reports a missing secret as `NotFound`.
        let unreadable = |error: EngineError| EngineError {
            class: if error.class == Class::Invalid { Class::NotFound } else { error.class },
            message: error.message,
        };
        if !written.is_empty() {
            self.claim(namespace, name).map_err(unreadable)?;
        }
        let lower = written.iter().map(|(key, value)| (key.to_lowercase(), value.clone()));
        let mut values: BTreeMap<String, String> = lower.collect();
        values.extend(written);
        self.with_files(values, namespace, name).map_err(unreadable)
    }

    fn with_files(
        &self,
        mut values: BTreeMap<String, String>,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        values.extend(self.in_folder(namespace, name)?);
        if values.is_empty() {
            return Err(self.missing(namespace, name));
        }
        Ok(values)
    }

    /// Refuses the second of two secrets with the same variables. In the name of a variable, `-` and `.` become `_`,
    /// which also separates namespace and name: `default/opsy-slack` and `default-opsy/slack` have the same variables,
    /// so a namespace could read the secrets of another one.
    fn claim(&self, namespace: &str, name: &str) -> Result<(), EngineError> {
        let spelled = format!("{}_{}", variable(namespace), variable(name));
        let mut claimed = lock(&self.claimed);
        let secret = format!("{namespace}/{name}");
        let first = claimed.entry(spelled.clone()).or_insert_with(|| secret.clone());
        if *first == secret {
            return Ok(());
        }
        let message = format!(
            "secrets {first} and {secret} have the same variables, OPSY_SECRET_{spelled}__<KEY>: rename one of them, or put \
             both into files below --secrets"
        );
        Err(EngineError::invalid(message))
    }

    fn in_environment(&self, namespace: &str, name: &str) -> BTreeMap<String, String> {
        let prefix = format!("{}_{}__", variable(namespace), variable(name));
        let keys = self.environment.iter();
        keys.filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone()))).collect()
    }

    fn in_folder(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, EngineError> {
        let Some(folder) = self.folder.as_ref().map(|folder| folder.join(namespace).join(name)) else {
            return Ok(BTreeMap::new());
        };
        if !folder.is_dir() {
            return Ok(BTreeMap::new());
        }
        let unreadable = |error: std::io::Error| {
            let folder = folder.display();
            EngineError::transient(format!("secret {namespace}/{name} cannot be read from {folder}: {error}"))
        };
        let mut values = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let key = entry.file_name().to_string_lossy().into_owned();
            // A mounted Kubernetes Secret has `..data` links beside the keys.
            if key.starts_with('.') || !entry.path().is_file() {
                continue;
            }
            let value = std::fs::read_to_string(entry.path()).map_err(unreadable)?;
            values.insert(key, value.strip_suffix('\n').map(str::to_owned).unwrap_or(value));
        }
        Ok(values)
    }

    fn missing(&self, namespace: &str, name: &str) -> EngineError {
        let variables = format!("OPSY_SECRET_{}_{}__<KEY>", variable(namespace), variable(name));
        let place = self.folder.as_ref().map(|folder| folder.join(namespace).join(name));
        let message = match place {
            Some(place) => format!(
                "secret {namespace}/{name} not found: put one file per key into {}, or set {variables}",
                place.display()
            ),
            None => format!(
                "secret {namespace}/{name} not found: name a directory of secrets with --secrets, or set {variables}"
            ),
        };
        EngineError::invalid(message)
    }
}

/// The spelling of a name in the name of a variable.
fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_files_and_variables_and_files_take_precedence() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let secret = dir.path().join("default").join("packer-env");
        std::fs::create_dir_all(secret.join("..data")).expect("a folder");
        std::fs::write(secret.join("TOKEN"), "from-file\n").expect("a file");
        let environment = BTreeMap::from([
            ("DEFAULT_PACKER_ENV__TOKEN".to_owned(), "from-env".to_owned()),
            ("DEFAULT_PACKER_ENV__USER".to_owned(), "me".to_owned()),
        ]);
        let secrets = Secrets { folder: Some(dir.path().to_owned()), environment, ..Secrets::default() };
        let values = secrets.get("default", "packer-env").expect("a secret");
        let expected = [("TOKEN", "from-file"), ("USER", "me")];
        assert_eq!(values, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn variables_of_notifiers_may_be_in_upper_case() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path().join("default").join("opsy-slack");
        std::fs::create_dir_all(&folder).expect("a folder");
        let variables = [
            ("DEFAULT_OPSY_SLACK__TOKEN", "capital"),
            ("DEFAULT_OPSY_SLACK__URL", "capital"),
            ("DEFAULT_OPSY_SLACK__url", "small"),
        ];
        let environment = variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let secrets = Secrets { folder: Some(dir.path().to_owned()), environment, ..Secrets::default() };
        let values = || secrets.in_any_case("default", "opsy-slack").expect("a secret");
        assert_eq!((values()["token"].as_str(), values()["url"].as_str()), ("capital", "small"));
        std::fs::write(folder.join("token"), "from-file\n").expect("a file");
        assert_eq!(values()["token"], "from-file");
        let error = secrets.in_any_case("default", "other").expect_err("nothing is there");
        assert_eq!(error.class, Class::NotFound);
        assert!(error.message.contains("OPSY_SECRET_DEFAULT_OTHER__<KEY>"), "{error}");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_invalid() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(dir.path().join("default/s")).expect("a folder");
        std::fs::write(dir.path().join("default/s/token"), "x").expect("a file");
        let secrets = Secrets { folder: Some(dir.path().join("default")), ..Secrets::default() };
        for (namespace, name) in
            [("default", "../s"), ("..", "default"), ("default", ""), ("", "s"), ("a", "/")]
        {
            let error = secrets.in_any_case(namespace, name).expect_err("no name");
            assert_eq!(error.class, Class::Invalid, "{namespace}/{name}: {error}");
        }
    }

    #[test]
    fn a_build_has_one_identity() {
        let variables = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let every_build = variables(&[("AWS_PROFILE", "packer"), ("AWS_REGION", "r"), ("X_TOKEN", "t")]);
        let environment = variables(&[("DEFAULT_KEYS__AWS_ACCESS_KEY_ID", "AKIA")]);
        let secrets = Secrets { environment, every_build: every_build.clone(), ..Secrets::default() };
        assert_eq!(secrets.of_build("default", None).expect("variables"), every_build);
        assert_eq!(secrets.masked("default", None).expect("names"), ["X_TOKEN"]);
        // A key with another identity's profile or session token would be no valid identity.
        let own = secrets.of_build("default", Some("keys")).expect("variables");
        assert_eq!(own, variables(&[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_REGION", "r"), ("X_TOKEN", "t")]));
        assert_eq!(secrets.masked("default", Some("keys")).expect("names"), ["AWS_ACCESS_KEY_ID", "X_TOKEN"]);
        assert!(replaced(&own).contains(&"AWS_SESSION_TOKEN"));
        assert!(replaced(&variables(&[("AWS_REGION", "r")])).is_empty());
    }

    #[test]
    fn a_build_with_its_own_identity_inherits_nothing_of_another() {
        let replaced = |names: &[&str]| {
            super::replaced(&names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect())
        };
        let keys = replaced(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
        for name in [
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "AWS_ACCESS_KEY",
            "AWS_SECRET_KEY",
            "AWS_SECURITY_TOKEN",
            "AWS_DEFAULT_PROFILE",
            "AWS_CONFIG_FILE",
            "AWS_SHARED_CREDENTIALS_FILE",
        ] {
            assert!(keys.contains(&name), "{name}");
        }
        assert_eq!(replaced(&["AWS_CONTAINER_AUTHORIZATION_TOKEN"]), keys, "a token is an identity");
        let profile = replaced(&["AWS_PROFILE"]);
        assert!(!profile.contains(&"AWS_CONFIG_FILE"), "a profile refers to the agent's files");
        let with_files = replaced(&["AWS_PROFILE", "AWS_CONFIG_FILE"]);
        assert!(with_files.contains(&"AWS_SHARED_CREDENTIALS_FILE"), "or in the build's own");
    }

    #[test]
    fn of_two_secrets_with_the_same_variables_one_is_read() {
        let environment = BTreeMap::from([("DEFAULT_OPSY_SLACK__TOKEN".to_owned(), "t".to_owned())]);
        let secrets = Secrets { environment, ..Secrets::default() };
        for _ in 0..2 {
            assert!(secrets.clone().in_any_case("default", "opsy-slack").is_ok());
            let error = secrets.get("default-opsy", "slack").expect_err("it is another's");
            assert!(error.message.contains("default/opsy-slack and default-opsy/slack"), "{}", error.message);
        }
    }

    #[test]
    fn the_error_about_a_missing_secret_states_where_it_is_read() {
        let error = Secrets::default().get("team-a", "x").expect_err("nothing is there");
        assert_eq!(error.class, Class::Invalid);
        assert!(error.message.contains("OPSY_SECRET_TEAM_A_X__<KEY>"), "{}", error.message);
    }
}
