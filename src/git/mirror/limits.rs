//! The limits of libgit2 for the whole process. Set before the first clone is opened.

use std::sync::Once;

use crate::git::tls;

/// A host that does not accept a connection in this time is unreachable.
const CONNECT_TIMEOUT_MS: i32 = 15_000;
/// The longest silence on a connection: a server sends nothing while it prepares a large fetch or runs push hooks.
const SERVER_TIMEOUT_MS: i32 = 120_000;
/// The maximum number of packs that libgit2 has open, of all clones: a process may have 1024 files open by default.
const OPEN_PACKS: usize = 256;

/// Sets the limits of libgit2 for the process: by default it waits without limit, and leaves all packs open.
pub fn configure() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: these set C integers that libgit2 and OpenSSL read when they connect or open a pack. Only threads that
        // a handle starts after this `Once` do that, so no read is concurrent with these writes. The first call
        // initializes libgit2.
        unsafe {
            // No call can fail: libgit2 stores the number and returns 0.
            git2::opts::set_mwindow_file_limit(OPEN_PACKS).ok();
            git2::opts::set_server_connect_timeout_in_milliseconds(CONNECT_TIMEOUT_MS).ok();
            git2::opts::set_server_timeout_in_milliseconds(SERVER_TIMEOUT_MS).ok();
            tls::close_quietly();
        }
    });
}
