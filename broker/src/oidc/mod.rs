//! The OpenID Provider: one file an endpoint, and the HTTP attack surface.
//!
//! | address | where |
//! |---|---|
//! | `/par` | `authorization/par.rs`: a request comes before its browser |
//! | `/authorize` | `request` reads it, `authorization` goes on with it |
//! | `/login/home` | `authorization/choice.rs`: the user chose a home |
//! | `/upstream/…/callback` | `authorization/provider.rs`: the browser comes back from an identity provider |
//! | `/upstream/…/setup` | `setup.rs`: what to paste where, to make a home of one |
//! | `/login/return` | `authorization/comeback.rs`: the browser comes back from the home |
//! | `/login/consent` | `authorization/consent.rs`: the user is asked what may be released |
//! | `/token` | `client_auth` finds out who asks, `token` answers |
//! | `/introspect`, `/revoke` | `token/introspect.rs`, `token/revoke.rs`: tokens that come back |
//! | `/userinfo` | `userinfo.rs` |
//! | `/device_authorization`, `/device` | `device`: the device's side, and its user's |
//! | `/logout` | `logout`: the end of a session at the user's wish |
//! | `/account` | `account`: where the user is signed in, and the end of that |
//! | `/account/link` | `account/linking.rs`: two homes of a user are linked |
//! | `/register` | `registration`: clients register, and look after themselves |
//! | `/jwks`, `/.well-known/openid-configuration`, `/.well-known/oauth-authorization-server` | `discovery`: documents |
//!
//! Handlers decode, call one method of [`Provider`] and encode. `error.rs` alone decides what strangers see.

mod account;
mod authorization;
mod client_auth;
mod device;
mod discovery;
mod dpop;
mod error;
mod logout;
mod parameters;
mod registration;
mod request;
mod response;
mod setup;
mod token;
mod userinfo;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::map_response;
use axum::routing::{get, post};
use url::Url;

use crate::audit::Audit;
use crate::clock::Clock;
use crate::config::{Current, Issuer, Lifetimes};
use crate::grants::{Devices, GrantFoundations, Grants, Probes};
use crate::keys::KeySet;
use crate::login::{Consents, Login, PushedRequests, RETURN_PATH};
use crate::oidc::authorization::ArrivalLimits;
use crate::oidc::client_auth::Throttle;
use crate::oidc::device::DeviceLimits;
use crate::oidc::discovery::{Document, PublishedKeys};
use crate::oidc::dpop::Replays;
use crate::oidc::request::{HintVerifier, SeenChallenges};
use crate::outbound::{ClientKeySets, Outbound};
use crate::registry::{Liveness, Registry, SubjectKey, TokenSigner};
use crate::secret::SealingKeys;
use crate::sessions::Sessions;
use crate::storage::Store;
use crate::storage::table::Table;
use crate::upstream::Upstreams;
use crate::web::{Boundary, Problem, in_any_window};

pub use account::finish_unlinking;
pub use client_auth::{PeerCertificate, UsedAssertion};
pub use discovery::Publication;

/// Where things are, below the issuer.
mod path {
    pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";
    pub(super) const OAUTH_DISCOVERY: &str = "/.well-known/oauth-authorization-server";
    pub(super) const JWKS: &str = "/jwks";
    pub(super) const AUTHORIZE: &str = "/authorize";
    pub(super) const CHOOSE_HOME: &str = "/login/home";
    pub(super) const CONSENT: &str = "/login/consent";
    pub(super) const PAR: &str = "/par";
    pub(super) const TOKEN: &str = "/token";
    pub(super) const USERINFO: &str = "/userinfo";
    pub(super) const INTROSPECT: &str = "/introspect";
    pub(super) const REVOKE: &str = "/revoke";
    pub(super) const LOGOUT: &str = "/logout";
    pub(super) const DEVICE_AUTHORIZATION: &str = "/device_authorization";
    pub(super) const DEVICE: &str = "/device";
    pub(super) const DEVICE_CONNECTED: &str = "/device/connected";
    pub(super) const DEVICE_REFUSED: &str = "/device/refused";
    pub(super) const LOGOUT_CONFIRMED: &str = "/logout/confirmed";
    pub(super) const ACCOUNT: &str = "/account";
    pub(super) const LINK: &str = "/account/link";
    pub(super) const UPSTREAM_CALLBACK: &str = "/upstream/{name}/callback";
    pub(super) const UPSTREAM_SETUP: &str = "/upstream/{name}/setup";
    pub(super) const REGISTER: &str = "/register";
    pub(super) const REGISTERED: &str = "/register/{client_id}";
}

