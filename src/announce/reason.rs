//! The reasons of conditions: when people are notified, whether a commit caused it, and what to do about it.

/// When people are notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// When a condition of its own reports it; never because the object is merely not ready.
    Said,
    /// At once: only a person can fix it, although it is retried.
    AtOnce,
    /// When it lasts longer than a single refusal by mistake, or than what it waits for.
    NoSlip,
    /// When it has lasted: it may end without action.
    Lasting,
}

/// A reason.
pub struct Reason {
    name: &'static str,
    pub when: When,
    /// A commit caused it, and only a commit can fix it.
    pub by_commit: bool,
    /// The repository reports it as well: one notification is enough where both are sent.
    pub of_repository: bool,
    /// What to do, where the message of the condition does not have it.
    pub advice: Option<&'static str>,
}

const AWS_AGAIN: &str = "Opsy retries; if it lasts, check AWS's health and the agent's network.";
const GIT_AGAIN: &str = "Opsy retries; if it lasts, check the Git server.";
const LAST_COMMIT: &str =
    "Opsy retries, and the last good commit is in force; if it lasts, check the agent's log.";

const KNOWN: [Reason; 26] = [
    said("InvalidSpec").by_commit().advice("Fix the manifest in Git; `opsy validate` reports the same before a merge."),
    said("ManifestBroken").by_commit().of_repository().advice(
        "Fix the file in Git; until then its objects stay and start nothing new. `opsy validate` reports the same before a merge.",
    ),
    said("PruneRefused").by_commit().of_repository(),
    said("TemplateInvalid").by_commit().advice("Fix the path or the file in Git."),
    said("AccountNotAllowed").advice("Check the agent's credentials, or `accounts` in opsy.yaml."),
    said("PushRefused")
        .of_repository()
        .advice("Let Opsy push to this branch, or name another in publish.branch of opsy.yaml."),
    told(When::AtOnce, "AwsDenied")
        .advice("Allow the action in the agent's IAM policy, or renew the credentials; Opsy retries."),
    told(When::NoSlip, "RepositoryDenied")
        .advice("Check the agent's credentials for the repository; Opsy retries."),
    // The message names the proxy or the certificate, and what to do.
    told(When::NoSlip, "NetworkRefused"),
    told(When::AtOnce, "BranchRewritten"),
    told(When::AtOnce, "CommitNotVerified"),
    told(When::NoSlip, "RepositoryUnreadable").advice(
        "Fix it in Git, or fix the address in the agent's settings; until then the last good commit is in force. \
         `opsy validate` reports the same problems in files before a merge.",
    ),
    told(When::NoSlip, "ObjectsRefused")
        .advice("Fix what the cluster reports, in Git or in the cluster; Opsy retries."),
    told(When::NoSlip, "NamespaceUnreadable")
        .of_repository()
        .advice("Its objects wait until it can be read again; all other namespaces go on."),
    told(When::NoSlip, "AnotherWriter"),
    told(When::Lasting, "AwsUnavailable").advice(AWS_AGAIN),
    told(When::Lasting, "AwsNotFound").advice(AWS_AGAIN),
    told(When::Lasting, "AwsRefused").advice(AWS_AGAIN),
    told(When::Lasting, "TemplateUnavailable").advice(GIT_AGAIN),
    told(When::Lasting, "EngineUnavailable"),
    told(When::Lasting, "BaseImageNotFound").advice("Check spec.amiFilters: name, architecture and owner-id."),
    told(When::Lasting, "RepositoryUnavailable").advice(LAST_COMMIT),
    told(When::Lasting, "CommitNotTaken").advice(LAST_COMMIT),
    told(When::Lasting, "PushFailed").of_repository().advice(GIT_AGAIN),
    told(When::Lasting, "ApplyFailed"),
    told(When::Lasting, "Conflict"),
];

/// Any other.
const OTHER: Reason = said("");

/// The entry of a reason.
pub fn of(name: &str) -> &'static Reason {
    KNOWN.iter().find(|known| known.name == name).unwrap_or(&OTHER)
}

const fn said(name: &'static str) -> Reason {
    told(When::Said, name)
}

const fn told(when: When, name: &'static str) -> Reason {
    Reason { name, when, by_commit: false, of_repository: false, advice: None }
}

impl Reason {
    const fn by_commit(mut self) -> Self {
        self.by_commit = true;
        self
    }

    const fn of_repository(mut self) -> Self {
        self.of_repository = true;
        self
    }

    const fn advice(mut self, words: &'static str) -> Self {
        self.advice = Some(words);
        self
    }
}
