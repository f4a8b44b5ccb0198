//! The counts of logins, brought into the store: at most once a minute, only when there is something new, and with what the
//! writer commits anyway if it commits something. So they go on over restarts, and every broker can say them of all.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::chain::ChainId;
use crate::audit::counts::{LoginCounts, StoredCounts};
use crate::audit::event::Event;
use crate::clock::Timestamp;
use crate::storage::table::Table;
use crate::storage::{Expect, StoreError, Write};

/// How often counts are written at the most.
const PAUSE: Duration = Duration::from_secs(60);

/// What one broker counts.
#[derive(Debug)]
pub(super) struct Counting {
    chain: ChainId,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    counts: LoginCounts,
    /// How many were counted since the broker began, and how many of those the store has.
    noted: u64,
    stored: u64,
}

impl Counting {
    /// Goes on from these.
    pub(super) fn new(chain: ChainId, counts: LoginCounts) -> Self {
        Self { chain, counted: Mutex::new(Counted { counts, ..Counted::default() }) }
    }

    /// Goes on from what the store has.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn load(table: &Table<StoredCounts>, chain: ChainId) -> Result<Self, StoreError> {
        let stored = table.get(&chain.to_string()).await?;
        Ok(Self::new(chain, stored.map(|stored| stored.record.counts).unwrap_or_default()))
    }

    /// Counts it, if it counts.
    pub(super) fn note(&self, event: &Event, now: Timestamp) {
        // Most events do not: they wait for nobody.
        if !LoginCounts::concerns(event) {
            return;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.noted += u64::from(counted.counts.note(event, now));
    }

    /// The counts of all brokers: what this one knows, and what the store knows of the others.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn of_all(&self, table: &Table<StoredCounts>, now: Timestamp) -> Result<LoginCounts, StoreError> {
        let own = self.chain.to_string();
        let stored = table.all().await?;
        let mut sum = self.counted.lock().unwrap_or_else(PoisonError::into_inner).counts.clone();
        stored.iter().filter(|(chain, _)| *chain != own).for_each(|(_, stored)| sum.add(&stored.record.counts, now));
        Ok(sum)
    }
}

/// When the store is to hear of them.
#[derive(Debug)]
pub(super) struct Schedule {
    table: Table<StoredCounts>,
    next_at: Instant,
}

/// A write that is on its way.
pub(super) struct Pending {
    pub(super) write: Write,
    /// How many were counted by then.
    pub(super) noted: u64,
}

impl Schedule {
    /// At once, as soon as there is something.
    pub(super) fn new(table: Table<StoredCounts>) -> Self {
        Self { table, next_at: Instant::now() }
    }

    /// What is to be written now; nothing if nothing is new, or it is too soon.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(super) fn due(&self, counting: &Counting, now: Timestamp) -> Result<Option<Pending>, StoreError> {
        let counted = counting.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.noted == counted.stored || Instant::now() < self.next_at {
            return Ok(None);
        }
        let record = StoredCounts::new(counted.counts.clone(), now);
        let write = self.table.put(&counting.chain.to_string(), &record, Expect::Any)?;
        Ok(Some(Pending { write, noted: counted.noted }))
    }

    /// It is written.
    pub(super) fn done(&mut self, counting: &Counting, noted: u64) {
        counting.counted.lock().unwrap_or_else(PoisonError::into_inner).stored = noted;
        self.next_at = Instant::now() + PAUSE;
    }

    /// The broker stops: it is not too soon any more.
    pub(super) fn hurry(&mut self) {
        self.next_at = Instant::now();
    }

    /// When something is to be written, if anything is.
    pub(super) fn next_at(&self, counting: &Counting) -> Option<Instant> {
        let counted = counting.counted.lock().unwrap_or_else(PoisonError::into_inner);
        (counted.noted != counted.stored).then_some(self.next_at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::event::Kind;
    use crate::storage::sled::SledStore;

    #[tokio::test]
    async fn a_minute_lies_between_two_writes_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut schedule = Schedule::new(Table::new(Arc::new(SledStore::open(folder.path()).unwrap())));
        let counting = Counting::new(ChainId::generate(), LoginCounts::default());
        let (now, login) = (Timestamp::from_secs(1_800_000_000), Event::new(Kind::LoginDecided));
        assert!(schedule.due(&counting, now).unwrap().is_none() && schedule.next_at(&counting).is_none());

        counting.note(&login, now);
        let first = schedule.due(&counting, now).unwrap().unwrap();
        // While it is on its way.
        counting.note(&login, now);
        schedule.done(&counting, first.noted);
        assert!(schedule.due(&counting, now).unwrap().is_none());
        let next_at = schedule.next_at(&counting).unwrap();
        assert!(Instant::now() + PAUSE / 2 < next_at && next_at <= Instant::now() + PAUSE);

        schedule.hurry();
        let last = schedule.due(&counting, now).unwrap().unwrap();
        schedule.done(&counting, last.noted);
        assert!(schedule.next_at(&counting).is_none());
        counting.note(&Event::new(Kind::LoginBegun), now);
        assert!(schedule.next_at(&counting).is_none(), "nothing new is written again");
    }
}
