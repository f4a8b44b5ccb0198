//! What is done to the fleet, and what is measured:
//!
//! 1. [enrolled](crate::enrolment) offline: their instances stand in the store before the broker serves;
//! 2. connected, so many at a time as the broker takes easily: its memory before and after;
//! 3. `keys rotate`: how long until every agent has acknowledged the new key, until the broker knows it, and until the key
//!    signs;
//! 4. `ca rotate`: the new bundle acknowledged, then every agent renews in the time that the broker orders, and connects
//!    with the new certificate;
//! 5. the broker is killed and started again: how long until the agents are back.
//!
//! A phase that does not come to its end in time ends the run. With `--dead`, some agents end between 2 and 3, and what
//! turns must go on without them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use homeward_certs::pin::SpkiPin;
use homeward_certs::tls::LiveBundle;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use world::Federation;
use world::process::Log;
use world::usage::Usage;

use crate::agent::{Agent, Surroundings};
use crate::board::{A_SECOND, Board, Goal, News, Report, say};
use crate::enrolment::{Enrolled, enrol};
use crate::report::{Delays, Figures, PhaseCost, mib, rounded, seconds};
use crate::resources::Seen;
use crate::{Arguments, Phase, open_files};

/// Short waits for what is gated by time, so that a rotation is over in seconds: the dead are waited for that long, and
/// everybody else as long as it takes.
const SETTINGS: &str = "[rotation]\nsigning_keys_every = 0\nclient_secrets_every = 0\nauthority_every = 0\n\
                        acknowledge_within = 300\ngrace_for_absent = 15\nkey_set_max_age = 2\n";

/// As in production: what a broker logs costs time, too.
const LOG: &str = "";

/// Agents that connect for the first time at once.
const FIRST_CONNECTIONS: usize = 64;

/// Allocators and background work come to rest in this time.
const REST: Duration = Duration::from_secs(2);

/// Bound of a phase: what all of them do, and what each of them needs on top of it.
const BOUND: (Duration, Duration) = (Duration::from_secs(120), Duration::from_millis(20));

/// Measures everything that was asked for. What was measured before a failure stays in `figures`.
///
/// # Errors
/// When a phase does not come to its end, says how far it came.
pub(crate) async fn run(arguments: &Arguments, figures: &mut Figures) -> anyhow::Result<()> {
    if arguments.dead >= arguments.agents {
        bail!("--dead {} leaves nobody of --agents {}", arguments.dead, arguments.agents);
    }
    open_files::allow(arguments.agents)?;
    say("building the broker (a few minutes the first time)");
    world::programs::programs()?;
    let mut fleet = Fleet::enrol(arguments.agents).await?;
    let result = fleet.measure(arguments, figures).await;
    if result.is_err() {
        say(&format!("the broker's last words:\n{}", fleet.last_words()));
    }
    result
}

/// The broker and its agents.
struct Fleet {
    federation: Federation,
    board: Board,
    /// Those that have not been started yet.
    agents: Vec<Agent>,
    living: u32,
    /// The CA that signs instances.
    authority: SpkiPin,
}

impl Fleet {
    async fn enrol(count: u32) -> anyhow::Result<Self> {
        let federation = Federation::founded(SETTINGS).await?;
        say(&format!("writing {count} instances into the broker's store: they are enrolled offline"));
        let Enrolled { identities, bundle, trust_domain, agent_url } = enrol(&federation.config, count).await?;
        let first_connections = Semaphore::new(FIRST_CONNECTIONS);
        let surroundings = Arc::new(Surroundings { agent_url, trust_domain, seen: Seen::default(), first_connections });
        let (board, reporters) = Board::new(identities.len());
        let live = LiveBundle::new(&bundle)?;
        let agent = |(identity, reporter)| Agent::new(identity, live.clone(), surroundings.clone(), reporter);
        let agents: Vec<Agent> = identities.into_iter().zip(reporters).map(agent).collect();
        let authority = bundle.pins().first().copied().context("the trust bundle holds no CA")?;
        Ok(Self { federation, board, agents, living: count, authority })
    }

