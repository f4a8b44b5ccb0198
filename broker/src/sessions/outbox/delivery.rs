//! The delivery loop: posts logout tokens, wakes agents, and gives up what took too long.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::clock::{Clock, Timestamp};
use crate::config::Issuer;
use crate::keys::KeyError;
use crate::outbound::Outbound;
use crate::registry::{Client, Registry, TokenSigner};
use crate::sessions::outbox::logout_token::{LogoutToken, TYP};
use crate::sessions::outbox::record::{Lane, Place};
use crate::sessions::outbox::{
    DueLogout, Entered, LogoutId, LogoutState, Message, Outbox, OutboxError, Outcome, StoredLogout,
};
use crate::storage::table::Table;
use crate::storage::{StoreError, Watch, WatchEvent};

/// Lanes in which a token is under way at once. One that does not answer holds its place for five seconds.
const AT_ONCE: usize = 64;

/// Tokens of one lane before the next lane has its turn.
const TURN: usize = 16;

/// How often all lanes are looked at, for agents that do not come and for clocks that were set.
const LOOK: Duration = Duration::from_secs(600);

/// Pause before the store is asked again after it failed.
const PAUSE: Duration = Duration::from_secs(5);

/// What deliveries stand on.
#[derive(Clone)]
pub struct DeliveryFoundations {
    /// Whom to tell, and where.
    pub registry: Registry,
    /// Signs logout tokens.
    pub signer: TokenSigner,
    /// Who says so.
    pub issuer: Issuer,
    /// The way out.
    pub outbound: Outbound,
    /// The time.
    pub clock: Clock,
    /// Whether this broker is the one that posts. (The agents' orders go out from wherever their streams are.)
    pub on_duty: watch::Receiver<bool>,
}

/// Whoever carries logouts out.
#[derive(Clone)]
pub struct Delivery {
    outbox: Outbox,
    foundations: Arc<DeliveryFoundations>,
}

/// Which lanes have something, and when; never more than there are clients and agents.
#[derive(Default)]
struct Lanes {
    idle: BTreeMap<Lane, Timestamp>,
    busy: HashSet<Lane>,
}

impl Delivery {
    /// From this outbox.
    pub fn new(outbox: Outbox, foundations: DeliveryFoundations) -> Self {
        Self { outbox, foundations: Arc::new(foundations) }
    }

    /// Delivers until the store is closed.
    pub async fn run(self) {
        // Begun before the lanes are read, so that no logout falls between.
        let mut changes = self.watch().await;
        let (mut lanes, mut under_way) = (Lanes::default(), JoinSet::new());
        self.look(&mut lanes).await;
        let mut next_look = tokio::time::Instant::now() + LOOK;
        let mut on_duty = self.foundations.on_duty.clone();
        loop {
            let now = self.foundations.clock.now();
            while *on_duty.borrow()
                && under_way.len() < AT_ONCE
                && let Some(lane) = lanes.start(now)
            {
                let delivery = self.clone();
                under_way.spawn(async move { (delivery.work(&lane).await, lane) });
            }
            let wait = if *on_duty.borrow() && under_way.len() < AT_ONCE { lanes.next(now) } else { None };
            tokio::select! {
                places = news(&mut changes) => match places {
                    None => return,
                    Some(News::Place(place)) => self.note(&mut lanes, place),
                    Some(News::Missed) => self.look(&mut lanes).await,
                },
                Some(Ok((next, lane))) = under_way.join_next() => lanes.finish(lane, next),
                () = sleep(wait) => {}
                // Whoever had it may have left anything. (Once nobody can change it any more, it stays as it is.)
                Ok(()) = on_duty.changed() => self.look(&mut lanes).await,
                () = tokio::time::sleep_until(next_look) => {
                    next_look = tokio::time::Instant::now() + LOOK;
                    self.look(&mut lanes).await;
                }
            }
        }
    }

