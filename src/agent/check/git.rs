//! The checks of the repository: keys, a clone, a connection for a push, and the manifests.

use std::path::Path;
use std::sync::Arc;

use super::super::{forge, now, signing, sources, spec_problems};
use super::report::{Check, Group};
use super::{Checks, Set};
use crate::api::Kind;
use crate::api::ids::short_commit;
use crate::api::network::Network;
use crate::git::address::Address;
use crate::git::auth::Credentials;
use crate::git::github_app::Tokens;
use crate::git::signatures::{Signers, SigningKey};
use crate::git::{GitError, Handle, History, Http, Options};
use crate::manifest::{ObjectSet, Reader, Severity};
use crate::settings::{AccessFlags, EnvSecrets, PublishMode, SigningFlags};
use crate::sync::{Sync, Synced};

const GROUP: Group = Group::Git;
/// A branch of which no pull request comes.
const UNUSED_BRANCH: &str = "opsy/check";

/// Makes the checks, and returns the objects if the branch can be read.
pub async fn check(flags: &AccessFlags, secrets: &EnvSecrets, network: &Network) -> (Checks, Option<Set>) {
    let (mut checks, keys) = check_signing(&flags.signing);
    let opened = match open(flags, secrets, network) {
        Ok(opened) => opened,
        Err(error) => {
            checks.push(GROUP.failed(
                "repository",
                error.to_string(),
                "Correct the flags and variables of Git.",
            ));
            return (checks, None);
        }
    };
    checks.extend(check_hosts(&opened));
    let folder = match tempfile::Builder::new().prefix("opsy-check-").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            let message = format!("no temporary directory can be created: {error}");
            checks.push(GROUP.failed("read", message, "Make the directory in TMPDIR writable."));
            return (checks, None);
        }
    };
    let git = match Handle::start(opened.options(flags, keys, folder.path())) {
        Ok(git) => git,
        Err(error) => {
            checks.push(GROUP.failed("read", error.to_string(), "Correct --path."));
            return (checks, None);
        }
    };
    let (mut sync, _outputs) = Sync::new(git.clone(), Box::new(Reader::new(spec_problems)), now);
    let synced = sync.once().await;
    let set = synced.as_ref().ok().map(|synced| synced.set.clone());
    checks.push(read(&git, &opened.address, &synced));
    checks.push(push(&git, set.as_deref()).await);
    if is_by_pull_request(set.as_deref()) {
        checks.push(pull_requests(flags, &opened, network).await);
    }
    checks.extend(set.as_deref().map(manifests));
    (checks, set)
}

/// How the repository is reached.
struct Opened {
    address: Address,
    credentials: Credentials,
    http: Http,
}

fn open(flags: &AccessFlags, secrets: &EnvSecrets, network: &Network) -> anyhow::Result<Opened> {
    let address = sources::rules(&flags.git.addresses)?.parse(&flags.repo)?;
    let credentials = sources::credentials(&flags.git, secrets, &Tokens::new(network, now)?)?;
    Ok(Opened { address, credentials, http: Http::new(network) })
}

type Keys = (Option<Signers>, Option<SigningKey>);

impl Opened {
    fn options(&self, flags: &AccessFlags, (signers, signing_key): Keys, folder: &Path) -> Options {
        Options {
            address: self.address.clone(),
            branch: flags.branch.clone(),
            path: flags.path.clone(),
            folder: folder.join("clone"),
            credentials: Some(self.credentials.clone()),
            http: self.http.clone(),
            history: if signers.is_some() { History::Whole } else { History::Recent },
            signers,
            signing_key,
        }
    }
}

/// Whether the files of `--verify` and `--signing-key` can be used.
fn check_signing(flags: &SigningFlags) -> (Checks, Keys) {
    let read = signing::read(flags);
    let checks = match &read {
        Ok((None, None)) => Vec::new(),
        Ok((signers, key)) => {
            let names = [(signers.is_some(), "trusted signers"), (key.is_some(), "signing key")];
            let names = names.iter().filter(|(is_set, _)| *is_set);
            names.map(|(_, name)| GROUP.passed(*name, "can be read and used")).collect()
        }
        Err(error) => vec![GROUP.failed(
            "signatures",
            error.to_string(),
            "Correct --verify or --signing-key, or make the file readable for the user that runs opsy.",
        )],
    };
    (checks, read.unwrap_or_default())
}

