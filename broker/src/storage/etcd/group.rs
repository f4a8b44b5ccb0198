//! What waits for its turn goes together: commits as one transaction of etcd with one of its own for each, reads as one
//! transaction of nothing but reads, which etcd answers without writing anything. Most of what a call costs etcd is the
//! call.
//!
//! etcd judges all comparisons of a transaction before it does anything of it. So commits of different keys do not know
//! of each other, each is done or refused by itself, and those of the same keys never go together. Nobody waits for
//! company: a group is what has gathered while earlier ones were on their way.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, Txn, TxnOp, TxnOpResponse};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::storage::etcd::cluster::Cluster;
use crate::storage::etcd::problem::Problem;

/// Groups on their way at once.
const ON_THE_WAY: usize = 2;

/// Most commits, or reads, of a group.
const PARTS: usize = 32;

/// Most operations of a group, and of one of its commits together with the number of them: etcd's --max-txn-ops.
const OPERATIONS: usize = 128;

/// Most bytes of a group; etcd takes a megabyte and a half.
const BYTES: usize = 512 * 1024;

/// Parts that may wait before callers wait to ask.
const QUEUE: usize = 1024;

/// A commit, or a read, as etcd gets it.
pub(super) struct Part {
    pub(super) compares: Vec<Compare>,
    pub(super) then: Vec<TxnOp>,
    pub(super) otherwise: Vec<TxnOp>,
    /// All that a commit writes.
    pub(super) keys: Vec<Vec<u8>>,
    /// What it rests on and leaves alone: any number of commits may rest on the same.
    pub(super) held: Vec<Vec<u8>>,
    /// How large it is, about.
    pub(super) bytes: usize,
    /// How long it may take.
    pub(super) patience: Duration,
}

impl Part {
    /// One key, as it is once everything is done that anybody was told of.
    pub(super) fn read(key: Vec<u8>, patience: Duration) -> Self {
        let then = vec![TxnOp::get(key, None)];
        Self { compares: vec![], then, otherwise: vec![], keys: vec![], held: vec![], bytes: 0, patience }
    }

    /// What etcd counts: the longest of its lists, and one more for a transaction within.
    fn length(&self) -> usize {
        self.compares.len().max(self.then.len()) + usize::from(self.otherwise.len() > 1)
    }

    /// In a transaction with others. A transaction within one is no read to etcd, whatever is in it.
    fn operation(mut self) -> TxnOp {
        match self.then.pop() {
            Some(read) if self.compares.is_empty() => read,
            last => {
                self.then.extend(last);
                TxnOp::txn(self.transaction())
            }
        }
    }

    fn transaction(self) -> Txn {
        Txn::new().when(self.compares).and_then(self.then).or_else(self.otherwise)
    }
}

/// What etcd said to a part, and in which revision.
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
    parts: Vec<Waiting>,
    keys: HashSet<Vec<u8>>,
    held: HashSet<Vec<u8>>,
    bytes: usize,
    longest: usize,
}

impl Group {
    fn has_room_for(&self, part: &Part) -> bool {
        let count = self.parts.len() + 1;
        count <= PARTS
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
        self.parts.push(waiting);
    }

    async fn go(self, cluster: &Cluster) {
        let patience = self.parts.iter().map(|waiting| waiting.part.patience).max().unwrap_or_default();
        let alone = self.parts.len() == 1;
        let (mut parts, answers): (Vec<_>, Vec<_>) =
            self.parts.into_iter().map(|waiting| (waiting.part, waiting.answer)).unzip();
        let txn = match parts.pop() {
            Some(only) if alone => only.transaction(),
            last => Txn::new().and_then(parts.into_iter().chain(last).map(Part::operation).collect::<Vec<_>>()),
        };
        match cluster.once(patience, |mut member| async move { member.kv.txn(txn).await }).await {
            // Whoever has gone away needs no answer, here and below.
            Err(problem) => answers.into_iter().for_each(|answer| drop(answer.send(Err(problem.clone())))),
            Ok(said) => {
                let revision = said.header().map_or(0, |header| header.revision());
                let each = if alone { vec![TxnOpResponse::Txn(said)] } else { said.op_responses() };
                for (answer, said) in answers.into_iter().zip(each) {
                    drop(answer.send(Ok(Answer::of(said, revision))));
                }
            }
        }
    }
}

impl Answer {
    fn of(said: TxnOpResponse, revision: i64) -> Self {
        match said {
            TxnOpResponse::Txn(said) => Self { succeeded: said.succeeded(), responses: said.op_responses(), revision },
            read => Self { succeeded: true, responses: vec![read], revision },
        }
    }
}
