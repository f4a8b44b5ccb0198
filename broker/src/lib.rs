//! Homeward's broker: the one OpenID Provider, trust registry and certificate authority of a federation.
//!
//! Rings, dependencies inwards only (held by a test):
//!
//! | ring | modules |
//! |---|---|
//! | surfaces | [`oidc`] and [`web`] over HTTP, [`grpc`] for agents and ops, [`metrics`] for whoever watches, [`cli`] |
//! | flows | [`enrolment`], [`login`], [`grants`], [`sessions`], [`fleet`], [`rotation`], [`restore`], [`upstream`], [`console`]: none calls another |
//! | ground | [`brokers`], [`audit`], [`registry`], [`keys`], [`authority`], [`outbound`], [`tls`], [`reload`], and what several flows stand on, as [`foundations`] |
//! | core | [`storage`], [`secret`], [`clock`], [`rate_limit`], [`open_files`], [`telemetry`], and [`config`] |
//!
//! [`run`] is the only place where parts are put together.

pub mod audit;
pub mod authority;
pub mod brokers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod enrolment;
pub mod fleet;
pub mod foundations;
pub mod grants;
pub mod grpc;
pub mod keys;
pub mod login;
pub mod metrics;
pub mod oidc;
pub mod open_files;
pub mod outbound;
pub mod rate_limit;
pub mod registry;
pub mod reload;
pub mod restore;
pub mod rotation;
pub mod secret;
pub mod sessions;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod web;

use std::pin::Pin;
use std::sync::Arc;

use homeward_telemetry::metrics::MetricError;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use audit::{Audit, AuditError, Event, Kind, StoredCounts};
use authority::{Authority, CaError};
use brokers::{Brokers, StoredBroker};
use clock::{Clock, Timestamp};
use config::{Config, Current, InForce, SettingsError, TrustedProxies};
use console::{Console, ConsoleCode, ConsoleSession};
use enrolment::{Enrolment, Settings, StoredJoinToken};
use fleet::{Fleet, Pace, SharedState, StoredQuestion, Terms};
use foundations::Foundations;
use grants::{DeviceRequest, EnteredCode, GrantOfUser, InstanceProbes, Probes, RevokedToken, StoredGrant};
use keys::{KeyError, KeySet, StoredKey};
use login::{ClaimedTicket, Login, LoginRecord, LoginTerms, PushedRequest, SpentLink};
use metrics::Sources;
use oidc::{Provider, Publication, UsedAssertion};
use outbound::{CaFileError, Outbound};
use registry::{
    Instance, KnownName, Liveness, RegisteredClient, Registry, SubjectKey, SubjectKeyError, TokenSigner, Upstream,
};
use reload::{Reload, Signals};
use rotation::{Rotations, StoredRotation};
use secret::{KeyEncryptionKeys, KeyTurn, SealedTable, SealingKeyError, SealingKeys, TurnFoundations};
use sessions::{Delivery, DeliveryFoundations, Session, SessionOfUser, Sessions, StoredLogout};
use storage::address::StoreAddress;
use storage::measured::Measured;
use storage::schema::{SchemaError, Step, StepPage};
use storage::table::Record;
use storage::{Store, StoreError, expiry, schema};
use telemetry::Telemetry;
use tls::acme::{AcmeFoundations, StoredAcme, StoredChallenge};
use tls::{PublicTls, TlsError};
use upstream::Upstreams;
use web::listener::PublicListeners;
use web::{Boundary, Readiness};

