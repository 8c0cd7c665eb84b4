//! One push, and what the server really said. libgit2 returns `Ok` for a push the server refused:
//! the refusal arrives through a callback alone, the hook's words through another.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use git2::{Direction, ErrorCode, Oid, PushOptions, RemoteCallbacks};

use super::GitError;
use super::auth::Answers;
use super::mirror::{Mirror, callbacks, check_local, proxy, refusal};

/// The ref in the clone that is pushed from.
const OUTGOING: &str = "refs/opsy/outgoing";
/// Of what hooks print, this much is kept: it goes into conditions and logs.
const WORDS_LIMIT: usize = 1500;

/// What came of a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    Done,
    /// The branch is not where we left it.
    Lost,
    Refused {
        words: String,
    },
}

/// What the callbacks heard.
#[derive(Clone, Default)]
struct Heard {
    /// The server's answer for our ref; `None` inside when it took the update.
    status: Rc<RefCell<Option<Option<String>>>>,
    /// What hooks printed.
    printed: Rc<RefCell<Vec<u8>>>,
    moved: Rc<Cell<bool>>,
}

/// Pushes a commit that was built on `base`.
pub(super) fn push(
    mirror: &mut Mirror,
    commit: Oid,
    branch: &str,
    base: Option<Oid>,
) -> Result<Pushed, GitError> {
    if let Some(path) = mirror.options().address.path().map(Path::to_owned) {
        return push_local(mirror, &path, commit, branch, base);
    }
    let heard = Heard::default();
    let sent = send(mirror, commit, &format!("refs/heads/{branch}"), base, &heard);
    let status = heard.status.borrow_mut().take();
    match (sent, status) {
        (_, _) if heard.moved.get() => Ok(Pushed::Lost),
        (Err(Sent::NotFastForward), _) => Ok(Pushed::Lost),
        (Err(Sent::Failed(error)), _) => Err(error),
        (Ok(()), Some(None)) => Ok(Pushed::Done),
        // Without a word about our ref nothing is known: the remote itself is asked.
        (Ok(()), None) if tip(mirror, branch)? == Some(commit) => Ok(Pushed::Done),
        (Ok(()), status) => {
            // A rival who was faster is reported by the server in the same way as a refusing hook.
            if tip(mirror, branch)? != base {
                return Ok(Pushed::Lost);
            }
            let status =
                status.flatten().unwrap_or_else(|| "the server took nothing and did not say why".to_owned());
            Ok(Pushed::Refused { words: words(&status, &heard.printed.borrow()) })
        }
    }
}

enum Sent {
    NotFastForward,
    Failed(GitError),
}

/// Pushes into a repository on this machine. libgit2 would set the branch there without looking whose
/// commit it replaces: so the objects go to a ref of our own, and the branch moves only from `base`.
fn push_local(
    mirror: &mut Mirror,
    path: &Path,
    commit: Oid,
    branch: &str,
    base: Option<Oid>,
) -> Result<Pushed, GitError> {
    let incoming = format!("refs/opsy/incoming/{commit}");
    let heard = Heard::default();
    match send(mirror, commit, &incoming, None, &heard) {
        Err(Sent::Failed(error)) if !heard.moved.get() => return Err(error),
        // Else it is there: now, or since a process was killed right after this.
        _ => {}
    }
    let remote = check_local(path)?;
    let name = format!("refs/heads/{branch}");
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

/// Sends a commit to a ref of the remote, which must be at `base`.
fn send(
    mirror: &mut Mirror,
    commit: Oid,
    target: &str,
    base: Option<Oid>,
    heard: &Heard,
) -> Result<(), Sent> {
    let options = mirror.options().clone();
    let answers = mirror.answers().map_err(Sent::Failed)?;
    let repo = mirror.repo().map_err(Sent::Failed)?;
    let local = |error: git2::Error| Sent::Failed(GitError::local(&options.folder, &error));
    repo.reference(OUTGOING, commit, true, "to push").map_err(local)?;
    let url = options.address.url();
    let failed = |error: git2::Error| match error.code() {
        ErrorCode::NotFastForward => Sent::NotFastForward,
        _ => Sent::Failed(refusal(url, &answers, &error)),
    };
    let mut remote = repo.remote_anonymous(url).map_err(failed)?;
    let mut push = PushOptions::new();
    push.remote_callbacks(listening(&answers, heard, base)).proxy_options(proxy(&options));
    remote.push(&[format!("{OUTGOING}:{target}")], Some(&mut push)).map_err(failed)
}

fn listening<'a>(answers: &Answers, heard: &'a Heard, base: Option<Oid>) -> RemoteCallbacks<'a> {
    let mut callbacks: RemoteCallbacks<'a> = callbacks(answers);
    callbacks.push_update_reference(|_, status| {
        *heard.status.borrow_mut() = Some(status.map(str::to_owned));
        Ok(())
    });
    callbacks.sideband_progress(|bytes| {
        let mut printed = heard.printed.borrow_mut();
        let room = WORDS_LIMIT.saturating_sub(printed.len());
        printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
        true
    });
    // A fast-forward is not enough: were the branch reset to an older commit meanwhile, our commit
    // would bring back what somebody removed. The branch must be exactly where we looked.
    callbacks.push_negotiation(move |updates| {
        let expected = base.unwrap_or(Oid::ZERO_SHA1);
        // `src` is where the remote's branch is, `dst` where we would put it.
        if updates.iter().any(|update| update.src() != expected) {
            heard.moved.set(true);
            return Err(git2::Error::from_str("the branch moved"));
        }
        Ok(())
    });
    callbacks
}

/// Where the branch is on the remote now.
fn tip(mirror: &mut Mirror, branch: &str) -> Result<Option<Oid>, GitError> {
    let options = mirror.options().clone();
    let answers = mirror.answers()?;
    let url = options.address.url();
    let at_remote = |error: git2::Error| refusal(url, &answers, &error);
    let mut remote = mirror.repo()?.remote_anonymous(url).map_err(at_remote)?;
    let connection = remote
        .connect_auth(Direction::Fetch, Some(callbacks(&answers)), Some(proxy(&options)))
        .map_err(at_remote)?;
    let name = format!("refs/heads/{branch}");
    let list = connection.list().map_err(at_remote)?;
    Ok(list.iter().find(|head| head.name() == name).map(git2::RemoteHead::oid))
}

/// The server's status and what its hooks printed, as one line for people.
fn words(status: &str, printed: &[u8]) -> String {
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
        assert_eq!(words("hook declined", b""), "hook declined");
        assert_eq!(
            words("pre-receive hook declined", b"status is frozen\r\n  ask the platform team \n\n"),
            "pre-receive hook declined: status is frozen; ask the platform team"
        );
    }
}
