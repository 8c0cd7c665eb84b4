//! Reads only the refs that are needed, before libgit2 connects and receives all refs of the remote. The quick check of a
//! poll only ever confirms that nothing changed, and a search by prefix only ever returns a complete response. Anything
//! else, including every error, is left to the connection of libgit2, which classifies errors.
//!
//! ```text
//! tracked tips ─> http(s): one request for these refs (ls_refs) │ path: the refs in the repository ─> the same? ─> done
//!                 otherwise, and with SSH ─────────────────────────────────────────────────────────> mirror connects
//! prefix ───────> http(s): one request for the refs below it ─────────────────────────────────────> complete? ─> done
//!                 otherwise ─────────────────────────────────────────────────────────────────> push lists all refs
//! ```

use std::time::{Duration, Instant};

use git2::{Oid, Repository};

use super::Options;
use super::authenticator::Authenticator;
use super::http::Answer;
use super::ref_names::branch_ref;
use crate::api::backoff;
use crate::api::proxy::Route;

mod ls_refs;

use ls_refs::Refs;

/// The pause of the quick check after the first failure, and the longest one. A server that does not speak version 2 of
/// the protocol is asked again after the longest, since servers are upgraded.
const PAUSE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// A branch with its tip in the clone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub branch: String,
    pub tip: Oid,
    /// No branch is named: this is the one that `HEAD` of the remote pointed to.
    pub is_default: bool,
}

/// What is known about the server of a clone.
#[derive(Default)]
pub(super) struct Poll {
    /// The server requires credentials. They are not sent to one that does not.
    is_guarded: bool,
    failures: u32,
    /// The end of the pause after a failure.
    paused_until: Option<Instant>,
}

impl Poll {
    /// Returns true if the remote is known to have these tips. `source` is the repository of a local address.
    pub fn is_unchanged(
        &mut self,
        options: &Options,
        (source, clone): (Option<&Repository>, &Repository),
        auth: &Authenticator,
        expected: &[Expected],
    ) -> bool {
        match source {
            Some(source) => expected.iter().all(|expected| has(source, expected)),
            None => {
                let named = expected.iter().filter(|expected| !expected.is_default);
                let default = expected.iter().any(|expected| expected.is_default);
                let body = ls_refs::request(named.map(|expected| expected.branch.as_str()), default);
                self.can_ask(options, clone)
                    && self.poll(options, auth, &body).is_some_and(|refs| agrees(&refs, expected))
            }
        }
    }

    /// Returns the branches of the remote whose names start with `prefix`. `None` if a single request does not find them.
    pub fn branches_below(
        &mut self,
        (options, clone): (&Options, &Repository),
        auth: &Authenticator,
        prefix: &str,
    ) -> Option<Vec<String>> {
        let can_ask = self.can_ask(options, clone);
        let body = can_ask.then(|| ls_refs::request(std::iter::once(prefix), false))?;
        match self.ask(options, auth, &body) {
            Ok(refs) => Some(refs.branches.into_keys().filter(|name| name.starts_with(prefix)).collect()),
            // Anyone who may push can create more branches than a response may have. This says nothing about polls.
            Err(Unanswered::Incapable) => None,
            Err(why) => {
                self.pause(&why);
                None
            }
        }
    }

    /// Returns true if the server can be asked by HTTP, and the check does not pause.
    fn can_ask(&self, options: &Options, clone: &Repository) -> bool {
        let is_paused = self.paused_until.is_some_and(|end| Instant::now() < end);
        !is_paused && options.address.is_http() && !needs_proxy_of_git(options, clone)
    }

    /// Asks the server for the refs. Without a useful response, the check pauses.
    fn poll(&mut self, options: &Options, auth: &Authenticator, body: &[u8]) -> Option<Refs> {
        match self.ask(options, auth, body) {
            Ok(refs) => {
                (self.failures, self.paused_until) = (0, None);
                Some(refs)
            }
            Err(why) => {
                self.pause(&why);
                None
            }
        }
    }

