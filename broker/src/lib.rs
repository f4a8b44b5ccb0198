//! Homeward's broker: the one OpenID Provider, trust registry and certificate authority of a federation.
//!
//! Rings, dependencies inwards only (held by a test):
//!
//! | ring | modules |
//! |---|---|
//! | surfaces | [`oidc`] and [`web`] over HTTP, [`grpc`] for agents and ops, [`cli`] |
//! | flows | [`enrolment`], [`login`], [`grants`], [`sessions`], [`fleet`], [`rotation`], [`upstream`]: none calls another |
//! | ground | [`registry`], [`keys`], [`authority`], [`outbound`], and what several flows stand on, as [`foundations`] |
//! | core | [`storage`], [`secret`], [`clock`], [`rate_limit`], and [`config`] |
//!
//! [`run`] is the only place where parts are put together.

pub mod authority;
pub mod cli;
pub mod clock;
pub mod config;
pub mod enrolment;
pub mod fleet;
pub mod foundations;
pub mod grants;
pub mod grpc;
pub mod keys;
pub mod login;
pub mod oidc;
pub mod outbound;
pub mod rate_limit;
pub mod registry;
pub mod rotation;
pub mod secret;
pub mod sessions;
pub mod storage;
pub mod upstream;
pub mod web;

use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tracing::info;

use authority::{Authority, CaError};
use clock::Clock;
use config::{Config, TrustedProxies};
use enrolment::{Enrolment, Settings, StoredJoinToken};
use fleet::{Fleet, Pace, SharedState, Terms};
use foundations::Foundations;
use grants::{DeviceRequest, EnteredCode, GrantOfUser, InstanceProbes, Probes, RevokedToken, StoredGrant};
use keys::{KeyError, KeySet, StoredKey};
use login::{ClaimedTicket, Login, LoginRecord, LoginTerms, PushedRequest};
use oidc::{Provider, Publication, UsedAssertion};
use outbound::{CaFileError, Outbound};
use registry::{
    Instance, KnownName, Liveness, RegisteredClient, Registry, SubjectKey, SubjectKeyError, TokenSigner, Upstream,
};
use rotation::{Rotations, StoredRotation};
use secret::{KeyEncryptionKeys, KeyTurn, SealedTable, SealingKeyError, SealingKeys, TurnFoundations};
use sessions::{Delivery, DeliveryFoundations, Session, SessionOfUser, Sessions, StoredLogout};
use storage::table::Record;
use storage::{Store, StoreError, expiry};
use upstream::Upstreams;
use web::Boundary;

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
];

/// The sockets of a broker, bound already.
#[derive(Debug)]
pub struct Listeners {
    /// Browsers and applications.
    pub http: TcpListener,
    /// Agents.
    pub grpc: TcpListener,
    /// Ops.
    pub admin: UnixListener,
}

