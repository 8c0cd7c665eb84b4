//! The errors of Git: the mapping from libgit2's errors, and from errors to classes. Every message states the remedy.

use std::path::PathBuf;

use git2::{ErrorClass, ErrorCode};

use super::signatures::Refusal;
use crate::api::network::{AUTHENTICATE, REFUSED, TRUST};
use crate::api::proxy::without_user_info;
use crate::api::{Class, CommitId};

/// An error of a repository or its clone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    #[error("{0}")]
    Address(String),
    #[error("{0}")]
    Credentials(String),
    #[error(
        "{url} requires credentials, but none are set: set --git-token-file, or --git-username and --git-password-file \
         (for a template repository, set gitSync.secret in the manifest)"
    )]
    Unauthenticated { url: String },
    #[error(
        "{url} refuses the credentials ({why}): check the user name, the token or key, and its permissions"
    )]
    Rejected { url: String, why: String },
    #[error("GitHub App {id}: {why}")]
    App { id: String, why: String },
    #[error(
        "{url} is not a Git repository, or the credentials do not give access to it ({why}): check the address and the \
         permissions"
    )]
    NoRepository { url: String, why: String },
    #[error("{url} redirects to another server ({why}): set the address that it redirects to")]
    Redirected { url: String, why: String },
    #[error("{url}: {TRUST} ({why})")]
    Certificate { url: String, why: String },
    #[error("{url}: {why}")]
    HostKey { url: String, why: String },
    #[error("{url}: {why}")]
    Proxy { url: String, why: String },
    #[error("--ca-file {file} cannot be used: {why}", file = file.display())]
    Authorities { file: PathBuf, why: String },
    #[error(
        "{url} sends more than {limit} bytes, the limit for a template repository: store large files elsewhere"
    )]
    TooLarge { url: String, limit: usize },
    #[error("{url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    #[error("{url} has no commit yet: push a first one")]
    Empty { url: String },
    #[error(
        "{url} has a detached HEAD at commit {commit}, and {has}: create a branch there (git switch -c NAME), or \
         select a branch with --branch"
    )]
    Detached { url: String, commit: CommitId, has: String },
    #[error("{url} has no branch {branch:?}, only {has}: name one of them")]
    NoBranch { url: String, branch: String, has: String },
    #[error("{url} has several branches ({has}) and no default branch: name one of them")]
    NoDefaultBranch { url: String, has: String },
    #[error("commit {0} is not in the clone: the branch was rewritten")]
    NoCommit(CommitId),
    #[error(
        "the history of commit {0} is not in the clone, and the server does not send it: this is retried"
    )]
    HistoryCut(CommitId),
    #[error(
        "commit {0} is not in the clone, and the server does not send it by its ID: keep the clone on a persistent \
         volume, or set uploadpack.allowAnySHA1InWant on the server"
    )]
    NotSent(CommitId),
    #[error(
        "the branch was rewritten: its tip {tip} does not descend from {last}, the last synced commit, which {}; check \
         who rewrote it, then run `opsy accept {tip}`, or restore the branch",
        state_of_last(missing.as_deref())
    )]
    Rewritten {
        last: CommitId,
        tip: CommitId,
        /// Why the last synced commit cannot be loaded, if it cannot.
        missing: Option<String>,
    },
    #[error(
        "commit {commit} by {author} is not accepted: {why}; the last synced commit stays in force; check who made it, \
         then sign it with the key of a trusted signer and push again, or run `opsy accept {commit}` to accept it with \
         all commits before it"
    )]
    Unverified { commit: CommitId, author: String, why: Refusal },
    #[error(
        "cannot commit to branch {branch}: its tip {tip}; check who made it, then delete the branch, or sign its tip \
         with the key of a trusted signer"
    )]
    UnverifiedStatus { branch: String, tip: String },
    #[error("{0}")]
    Signers(String),
    #[error("{0}")]
    SigningKey(String),
    #[error(
        "cannot commit to branch {branch}: with --verify, unsigned commits of this agent would not be accepted; set \
         --signing-key, or set publish.branch or publish.enabled: false in opsy.yaml"
    )]
    Unsigned { branch: String },
    #[error("branch {branch} does not exist, so nothing can be proposed for it: create it")]
    NoTarget { branch: String },
    #[error(
        "branch {branch} has commits that this agent did not make, and is left as it is: the last one is {commit} by \
         {author}; merge or close its pull request, or delete the branch"
    )]
    OtherCommits { branch: String, commit: CommitId, author: String },
    #[error("{path} does not exist at commit {commit}: check the path")]
    NoPath { path: String, commit: CommitId },
    #[error("{path}: {why}")]
    Path { path: String, why: String },
    #[error("the clone at {folder} is damaged ({why})", folder = folder.display())]
    Corrupt { folder: PathBuf, why: String },
    #[error("the clone directory {folder} cannot be used: {why}", folder = folder.display())]
    CloneDirectory { folder: PathBuf, why: String },
    #[error(
        "the directory {folder} is not empty and was not created by Opsy: use another directory for the clone",
        folder = folder.display()
    )]
    ForeignDirectory { folder: PathBuf },
    #[error(
        "{path} is not a bare repository, so that Opsy cannot push to it: use a bare repository, or set \
         publish.enabled: false in opsy.yaml"
    )]
    NotBare { path: String },
    #[error("{url} was changed by others during each of {attempts} attempts to push")]
    Contended { url: String, attempts: u32 },
    #[error("no commit of the repository has been synced yet: this is retried after the first sync")]
    NotSynced,
    #[error("the Git thread ended unexpectedly: restart Opsy")]
    ThreadEnded,
}

