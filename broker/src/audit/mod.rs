//! The audit: every decision and change as one record, written once and never changed.
//!
//! A flow that has decided says so with [`Audit::note`]: one line, which waits for nothing. Who made it happen comes from
//! the surface where the request came in ([`Origin`]). One task, the `writer`, makes a line of JSON of each and writes it to
//! the file of its day, in this broker's `folder`.
//!
//! * **Append-only, and chained**: each record has the hash of the one before it (`chain`).
//! * **Anchored**: the store knows where the chain ends, and where each day begins (`anchor`). It never knows more than is
//!   on the disk, so that a power cut raises no false alarm, and it hears of the end within a second. Nothing else of the
//!   audit is in the store: a million logins make it no larger.
//! * **Nothing waits for the disk, and nothing is lost**: while it fails, records are kept in memory, [`Audit::problem`]
//!   says so, and after some thousands of them whoever begins something new waits at the door ([`Audit::admit`]), before
//!   anything is decided.
//! * **Verified** by reading all of it again ([`verify`](Audit::verify)): edits, removals, other orders and files that were cut or
//!   replaced are found, also when old days were deleted (`retention`).
//! * **No secrets, and few personal data**: an [`Event`] has fields for names and ids of our own making only.
//!
//! * **Counted**: how many logins came to their end and how many did not is known for two days ([`LoginCounts`]), of all
//!   brokers on the store.
//!
//! A record is written when what it tells of has happened. Who kills the broker between the two, within milliseconds, loses
//! the record; what ops order is answered when its record is on the disk ([`Audit::settled`]).

mod anchor;
mod chain;
mod counting;
mod counts;
mod event;
mod folder;
mod journal;
mod keeper;
mod origin;
mod reading;
mod retention;
mod search;
mod strangers;
mod syslog;
mod tally;
mod verify;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::AuditSettings;
use crate::storage::table::{Stored, Table};
use crate::storage::{Expect, Store, StoreError};

use anchor::{Day, StoredDay, StoredHead};
use chain::{ChainId, Link};
use counting::{Counting, Schedule};
pub use counts::{LoginCount, LoginCounts, StoredCounts};
pub use event::{Event, Kind, Outcome};
pub use folder::Folder;
use journal::{Journal, Noted};
pub use keeper::{Keeper, Verdict};
pub use origin::Origin;
pub use reading::{Filter, MOST_NEWEST, read};
pub use search::{Effort, Found, Position, PositionError, search};
use strangers::Strangers;
use syslog::Syslog;
pub use tally::{Counts, Tally};
pub use verify::{Finding, Report};
use writer::{Anchored, Order, Writer};

/// Records that may wait for the disk before who begins something has to wait, too.
const WAITING: usize = 8192;

/// How long ops wait for the disk, when it does not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where decisions and changes are noted.
#[derive(Clone)]
pub struct Audit(Arc<Shared>);

/// What all who note have in common.
struct Shared {
    clock: Clock,
    folder: Folder,
    queue: mpsc::UnboundedSender<Order>,
    counting: Counting,
    waiting: AtomicUsize,
    room: Notify,
    problem: watch::Sender<Option<&'static str>>,
    strangers: Strangers,
    tally: Tally,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Audit({})", self.0.folder.path().display())
    }
}

/// Tables of the store.
#[derive(Clone, Debug)]
struct Tables {
    heads: Table<StoredHead>,
    days: Table<StoredDay>,
    counts: Table<StoredCounts>,
}

impl Tables {
    fn of(store: &Arc<dyn Store>) -> Self {
        Self { heads: Table::new(store.clone()), days: Table::new(store.clone()), counts: Table::new(store.clone()) }
    }
}

