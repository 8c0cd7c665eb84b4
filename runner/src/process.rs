//! Processes: starts Packer so that it cannot outlive its supervisor, signals it to stop, and kills
//! the processes that it leaves behind.

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

/// Room for what Packer prints while it cleans up after the runner was killed, when nothing reads the pipe.
const PIPE_BYTES: usize = 1024 * 1024;

/// Packer's first process, the leader of its own group.
pub struct Child {
    pub leader: Pid,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
}

/// Starts a program without a shell and without input, in a new process group.
///
/// - The kernel sends it SIGTERM when the calling thread ends, so that the build is also canceled when the runner is
///   killed. That thread must be the supervising thread.
/// - It inherits the read ends of its own output pipes. Otherwise its first write after the runner was
///   killed would raise SIGPIPE and kill it in the middle of its cleanup.
pub fn spawn(program: &str, arguments: &[String], env: &Environment, work: &Path) -> io::Result<Child> {
    let (stdout, child_stdout) = io::pipe()?;
    let (stderr, child_stderr) = io::pipe()?;
    for pipe in [&stdout, &stderr] {
        // A smaller pipe is sufficient as long as the runner reads it.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe.as_fd(), PIPE_BYTES);
    }
    let kept = [stdout.as_raw_fd(), stderr.as_raw_fd()];
    let mut command = command(program);
    command.args(arguments).env_clear().envs(env).current_dir(work).process_group(0);
    command.stdin(Stdio::null()).stdout(child_stdout).stderr(child_stderr);
    let parent = Pid::from_raw(id().cast_signed());
    // SAFETY: between fork and exec, `tie_to_parent` only makes system calls.
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
        // The runner died before the call above, so no signal will be sent.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    for fd in kept {
        // SAFETY: the descriptors are open, because the parent holds both pipes until `spawn` returns.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Makes this process the child subreaper: orphaned descendants become its children, as with PID 1.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Sends SIGTERM to the leader only. Packer forwards it to its inner process; a second signal, or one to
/// the group, would kill plugins before they clean up.
pub fn terminate(leader: Pid) {
    // It may have exited by itself, which the next call of `ended` detects.
    let _ = kill_process(leader, Signal::TERM);
}

/// Kills the group immediately. Call it only before the leader is reaped: until then, its ID cannot be reused.
pub fn kill_group(leader: Pid) {
    // An error means that the group is already empty.
    let _ = kill_process_group(leader, Signal::KILL);
}

/// Returns how the leader ended, if it has. The leader is not reaped; every other child that has exited is.
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
        // SAFETY: `waitid` filled in a child's siginfo or left it zeroed.
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

/// Reaps a child that has exited.
pub fn reap(child: Pid) {
    // If it has not exited yet or was reaped before, there is nothing to do.
    let _ = waitpid(Some(child), WaitOptions::NOHANG);
}

/// Kills and reaps every descendant. Children of a killed process become children of this one and are
/// killed in the next round. `wait` is called between rounds and returns false to give up.
pub fn end_descendants(mut wait: impl FnMut() -> bool) {
    loop {
        let me = rustix::process::getpid();
        let children: Vec<Pid> = all().filter(|stat| stat.parent == Some(me)).map(|stat| stat.pid).collect();
        for &child in &children {
            // A child keeps its ID until it is reaped, so this cannot hit another process.
            let _ = kill_process(child, Signal::KILL);
            reap(child);
        }
        if children.is_empty() || !wait() {
            return;
        }
    }
}

/// Returns the other processes that belong to the run in `dir`: those that a killed runner left behind.
fn strays(dir: &Path) -> Vec<Stat> {
    let mark = [RUN_MARK.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
    let me = rustix::process::getpid();
    let marked = |stat: &Stat| {
        let environ = fs::read(format!("/proc/{}/environ", stat.pid.as_raw_nonzero())).unwrap_or_default();
        stat.pid != me && environ.split(|&byte| byte == 0).any(|entry| entry == mark)
    };
    all().filter(marked).collect()
}

/// Waits up to `grace` for a canceled build to finish its cleanup, then kills what is left of it. It waits only for
/// processes that lead a process group, as Packer does, and not for the processes that Packer started.
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
            // It belongs to this run. An error means that it has already exited.
            let _ = kill_process(stat.pid, Signal::KILL);
        }
        wait();
    }
}

/// A killed process may have forked just before, so the search is repeated, up to this limit.
const STRAY_ROUNDS: u32 = 20;

/// The fields of `/proc/PID/stat` that are needed here.
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
    process_id(name.to_str()?.parse().ok()?)
}

/// Parses `pid (name) state parent group …`. The name may contain spaces and parentheses.
fn stat(pid: Pid, text: &str) -> Option<Stat> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace().skip(1);
    let mut next = || Some(process_id(fields.next()?.parse().ok()?));
    Some(Stat { pid, parent: next()?, group: next()? })
}

/// Converts a number from `/proc`. While a process is being reaped, the kernel writes 0 as its parent and -1 as its
/// group; `Pid::from_raw` panics if a number is negative.
fn process_id(raw: i32) -> Option<Pid> {
    if raw > 0 { Pid::from_raw(raw) } else { None }
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