impl GitError {
    /// Returns the class, which decides when the operation is retried.
    pub fn class(&self) -> Class {
        match self {
            Self::Unauthenticated { .. } | Self::Rejected { .. } | Self::App { .. } | Self::Proxy { .. } => {
                Class::Denied
            }
            Self::Unreachable { .. }
            | Self::Corrupt { .. }
            | Self::CloneDirectory { .. }
            | Self::HistoryCut(_)
            | Self::NotSynced
            | Self::ThreadEnded => Class::TRANSIENT,
            Self::Contended { .. } => Class::Conflict,
            Self::NoRepository { .. }
            | Self::Empty { .. }
            | Self::Detached { .. }
            | Self::NoBranch { .. }
            | Self::NoCommit(_)
            | Self::NotSent(_)
            | Self::NoTarget { .. }
            | Self::NoPath { .. } => Class::NotFound,
            Self::Address(_)
            | Self::Credentials(_)
            | Self::Redirected { .. }
            | Self::Certificate { .. }
            | Self::HostKey { .. }
            | Self::TooLarge { .. }
            | Self::Authorities { .. }
            | Self::NoDefaultBranch { .. }
            | Self::Rewritten { .. }
            | Self::Unverified { .. }
            | Self::UnverifiedStatus { .. }
            | Self::Signers(_)
            | Self::SigningKey(_)
            | Self::Unsigned { .. }
            | Self::OtherCommits { .. }
            | Self::Path { .. }
            | Self::ForeignDirectory { .. }
            | Self::NotBare { .. } => Class::Invalid,
        }
    }

    /// Returns true if the content of a commit is invalid. Only another commit fixes that; it can arrive at any time.
    pub fn is_about_a_commit(&self) -> bool {
        matches!(self, Self::Path { .. } | Self::NoPath { .. }) || self.holds_tip_back()
    }

    /// Returns true if a tip is held back, so that the last synced commit stays in force.
    pub fn holds_tip_back(&self) -> bool {
        matches!(self, Self::Rewritten { .. } | Self::Unverified { .. })
    }

    /// Returns true if a proxy or a certificate prevents the connection. The message has the remedy.
    pub fn is_network_error(&self) -> bool {
        matches!(self, Self::Proxy { .. } | Self::Certificate { .. } | Self::Authorities { .. })
    }

