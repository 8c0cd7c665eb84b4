//! A push and its actual result. libgit2 returns `Ok` for a push that the server rejected: it reports the rejection
//! only through a callback, and the output of hooks through another one.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use git2::{Direction, ErrorCode, Oid, PushOptions, RemoteCallbacks};
use rustix::fs::{Access, access};

use super::GitError;
use super::authenticator::Authenticator;
use super::connection::{callbacks, connection_error, proxy};
use super::heads::{Heads, heads};
use super::mirror::{Mirror, check_local};
use super::ref_names::branch_ref;

/// The ref in the clone that is pushed.
const OUTGOING: &str = "refs/opsy/outgoing";
/// The maximum number of bytes of hook output that is kept: conditions and logs contain it.
const PRINTED_LIMIT: usize = 1500;

/// The result of a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    Done,
    /// The branch has moved since it was fetched.
    Lost,
    /// The server rejected the update.
    Rejected {
        message: String,
    },
}

/// What the callbacks recorded.
#[derive(Clone, Default)]
struct Report {
    /// The server's status of the ref; the inner `None` means that it accepted the update.
    status: Rc<RefCell<Option<Option<String>>>>,
    /// The output of hooks.
    printed: Rc<RefCell<Vec<u8>>>,
    /// The branch was not at the expected commit.
    moved: Rc<Cell<bool>>,
}

/// How a branch is moved. In either case, it must be at the expected commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The new commit descends from the expected one.
    FastForward,
    /// The new commit takes the place of commits of this agent.
    Replace,
}

/// Pushes a commit to a branch that is at `base`.
pub(super) fn push(
    mirror: &mut Mirror,
    commit: Oid,
    branch: &str,
    base: Option<Oid>,
    update: Update,
) -> Result<Pushed, GitError> {
    if let Some(path) = mirror.options().address.path().map(Path::to_owned) {
        return push_local(mirror, &path, commit, branch, base);
    }
    let force = if update == Update::Replace { "+" } else { "" };
    let target = branch_ref(branch);
    let report = Report::default();
    let sent = send(mirror, commit, &format!("{force}{OUTGOING}:{target}"), base, &report);
    result(mirror, sent, branch, (base, Some(commit)), &report)
}

/// Deletes a branch that is at `tip`.
pub(super) fn delete(mirror: &mut Mirror, branch: &str, tip: Oid) -> Result<Pushed, GitError> {
    let target = branch_ref(branch);
    if let Some(path) = mirror.options().address.path().map(Path::to_owned) {
        let failed = |error: git2::Error| GitError::remote(&path.display().to_string(), &error);
        return match check_local(&path)?.find_reference(&target) {
            Ok(mut found) if found.target() == Some(tip) => {
                found.delete().map(|()| Pushed::Done).map_err(failed)
            }
            Ok(_) => Ok(Pushed::Lost),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(Pushed::Done),
            Err(error) => Err(failed(error)),
        };
    }
    let report = Report::default();
    let sent = send(mirror, tip, &format!(":{target}"), Some(tip), &report);
    result(mirror, sent, branch, (Some(tip), None), &report)
}

/// Returns the result of a push that moves a branch from one tip to another one.
fn result(
    mirror: &mut Mirror,
    sent: Result<(), SendError>,
    branch: &str,
    (from, to): (Option<Oid>, Option<Oid>),
    report: &Report,
) -> Result<Pushed, GitError> {
    let status = report.status.borrow_mut().take();
    match (sent, status) {
        (_, _) if report.moved.get() => Ok(Pushed::Lost),
        (Err(SendError::NotFastForward), _) => Ok(Pushed::Lost),
        (Err(SendError::Failed(error)), _) => Err(error),
        (Ok(()), Some(None)) => Ok(Pushed::Done),
        // Without a status of the ref, the result is unknown: read the ref from the remote.
        (Ok(()), None) if tip(mirror, branch)? == to => Ok(Pushed::Done),
        (Ok(()), status) => {
            // The server reports a lost race in the same way as a rejection by a hook.
            if tip(mirror, branch)? != from {
                return Ok(Pushed::Lost);
            }
            let status = status
                .flatten()
                .unwrap_or_else(|| "the server did not accept the commit and gave no reason".to_owned());
            Ok(Pushed::Rejected { message: message(&status, &report.printed.borrow()) })
        }
    }
}

enum SendError {
    NotFastForward,
    Failed(GitError),
}

/// Pushes into a repository on this machine. libgit2 would move the branch without checking which commit it replaces.
/// Therefore the objects are pushed to a separate ref, and the branch is moved only if it is at `base`.
fn push_local(
    mirror: &mut Mirror,
    path: &Path,
    commit: Oid,
    branch: &str,
    base: Option<Oid>,
) -> Result<Pushed, GitError> {
    let incoming = format!("refs/opsy/incoming/{commit}");
    let report = Report::default();
    match send(mirror, commit, &format!("{OUTGOING}:{incoming}"), None, &report) {
        Err(SendError::Failed(error)) if !report.moved.get() => return Err(error),
        // The ref exists now: it was pushed, or a process was killed after it had pushed it.
        _ => {}
    }
    let remote = check_local(path)?;
    let name = branch_ref(branch);
    let moved = match base {
        Some(base) => remote.reference_matching(&name, commit, true, base, "opsy: publish"),
        None => remote.reference(&name, commit, false, "opsy: publish"),
    };
    let failed = |error: git2::Error| GitError::remote(&path.display().to_string(), &error);
    if let Ok(mut reference) = remote.find_reference(&incoming) {
        reference.delete().map_err(failed)?;
    }
    match moved {
        Ok(_) => Ok(Pushed::Done),
        Err(error) => match error.code() {
            ErrorCode::Modified | ErrorCode::Exists | ErrorCode::NotFound | ErrorCode::Locked => {
                Ok(Pushed::Lost)
            }
            _ => Err(failed(error)),
        },
    }
}