    async fn measure(&mut self, arguments: &Arguments, figures: &mut Figures) -> anyhow::Result<()> {
        self.serve().await?;
        let connected = self.connect(figures).await?;
        self.end(connected, arguments.dead);
        if arguments.wants(Phase::Keys) {
            self.turn_keys(figures).await?;
        }
        if arguments.wants(Phase::Ca) {
            self.turn_authority(figures).await?;
        }
        figures.streams_lost = Some(self.board.losses());
        if arguments.wants(Phase::Restart) {
            self.restart(figures).await?;
        }
        Ok(())
    }

    async fn serve(&mut self) -> anyhow::Result<()> {
        let file = self.federation.log.clone();
        self.federation.serve_with(Log { file: &file, filter: LOG }).await
    }

    async fn connect(&mut self, figures: &mut Figures) -> anyhow::Result<Vec<AbortHandle>> {
        sleep(REST).await;
        let costs = Costs::since_now("connect", self.broker()?)?;
        let running = self.agents.drain(..).map(|agent| tokio::spawn(agent.run()).abort_handle()).collect();
        let goal = self.goal("connected and in sync");
        let in_sync = |report: &Report| matches!(report.news, News::Acknowledged { key_set: Some(_), .. });
        let moments = self.board.each(goal, in_sync).await?;
        figures.connect_s = Delays::new(costs.began, &moments, self.living).until(1.0);
        sleep(REST).await;
        let full = Usage::of(self.broker()?)?;
        let added = full.resident_kib.saturating_sub(costs.broker.resident_kib);
        figures.broker_rss_mib = Some(mib(full.resident_kib));
        figures.memory_per_agent_kib = Some(rounded(added as f64 / f64::from(self.living), 10.0));
        costs.end(self.broker()?, figures)?;
        Ok(running)
    }

    /// Some agents die: their connections end, and nothing is heard of them any more.
    fn end(&mut self, running: Vec<AbortHandle>, dead: u32) {
        for agent in running.into_iter().take(dead as usize) {
            agent.abort();
        }
        self.board.bury(dead as usize);
        self.living -= dead;
    }

    async fn turn_keys(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        let (costs, before) = (Costs::since_now("keys", self.broker()?)?, self.board.key_set);
        self.federation.ops(&["keys", "rotate", "--algorithm", "RS256", "--output", "json"]).await?;
        let goal = self.goal("have acknowledged the new key");
        let news = |report: &Report| match report.news {
            News::Acknowledged { key_set: Some(key_set), .. } => Some(key_set) != before,
            _ => false,
        };
        let moments = self.board.each(goal, news).await?;
        let delays = Delays::new(costs.began, &moments, self.living);
        figures.key_set_ack_p50_s = delays.until(0.5);
        figures.key_set_ack_p99_s = delays.until(0.99);
        figures.key_set_ack_max_s = delays.until(1.0);
        // Asked only now: an answer with ten thousand names would have been in the way of the acknowledgements.
        let counted = |rotation: &Value| rotation["acknowledged"] == self.living || rotation["phase"] != "published";
        self.rotation("keys/RS256", counted).await?;
        figures.key_set_counted_s = Some(seconds(costs.began.elapsed()));
        self.rotation("keys/RS256", |rotation| rotation["phase"] != "published").await?;
        figures.key_active_s = Some(seconds(costs.began.elapsed()));
        costs.end(self.broker()?, figures)
    }

    async fn turn_authority(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        let costs = Costs::since_now("ca", self.broker()?)?;
        let (authority, version) = (self.authority, self.board.bundle_version);
        self.federation.ops(&["ca", "rotate", "--output", "json"]).await?;
        let goal = self.goal("are connected with a certificate of the new CA");
        let (mut trusting, mut ordered, mut refused) = (HashMap::new(), None, 0);
        let renewed = |report: &Report| {
            match report.news {
                News::Acknowledged { bundle_version: Some(newer), .. } if newer > version => {
                    trusting.entry(report.agent).or_insert(report.at);
                }
                News::Ordered => _ = ordered.get_or_insert(report.at),
                News::RenewalRefused(_) => refused += 1,
                _ => {}
            }
            matches!(report.news, News::Connected(newer) if newer != authority)
        };
        let moments = self.board.each(goal, renewed).await?;
        let trusting: Vec<Instant> = trusting.into_values().collect();
        figures.bundle_ack_p99_s = Delays::new(costs.began, &trusting, self.living).until(0.99);
        figures.ca_renewal_s = Delays::new(ordered.unwrap_or(costs.began), &moments, self.living).until(1.0);
        figures.renewals_refused = Some(refused);
        costs.end(self.broker()?, figures)
    }

