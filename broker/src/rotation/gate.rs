//! The gate between two phases: who must acknowledge first, and what happens if they do not. Pure.
//!
//! An agent that is connected gets `acknowledge_within`; when that is over and it has not, the gate *fails*: the rotation
//! pauses, or ends if it is that of a client secret, and ops are told. One that is not connected is waited for until the
//! grace ends, and then left behind by name. A compromised value waits for nobody longer than its notice.

use std::time::Duration;

use homeward_certs::identity::InstanceName;

use crate::clock::Timestamp;
use crate::registry::{Refusal, Sighting};
use crate::rotation::record::Urgency;

/// How long agents get to hear of the next value when the old one is compromised.
pub(super) const NOTICE: Duration = Duration::from_secs(30);

/// Somebody who must acknowledge before a rotation goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Who.
    pub instance: InstanceName,
    /// Whether it has.
    pub acknowledged: bool,
    /// Since when it is connected; not at all if unset.
    pub connected_at: Option<Timestamp>,
    /// When it last said anything.
    pub last_seen_at: Option<Timestamp>,
    /// What it said instead.
    pub refusal: Option<Refusal>,
}

impl Participant {
    /// An instance by what was heard of its agent.
    pub(super) fn new(instance: InstanceName, sighting: Option<&Sighting>, acknowledged: bool) -> Self {
        Self {
            instance,
            acknowledged,
            connected_at: sighting.filter(|seen| seen.online).map(|seen| seen.connected_at),
            last_seen_at: sighting.map(|seen| seen.last_seen_at),
            refusal: None,
        }
    }

    /// The same with what it said instead of an acknowledgement.
    pub(super) fn refusing(self, refusal: Option<&Refusal>) -> Self {
        Self { refusal: refusal.cloned(), ..self }
    }
}

/// What a phase waits for.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Who must acknowledge.
    pub participants: Vec<Participant>,
    /// Not before this moment, whoever has acknowledged.
    pub not_before: Timestamp,
    /// What happens to the absent.
    pub absent: Absent,
    /// What is waited for, in words: `every connected agent …`.
    pub words: &'static str,
}

/// What happens to those who are not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// They are waited for until the grace ends, then left behind.
    Grace,
    /// They are waited for until they no longer count.
    Hold,
}

/// How long a gate waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For agents that are connected.
    pub(super) acknowledge_within: Duration,
    /// For those that are not.
    pub(super) grace_for_absent: Duration,
    /// For everybody, when there is no time for either.
    pub(super) notice: Duration,
    /// Whether there is.
    pub(super) urgency: Urgency,
}

/// Whether a rotation may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, without these.
    Open {
        /// Who has not acknowledged and is not waited for any longer.
        left_behind: Vec<InstanceName>,
    },
    /// Not yet.
    Waiting,
    /// These are connected and had their time.
    Failed {
        /// Who.
        by: Vec<InstanceName>,
    },
}

impl Gate {
    /// Those who have not acknowledged, the longest gone first.
    pub fn laggards(&self) -> Vec<&Participant> {
        let mut laggards: Vec<_> = self.participants.iter().filter(|participant| !participant.acknowledged).collect();
        laggards.sort_by(|a, b| (a.last_seen_at, &a.instance).cmp(&(b.last_seen_at, &b.instance)));
        laggards
    }