/// Tables whose records the sweeper deletes when they have expired.
const EXPIRING: &[&str] = &[
    StoredJoinToken::TABLE,
    LoginRecord::TABLE,
    ClaimedTicket::TABLE,
    PushedRequest::TABLE,
    Session::TABLE,
    SessionOfUser::TABLE,
    KnownName::TABLE,
    StoredLogout::TABLE,
    StoredGrant::TABLE,
    GrantOfUser::TABLE,
    RevokedToken::TABLE,
    DeviceRequest::TABLE,
    EnteredCode::TABLE,
    StoredRotation::TABLE,
    InstanceProbes::TABLE,
    UsedAssertion::TABLE,
    StoredQuestion::TABLE,
    StoredChallenge::TABLE,
    StoredCounts::TABLE,
    ConsoleCode::TABLE,
    ConsoleSession::TABLE,
    SpentLink::TABLE,
];

/// Tables whose records hold something sealed: what a turn of the key-encryption key seals again.
pub const SEALED: &[SealedTable] = &[
    SubjectKey::SEALED,
    Authority::SEALED,
    SealedTable::of::<StoredKey>(),
    SealedTable::of::<StoredJoinToken>(),
    SealedTable::of::<Instance>(),
    SealedTable::of::<RegisteredClient>(),
    SealedTable::of::<Upstream>(),
    SealedTable::of::<StoredAcme>(),
];

/// The sockets of a broker, bound already.
#[derive(Debug)]
pub struct Listeners {
    /// Browsers and applications.
    pub public: PublicListeners,
    /// Agents.
    pub grpc: TcpListener,
    /// Ops.
    pub admin: UnixListener,
    /// Whoever watches.
    pub metrics: Option<TcpListener>,
}

