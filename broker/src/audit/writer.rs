//! The one who writes: takes what was noted, has it in the file at once, on the disk a moment later, and then in the store
//! where the chain ends. In this order a power cut never makes the store know more than the disk.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::audit::anchor::{Day, StoredDay, StoredHead};
use crate::audit::counting::Schedule;
use crate::audit::event::{Event, Kind};
use crate::audit::journal::{Journal, Noted};
use crate::audit::origin::Origin;
use crate::audit::retention;
use crate::audit::syslog::Syslog;
use crate::audit::{Shared, Tables};
use crate::storage::{Expect, MAX_WRITES, StoreError, Version};

/// What is noted reaches the disk within this time: one sync for many records.
const SYNC_WITHIN: Duration = Duration::from_millis(250);

/// Pause before something is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the store is asked again for the last time, when the broker stops.
const LAST_TRIES: usize = 3;

/// What /readyz says while the disk fails.
const DISK: &str = "the audit cannot be written";

/// What it says when two have the same files: one of them is a copy.
const TWO: &str = "another broker writes to the audit of this one";

/// A chain of another broker has ended when nothing was written to it for so long, and for as long as days are kept.
const ENDED: Duration = Duration::from_secs(30 * 86_400);

/// A clock that has gone on by more than this since the store last heard of the audit is not believed at once: a machine
/// that boots with a wrong year would delete every day that is kept. Ops have a day to see it.
const LEAP: Duration = Duration::from_secs(30 * 86_400);

/// Records that are taken at once.
const BATCH: usize = 1024;

/// What the writer is sent.
#[derive(Debug)]
pub(super) enum Order {
    /// To be written.
    Note(Box<Noted>),
    /// Answered when everything that was sent before is on the disk, and the store knows it.
    Settle(oneshot::Sender<()>),
    /// The same, and nothing is written after it.
    Close(oneshot::Sender<()>),
}

/// Writes one chain.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) journal: Arc<Mutex<Journal>>,
    pub(super) tables: Tables,
    pub(super) keep_days: Option<u32>,
    pub(super) syslog: Option<Syslog>,
    pub(super) anchored: Anchored,
    pub(super) schedule: Schedule,
}

/// What the store knows, and what it is to hear.
#[derive(Debug)]
pub(super) struct Anchored {
    /// Of the record in the store.
    pub(super) version: Version,
    pub(super) head: StoredHead,
    /// Days that it does not know of.
    pub(super) begun: Vec<(Day, StoredDay)>,
    /// What was written since the store last answered: any one of it may have arrived.
    pub(super) tried: Vec<StoredHead>,
    /// What is kept begins with this day, as far as was looked.
    pub(super) expired_at: Option<Day>,
}

