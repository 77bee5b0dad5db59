//! What the system says of this process, under the names that Prometheus' own clients use.
//!
//! Read from `/proc` when asked for; where there is none, these metrics are not there either. They are written here and
//! not through the recorder, whose counters are whole numbers: seconds of processor time are not.

use std::{fmt::Write as _, fs};

use super::table;

/// Ticks a second of times in `/proc`; proc(5) has it from `sysconf`, where Linux says 100 on every machine this is
/// built for.
const TICKS: f64 = 100.0;

/// What can be found out, in the text format.
pub(super) fn exposition() -> String {
    let mut text = String::new();
    for (name, value) in read() {
        let Some(metric) = table::all().find(|metric| metric.name == name) else { continue };
        let kind = metric.kind.as_str();
        let value = if value.is_finite() { value.to_string() } else { "+Inf".to_owned() };
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}\n", metric.help);
    }
    text
}

fn read() -> Vec<(&'static str, f64)> {
    let file = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let (stat, status, limits) = (file("self/stat"), file("self/status"), file("self/limits"));
    let boot = file("stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let stat = Stat::parse(&stat);
    let start = stat.as_ref().zip(boot).map(|(stat, boot)| boot + stat.start_ticks / TICKS);
    let fds = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    let values = [
        ("process_cpu_seconds_total", stat.as_ref().map(|stat| stat.cpu_ticks / TICKS)),
        ("process_resident_memory_bytes", kib(&status, "VmRSS:")),
        ("process_virtual_memory_bytes", kib(&status, "VmSize:")),
        ("process_open_fds", fds),
        ("process_max_fds", fds_max(&limits)),
        ("process_threads", stat.as_ref().map(|stat| stat.threads)),
        ("process_start_time_seconds", start),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Fields of `/proc/self/stat`, as proc(5) numbers them.
#[derive(Debug, PartialEq)]
struct Stat {
    /// 14 and 15.
    cpu_ticks: f64,
    /// 20.
    threads: f64,
    /// 22, since the machine started.
    start_ticks: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in brackets, and may have anything in it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self { cpu_ticks: field(14)? + field(15)?, threads: field(20)?, start_ticks: field(22)? })
    }
}

fn kib(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0)
}

fn fds_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(f64::INFINITY) } else { soft.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_moves_no_field() {
        let text =
            "42 (odd ) name) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 7 0 12345 1000 200 18446744073709551615";
        assert_eq!(Stat::parse(text), Some(Stat { cpu_ticks: 300.0, threads: 7.0, start_ticks: 12_345.0 }));
        assert_eq!(Stat::parse("42 (cut"), None);
    }

    #[test]
    fn memory_and_descriptors_are_read_in_their_units() {
        assert_eq!(kib("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2_097_152.0));
        assert_eq!(fds_max("Max open files            1024                 524288               files"), Some(1_024.0));
    }

    #[test]
    fn this_process_has_used_some_of_everything() {
        let values = read();
        assert_eq!(values.len(), 7, "{values:?}");
        assert!(values.iter().all(|(_, value)| *value >= 0.0), "{values:?}");
    }
}
