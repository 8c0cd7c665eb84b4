//! Signals to the runner, and the only place where it waits. A handler sets a flag and writes a byte to
//! a pipe, which ends the wait immediately. Handlers are used instead of blocked signals, because PID 1
//! has no default actions and a process with threads cannot block signals for all of them.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

static STOP: AtomicBool = AtomicBool::new(false);
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// SIGHUP is included because closing the terminal must stop the run as Ctrl-C does.
const STOP_SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// The installed handlers; they remain for the lifetime of the process.
pub struct Signals {
    wake: OwnedFd,
}

impl Signals {
    pub fn install() -> io::Result<Self> {
        let (wake, waker) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The write end is never closed, because the handler may run until the process exits.
        WAKE.store(waker.into_raw_fd(), Ordering::SeqCst);
        for signal in STOP_SIGNALS.into_iter().chain([libc::SIGCHLD]) {
            handle(signal)?;
        }
        Ok(Self { wake })
    }

    pub fn stop_asked(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }

    /// Returns after `most`, or as soon as a signal has arrived since the last wait.
    pub fn wait(&self, most: Duration) {
        let most = Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
        // The result is ignored because the caller checks its whole state after every wait.
        let _ = poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], Some(&most));
        let mut bytes = [0_u8; 64];
        // SAFETY: reads into a live buffer of the given length from a descriptor we own.
        while unsafe { libc::read(self.wake.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) } > 0 {}
    }
}

fn handle(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one (empty mask, no flags).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
    // SAFETY: `action` is initialized, and its handler is async-signal-safe.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Async-signal-safe: it uses only atomics and `write`, and restores `errno`.
extern "C" fn on_signal(signal: libc::c_int) {
    if signal != libc::SIGCHLD {
        STOP.store(true, Ordering::SeqCst);
    }
    // SAFETY: errno is thread-local, and `write` reads one byte of a live array. A failed write to a full
    // pipe is harmless, because the waiter has already been woken.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(WAKE.load(Ordering::SeqCst), [1_u8].as_ptr().cast(), 1);
        *errno = before;
    }
}
