//! Whose an agent is: this broker's, another one's, or nobody's, by the order of the store.

use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::brokers::{BrokerId, Brokers};
use crate::clock::Timestamp;
use crate::registry::liveness::Sighting;
use crate::registry::report::AgentReport;
use crate::storage::{Expect, Revision};

/// An agent's stream at this broker, for as long as no later one counts.
#[derive(Debug)]
pub struct Claim {
    id: u64,
    lost: CancellationToken,
}

impl Claim {
    /// Waits until the agent has a later stream, here or at another broker, or was forgotten.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// What is known of one agent.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) sighting: Arc<Sighting>,
    /// The last sign of life in the store.
    pub(super) saved: Option<Timestamp>,
    /// The commit that wrote its report, as far as this broker knows.
    pub(super) stored: Option<Revision>,
    pub(super) place: Place,
}

/// Where an agent's last stream is, or was.
#[derive(Debug)]
pub(super) enum Place {
    /// At this broker.
    Here(Hold),
    /// At another one.
    Elsewhere {
        /// Which.
        broker: BrokerId,
        /// Whether it is open, as that broker said.
        connected: bool,
    },
    /// At one that is not known any more.
    Nowhere,
}

/// This broker's claim.
#[derive(Debug)]
pub(super) struct Hold {
    id: u64,
    /// The commit that made it; nothing before it is known.
    made: Option<Revision>,
    /// What somebody else wrote before that was known, and when.
    rival: Option<Box<(Revision, Option<AgentReport>)>>,
    _lost_when_dropped: DropGuard,
}

/// How the report of an agent of this broker is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    /// Of the claim.
    pub(super) id: u64,
    /// A claim takes nothing for granted.
    pub(super) expect: Expect,
    /// Whether it is one.
    pub(super) claims: bool,
}

/// What a word of the store changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that anybody would care for.
    Nothing,
    /// Rotations may have to look again.
    News,
    /// The agent is no longer known.
    Forgotten,
}

impl Known {
    /// Of an agent that nobody has heard of.
    pub(super) fn unheard(now: Timestamp) -> Self {
        Self { sighting: Arc::new(Sighting::unheard(now)), saved: None, stored: None, place: Place::Nowhere }
    }

    /// As the store has it.
    pub(super) fn of(report: AgentReport, stored: Revision, brokers: &Brokers) -> Self {
        let mut known = Self::unheard(report.last_seen_at);
        known.adopt(report, stored, brokers);
        known
    }

    pub(super) fn claim(&mut self, id: u64) -> Claim {
        if !matches!(self.place, Place::Here(_)) && self.sighting.online {
            // At another broker it was.
            Arc::make_mut(&mut self.sighting).online = false;
        }
        let lost = CancellationToken::new();
        let guard = lost.clone().drop_guard();
        self.place = Place::Here(Hold { id, made: None, rival: None, _lost_when_dropped: guard });
        Claim { id, lost }
    }

    pub(super) fn is_claimed_by(&self, claim: &Claim) -> bool {
        matches!(&self.place, Place::Here(hold) if hold.id == claim.id)
    }

    /// How its report is to be written; not at all if it is none of this broker's.
    pub(super) fn draft(&self) -> Option<Draft> {
        let Place::Here(hold) = &self.place else { return None };
        // A stream that ended before its claim was made claims nothing: another broker may have the agent by now.
        let claims = hold.made.is_none() && self.sighting.online;
        let expect = match self.stored {
            _ if claims => Expect::Any,
            Some(stored) => Expect::Version(stored.version()),
            None => Expect::Absent,
        };
        Some(Draft { id: hold.id, expect, claims })
    }

    /// A draft was committed.
    pub(super) fn written(&mut self, draft: Draft, revision: Revision, brokers: &Brokers) -> Effect {
        let Place::Here(hold) = &mut self.place else { return Effect::Nothing };
        if hold.id != draft.id {
            // An earlier claim's: whatever it wrote, the one of now is made later.
            return Effect::Nothing;
        }
        self.stored = self.stored.max(Some(revision));
        if draft.claims {
            hold.made = Some(revision);
            if let Some(rival) = hold.rival.take()
                && rival.0 > revision
            {
                let (rival, report) = *rival;
                return self.lose(report, rival, brokers);
            }
        }
        Effect::Nothing
    }

    /// The store has this report, or none any more, since this commit.
    pub(super) fn hear(&mut self, report: Option<AgentReport>, revision: Revision, brokers: &Brokers) -> Effect {
        if self.stored.is_some_and(|stored| stored >= revision) {
            return Effect::Nothing;
        }
        let own = report.as_ref().is_some_and(|report| report.broker == Some(brokers.me()));
        match &mut self.place {
            Place::Here(_) if own => {
                self.stored = Some(revision);
                Effect::Nothing
            }
            // Which of the two is the later one is known when the claim has been made.
            Place::Here(hold) if hold.made.is_none() && self.sighting.online => {
                hold.rival = Some(Box::new((revision, report)));
                Effect::Nothing
            }
            Place::Here(_) | Place::Elsewhere { .. } | Place::Nowhere => self.lose(report, revision, brokers),
        }
    }

    fn lose(&mut self, report: Option<AgentReport>, revision: Revision, brokers: &Brokers) -> Effect {
        let before = self.sighting.clone();
        match report {
            None => return Effect::Forgotten,
            Some(report) => self.adopt(report, revision, brokers),
        }
        if self.sighting.is_news_after(&before) { Effect::News } else { Effect::Nothing }
    }

    /// Believes the store. A claim of this broker is lost by that.
    fn adopt(&mut self, report: AgentReport, revision: Revision, brokers: &Brokers) {
        self.place = match report.broker {
            Some(broker) => Place::Elsewhere { broker, connected: report.connected },
            None => Place::Nowhere,
        };
        (self.stored, self.saved) = (Some(revision), Some(report.last_seen_at));
        self.sighting = Arc::new(report.into_sighting());
        self.look_who_lives(brokers);
    }

    /// An agent of another broker is online as long as that lives. Says whether this has changed.
    pub(super) fn look_who_lives(&mut self, brokers: &Brokers) -> bool {
        let Place::Elsewhere { broker, connected } = self.place else { return false };
        let online = connected && brokers.lives(broker);
        if self.sighting.online == online {
            return false;
        }
        Arc::make_mut(&mut self.sighting).online = online;
        true
    }
}
