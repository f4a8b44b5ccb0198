//! The only writer. It gathers what waits, applies it, makes it durable by one flush and one sync, and answers.
//!
//! **After an error of the disk** sled takes no more writes, and nobody knows what the tree in memory has in common with
//! the file. So the store is opened again, from the disk, until a write of its own works: nothing that was
//! acknowledged is missing then, and what was not may be either way. Until then commits are refused at once. Readers
//! wait while it is opened, and go on reading when only writing fails.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sled::Batch;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::opened::{NoRoom, OpenError, Opened};
use super::{Shared, unavailable, unpack};
use crate::storage::{Commit, Expect, Key, Notice, Revision, StoreError, Version, Versioned, Write};

/// Most commits that share one flush.
const GROUP: usize = 256;

/// Between two tries to get well, and how often commits are refused meanwhile.
const PAUSE: Duration = Duration::from_millis(500);
const STEPS: u32 = 25;

/// A commit, and who waits for it.
pub(super) struct Request {
    pub(super) writes: Vec<Write>,
    pub(super) answer: oneshot::Sender<Result<Revision, StoreError>>,
}

/// Why the disk did not take a group.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Sled(#[from] sled::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("sled panicked")]
    Panicked,
    /// A disk that is not mounted, or one that was put back from a copy.
    #[error(
        "another store is in its place, older than what was acknowledged: mount the right disk, or stop the broker"
    )]
    Older,
}

pub(super) struct Committer {
    folder: PathBuf,
    shared: Arc<Shared>,
    /// Nothing while it cannot be opened again.
    opened: Option<Opened>,
    /// Of the last commit that was tried: none is ever used twice, not by one that failed either.
    revision: u64,
    /// Of the last commit that was made durable: no store without it is this one.
    durable: u64,
    /// What ops were told last.
    told: Option<NoRoom>,
}

impl Committer {
    pub(super) fn new(folder: PathBuf, shared: Arc<Shared>, opened: Opened) -> Self {
        let revision = opened.revision;
        Self { folder, shared, opened: Some(opened), revision, durable: revision, told: None }
    }

