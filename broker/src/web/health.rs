//! For whoever watches the broker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info};

use crate::audit::Audit;
use crate::authority::Authority;
use crate::clock::Clock;
use crate::config::Current;
use crate::storage::{Expect, Key, Store, StoreError, Write};

/// For so long what the store did says what it will do.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// A store that has not done it by then does not do it: a disk that hangs answers nothing. Longer than an etcd takes to elect
/// another leader.
const PATIENCE: Duration = Duration::from_secs(4);

/// A trial that takes longer is left to itself, and another one begins: what hangs for ever must not be all that is known.
const ABANDONED: Duration = Duration::from_secs(60);

/// Whether logins can work: there is somebody to vouch, what is decided can be written down, and the store is read, and
/// commits. Whoever asks often, or hangs up, costs a commit a second, and one at a time: who asks meanwhile waits for the same.
#[derive(Debug)]
pub struct Readiness {
    store: Arc<dyn Store>,
    audit: Audit,
    /// Why nobody can be vouched for, if that is so.
    identity: Current<Option<&'static str>>,
    /// What ops are to do although it works.
    remark: Current<Option<String>>,
    /// What the store was asked last.
    trial: Mutex<Option<Trial>>,
    /// What ops were told last, if it does not work.
    told: Mutex<Option<&'static str>>,
}

/// The store is read, and commits: in a task of its own, so that it comes to its end whoever waits for it.
#[derive(Clone, Debug)]
struct Trial {
    began: Instant,
    progress: watch::Receiver<Progress>,
}

/// How far it came.
#[derive(Clone, Debug)]
enum Progress {
    Reads,
    Commits,
    Worked(Instant),
    Failed(Instant, Unready, Arc<StoreError>),
}

/// What of it does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unready {
    /// As they say themselves.
    Said(&'static str),
    Reads,
    Commits,
}

impl Readiness {
    /// Of a broker on this store, about which this is to be said.
    pub fn new(
        store: Arc<dyn Store>,
        audit: Audit,
        identity: Current<Option<&'static str>>,
        remark: Current<Option<String>>,
    ) -> Arc<Self> {
        Arc::new(Self { store, audit, identity, remark, trial: Mutex::default(), told: Mutex::default() })
    }

    /// Whether it is so now.
    pub async fn is_ready(&self) -> bool {
        self.look().await.is_ok()
    }

    async fn look(&self) -> Result<(), Unready> {
        // Which told ops itself.
        if let Some(problem) = self.audit.problem() {
            return Err(Unready::Said(problem));
        }
        // A process that runs without an identity is of no use, however well it runs.
        if let Some(problem) = self.identity.now() {
            if self.is_news(Some(problem)) {
                error!("not ready: {problem}");
            }
            return Err(Unready::Said(problem));
        }
        let trial = self.trial();
        let (mut progress, late) = (trial.progress, trial.began + PATIENCE);
        let ended = progress.wait_for(|progress| matches!(progress, Progress::Worked(_) | Progress::Failed(..)));
        let known = tokio::time::timeout_at(late, ended).await.ok().and_then(Result::ok).map(|known| known.clone());
        let unready = match known.unwrap_or_else(|| progress.borrow().clone()) {
            Progress::Worked(_) => {
                if self.is_news(None) {
                    info!("ready again");
                }
                return Ok(());
            }
            Progress::Failed(_, unready, error) => {
                self.tell(unready, &*error);
                unready
            }
            Progress::Reads => self.hangs(Unready::Reads),
            Progress::Commits => self.hangs(Unready::Commits),
        };
        Err(unready)
    }

    /// The one that is under way, or has just ended; else another one. A store that hangs is not asked again and again.
    fn trial(&self) -> Trial {
        let mut trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |trial: &Trial| match *trial.progress.borrow() {
            Progress::Worked(at) | Progress::Failed(at, ..) => at.elapsed() < KNOWN_FOR,
            // One that nobody ends any more was begun by a runtime that has stopped.
            Progress::Reads | Progress::Commits => {
                trial.progress.has_changed().is_ok() && trial.began.elapsed() < ABANDONED
            }
        };
        let known = trial.as_ref().filter(|trial| is_known(trial)).cloned();
        known.unwrap_or_else(|| trial.insert(Trial::begin(self.store.clone())).clone())
    }

    fn hangs(&self, unready: Unready) -> Unready {
        self.tell(unready, &StoreError::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()).into()));
        unready
    }

    /// Once, however often a balancer asks.
    fn tell(&self, unready: Unready, error: &(dyn std::error::Error + 'static)) {
        let what = unready.sentence();
        if self.is_news(Some(what)) {
            error!(error, "not ready: {what}");
        }
    }

    /// Whether ops were told something else last. Another reason is news, too: the first may be mended, and the second not.
    fn is_news(&self, problem: Option<&'static str>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *told, problem) != problem
    }
}

impl Trial {
    fn begin(store: Arc<dyn Store>) -> Self {
        let (said, progress) = watch::channel(Progress::Reads);
        tokio::spawn(async move {
            let failed = |unready, error| Progress::Failed(Instant::now(), unready, Arc::new(error));
            if let Err(error) = store.get(&Key::new("ready", "")).await {
                return said.send_replace(failed(Unready::Reads, error));
            }
            said.send_replace(Progress::Commits);
            // A full disk, or an etcd without room, is read as ever. Deletes what is not there, and is written like every
            // other commit.
            let write = Write { key: Key::new("ready", "commit"), expect: Expect::Any, value: None };
            said.send_replace(match store.commit(vec![write]).await {
                Ok(_) => Progress::Worked(Instant::now()),
                Err(error) => failed(Unready::Commits, error),
            })
        });
        Self { began: Instant::now(), progress }
    }
}

