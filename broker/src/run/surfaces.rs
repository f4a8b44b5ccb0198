//! The surfaces: where browsers, applications, agents, ops and whoever watches meet the flows.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::flows::Flows;
use super::ground::Ground;
use super::{Listeners, RunError};
use crate::config::TrustedProxies;
use crate::grants::{Grants, Probes};
use crate::grpc::{self, Services};
use crate::metrics::{self, Sources};
use crate::oidc::{self, Provider, Publication};
use crate::tls::PublicTls;
use crate::web::{self, Boundary, Readiness};

/// So often it is looked for what is left of links that are over. It is dead already; applications have to hear of it.
const UNLINKING_AGAIN: Duration = Duration::from_secs(300);

/// All that is served.
pub(super) struct Surfaces {
    /// Browsers, and applications without a certificate.
    pages: Router,
    /// Browsers that came by plain HTTP.
    sent_on: Router,
    /// Applications with a certificate, at the agents' port.
    endpoints: Router,
    /// Agents and ops.
    services: Services,
    /// Whoever watches.
    sources: Sources,
    /// Of the agents' port.
    tls: ServerConfig,
    /// Of the public address.
    public_tls: PublicTls,
    /// Who stands before the public address.
    proxies: TrustedProxies,
}

impl Surfaces {
    /// Makes them, of a broker behind these proxies. Nothing is served yet. The future is what they do by themselves, and must
    /// be run.
    ///
    /// # Errors
    /// When the CA makes no TLS for the agents' port.
    pub(super) fn new(
        ground: &Ground,
        flows: &Flows,
        proxies: TrustedProxies,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), RunError> {
        let (issuer, audit) = (&ground.federation.issuer, &ground.audit);
        let provider = Arc::new(provider(ground, flows));
        // Nobody stands before the agents' port: whoever names another address there is not believed.
        let unproxied = Boundary::new(issuer, TrustedProxies::new(Vec::new())).audited(audit.clone());
        let unproxied = unproxied.measured(ground.telemetry.clone());
        let endpoints = oidc::router_for_certificates(provider.clone(), unproxied);
        let boundary = Boundary::new(issuer, proxies.clone()).measured(ground.telemetry.clone());
        let identity = web::identity(&ground.authority, &ground.clock);
        let readiness = Readiness::new(ground.store.clone(), audit.clone(), identity, ground.public_remark());
        let sent_on = web::redirect(issuer, boundary.clone());
        let health = web::router(readiness.clone(), boundary.clone());
        let grants = provider.grants().clone();
        let services = services(ground, flows, grants.clone());
        let finish_unlinking = oidc::finish_unlinking(provider.clone(), ground.brokers.duty(), UNLINKING_AGAIN);
        let pages = oidc::router(provider, boundary.clone().audited(audit.clone())).merge(health);
        let way_in = web::console::Foundations {
            console: flows.console.clone(),
            sessions: flows.sessions.clone(),
            grants,
            registry: ground.registry.clone(),
            issuer: issuer.clone(),
            clock: ground.clock.clone(),
        };
        let console = web::console::router(way_in, grpc::Desk::new(&services), boundary.audited(audit.clone()));
        let sources = Sources { stand_on: services.clone(), keys: ground.keys.clone(), readiness };
        let surfaces = Self {
            pages: pages.merge(console),
            sent_on,
            endpoints,
            services,
            sources,
            tls: ground.authority.tls()?,
            public_tls: ground.public_tls.clone(),
            proxies,
        };
        Ok((surfaces, finish_unlinking))
    }

    /// Serves all of them until `shutdown`.
    ///
    /// # Errors
    /// When a listener fails as a whole.
    pub(super) async fn serve(self, listeners: Listeners, shutdown: CancellationToken) -> Result<(), RunError> {
        let agents =
            grpc::serve_agents(listeners.grpc, self.tls, self.endpoints, self.services.clone(), shutdown.clone());
        let ops = grpc::serve_admin(listeners.admin, self.services.clone(), shutdown.clone());
        let browsers = async {
            let watched = metrics::serve(listeners.metrics, self.sources, shutdown.clone());
            let terms = (self.proxies, self.services.telemetry.limits().connections.clone());
            let public = listeners.public.serve(self.pages, self.sent_on, self.public_tls, terms, shutdown.clone());
            tokio::join!(public, watched);
            Ok(())
        };
        tokio::try_join!(agents, ops, browsers).map(drop).map_err(RunError::Grpc)
    }
}

/// The OpenID Provider.
fn provider(ground: &Ground, flows: &Flows) -> Provider {
    let publication =
        Publication { max_age: ground.settings.key_set_max_age(), next_change: flows.next_key_change.clone() };
    let foundations = oidc::Foundations {
        store: ground.store.clone(),
        sealing: ground.sealing.clone(),
        outbound: ground.outbound.clone(),
        registry: ground.registry.clone(),
        liveness: ground.liveness.clone(),
        keys: ground.keys.clone(),
        agent_url: ground.federation.agent_url.clone(),
        publication,
        subjects: ground.subjects.clone(),
        sessions: flows.sessions.clone(),
        upstreams: flows.upstreams.clone(),
        audit: ground.audit.clone(),
        clock: ground.clock.clone(),
    };
    Provider::new(foundations, flows.login.clone(), ground.federation.issuer.clone(), ground.settings.lifetimes())
}

/// What agents and ops are served by.
fn services(ground: &Ground, flows: &Flows, grants: Grants) -> Services {
    Services {
        store: ground.store.clone(),
        enrolment: flows.enrolment.clone(),
        authority: ground.authority.clone(),
        fleet: flows.fleet.clone(),
        login: flows.login.clone(),
        probes: Probes::new(ground.store.clone()),
        registry: ground.registry.clone(),
        rotations: flows.rotations.clone(),
        key_turn: ground.key_turn.clone(),
        sessions: flows.sessions.clone(),
        grants,
        upstreams: flows.upstreams.clone(),
        subjects: ground.subjects.clone(),
        brokers: ground.brokers.clone(),
        settings: ground.settings.clone(),
        tls: ground.public_tls.clone(),
        audit: ground.audit.clone(),
        console: flows.console.clone(),
        telemetry: ground.telemetry.clone(),
        issuer: ground.federation.issuer.clone(),
        clock: ground.clock.clone(),
    }
}
