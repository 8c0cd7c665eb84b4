//! The TLS settings of libgit2: one OpenSSL context for the whole process.

use std::ffi::{c_int, c_void};

use super::GitError;
use crate::api::network::Authorities;

/// Makes libgit2 trust these authorities in addition to those of the system.
///
/// # Errors
/// If OpenSSL cannot read the file.
///
/// # Safety
/// No other thread may be running.
pub unsafe fn trust(authorities: &Authorities) -> Result<(), GitError> {
    // SAFETY: libgit2 changes its TLS context, which no other thread can use, as the caller ensures.
    let added = unsafe { git2::opts::set_ssl_cert_file(authorities.file()) };
    added.map_err(|error| GitError::Authorities {
        file: authorities.file().to_owned(),
        why: error.message().to_owned(),
    })
}

unsafe extern "C" {
    /// `SSL_CTX *` of the vendored libgit2, created when it is initialized.
    static git__ssl_ctx: *mut c_void;
    fn SSL_CTX_set_quiet_shutdown(context: *mut c_void, mode: c_int);
}

/// Disables the close_notify alert of TLS. If a certificate is refused behind a proxy, libgit2 1.9 frees the connection
/// to the proxy before it closes TLS on it: the alert would be written to freed memory, so that the thread hangs or the
/// process crashes. Servers do not need the alert, because HTTP states where a message ends.
///
/// # Safety
/// libgit2 must be initialized, and no thread may connect with it before this returns.
pub(super) unsafe fn close_quietly() {
    // SAFETY: the initialization created the context, which lives as long as the process. OpenSSL writes an integer in
    // it that no connection reads in the meantime, as the caller ensures.
    unsafe {
        if !git__ssl_ctx.is_null() {
            SSL_CTX_set_quiet_shutdown(git__ssl_ctx, 1);
        }
    }
}