/// What the endpoints stand on.
pub struct Foundations {
    /// Where everything is written.
    pub store: Arc<dyn Store>,
    /// Who is who.
    pub registry: Registry,
    /// What the agents have acknowledged.
    pub liveness: Liveness,
    /// Seals codes and tokens, and the secrets of clients.
    pub sealing: Arc<SealingKeys>,
    /// What tokens are signed with.
    pub keys: KeySet,
    /// How applications are asked for what they publish.
    pub outbound: Outbound,
    /// How the keys are published.
    pub publication: Publication,
    /// Where clients show certificates: the agents' port.
    pub agent_url: Url,
    /// What subjects are made with.
    pub subjects: SubjectKey,
    /// Who is signed in.
    pub sessions: Sessions,
    /// Homes without agent.
    pub upstreams: Upstreams,
    /// Where decisions are noted.
    pub audit: Audit,
    /// The time.
    pub clock: Clock,
}

/// The OpenID Provider.
pub struct Provider {
    store: Arc<dyn Store>,
    registry: Registry,
    sealing: Arc<SealingKeys>,
    outbound: Outbound,
    client_keys: ClientKeySets,
    subjects: SubjectKey,
    audit: Audit,
    clock: Clock,
    issuer: Issuer,
    login: Login,
    login_lifetime: Duration,
    pushed: PushedRequests,
    consents: Consents,
    sessions: Sessions,
    upstreams: Upstreams,
    grants: Grants,
    devices: Devices,
    device_limits: DeviceLimits,
    arrival_limits: ArrivalLimits,
    signer: TokenSigner,
    /// Where the agents' port is: clients call some endpoints there too (RFC 8705 5).
    agents_origin: String,
    probes: Probes,
    used_assertions: Table<UsedAssertion>,
    throttle: Throttle,
    replays: Replays,
    hints: HintVerifier,
    challenges: SeenChallenges,
    discovery: Document,
    published_keys: PublishedKeys,
}

impl Provider {
    /// Puts it together. The login flow comes from outside: homes use it too.
    pub fn new(
        foundations: Foundations,
        login: Login,
        issuer: Issuer,
        lifetimes: impl Into<Current<Lifetimes>>,
    ) -> Self {
        let lifetimes = lifetimes.into();
        let login_lifetime = lifetimes.now().login;
        let Foundations {
            store,
            registry,
            liveness,
            sealing,
            keys,
            outbound,
            publication,
            agent_url,
            subjects,
            sessions,
            upstreams,
            audit,
            clock,
        } = foundations;
        let signer = TokenSigner::new(keys.clone(), liveness);
        let grants = GrantFoundations {
            store: store.clone(),
            sealing: sealing.clone(),
            signer: signer.clone(),
            subjects: subjects.clone(),
            audit: audit.clone(),
        };
        let grants = Grants::new(grants, issuer.clone(), lifetimes);
        Self {
            pushed: PushedRequests::new(store.clone(), login_lifetime),
            consents: Consents::new(store.clone()),
            hints: HintVerifier::new(keys.clone(), issuer.clone()),
            challenges: SeenChallenges::default(),
            discovery: discovery::document(&issuer, &agent_url),
            published_keys: PublishedKeys::new(keys, publication),
            devices: Devices::new(store.clone(), grants.clone()),
            device_limits: DeviceLimits::new(),
            arrival_limits: ArrivalLimits::new(),
            grants,
            signer,
            agents_origin: agent_url.origin().ascii_serialization(),
            probes: Probes::new(store.clone()),
            used_assertions: Table::new(store.clone()),
            throttle: Throttle::default(),
            replays: Replays::default(),
            login_lifetime,
            store,
            registry,
            sealing,
            client_keys: ClientKeySets::new(outbound.clone()),
            outbound,
            subjects,
            sessions,
            upstreams,
            audit,
            clock,
            issuer,
            login,
        }
    }
}

