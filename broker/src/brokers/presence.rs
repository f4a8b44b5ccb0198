//! Which other brokers live: counted in heartbeats of the one who judges.

use std::collections::BTreeMap;

use crate::brokers::record::{BrokerId, StoredBroker};

/// The other brokers.
#[derive(Debug, Default)]
pub(super) struct Presence(BTreeMap<BrokerId, Other>);

#[derive(Debug)]
struct Other {
    record: StoredBroker,
    /// Own heartbeats since its last one.
    silent: u32,
    gone: bool,
}

/// Whether anything is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The same.
    Nothing,
    /// Somebody came or went, or says something else of itself.
    Somebody,
}

impl Presence {
    /// Another broker gave a sign of life.
    pub(super) fn heard(&mut self, id: BrokerId, record: StoredBroker) -> Change {
        let same = self.0.get(&id).is_some_and(|known| !known.gone && known.record.says_as(&record));
        self.0.insert(id, Other { record, silent: 0, gone: false });
        if same { Change::Nothing } else { Change::Somebody }
    }

    /// Another broker said that it is gone, or somebody said it for it.
    pub(super) fn left(&mut self, id: BrokerId) -> Change {
        match self.0.remove(&id) {
            Some(known) if !known.gone => Change::Somebody,
            _ => Change::Nothing,
        }
    }

    /// Signs of life may have been missed: this is what there is. A record that is the same as before is none.
    pub(super) fn are(&mut self, there: BTreeMap<BrokerId, StoredBroker>) -> Change {
        let before = self.0.len();
        self.0.retain(|id, _| there.contains_key(id));
        let mut change = if self.0.len() == before { Change::Nothing } else { Change::Somebody };
        for (id, record) in there {
            let same = self.0.get(&id).is_some_and(|known| known.record == record);
            if !same && self.heard(id, record) == Change::Somebody {
                change = Change::Somebody;
            }
        }
        change
    }

    /// This broker's heart has beaten: who has missed more of its beats than this is gone.
    pub(super) fn age(&mut self, missed: u32) -> Change {
        let mut change = Change::Nothing;
        for other in self.0.values_mut() {
            other.silent = other.silent.saturating_add(1);
            if other.silent > missed && !std::mem::replace(&mut other.gone, true) {
                change = Change::Somebody;
            }
        }
        change
    }

    pub(super) fn living(&self) -> BTreeMap<BrokerId, StoredBroker> {
        let living = self.0.iter().filter(|(_, other)| !other.gone);
        living.map(|(id, other)| (*id, other.record.clone())).collect()
    }

    /// Whether it is gone without a word.
    pub(super) fn vanished(&self, id: BrokerId) -> bool {
        self.0.get(&id).is_some_and(|other| other.gone)
    }

    /// Who is gone without a word, with its last heartbeat.
    pub(super) fn gone(&self) -> Vec<(BrokerId, u64)> {
        self.0.iter().filter(|(_, other)| other.gone).map(|(id, other)| (*id, other.record.beat)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn a_broker_is_gone_when_it_misses_more_heartbeats_than_it_may() {
        let (mut others, id) = (Presence::default(), BrokerId::generate());
        let beat = |beat| StoredBroker { beat, ..StoredBroker::new("two", Timestamp::from_secs(0)) };
        assert_eq!(others.heard(id, beat(1)), Change::Somebody);
        for _ in 0..3 {
            assert_eq!(others.age(3), Change::Nothing);
        }
        assert_eq!(others.heard(id, beat(2)), Change::Nothing);
        for _ in 0..3 {
            assert_eq!(others.age(3), Change::Nothing);
        }
        // Read anew: the same record is no sign of life.
        assert_eq!(others.are([(id, beat(2))].into()), Change::Nothing);
        assert_eq!(others.age(3), Change::Somebody);
        assert!(others.living().is_empty() && others.vanished(id));
        assert_eq!((others.gone(), others.age(3)), (vec![(id, 2)], Change::Nothing));
        // It was only held up.
        assert_eq!(others.heard(id, beat(3)), Change::Somebody);
        assert!(others.living().contains_key(&id) && others.gone().is_empty());
        assert_eq!(others.left(id), Change::Somebody);
        assert!(!others.vanished(id), "it said so");
        let remark = StoredBroker { remark: Some("restart it".to_owned()), ..beat(4) };
        assert_eq!((others.heard(id, beat(4)), others.heard(id, remark)), (Change::Somebody, Change::Somebody));
        assert_eq!(others.left(id), Change::Somebody);
        assert_eq!(others.are([(id, beat(4))].into()), Change::Somebody);
        assert_eq!(others.are(BTreeMap::new()), Change::Somebody);
    }
}