/// Moves or deletes a ref of the remote, which must be at `base`. `OUTGOING` is the commit.
fn send(
    mirror: &mut Mirror,
    commit: Oid,
    refspec: &str,
    base: Option<Oid>,
    report: &Report,
) -> Result<(), SendError> {
    let options = mirror.options().clone();
    let auth = mirror.authenticator().map_err(SendError::Failed)?;
    let repo = mirror.repo().map_err(SendError::Failed)?;
    let local = |error: git2::Error| SendError::Failed(GitError::local(&options.folder, &error));
    repo.reference(OUTGOING, commit, true, "to push").map_err(local)?;
    let url = options.address.url();
    let failed = |error: git2::Error| match error.code() {
        ErrorCode::NotFastForward => SendError::NotFastForward,
        _ => SendError::Failed(connection_error(url, &auth, &error)),
    };
    let mut remote = repo.remote_anonymous(url).map_err(failed)?;
    let mut push = PushOptions::new();
    push.remote_callbacks(push_callbacks(&auth, report, base)).proxy_options(proxy(&options));
    remote.push(&[refspec], Some(&mut push)).map_err(failed)
}

/// Returns the callbacks for a push, which fill the report.
fn push_callbacks<'a>(auth: &Authenticator, report: &'a Report, base: Option<Oid>) -> RemoteCallbacks<'a> {
    let mut callbacks: RemoteCallbacks<'a> = callbacks(auth);
    callbacks.push_update_reference(|_, status| {
        *report.status.borrow_mut() = Some(status.map(str::to_owned));
        Ok(())
    });
    callbacks.sideband_progress(|bytes| {
        let mut printed = report.printed.borrow_mut();
        let left = PRINTED_LIMIT.saturating_sub(printed.len());
        printed.extend_from_slice(&bytes[..bytes.len().min(left)]);
        true
    });
    // A fast-forward is not enough: if the branch was reset to an older commit in the meantime, the new commit would
    // restore what was removed. The branch must be exactly at `base`.
    callbacks.push_negotiation(move |updates| {
        let expected = base.unwrap_or(Oid::ZERO_SHA1);
        // `src` is the current commit of the remote's branch, `dst` the new one.
        if updates.iter().any(|update| update.src() != expected) {
            report.moved.set(true);
            return Err(git2::Error::from_str("the branch moved"));
        }
        Ok(())
    });
    callbacks
}

/// Returns the tip of the branch on the remote.
fn tip(mirror: &Mirror, branch: &str) -> Result<Option<Oid>, GitError> {
    let listed = listed(mirror, Direction::Fetch)?;
    Ok(listed.branches.into_iter().find(|(name, _)| name == branch).map(|(_, tip)| tip))
}

/// Returns the branches of the remote, if it accepts pushes with the credentials. Nothing is pushed: a server refuses
/// the connection if the user may not write, but applies the rules of a branch only to a push.
pub(super) fn branches_to_push(mirror: &Mirror) -> Result<Vec<String>, GitError> {
    if let Some(path) = mirror.options().address.path() {
        check_writable(path)?;
    }
    Ok(listed(mirror, Direction::Push)?.branches.into_iter().map(|(name, _)| name).collect())
}

/// Returns the branches of the remote whose names start with `prefix`.
pub(super) fn branches_below(mirror: &mut Mirror, prefix: &str) -> Result<Vec<String>, GitError> {
    if let Some(names) = mirror.poll_below(prefix)? {
        return Ok(names);
    }
    let names = listed(mirror, Direction::Fetch)?.branches.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

/// A push to a repository on this machine creates files in these directories.
fn check_writable(path: &Path) -> Result<(), GitError> {
    let folder = check_local(path)?.commondir().to_owned();
    for part in ["objects", "refs/heads"] {
        let part = folder.join(part);
        access(&part, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| GitError::Rejected {
            url: path.display().to_string(),
            why: format!("{} is not writable: {error}", part.display()),
        })?;
    }
    Ok(())
}

/// Connects, and returns what the remote lists.
fn listed(mirror: &Mirror, direction: Direction) -> Result<Heads, GitError> {
    let options = mirror.options();
    let auth = mirror.authenticator()?;
    let url = options.address.url();
    let at_remote = |error: git2::Error| connection_error(url, &auth, &error);
    let mut remote = git2::Remote::create_detached(url).map_err(at_remote)?;
    let connection =
        remote.connect_auth(direction, Some(callbacks(&auth)), Some(proxy(options))).map_err(at_remote)?;
    Ok(heads(connection.list().map_err(at_remote)?))
}

/// Returns the status of the server and the output of its hooks, as one line.
fn message(status: &str, printed: &[u8]) -> String {
    let printed = String::from_utf8_lossy(printed);
    let lines: Vec<&str> =
        printed.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { status.to_owned() } else { format!("{status}: {}", lines.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_in_one_line() {
        assert_eq!(message("hook declined", b""), "hook declined");
        assert_eq!(
            message("pre-receive hook declined", b"status is frozen\r\n  ask the platform team \n\n"),
            "pre-receive hook declined: status is frozen; ask the platform team"
        );
    }
}
