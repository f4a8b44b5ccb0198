//! Watches: each is a watch of etcd, and goes on behind the last change it has told when that is cut off.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Event, EventType, WatchOptions, WatchStream};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::storage::etcd::Keys;
use crate::storage::etcd::cluster::{Cluster, DEADLINE, Tries};
use crate::storage::etcd::problem::Problem;
use crate::storage::{Commit, Notice, Revision, StoreError, Watch};

/// Commits that a watch may lag behind before it has to reload.
const BACKLOG: usize = 1024;

/// Pause between two tries to go on.
const PAUSE: Duration = Duration::from_millis(100);

/// Begins one: behind everything that was answered by now.
pub(super) async fn begin(
    cluster: Arc<Cluster>,
    keys: Keys,
    prefix: &str,
    closed: CancellationToken,
) -> Result<Watch, StoreError> {
    let (notices, receiver) = broadcast::channel(BACKLOG);
    let next = after(cluster.revision().await?);
    let feed = Feed { range: keys.range(prefix), keys, cluster, notices, next };
    let mut tries = Tries::begin();
    let stream = loop {
        match feed.open(tries.patience).await {
            Ok(stream) => break stream,
            Err(problem) => feed.cluster.bear(&mut tries, problem).await?,
        }
    };
    let ended = async move {
        tokio::select! {
            () = closed.cancelled() => {}
            () = feed.run(stream) => {}
        }
    };
    tokio::spawn(ended);
    Ok(Watch::new(prefix, receiver))
}

fn after(revision: Revision) -> i64 {
    i64::try_from(revision.as_u64()).map_or(i64::MAX, |revision| revision + 1)
}

/// What feeds a watch.
struct Feed {
    keys: Keys,
    range: (Vec<u8>, Vec<u8>),
    cluster: Arc<Cluster>,
    notices: broadcast::Sender<Notice>,
    /// The first revision that it has not told.
    next: i64,
}

impl Feed {
    /// Until nobody listens.
    async fn run(mut self, mut stream: WatchStream) {
        let mut moves = self.cluster.moves();
        let notices = self.notices.clone();
        loop {
            let message = tokio::select! {
                () = notices.closed() => return,
                // Whoever fails to answer calls may not say what happens either.
                _ = moves.changed() => None,
                message = stream.message() => message.ok().flatten(),
            };
            match message {
                Some(message) if !message.canceled() => self.tell(message.events()),
                cut_off => {
                    let forgotten = cut_off.is_some_and(|message| message.compact_revision() > 0);
                    debug!(next = self.next, forgotten, "a watch was cut off");
                    let resumed = tokio::select! {
                        () = notices.closed() => return,
                        resumed = self.resume(forgotten) => resumed,
                    };
                    moves.mark_unchanged();
                    stream = resumed;
                }
            }
        }
    }

    /// Goes on where it was, or from now on if etcd has forgotten what comes next.
    async fn resume(&mut self, mut forgotten: bool) -> WatchStream {
        loop {
            if forgotten && let Ok(now) = self.cluster.revision().await {
                info!(next = self.next, "etcd has forgotten changes that a watch has not seen: reloading");
                self.next = after(now);
                forgotten = false;
                // Fails only when nobody listens any more.
                drop(self.notices.send(Notice::Missed));
            }
            match self.open(DEADLINE).await {
                Ok(stream) if !forgotten => return stream,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// That etcd has forgotten what comes next is said behind this answer.
    async fn open(&self, patience: Duration) -> Result<WatchStream, Problem> {
        let (first, end) = self.range.clone();
        let options = WatchOptions::new().with_range(end).with_start_revision(self.next);
        let begin = |mut member: super::cluster::Connected| async move {
            let mut stream = member.watch.watch(first, Some(options)).await?;
            let answer = stream.message().await?;
            Ok((stream, answer))
        };
        let (stream, answer) = self.cluster.once(patience, begin).await?;
        match answer {
            Some(answer) if answer.created() && !answer.canceled() => Ok(stream),
            Some(answer) => Err(Problem::Other(answer.cancel_reason().to_owned())),
            None => Err(Problem::Unreachable("the member hung up".to_owned())),
        }
    }

    /// Tells what etcd told: whole revisions, in order, of which some may be in one message.
    fn tell(&mut self, events: &[Event]) {
        let revision = |event: &Event| event.kv().map_or(0, |kv| kv.mod_revision());
        for commit in events.chunk_by(|one, other| revision(one) == revision(other)) {
            let at = revision(&commit[0]);
            if at < self.next {
                continue;
            }
            self.next = at + 1;
            let change = |event: &Event| {
                let kv = event.kv()?;
                let key = self.keys.read(kv.key()).inspect_err(|_| error!("a key in etcd cannot be read"));
                Some((key.ok()?, (event.event_type() == EventType::Put).then(|| kv.value().to_vec())))
            };
            let changes = commit.iter().filter_map(change).collect();
            drop(
                self.notices.send(Notice::Commit(Arc::new(Commit { revision: Revision(at.unsigned_abs()), changes }))),
            );
        }
    }
}
