//! When the agent says how the instance is: every half minute, and as soon as an application that did not answer does again.
//! Until then the home picker greys this home out, and ops see a problem: nobody should wait longer for that than needed.

use std::pin::Pin;
use std::time::Duration;

use homeward_proto::v1::AgentState;
use tokio::time::{Instant, Sleep};

use crate::{backoff, random};

/// How often the agent says that it is there, and the share by which that varies.
const HEARTBEAT: (Duration, f64) = (Duration::from_secs(30), 0.2);
/// How often an application that does not answer is asked. The broker hears only of a change.
const WHILE_UNWELL: Duration = Duration::from_secs(2);

/// Of one stream.
pub(super) struct Pulse {
    told: AgentState,
    /// When the broker hears the same again.
    again: Instant,
    due: Pin<Box<Sleep>>,
}

impl Pulse {
    /// After this was told in the Hello.
    pub(super) fn after(told: AgentState) -> Self {
        let again = Instant::now() + next_heartbeat();
        let mut pulse = Self { told, again, due: Box::pin(tokio::time::sleep_until(again)) };
        pulse.wait();
        pulse
    }

    /// When to look.
    pub(super) fn due(&mut self) -> &mut Pin<Box<Sleep>> {
        &mut self.due
    }

    /// Whether to tell the broker what was seen.
    pub(super) fn tells(&mut self, seen: &AgentState) -> bool {
        let now = Instant::now();
        let tells = now >= self.again || *seen != self.told;
        if tells {
            self.told = seen.clone();
            self.again = now + next_heartbeat();
        }
        self.wait();
        tells
    }

    fn wait(&mut self) {
        let soon = Instant::now() + WHILE_UNWELL;
        self.due.as_mut().reset(if self.told.application_healthy { self.again } else { self.again.min(soon) });
    }
}

fn next_heartbeat() -> Duration {
    backoff::spread(HEARTBEAT.0, HEARTBEAT.1, random::fraction())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(application_healthy: bool) -> AgentState {
        AgentState { application_healthy, ..AgentState::default() }
    }

    async fn looks(pulse: &mut Pulse, seen: &AgentState) -> (Duration, bool) {
        let begun = Instant::now();
        pulse.due().await;
        (begun.elapsed(), pulse.tells(seen))
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_keep_their_bounds() {
        let mut pulse = Pulse::after(state(true));
        for _ in 0..1000 {
            let (wait, told) = looks(&mut pulse, &state(true)).await;
            assert!(told && wait >= Duration::from_secs(24) && wait <= Duration::from_millis(36_002), "{wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_is_back_is_told_soon_and_one_that_stays_away_no_oftener() {
        let begun = Instant::now();
        let mut pulse = Pulse::after(state(false));
        let mut told = 0;
        while begun.elapsed() < Duration::from_secs(300) {
            told += u32::from(looks(&mut pulse, &state(false)).await.1);
        }
        assert!((8..=13).contains(&told), "{told}");
        let (wait, told) = looks(&mut pulse, &state(true)).await;
        assert!(told && wait < Duration::from_secs(3), "{wait:?}");
        assert!(looks(&mut pulse, &state(true)).await.0 > Duration::from_secs(20), "and then in peace");
    }
}