    /// Classifies an error of a connection to the remote.
    pub(super) fn remote(url: &str, error: &git2::Error) -> Self {
        let (url, why) = (url.to_owned(), without_user_info(error.message()));
        match (error.code(), error.class()) {
            (ErrorCode::Auth, _) if why.starts_with("proxy ") => {
                Self::Proxy { url, why: format!("{AUTHENTICATE} ({why})") }
            }
            (ErrorCode::Auth, _) => Self::Rejected { url, why },
            (ErrorCode::Certificate, _) => Self::Certificate { url, why },
            // libgit2 reports an invalid certificate in this way if the callback that checks SSH host keys is set.
            (_, ErrorClass::Ssl) if why.contains("certificate") => Self::Certificate { url, why },
            (ErrorCode::Owner, _) => Self::Address(format!("{url} {}", foreign_owner(&url))),
            (_, ErrorClass::Http) => Self::http(url, why),
            (_, ErrorClass::Net) if why.starts_with("cannot redirect") => Self::Redirected { url, why },
            (ErrorCode::NotFound, ErrorClass::Repository | ErrorClass::Os) => Self::NoRepository { url, why },
            _ if why.contains("could not find repository") || why.contains("failed to resolve path") => {
                Self::NoRepository { url, why }
            }
            _ => Self::Unreachable { url, why },
        }
    }

    /// Classifies an HTTP error. libgit2 passes the status only in its message.
    fn http(url: String, why: String) -> Self {
        if let Some(status) = why.strip_prefix("proxy returned unexpected status: ") {
            // A proxy that cannot reach the server responds with 502 to 504.
            return match status.starts_with('5') {
                true => Self::Unreachable { url, why: format!("the proxy responds with HTTP {status}") },
                false => Self::Proxy { url, why: format!("{REFUSED} ({why})") },
            };
        }
        let status = why.strip_prefix("unexpected http status code: ").and_then(|code| code.parse().ok());
        match status {
            Some(401 | 403) => Self::Rejected { url, why },
            Some(407) => Self::Proxy { url, why: AUTHENTICATE.to_owned() },
            Some(404 | 410) => Self::NoRepository { url, why },
            Some(400..=499) if status != Some(408) && status != Some(429) => Self::NoRepository { url, why },
            Some(_) => Self::Unreachable { url, why },
            None if why.contains("content-type") => Self::NoRepository { url, why },
            None if why.contains("redirect") => Self::Redirected { url, why },
            None => Self::Unreachable { url, why },
        }
    }

    /// Classifies an error of reading or writing the clone.
    pub(super) fn local(folder: &std::path::Path, error: &git2::Error) -> Self {
        let (folder, why) = (folder.to_owned(), error.message().to_owned());
        match (error.code(), error.class()) {
            (ErrorCode::Owner, _) => {
                let why = format!("it {}", foreign_owner(&folder.display().to_string()));
                Self::CloneDirectory { folder, why }
            }
            (_, ErrorClass::Os | ErrorClass::Filesystem | ErrorClass::NoMemory) => {
                Self::CloneDirectory { folder, why }
            }
            _ => Self::Corrupt { folder, why },
        }
    }

    /// Classifies an error of a transfer, whose cause can be the remote or the clone.
    pub(super) fn transfer(url: &str, folder: &std::path::Path, error: &git2::Error) -> Self {
        match error.class() {
            ErrorClass::Odb
            | ErrorClass::Zlib
            | ErrorClass::Object
            | ErrorClass::Tree
            | ErrorClass::Reference => {
                Self::Corrupt { folder: folder.to_owned(), why: error.message().to_owned() }
            }
            ErrorClass::Os if error.message().contains("No space left") => Self::local(folder, error),
            ErrorClass::Filesystem => Self::local(folder, error),
            _ => Self::remote(url, error),
        }
    }
}

/// Returns the state of the last synced commit while a tip is held back, for the error.
fn state_of_last(missing: Option<&str>) -> String {
    match missing {
        None => "stays in force".to_owned(),
        Some(why) => format!("cannot be loaded ({why}), so nothing is reconciled"),
    }
}

