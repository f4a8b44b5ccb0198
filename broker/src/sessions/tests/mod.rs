//! Sessions that end, with applications that listen, fail, sleep and are gone.

mod delivery;
mod ending;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::routing::post;
use rustls::RootCertStore;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::{Clock, ManualClock};
use crate::config::{Issuer, Lifetimes};
use crate::keys::{self, KeySet};
use crate::outbound::{self, Outbound};
use crate::registry::tests::{NOW, World as RegistryWorld, name};
use crate::registry::{
    AssertedIdentity, ClientId, Instance, InstanceId, Liveness, SessionId, SubjectKey, TokenSigner, UserId,
};
use crate::sessions::{Delivery, DeliveryFoundations, LogoutId, LogoutState, Opened, Sessions, StoredLogout, Vouched};
use crate::storage::Store;

const LIFETIMES: Lifetimes = Lifetimes {
    session: Duration::from_secs(43_200),
    session_idle: Duration::from_secs(7200),
    login: Duration::from_secs(600),
    id_token: Duration::from_secs(600),
    access_token: Duration::from_secs(600),
    refresh_token: Duration::from_secs(86_400),
    refresh_token_idle: Duration::from_secs(86_400),
    authorization_code: Duration::from_secs(60),
    instance_certificate: Duration::from_secs(86_400),
};

/// alpha is a home; beta, gamma and delta are relying parties.
pub(super) struct World {
    pub(super) registry: RegistryWorld,
    pub(super) sessions: Sessions,
    pub(super) keys: KeySet,
    pub(super) clock: Clock,
    pub(super) hands: ManualClock,
    subjects: SubjectKey,
}

impl World {
    pub(super) async fn new() -> Self {
        let registry = RegistryWorld::new().await;
        let store: Arc<dyn Store> = registry.store.clone();
        let mut writes = keys::first_keys(&store, &registry.sealing, NOW).unwrap();
        writes.push(SubjectKey::first(&store, &registry.sealing).unwrap());
        store.commit(writes).await.unwrap();
        let (keys, keep_fresh) = KeySet::open(store.clone(), registry.sealing.clone()).await.unwrap();
        tokio::spawn(keep_fresh);
        let subjects = SubjectKey::load(&store, &registry.sealing).await.unwrap();
        for party in ["alpha", "beta", "gamma", "delta"] {
            registry.enrol(party).await;
        }
        let (clock, hands) = Clock::manual(NOW);
        let sessions = Sessions::new(store, LIFETIMES, crate::audit::Audit::unheard());
        Self { sessions, registry, keys, clock, hands, subjects }
    }

    /// Starts to deliver. Ends with the answer.
    pub(super) fn deliver(&self) -> tokio::task::JoinHandle<()> {
        self.deliver_when(watch::Sender::new(true).subscribe())
    }

    /// The same, as one of several brokers.
    pub(super) fn deliver_when(&self, on_duty: watch::Receiver<bool>) -> tokio::task::JoinHandle<()> {
        let issuer = Issuer::parse("http://127.0.0.1:1").unwrap();
        let private_networks = vec!["127.0.0.0/8".parse().unwrap()];
        let settings = outbound::Settings { issuer: issuer.clone(), private_networks, roots: RootCertStore::empty() };
        let registry = self.registry.registry.clone();
        let foundations = DeliveryFoundations {
            outbound: Outbound::new(settings, registry.clone(), self.clock.clone()).unwrap(),
            registry,
            signer: TokenSigner::new(self.keys.clone(), Liveness::default()),
            issuer,
            clock: self.clock.clone(),
            on_duty,
        };
        tokio::spawn(Delivery::new(self.sessions.outbox().clone(), foundations).run())
    }

    pub(super) fn instance(&self, text: &str) -> Arc<Instance> {
        self.registry.registry.snapshot().instance(&name(text)).unwrap().clone()
    }

    pub(super) fn client(&self, text: &str) -> ClientId {
        self.instance(text).relying_party.as_ref().unwrap().client_id.clone()
    }

