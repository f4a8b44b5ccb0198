//! Notices that somebody whom this home vouched for has logged out here, and tells the broker, which ends what the home
//! vouched for everywhere.
//!
//! Only the method `session` leaves something to watch: the browser's own cookies, which the application is asked about
//! again from time to time, one request at a time. They are kept in memory only ([`watchlist`](super::watchlist)): what a
//! restart of the agent leaves unnoticed ends with the broker's session. An application that does not answer has logged
//! nobody out.
//!
//! The report names a user and no browser, so it ends what he began with another browser too. What it must not end is what
//! begins after the logout. So before somebody is vouched for again, his other browsers are asked about
//! ([`Watch::settle`]); and a logout that the broker ordered is forgotten here, not reported back ([`Watch::forget_user`]).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homeward_proto::v1::UserEvent;
use http::HeaderValue;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::report::{ReportError, report};
use super::session::{self, Still};
use super::watchlist::{Browser, Cookies, Known, Watchlist};
use crate::application::Application;
use crate::config::Config;
use crate::config::home::HomeMethod;
use crate::connection::Broker;
use crate::recipe::home::Home;
use crate::{backoff, random};

/// By how much the time between two questions varies.
const JITTER: f64 = 0.2;

/// Watches, if this instance is a home with sessions to watch.
#[derive(Debug)]
pub(crate) struct Watch {
    terms: Option<Terms>,
    list: Mutex<Watchlist>,
    added: Notify,
    application: Application,
    broker: Arc<Broker>,
}

/// How to watch.
#[derive(Debug)]
struct Terms {
    recipe: Home,
    every: Duration,
}

impl Watch {
    /// As the configuration says.
    pub(crate) fn new(config: &Config, application: Application, broker: Arc<Broker>) -> Arc<Self> {
        let home = config.home.as_ref().filter(|home| home.methods.contains(&HomeMethod::Session));
        let every = home.and_then(|home| home.watch_every);
        let terms = every.zip(config.recipe.home.clone()).map(|(every, recipe)| Terms { recipe, every });
        Arc::new(Self { terms, list: Mutex::default(), added: Notify::new(), application, broker })
    }

    /// Remembers a browser that somebody was vouched for with.
    pub(crate) fn remember(&self, home_user_id: &str, cookies: &HeaderValue, source: IpAddr) {
        let Some(terms) = &self.terms else { return };
        let now = Instant::now();
        self.lock().add(home_user_id, Cookies::new(cookies), source, (now, now + terms.pause()));
        self.added.notify_one();
    }

    /// Before a user is vouched for again, in a browser with these cookies: reports it now if he has logged out in another
    /// one meanwhile, because afterwards the report would end the new login too.
    pub(crate) async fn settle(&self, home_user_id: &str, cookies: Option<&HeaderValue>) {
        let Some(terms) = &self.terms else { return };
        let browsers = self.lock().of_user(home_user_id);
        for browser in browsers.into_iter().filter(|browser| !cookies.is_some_and(|own| browser.cookies.are(own))) {
            if self.is_gone(terms, &browser).await {
                return self.tell(&browser).await;
            }
        }
    }

    /// The broker knows that this user's sessions end.
    pub(crate) fn forget_user(&self, home_user_id: &str) {
        let mut list = self.lock();
        let newest = list.newest();
        list.forget_user(home_user_id, newest);
    }

    /// Asks and tells for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let Some(terms) = &self.terms else { return };
        loop {
            let due = self.lock().next_due();
            match due {
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.added.notified() => continue,
                },
                None => {
                    self.added.notified().await;
                    continue;
                }
            }
            let now = Instant::now();
            let browser = self.lock().take_due(now, now + terms.pause());
            if let Some(browser) = browser
                && self.is_gone(terms, &browser).await
            {
                self.tell(&browser).await;
            }
        }
    }

    async fn is_gone(&self, terms: &Terms, browser: &Browser) -> bool {
        if browser.known == Known::Gone {
            return true;
        }
        let Some(cookies) = browser.cookies.header() else { return false };
        let still = session::still(&self.application, &terms.recipe, (cookies, browser.source), &browser.home_user_id);
        match still.await {
            Still::There | Still::Unknown => false,
            Still::Gone => {
                self.lock().mark_gone(browser);
                true
            }
        }
    }

    /// Until the broker has heard it, the browser stays on the list.
    async fn tell(&self, browser: &Browser) {
        let newest = self.lock().newest();
        match self.report(&browser.home_user_id).await {
            Ok(sessions) => {
                tracing::info!(sessions, "a user has logged out here; the broker ended the sessions that rested on it");
                self.lock().forget_user(&browser.home_user_id, newest);
            }
            Err(error) => tracing::warn!(%error, "a user has logged out here, and the broker does not know it yet"),
        }
    }

    async fn report(&self, home_user_id: &str) -> Result<u32, ReportError> {
        Ok(report(self.broker.shared()?, home_user_id, UserEvent::LoggedOut).await.map_err(Box::new)?)
    }

    fn lock(&self) -> MutexGuard<'_, Watchlist> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terms {
    fn pause(&self) -> Duration {
        backoff::spread(self.every, JITTER, random::fraction())
    }
}