/// Returns the error for a directory that libgit2 does not open because it belongs to another user.
pub(super) fn foreign_owner(path: &str) -> String {
    format!(
        "belongs to another user, and Git does not trust it: run Opsy as its owner, or run \
         git config --global --add safe.directory {path}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_user_is_told_with_what_to_do() {
        let owner = git2::Error::new(ErrorCode::Owner, ErrorClass::Config, "not owned by current user");
        let folder = std::path::Path::new("/srv/r.git");
        for error in [GitError::remote("/srv/r.git", &owner), GitError::local(folder, &owner)] {
            let message = error.to_string();
            assert!(
                message.contains("/srv/r.git belongs to another user")
                    || message.contains("/srv/r.git cannot be used: it belongs to another user"),
                "{message}"
            );
            assert!(message.contains("git config --global --add safe.directory /srv/r.git"), "{message}");
        }
    }

    fn http(status: &str) -> GitError {
        GitError::remote("https://h/r", &git2::Error::new(ErrorCode::GenericError, ErrorClass::Http, status))
    }

    #[test]
    fn http_statuses_are_told_apart() {
        assert!(matches!(http("unexpected http status code: 404"), GitError::NoRepository { .. }));
        assert!(matches!(http("unexpected http status code: 403"), GitError::Rejected { .. }));
        assert!(matches!(http("unexpected http status code: 429"), GitError::Unreachable { .. }));
        assert!(matches!(http("unexpected http status code: 503"), GitError::Unreachable { .. }));
        assert!(matches!(http("invalid content-type: 'text/html'"), GitError::NoRepository { .. }));
        assert!(matches!(http("unexpected redirect"), GitError::Redirected { .. }));
    }

    #[test]
    fn a_proxy_in_the_way_is_explained_without_its_credentials() {
        let error =
            |code, class, message| GitError::remote("https://h/r", &git2::Error::new(code, class, message));
        let unasked = "proxy authentication required but no callback set";
        let unasked = error(ErrorCode::Auth, ErrorClass::Http, unasked).to_string();
        assert!(unasked.contains("407") && unasked.contains("HTTPS_PROXY"), "{unasked}");
        let refused = "proxy returned unexpected status: 403";
        let refused = error(ErrorCode::GenericError, ErrorClass::Http, refused).to_string();
        assert!(refused.contains("NO_PROXY") && refused.contains("403"), "{refused}");
        let away = error(ErrorCode::GenericError, ErrorClass::Http, "proxy returned unexpected status: 503");
        assert_eq!(away.class(), Class::TRANSIENT, "{away}");
        let invalid = "invalid URL: 'http://ann:hunter2@p'";
        let invalid = error(ErrorCode::GenericError, ErrorClass::Http, invalid).to_string();
        assert!(invalid.contains("'http://p'") && !invalid.contains("hunter2"), "{invalid}");
    }

    #[test]
    fn a_redirect_to_another_host_is_no_outage() {
        let error =
            git2::Error::new(ErrorCode::GenericError, ErrorClass::Net, "cannot redirect from 'a' to 'b'");
        assert!(matches!(GitError::remote("https://a/r", &error), GitError::Redirected { .. }));
    }

    #[test]
    fn a_full_disk_is_neither_an_outage_nor_damage() {
        let full = "cannot extend packfile: No space left on device";
        let error = git2::Error::new(ErrorCode::GenericError, ErrorClass::Os, full);
        let error = GitError::transfer("https://h/r", std::path::Path::new("/clone"), &error);
        assert!(matches!(error, GitError::CloneDirectory { .. }), "{error}");
    }

    #[test]
    fn classes_say_who_must_act() {
        let url = String::from("https://h/r");
        assert_eq!(GitError::Unauthenticated { url: url.clone() }.class(), Class::Denied);
        assert_eq!(GitError::Empty { url: url.clone() }.class(), Class::NotFound);
        assert_eq!(GitError::Unreachable { url: url.clone(), why: String::new() }.class(), Class::TRANSIENT);
        assert_eq!(GitError::Contended { url, attempts: 5 }.class(), Class::Conflict);
    }
}
