//! A connection to the remote: credentials, proxy, the classes of errors, and downloads with a limit or a depth.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use git2::{AutotagOption, FetchOptions, ProxyOptions, Remote, RemoteCallbacks};

use super::authenticator::Authenticator;
use super::{GitError, Options};
use crate::api::proxy::Route;

/// The longest fetch of a template repository: a server could otherwise keep it alive by sending a byte now and then.
const LONGEST_FETCH: Duration = Duration::from_secs(600);

/// Returns the callbacks for credentials and host keys.
pub(super) fn callbacks(auth: &Authenticator) -> RemoteCallbacks<'static> {
    let auth = auth.clone();
    let mut callbacks = RemoteCallbacks::new();
    let checking = auth.clone();
    callbacks.credentials(move |url, user, allowed| auth.credentials(url, user, allowed));
    callbacks.certificate_check(move |certificate, _| checking.check(certificate));
    callbacks
}

/// Returns the proxy for the remote.
pub(super) fn proxy(options: &Options) -> ProxyOptions<'static> {
    let mut proxy = ProxyOptions::new();
    match options.http.proxies().route(options.address.url()) {
        Route::Through(through) => {
            proxy.url(through.secret_url());
        }
        // The proxy of Git's own configuration.
        Route::Unset if options.address.may_use_proxy() => {
            proxy.auto();
        }
        Route::Unset | Route::Direct => {}
    }
    proxy
}

/// Classifies an error of a connection, including host keys that were refused and credentials that are not set.
pub(super) fn connection_error(url: &str, auth: &Authenticator, error: &git2::Error) -> GitError {
    if let Some(why) = auth.host_key_error() {
        return GitError::HostKey { url: url.to_owned(), why };
    }
    match GitError::remote(url, error) {
        GitError::Rejected { url, .. } if auth.lacks_credentials() && !auth.is_ssh() => {
            GitError::Unauthenticated { url }
        }
        error => error,
    }
}

/// Fetches refs over one connection, which may receive `limit` bytes.
pub(super) fn download(
    remote: &mut Remote<'_>,
    refspecs: &[String],
    auth: &Authenticator,
    (options, limit): (&Options, Option<usize>),
    depth: i32,
) -> Result<(), GitError> {
    let url = options.address.url();
    let received = Rc::new(Cell::new(0));
    let counting = || {
        let mut callbacks = callbacks(auth);
        let started = Instant::now();
        let counter = Rc::clone(&received);
        callbacks.transfer_progress(move |progress| {
            counter.set(progress.received_bytes());
            limit.is_none_or(|limit| progress.received_bytes() <= limit && started.elapsed() < LONGEST_FETCH)
        });
        callbacks
    };
    receive(remote, refspecs, depth, options, &counting).map_err(|error| {
        match limit.filter(|limit| received.get() > *limit) {
            Some(limit) => GitError::TooLarge { url: url.to_owned(), limit },
            None => GitError::transfer(url, &options.folder, &error),
        }
    })
}

/// Receives refs with this depth, or with their whole history if the server cannot cut it.
pub(super) fn receive(
    remote: &mut Remote<'_>,
    refspecs: &[String],
    depth: i32,
    options: &Options,
    callbacks: &dyn Fn() -> RemoteCallbacks<'static>,
) -> Result<(), git2::Error> {
    let mut fetch = |depth: i32| {
        let mut fetch = FetchOptions::new();
        fetch.remote_callbacks(callbacks()).proxy_options(proxy(options));
        fetch.download_tags(AutotagOption::None).update_fetchhead(false).depth(depth);
        remote.fetch(refspecs, Some(&mut fetch), None)
    };
    match fetch(depth) {
        // A limit of bytes also applies to the whole history.
        Err(error) if depth > 0 && error.message().contains("support shallow") => fetch(0),
        fetched => fetched,
    }
}

/// Returns the depth of a fetch. libgit2 supports no depth for a repository on this machine.
pub(super) fn depth_of(options: &Options, clone: &git2::Repository) -> i32 {
    if options.address.path().is_some() { 0 } else { options.history.depth(clone) }
}