    async fn restart(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        let costs = Costs::since_start("restart")?;
        self.federation.kill_broker().await?;
        self.serve().await?;
        let listening = Instant::now();
        figures.restart_s = Some(seconds(listening - costs.began));
        let goal = Goal { share: 0.99, ..self.goal("are connected again") };
        let again = |report: &Report| report.at > costs.began && matches!(report.news, News::Connected(_));
        let moments = self.board.each(goal, again).await?;
        let delays = Delays::new(listening, &moments, self.living);
        figures.reconnect_p50_s = delays.until(0.5);
        figures.reconnect_p99_s = delays.until(0.99);
        figures.reconnect_max_s = delays.until(1.0);
        costs.end(self.broker()?, figures)
    }

    /// Waits until the broker says so of a rotation.
    async fn rotation(&self, subject: &str, so: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + BOUND.0;
        loop {
            let status = self.federation.ops_json(&["rotation", "status", subject]).await?;
            let rotation = &status[0];
            if so(rotation) {
                return Ok(());
            }
            let (acknowledged, participants) = (&rotation["acknowledged"], &rotation["participants"]);
            let how_far = format!("{subject}: {}, {acknowledged} of {participants}", rotation["phase"]);
            if rotation["state"] == "paused" || Instant::now() > deadline {
                bail!("{how_far}, {}: {}", rotation["state"], rotation["reason"]);
            }
            sleep(A_SECOND).await;
            say(&how_far);
        }
    }

    fn goal(&self, what: &'static str) -> Goal<'static> {
        Goal { what, share: 1.0, within: BOUND.0 + BOUND.1 * self.living }
    }

    /// Its process id.
    fn broker(&self) -> anyhow::Result<u32> {
        Ok(self.federation.broker.as_ref().context("no broker runs")?.pid())
    }

    /// The last warnings and errors in its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.federation.log).unwrap_or_default();
        let mut words: Vec<&str> =
            log.lines().rev().filter(|line| line.contains("WARN") || line.contains("ERROR")).take(10).collect();
        words.reverse();
        words.join("\n")
    }
}

/// What the processes had used when a phase began.
struct Costs {
    phase: &'static str,
    began: Instant,
    broker: Usage,
    agents: Usage,
}

impl Costs {
    /// Of a phase in which this broker does not end.
    fn since_now(phase: &'static str, broker: u32) -> anyhow::Result<Self> {
        Ok(Self { broker: Usage::of(broker)?, ..Self::since_start(phase)? })
    }

    /// Of a phase in which a broker starts.
    fn since_start(phase: &'static str) -> anyhow::Result<Self> {
        let agents = Usage::of(std::process::id())?;
        Ok(Self { phase, began: Instant::now(), broker: Usage::default(), agents })
    }

    fn end(self, broker: u32, figures: &mut Figures) -> anyhow::Result<()> {
        let (took, broker, agents) = (self.began.elapsed(), Usage::of(broker)?, Usage::of(std::process::id())?);
        let peak = mib(broker.peak_kib);
        figures.broker_rss_peak_mib = Some(figures.broker_rss_peak_mib.map_or(peak, |before| before.max(peak)));
        figures.phases.push(PhaseCost {
            phase: self.phase,
            took_s: seconds(took),
            broker_cpu_s: rounded(broker.cpu_s - self.broker.cpu_s, 100.0),
            agents_cpu_s: rounded(agents.cpu_s - self.agents.cpu_s, 100.0),
            broker_rss_mib: mib(broker.resident_kib),
        });
        Ok(())
    }
}
