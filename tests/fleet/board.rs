//! What the agents say of themselves, and waiting until all of them have said something.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use homeward_certs::pin::SpkiPin;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};

use crate::resources::Fingerprint;

/// Between two lines of progress.
pub(crate) const A_SECOND: Duration = Duration::from_secs(1);

/// Something that happened to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Its stream is open, with a certificate of this CA.
    Connected(SpkiPin),
    /// Its stream, or the try to open one, has failed.
    Lost(String),
    /// It acknowledged what came, which had these in it.
    Acknowledged {
        /// A key set.
        key_set: Option<Fingerprint>,
        /// A trust bundle.
        bundle_version: Option<u64>,
    },
    /// It is to renew its certificate.
    Ordered,
    /// The broker did not renew its certificate.
    RenewalRefused(String),
    /// It was told not to come back.
    Dismissed(String),
}

/// What an agent says, and when it was so.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Which agent.
    pub(crate) agent: usize,
    /// When.
    pub(crate) at: Instant,
    /// What.
    pub(crate) news: News,
}

/// An agent's end of the board.
#[derive(Debug)]
pub(crate) struct Reporter {
    agent: usize,
    reports: mpsc::UnboundedSender<Report>,
}

impl Reporter {
    /// Says it.
    pub(crate) fn tell(&self, news: News) {
        // Nobody reads any more when the measurements are over.
        drop(self.reports.send(Report { agent: self.agent, at: Instant::now(), news }));
    }
}

/// All agents.
#[derive(Debug)]
pub(crate) struct Board {
    agents: usize,
    living: usize,
    reports: mpsc::UnboundedReceiver<Report>,
    /// The trouble that was heard of last.
    trouble: Option<String>,
    /// Why streams were lost, or not to be had, and how often.
    lost: BTreeMap<String, usize>,
    /// The key set that was acknowledged last.
    pub(crate) key_set: Option<Fingerprint>,
    /// The newest trust bundle that was acknowledged.
    pub(crate) bundle_version: u64,
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal<'a> {
    /// In words: "connected".
    pub(crate) what: &'a str,
    /// So many, from 0 to 1, must come there.
    pub(crate) share: f64,
    /// In this time. If all of them are there before, it is over.
    pub(crate) within: Duration,
}

impl Board {
    /// A board and the agents' ends of it.
    pub(crate) fn new(agents: usize) -> (Self, Vec<Reporter>) {
        let (sender, reports) = mpsc::unbounded_channel();
        let reporters = (0..agents).map(|agent| Reporter { agent, reports: sender.clone() }).collect();
        (
            Self {
                agents,
                living: agents,
                reports,
                trouble: None,
                lost: BTreeMap::new(),
                key_set: None,
                bundle_version: 0,
            },
            reporters,
        )
    }

    /// So many agents say nothing any more.
    pub(crate) fn bury(&mut self, dead: usize) {
        self.living -= dead;
    }

    /// Waits until each living agent has said something that counts, and gives the moments.
    ///
    /// # Errors
    /// When too few have in time; says how many, and what troubled them last. When one was dismissed.
    pub(crate) async fn each(
        &mut self,
        goal: Goal<'_>,
        mut counts: impl FnMut(&Report) -> bool,
    ) -> anyhow::Result<Vec<Instant>> {
        let mut moments: Vec<Option<Instant>> = vec![None; self.agents];
        let (mut reached, began) = (0, Instant::now());
        let mut progress = interval_at(began + A_SECOND, A_SECOND);
        let deadline = began + goal.within;
        while reached < self.living {
            tokio::select! {
                biased;
                Some(report) = self.reports.recv() => {
                    self.note(&report.news)?;
                    if counts(&report) && moments[report.agent].is_none() {
                        moments[report.agent] = Some(report.at);
                        reached += 1;
                    }
                }
                _ = progress.tick() => say(&format!("{reached} of {} {}", self.living, goal.what)),
                () = sleep_until(deadline) => break,
            }
        }
        let moments: Vec<Instant> = moments.into_iter().flatten().collect();
        if (moments.len() as f64) < goal.share * self.living as f64 {
            let trouble = self.trouble.as_deref().unwrap_or("no agent says why");
            bail!("{reached} of {} {} after {} s ({trouble})", self.living, goal.what, goal.within.as_secs());
        }
        Ok(moments)
    }

    /// How often somebody lost the stream, or did not get one, so far; says why.
    pub(crate) fn losses(&self) -> usize {
        for (trouble, times) in &self.lost {
            say(&format!("{times} times: {trouble}"));
        }
        self.lost.values().sum()
    }

    fn note(&mut self, news: &News) -> anyhow::Result<()> {
        match news {
            News::Lost(trouble) => {
                self.trouble = Some(trouble.clone());
                *self.lost.entry(trouble.clone()).or_default() += 1;
            }
            News::RenewalRefused(trouble) => self.trouble = Some(trouble.clone()),
            // Nothing that is done here gives a broker a reason for it.
            News::Dismissed(reason) => bail!("an agent was told not to come back: {reason}"),
            News::Acknowledged { key_set, bundle_version } => {
                self.key_set = key_set.or(self.key_set);
                self.bundle_version = bundle_version.unwrap_or(0).max(self.bundle_version);
            }
            News::Connected(_) | News::Ordered => {}
        }
        Ok(())
    }
}

/// Tells whoever waits before a terminal.
#[expect(clippy::print_stderr, reason = "progress goes to standard error")]
pub(crate) fn say(what: &str) {
    eprintln!("fleet: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: Goal<'_> = Goal { what: "ordered", share: 1.0, within: Duration::from_millis(20) };

    #[tokio::test]
    async fn the_first_moment_of_each_counts() {
        let (mut board, reporters) = Board::new(2);
        reporters[0].tell(News::Ordered);
        let between = Instant::now();
        reporters[0].tell(News::Ordered);
        reporters[1].tell(News::Lost("no network".into()));
        reporters[1].tell(News::Ordered);
        let moments = board.each(GOAL, |report| report.news == News::Ordered).await.unwrap();
        assert!(moments[0] <= between && moments[1] >= between && moments.len() == 2);
    }

    #[tokio::test]
    async fn too_few_in_time_is_a_failure_that_says_how_many_and_why() {
        for (share, expected) in [(0.5, Ok(1)), (0.99, Err("1 of 2 ordered after 0 s (no network)".to_owned()))] {
            let (mut board, reporters) = Board::new(2);
            reporters[0].tell(News::Ordered);
            reporters[1].tell(News::Lost("no network".into()));
            let goal = Goal { share, ..GOAL };
            let result = board.each(goal, |report| report.news == News::Ordered).await;
            assert_eq!(result.map(|moments| moments.len()).map_err(|error| error.to_string()), expected);
        }
    }

    #[tokio::test]
    async fn the_dead_are_not_waited_for() {
        let (mut board, reporters) = Board::new(2);
        board.bury(1);
        reporters[1].tell(News::Ordered);
        assert_eq!(board.each(GOAL, |_| true).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_dismissal_ends_the_wait() {
        let (mut board, reporters) = Board::new(1);
        reporters[0].tell(News::Dismissed("AGENT_UNKNOWN".into()));
        let error = board.each(GOAL, |_| true).await.unwrap_err();
        assert_eq!(error.to_string(), "an agent was told not to come back: AGENT_UNKNOWN");
    }
}
