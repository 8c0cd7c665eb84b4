//! Signals to the runner, and its one place to wait: a handler sets a flag and writes a byte into
//! a pipe, so that waiting ends at once. Handlers, not blocked signals, since a process that runs
//! as PID 1 has no default action and one with threads can not block signals for all of them.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

static STOP: AtomicBool = AtomicBool::new(false);
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// A terminal that closes asks to stop as much as Ctrl-C does.
const STOP_SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Installed for the life of the process.
pub struct Signals {
    wake: OwnedFd,
}

impl Signals {
    pub fn install() -> io::Result<Self> {
        let (wake, waker) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The handler may run until the process ends: the write end stays open as long.
        WAKE.store(waker.into_raw_fd(), Ordering::SeqCst);
        for signal in STOP_SIGNALS.into_iter().chain([libc::SIGCHLD]) {
            handle(signal)?;
        }
        Ok(Self { wake })
    }

    pub fn stop_asked(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }

    /// Returns after `most`, or as soon as a signal came in since the last wait.
    pub fn wait(&self, most: Duration) {
        let most = Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
        // Interrupted or not, the caller looks at everything again.
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
    // SAFETY: `action` is initialised and its handler does only what a handler may do.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Async-signal-safe: atomics and `write`, and `errno` as it was.
extern "C" fn on_signal(signal: libc::c_int) {
    if signal != libc::SIGCHLD {
        STOP.store(true, Ordering::SeqCst);
    }
    // SAFETY: errno is this thread's own; `write` reads one byte of a live array. A full pipe has
    // woken the waiter already.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(WAKE.load(Ordering::SeqCst), [1_u8].as_ptr().cast(), 1);
        *errno = before;
    }
}
