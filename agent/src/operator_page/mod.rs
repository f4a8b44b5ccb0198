//! The page for the operator: what is configured, what is in effect and where it was written, how long the certificate is
//! good, and, when a button is pressed, what the doctor finds. A browser's view of `homeward-agent status` and
//! `homeward-agent doctor`; it changes nothing, and shows no secret to anybody ([`configured`] says how).
//!
//! It has a listener of its own, on this machine only, and is off unless the operator wants it. Who may come in is
//! [`door`]'s to say; who is the instance's admin, a reverse proxy's before it.

pub(crate) mod http;

mod configured;
mod door;
mod examination;
mod fact;
mod pages;
mod sheet;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use homeward_proto::v1::AgentState;
use time::OffsetDateTime;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use self::configured::Place;
use self::door::Door;
use self::examination::Examination;
use self::fact::{Moment, Section};
use self::sheet::{Known, Sheet, Versioning};
use crate::config::Config;
use crate::contact::LastContact;
use crate::disk::PrivateDir;
use crate::health::Health;
use crate::identity::Identity;
use crate::random::NoRandomness;
use crate::renewal::order::Orders;
use crate::resources::standing::{Standing, State};
use crate::resources::wanted::Wanted;

/// How long whoever sent for the doctor waits before the page says that it looks.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is looked at.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Who the instance is.
    pub(crate) identity: Arc<Identity>,
    /// Whether the CA turns.
    pub(crate) orders: Arc<Orders>,
    /// What is in effect.
    pub(crate) standing: Arc<Standing>,
    /// What should be.
    pub(crate) wanted: watch::Receiver<Wanted>,
    /// Whether there is a stream.
    pub(crate) connected: watch::Receiver<bool>,
    /// Where it is noted when there was one.
    pub(crate) data: PrivateDir,
    /// How the application is. Asked by one at a time.
    pub(crate) health: Mutex<Health>,
}

/// The page.
#[derive(Debug)]
pub(crate) struct OperatorPage {
    seen: Seen,
    door: Door,
    examination: Examination,
    configured: Section,
    places: Vec<Place>,
    relying_party: Option<String>,
    vouches: bool,
    started: OffsetDateTime,
    /// How the application was, and when it was known.
    last: Mutex<Option<(Instant, AgentState)>>,
}

impl OperatorPage {
    /// Of an agent that begins now, with what this file configures.
    pub(crate) fn new(file: &Path, config: &Config, seen: Seen, now: OffsetDateTime) -> Result<Self, NoRandomness> {
        let hosts = config.operator_page.as_ref().map(|page| page.hosts.clone());
        Ok(Self {
            seen,
            door: Door::new(hosts.unwrap_or_default())?,
            examination: Examination::new(file.to_owned()),
            configured: configured::section(file, config),
            places: configured::places(config),
            relying_party: config.relying_party.as_ref().map(|_| config.recipe.title.clone()),
            vouches: config.home.is_some(),
            started: now,
            last: Mutex::default(),
        })
    }

    /// All that it shows.
    async fn sheet(&self, now: OffsetDateTime) -> Sheet {
        let seen = &self.seen;
        let standing = seen.standing.watch().borrow().clone();
        let application = self.application(&standing).await;
        let renewal = seen.identity.renew_at();
        let known = Known {
            identity: &seen.identity,
            renewal: seen.orders.due(seen.identity.authority_pin()).map_or(renewal, |due| due.min(renewal)),
            wanted: Versioning::of(&seen.wanted.borrow(), &standing.applied.versions),
            standing,
            connected: *seen.connected.borrow(),
            // What cannot be read is written anew with the next connection.
            contact: LastContact::load(&seen.data).unwrap_or_default(),
            application,
            doctor: self.examination.state(),
            relying_party: self.relying_party.as_deref(),
            vouches: self.vouches,
            started: self.started,
        };
        Sheet {
            instance: seen.identity.instance().to_string(),
            now: Moment::new(now, now),
            attention: known.attention(now),
            doctor: known.doctor(now),
            sections: known.sections(now),
            resources: known.resources(now),
            places: self.places.clone(),
            configured: self.configured.clone(),
        }
    }

    /// How the application is; unset if there is nothing to ask it. It is asked for one at a time, and whoever waits for that
    /// takes the answer that comes meanwhile: an application that hangs keeps nobody waiting for long.
    async fn application(&self, standing: &State) -> Option<AgentState> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((_, state)) = last.as_ref().filter(|(at, _)| *at >= came) {
            return Some(state.clone());
        }
        let health = self.seen.health.lock().await;
        if !health.asks() {
            return None;
        }
        let state = health.state(standing).await;
        *last = Some((Instant::now(), state.clone()));
        Some(state)
    }

    /// Sends for the doctor, if the form is this page's, and waits for it for a while.
    async fn examine(&self, form_token: &str, now: OffsetDateTime) -> Result<(), door::Shut> {
        self.door.takes(form_token)?;
        self.examination.begin(now);
        self.examination.wait(PATIENCE).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
