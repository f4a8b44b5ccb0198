//! How often what was noted: for whoever watches. Counted when it is noted, also what a flood of strangers leaves out of the
//! files.
//!
//! Those of `counts` are others: logins of all brokers, kept over two days in the store, for the console without a Prometheus.
//! These are of one broker since it started, by reason and name, and cost the store nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use homeward_certs::identity::InstanceName;

use crate::audit::{Event, Kind, Outcome};

/// So many reasons are told apart. They are words of our own and far fewer; this is for the day on which that is forgotten.
const REASONS: usize = 500;

/// Counts since the broker has started.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

/// How often what was noted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// By what happened, how it went, and why; without a reason if it was done.
    pub events: HashMap<(Kind, Outcome, Cow<'static, str>), u64>,
    /// Logins that were decided, by relying party.
    pub logins: HashMap<(InstanceName, Outcome), u64>,
    /// What homes answered, by home.
    pub answers: HashMap<(InstanceName, Outcome), u64>,
}

impl Tally {
    pub(super) fn count(&self, event: &Event) {
        let mut counts = self.lock();
        let key = (event.kind, event.outcome, event.reason.clone().unwrap_or_default());
        let told_apart = counts.events.contains_key(&key) || counts.events.len() < REASONS;
        let key = if told_apart { key } else { (event.kind, event.outcome, "other".into()) };
        *counts.events.entry(key).or_default() += 1;
        let (by_name, name) = match event.kind {
            Kind::LoginDecided => (&mut counts.logins, &event.relying_party),
            Kind::HomeAnswered => (&mut counts.answers, &event.home),
            _ => return,
        };
        if let Some(name) = name {
            *by_name.entry((name.clone(), event.outcome)).or_default() += 1;
        }
    }

    /// What was counted. Whoever is not `known` any more is forgotten.
    pub fn counts(&self, known: impl Fn(&InstanceName) -> bool) -> Counts {
        let mut counts = self.lock();
        counts.logins.retain(|(name, _), _| known(name));
        counts.answers.retain(|(name, _), _| known(name));
        counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics while it is held; what is in there is right in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_counted_in_bounds_and_who_is_gone_is_forgotten() {
        let (tally, alpha) = (Tally::default(), "alpha".parse().unwrap());
        let answered = Event::new(Kind::HomeAnswered).home(&alpha);
        tally.count(&answered);
        tally.count(&answered.refused("login_required"));
        for number in 0..2 * REASONS {
            tally.count(&Event::new(Kind::LoginRefused).refused(number.to_string()));
        }
        let counts = tally.counts(|_| true);
        assert!(counts.events.len() <= REASONS + Kind::ALL.len());
        assert_eq!(counts.events.values().sum::<u64>(), 2 + 2 * REASONS as u64);
        assert_eq!(counts.answers[&(alpha, Outcome::Refused)], 1);
        assert!(tally.counts(|_| false).answers.is_empty());
    }
}