/// Runs a broker until `shutdown`; calls `ready` when it can be used.
///
/// # Errors
/// When it cannot start, or a listener fails as a whole.
pub async fn run(
    config: Config,
    store: Arc<dyn Store>,
    listeners: Listeners,
    clock: Clock,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let keks = KeyEncryptionKeys::load(config.kek.clone()).await?;
    secret::adopt(&store, &keks, SEALED, clock.now()).await?;
    let (sealing, follow_sealing) = SealingKeys::load(&store, keks.clone()).await?;
    let kept = config.lifetimes.longest_sealed();
    let turn = TurnFoundations { store: store.clone(), sealing: sealing.clone(), keks, tables: SEALED, kept };
    let key_turn = KeyTurn::new(turn);
    let (keys, keep_keys_fresh) = KeySet::open(store.clone(), sealing.clone()).await?;
    let (authority, follow_authority) =
        Authority::open(&store, &sealing, &config.trust_domain, config.agent_host(), clock.clone()).await?;
    let subjects = SubjectKey::load(&store, &sealing).await?;
    let (registry, keep_registry_fresh) = Registry::open(store.clone()).await?;
    let (liveness, keep_reports) = Liveness::open(store.clone()).await?;
    let settings = Settings {
        agent_url: config.agent_url.to_string(),
        certificate_lifetime: config.lifetimes.instance_certificate,
    };
    let foundations = Foundations {
        store: store.clone(),
        registry: registry.clone(),
        liveness: liveness.clone(),
        authority: authority.clone(),
        sealing: sealing.clone(),
    };
    let enrolment = Enrolment::new(foundations.clone(), settings);
    let longest_token = config.lifetimes.longest_token();
    let (rotations, next_change) =
        Rotations::new(foundations, rotation::Settings { policy: config.rotation, longest_token });
    let window = rotations.clone();
    let pace = Pace {
        key_set_max_age: config.rotation.key_set_max_age,
        renewal_window: Box::new(move || window.renewal_window()),
    };
    let (shared, keep_shared_fresh) = SharedState::follow(keys.changes(), authority.changes(), pace);
    let terms = Terms { issuer: config.issuer.clone(), sealing: sealing.clone() };
    let (fleet, wake_agents) = Fleet::open(registry.clone(), liveness.clone(), terms, shared, clock.clone());
    let (issuer, lifetime) = (config.issuer.clone(), config.lifetimes.login);
    let terms = LoginTerms { subjects: subjects.clone(), issuer, lifetime };
    let login = Login::new(store.clone(), sealing.clone(), registry.clone(), liveness.clone(), terms);
    let outbound = outbound::Settings {
        issuer: config.issuer.clone(),
        private_networks: config.outbound.private_networks,
        roots: outbound::roots(config.outbound.ca_file.as_deref())?,
    };
    let outbound = Outbound::new(outbound, registry.clone(), clock.clone())?;
    let upstreams = Upstreams::new(sealing.clone(), registry.clone(), outbound.clone(), config.issuer.clone());
    let sessions = Sessions::new(store.clone(), &config.lifetimes);
    let delivery = DeliveryFoundations {
        registry: registry.clone(),
        signer: TokenSigner::new(keys.clone(), liveness.clone()),
        issuer: config.issuer.clone(),
        outbound: outbound.clone(),
        clock: clock.clone(),
    };
    let delivery = Delivery::new(sessions.outbox().clone(), delivery);
    let end_orphans = sessions::follow_cut_off_homes(sessions.clone(), registry.clone(), clock.clone());
    let answering = oidc::Foundations {
        store: store.clone(),
        sealing: sealing.clone(),
        outbound,
        registry: registry.clone(),
        liveness: liveness.clone(),
        keys,
        agent_url: config.agent_url.clone(),
        publication: Publication { max_age: config.rotation.key_set_max_age, next_change },
        subjects: subjects.clone(),
        sessions: sessions.clone(),
        upstreams: upstreams.clone(),
        clock: clock.clone(),
    };
    let provider = Provider::new(answering, login.clone(), config.issuer.clone(), config.lifetimes);
    let provider = Arc::new(provider);
    let grants = provider.grants().clone();
    // Nobody stands before the agents' port: whoever names another address there is not believed.
    let unproxied = Boundary::new(&config.issuer, TrustedProxies::new(Vec::new()));
    let endpoints = oidc::router_for_certificates(provider.clone(), unproxied);
    let boundary = Boundary::new(&config.issuer, config.trusted_proxies);
    let pages = oidc::router(provider, boundary.clone()).merge(web::router(store.clone(), boundary));
    let services = grpc::Services {
        enrolment: Arc::new(enrolment),
        authority: authority.clone(),
        fleet,
        login,
        probes: Probes::new(store.clone()),
        registry,
        rotations: rotations.clone(),
        key_turn: key_turn.clone(),
        sessions,
        grants,
        upstreams: upstreams.clone(),
        subjects,
        issuer: config.issuer.clone(),
        clock: clock.clone(),
    };
    let tls = authority.tls()?;
    // Boxed: many loops make a large future.
    let background = Box::pin(async {
        tokio::join!(
            follow_sealing,
            key_turn.forget_retired(clock.clone()),
            keep_registry_fresh,
            keep_reports,
            keep_keys_fresh,
            follow_authority,
            keep_shared_fresh,
            wake_agents,
            rotations.run(clock.clone()),
            delivery.run(),
            end_orphans,
            upstreams.keep_fresh(clock.clone()),
            expiry::run(store, EXPIRING, clock)
        );
    });
    let serve = async {
        let agents = grpc::serve_agents(listeners.grpc, tls, endpoints, services.clone(), shutdown.clone());
        let ops = grpc::serve_admin(listeners.admin, services.clone(), shutdown.clone());
        let browsers = async {
            web::listener::serve(listeners.http, pages, shutdown.clone()).await;
            Ok(())
        };
        tokio::try_join!(agents, ops, browsers).map_err(RunError::Grpc)
    };
    info!(issuer = %config.issuer, trust_domain = %config.trust_domain, "the broker is running");
    ready();
    tokio::select! {
        served = serve => served.map(drop)?,
        () = background => {}
    }
    // The agents were let go in the meantime: the next broker is to know when they were last seen.
    Ok(liveness.save().await?)
}

/// Why a broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The keys that seal, or the key-encryption key.
    #[error(transparent)]
    Sealing(#[from] SealingKeyError),
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
}
