//! Processes of builds, found by their arguments and working directories, and the memory of a process.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// Processes of the builds of a state directory: the runners, and the processes that they started.
pub fn of_builds(state: &Path) -> (Vec<u32>, Vec<u32>) {
    let Ok(runs) = fs::canonicalize(state.join("runs")) else { return Default::default() };
    let entries = fs::read_dir("/proc").expect("/proc");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let (mut runners, mut others) = (Vec::new(), Vec::new());
    for id in ids {
        let process = Path::new("/proc").join(id.to_string());
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        if arguments.contains("\0packer-run\0") && arguments.contains(&*state.to_string_lossy()) {
            runners.push(id);
        } else if fs::read_link(process.join("cwd")).is_ok_and(|folder| folder.starts_with(&runs)) {
            others.push(id);
        }
    }
    (runners, others)
}

/// A size in kB in the status of a running process, such as `VmHWM`, the peak of its resident memory.
pub fn memory_kb(id: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process is running");
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.expect("the field").trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Sends SIGKILL.
pub fn kill(ids: &[u32]) {
    for id in ids {
        // The process may have ended together with the previous one.
        let _ = kill_process(pid(*id), Signal::KILL);
    }
}

pub fn pid(id: u32) -> Pid {
    let id = i32::try_from(id).expect("a process id is a small number");
    Pid::from_raw(id).expect("no process of ours has the id 0")
}
