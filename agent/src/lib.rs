//! Homeward's agent, beside one application instance.
//!
//! * [`enrolment`]: a join token becomes an [`identity`]; `renewal` keeps it fresh;
//! * `recovery` and [`trust`] bring it back when certificate or CA changed while it slept;
//! * `sync`: one stream to the broker brings what the instance should have ([`resources`]); [`apply`] and `key_set` put it
//!   into effect by a [`recipe`], and only what the application has proved to use is acknowledged;
//! * `gate`: where the application speaks no OpenID Connect, the agent itself is the relying party;
//! * `home`: the portal, where this instance vouches for its own users in logins elsewhere, and notices when they log out;
//! * `session_end`: sessions at the application that the broker orders to end, because their user logged out elsewhere;
//! * `operator_page`: what all of that comes to, for the operator's browser.
//!
//! [`run`] is the only place that wires these together. The agent only dials out; what listens is the portal, on
//! loopback, behind the application's own reverse proxy, and on loopback what the operator wants to look at. With the broker down, all that was applied stays in effect.

pub mod apply;
pub mod cli;
pub mod config;
pub mod connection;
pub mod contact;
pub mod disk;
pub mod enrolment;
pub mod identity;
pub mod parameters;
pub mod recipe;
pub mod refusal;
pub mod resources;
pub mod secret_file;
pub mod trust;

mod answer;
mod application;
mod backoff;
mod child;
mod clock;
mod conversation;
mod database;
mod doctor;
mod gate;
mod health;
mod home;
mod key_set;
mod operator_page;
mod preview;
mod provider;
mod random;
mod reachability;
mod recovery;
mod rehearsal;
mod renewal;
mod session_end;
mod sync;
mod telemetry;
#[cfg(test)]
mod test_authority;
#[cfg(test)]
mod test_broker;
#[cfg(test)]
mod test_provider;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use homeward_telemetry::metrics::MetricError;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::application::{Application, ApplicationError};
use crate::apply::Applier;
use crate::apply::worker;
use crate::config::Config;
use crate::connection::{Broker, DialError};
use crate::contact::Contact;
use crate::disk::{DiskError, PrivateDir};
use crate::gate::Gate;
use crate::gate::client::GateClient;
use crate::gate::ended::EndedSessions;
use crate::health::Health;
use crate::home::accounts::AccountWatch;
use crate::home::directory::{Directory, NoDirectory};
use crate::home::elsewhere::{Elsewhere, NotOpened};
use crate::home::watch::Watch;
use crate::home::{Portal, Watches, http, listener};
use crate::identity::{Identity, IdentityError};
use crate::key_set::{KeySetProver, Means};
use crate::operator_page::{OperatorPage, Seen};
use crate::preview::Preview;
use crate::random::NoRandomness;
use crate::refusal::Dismissal;
use crate::renewal::order::Orders;
use crate::resources::standing::Standing;
use crate::resources::wanted::Wanted;
use crate::session_end::SessionEnder;
use crate::sync::{Ailing, Settling, Sync};
use crate::telemetry::{Telemetry, Watched};

/// The sockets of an agent, bound already.
#[derive(Debug)]
pub struct Listeners {
    /// Browsers, by the application's reverse proxy.
    pub portal: TcpListener,
    /// Whoever watches.
    pub metrics: Option<TcpListener>,
    /// The operator.
    pub operator_page: Option<TcpListener>,
}

/// Reconnects are spread this wide until the broker says how wide.
const DEFAULT_SPREAD: Duration = Duration::from_secs(5);