impl Unready {
    fn sentence(self) -> &'static str {
        match self {
            Self::Said(problem) => problem,
            Self::Reads => "the store does not answer",
            Self::Commits => "the store takes no commits",
        }
    }
}

/// Why nobody can be vouched for, if that is so. Signing keys are none of the reasons: those in use have an active one of
/// each kind, whatever becomes of the store's, and all brokers would be taken away at once while logins work.
pub fn identity(authority: &Arc<Authority>, clock: &Clock) -> Current<Option<&'static str>> {
    let (authority, clock) = (authority.clone(), clock.clone());
    Current::of(move || authority.problem(clock.now()))
}

/// GET /healthz: the process answers.
pub(super) async fn alive() -> impl IntoResponse {
    "ok\n"
}

/// GET /readyz: logins can work, because the CA is good, the store answers and takes commits, and the audit is written.
/// Says, too, what ops are to do although it works.
pub(super) async fn ready(State(readiness): State<Arc<Readiness>>) -> impl IntoResponse {
    match readiness.look().await {
        Ok(()) => {
            (StatusCode::OK, readiness.remark.now().map_or("ok\n".to_owned(), |remark| format!("ok\n{remark}\n")))
        }
        Err(unready) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", unready.sentence())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::storage::failing::{FailingStore, Fate};
    use crate::storage::sled::SledStore;
    use crate::storage::{Page, Revision, Versioned, Watch};

    #[tokio::test]
    async fn who_cannot_vouch_for_anybody_is_not_ready_and_is_again_when_he_can() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(folder.path()).unwrap());
        let dead = Arc::new(AtomicBool::new(true));
        let is_dead = dead.clone();
        let identity = Current::of(move || is_dead.load(Ordering::Relaxed).then_some("the CA has ended"));
        let readiness = Readiness::new(store, Audit::unheard(), identity, None.into());
        assert!(matches!(readiness.look().await, Err(Unready::Said("the CA has ended"))));
        assert!(!readiness.is_news(Some("the CA has ended")), "it is told once");
        assert!(readiness.is_news(Some("another reason")));
        dead.store(false, Ordering::Relaxed);
        assert!(readiness.is_ready().await);
        assert!(!readiness.is_news(None), "that it works again was told");
    }

    #[tokio::test]
    async fn a_full_disk_is_seen_before_anybody_logs_in_and_so_is_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let (sled, full) = (Arc::new(SledStore::open(folder.path()).unwrap()), Arc::new(AtomicBool::new(true)));
        let is_full = full.clone();
        let fate = move || if is_full.load(Ordering::Relaxed) { Fate::FailsBefore } else { Fate::Passes };
        let readiness =
            Readiness::new(FailingStore::new(sled.clone(), fate), Audit::unheard(), None.into(), None.into());
        assert!(matches!(readiness.look().await, Err(Unready::Commits)));
        full.store(false, Ordering::Relaxed);
        // Not at once, so that who asks often does not make it worse.
        assert!(readiness.look().await.is_err());
        tokio::time::sleep(KNOWN_FOR).await;
        assert!(readiness.look().await.is_ok());
        let flushes = sled.flushes();
        for _ in 0..100 {
            assert!(readiness.look().await.is_ok());
        }
        assert_eq!(sled.flushes(), flushes, "whoever asks costs a commit");
    }

    /// A disk that does nothing until it is let go.
    #[derive(Debug)]
    struct HangingStore {
        store: SledStore,
        goes: Semaphore,
        commits: AtomicUsize,
    }

    #[async_trait]
    impl Store for HangingStore {
        async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
            self.store.get(key).await
        }

        async fn list(&self, page: Page) -> Result<Vec<(Key, Versioned)>, StoreError> {
            self.store.list(page).await
        }

        async fn watch(&self, prefix: &str) -> Result<Watch, StoreError> {
            self.store.watch(prefix).await
        }

        async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
            self.commits.fetch_add(1, Ordering::Relaxed);
            let _goes = self.goes.acquire().await.unwrap();
            self.store.commit(writes).await
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_seen_and_asked_once_whoever_hangs_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open(folder.path()).unwrap();
        let store = Arc::new(HangingStore { store, goes: Semaphore::new(0), commits: AtomicUsize::new(0) });
        let readiness = Readiness::new(store.clone(), Audit::unheard(), None.into(), None.into());
        for _ in 0..5 {
            let asked = tokio::time::timeout(Duration::from_millis(50), readiness.look()).await;
            assert!(asked.is_err(), "nobody knows yet");
        }
        assert_eq!(readiness.look().await, Err(Unready::Commits));
        let known = tokio::time::timeout(Duration::from_millis(50), readiness.look()).await;
        assert_eq!(known, Ok(Err(Unready::Commits)), "who asks now does not wait for it again");
        assert_eq!(store.commits.load(Ordering::Relaxed), 1);
        store.goes.add_permits(1);
        while readiness.look().await.is_err() {
            tokio::task::yield_now().await;
        }
        assert!(!readiness.is_news(None), "that it works again was told");
        assert_eq!(store.commits.load(Ordering::Relaxed), 1);
    }
}
