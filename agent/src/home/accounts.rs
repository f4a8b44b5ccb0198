//! Notices that somebody whom this home vouched for may not log in any more, and tells the broker, which ends what rests
//! on it everywhere.
//!
//! Everybody who was vouched for in the last weeks ([`vouched`](super::vouched)) is asked about in rounds; who that was
//! is on the disk, by identifier only, so that a restart forgets nobody. What the broker has not heard is told again in
//! the next round. Where nobody can say what became of an account, there is nothing to do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homeward_proto::v1::UserEvent;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::directory::Directory;
use super::report::{ReportError, report};
use super::vouched::Vouched;
use crate::config::Config;
use crate::connection::Broker;
use crate::disk::{DiskError, PrivateDir};
use crate::resources::words;
use crate::{backoff, clock, random};

/// Where the list is.
const FILE: &str = "vouched.json";
/// By how much the time between two rounds varies.
const JITTER: f64 = 0.2;

/// Watches accounts, if this instance is a home and somebody can say what became of them.
#[derive(Debug)]
pub(crate) struct AccountWatch {
    terms: Option<Terms>,
    list: Mutex<Vouched>,
    changed: Notify,
    data: PrivateDir,
    broker: Arc<Broker>,
}

/// How to watch.
#[derive(Debug)]
struct Terms {
    directory: Arc<Directory>,
    every: Duration,
}

impl AccountWatch {
    /// As the configuration says.
    pub(crate) fn open(
        config: &Config,
        data: PrivateDir,
        broker: Arc<Broker>,
        directory: Option<Arc<Directory>>,
    ) -> Result<Arc<Self>, DiskError> {
        let every = config.home.as_ref().and_then(|home| home.watch_every);
        let directory = directory.filter(|directory| directory.knows_accounts());
        let terms = directory.zip(every).map(|(directory, every)| Terms { directory, every });
        let stored: Option<BTreeMap<String, i64>> = data.load(FILE)?;
        let list = Mutex::new(Vouched::restore(stored.unwrap_or_default()));
        Ok(Arc::new(Self { terms, list, changed: Notify::new(), data, broker }))
    }

    /// Somebody is vouched for.
    pub(crate) fn vouched(&self, home_user_id: &str, now: OffsetDateTime) {
        if self.terms.is_some() && self.lock().vouch(home_user_id, now) {
            self.changed.notify_one();
        }
    }

    /// Asks and tells for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let Some(terms) = &self.terms else { return };
        loop {
            let pause = tokio::time::sleep(backoff::spread(terms.every, JITTER, random::fraction()));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    // Not where somebody waits for a page: this waits for the disk.
                    () = self.changed.notified() => self.store(),
                }
            }
            self.round(terms).await;
        }
    }

    /// Asks about everybody once, one after the other: the application has its users to serve.
    async fn round(&self, terms: &Terms) {
        let asked = self.lock().due(clock::now());
        if asked.is_empty() {
            return;
        }
        let users: Vec<&str> = asked.iter().map(|asked| asked.home_user_id.as_str()).collect();
        let accounts = match terms.directory.accounts(&users).await {
            Ok(accounts) => accounts,
            Err(error) => {
                tracing::warn!(%error, "nobody says who may still log in; they are asked about again");
                return;
            }
        };
        let answers: Vec<_> = asked.into_iter().zip(accounts).collect();
        let news = self.lock().judge(&answers);
        match news {
            Ok(news) => {
                for (home_user_id, event) in news {
                    self.tell(&home_user_id, event).await;
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
    }

    async fn tell(&self, home_user_id: &str, event: UserEvent) {
        match self.report(home_user_id, event).await {
            Ok(sessions) => {
                tracing::info!(
                    sessions,
                    event = words(event.as_str_name(), "USER_EVENT_"),
                    "a user may not log in here any more; the broker ended what rested on it"
                );
                self.lock().told(home_user_id, event);
                self.changed.notify_one();
            }
            Err(error) => {
                let event = words(event.as_str_name(), "USER_EVENT_");
                tracing::warn!(%error, event, "a user may not log in here any more, and the broker does not know it yet");
            }
        }
    }

    async fn report(&self, home_user_id: &str, event: UserEvent) -> Result<u32, ReportError> {
        Ok(report(self.broker.shared()?, home_user_id, event).await.map_err(Box::new)?)
    }

    fn store(&self) {
        let stored = self.lock().stored();
        if let Err(error) = self.data.store(FILE, &stored) {
            tracing::error!(%error, "whom this home vouched for cannot be stored; a restart would forget it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vouched> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