    /// A user of alpha signs in at this relying party, in a browser of his own or in one that has this cookie.
    pub(super) async fn sign_in(&self, user: &str, party: &str, cookie: Option<&str>) -> (SessionId, String) {
        for _ in 0..20 {
            let current = match cookie {
                Some(cookie) => self.sessions.find(cookie, self.clock.now()).await.unwrap(),
                None => None,
            };
            let home_id = self.instance("alpha").id;
            let vouched = Vouched {
                home: name("alpha"),
                home_id,
                user: self.user(user),
                identity: identity(user).verify(NOW).unwrap(),
            };
            let entered = (self.client(party), self.opened(home_id, user, party));
            let begun = self.sessions.begin(current, vouched, Some(entered), self.clock.now()).unwrap();
            if self.registry.store.commit(begun.writes).await.is_ok() {
                return (begun.id, begun.cookie);
            }
        }
        panic!("the session changes all the time");
    }

    fn opened(&self, home_id: InstanceId, user: &str, party: &str) -> Opened {
        let subject = self.subjects.subject(home_id, user);
        let snapshot = self.registry.registry.snapshot();
        let trust = snapshot.edge(&name(party), &name("alpha")).map(|edge| edge.epoch).unwrap_or_default();
        Opened {
            relying_party: name(party),
            subject,
            username: Some(format!("{user}@alpha")),
            trust,
            since: self.clock.now(),
            link: None,
            released: None,
        }
    }

    pub(super) fn user(&self, user: &str) -> UserId {
        self.subjects.user(self.instance("alpha").id, user)
    }

    pub(super) async fn logouts(&self) -> BTreeMap<String, (LogoutId, StoredLogout)> {
        let all = self.sessions.outbox().page(None, 100).await.unwrap();
        all.into_iter().map(|(id, logout)| (logout.target.to_string(), (id, logout))).collect()
    }

    /// Waits until the logout for this one is in this state.
    pub(super) async fn becomes(&self, target: &str, state: LogoutState) -> StoredLogout {
        for _ in 0..400 {
            let logouts = self.logouts().await;
            if let Some((_, logout)) = logouts.get(target).filter(|(_, logout)| logout.state == state) {
                return logout.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{target} is not {state:?}: {:?}", self.logouts().await)
    }
}

fn identity(user: &str) -> AssertedIdentity {
    AssertedIdentity {
        home_user_id: user.into(),
        username: user.into(),
        name: String::new(),
        given_name: String::new(),
        family_name: String::new(),
        email: String::new(),
        email_verified: false,
        groups: Vec::new(),
        auth_time: Some(NOW),
        amr: Vec::new(),
        acr: None,
        attributes: BTreeMap::new(),
        name_is_held: false,
    }
}

/// An application that takes logout tokens, or does not.
pub(super) struct Listener {
    pub(super) address: String,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    tokens: Mutex<Vec<String>>,
    /// What it answers next, and after what time; then 200.
    moods: Mutex<VecDeque<(u16, Duration)>>,
}

impl Listener {
    pub(super) async fn start(moods: &[(u16, Duration)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("http://{}/backchannel", listener.local_addr().unwrap());
        let heard = Arc::new(Heard { moods: Mutex::new(moods.iter().copied().collect()), ..Heard::default() });
        let router = axum::Router::new().route("/backchannel", post(take)).with_state(heard.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, heard }
    }

    pub(super) fn tokens(&self) -> Vec<String> {
        self.heard.tokens.lock().unwrap().clone()
    }
}

async fn take(State(heard): State<Arc<Heard>>, Form(form): Form<BTreeMap<String, String>>) -> StatusCode {
    heard.tokens.lock().unwrap().push(form["logout_token"].clone());
    let mood = heard.moods.lock().unwrap().pop_front();
    let Some((status, wait)) = mood else { return StatusCode::OK };
    tokio::time::sleep(wait).await;
    StatusCode::from_u16(status).unwrap()
}