impl Audit {
    /// Goes on with the chain of this folder, or begins one, and writes until [closed](Audit::close).
    ///
    /// # Errors
    /// When the folder cannot be used, another broker uses it, or the store does not answer.
    pub async fn open(
        store: &Arc<dyn Store>,
        settings: &AuditSettings,
        host: &str,
        clock: Clock,
    ) -> Result<Self, AuditError> {
        let folder = Folder::new(&settings.dir);
        let lock = folder.lock()?;
        let tables = Tables::of(store);
        let (chain, stored) = begin(&tables, &folder, host, &clock).await?;
        let failed = |error| AuditError::Folder(settings.dir.clone(), error);
        let head = StoredHead { host: host.to_owned(), ..stored.record.clone() };
        let (journal, found) = Journal::open(&folder, chain, &head).map_err(failed)?;
        let (queue, orders) = mpsc::unbounded_channel();
        let counting = Counting::load(&tables.counts, chain).await?;
        let (audit, syslog) = (Self::with(clock, folder, queue, counting), settings.syslog.clone().map(Syslog::new));
        let syslog = syslog.map(|(syslog, deliver)| {
            tokio::spawn(deliver);
            syslog
        });
        let anchored = Anchored {
            version: stored.version,
            head: stored.record,
            begun: Vec::new(),
            tried: Vec::new(),
            expired_at: None,
        };
        let journal = Arc::new(Mutex::new(journal));
        let (shared, keep_days) = (audit.0.clone(), settings.keep_days);
        let schedule = Schedule::new(tables.counts.clone());
        let writer = Writer { shared, orders, journal, tables, keep_days, syslog, anchored, schedule };
        tokio::spawn(async move {
            writer.run().await;
            // Another broker may have the folder from here on.
            drop(lock);
        });
        audit.resumed(chain, &found);
        Ok(audit)
    }

    fn with(clock: Clock, folder: Folder, queue: mpsc::UnboundedSender<Order>, counting: Counting) -> Self {
        Self(Arc::new(Shared {
            clock,
            folder,
            queue,
            counting,
            waiting: AtomicUsize::new(0),
            room: Notify::new(),
            problem: watch::Sender::new(None),
            strangers: Strangers::new(),
            tally: Tally::default(),
        }))
    }

    #[cfg(test)]
    /// Whose records nobody writes.
    pub(crate) fn unheard() -> Self {
        Self::heard().0
    }

    #[cfg(test)]
    /// Whose records a test reads.
    pub(crate) fn heard() -> (Self, tests::Heard) {
        let (queue, orders) = mpsc::unbounded_channel();
        let counting = Counting::new(ChainId::generate(), LoginCounts::default());
        let folder = Folder::new(std::path::Path::new("/nowhere"));
        (Self::with(Clock::system(), folder, queue, counting), tests::Heard(orders))
    }

    fn resumed(&self, chain: ChainId, found: &journal::Found) {
        let event = Event::new(Kind::RecordsMissing);
        if found.gap {
            error!(
                %chain,
                "SECURITY: the audit does not end with the record that the store knows: records were removed or edited, or \
                 the folder was put back from a copy. `homeward-broker audit verify` says which"
            );
            self.note(event.detail("the record that the store knows is not where it was"));
        } else if let Some(aside) = &found.put_aside {
            error!(
                %chain,
                bytes = found.torn,
                "SECURITY: the end of the audit does not follow from what is before it: somebody edited it while the broker \
                 did not run. It is kept in {}",
                aside.display()
            );
            self.note(
                event.detail(format!("{} bytes at the end do not follow, and are kept beside the file", found.torn)),
            );
        } else if found.torn > 0 {
            warn!(%chain, bytes = found.torn, "the end of the audit's last record is cut off: it was being written");
            self.note(event.detail(format!("what was being written when the broker ended: {} bytes", found.torn)));
        } else {
            info!(%chain, folder = %self.0.folder.path().display(), "the audit goes on");
        }
    }

    /// Notes a decision or change. Waits for nothing.
    pub fn note(&self, event: Event) {
        self.0.note(event);
    }

    /// Waits while more is noted than the disk takes: for whoever is about to begin something. Nothing is decided meanwhile
    /// that could not be written down.
    pub async fn admit(&self) {
        loop {
            let room = self.0.room.notified();
            if self.0.waiting.load(Ordering::Relaxed) < WAITING {
                return;
            }
            room.await;
        }
    }

    /// Waits until everything that was noted before is on the disk, and the store knows it; for some seconds if that
    /// cannot be now. Says whether it is so.
    pub async fn settled(&self) -> bool {
        self.order(Order::Settle).await
    }

