//! The flows, on the [`Ground`]. None of them knows another one, but by what it is given here.

use std::sync::Arc;

use tokio::sync::watch;

use super::ground::Ground;
use crate::clock::Timestamp;
use crate::config::Current;
use crate::console::Console;
use crate::enrolment::{self, Enrolment};
use crate::fleet::{Fleet, Pace, SharedState, Terms};
use crate::foundations::Foundations;
use crate::login::{Login, LoginTerms};
use crate::registry::TokenSigner;
use crate::rotation::{self, Rotations};
use crate::sessions::{self, Delivery, DeliveryFoundations, Sessions};
use crate::upstream::Upstreams;

/// All of them but grants, which the OpenID Provider makes for itself.
pub(super) struct Flows {
    /// Join tokens and certificates.
    pub(super) enrolment: Arc<Enrolment>,
    /// Keys, secrets and the CA on the move.
    pub(super) rotations: Arc<Rotations>,
    /// When the signing keys change next, as far as that is known.
    pub(super) next_key_change: watch::Receiver<Option<Timestamp>>,
    /// Agents' streams.
    pub(super) fleet: Arc<Fleet>,
    /// Logins on their way.
    pub(super) login: Login,
    /// Homes without agent.
    pub(super) upstreams: Upstreams,
    /// Who is signed in, and the logouts on their way.
    pub(super) sessions: Sessions,
    /// Who is signed in to the web console.
    pub(super) console: Console,
}

impl Flows {
    /// Begins them. The future is what they do by themselves, and must be run.
    pub(super) fn begin(ground: &Ground) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let enrolment = Arc::new(enrolment(ground));
        let (rotations, next_key_change) = rotations(ground);
        let (fleet, wake_agents) = fleet(ground, rotations.clone());
        let login = login(ground);
        let upstreams = upstreams(ground);
        let sessions = Sessions::new(ground.store.clone(), ground.settings.lifetimes(), ground.audit.clone());
        let delivery = delivery(ground, &sessions);
        let (homes, on_duty) = (ground.registry.clone(), ground.brokers.duty());
        let end_orphans = sessions::follow_cut_off_homes(sessions.clone(), homes, ground.clock.clone(), on_duty);
        let console = Console::new(ground.store.clone(), ground.audit.clone());
        let flows = Self { enrolment, rotations, next_key_change, fleet, login, upstreams, sessions, console };
        let (rotations, upstreams) = (flows.rotations.clone(), flows.upstreams.clone());
        let (clock, brokers) = (ground.clock.clone(), ground.brokers.clone());
        // Boxed: many loops make a large future.
        let go_on = Box::pin(async move {
            tokio::join!(
                wake_agents,
                rotations.run(clock.clone(), brokers.duty()),
                delivery.run(),
                end_orphans,
                upstreams.keep_fresh(clock)
            );
        });
        (flows, go_on)
    }
}

fn enrolment(ground: &Ground) -> Enrolment {
    let lifetimes = ground.settings.lifetimes();
    let settings = enrolment::Settings {
        agent_url: ground.federation.agent_url.to_string(),
        certificate_lifetime: Current::of(move || lifetimes.now().instance_certificate),
    };
    Enrolment::new(foundations(ground), settings)
}

fn rotations(ground: &Ground) -> (Arc<Rotations>, watch::Receiver<Option<Timestamp>>) {
    let (policy, of_tokens) = (ground.settings.rotation(), ground.settings.clone());
    let settings = move || rotation::Settings { policy: policy.now(), longest_token: of_tokens.longest_token() };
    Rotations::new(foundations(ground), Current::of(settings))
}

fn foundations(ground: &Ground) -> Foundations {
    Foundations {
        store: ground.store.clone(),
        registry: ground.registry.clone(),
        liveness: ground.liveness.clone(),
        authority: ground.authority.clone(),
        sealing: ground.sealing.clone(),
        audit: ground.audit.clone(),
    }
}

/// The fleet, and what tells it of every change.
fn fleet(ground: &Ground, rotations: Arc<Rotations>) -> (Arc<Fleet>, impl Future<Output = ()> + Send + use<>) {
    let pace = Pace {
        key_set_max_age: ground.settings.key_set_max_age(),
        renewal_window: Box::new(move || rotations.renewal_window()),
    };
    let (shared, keep_shared_fresh) = SharedState::follow(ground.keys.changes(), ground.authority.changes(), pace);
    let terms = Terms {
        issuer: ground.federation.issuer.clone(),
        sealing: ground.sealing.clone(),
        brokers: ground.brokers.clone(),
        store: ground.store.clone(),
    };
    let (registry, liveness) = (ground.registry.clone(), ground.liveness.clone());
    let (fleet, wake_agents) = Fleet::open(registry, liveness, terms, shared, ground.clock.clone());
    (fleet, async move {
        tokio::join!(keep_shared_fresh, wake_agents);
    })
}

fn login(ground: &Ground) -> Login {
    let terms = LoginTerms {
        subjects: ground.subjects.clone(),
        issuer: ground.federation.issuer.clone(),
        lifetime: ground.federation.lifetimes.login,
        audit: ground.audit.clone(),
    };
    let (registry, liveness) = (ground.registry.clone(), ground.liveness.clone());
    Login::new(ground.store.clone(), ground.sealing.clone(), registry, liveness, terms)
}

fn upstreams(ground: &Ground) -> Upstreams {
    let (registry, issuer) = (ground.registry.clone(), ground.federation.issuer.clone());
    Upstreams::new(ground.sealing.clone(), registry, ground.outbound.clone(), issuer)
}

/// What brings logouts to the applications.
fn delivery(ground: &Ground, sessions: &Sessions) -> Delivery {
    let foundations = DeliveryFoundations {
        registry: ground.registry.clone(),
        signer: TokenSigner::new(ground.keys.clone(), ground.liveness.clone()),
        issuer: ground.federation.issuer.clone(),
        outbound: ground.outbound.clone(),
        clock: ground.clock.clone(),
        on_duty: ground.brokers.duty(),
    };
    Delivery::new(sessions.outbox().clone(), foundations)
}
