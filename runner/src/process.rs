//! Processes: starting Packer so that it can not outlive its supervision, telling it to stop, and
//! ending whatever it leaves behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio, id};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, getppid, kill_process, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, waitpid,
};

use crate::packer::{Environment, RUN_MARK};
use crate::report::End;

/// Room for what Packer says while it cleans up after a killed runner, when nobody reads.
const PIPE_BYTES: usize = 1024 * 1024;

/// Packer's first process, the leader of its own group.
pub struct Child {
    pub leader: Pid,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
}

/// Starts a program without a shell and without input, in a new process group.
///
/// - SIGTERM comes to it from the kernel when the calling thread ends, so a killed runner still
///   means a cancelled build. That thread must be the one that supervises.
/// - It keeps the read ends of its own output pipes: else its first word after the runner was
///   killed would end it by SIGPIPE in the middle of its clean-up.
pub fn spawn(program: &str, arguments: &[String], env: &Environment, work: &Path) -> io::Result<Child> {
    let (stdout, child_stdout) = io::pipe()?;
    let (stderr, child_stderr) = io::pipe()?;
    for pipe in [&stdout, &stderr] {
        // A smaller pipe does too, as long as somebody reads.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe.as_fd(), PIPE_BYTES);
    }
    let kept = [stdout.as_raw_fd(), stderr.as_raw_fd()];
    let mut command = command(program);
    command.args(arguments).env_clear().envs(env).current_dir(work).process_group(0);
    command.stdin(Stdio::null()).stdout(child_stdout).stderr(child_stderr);
    let parent = Pid::from_raw(id().cast_signed());
    // SAFETY: between fork and exec, `tie_to_parent` makes system calls only.
    unsafe { command.pre_exec(move || tie_to_parent(parent, kept)) };
    let child = command.spawn()?;
    Ok(Child { leader: Pid::from_child(&child), stdout, stderr })
}

#[expect(clippy::disallowed_methods, reason = "this module is where the runner starts processes")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn tie_to_parent(parent: Option<Pid>, kept: [RawFd; 2]) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if getppid() != parent {
        // The runner died before the line above: no signal will come.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    for fd in kept {
        // SAFETY: the descriptors are open: the parent holds both pipes until `spawn` returns.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Orphans below this process become its children, as they do below PID 1.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Packer forwards this to its inner process itself; a second one, or one to the group, would end
/// plugins before they clean up.
pub fn terminate(leader: Pid) {
    // It may have ended by itself; the next look tells.
    let _ = kill_process(leader, Signal::TERM);
}

/// Ends the group at once. Only while the leader is not reaped: its id is still its own then.
pub fn kill_group(leader: Pid) {
    // Nobody left is what is wanted.
    let _ = kill_process_group(leader, Signal::KILL);
}

/// How the leader ended, if it has. It is left unreaped; every other child that ended is reaped.
pub fn ended(leader: Pid) -> io::Result<Option<End>> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: an all-zero siginfo is valid, and `waitid` fills the one it is given.
        let (info, result) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let result = libc::waitid(libc::P_ALL, 0, &raw mut info, flags);
            (info, result)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `waitid` returned a child's siginfo, or left the zeros.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        match Pid::from_raw(pid) {
            None => return Ok(None),
            Some(pid) if pid == leader && info.si_code == libc::CLD_EXITED => {
                return Ok(Some(End::Exited(status)));
            }
            Some(pid) if pid == leader => return Ok(Some(End::Killed(Some(status)))),
            Some(pid) => reap(pid),
        }
    }
}

/// Takes an ended child off the process table.
pub fn reap(child: Pid) {
    // Not ended yet, or reaped before: nothing to do in either case.
    let _ = waitpid(Some(child), WaitOptions::NOHANG);
}

/// Ends every descendant and reaps it; the descendants of an ended one become children, and are
/// next. `wait` is called between rounds and says when to give up.
pub fn end_descendants(mut wait: impl FnMut() -> bool) {
    loop {
        let me = rustix::process::getpid();
        let children: Vec<Pid> = all().filter(|stat| stat.parent == Some(me)).map(|stat| stat.pid).collect();
        for &child in &children {
            // It is our child until we reap it, so the id can not be another's.
            let _ = kill_process(child, Signal::KILL);
            reap(child);
        }
        if children.is_empty() || !wait() {
            return;
        }
    }
}

/// Processes of the run in `dir` that are no children of this runner: what a killed one left.
fn strays(dir: &Path) -> Vec<Stat> {
    let mark = [RUN_MARK.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
    let me = rustix::process::getpid();
    let marked = |stat: &Stat| {
        let environ = fs::read(format!("/proc/{}/environ", stat.pid.as_raw_nonzero())).unwrap_or_default();
        stat.pid != me && environ.split(|&byte| byte == 0).any(|entry| entry == mark)
    };
    all().filter(marked).collect()
}

/// Lets a cancelled build finish cleaning up, for `grace` at most, then ends what is left of it.
/// Packer itself leads a process group; what it started does not keep us waiting.
pub fn end_strays(dir: &Path, grace: Duration, wait: impl Fn()) {
    let began = Instant::now();
    while began.elapsed() < grace && strays(dir).iter().any(Stat::leads) {
        wait();
    }
    for _ in 0..STRAY_ROUNDS {
        let left = strays(dir);
        if left.is_empty() {
            return;
        }
        for stat in left {
            // It has our mark; it may have ended since, and that is as good.
            let _ = kill_process(stat.pid, Signal::KILL);
        }
        wait();
    }
}

/// A killed process may have forked just before: look again, but not for ever.
const STRAY_ROUNDS: u32 = 20;

/// What `/proc/PID/stat` says that matters here.
#[derive(Debug, PartialEq)]
struct Stat {
    pid: Pid,
    parent: Option<Pid>,
    group: Option<Pid>,
}

impl Stat {
    fn leads(&self) -> bool {
        self.group == Some(self.pid)
    }
}

fn all() -> impl Iterator<Item = Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = number(&entry.file_name())?;
        stat(pid, &fs::read_to_string(entry.path().join("stat")).ok()?)
    })
}

fn number(name: &OsStr) -> Option<Pid> {
    Pid::from_raw(name.to_str()?.parse().ok()?)
}

/// `pid (name) state parent group …`: the name may hold blanks and brackets.
fn stat(pid: Pid, text: &str) -> Option<Stat> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace().skip(1);
    let mut next = || Some(Pid::from_raw(fields.next()?.parse().ok()?));
    Some(Stat { pid, parent: next()?, group: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_whatever_the_name() {
        let pid = |raw| Pid::from_raw(raw).expect("not zero");
        let read = stat(pid(7), "7 (a) S) (b) S 3 5 5 0 -1").expect("a stat line");
        assert_eq!(read, Stat { pid: pid(7), parent: Some(pid(3)), group: Some(pid(5)) });
        assert!(!read.leads());
        assert_eq!(stat(pid(1), "1 (init) S 0 1 1").expect("a stat line").parent, None);
        assert_eq!(stat(pid(1), "cut"), None);
    }
}
