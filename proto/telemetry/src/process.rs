//! The process itself, as the client libraries of Prometheus tell it. What the kernel does not tell is left out.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::metrics::{Definition, Kind, Picture};

const CPU: Definition = Definition {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    help: "Time that all threads have used, in the program and in the kernel.",
    labels: &[],
};
const RESIDENT: Definition = Definition {
    name: "process_resident_memory_bytes",
    kind: Kind::Gauge,
    help: "Memory that is resident.",
    labels: &[],
};
const OPEN_FILES: Definition =
    Definition { name: "process_open_fds", kind: Kind::Gauge, help: "Open files and connections.", labels: &[] };
const MOST_FILES: Definition = Definition {
    name: "process_max_fds",
    kind: Kind::Gauge,
    help: "How many files and connections may be open.",
    labels: &[],
};
const STARTED: Definition = Definition {
    name: "process_start_time_seconds",
    kind: Kind::Gauge,
    help: "When the process was started, since 1970.",
    labels: &[],
};

/// What is told of every process.
pub const DEFINITIONS: [Definition; 5] = [CPU, RESIDENT, OPEN_FILES, MOST_FILES, STARTED];

/// Adds what the kernel tells of this process.
pub fn look(picture: &mut Picture) {
    #[expect(clippy::cast_precision_loss, reason = "page size and clock ticks are small numbers")]
    let (page, ticks) = (page_size() as f64, clock_ticks_per_second() as f64);
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
    if let Some(pages) = number(read("/proc/self/statm").split_whitespace().nth(1)) {
        picture.one(&RESIDENT, pages * page);
    }
    // proc_pid_stat(5): the second field, the name, may contain anything, and ends with the last parenthesis.
    let stat = read("/proc/self/stat");
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number_of: usize| number(fields.get(number_of - 3).copied());
    if let Some((user, system)) = field(14).zip(field(15)) {
        picture.one(&CPU, (user + system) / ticks);
    }
    let booted = read("/proc/stat");
    let booted = number(booted.lines().find_map(|line| line.strip_prefix("btime ")));
    if let Some((booted, after)) = booted.zip(field(22)) {
        picture.one(&STARTED, booted + after / ticks);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        picture.one(&OPEN_FILES, files.count() as f64);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        #[expect(clippy::cast_precision_loss, reason = "a limit is not counted with")]
        picture.one(&MOST_FILES, most as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let mut picture = Picture::default();
        look(&mut picture);
        let text = picture.text().unwrap();
        for definition in DEFINITIONS {
            let value = text.lines().find_map(|line| line.strip_prefix(definition.name)?.trim().parse::<f64>().ok());
            assert!(value.is_some_and(|value| value >= 0.0), "{}: {text}", definition.name);
        }
    }
}
