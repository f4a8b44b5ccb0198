//! Closed loops, the processor time they cost the server, and the table.

use std::time::Duration;

use anyhow::Context as _;
use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;
use tokio::task::LocalSet;
use tokio::time::Instant;
use world::usage::Usage;

use crate::operations::{Operation, Target, Worker};

/// How hard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Connections at the same time.
    pub(crate) connections: u32,
    /// How long.
    pub(crate) seconds: u32,
}

/// One figure of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    target: String,
    operation: Operation,
    per_second: f64,
    cpu_us: f64,
    server_busy: f64,
    p50_ms: f64,
    p99_ms: f64,
    resident_mib: f64,
}

/// Moves this process to the second core, if there is one: the servers have the first.
pub(crate) fn take_second_core() {
    let mut cores = CpuSet::new();
    cores.set(1);
    // On a machine with one core they share it; the table says how busy the server was.
    sched_setaffinity(None, &cores).ok();
}

/// Runs one operation for a while.
///
/// # Errors
/// When one of them fails.
pub(crate) async fn measure(target: &Target, operation: Operation, load: Load) -> anyhow::Result<Row> {
    let measured = Duration::from_secs(load.seconds.into());
    let mut workers = Vec::new();
    for number in 0..load.connections {
        workers.push(Worker::new(target, usize::try_from(number)?).await?);
    }
    let mut warm_up = Vec::new();
    let workers = run(workers, operation, measured / 5, &mut warm_up).await?;
    let (before, started) = (Usage::of(target.pid)?, Instant::now());
    let mut times = Vec::new();
    run(workers, operation, measured, &mut times).await?;
    let (elapsed, after) = (started.elapsed().as_secs_f64(), Usage::of(target.pid)?);
    times.sort_unstable();
    let (count, cpu) = (times.len() as f64, after.cpu_s - before.cpu_s);
    let quantile = |part: usize| times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    Ok(Row {
        target: target.name.clone(),
        operation,
        per_second: count / elapsed,
        cpu_us: cpu / count * 1e6,
        server_busy: cpu / elapsed * 100.0,
        p50_ms: quantile(50),
        p99_ms: quantile(99),
        resident_mib: after.resident_kib as f64 / 1024.0,
    })
}

/// All workers side by side until the time is over; gives them back.
async fn run<'a>(
    workers: Vec<Worker<'a>>,
    operation: Operation,
    time: Duration,
    times: &mut Vec<Duration>,
) -> anyhow::Result<Vec<Worker<'a>>> {
    let end = Instant::now() + time;
    let loops = workers.into_iter().map(async |mut worker: Worker<'a>| {
        let mut times = Vec::new();
        while Instant::now() < end {
            let started = Instant::now();
            worker.perform(operation).await?;
            times.push(started.elapsed());
        }
        anyhow::Ok((worker, times))
    });
    // The connections' tasks are spawned beside them, on the same thread.
    let done = LocalSet::new().run_until(futures_util::future::try_join_all(loops)).await;
    let mut workers = Vec::new();
    for (worker, own) in done.with_context(|| operation.name().to_owned())? {
        workers.push(worker);
        times.extend(own);
    }
    Ok(workers)
}

impl Row {
    /// How many code flows a second of whom, if it was those.
    pub(crate) fn flows(&self) -> Option<(&str, f64)> {
        (self.operation == Operation::Flow).then_some((&self.target, self.per_second))
    }
}

/// The rows as people read them.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| provider | operation | per second | server CPU µs each | server busy % | p50 ms | p99 ms | RSS MiB |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        text += &format!(
            "| {} | {} | {:.0} | {:.1} | {:.0} | {:.2} | {:.2} | {:.1} |\n",
            row.target,
            row.operation.name(),
            row.per_second,
            row.cpu_us,
            row.server_busy,
            row.p50_ms,
            row.p99_ms,
            row.resident_mib
        );
    }
    text
}

/// What it was measured on.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn machine() -> anyhow::Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<&str> = cpus.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().and_then(|line| line.split_once(':')).map_or("unknown", |(_, model)| model.trim());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let ticks = clock_ticks_per_second();
    Ok(format!(
        "{} × {model}, Linux {}; server on core 0, generator on core 1; CPU time counted in 1/{ticks} s",
        models.len(),
        kernel.trim()
    ))
}

/// The rows for programs.
///
/// # Errors
/// When the kernel does not say what machine this is.
pub(crate) fn json(rows: &[Row]) -> anyhow::Result<String> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "provider": row.target, "operation": row.operation.name(), "per_second": row.per_second,
                "server_cpu_us": row.cpu_us, "server_busy_percent": row.server_busy, "p50_ms": row.p50_ms,
                "p99_ms": row.p99_ms, "resident_mib": row.resident_mib,
            })
        })
        .collect();
    Ok(json!({"machine": machine()?, "rows": rows}).to_string())
}
