//! Commits: one transaction of etcd each, sent as often as it takes, and done once.
//!
//! When a member dies with a commit in its hands, nobody knows whether it happened. It must not be sent again as it was:
//! it could happen twice, and what was thought lost could still happen later, over what others have written since. So
//! each commit goes by a **lane**, a key of its own that it takes for unchanged and changes:
//!
//! * it cannot happen twice, because the second time the lane has changed;
//! * who is refused reads in the lane whether it was himself who changed it: then the commit has happened;
//! * who is refused at a later try, by a lane that has not changed, changes it by that: whatever is still on its way
//!   comes too late.
//!
//! A lane carries one commit at a time; a process has as many as it ever had commits at once. It is not known how others
//! end, so what they leave behind is deleted by whoever comes later, once it is old: a commit is given up long before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use crate::storage::etcd::Keys;
use crate::storage::etcd::cluster::{Cluster, Tries};
use crate::storage::etcd::group::{Answer, Groups, Part};
use crate::storage::etcd::problem::Problem;
use crate::storage::{Expect, Revision, StoreError, Write};

/// Lanes that have not changed for so long carry nothing any more.
const LANE_AGE: Duration = Duration::from_secs(600);

/// What is written into a lane to stop what may still come by it.
const STOPPED: &[u8] = b"";

/// The way of commits to a cluster.
pub(super) struct Commits {
    keys: Keys,
    cluster: Arc<Cluster>,
    groups: Groups,
    lanes: Lanes,
}

impl Commits {
    pub(super) fn new(keys: Keys, cluster: Arc<Cluster>, closed: &CancellationToken) -> Self {
        let folder = format!("{}.lane/", keys.prefix);
        tokio::spawn(closed.clone().run_until_cancelled_owned(sweep(cluster.clone(), folder.clone())));
        let groups = Groups::new(cluster.clone(), closed.clone());
        Self { keys, cluster, groups, lanes: Lanes::new(&folder) }
    }

    /// Commits, unless an expectation does not hold.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it did not happen and will not; [`StoreError::Unavailable`] when nobody knows.
    pub(super) async fn commit(&self, writes: &[Write]) -> Result<Revision, StoreError> {
        let mut lane = self.lanes.take();
        let tag = self.lanes.tag();
        let mut tries = Tries::begin();
        // Whether an earlier try may have happened, or may still.
        let mut unsure = false;
        loop {
            let part = self.part(writes, &lane, &tag, unsure);
            let sent = self.groups.send(Part { patience: tries.patience, ..part });
            // It may have to wait for others first.
            let outcome = match tokio::time::timeout(tries.left(), sent).await.unwrap_or(Err(Problem::Silent)) {
                Ok(answer) => Outcome::of(answer),
                Err(problem) => {
                    unsure |= problem.may_pass();
                    self.cluster.bear(&mut tries, problem).await?;
                    continue;
                }
            };
            let found = match outcome {
                Outcome::Done(revision) => {
                    lane.revision = revision;
                    return Ok(Revision(revision.unsigned_abs()));
                }
                Outcome::Refused(found) => found,
            };
            let held = found.lane == lane.revision;
            lane.revision = if held && unsure { found.now } else { found.lane };
            if held {
                return Err(StoreError::Conflict);
            }
            match found.lane {
                at if unsure && found.tag == tag => return Ok(Revision(at.unsigned_abs())),
                // Swept: this process was stopped for long, and nobody knows any more.
                0 if unsure => return Err(Problem::Silent.into()),
                // Another commit by this lane, which was given up, has happened after all.
                _ => unsure = false,
            }
        }
    }

    fn part(&self, writes: &[Write], lane: &Lane, tag: &[u8], unsure: bool) -> Part {
        let mut compares = vec![Compare::mod_revision(lane.key.clone(), CompareOp::Equal, lane.revision)];
        compares.extend(writes.iter().filter_map(|write| match write.expect {
            Expect::Any => None,
            Expect::Absent => Some(Compare::version(self.keys.of(&write.key), CompareOp::Equal, 0)),
            Expect::Version(version) | Expect::Held(version) => {
                // What is no revision of etcd's is no version of any key.
                let wanted = i64::try_from(version.0).unwrap_or(i64::MAX);
                Some(Compare::mod_revision(self.keys.of(&write.key), CompareOp::Equal, wanted))
            }
        }));
        let mut then: Vec<_> =
            writes.iter().filter(|write| write.writes()).map(|write| self.operation(write)).collect();
        then.push(TxnOp::put(lane.key.clone(), tag, None));
        let mut otherwise = vec![TxnOp::get(lane.key.clone(), None)];
        if unsure {
            // Only there: what is on its way of a commit long done must not touch the lane of the next one.
            let unchanged = compares[0].clone();
            let stop = TxnOp::put(lane.key.clone(), STOPPED, None);
            otherwise.push(TxnOp::txn(Txn::new().when([unchanged]).and_then([stop])));
        }
        let (written, held): (Vec<_>, Vec<_>) = writes.iter().partition(|write| write.writes());
        let [mut keys, held] =
            [written, held].map(|writes| writes.into_iter().map(|write| self.keys.of(&write.key)).collect::<Vec<_>>());
        let bytes = writes.iter().map(|write| write.value.as_ref().map_or(0, Vec::len)).sum::<usize>()
            + keys.iter().chain(&held).map(|key| 2 * key.len()).sum::<usize>();
        keys.push(lane.key.clone().into_bytes());
        Part { compares, then, otherwise, keys, held, bytes, patience: Duration::ZERO }
    }