    async fn watch(&self) -> Watch {
        loop {
            match self.outbox.store.watch(&Table::<DueLogout>::prefix()).await {
                Ok(watch) => return watch,
                Err(error) => {
                    warn!(%error, "logouts on their way cannot be watched; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// An agent takes its orders itself, when it is there.
    fn note(&self, lanes: &mut Lanes, place: Place) {
        match &place.lane {
            Lane::Back(_) => lanes.note(place.lane, place.at),
            Lane::Agent(name) => self.outbox.ring(name),
        }
    }

    /// Looks at all lanes.
    async fn look(&self, lanes: &mut Lanes) {
        loop {
            match self.read_all(lanes).await {
                Ok(()) => return,
                Err(error) => {
                    warn!(%error, "logouts on their way cannot be read; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn read_all(&self, lanes: &mut Lanes) -> Result<(), OutboxError> {
        let now = self.foundations.clock.now();
        for place in self.outbox.heads().await? {
            let on_duty = *self.foundations.on_duty.borrow();
            if on_duty && matches!(place.lane, Lane::Agent(_)) && place.at <= now {
                self.give_up_late(&place.lane, now).await?;
            }
            self.note(lanes, place);
        }
        Ok(())
    }

    /// Gives up what waits for an agent that does not come.
    async fn give_up_late(&self, lane: &Lane, now: Timestamp) -> Result<(), OutboxError> {
        while let Some(place) = self.outbox.head(lane).await? {
            let late = self.outbox.get(&place.id).await?.is_none_or(|logout| now >= logout.give_up_at);
            if !late {
                break;
            }
            self.outbox.settle(&place.id, Outcome::Gone("its agent did not come in time".to_owned()), now).await?;
            self.outbox.forget(&place).await?;
        }
        Ok(())
    }

    /// Tries what is due in a lane, one after the other; says when there is more to do.
    async fn work(&self, lane: &Lane) -> Option<Timestamp> {
        for _ in 0..TURN {
            let now = self.foundations.clock.now();
            match self.outbox.head(lane).await {
                Ok(None) => return None,
                Ok(Some(place)) if place.at > now => return Some(place.at),
                Ok(Some(place)) => {
                    if let Err(error) = self.deliver(&place).await {
                        warn!(logout = %place.id, %error, "a logout cannot be delivered now; trying again");
                        return Some(now + PAUSE);
                    }
                }
                Err(error) => {
                    warn!(%error, "logouts on their way cannot be read; trying again");
                    return Some(now + PAUSE);
                }
            }
        }
        Some(self.foundations.clock.now())
    }

    async fn deliver(&self, place: &Place) -> Result<(), DeliveryError> {
        let logout = self.outbox.get(&place.id).await?.filter(|logout| logout.state == LogoutState::Pending);
        let Some(logout) = logout else { return Ok(self.outbox.forget(place).await?) };
        let outcome = match &logout.message {
            Message::Back(entered) => self.post(&place.id, &logout, entered).await?,
            // Not in this lane: no broker has written it.
            Message::Agent(_) | Message::Home { .. } => Outcome::Gone("it is in the wrong lane".to_owned()),
        };
        Ok(self.outbox.settle(&place.id, outcome, self.foundations.clock.now()).await?)
    }

    /// Posts one logout token (Back-Channel Logout 2.5).
    async fn post(&self, id: &LogoutId, logout: &StoredLogout, entered: &Entered) -> Result<Outcome, DeliveryError> {
        let DeliveryFoundations { registry, signer, issuer, outbound, clock, .. } = &*self.foundations;
        let snapshot = registry.snapshot();
        let Some(client) = Client::told(&snapshot, &logout.target, &entered.client_id) else {
            return Ok(Outcome::Gone("the client is gone".to_owned()));
        };
        let Some(address) = &client.relying_party.logout.backchannel else {
            return Ok(Outcome::Gone("it has no back-channel address any more".to_owned()));
        };
        let claims = LogoutToken::of(entered, issuer, (id, logout.attempts + 1), clock.now());
        let token = signer.sign_typed(client, (TYP, client.relying_party.id_token_alg), &claims)?;
        // 2.8: 200, and 204 from frameworks that have nothing to say.
        Ok(match outbound.post_form(address, &[("logout_token", &token)]).await {
            Ok(status @ (StatusCode::OK | StatusCode::NO_CONTENT)) => Outcome::Told(status.as_u16().to_string()),
            Ok(status) => Outcome::Failed(format!("it answered {}", status.as_u16())),
            Err(error) => Outcome::Failed(error.to_string()),
        })
    }
}

impl Lanes {
    fn note(&mut self, lane: Lane, at: Timestamp) {
        let first = self.idle.entry(lane).or_insert(at);
        *first = at.min(*first);
    }

    /// A lane that has something due and is not at work.
    fn start(&mut self, now: Timestamp) -> Option<Lane> {
        let due = |(lane, at): &(&Lane, &Timestamp)| **at <= now && !self.busy.contains(*lane);
        let lane = self.idle.iter().filter(due).min_by_key(|(_, at)| **at)?.0.clone();
        self.idle.remove(&lane);
        self.busy.insert(lane.clone());
        Some(lane)
    }

    fn finish(&mut self, lane: Lane, next: Option<Timestamp>) {
        self.busy.remove(&lane);
        if let Some(at) = next {
            self.note(lane, at);
        }
    }

    /// How long until a lane that is not at work has something due.
    fn next(&self, now: Timestamp) -> Option<Duration> {
        let idle = self.idle.iter().filter(|(lane, _)| !self.busy.contains(*lane));
        idle.map(|(_, at)| at.since(now)).min()
    }
}

/// What a watch of the lanes says.
enum News {
    /// A logout stands there now.
    Place(Place),
    /// Nobody knows.
    Missed,
}

/// The next news; nothing once the store is closed.
async fn news(changes: &mut Watch) -> Option<News> {
    loop {
        match changes.next().await? {
            WatchEvent::Reload => return Some(News::Missed),
            WatchEvent::Changed { value: None, .. } => {}
            WatchEvent::Changed { key, .. } => {
                if let Some(place) = Place::read(key.id()) {
                    return Some(News::Place(place));
                }
            }
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        // Moments are whole seconds: a little later is sure to be in the next one.
        Some(wait) => tokio::time::sleep(wait.max(Duration::from_millis(50))).await,
        None => std::future::pending().await,
    }
}

/// Why a try did not come to an end.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error(transparent)]
    Signing(#[from] KeyError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
