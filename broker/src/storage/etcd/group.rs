//! Commits that wait for their turn go together: one transaction of etcd with one of its own for each.
//!
//! etcd judges all comparisons of a transaction before it does anything of it. So commits of different keys do not know
//! of each other, each is done or refused by itself, and those of the same keys never go together. Nobody waits for
//! company: a group is what has gathered while earlier ones were on their way.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, Txn, TxnOp, TxnOpResponse, TxnResponse};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::storage::etcd::cluster::Cluster;
use crate::storage::etcd::problem::Problem;

/// Groups on their way at once.
const ON_THE_WAY: usize = 4;

/// Most commits of a group.
const COMMITS: usize = 32;

/// Most operations of a group, and of one of its commits together with the number of them: etcd's --max-txn-ops.
const OPERATIONS: usize = 128;

/// Most bytes of a group; etcd takes a megabyte and a half.
const BYTES: usize = 512 * 1024;

/// Commits that may wait before callers wait to ask.
const QUEUE: usize = 1024;

/// A commit as etcd gets it.
pub(super) struct Part {
    pub(super) compares: Vec<Compare>,
    pub(super) then: Vec<TxnOp>,
    pub(super) otherwise: Vec<TxnOp>,
    /// All that it writes.
    pub(super) keys: Vec<Vec<u8>>,
    /// What it rests on and leaves alone: any number of commits may rest on the same.
    pub(super) held: Vec<Vec<u8>>,
    /// How large it is, about.
    pub(super) bytes: usize,
    /// How long it may take.
    pub(super) patience: Duration,
}

impl Part {
    /// What etcd counts: the longest of its lists.
    fn length(&self) -> usize {
        self.compares.len().max(self.then.len())
    }
}

/// What etcd said to a commit, and in which revision.
pub(super) struct Answer {
    pub(super) succeeded: bool,
    pub(super) responses: Vec<TxnOpResponse>,
    pub(super) revision: i64,
}

struct Waiting {
    part: Part,
    answer: oneshot::Sender<Result<Answer, Problem>>,
}

/// Where commits wait.
pub(super) struct Groups(mpsc::Sender<Waiting>);

impl Groups {
    /// Until the store is closed.
    pub(super) fn new(cluster: Arc<Cluster>, closed: CancellationToken) -> Self {
        let (sender, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(closed.run_until_cancelled_owned(gather(cluster, waiting)));
        Self(sender)
    }

    /// One try.
    pub(super) async fn send(&self, part: Part) -> Result<Answer, Problem> {
        let closed = || Problem::Other("the store is closed".to_owned());
        let (answer, answered) = oneshot::channel();
        self.0.send(Waiting { part, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn gather(cluster: Arc<Cluster>, mut waiting: mpsc::Receiver<Waiting>) {
    let ways = Arc::new(Semaphore::new(ON_THE_WAY));
    let mut left_over = None;
    loop {
        let Some(first) = (match left_over.take() {
            Some(first) => Some(first),
            None => waiting.recv().await,
        }) else {
            return;
        };
        // Never closed.
        let Ok(way) = ways.clone().acquire_owned().await else { return };
        let mut group = Group::default();
        group.push(first);
        while let Ok(next) = waiting.try_recv() {
            if next.answer.is_closed() {
                continue;
            }
            if !group.has_room_for(&next.part) {
                left_over = Some(next);
                break;
            }
            group.push(next);
        }
        let cluster = cluster.clone();
        tokio::spawn(async move {
            group.go(&cluster).await;
            drop(way);
        });
    }
}

#[derive(Default)]
struct Group {
    commits: Vec<Waiting>,
    keys: HashSet<Vec<u8>>,
    held: HashSet<Vec<u8>>,
    bytes: usize,
    longest: usize,
}

impl Group {
    fn has_room_for(&self, part: &Part) -> bool {
        let count = self.commits.len() + 1;
        count <= COMMITS
            && self.longest.max(part.length()) + count <= OPERATIONS
            && self.bytes + part.bytes <= BYTES
            && !part.keys.iter().any(|key| self.keys.contains(key) || self.held.contains(key))
            && !part.held.iter().any(|key| self.keys.contains(key))
    }

    fn push(&mut self, mut waiting: Waiting) {
        self.keys.extend(std::mem::take(&mut waiting.part.keys));
        self.held.extend(std::mem::take(&mut waiting.part.held));
        self.bytes += waiting.part.bytes;
        self.longest = self.longest.max(waiting.part.length());
        self.commits.push(waiting);
    }

    async fn go(self, cluster: &Cluster) {
        let patience = self.commits.iter().map(|waiting| waiting.part.patience).max().unwrap_or_default();
        let alone = self.commits.len() == 1;
        let (mut txns, mut answers) = (Vec::new(), Vec::new());
        for Waiting { part, answer } in self.commits {
            txns.push(Txn::new().when(part.compares).and_then(part.then).or_else(part.otherwise));
            answers.push(answer);
        }
        let txn = match txns.pop() {
            Some(only) if alone => only,
            last => Txn::new().and_then(txns.into_iter().chain(last).map(TxnOp::txn).collect::<Vec<_>>()),
        };
        match cluster.once(patience, |mut member| async move { member.kv.txn(txn).await }).await {
            // Whoever has gone away needs no answer, here and below.
            Err(problem) => answers.into_iter().for_each(|answer| drop(answer.send(Err(problem.clone())))),
            Ok(said) => {
                let revision = said.header().map_or(0, |header| header.revision());
                let each = if alone { vec![Some(said)] } else { said.op_responses().into_iter().map(nested).collect() };
                for (answer, said) in answers.into_iter().zip(each) {
                    drop(answer.send(Answer::of(said, revision)));
                }
            }
        }
    }
}

fn nested(response: TxnOpResponse) -> Option<TxnResponse> {
    if let TxnOpResponse::Txn(said) = response { Some(said) } else { None }
}

impl Answer {
    fn of(said: Option<TxnResponse>, revision: i64) -> Result<Self, Problem> {
        let said = said.ok_or_else(|| Problem::Other("an answer to another question".to_owned()))?;
        Ok(Self { succeeded: said.succeeded(), responses: said.op_responses(), revision })
    }
}
