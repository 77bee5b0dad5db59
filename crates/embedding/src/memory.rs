//! How much memory this process may use, as the system says.

use std::fs;

/// What the control group grants, or else what the machine has. Nothing where neither can be known.
pub(crate) fn granted() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|groups| {
        // Version 2 has one group, "0::/path".
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
        fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?.trim().parse().ok()
    });
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|info| total(&info));
    match (group, machine) {
        (Some(group), Some(machine)) => Some(u64::min(group, machine)),
        (one, other) => one.or(other),
    }
}

fn total(info: &str) -> Option<u64> {
    let kib: u64 =
        info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_machine_has_is_read() {
        assert_eq!(super::total("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(super::total("MemFree: 1 kB\n"), None);
    }
}
