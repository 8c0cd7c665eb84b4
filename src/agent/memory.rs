//! The memory of the process: it must not stay as large as the largest commit made it.
//!
//! Half of an idle agent is its own program. Most of that is needed only at start and when a commit is loaded, but the
//! kernel maps the pages around each one that is used, and keeps them.

use std::env;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::engine::board::Board;

/// While builds run, nothing settles for hours. After so many steps, the memory that the commit needed is free.
const STEPS: u32 = 60;
/// While a commit is applied, different parts of the program run one after the other. What has run is released this often:
/// it costs about a millisecond.
const STEP: Duration = Duration::from_secs(1);

/// Uses one heap for all threads. By default, glibc has one per thread, and each of them keeps the memory of its
/// largest burst of work. Call this before other threads are started.
#[cfg(target_env = "gnu")]
pub fn share() {
    // SAFETY: this sets an integer of the allocator. If it is refused (result 0), the process only uses more memory.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: this returns unused pages to the kernel; the allocator locks itself.
    unsafe { libc::malloc_trim(0) };
    release_program();
}

/// Lets the kernel reclaim the pages of the program, and maps again only what is used from now on. That costs a minor fault
/// for 64 KiB at a time.
#[cfg(target_env = "gnu")]
fn release_program() {
    let Some((maps, program)) = fs::read_to_string("/proc/self/maps").ok().zip(env::current_exe().ok())
    else {
        return;
    };
    for (start, length) in never_written(&maps, &program.to_string_lossy()) {
        for advice in [libc::MADV_COLD, libc::MADV_DONTNEED] {
            // SAFETY: the pages are those of a file, read-only and never written, so the kernel reads the same again. Where
            // it refuses the advice, the process only uses more memory.
            unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), length, advice) };
        }
    }
}

/// The mappings of a program that are never written, by address and length: its code, and what its file begins with, which
/// are the relocations and the constants. Other mappings that are read-only may have been relocated: they differ from the
/// file.
fn never_written(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let mapping = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let path = fields.nth(2)?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (address(start)?, address(end)?);
        let is_beginning = || permissions == "r--p" && address(offset) == Some(0);
        let is_never_written = permissions == "r-xp" || is_beginning();
        (is_never_written && path == program).then(|| (start, end.saturating_sub(start)))
    };
    maps.lines().filter_map(mapping).collect()
}

#[cfg(not(target_env = "gnu"))]
pub fn share() {}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(not(target_env = "gnu"))]
fn release_program() {}

/// Returns unused pages to the kernel when a commit was read, when its objects have settled, and when their status was
/// published. A commit that changes no object is read as well. What only the start or the reading needed of the program is
/// released before the reconciles need the rest.
pub async fn give_back<R, L, P>(
    board: Arc<Board>,
    mut read: watch::Receiver<R>,
    mut loaded: watch::Receiver<L>,
    mut published: watch::Receiver<P>,
) {
    release_program();
    loop {
        let changed = tokio::select! {
            changed = read.changed() => changed,
            changed = loaded.changed() => changed,
            changed = published.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        let settled = board.wait_until_settled();
        tokio::pin!(settled);
        for _ in 0..STEPS {
            release_program();
            if timeout(STEP, &mut settled).await.is_ok() {
                break;
            }
        }
        trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_never_written_of_the_program_is_released() {
        let maps = "\
5500000000-5500001000 r--p 00000000 fe:00 12 /usr/bin/opsy
5500001000-5500003000 r-xp 00001000 fe:00 12 /usr/bin/opsy
5500003000-5500004000 r--p 00003000 fe:00 12 /usr/bin/opsy
5500004000-5500005000 rw-p 00004000 fe:00 12 /usr/bin/opsy
7f0000000000-7f0000001000 r-xp 00000000 fe:00 13 /usr/lib/libc.so.6
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0 [vdso]
7ffd00000000-7ffd00001000 rw-p 00000000 00:00 0";
        let expected = [(0x55_0000_0000, 0x1000), (0x55_0000_1000, 0x2000)];
        assert_eq!(never_written(maps, "/usr/bin/opsy"), expected);
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn a_released_program_runs_as_before() {
        for _ in 0..3 {
            release_program();
        }
        let own = env::current_exe().expect("a program");
        let maps = fs::read_to_string("/proc/self/maps").expect("the mappings");
        let released = never_written(&maps, &own.to_string_lossy());
        assert!(!released.is_empty(), "{maps}");
        // What was written would be lost.
        let details = fs::read_to_string("/proc/self/smaps").expect("the mappings with their sizes");
        for (start, _) in released {
            let from = details.find(&format!("{start:x}-")).expect("the mapping");
            let anonymous = details[from..].lines().find(|line| line.starts_with("Anonymous:"));
            assert_eq!(anonymous.map(|line| line.ends_with(" 0 kB")), Some(true), "{anonymous:?}");
        }
    }
}
