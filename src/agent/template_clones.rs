//! Template repositories for a command: clones that are deleted when it ends, with the Secrets of a standalone agent.
//!
//! A plan reads manifests before their review. It sends credentials only where the reviewed ones send them, so
//! that a pull request cannot send a Secret to a server of its author.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;

use super::{now, sources};
use crate::api::network::Network;
use crate::api::{Class, Key};
use crate::engine::standalone::secrets::Secrets;
use crate::git::Http;
use crate::git::address::{Address, AddressRules};
use crate::git::auth::Credentials;
use crate::git::github_app::Tokens;
use crate::git::templates::sources::{SourceOptions, Sources};
use crate::git::templates::{TemplateError, TemplateSource};
use crate::settings::{AddressFlags, EnvSecrets};

/// The fetch interval: longer than any command runs, so that each repository is fetched once.
const ONCE: Duration = Duration::from_secs(24 * 3600);

/// The addresses to which credentials may be sent, each with its Secret.
type Pairs = BTreeSet<(String, Option<Key>)>;

/// The clones.
pub struct TemplateClones {
    sources: Sources,
    rules: AddressRules,
    /// Not set: any pair is allowed.
    allowed: Arc<OnceLock<Pairs>>,
    _folder: tempfile::TempDir,
}

impl TemplateClones {
    /// Prepares them. Nothing is fetched yet. Must be called within a runtime.
    ///
    /// # Errors
    /// The flags are invalid, or there is no temporary directory.
    pub fn open(
        addresses: &AddressFlags,
        secrets: Option<PathBuf>,
        network: &Network,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a temporary directory for the clones")?;
        let tokens = Tokens::new(network, now)?;
        let secrets = Secrets {
            folder: secrets,
            environment: EnvSecrets::read().builds,
            every_build: BTreeMap::new(),
            claimed: Arc::default(),
        };
        let (rules, allowed) = (sources::rules(addresses)?, Arc::<OnceLock<Pairs>>::default());
        let pairs = Arc::clone(&allowed);
        let login = move |address: &Address, secret: Option<Key>| {
            if let Err(error) = check(pairs.get(), address, secret.as_ref()) {
                return ready(Err(error)).boxed();
            }
            let Some(secret) = secret else { return ready(Ok(None)).boxed() };
            let values = secrets.get(&secret.namespace, &secret.name);
            let values = values.map_err(|error| TemplateError { class: error.class, message: error.message });
            let credentials = values
                .and_then(|values| Ok(Some(Credentials::of_secret(&secret.to_string(), &values, &tokens)?)));
            ready(credentials).boxed()
        };
        let sources = Sources::new(SourceOptions {
            folder: folder.path().to_owned(),
            rules: rules.clone(),
            http: Http::new(network),
            interval: ONCE,
            login: Arc::new(login),
            // The keys of the user who runs the command are used.
            hosts: Credentials { ssh_agent: true, ..sources::hosts(addresses) },
            wake: Arc::new(|_| ()),
            signers: None,
            now,
            exists: Arc::new(|_| true),
        });
        Ok(Self { sources, rules, allowed, _folder: folder })
    }

    /// From now on, sends credentials only to these repositories of builders, each with its Secret.
    pub fn allow_only(&self, used: impl Iterator<Item = (Key, TemplateSource)>) {
        let pair = |(builder, source): (Key, TemplateSource)| {
            let address = self.rules.parse_remote(source.repository.as_deref()?).ok()?;
            Some((address.url().to_owned(), source.secret_of(&builder)))
        };
        self.allowed.get_or_init(|| used.filter_map(pair).collect());
    }

    pub fn all(&self) -> &Sources {
        &self.sources
    }
}

/// Checks that credentials may be sent to an address. Without a Secret, only SSH sends any: those of the user.
fn check(allowed: Option<&Pairs>, address: &Address, secret: Option<&Key>) -> Result<(), TemplateError> {
    let is_anonymous = secret.is_none() && !address.is_ssh();
    let is_allowed = |pairs: &Pairs| pairs.contains(&(address.url().to_owned(), secret.cloned()));
    if is_anonymous || allowed.is_none_or(is_allowed) {
        return Ok(());
    }
    let with = match secret {
        Some(secret) => format!("Secret {secret}"),
        None => "the SSH keys of the user".to_owned(),
    };
    let message = format!(
        "the template repository {address} is not readable before the merge: no builder of the base reads it with {with}"
    );
    Err(TemplateError { class: Class::Denied, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_sent_only_where_the_base_sends_them() {
        let secret = |name: &str| Key { namespace: "team".to_owned(), name: name.to_owned() };
        let reviewed = [
            ("https://git.example.com/templates".to_owned(), Some(secret("templates"))),
            ("ssh://git@git.example.com/public".to_owned(), None),
        ];
        let pairs: Pairs = reviewed.into();
        for (address, name, expected) in [
            ("https://git.example.com/templates", Some("templates"), true),
            ("https://git.example.com/templates", Some("other"), false),
            ("https://evil.example/templates", Some("templates"), false),
            ("https://evil.example/templates", None, true),
            ("ssh://git@git.example.com/public", None, true),
            ("ssh://git@evil.example/public", None, false),
        ] {
            let address = Address::parse(address).expect("an address");
            let checked = check(Some(&pairs), &address, name.map(secret).as_ref());
            assert_eq!(checked.is_ok(), expected, "{address} {name:?}: {checked:?}");
            check(None, &address, name.map(secret).as_ref()).expect("everything is allowed");
        }
    }
}