/// Why the agent does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// No identity.
    #[error("not enrolled: get a join token from ops and run: homeward-agent enrol --token-file FILE")]
    NotEnrolled,
    /// The broker does not want it.
    #[error(transparent)]
    Dismissed(#[from] Dismissal),
    /// Its own files.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its own identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The broker's address or TLS.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The client for the application.
    #[error("{0}")]
    Application(#[source] Box<dyn std::error::Error + Send + std::marker::Sync>),
    /// No randomness for the portal's form tokens.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// The agent's own client of the broker.
    #[error(transparent)]
    GateClient(#[from] gate::client::OpenError),
    /// The gate's keys.
    #[error(transparent)]
    Gate(#[from] gate::GateNotOpened),
    /// Who knows this home's users.
    #[error(transparent)]
    Directory(#[from] NoDirectory),
    /// The application's own provider of logins.
    #[error(transparent)]
    Elsewhere(#[from] NotOpened),
    /// A metric.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The listener of the operator's page.
    #[error("the operator's page cannot be served: {0}")]
    OperatorPage(#[source] std::io::Error),
    /// The portal's listener.
    #[error("the portal cannot serve: {0}")]
    Portal(#[source] std::io::Error),
}

/// Runs the agent that `file` configures until `shutdown`. `usable` is called once it can be used. It ends when nothing is
/// being applied any more.
pub async fn run(
    file: &Path,
    config: &Config,
    listeners: Listeners,
    shutdown: impl Future<Output = ()> + Send + 'static,
    usable: impl FnOnce(),
) -> Result<(), RunError> {
    let telemetry = Telemetry::new()?;
    let data = PrivateDir::open(&config.data_dir)?;
    let _lock = data.lock()?;
    let identity = Arc::new(Identity::load(data.clone())?.ok_or(RunError::NotEnrolled)?);
    let broker = Broker::new(identity.clone())?;
    let application = Application::new(config.app_url.clone(), &config.public_url)?;
    let application = application.with_parameters(config.parameters.clone()).counted(telemetry.clone());
    let standing = Arc::new(Standing::open(data.clone())?.counted(telemetry.clone()));
    let orders = Arc::new(Orders::open(data.clone())?);
    let gate_client = GateClient::open(config, data.clone())?;
    let gate_ended = gate_client.as_ref().map(|_| EndedSessions::open(data.clone())).transpose()?.map(Arc::new);
    let applier = match gate_client.clone() {
        Some(client) => Applier::of_gate(config, client, standing.clone(), broker.clone())?,
        None => Applier::open(config, data.clone(), standing.clone(), application.clone(), broker.clone())?,
    };
    let prover =
        KeySetProver { application: application.clone(), means: Means::of(config), standing: standing.clone() };
    let (wanted, for_credentials) = watch::channel(Wanted::default());
    let at_home = Watch::new(config, application.clone(), broker.clone());
    let ender = SessionEnder::new(config, application.clone(), at_home.clone()).with_gate(gate_ended.clone());
    let (session_ends, orders_to_end) = session_end::queue();
    let directory = Directory::new(config, &application)?.map(Arc::new);
    tokio::spawn(warn_of(directory.clone()));
    let preview = Preview::new(config, application.clone(), directory.clone());
    let (questions, asked) = preview::queue();
    let contact = Contact::open(data.clone());
    let watched = Watched {
        telemetry: telemetry.clone(),
        identity: identity.clone(),
        standing: standing.clone(),
        wanted: for_credentials.clone(),
        connected: contact.connected(),
        health: Health::new(config, application.clone()).into(),
    };
    let seen = Seen {
        identity: identity.clone(),
        orders: orders.clone(),
        standing: standing.clone(),
        wanted: for_credentials.clone(),
        connected: contact.connected(),
        data: data.clone(),
        health: Health::new(config, application.clone()).into(),
    };
    let operator_page = OperatorPage::new(file, config, seen, clock::now())?;
    let sync = Sync {
        settling: Settling { identity: identity.clone(), orders: orders.clone(), standing: standing.clone() },
        ailing: Ailing { data: data.clone(), identity: identity.clone(), broker: broker.clone() },
        contact,
        health: Health::new(config, application.clone()),
        identity: identity.clone(),
        broker: broker.clone(),
        spread: DEFAULT_SPREAD,
        standing,
        wanted,
        session_ends,
        questions,
    };
    let accounts = AccountWatch::open(config, data.clone(), broker.clone(), directory.clone())?;
    let watches = Watches { sessions: at_home.clone(), accounts: accounts.clone() };
    let portal_side = Portal::new(config, &identity, broker.clone(), application, (directory, watches))?;
    let elsewhere = Elsewhere::open(config, &data)?.map(Arc::new);
    let portal_side = portal_side.map(|portal| portal.with_elsewhere(elsewhere.clone()).counted(telemetry.clone()));
    let gate = Gate::open(config, &data, gate_client, gate_ended)?;
    let own_page = reachability::routes(&config.portal, identity.reachability_key());
    let portal_pages = http::router(portal_side, &config.portal.path);
    let health = telemetry::health(identity.clone(), clock::now);
    let pages = gate.map(gate::http::router).unwrap_or_default().merge(own_page).merge(portal_pages);
    let pages = telemetry.around(pages.merge(health));

    tracing::info!(instance = %identity.instance(), "the agent runs");
    let proving = tokio::spawn(prover.run(for_credentials.clone()));
    let applying = tokio::spawn(worker::run(applier, for_credentials));
    let renewing = tokio::spawn(renewal::run(data, identity, broker, orders));
    let ending = tokio::spawn(ender.run(orders_to_end));
    let answering = tokio::spawn(preview.run(asked));
    let watching = tokio::spawn(at_home.run());
    let asking = tokio::spawn(accounts.run());
    if let Some(elsewhere) = elsewhere {
        tokio::spawn(elsewhere.prepare());
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = Box::pin(async move {
        // Nothing is ever sent: whoever drops the other end has it stop.
        let stopped = async move {
            let _ = stopped.await;
        };
        tokio::select! {
            served = listener::serve(listeners.portal, pages, &config.portal.trusted_proxies, stopped) => served.map_err(RunError::Portal),
            Err(error) = telemetry::serve(listeners.metrics, watched) => Err(RunError::Portal(error)),
            Err(error) = operator_page::http::serve(listeners.operator_page, operator_page) => Err(RunError::OperatorPage(error)),
        }
    });
    usable();
    let (ended, serves): (Result<(), RunError>, bool) = tokio::select! {
        dismissal = sync.run() => (Err(dismissal.into()), true),
        () = shutdown => (Ok(()), true),
        served = &mut serving => (served, false),
    };
    // What is being applied is not cut: what it began, it finishes or rolls back. Nor is it left to itself, or it would roll
    // back what the next life of this agent has brought about. Until then browsers, and who watches, find the agent here.
    if !applying.is_finished() {
        tracing::info!("the agent ends as soon as nothing is being applied any more");
    }
    let applied = async move {
        let _ = applying.await;
        drop(stop);
    };
    let ended = if serves {
        let ((), served) = tokio::join!(applied, serving);
        ended.and(served)
    } else {
        applied.await;
        ended
    };
    for task in [renewing, proving, ending, answering, watching, asking] {
        task.abort();
    }
    ended
}

/// A home that cannot judge passwords should not be heard of first from its users.
async fn warn_of(directory: Option<Arc<Directory>>) {
    let Some(directory) = directory else { return };
    if let Err(error) = directory.check().await {
        tracing::warn!(%error, "nobody can log in from here yet; homeward-agent doctor says what to do");
    }
}

impl From<ApplicationError> for RunError {
    fn from(error: ApplicationError) -> Self {
        Self::Application(Box::new(error))
    }
}

impl From<NoRandomness> for RunError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}
