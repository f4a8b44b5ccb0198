//! The members of a cluster: one is asked until it fails to answer, then the next.
//!
//! A member that is paused or cut off answers nothing and refuses nothing, and the keep-alive of HTTP/2 may not be
//! quicker than etcd allows. So every try has a time of its own, after which the next member is asked, and watches leave
//! that member with it.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, GetOptions, GetResponse, KvClient, WatchClient};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use url::Url;

use crate::storage::etcd::access::{Access, Credentials};
use crate::storage::etcd::problem::Problem;
use crate::storage::{Revision, StoreError};

/// No call takes longer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// How long the first try may take, and twice as long each that follows one without answer. An answer takes some
/// milliseconds, on a slow disk a hundred; what a dead leader was handed is lost, and a vote takes one to two seconds.
const FIRST_TRY: Duration = Duration::from_millis(700);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection on which something is waited for is asked whether it lives. etcd hangs up on who asks more often than
/// every five seconds.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));

/// The largest answer that is taken, in bytes: a thousand entries, or all changes since a watch was cut off.
const ANSWER: usize = 256 * 1024 * 1024;

/// The members.
pub(super) struct Cluster {
    prefix: String,
    credentials: Credentials,
    members: Vec<Member>,
    /// Which one is asked.
    asked: watch::Sender<usize>,
    /// Whether ops were told that it is away.
    away: AtomicBool,
}

struct Member {
    url: String,
    connected: Mutex<Option<Connected>>,
}

/// A way to one member.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) kv: KvClient,
    pub(super) watch: WatchClient,
}

impl Cluster {
    /// Connects to nobody yet.
    pub(super) fn new(endpoints: &[Url], prefix: &str, credentials: Credentials) -> Self {
        let member = |url: &Url| Member { url: url.origin().ascii_serialization(), connected: Mutex::default() };
        let members = endpoints.iter().map(member).collect();
        Self {
            prefix: prefix.to_owned(),
            credentials,
            members,
            asked: watch::Sender::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// Wakes when another member is asked than before.
    pub(super) fn moves(&self) -> watch::Receiver<usize> {
        self.asked.subscribe()
    }

    /// A linearizable read.
    pub(super) async fn read(&self, key: &[u8], options: &GetOptions) -> Result<GetResponse, StoreError> {
        let mut tries = Tries::begin();
        loop {
            let once = |mut member: Connected| async move { member.kv.get(key, Some(options.clone())).await };
            match self.once(tries.patience, once).await {
                Ok(found) => return Ok(found),
                Err(problem) => self.bear(&mut tries, problem).await?,
            }
        }
    }

    /// Where the cluster is.
    pub(super) async fn revision(&self) -> Result<Revision, StoreError> {
        let key = format!("{}/", self.prefix);
        let found = self.read(key.as_bytes(), &GetOptions::new().with_keys_only()).await?;
        Ok(Revision(found.header().map_or(0, |header| header.revision().unsigned_abs())))
    }

    /// Asks one member once. If it is to blame for a failure, the next one is asked from now on.
    pub(super) async fn once<T, F>(&self, patience: Duration, ask: impl FnOnce(Connected) -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let asked = *self.asked.borrow();
        let member = &self.members[asked];
        let asking = async { ask(member.connected(&self.credentials).await?).await };
        let problem = match tokio::time::timeout(patience, asking).await {
            Ok(Ok(answer)) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    info!(cluster = %self, "etcd answers again");
                }
                return Ok(answer);
            }
            Ok(Err(error)) => Problem::of(&error, self.credentials.user(), &self.prefix),
            Err(_) => Problem::Silent,
        };
        let by_name = problem.is_of_credentials();
        if by_name || matches!(problem, Problem::Silent | Problem::Unreachable(_) | Problem::Other(_)) {
            // What is there may be dead without knowing it, or known by a name that is not good any more.
            member.disconnect();
        }
        if (problem.may_pass() || problem.is_of_one_member()) && self.members.len() > 1 {
            let next = (asked + 1) % self.members.len();
            self.asked.send_if_modified(|now| std::mem::replace(now, if *now == asked { next } else { *now }) == asked);
        }
        Err(problem)
    }

    /// Takes note of a failed try, and waits for the next one.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn bear(&self, tries: &mut Tries, problem: Problem) -> Result<(), StoreError> {
        let elsewhere = (problem.is_of_one_member() && self.members.len() > 1)
            || (problem.is_of_credentials() && self.credentials.are_new().await);
        let (may_pass, silent) = (problem.may_pass() || elsewhere, problem == Problem::Silent);
        tries.worst = Some(problem.clone()).max(tries.worst.take());
        let left = tries.left();
        if may_pass && left > PAUSE {
            tokio::time::sleep(PAUSE).await;
            let (left, longer) = (left - PAUSE, tries.patience * if silent { 2 } else { 1 });
            // The next one may be the one that stopped: there has to be time for another, unless it is the last.
            tries.patience = if left > 2 * FIRST_TRY { longer.min(left / 2) } else { left };
            return Ok(());
        }
        let problem = tries.worst.take().unwrap_or(problem);
        if !self.away.swap(true, Ordering::Relaxed) {
            warn!(cluster = %self, "etcd cannot be used: {problem}");
        }
        Err(problem.into())
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.members.iter().map(|member| member.url.as_str()).collect();
        f.write_str(&members.join(", "))
    }
}

impl Member {
    async fn connected(&self, credentials: &Credentials) -> Result<Connected, Error> {
        let mut connected = self.connected.lock().await;
        if let Some(connected) = &*connected {
            return Ok(connected.clone());
        }
        // Opens nothing yet, but for the user's sake.
        let options = self.options(&*credentials.read().await);
        let client = Client::connect([&self.url], Some(options)).await?;
        let kv = client.kv_client().max_decoding_message_size(ANSWER);
        let watch = client.watch_client().max_decoding_message_size(ANSWER);
        Ok(connected.insert(Connected { kv, watch }).clone())
    }

    fn options(&self, access: &Access) -> ConnectOptions {
        // Without a leader, who asks is told so at once, and so is who watches.
        let mut options = ConnectOptions::new()
            .with_connect_timeout(FIRST_TRY)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if self.url.starts_with("https:") {
            options = options.with_tls(access.tls.clone());
        }
        if let Some((user, password)) = &access.user {
            options = options.with_user(user, password);
        }
        options
    }

    /// Calls in flight go on.
    fn disconnect(&self) {
        // Whoever holds it connects anew already.
        if let Ok(mut connected) = self.connected.try_lock() {
            *connected = None;
        }
    }
}

/// The tries of one call.
pub(super) struct Tries {
    deadline: Instant,
    /// How long the next one may take.
    pub(super) patience: Duration,
    /// The one that says most: members that are down tell less than one that misses them.
    worst: Option<Problem>,
}

impl Tries {
    pub(super) fn begin() -> Self {
        Self { deadline: Instant::now() + DEADLINE, patience: FIRST_TRY, worst: None }
    }

    /// What is left of the time that the call may take.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