    fn operation(&self, write: &Write) -> TxnOp {
        match &write.value {
            Some(value) => TxnOp::put(self.keys.of(&write.key), value.clone(), None),
            None => TxnOp::delete(self.keys.of(&write.key), None),
        }
    }
}

/// What etcd said to it.
enum Outcome {
    /// It happened in this revision.
    Done(i64),
    /// It did not.
    Refused(Found),
}

/// What was in the lane of a commit that was refused.
struct Found {
    tag: Vec<u8>,
    /// The lane's revision; zero if there is none.
    lane: i64,
    /// The revision of the answer.
    now: i64,
}

impl Outcome {
    fn of(answer: Answer) -> Self {
        let now = answer.revision;
        if answer.succeeded {
            return Self::Done(now);
        }
        let lane = answer.responses.into_iter().find_map(|response| match response {
            TxnOpResponse::Get(mut got) => got.take_kvs().pop(),
            _ => None,
        });
        Self::Refused(match lane {
            Some(lane) => {
                let revision = lane.mod_revision();
                Found { tag: lane.into_key_value().1, lane: revision, now }
            }
            None => Found { tag: Vec::new(), lane: 0, now },
        })
    }
}

/// The lanes of this process.
struct Lanes {
    /// `<prefix>/.lane/<process>.`
    own: String,
    /// Counts commits and lanes.
    count: AtomicU64,
    idle: Mutex<Vec<Idle>>,
}

/// A lane that carries nothing.
struct Idle {
    key: String,
    revision: i64,
}

/// A lane that carries a commit; idle again when this is dropped, however that ended.
struct Lane<'a> {
    lanes: &'a Lanes,
    key: String,
    /// The last one in which it changed, as far as is known; zero before the first.
    revision: i64,
}

impl Lanes {
    fn new(folder: &str) -> Self {
        let own = format!("{folder}{}.", Uuid::new_v4().simple());
        Self { own, count: AtomicU64::new(0), idle: Mutex::default() }
    }

    /// The one that was used last, so that few are enough.
    fn take(&self) -> Lane<'_> {
        let idle = self.idle().pop();
        let Idle { key, revision } =
            idle.unwrap_or_else(|| Idle { key: format!("{}{}", self.own, self.next()), revision: 0 });
        Lane { lanes: self, key, revision }
    }

    /// What no other commit by a lane of this process writes into it.
    fn tag(&self) -> Vec<u8> {
        self.next().to_be_bytes().to_vec()
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Nothing panics while it is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.lanes.idle().push(Idle { key: std::mem::take(&mut self.key), revision: self.revision });
    }
}

/// Deletes the lanes that stand still. One that is only idle is made again by its next commit.
async fn sweep(cluster: Arc<Cluster>, folder: String) {
    let Ok(before) = cluster.revision().await else { return };
    tokio::time::sleep(LANE_AGE).await;
    let before = i64::try_from(before.as_u64()).unwrap_or(i64::MAX);
    let all = GetOptions::new().with_prefix().with_keys_only().with_max_mod_revision(before);
    // If etcd is away by then, the next broker that starts does it.
    let Ok(mut found) = cluster.read(folder.as_bytes(), &all).await else { return };
    let still: Vec<_> = found.take_kvs().into_iter().map(|lane| (lane.key().to_vec(), lane.mod_revision())).collect();
    debug!(lanes = still.len(), "lanes that nobody has used for long are deleted");
    for (key, revision) in still {
        let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, revision);
        let txn = Txn::new().when([unchanged]).and_then([TxnOp::delete(key, None)]);
        let once = |mut member: super::cluster::Connected| async move { member.kv.txn(txn).await };
        drop(cluster.once(LANE_AGE, once).await);
    }
}
