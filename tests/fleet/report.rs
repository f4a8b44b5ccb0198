//! The figures: what was measured, for people as a table and for programs as one JSON object.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

/// What was measured; what was not is nothing (`null`).
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// How many agents there were.
    pub(crate) agents: u32,
    /// How many of them ended before anything turned.
    pub(crate) dead: u32,
    /// Of the programs: a debug build says little about speed.
    pub(crate) optimised: bool,
    /// Resident memory of the broker when all agents are connected and have what they should have.
    pub(crate) broker_rss_mib: Option<f64>,
    /// The most that it ever was.
    pub(crate) broker_rss_peak_mib: Option<f64>,
    /// What each connected agent adds to it.
    pub(crate) memory_per_agent_kib: Option<f64>,
    /// Until all were connected and had acknowledged what they were sent.
    pub(crate) connect_s: Option<f64>,
    /// From the start of `keys rotate` until half of the agents had acknowledged the new key.
    pub(crate) key_set_ack_p50_s: Option<f64>,
    /// … 99 % of the agents.
    pub(crate) key_set_ack_p99_s: Option<f64>,
    /// … all.
    pub(crate) key_set_ack_max_s: Option<f64>,
    /// … until the broker's own `rotation status` counted all.
    pub(crate) key_set_counted_s: Option<f64>,
    /// … until the key signed: not before caches have let go of the old key set, twice the 2 s that they may keep it, and
    /// not before the dead have been waited for.
    pub(crate) key_active_s: Option<f64>,
    /// From the start of `ca rotate` until 99 % of the agents had acknowledged the new trust bundle.
    pub(crate) bundle_ack_p99_s: Option<f64>,
    /// From the first receipt of a renewal order until the last agent was connected with its new certificate.
    pub(crate) ca_renewal_s: Option<f64>,
    /// Renewals that the broker did not grant at once.
    pub(crate) renewals_refused: Option<usize>,
    /// From SIGKILL until the broker listened again.
    pub(crate) restart_s: Option<f64>,
    /// From there until half of the agents were connected again.
    pub(crate) reconnect_p50_s: Option<f64>,
    /// … 99 % of the agents.
    pub(crate) reconnect_p99_s: Option<f64>,
    /// … all of them.
    pub(crate) reconnect_max_s: Option<f64>,
    /// Streams that broke though nobody broke them.
    pub(crate) streams_lost: Option<usize>,
    /// What each phase took.
    pub(crate) phases: Vec<PhaseCost>,
    /// Why it ended early.
    pub(crate) failed: Option<String>,
}

/// What a phase took.
#[derive(Debug, Serialize)]
pub(crate) struct PhaseCost {
    /// Which.
    pub(crate) phase: &'static str,
    /// On the clock.
    pub(crate) took_s: f64,
    /// Of the broker.
    pub(crate) broker_cpu_s: f64,
    /// Of the simulated agents, all together.
    pub(crate) agents_cpu_s: f64,
    /// Resident memory of the broker at the end.
    pub(crate) broker_rss_mib: f64,
}

impl Figures {
    /// Nothing yet.
    pub(crate) fn of(agents: u32, dead: u32) -> Self {
        Self { agents, dead, optimised: !cfg!(debug_assertions), ..Self::default() }
    }

    /// One JSON object on one line.
    pub(crate) fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// A line a figure, then a line a phase.
    pub(crate) fn table(&self) -> String {
        let figures = self.json();
        let mut table = String::new();
        for name in FIGURES {
            let figure = match &figures[name] {
                Value::Null => "-".to_owned(),
                figure => figure.to_string(),
            };
            let _ = writeln!(table, "{name:22} {figure:>10}");
        }
        let _ = writeln!(
            table,
            "\n{:10} {:>10} {:>12} {:>12} {:>14}",
            "phase", "took_s", "broker_cpu_s", "agents_cpu_s", "broker_rss_mib"
        );
        for PhaseCost { phase, took_s, broker_cpu_s, agents_cpu_s, broker_rss_mib } in &self.phases {
            let _ =
                writeln!(table, "{phase:10} {took_s:>10} {broker_cpu_s:>12} {agents_cpu_s:>12} {broker_rss_mib:>14}");
        }
        table
    }
}

