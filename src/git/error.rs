//! The one table from libgit2's errors to ours, and from ours to classes. Every message says what to do.

use std::path::PathBuf;

use git2::{ErrorClass, ErrorCode};

use super::signatures::Refusal;
use crate::api::network::{AUTHENTICATE, REFUSED, TRUST};
use crate::api::proxy::without_user_info;
use crate::api::{Class, CommitId};

/// What went wrong with the repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    #[error("{0}")]
    Address(String),
    #[error("{0}")]
    Credentials(String),
    #[error("{url} asks for credentials and none are set: set a token, or a user name and password")]
    Unauthenticated { url: String },
    #[error("{url} refuses the credentials ({why}): check user and token, and what the token may do")]
    Rejected { url: String, why: String },
    #[error("GitHub App {id}: {why}")]
    App { id: String, why: String },
    #[error("{url} is not a Git repository, or the credentials may not see it ({why}): check the address")]
    NoRepository { url: String, why: String },
    #[error("{url} redirects to another server ({why}): give the address it redirects to")]
    Moved { url: String, why: String },
    #[error("{url}: {TRUST} ({why})")]
    Certificate { url: String, why: String },
    #[error("{url}: {why}")]
    HostKey { url: String, why: String },
    #[error("{url}: {why}")]
    Proxy { url: String, why: String },
    #[error("--ca-file {file} cannot be used: {why}", file = file.display())]
    Authorities { file: PathBuf, why: String },
    #[error(
        "{url} sends more than {limit} bytes, the limit of a template repository: keep large files elsewhere"
    )]
    TooLarge { url: String, limit: usize },
    #[error("{url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    #[error("{url} has no commit yet: push a first one")]
    Empty { url: String },
    #[error(
        "{url} is at commit {commit} with a detached HEAD, and has {has}: make a branch of it \
         (git switch -c NAME), or name another with --branch"
    )]
    Detached { url: String, commit: CommitId, has: String },
    #[error("{url} has no branch {branch:?}, only {has}: name one of them")]
    NoBranch { url: String, branch: String, has: String },
    #[error("{url} names no default branch and has several ({has}): name one of them")]
    NoDefaultBranch { url: String, has: String },
    #[error("commit {0} is not in the clone: the branch was rewritten")]
    NoCommit(CommitId),
    #[error(
        "commit {0} is not in the clone, and the server does not send it by its ID: keep the clone on a persistent \
         volume, or allow uploadpack.allowAnySHA1InWant on the server"
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
        /// Why the last synced commit cannot be loaded, where no commit is.
        missing: Option<String>,
    },
    #[error(
        "commit {commit} by {author} is not accepted: {why}; the last synced commit stays in force; check who made it, then \
         sign it with the key of a trusted signer and push again, or run `opsy accept {commit}` to accept it with all \
         commits before it"
    )]
    Unverified { commit: CommitId, author: String, why: Refusal },
    #[error(
        "nothing is committed to branch {branch}: its tip {tip}; check who made it, then delete the branch, or sign its tip \
         with the key of a trusted signer"
    )]
    UnverifiedStatus { branch: String, tip: String },
    #[error("{0}")]
    Signers(String),
    #[error("{0}")]
    SigningKey(String),
    #[error(
        "nothing is committed to branch {branch}, because commits of this agent would not be accepted with --verify: set \
         --signing-key, or publish.branch or publish.enabled: false in opsy.yaml"
    )]
    Unsigned { branch: String },
    #[error("{path} does not exist at commit {commit}: check the path")]
    NoPath { path: String, commit: CommitId },
    #[error("{path}: {why}")]
    Path { path: String, why: String },
    #[error("the clone at {folder} is damaged ({why})", folder = folder.display())]
    Corrupt { folder: PathBuf, why: String },
    #[error("the clone folder {folder} cannot be used: {why}", folder = folder.display())]
    Folder { folder: PathBuf, why: String },
    #[error("{folder} is not empty and was not made by Opsy: name another clone folder", folder = folder.display())]
    ForeignFolder { folder: PathBuf },
    #[error(
        "{path} has a work tree, and nothing can be pushed into one: use a bare repository, or publish.enabled: false"
    )]
    NotBare { path: String },
    #[error("{url} was changed by others during each of {attempts} attempts to push")]
    Contended { url: String, attempts: u32 },
    #[error("the Git thread ended while answering")]
    Gone,
}