/// Runs a broker until it is to stop; calls `ready` when it can be used.
///
/// # Errors
/// When it cannot start, or a listener fails as a whole.
pub async fn run(
    config: Config,
    store: Arc<dyn Store>,
    listeners: Listeners,
    clock: Clock,
    ready: impl FnOnce() + Send,
    signals: impl Into<Signals>,
) -> Result<(), RunError> {
    let Signals { shutdown, reload } = signals.into();
    schema::open(&store, &upgrade()).await?;
    let store = match config.store {
        // Nobody else opens it.
        StoreAddress::Sled(_) => store,
        StoreAddress::Etcd { .. } => schema::hold(store).await?,
    };
    let telemetry = Telemetry::new()?;
    let store: Arc<dyn Store> = Measured::new(store, telemetry.clone());
    let keks = KeyEncryptionKeys::load(config.kek.clone()).await?;
    secret::adopt(&store, &keks, SEALED, clock.now()).await?;
    let (sealing, follow_sealing) = SealingKeys::load(&store, keks.clone(), &brokers::host_name()).await?;
    // Whoever cannot open the store changes nothing in it, and is nobody's company.
    let audit = Audit::open(&store, &config.audit, &brokers::host_name(), clock.clone()).await?;
    audit.note(Event::new(Kind::BrokerStarted).object(env!("CARGO_PKG_VERSION")));
    let (settings, changed, follow_settings) =
        config::agree(&store, &config.named, &brokers::host_name(), clock.clone()).await?;
    if let Some(changes) = changed {
        audit.note(Event::new(Kind::SettingsChanged).detail(changes));
    }
    let (federation, kept) = (settings.federation(), settings.clone());
    let kept = Current::of(move || kept.longest_sealed());
    let turn =
        TurnFoundations { store: store.clone(), sealing: sealing.clone(), keks: keks.clone(), tables: SEALED, kept };
    let key_turn = KeyTurn::new(turn);
    let (keys, keep_keys_fresh) = KeySet::open(store.clone(), sealing.clone()).await?;
    let (authority, follow_authority) =
        Authority::open(&store, &sealing, &federation.trust_domain, federation.agent_host(), clock.clone()).await?;
    let subjects = SubjectKey::load(&store, &sealing).await?;
    let (registry, keep_registry_fresh) = Registry::open_with_console(store.clone(), &federation.issuer).await?;
    let (brokers, stay) = meet(&config, &store, about(&listeners, &keks, clock.now())).await?;
    let (liveness, keep_reports) = Liveness::open(store.clone(), brokers.clone()).await?;
    let lifetimes = settings.lifetimes();
    let of_enrolment = Settings {
        agent_url: federation.agent_url.to_string(),
        certificate_lifetime: Current::of(move || lifetimes.now().instance_certificate),
    };
    let foundations = Foundations {
        store: store.clone(),
        registry: registry.clone(),
        liveness: liveness.clone(),
        authority: authority.clone(),
        sealing: sealing.clone(),
        audit: audit.clone(),
    };
    let enrolment = Enrolment::new(foundations.clone(), of_enrolment);
    let (policy, of_tokens) = (settings.rotation(), settings.clone());
    let key_set_max_age = settings.key_set_max_age();
    let of_rotations = move || rotation::Settings { policy: policy.now(), longest_token: of_tokens.longest_token() };
    let (rotations, next_change) = Rotations::new(foundations, Current::of(of_rotations));
    let window = rotations.clone();
    let pace =
        Pace { key_set_max_age: key_set_max_age.clone(), renewal_window: Box::new(move || window.renewal_window()) };
    let (shared, keep_shared_fresh) = SharedState::follow(keys.changes(), authority.changes(), pace);
    let terms = Terms {
        issuer: federation.issuer.clone(),
        sealing: sealing.clone(),
        brokers: brokers.clone(),
        store: store.clone(),
    };
    let (fleet, wake_agents) = Fleet::open(registry.clone(), liveness.clone(), terms, shared, clock.clone());
    let (issuer, lifetime) = (federation.issuer.clone(), federation.lifetimes.login);
    let terms = LoginTerms { subjects: subjects.clone(), issuer, lifetime, audit: audit.clone() };
    let login = Login::new(store.clone(), sealing.clone(), registry.clone(), liveness.clone(), terms);
    let outbound = outbound::Settings {
        issuer: federation.issuer.clone(),
        private_networks: federation.private_networks.clone(),
        roots: outbound::roots("outbound.ca_file", config.outbound_ca_file.as_deref())?,
    };
    let outbound = Outbound::new(outbound, registry.clone(), clock.clone())?;
    let certificate = config.https.as_ref().map(|https| &https.certificate);
    let to_ca = outbound::Settings {
        issuer: federation.issuer.clone(),
        private_networks: federation.private_networks,
        roots: tls::roots_of(certificate)?,
    };
    let asking = AcmeFoundations {
        store: store.clone(),
        sealing: sealing.clone(),
        outbound: Outbound::new(to_ca, registry.clone(), clock.clone())?,
        on_duty: brokers.duty(),
        audit: audit.clone(),
        clock: clock.clone(),
    };
    let (public_tls, follow_certificate) = PublicTls::open(certificate, &federation.issuer, asking).await?;
    let upstreams = Upstreams::new(sealing.clone(), registry.clone(), outbound.clone(), federation.issuer.clone());
    let sessions = Sessions::new(store.clone(), settings.lifetimes(), audit.clone());
    let delivery = DeliveryFoundations {
        registry: registry.clone(),
        signer: TokenSigner::new(keys.clone(), liveness.clone()),
        issuer: federation.issuer.clone(),
        outbound: outbound.clone(),
        clock: clock.clone(),
        on_duty: brokers.duty(),
    };
    let delivery = Delivery::new(sessions.outbox().clone(), delivery);
    let (homes, on_duty) = (registry.clone(), brokers.duty());
    let end_orphans = sessions::follow_cut_off_homes(sessions.clone(), homes, clock.clone(), on_duty);
    let answering = oidc::Foundations {
        store: store.clone(),
        sealing: sealing.clone(),
        outbound,
        registry: registry.clone(),
        liveness: liveness.clone(),
        keys: keys.clone(),
        agent_url: federation.agent_url.clone(),
        publication: Publication { max_age: key_set_max_age, next_change },
        subjects: subjects.clone(),
        sessions: sessions.clone(),
        upstreams: upstreams.clone(),
        audit: audit.clone(),
        clock: clock.clone(),
    };
    let provider = Provider::new(answering, login.clone(), federation.issuer.clone(), settings.lifetimes());
    let provider = Arc::new(provider);
    let grants = provider.grants().clone();
    let console = Console::new(store.clone(), audit.clone());
    // Nobody stands before the agents' port: whoever names another address there is not believed.
    let unproxied = Boundary::new(&federation.issuer, TrustedProxies::new(Vec::new())).audited(audit.clone());
    let unproxied = unproxied.measured(telemetry.clone());
    let endpoints = oidc::router_for_certificates(provider.clone(), unproxied);
    let proxies = config.trusted_proxies.clone();
    let boundary = Boundary::new(&federation.issuer, config.trusted_proxies).measured(telemetry.clone());
    // Strangers are told that there is something, and ops what it is.
    let for_all = remarks(&settings, &keys);
    let (for_ops, certificate, of_tls) = (for_all.clone(), public_tls.clone(), public_tls.clone());
    let remark = Current::of(move || joined([for_ops.now(), of_tls.remark()]));
    let public_remark = Current::of(move || joined([for_all.now(), certificate.public_remark()]));
    let readiness = Readiness::new(store.clone(), audit.clone(), web::identity(&authority, &clock), public_remark);
    let sent_on = web::redirect(&federation.issuer, boundary.clone());
    let health = web::router(readiness.clone(), boundary.clone());
    let services = grpc::Services {
        store: store.clone(),
        enrolment: Arc::new(enrolment),
        authority: authority.clone(),
        fleet,
        login,
        probes: Probes::new(store.clone()),
        registry: registry.clone(),
        rotations: rotations.clone(),
        key_turn: key_turn.clone(),
        sessions: sessions.clone(),
        grants,
        upstreams: upstreams.clone(),
        subjects,
        brokers: brokers.clone(),
        settings: settings.clone(),
        tls: public_tls.clone(),
        audit: audit.clone(),
        console: console.clone(),
        telemetry,
        issuer: federation.issuer.clone(),
        clock: clock.clone(),
    };
    let pages = oidc::router(provider.clone(), boundary.clone().audited(audit.clone())).merge(health);
    let way_in = web::console::Foundations {
        console,
        sessions: sessions.clone(),
        grants: provider.grants().clone(),
        registry: registry.clone(),
        issuer: federation.issuer.clone(),
        clock: clock.clone(),
    };
    let pages = pages.merge(web::console::router(way_in, grpc::Desk::new(&services), boundary.audited(audit.clone())));
    let sources = Sources { stand_on: services.clone(), keys, readiness };
    let tls = authority.tls()?;
    let reloading = Reload {
        store: store.clone(),
        settings: settings.clone(),
        tls: public_tls.clone(),
        audit: audit.clone(),
        host: brokers::host_name(),
    };
    // Boxed: many loops make a large future.
    let background = Box::pin(async {
        tokio::join!(
            follow_sealing,
            follow_settings,
            settings.on_change(|_| brokers.set_remark(remark.now())),
            public_tls.on_change(|_| brokers.set_remark(remark.now())),
            follow_certificate,
            reloading.follow(reload),
            key_turn.forget_retired(clock.clone()),
            keep_registry_fresh,
            keep_reports,
            keep_keys_fresh,
            follow_authority,
            keep_shared_fresh,
            wake_agents,
            rotations.run(clock.clone(), brokers.duty()),
            delivery.run(),
            end_orphans,
            upstreams.keep_fresh(clock.clone()),
            expiry::run(store.clone(), EXPIRING, clock, brokers.duty()),
            stay,
            hand_over(&brokers, &shutdown)
        );
    });
    let serve = async {
        let agents = grpc::serve_agents(listeners.grpc, tls, endpoints, services.clone(), shutdown.clone());
        let ops = grpc::serve_admin(listeners.admin, services.clone(), shutdown.clone());
        let browsers = async {
            let watched = metrics::serve(listeners.metrics, sources, shutdown.clone());
            let terms = (proxies, services.telemetry.limits().connections.clone());
            let public = listeners.public.serve(pages, sent_on, public_tls.clone(), terms, shutdown.clone());
            tokio::join!(public, watched);
            Ok(())
        };
        tokio::try_join!(agents, ops, browsers).map_err(RunError::Grpc)
    };
    info!(issuer = %federation.issuer, trust_domain = %federation.trust_domain, "the broker is running");
    ready();
    let ended = tokio::select! {
        served = serve => served.map(drop),
        () = background => Ok(()),
        gone = schema::gone(store.clone()) => {
            error!(reason = %gone, "this broker may not use its store any more: it stops");
            Err(gone.into())
        }
    };
    // The agents were let go in the meantime: the other brokers, or the next one, are to know when they were last seen.
    let saved = liveness.save().await;
    brokers.leave().await;
    audit.note(Event::new(Kind::BrokerStopped));
    audit.close().await;
    ended?;
    Ok(saved?)
}

