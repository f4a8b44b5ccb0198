//! When the agent says how the instance is: every half minute, and as soon as an application that did not answer does again.
//! Until then the home picker greys this home out, and ops see a problem: nobody should wait longer for that than needed.
//! Pure: `now` is a parameter.

use std::time::Duration;

use homeward_proto::v1::AgentState;
use tokio::time::Instant;

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
    /// When to look.
    due: Instant,
}

impl Pulse {
    /// After this was told in the Hello.
    pub(super) fn after(told: AgentState, now: Instant) -> Self {
        let again = now + next_heartbeat();
        let mut pulse = Self { told, again, due: again };
        pulse.wait(now);
        pulse
    }

    /// When to look how the instance is.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether to tell the broker what was seen.
    pub(super) fn tells(&mut self, seen: &AgentState, now: Instant) -> bool {
        let tells = now >= self.again || *seen != self.told;
        if tells {
            self.told = seen.clone();
            self.again = now + next_heartbeat();
        }
        self.wait(now);
        tells
    }

    fn wait(&mut self, now: Instant) {
        self.due = if self.told.application_healthy { self.again } else { self.again.min(now + WHILE_UNWELL) };
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

    #[test]
    fn heartbeats_keep_their_bounds() {
        let mut now = Instant::now();
        let mut pulse = Pulse::after(state(true), now);
        for _ in 0..1000 {
            let wait = pulse.due() - now;
            assert!(wait >= Duration::from_secs(24) && wait <= Duration::from_secs(36), "{wait:?}");
            now = pulse.due();
            assert!(pulse.tells(&state(true), now));
        }
    }

    #[test]
    fn an_application_that_is_back_is_told_soon_and_one_that_stays_away_no_oftener() {
        let begun = Instant::now();
        let mut now = begun;
        let mut pulse = Pulse::after(state(false), now);
        let mut told = 0;
        while now < begun + Duration::from_secs(300) {
            assert!(pulse.due() - now <= WHILE_UNWELL);
            now = pulse.due();
            told += u32::from(pulse.tells(&state(false), now));
        }
        assert!((8..=13).contains(&told), "{told}");
        assert!(pulse.tells(&state(true), pulse.due()), "at once");
        let mut well = Pulse::after(state(true), now);
        assert!(well.tells(&state(false), well.due()) && well.due() > now);
    }
}
