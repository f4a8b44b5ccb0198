//! What a process uses, as the kernel counts it.

use anyhow::Context as _;
use rustix::param::clock_ticks_per_second;

/// Memory and time of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident now.
    pub resident_kib: u64,
    /// Resident at the most.
    pub peak_kib: u64,
    /// Of all its threads, in the program and in the kernel.
    pub cpu_s: f64,
}

impl Usage {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let file = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&file).with_context(|| format!("{file}: does the process still run?"))
        };
        Self::parse(&read("status")?, &read("stat")?).with_context(|| format!("/proc/{pid} is in another form"))
    }

    fn parse(status: &str, stat: &str) -> Option<Self> {
        let kib = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        // proc_pid_stat(5): fields 14 and 15 are utime and stime. The second one, the name, may contain anything, and
        // ends with the last parenthesis.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let ticks = u32::try_from(clock_ticks_per_second()).ok()?;
        Some(Self {
            resident_kib: kib("VmRSS:")?,
            peak_kib: kib("VmHWM:")?,
            cpu_s: f64::from(user + system) / f64::from(ticks),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 4 0 12345 0 0";
        let usage = Usage::parse(status, stat).unwrap();
        assert_eq!((usage.resident_kib, usage.peak_kib), (1024, 2048));
        assert!((usage.cpu_s - 200.0 / clock_ticks_per_second() as f64).abs() < 1e-9);
        assert_eq!(Usage::parse(status, "7 (x) S 1"), None);
        assert!(Usage::of(std::process::id()).unwrap().resident_kib > 0);
    }
}