/// The figures of the table, in the order in which they come about.
const FIGURES: [&str; 21] = [
    "agents",
    "dead",
    "optimised",
    "connect_s",
    "broker_rss_mib",
    "broker_rss_peak_mib",
    "memory_per_agent_kib",
    "key_set_ack_p50_s",
    "key_set_ack_p99_s",
    "key_set_ack_max_s",
    "key_set_counted_s",
    "key_active_s",
    "bundle_ack_p99_s",
    "ca_renewal_s",
    "renewals_refused",
    "restart_s",
    "reconnect_p50_s",
    "reconnect_p99_s",
    "reconnect_max_s",
    "streams_lost",
    "failed",
];

/// How long it took a fleet, counted from one moment.
#[derive(Clone, Debug)]
pub(crate) struct Delays {
    agents: u32,
    sorted: Vec<Duration>,
}

impl Delays {
    /// The moments at which each of so many agents came to something, since `began`. Who never did is not among them.
    pub(crate) fn new(began: Instant, moments: &[Instant], agents: u32) -> Self {
        let mut sorted: Vec<Duration> = moments.iter().map(|at| at.saturating_duration_since(began)).collect();
        sorted.sort();
        Self { agents, sorted }
    }

    /// The seconds in which this share of all agents had come to it; nothing if so many never did.
    pub(crate) fn until(&self, share: f64) -> Option<f64> {
        // The nearest rank: no figure that no agent had.
        let rank = (share * f64::from(self.agents)).ceil().max(1.0);
        // A share of a number of agents is a small positive number.
        self.sorted.get(rank as usize - 1).copied().map(seconds)
    }
}

/// Seconds, to the millisecond.
pub(crate) fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64(), 1000.0)
}

/// MiB, to a tenth.
pub(crate) fn mib(kib: u64) -> f64 {
    rounded(kib as f64 / 1024.0, 10.0)
}

/// To the last digit that is worth something: `1 / scale`.
pub(crate) fn rounded(figure: f64, scale: f64) -> f64 {
    (figure * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(seconds: &[u64], agents: u32) -> Delays {
        let began = Instant::now();
        let moments: Vec<Instant> = seconds.iter().map(|seconds| began + Duration::from_secs(*seconds)).collect();
        Delays::new(began, &moments, agents)
    }

    #[test]
    fn percentiles_are_by_nearest_rank_over_all_agents() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        for (share, expected) in [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)] {
            assert_eq!(delays(&hundred, 100).until(share), Some(expected), "{share}");
        }
        assert_eq!(delays(&[7], 1).until(0.5), Some(7.0));
        assert_eq!(delays(&[1, 2, 3], 3).until(0.99), Some(3.0));
    }

    #[test]
    fn who_never_came_there_counts() {
        let most = delays(&(1..=99).collect::<Vec<_>>(), 100);
        assert_eq!((most.until(0.99), most.until(1.0)), (Some(99.0), None));
        assert_eq!(delays(&[], 10).until(0.5), None);
    }

    #[test]
    fn what_was_not_measured_is_null_and_every_figure_of_the_table_exists() {
        let mut figures = Figures::of(7, 0);
        figures.connect_s = Some(seconds(Duration::from_micros(1_234_567)));
        let json = figures.json();
        assert_eq!(
            (&json["agents"], &json["connect_s"], &json["ca_renewal_s"]),
            (&7.into(), &1.235.into(), &Value::Null)
        );
        for name in FIGURES {
            assert!(json.get(name).is_some(), "{name}");
        }
        assert!(!json.to_string().contains('\n'));
        let table = figures.table();
        assert!(table.contains("connect_s                   1.235\n"), "{table}");
        assert!(table.contains("ca_renewal_s                    -\n"), "{table}");
    }
}
