//! TLS of libgit2: one context of OpenSSL for the whole process.

use std::ffi::{c_int, c_void};

use super::GitError;
use crate::api::network::Authorities;

/// Trusts these authorities in addition to the system's.
///
/// # Errors
/// OpenSSL cannot read the file.
///
/// # Safety
/// No other thread may run.
pub unsafe fn trust(authorities: &Authorities) -> Result<(), GitError> {
    // SAFETY: libgit2 changes its TLS context, which no other thread can use, as the caller ensures.
    let added = unsafe { git2::opts::set_ssl_cert_file(authorities.file()) };
    added.map_err(|error| GitError::Authorities {
        file: authorities.file().to_owned(),
        why: error.message().to_owned(),
    })
}

unsafe extern "C" {
    /// `SSL_CTX *` of the vendored libgit2, made when it is initialized.
    static git__ssl_ctx: *mut c_void;
    fn SSL_CTX_set_quiet_shutdown(context: *mut c_void, mode: c_int);
}

/// Keeps TLS from saying good-bye. Where a certificate is refused behind a proxy, libgit2 1.9 frees the connection to
/// the proxy first and then closes TLS on it: the good-bye would be written to freed memory, and the thread hangs or
/// the process crashes. Servers need none, since HTTP says where a message ends.
///
/// # Safety
/// libgit2 is initialized, and no thread connects by it before this returns.
pub(super) unsafe fn close_quietly() {
    // SAFETY: the context was made by the initialization and lives as long as the process; OpenSSL writes an integer in
    // it that no connection reads meanwhile, as the caller ensures.
    unsafe {
        if !git__ssl_ctx.is_null() {
            SSL_CTX_set_quiet_shutdown(git__ssl_ctx, 1);
        }
    }
}