impl GitError {
    /// What the failure asks of the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Unauthenticated { .. } | Self::Rejected { .. } | Self::App { .. } | Self::Proxy { .. } => {
                Class::Denied
            }
            Self::Unreachable { .. } | Self::Corrupt { .. } | Self::Folder { .. } | Self::Gone => {
                Class::TRANSIENT
            }
            Self::Contended { .. } => Class::Conflict,
            Self::NoRepository { .. }
            | Self::Empty { .. }
            | Self::Detached { .. }
            | Self::NoBranch { .. }
            | Self::NoCommit(_)
            | Self::NotSent(_)
            | Self::NoPath { .. } => Class::NotFound,
            Self::Address(_)
            | Self::Credentials(_)
            | Self::Moved { .. }
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
            | Self::Path { .. }
            | Self::ForeignFolder { .. }
            | Self::NotBare { .. } => Class::Invalid,
        }
    }

    /// Is it what a commit holds that is wrong? Then only another commit helps, and it may come at any time.
    pub fn is_about_a_commit(&self) -> bool {
        matches!(self, Self::Path { .. } | Self::NoPath { .. }) || self.holds()
    }

    /// Is a tip held back, so that the last synced commit stays in force?
    pub fn holds(&self) -> bool {
        matches!(self, Self::Rewritten { .. } | Self::Unverified { .. })
    }

    /// Does something between this machine and the remote refuse the connection? The message has the remedy.
    pub fn is_of_the_network(&self) -> bool {
        matches!(self, Self::Proxy { .. } | Self::Certificate { .. } | Self::Authorities { .. })
    }

    /// An error while talking to the remote.
    pub(super) fn remote(url: &str, error: &git2::Error) -> Self {
        let (url, why) = (url.to_owned(), without_user_info(error.message()));
        match (error.code(), error.class()) {
            (ErrorCode::Auth, _) if why.starts_with("proxy ") => {
                Self::Proxy { url, why: format!("{AUTHENTICATE} ({why})") }
            }
            (ErrorCode::Auth, _) => Self::Rejected { url, why },
            (ErrorCode::Certificate, _) => Self::Certificate { url, why },
            // So libgit2 reports it where host keys of SSH are checked by us.
            (_, ErrorClass::Ssl) if why.contains("certificate") => Self::Certificate { url, why },
            (ErrorCode::Owner, _) => Self::Address(format!("{url} {}", of_another_user(&url))),
            (_, ErrorClass::Http) => Self::http(url, why),
            (_, ErrorClass::Net) if why.starts_with("cannot redirect") => Self::Moved { url, why },
            (ErrorCode::NotFound, ErrorClass::Repository | ErrorClass::Os) => Self::NoRepository { url, why },
            _ if why.contains("could not find repository") || why.contains("failed to resolve path") => {
                Self::NoRepository { url, why }
            }
            _ => Self::Unreachable { url, why },
        }
    }

    /// libgit2 hands the HTTP status over in its message alone.
    fn http(url: String, why: String) -> Self {
        if let Some(status) = why.strip_prefix("proxy returned unexpected status: ") {
            // A proxy that cannot reach the server answers 502 to 504.
            return match status.starts_with('5') {
                true => Self::Unreachable { url, why: format!("the proxy answers with HTTP {status}") },
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
            None if why.contains("redirect") => Self::Moved { url, why },
            None => Self::Unreachable { url, why },
        }
    }

    /// An error while reading or writing the clone.
    pub(super) fn local(folder: &std::path::Path, error: &git2::Error) -> Self {
        let (folder, why) = (folder.to_owned(), error.message().to_owned());
        match (error.code(), error.class()) {
            (ErrorCode::Owner, _) => {
                let why = of_another_user(&folder.display().to_string());
                Self::Folder { folder, why }
            }
            (_, ErrorClass::Os | ErrorClass::Filesystem | ErrorClass::NoMemory) => {
                Self::Folder { folder, why }
            }
            _ => Self::Corrupt { folder, why },
        }
    }

    /// An error of a transfer, which can lie on either side.
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

/// What becomes of the last synced commit while a tip is held back.
fn state_of_last(missing: Option<&str>) -> String {
    match missing {
        None => "stays in force".to_owned(),
        Some(why) => format!("cannot be loaded ({why}), so nothing is reconciled"),
    }
}

/// What to do about a folder that libgit2 does not open because of its owner.
pub(super) fn of_another_user(path: &str) -> String {
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
            let said = error.to_string();
            assert!(
                said.contains("/srv/r.git belongs to another user") || said.contains("/srv/r.git cannot"),
                "{said}"
            );
            assert!(said.contains("git config --global --add safe.directory /srv/r.git"), "{said}");
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
        assert!(matches!(http("unexpected redirect"), GitError::Moved { .. }));
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
        assert!(matches!(GitError::remote("https://a/r", &error), GitError::Moved { .. }));
    }

    #[test]
    fn a_full_disk_is_neither_an_outage_nor_damage() {
        let full = "cannot extend packfile: No space left on device";
        let error = git2::Error::new(ErrorCode::GenericError, ErrorClass::Os, full);
        let error = GitError::transfer("https://h/r", std::path::Path::new("/clone"), &error);
        assert!(matches!(error, GitError::Folder { .. }), "{error}");
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
