//! What the process itself costs, from `/proc`, under the names all Prometheus clients use.

use std::fs;

use super::metrics::{Metrics, Sample, Shape};

/// Clock ticks in `/proc/self/stat`: Linux gives 100 to programs on every machine Opsy runs on.
const TICKS_PER_SECOND: f64 = 100.0;

pub fn register(metrics: &Metrics) {
    let one = |value: Option<f64>| value.map(Sample::of).into_iter().collect::<Vec<_>>();
    metrics.read("process_resident_memory_bytes", "Memory in RAM", Shape::Gauge, move || {
        one(fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident))
    });
    metrics.read("process_cpu_seconds", "Time on a processor", Shape::Counter, move || {
        one(fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(processor))
    });
    metrics.read("process_open_fds", "Open files and connections", Shape::Gauge, move || {
        let files = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        one(files.and_then(|count| u32::try_from(count).ok()).map(f64::from))
    });
}

/// `VmRSS:      1234 kB`.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// User and system time: the 14th and 15th word, counted after the program's name, which may hold spaces.
fn processor(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace().skip(11);
    let user: f64 = words.next()?.parse().ok()?;
    let system: f64 = words.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_read() {
        assert_eq!(resident("Name:\topsy\nVmRSS:\t    1200 kB\n"), Some(1_228_800.0));
        let stat = "1 (a b) c) S 0 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1 2";
        assert_eq!(processor(stat), Some(3.0));
        assert_eq!((resident(""), processor("")), (None, None));
    }

    #[test]
    fn this_process_has_all_of_them() {
        let text = Metrics::default().text().expect("text");
        for name in ["process_resident_memory_bytes ", "process_cpu_seconds_total ", "process_open_fds "] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
        }
    }
}