    /// Whether the rotation may go on, when it has waited since `armed_at`.
    pub(super) fn judge(&self, armed_at: Timestamp, patience: Patience, now: Timestamp) -> Verdict {
        let laggards = self.laggards();
        if patience.urgency == Urgency::Compromised {
            let over = laggards.is_empty() || now >= armed_at + patience.notice;
            return if over { open(&laggards) } else { Verdict::Waiting };
        }
        // Whoever has just come back gets the whole time, but not again and again: one that comes and goes would hold the
        // gate for ever, and ops would not be told.
        let latest = armed_at + patience.grace_for_absent.max(patience.acknowledge_within);
        let since = |connected: Timestamp| connected.max(armed_at).min(latest);
        let had_time = |at: Timestamp| now >= since(at) + patience.acknowledge_within;
        let by: Vec<_> = laggards.iter().filter(|laggard| laggard.connected_at.is_some_and(had_time)).collect();
        if !by.is_empty() {
            return Verdict::Failed { by: by.into_iter().map(|laggard| laggard.instance.clone()).collect() };
        }
        let excused = self.absent == Absent::Grace && now >= armed_at + patience.grace_for_absent;
        let gone = laggards.iter().all(|laggard| laggard.connected_at.is_none() && excused);
        if gone && now >= self.not_before { open(&laggards) } else { Verdict::Waiting }
    }
}

fn open(laggards: &[&Participant]) -> Verdict {
    Verdict::Open { left_behind: laggards.iter().map(|laggard| laggard.instance.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_secs(1_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn participant(name: &str, acknowledged: bool, connected_at: Option<Timestamp>) -> Participant {
        Participant {
            instance: name.parse().unwrap(),
            acknowledged,
            connected_at,
            last_seen_at: connected_at,
            refusal: None,
        }
    }

    fn judge(participants: Vec<Participant>, absent: Absent, urgency: Urgency, minutes: u32) -> String {
        let gate = Gate { participants, not_before: T0 + 10 * MINUTE, absent, words: "" };
        let patience =
            Patience { acknowledge_within: 60 * MINUTE, grace_for_absent: 600 * MINUTE, notice: NOTICE, urgency };
        match gate.judge(T0, patience, T0 + minutes * MINUTE) {
            Verdict::Open { left_behind } => format!("open without {}", left_behind.len()),
            Verdict::Waiting => "waiting".into(),
            Verdict::Failed { by } => format!("failed by {}", by.len()),
        }
    }

    #[test]
    fn the_gate_waits_for_the_connected_and_for_a_while_for_the_absent() {
        use Absent::{Grace, Hold};
        use Urgency::{Compromised, Planned};
        let done = || participant("a", true, Some(T0));
        let slow = || participant("b", false, Some(T0));
        let back = || participant("c", false, Some(T0 + 50 * MINUTE));
        let gone = || participant("d", false, None);
        let flaps = |minutes: u32| participant("e", false, Some(T0 + minutes * MINUTE));
        let table = [
            (vec![], Grace, Planned, 9, "waiting"),
            (vec![], Grace, Planned, 10, "open without 0"),
            (vec![done()], Grace, Planned, 9, "waiting"),
            (vec![done()], Grace, Planned, 10, "open without 0"),
            (vec![done(), slow()], Grace, Planned, 59, "waiting"),
            (vec![done(), slow()], Grace, Planned, 60, "failed by 1"),
            (vec![done(), back()], Grace, Planned, 60, "waiting"),
            (vec![done(), back()], Grace, Planned, 110, "failed by 1"),
            (vec![done(), gone()], Grace, Planned, 599, "waiting"),
            (vec![done(), gone()], Grace, Planned, 600, "open without 1"),
            (vec![done(), gone()], Hold, Planned, 6000, "waiting"),
            (vec![slow(), gone()], Grace, Planned, 600, "failed by 1"),
            (vec![flaps(659)], Grace, Planned, 659, "waiting"),
            (vec![flaps(660)], Grace, Planned, 660, "failed by 1"),
            (vec![flaps(660)], Hold, Planned, 660, "failed by 1"),
            (vec![slow(), gone()], Grace, Compromised, 0, "waiting"),
            (vec![slow(), gone()], Hold, Compromised, 1, "open without 2"),
            (vec![done()], Grace, Compromised, 0, "open without 0"),
        ];
        for (participants, absent, urgency, minutes, expected) in table {
            let who: Vec<_> = participants.iter().map(|p| p.instance.to_string()).collect();
            assert_eq!(
                judge(participants, absent, urgency, minutes),
                expected,
                "{who:?} {absent:?} {urgency:?} {minutes}"
            );
        }
    }
}