/// Whether there are host keys to compare that of the server with.
fn check_hosts(opened: &Opened) -> Option<Check> {
    const NAME: &str = "known_hosts";
    const REMEDY: &str = "Write the host key of the server to ~/.ssh/known_hosts, for example with ssh-keyscan after \
                          you have compared its fingerprint, or name a file with --git-known-hosts.";
    opened.address.is_ssh().then(|| match opened.credentials.has_hosts() {
        Ok(true) => GROUP.passed(NAME, "can be read"),
        Ok(false) => GROUP.failed(NAME, "there is no file with trusted host keys", REMEDY),
        Err(error) => GROUP.failed(NAME, error.to_string(), REMEDY),
    })
}

fn read(git: &Handle, address: &Address, synced: &Result<Arc<Synced>, GitError>) -> Check {
    const REMEDY: &str = "Check --repo, --branch and --path, the network, and that the credentials may read the \
                          repository.";
    match synced {
        Ok(synced) => {
            let branch = git.branch().unwrap_or_default();
            let commit = short_commit(synced.commit.as_str());
            GROUP.passed("read", format!("branch {branch} of {address} is at commit {commit}"))
        }
        Err(error) => GROUP.failed("read", error.to_string(), REMEDY),
    }
}

async fn push(git: &Handle, set: Option<&ObjectSet>) -> Check {
    const REMEDY: &str = "Give the token, user or key write access to the repository (GitHub: Contents, read and write; \
                          GitLab: write_repository; deploy keys: allow write access), or set publish.enabled: false in \
                          opsy.yaml.";
    let publish = set.and_then(|set| set.settings.publish.clone()).unwrap_or_default();
    if publish.enabled == Some(false) {
        return GROUP.skipped("push", "publish.enabled in opsy.yaml is false: the agent does not push");
    }
    match git.branches_to_push().await {
        Ok(branches) => {
            let branch = publish.branch.or_else(|| git.branch()).filter(|_| !is_by_pull_request(set));
            let target = match branch {
                Some(branch) if branches.contains(&branch) => format!(" to branch {branch}"),
                Some(branch) => format!(" to branch {branch}, which the first push creates"),
                None => String::new(),
            };
            let limits = "nothing was pushed, and only a real push shows branch protection";
            GROUP.passed("push", format!("the server accepts a connection for a push{target}; {limits}"))
        }
        Err(error) => GROUP.failed("push", error.to_string(), REMEDY),
    }
}

/// Whether status is proposed by pull requests.
fn is_by_pull_request(set: Option<&ObjectSet>) -> bool {
    let publish =
        set.and_then(|set| set.settings.publish.as_ref()).filter(|publish| publish.enabled != Some(false));
    publish.and_then(|publish| publish.mode) == Some(PublishMode::PullRequest)
}

/// Whether the API lists pull requests with the token of the agent. Opening one shows that it may.
async fn pull_requests(flags: &AccessFlags, opened: &Opened, network: &Network) -> Check {
    const NAME: &str = "pull requests";
    const REMEDY: &str = "Correct --forge, --forge-api, --forge-repository or the token (--forge-token-file), or set \
                          publish.mode: Commit in opsy.yaml.";
    let connect = forge::connect(flags, &opened.address, network, Some(opened.credentials.clone()));
    let listed = async { connect().await?.pull_requests_from(UNUSED_BRANCH).await };
    match listed.await {
        Ok(_) => GROUP
            .passed(NAME, "the API lists pull requests with this token; only opening one shows that it may"),
        Err(error) => GROUP.failed(NAME, error.to_string(), REMEDY),
    }
}

fn manifests(set: &ObjectSet) -> Check {
    const REMEDY: &str =
        "Run `opsy validate` in a clone of the repository, and correct the manifests in Git.";
    let count = |kind| set.documents.iter().filter(|document| document.object.kind == kind).count();
    let (builders, refreshers) = (count(Kind::PackerBuilder), count(Kind::AMIRefresher));
    let objects =
        format!("{}: PackerBuilder {builders}, AMIRefresher {refreshers}", objects(builders + refreshers));
    let mut errors = set.problems.iter().filter(|problem| problem.severity == Severity::Error);
    match errors.next() {
        None => GROUP.passed("manifests", format!("{objects}; no problems")),
        Some(first) => {
            let more = match errors.count() {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            GROUP.failed("manifests", format!("{objects}; {first}{more}"), REMEDY)
        }
    }
}

fn objects(count: usize) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}