    fn pause(&mut self, why: &Unanswered) {
        let (first, longest) = PAUSE;
        self.failures += 1;
        let pause = match why {
            Unanswered::Incapable => longest,
            Unanswered::Unavailable => backoff::doubled(first, longest, self.failures),
        };
        self.paused_until = Some(Instant::now() + pause);
    }

    fn ask(&mut self, options: &Options, auth: &Authenticator, body: &[u8]) -> Result<Refs, Unanswered> {
        let send = |login| options.http.upload_pack(options.address.url(), login, body.to_owned());
        let login = auth.login();
        let mut answer = send(login.filter(|_| self.is_guarded));
        if answer == Answer::Unauthorized && login.is_some() && !self.is_guarded {
            self.is_guarded = true;
            answer = send(login);
        }
        match answer {
            Answer::Body(body) => ls_refs::parse(&body).ok_or(Unanswered::Incapable),
            Answer::Other => Err(Unanswered::Incapable),
            Answer::Unauthorized | Answer::Unavailable => Err(Unanswered::Unavailable),
        }
    }
}

/// Why a request has no useful response.
enum Unanswered {
    /// The server does not speak version 2 of the protocol.
    Incapable,
    Unavailable,
}

/// Returns true if the refs confirm all tips. Pure.
fn agrees(refs: &Refs, expected: &[Expected]) -> bool {
    expected.iter().all(|Expected { branch, tip, is_default }| match (is_default, &refs.head) {
        (true, Some((commit, points_to))) => commit == tip && points_to.as_ref() == Some(branch),
        (true, None) => false,
        (false, _) => refs.branches.get(branch) == Some(tip),
    })
}

/// Returns true if a local repository has this tip.
fn has(source: &Repository, Expected { branch, tip, is_default }: &Expected) -> bool {
    let name = branch_ref(branch);
    let points_to_it = || {
        let head = source.find_reference("HEAD");
        head.is_ok_and(|head| head.symbolic_target().is_ok_and(|target| target == Some(&*name)))
    };
    source.refname_to_id(&name).is_ok_and(|found| found == *tip) && (!is_default || points_to_it())
}

/// Returns true if libgit2 could use a proxy of Git's own configuration, which the client here does not know.
fn needs_proxy_of_git(options: &Options, clone: &Repository) -> bool {
    let is_unset = matches!(options.http.proxies().route(options.address.url()), Route::Unset);
    let has_proxy = || {
        let config = clone.config()?;
        let mut entries = config.entries(Some("^http\\.(.*\\.)?proxy$"))?;
        Ok::<_, git2::Error>(entries.next().is_some())
    };
    is_unset && options.address.may_use_proxy() && has_proxy().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> Oid {
        Oid::from_str(&digit.to_string().repeat(40)).expect("an ID")
    }

    fn expected(branch: &str, is_default: bool) -> Expected {
        Expected { branch: branch.to_owned(), tip: id('1'), is_default }
    }

    #[test]
    fn only_the_same_tips_are_confirmed() {
        let refs = |head: Option<(char, Option<&str>)>, branches: &[(&str, char)]| Refs {
            head: head.map(|(tip, branch)| (id(tip), branch.map(str::to_owned))),
            branches: branches.iter().map(|(name, tip)| ((*name).to_owned(), id(*tip))).collect(),
        };
        let named = [expected("main", false)];
        assert!(agrees(&refs(None, &[("main", '1'), ("main-2", '2')]), &named));
        for branches in [&[("main", '2')][..], &[("main-2", '1')], &[]] {
            assert!(!agrees(&refs(Some(('1', Some("main"))), branches), &named), "{branches:?}");
        }
        let default = [expected("main", true)];
        assert!(agrees(&refs(Some(('1', Some("main"))), &[]), &default));
        for head in [Some(('2', Some("main"))), Some(('1', Some("next"))), Some(('1', None)), None] {
            assert!(!agrees(&refs(head, &[("main", '1')]), &default), "{head:?}");
        }
        let both = [expected("main", true), expected("next", false)];
        assert!(agrees(&refs(Some(('1', Some("main"))), &[("next", '1')]), &both));
        assert!(!agrees(&refs(Some(('1', Some("main"))), &[("next", '2')]), &both));
    }
}