impl Provider {
    /// What it grants, for whoever ends that by other ways.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }
}

/// All endpoints.
pub fn router(provider: Arc<Provider>, boundary: Boundary) -> Router {
    let documents = Router::new()
        .route(path::DISCOVERY, get(discovery::get))
        .route(path::OAUTH_DISCOVERY, get(discovery::get))
        .route(path::JWKS, get(discovery::jwks::get))
        .with_state(provider.clone())
        .method_not_allowed_fallback(async || Problem::METHOD);
    let router = endpoints_for_clients()
        .merge(pages_of_a_login())
        .route(path::UPSTREAM_SETUP, get(setup::get))
        .route(path::DEVICE, get(device::get).post(device::post))
        .route(path::DEVICE_CONNECTED, get(device::connected))
        .route(path::DEVICE_REFUSED, get(device::refused))
        .route(path::LOGOUT, get(logout::get).post(logout::post).head(no_head))
        .route(path::LOGOUT_CONFIRMED, post(logout::confirmed))
        .route(path::ACCOUNT, get(account::get).post(account::post))
        .route(path::LINK, get(account::linking::get).post(account::linking::post))
        .route(path::REGISTER, post(registration::post))
        .route(path::REGISTERED, get(registration::get).put(registration::put).delete(registration::delete))
        .with_state(provider)
        .method_not_allowed_fallback(async || Problem::METHOD);
    boundary.clone().unaudited().around(documents).merge(boundary.around(router))
}

/// What clients may call with a certificate too, on the agents' port (RFC 8705 5): no page is there.
pub fn router_for_certificates(provider: Arc<Provider>, boundary: Boundary) -> Router {
    let router = endpoints_for_clients()
        .with_state(provider)
        .method_not_allowed_fallback(async || Problem::METHOD)
        .fallback(async || Problem::NOT_FOUND);
    boundary.around(router)
}

/// Where the browser of a user is on the way from a relying party to the code.
fn pages_of_a_login() -> Router<Arc<Provider>> {
    Router::new()
        .route(path::AUTHORIZE, get(authorization::authorize::get).head(no_head).post(authorization::authorize::post))
        .route(path::CHOOSE_HOME, post(authorization::choice::post))
        .route(RETURN_PATH, get(authorization::comeback::get).head(no_head))
        .route(path::CONSENT, get(authorization::consent::get).head(no_head).post(authorization::consent::post))
        .route(
            path::UPSTREAM_CALLBACK,
            get(authorization::provider::get).head(no_head).post(authorization::provider::post),
        )
        .layer(map_response(in_any_window))
}

/// Where clients speak for themselves, without a browser.
fn endpoints_for_clients() -> Router<Arc<Provider>> {
    Router::new()
        .route(path::PAR, post(authorization::par::post))
        .route(path::TOKEN, post(token::post))
        .route(path::INTROSPECT, post(token::introspect::post))
        .route(path::REVOKE, post(token::revoke::post))
        .route(path::USERINFO, get(userinfo::serve).post(userinfo::serve))
        .route(path::DEVICE_AUTHORIZATION, post(device::authorization::post))
}

/// HEAD where GET does something: a link that is only looked at must not use up a handle or begin a login.
async fn no_head() -> Problem {
    Problem::METHOD
}
