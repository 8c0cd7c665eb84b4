//! A pseudo terminal with a command in it, and what a person sees on it.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::termios::{LocalModes, tcgetattr};
use vt100::Parser;

use crate::bed::wait_for;
use crate::world::DEADLINE;

/// Ctrl-C, as the keyboard sends it.
const CTRL_C: &[u8] = b"\x03";
/// The same of Ctrl-Z and Ctrl-\.
pub const CTRL_Z: &[u8] = b"\x1a";
pub const CTRL_BACKSLASH: &[u8] = b"\x1c";

/// A command that runs in a terminal, killed when dropped.
pub struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Shown>>,
    /// The command has ended: what is not read yet is the rest.
    ended: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
}

/// What was on the screen, and what is.
struct Shown {
    parser: Parser,
    screens: Vec<Vec<String>>,
    printed: Vec<u8>,
}

/// What is left on the screen after the command has ended.
#[derive(Debug)]
pub struct End {
    pub status: ExitStatus,
    /// The lines on the screen, those that wrap in one.
    pub lines: Vec<String>,
    pub is_cursor_hidden: bool,
    pub cursor_column: u16,
    /// The rows of all screens that were seen, in order.
    pub screens: Vec<Vec<String>>,
    /// Everything that the command printed.
    pub printed: String,
}

impl Terminal {
    /// Starts a command in a terminal of this size.
    pub fn start(command: Command, rows: u16, columns: u16) -> Self {
        Self::start_with(command, rows, columns, &[])
    }

    /// Starts a command in a terminal of this size, with these variables.
    pub fn start_with(mut command: Command, rows: u16, columns: u16, variables: &[(&str, &str)]) -> Self {
        let (keyboard, terminal) = open(rows, columns);
        let stream = || Stdio::from(terminal.try_clone().expect("a descriptor"));
        command.stdin(stream()).stdout(stream()).stderr(stream());
        command.env("TERM", "xterm-256color").env_remove("CI").env_remove("NO_COLOR");
        command.envs(variables.iter().copied());
        // SAFETY: both calls may be made between fork and exec. They make the terminal the one of the command, so that
        // Ctrl-C reaches it.
        unsafe {
            command.pre_exec(|| {
                (libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0)
                    .then_some(())
                    .ok_or_else(std::io::Error::last_os_error)
            })
        };
        let child = command.spawn().expect("the command starts");
        drop((command, terminal));
        let parser = Parser::new(rows, columns, 0);
        let shown = Arc::new(Mutex::new(Shown { parser, screens: Vec::new(), printed: Vec::new() }));
        let ended = Arc::new(AtomicBool::new(false));
        let (screen, seen, end) = (keyboard.try_clone().expect("a descriptor"), shown.clone(), ended.clone());
        let reading = std::thread::spawn(move || read(screen, &seen, &end));
        Self { child, keyboard, shown, ended, reading: Some(reading) }
    }

    /// Waits until a row is on the screen, or was on it before.
    pub fn wait_for_row(&self, what: &str, is_it: impl Fn(&str) -> bool) {
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(what, DEADLINE, || {
                let shown = self.shown.lock().expect("no panic");
                shown.screens.iter().flatten().any(|row| is_it(row.trim_end())).then_some(())
            });
        }));
        if found.is_err() {
            let shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            panic!("{what} is not on the screen:\n{}", shown.parser.screen().contents());
        }
    }

    /// Waits until the screen is like this.
    pub fn wait_for_screen(&self, what: &str, is_it: impl Fn(&[String]) -> bool) {
        wait_for(what, DEADLINE, || {
            let shown = self.shown.lock().expect("no panic");
            shown.screens.last().is_some_and(|screen| is_it(screen)).then_some(())
        });
    }

    pub fn press_ctrl_c(&mut self) {
        self.press(CTRL_C);
    }

    pub fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("the terminal is open");
    }

    /// Whether the terminal itself shows keys such as Ctrl-C, as it does at first.
    pub fn shows_keys(&self) -> bool {
        tcgetattr(&self.keyboard).expect("a terminal").local_modes.contains(LocalModes::ECHOCTL)
    }

    /// Waits until the command ends by itself.
    pub fn end(mut self) -> End {
        let status =
            wait_for("the end of the command", DEADLINE, || self.child.try_wait().expect("its status"));
        self.ended.store(true, Ordering::SeqCst);
        self.reading.take().expect("it was started").join().expect("no panic");
        let shown = self.shown.lock().expect("no panic");
        let screen = shown.parser.screen();
        End {
            status,
            lines: screen.contents().lines().map(|line| line.trim_end().to_owned()).collect(),
            is_cursor_hidden: screen.hide_cursor(),
            cursor_column: screen.cursor_position().1,
            screens: shown.screens.clone(),
            printed: String::from_utf8_lossy(&shown.printed).into_owned(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Shown {
    fn add(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.printed.extend_from_slice(bytes);
        let screen = self.parser.screen();
        let rows = screen.rows(0, screen.size().1).collect();
        if self.screens.last() != Some(&rows) {
            self.screens.push(rows);
        }
    }
}

/// Reads what is printed until the command has ended. A build that continues keeps the terminal open.
fn read(mut screen: File, shown: &Mutex<Shown>, ended: &AtomicBool) {
    let mut bytes = [0; 65536];
    loop {
        let is_last = ended.load(Ordering::SeqCst);
        match screen.read(&mut bytes) {
            Ok(read @ 1..) => shown.lock().expect("no panic").add(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock && !is_last => {
                std::thread::sleep(Duration::from_millis(5));
            }
            // Nothing has the terminal open any more, or nothing more comes.
            _ => return,
        }
    }
}

/// Opens a pseudo terminal: the end of the keyboard and the screen, and the end of the command.
fn open(rows: u16, columns: u16) -> (File, OwnedFd) {
    let (mut keyboard, mut terminal) = (-1, -1);
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both descriptors are written before they are used, and the other pointers may be null.
    let opened = unsafe { libc::openpty(&mut keyboard, &mut terminal, ptr::null_mut(), ptr::null(), &size) };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptors are open, and nothing else owns them.
    let (keyboard, terminal) = unsafe { (File::from_raw_fd(keyboard), OwnedFd::from_raw_fd(terminal)) };
    // Only the streams of the command are its terminal, not what other tests start.
    fcntl_setfd(&keyboard, FdFlags::CLOEXEC).expect("an open descriptor");
    fcntl_setfd(&terminal, FdFlags::CLOEXEC).expect("an open descriptor");
    fcntl_setfl(&keyboard, OFlags::RDWR | OFlags::NONBLOCK).expect("an open descriptor");
    (keyboard, terminal)
}