    /// Takes what is waiting, makes it durable together, answers; until nobody can ask any more.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            // On a machine that has more to do than it can, others go on first, and their commits join this one: one
            // flush costs the processor more than ten commits. On an idle one it costs nothing.
            std::thread::yield_now();
            if let Err(none) = self.has_room() {
                refuse(first, &none.to_string());
                continue;
            }
            let mut group = Group::default();
            match guarded(|| self.commit(first, &mut requests, &mut group)) {
                Ok(()) => self.tell(group),
                Err(failure) => {
                    group.fail(&failure);
                    self.recover(&failure, &mut requests);
                }
            }
        }
    }

    /// Whether there is room; ops hear of it when that changes.
    fn has_room(&mut self) -> Result<(), NoRoom> {
        let found = self.opened.as_ref().map_or(Ok(()), Opened::has_room);
        if found.err() != self.told {
            self.told = found.err();
            match &found {
                Ok(()) => info!("the store takes commits again"),
                Err(none) => error!(reason = %none, "the store takes no commits: nobody can log in"),
            }
        }
        found
    }

    fn commit(
        &mut self,
        first: Request,
        requests: &mut mpsc::Receiver<Request>,
        group: &mut Group,
    ) -> Result<(), Failure> {
        let mut next = Some(first);
        while let Some(request) = next {
            self.judge(request, group)?;
            next = if group.commits.len() < GROUP { requests.try_recv().ok() } else { None };
        }
        if group.commits.is_empty() {
            return Ok(());
        }
        self.apply(group)?;
        self.opened()?.sync()?;
        self.durable = self.revision;
        self.shared.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Tells watches and callers of commits that are durable.
    fn tell(&self, group: Group) {
        for (commit, answer) in group.commits {
            let revision = commit.revision;
            if self.shared.watched.concerns(&commit) {
                // Fails only when nobody watches any more.
                drop(self.shared.notices.send(Notice::Commit(Arc::new(commit))));
            }
            // A caller who has gone away needs no answer, here and below.
            drop(answer.send(Ok(revision)));
        }
    }

    /// Takes a commit into the group, if what it takes for granted is so behind all that is in the group before it.
    fn judge(&mut self, Request { writes, answer }: Request, group: &mut Group) -> Result<(), Failure> {
        if let Err(error) = self.expected(&writes, group) {
            // Who reads again is to see what he was in conflict with, and may win within this very group.
            let applied = self.apply(group);
            drop(answer.send(Err(error)));
            return applied;
        }
        self.revision += 1;
        let version = self.revision.to_be_bytes();
        let writes: Vec<_> = writes.into_iter().filter(Write::writes).collect();
        for write in &writes {
            let key = write.key.as_str();
            match &write.value {
                Some(value) => group.batch.insert(key, [&version, value.as_slice()].concat()),
                None => group.batch.remove(key),
            }
            let value = write.value.clone();
            let written = value.map(|value| Versioned { value, version: Version(self.revision) });
            group.written.insert(write.key.clone(), written);
        }
        let changes = writes.into_iter().map(|write| (write.key, write.value)).collect();
        group.commits.push((Commit { revision: Revision(self.revision), changes }, answer));
        Ok(())
    }

    fn expected(&self, writes: &[Write], group: &Group) -> Result<(), StoreError> {
        for write in writes {
            let holds = match write.expect {
                Expect::Any => true,
                Expect::Absent => self.version(&write.key, group)?.is_none(),
                Expect::Version(wanted) | Expect::Held(wanted) => self.version(&write.key, group)? == Some(wanted),
            };
            if !holds {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    /// The version of a key's value, if it has one.
    fn version(&self, key: &Key, group: &Group) -> Result<Option<Version>, StoreError> {
        if let Some(written) = group.written.get(key) {
            return Ok(written.as_ref().map(|written| written.version));
        }
        if let Some(recent) = self.shared.recent.get(key) {
            return Ok(Some(recent.version));
        }
        let opened = self.opened.as_ref().ok_or_else(|| unavailable("the store is not open"))?;
        let found = opened.db.get(key.as_str()).map_err(unavailable)?;
        found.map(|found| unpack(&found).map(|found| found.version)).transpose()
    }

    /// Writes what the group has gathered to the tree; what is in the tree is in [`Recent`](super::Recent) too.
    fn apply(&mut self, group: &mut Group) -> Result<(), Failure> {
        if group.written.is_empty() && group.commits.is_empty() {
            return Ok(());
        }
        let (batch, revision) = (std::mem::take(&mut group.batch), self.revision);
        self.opened()?.apply(batch, revision)?;
        for (key, written) in group.written.drain() {
            // Taken out first: the cache may decline what is new, and must not keep what is old.
            self.shared.recent.remove(&key);
            if let Some(written) = written {
                self.shared.recent.insert(key, written);
            }
        }
        Ok(())
    }

    fn opened(&mut self) -> Result<&mut Opened, Failure> {
        self.opened.as_mut().ok_or(Failure::Open(OpenError::Revision))
    }

    /// Opens the store again and again until it takes a write, refusing commits meanwhile; or nobody can ask any more.
    fn recover(&mut self, failure: &Failure, requests: &mut mpsc::Receiver<Request>) {
        error!(reason = %failure, "the store takes no commits: nobody can log in");
        while let Err(reason) = guarded(|| self.reopen()) {
            refuse_for_a_while(requests, &reason);
            if requests.is_closed() && requests.is_empty() {
                return;
            }
        }
        self.told = None;
        info!("the store takes commits again");
        // Whoever follows it has heard nothing of a commit that was done and could not be acknowledged.
        drop(self.shared.notices.send(Notice::Missed));
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        if let Some(opened) = &self.opened {
            opened.has_room()?;
        }
        {
            // Nobody reads meanwhile: a reader would hold what has to be let go of.
            let mut tree = self.shared.tree_mut();
            *tree = None;
            // Nothing in it was taken back when its commit failed.
            self.shared.recent.clear();
            if let Some(opened) = self.opened.take() {
                opened.close();
            }
            let opened = Opened::open(&self.folder)?;
            if opened.revision < self.durable {
                return Err(Failure::Older);
            }
            self.revision = self.revision.max(opened.revision);
            *tree = Some((*opened.db).clone());
            self.opened = Some(opened);
        }
        let revision = self.revision;
        let opened = self.opened()?;
        opened.has_room()?;
        opened.apply(Batch::default(), revision)?;
        Ok(opened.sync()?)
    }
}

/// sled panics where it has no error to give.
fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    // What it leaves half done is thrown away: the store is opened again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Failure::Panicked))
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
fn refuse_for_a_while(requests: &mut mpsc::Receiver<Request>, reason: &Failure) {
    let reason = reason.to_string();
    for _ in 0..STEPS {
        while let Ok(request) = requests.try_recv() {
            refuse(request, &reason);
        }
        std::thread::sleep(PAUSE / STEPS);
    }
}

fn refuse(request: Request, reason: &str) {
    drop(request.answer.send(Err(unavailable(reason))));
}

/// Commits that share one flush, and one batch unless one of them was in conflict.
#[derive(Default)]
struct Group {
    batch: Batch,
    /// What the batch leaves behind, by key.
    written: HashMap<Key, Option<Versioned>>,
    commits: Vec<(Commit, oneshot::Sender<Result<Revision, StoreError>>)>,
}

impl Group {
    /// Tells everybody so far that it is not known whether the commit happened.
    fn fail(&mut self, failure: &Failure) {
        for (_, answer) in self.commits.drain(..) {
            drop(answer.send(Err(unavailable(failure.to_string()))));
        }
    }
}