/// What is not as it should be with the settings and the signing keys.
fn remarks(settings: &InForce, keys: &KeySet) -> Current<Option<String>> {
    let (settings, keys) = (settings.clone(), keys.clone());
    Current::of(move || joined([settings.restart_needed(), keys.remark()]))
}

fn joined(remarks: [Option<String>; 2]) -> Option<String> {
    remarks.into_iter().flatten().reduce(|a, b| format!("{a}; {b}"))
}

/// Joins the other brokers of the store, if there can be any.
async fn meet(
    config: &Config,
    store: &Arc<dyn Store>,
    own: StoredBroker,
) -> Result<(Brokers, Pin<Box<dyn Future<Output = ()> + Send>>), StoreError> {
    match config.store {
        StoreAddress::Sled(_) => Ok((Brokers::alone(own), Box::pin(std::future::ready(())))),
        StoreAddress::Etcd { .. } => {
            let (brokers, stay) = Brokers::join(store.clone(), own, brokers::Pace::USUAL).await?;
            Ok((brokers, Box::pin(stay)))
        }
    }
}

/// What this broker says of itself.
fn about(listeners: &Listeners, keks: &KeyEncryptionKeys, now: Timestamp) -> StoredBroker {
    let at = |listener: &TcpListener| listener.local_addr().map_or_else(|_| String::new(), |at| at.to_string());
    let mut own = StoredBroker::new(&brokers::host_name(), now);
    own.addresses = (listeners.public.addresses(), at(&listeners.grpc));
    own.keys = (keks.current.id().to_string(), keks.previous.as_ref().map(|kek| kek.id().to_string()));
    own
}

/// Gives the duty to another broker as soon as this one is to stop, and not only when all in flight is done.
async fn hand_over(brokers: &Brokers, shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    brokers.give_up_duty().await;
}

/// What brings an older store to this program's version. Version 2 has the federation's settings, which every start writes,
/// and this record. Version 3 has edges that lack a consent, and links of users: an older broker would let users in by the
/// ones, and write records back without what it does not know of the others.
fn upgrade() -> [Step<'static>; 2] {
    [2, 3].map(|to| Step::new(to, |_| Box::pin(async { Ok(StepPage::default()) })))
}

/// Why a broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store is not one that this program may open.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The brokers do not agree on what the federation is.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A metric.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The keys that seal, or the key-encryption key.
    #[error(transparent)]
    Sealing(#[from] SealingKeyError),
    /// The audit.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The signing keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The CA.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// The subject key.
    #[error(transparent)]
    SubjectKey(#[from] SubjectKeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A gRPC listener.
    #[error("a listener failed")]
    Grpc(#[source] tonic::transport::Error),
    /// The CAs of applications.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// TLS to applications.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// TLS of the public address.
    #[error(transparent)]
    PublicTls(#[from] TlsError),
}
