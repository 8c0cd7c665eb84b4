//! Resource usage of the process, from `/proc`, under the names that all Prometheus clients use.

use std::fs;

use super::metrics::{Metrics, Sample, Shape};

/// Clock ticks per second in `/proc/self/stat`: 100 on every platform that Opsy supports.
const TICKS_PER_SECOND: f64 = 100.0;

pub fn register(metrics: &Metrics) {
    let one = |value: Option<f64>| value.map(Sample::of).into_iter().collect::<Vec<_>>();
    metrics.add_collector(
        "process_resident_memory_bytes",
        "Resident memory size in bytes",
        Shape::Gauge,
        move || one(fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident)),
    );
    metrics.add_collector(
        "process_cpu_seconds",
        "Total user and system CPU time in seconds",
        Shape::Counter,
        move || one(fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(processor)),
    );
    metrics.add_collector("process_open_fds", "Number of open file descriptors", Shape::Gauge, move || {
        let files = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        one(files.and_then(|count| u32::try_from(count).ok()).map(f64::from))
    });
}

/// Reads the line `VmRSS:      1234 kB`, and returns bytes.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// User and system time: the 14th and 15th word, counted after the program's name, which can contain spaces.
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
        let metrics = Metrics::default();
        register(&metrics);
        let text = metrics.text().expect("text");
        for name in ["process_resident_memory_bytes ", "process_cpu_seconds_total ", "process_open_fds "] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
        }
    }
}