    /// Ends the writing: what was noted is on the disk then.
    pub async fn close(&self) {
        self.0.tell_left_out(None);
        self.order(Order::Close).await;
    }

    async fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) -> bool {
        let (answer, answered) = oneshot::channel();
        // Fails only when nobody writes any more; then nobody answers.
        let _ = self.0.queue.send(order(answer));
        matches!(tokio::time::timeout(PATIENCE, answered).await, Ok(Ok(())))
    }

    /// Why the audit cannot be written at the moment, if it cannot.
    pub fn problem(&self) -> Option<&'static str> {
        let full =
            || (self.0.waiting.load(Ordering::Relaxed) >= WAITING).then_some("more is noted than the disk takes");
        self.0.problem.borrow().or_else(full)
    }

    /// How many logins came to their end, and how many did not, at all brokers on this store: of this one as it knows them
    /// now, and of the others as of a minute ago at the most.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn login_counts(&self, store: &Arc<dyn Store>, now: Timestamp) -> Result<LoginCounts, StoreError> {
        self.0.counting.of_all(&Tables::of(store).counts, now).await
    }

    /// How many records wait for the disk.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// How many records of what strangers do were too many, and are left out.
    pub fn left_out(&self) -> u64 {
        self.0.strangers.ever()
    }

    /// How often what was noted.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Where the files are.
    pub fn folder(&self) -> &Folder {
        &self.0.folder
    }
}

impl Shared {
    fn note(&self, event: Event) {
        // What is left out below is counted all the same.
        self.counting.note(&event, self.clock.now());
        self.tally.count(&event);
        let origin = Origin::current();
        if self.strangers.admit(event.kind, origin.source()) {
            self.tell_left_out(Some(event.kind));
            self.send(Noted { at: self.clock.now(), origin, event });
        }
    }

    fn tell_left_out(&self, before: Option<Kind>) {
        let at = self.clock.now();
        if let Some(event) = self.strangers.to_tell(before, at) {
            self.send(Noted { at, origin: Origin::Broker, event });
        }
    }

    fn send(&self, noted: Noted) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Fails only when nobody writes any more, because the broker stops.
        if self.queue.send(Order::Note(Box::new(noted))).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// So many are in the file.
    fn written(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.room.notify_waiters();
    }

    /// Says that this is wrong, or is not any more. Answers whether that is news.
    fn tell(&self, problem: &'static str, lasts: bool) -> bool {
        self.problem.send_if_modified(|known| match (*known == Some(problem), lasts) {
            (true, false) => known.take().is_some(),
            (false, true) => known.replace(problem).is_none_or(|other| other != problem),
            (true, true) | (false, false) => false,
        })
    }
}

/// The chain of this folder that the store knows, the newest if there are several; or a new one.
async fn begin(
    tables: &Tables,
    folder: &Folder,
    host: &str,
    clock: &Clock,
) -> Result<(ChainId, Stored<StoredHead>), AuditError> {
    let mut newest = None;
    let chains = folder.chains().map_err(|error| AuditError::Folder(folder.path().to_owned(), error))?;
    for chain in chains {
        if let Some(stored) = tables.heads.get(&chain.to_string()).await?
            && newest.as_ref().is_none_or(|(_, known): &(_, Stored<StoredHead>)| known.record.at <= stored.record.at)
        {
            newest = Some((chain, stored));
        }
    }
    if let Some(newest) = newest {
        return Ok(newest);
    }
    let (chain, at) = (ChainId::generate(), clock.now());
    let record = StoredHead { host: host.to_owned(), link: Link::FIRST, day: Day::of(at), length: 0, at };
    let revision = tables.heads.commit(vec![tables.heads.put(&chain.to_string(), &record, Expect::Absent)?]).await?;
    Ok((chain, Stored { record, version: revision.version() }))
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The folder.
    #[error("the audit's folder {folder} cannot be used ({1}): make it writable for the broker, or name another as [audit] dir", folder = .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// Two would write one chain.
    #[error("another broker writes its audit to {folder}: give each its own [audit] dir", folder = .0.display())]
    InUse(PathBuf),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
