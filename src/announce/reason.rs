//! What is known of the reasons of conditions: when a trouble is told, who brought it, what to do about it.

/// When a trouble is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Where a condition of its own says so, and not of what is merely not ready.
    Said,
    /// At once: only a person can mend it, though it is looked at again by itself.
    AtOnce,
    /// When it is no slip of a server's, or what it waits for has not come.
    NoSlip,
    /// When it has lasted: it may go away by itself.
    Lasting,
}

/// A reason.
pub struct Reason {
    name: &'static str,
    pub when: When,
    /// A commit brought it, and only a commit can mend it.
    pub by_commit: bool,
    /// It is told of the repository as well: once is enough where both are told.
    pub of_repository: bool,
    /// What to do, where the message of the condition does not say so itself.
    pub advice: Option<&'static str>,
}

const AWS_AGAIN: &str =
    "It is tried again by itself; look at AWS's health and the agent's network if it lasts.";
const GIT_AGAIN: &str = "It is tried again by itself; look at the Git server if it lasts.";
const LAST_COMMIT: &str =
    "It is tried again by itself, and the last good commit is in force; look at the agent's log if it lasts.";

const KNOWN: [Reason; 21] = [
    said("InvalidSpec").by_commit().advice("Mend the manifest in Git; `opsy validate` says the same before a merge."),
    said("ManifestBroken").by_commit().of_repository().advice(
        "Fix the file in Git; until then its objects stay and start nothing new. `opsy validate` says the same before a merge.",
    ),
    said("PruneRefused").by_commit().of_repository(),
    said("TemplateInvalid").by_commit().advice("Mend the path or the file in Git."),
    said("AccountNotAllowed").advice("Check the agent's credentials, or `accounts` in opsy.yaml."),
    said("PushRefused")
        .of_repository()
        .advice("Let Opsy push to this branch, or name another in publish.branch of opsy.yaml."),
    told(When::AtOnce, "AwsDenied")
        .advice("Allow the action in the agent's IAM policy, or renew the credentials, as it says; it is tried again by itself."),
    told(When::NoSlip, "RepositoryDenied")
        .advice("Check the agent's credentials for the repository; it is tried again by itself."),
    told(When::NoSlip, "RepositoryUnreadable").advice(
        "Mend it in Git, or the address the agent is given; until then the last good commit is in force. \
         `opsy validate` says the same of files before a merge.",
    ),
    told(When::NoSlip, "ObjectsRefused")
        .advice("Mend what the cluster says in Git or in the cluster; it is tried again by itself."),
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

/// What is known of a reason.
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