impl Writer {
    /// Writes until it is closed, or nobody can note anything any more.
    pub(super) async fn run(mut self) {
        let mut sync_at: Option<Instant> = None;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = sync_at.unwrap_or_else(|| Instant::now() + PAUSE);
            tokio::select! {
                // First what is due: a queue that is never empty keeps nothing from the disk.
                biased;
                () = tokio::time::sleep_until(due), if sync_at.is_some() => {
                    sync_at = match self.settle().await {
                        true => self.schedule.next_at(&self.shared.counting),
                        false => Some(Instant::now() + PAUSE),
                    };
                }
                taken = self.orders.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return self.last_words().await;
                    }
                    let close = self.obey(&mut batch).await;
                    let soon = Instant::now() + SYNC_WITHIN;
                    sync_at = Some(sync_at.map_or(soon, |at| at.min(soon)));
                    if let Some(closed) = close {
                        self.last_words().await;
                        // Whoever waits may have left.
                        let _ = closed.send(());
                        return;
                    }
                }
            }
        }
    }

    /// Does what was asked for; answers who wants it to be the last.
    async fn obey(&mut self, batch: &mut Vec<Order>) -> Option<oneshot::Sender<()>> {
        let (mut noted, mut settle, mut close) = (VecDeque::with_capacity(batch.len()), Vec::new(), None);
        for order in batch.drain(..) {
            match order {
                Order::Note(note) => noted.push_back(*note),
                Order::Settle(answer) => settle.push(answer),
                Order::Close(answer) => close = Some(answer),
            }
        }
        self.write(noted).await;
        if !settle.is_empty() {
            // Who is not answered hears at once that it is not so; the next sync comes by itself.
            let settled = self.settle().await;
            for answer in settle.into_iter().filter(|_| settled) {
                // Whoever waits may have left.
                let _ = answer.send(());
            }
        }
        close
    }

    /// Has the file take it, however long that takes: nothing else is taken from the queue meanwhile.
    async fn write(&mut self, noted: VecDeque<Noted>) {
        let count = noted.len();
        let sent = self.syslog.is_some().then(|| noted.clone());
        let left = Arc::new(Mutex::new(noted));
        loop {
            let left = left.clone();
            let written =
                self.on_disk(move |journal| journal.take(&mut left.lock().unwrap_or_else(PoisonError::into_inner)));
            if self.judge(&written.await) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.shared.written(count);
        if let (Some(syslog), Some(sent)) = (&self.syslog, sent) {
            let (chain, host) = (self.chain(), self.anchored.head.host.clone());
            sent.iter().for_each(|noted| syslog.send(noted, chain, &host));
        }
    }

    fn chain(&self) -> crate::audit::chain::ChainId {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).chain()
    }

    /// Has everything on the disk, and the store know it. Says whether it is so.
    async fn settle(&mut self) -> bool {
        self.expire().await;
        let synced = self.on_disk(Journal::sync).await;
        if !self.judge(&synced) {
            return false;
        }
        if let Err(error) = self.anchor().await {
            self.complain(&error);
            return false;
        }
        true
    }

    /// The last try: who stops waits for no disk that is full.
    async fn last_words(&mut self) {
        self.schedule.hurry();
        for _ in 0..LAST_TRIES {
            if self.settle().await {
                return;
            }
            tokio::time::sleep(PAUSE / 4).await;
        }
        error!("the end of the audit could not be written: `homeward-broker audit verify` says what is there");
    }

    async fn anchor(&mut self) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        let (head, begun) = self.journal.lock().unwrap_or_else(PoisonError::into_inner).head(now);
        self.anchored.begun.extend(begun);
        let counts = self.schedule.due(&self.shared.counting, now)?;
        if head.link == self.anchored.head.link && self.anchored.begun.is_empty() && counts.is_none() {
            return Ok(());
        }
        let chain = self.chain();
        let begun = self.anchored.begun.len().min(MAX_WRITES - 2);
        let mut writes =
            vec![self.tables.heads.put(&chain.to_string(), &head, Expect::Version(self.anchored.version))?];
        for (day, stored) in &self.anchored.begun[..begun] {
            writes.push(self.tables.days.put(&StoredDay::key(chain, day), stored, Expect::Any)?);
        }
        let counted = counts.map(|counts| {
            writes.push(counts.write);
            counts.noted
        });
        self.anchored.tried.push(head.clone());
        match self.tables.heads.commit(writes).await {
            Ok(revision) => {
                self.shared.tell(TWO, false);
                self.anchored.version = revision.version();
                self.anchored.head = head;
                self.anchored.tried.clear();
                self.anchored.begun.drain(..begun);
                counted.inspect(|noted| self.schedule.done(&self.shared.counting, *noted));
                Ok(())
            }
            Err(StoreError::Conflict) => self.look_again().await,
            Err(error) => Err(error),
        }
    }

    /// Somebody has moved the end of this chain: this broker, whose commit was not answered, or nobody who may.
    async fn look_again(&mut self) -> Result<(), StoreError> {
        let stored = self.tables.heads.get(&self.chain().to_string()).await?;
        if let Some(stored) = stored.filter(|stored| self.anchored.tried.contains(&stored.record)) {
            self.anchored.version = stored.version;
            self.anchored.head = stored.record;
            self.anchored.tried.clear();
            // What was committed with it is written once more.
            return Err(StoreError::Conflict);
        }
        if self.shared.tell(TWO, true) {
            error!("{TWO}: give each its own [audit] dir");
        }
        Err(StoreError::Conflict)
    }

    /// Deletes what has been kept for long enough, once a day.
    async fn expire(&mut self) {
        let today = self.journal.lock().unwrap_or_else(PoisonError::into_inner).day().clone();
        let Some(keep) = self.keep_days else { return };
        if self.anchored.expired_at.replace(today.clone()) == Some(today.clone()) {
            return;
        }
        let (chain, folder) = (self.chain(), self.shared.folder.clone());
        let now = self.shared.clock.now();
        // What the store heard last may be of this broker under the same wrong clock, before it was started anew.
        let days = folder.days(chain).unwrap_or_default();
        let before = days.iter().rfind(|day| **day < today);
        if now > self.anchored.head.at + LEAP || before.is_some_and(|day| *day < Day::of(now - LEAP)) {
            warn!(
                %now,
                last_record_at = %self.anchored.head.at,
                "it is long since the last record of the audit, or the clock is wrong: old days are deleted tomorrow at the earliest"
            );
            return;
        }
        let kept_since = now - Duration::from_secs(u64::from(keep) * 86_400);
        let oldest = Day::of(kept_since);
        let ended_before = Day::of(kept_since - ENDED);
        match retention::expire(&self.tables, &folder, chain, (&oldest, &ended_before)).await {
            Ok(0) => {}
            Ok(days) => {
                info!(days, %oldest, "days of the audit that were kept for long enough are deleted");
                let event = Event::new(Kind::RecordsExpired).detail(format!("{days} days before {oldest}"));
                self.shared.waiting.fetch_add(1, Ordering::Relaxed);
                let noted = Noted { at: self.shared.clock.now(), origin: Origin::Broker, event };
                self.write(VecDeque::from([noted])).await;
            }
            Err(error) => warn!(%error, "old days of the audit cannot be deleted; the next try is tomorrow"),
        }
    }

    async fn on_disk(&self, work: impl FnOnce(&mut Journal) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let journal = self.journal.clone();
        let done =
            tokio::task::spawn_blocking(move || work(&mut journal.lock().unwrap_or_else(PoisonError::into_inner)));
        // It ends early only with the runtime.
        done.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Whether the disk did it. Ops hear of it once, and /readyz says it for as long as it lasts.
    fn judge(&self, done: &io::Result<()>) -> bool {
        let news = self.shared.tell(DISK, done.is_err());
        if let (true, Err(error)) = (news, done) {
            let folder = self.shared.folder.path().display();
            error!(
                %error,
                "the audit cannot be written to {folder}: make room there, or mend the disk. Nothing is lost, and callers wait"
            );
        }
        done.is_ok()
    }

    fn complain(&self, error: &StoreError) {
        if !matches!(error, StoreError::Conflict) {
            warn!(%error, "the store does not hear where the audit ends; trying again");
        }
    }
}
