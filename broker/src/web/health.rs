//! For whoever watches the broker.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

use crate::audit::Audit;
use crate::authority::Authority;
use crate::clock::Clock;
use crate::config::Current;
use crate::storage::{Expect, Key, Store, StoreError, Write};

/// For so long a commit says what the next one will do.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// Whether logins can work: there is somebody to vouch, what is decided can be written down, and the store is read, and commits. Whoever asks often costs a commit a second.
#[derive(Debug)]
pub struct Readiness {
    store: Arc<dyn Store>,
    audit: Audit,
    /// Why nobody can be vouched for, if that is so.
    identity: Current<Option<&'static str>>,
    /// What ops are to do although it works.
    remark: Current<Option<String>>,
    /// When a commit was tried last, and whether it worked.
    tried: Mutex<Option<(Instant, bool)>>,
    /// What ops were told last, if it does not work.
    told: Mutex<Option<&'static str>>,
}

/// What of it does not work.
#[derive(Clone, Copy)]
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
        Arc::new(Self { store, audit, identity, remark, tried: Mutex::default(), told: Mutex::default() })
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
            if self.is_news(Some(problem)).await {
                error!("not ready: {problem}");
            }
            return Err(Unready::Said(problem));
        }
        if let Err(error) = self.store.get(&Key::new("ready", "")).await {
            self.tell(&error, "not ready: the store does not answer").await;
            return Err(Unready::Reads);
        }
        self.commits().await?;
        if self.is_news(None).await {
            info!("ready again");
        }
        Ok(())
    }

    /// A full disk, or an etcd without room, is read as ever.
    async fn commits(&self) -> Result<(), Unready> {
        // Held until it is known: who asks meanwhile waits for the same commit.
        let mut tried = self.tried.lock().await;
        let known = tried.filter(|(at, _)| at.elapsed() < KNOWN_FOR);
        let worked = match known {
            Some((_, worked)) => worked,
            None => {
                // Deletes what is not there, and is written like every other commit.
                let write = Write { key: Key::new("ready", "commit"), expect: Expect::Any, value: None };
                let committed = self.store.commit(vec![write]).await;
                if let Err(error) = &committed {
                    self.tell(error, "not ready: the store takes no commits").await;
                }
                *tried = Some((Instant::now(), committed.is_ok()));
                committed.is_ok()
            }
        };
        if worked { Ok(()) } else { Err(Unready::Commits) }
    }

    /// Once, however often a balancer asks.
    async fn tell(&self, error: &StoreError, what: &'static str) {
        if self.is_news(Some(what)).await {
            let error: &dyn std::error::Error = error;
            error!(error, "{what}");
        }
    }

    /// Whether ops were told something else last. Another reason is news, too: the first may be mended, and the second not.
    async fn is_news(&self, problem: Option<&'static str>) -> bool {
        let mut told = self.told.lock().await;
        std::mem::replace(&mut *told, problem) != problem
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
        Err(Unready::Said(problem)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
        Err(Unready::Reads) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n".to_owned()),
        Err(Unready::Commits) => (StatusCode::SERVICE_UNAVAILABLE, "the store takes no commits\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::storage::failing::{FailingStore, Fate};
    use crate::storage::sled::SledStore;

    #[tokio::test]
    async fn who_cannot_vouch_for_anybody_is_not_ready_and_is_again_when_he_can() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(folder.path()).unwrap());
        let dead = Arc::new(AtomicBool::new(true));
        let is_dead = dead.clone();
        let identity = Current::of(move || is_dead.load(Ordering::Relaxed).then_some("the CA has ended"));
        let readiness = Readiness::new(store, Audit::unheard(), identity, None.into());
        assert!(matches!(readiness.look().await, Err(Unready::Said("the CA has ended"))));
        assert!(!readiness.is_news(Some("the CA has ended")).await, "it is told once");
        assert!(readiness.is_news(Some("another reason")).await);
        dead.store(false, Ordering::Relaxed);
        assert!(readiness.is_ready().await);
        assert!(!readiness.is_news(None).await, "that it works again was told");
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
}
