//! GET /metrics: what was counted, and what is so at this moment, in the text format of Prometheus.
//!
//! It has a listener of its own, for whoever watches: it names instances, and asks nobody who he is. What is only looked at
//! is looked at here, so that nobody pays for it who is not watched. One picture at a time: whoever asks meanwhile waits.

mod instances;
mod turning;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use homeward_certs::identity::InstanceName;
use homeward_telemetry::metrics::{CONTENT_TYPE, Picture, number};
use homeward_telemetry::process;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::audit::{Kind, Outcome};
use crate::clock::Timestamp;
use crate::grpc::Services;
use crate::keys::KeySet;
use crate::storage::StoreError;
use crate::telemetry::definitions;
use crate::web::{self, Readiness};

/// So many logouts on their way are counted.
const MOST_LOGOUTS: usize = 10_000;

/// How long each thing that the store knows is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What alerts wait for that is never done, but refused: with the reason that it has.
const ALERTED: [(Kind, Outcome, &str); 1] = [(Kind::TokenReplayed, Outcome::Refused, "invalid_grant")];

/// What is looked at.
#[derive(Clone)]
pub struct Sources {
    /// As for agents and ops.
    pub stand_on: Services,
    /// The signing keys.
    pub keys: KeySet,
    /// Whether logins can work.
    pub readiness: Arc<Readiness>,
}

/// One look at a time.
struct Watched {
    sources: Sources,
    turn: Mutex<()>,
}

/// Serves until `shutdown`, if there is a listener; else there is nothing to do.
pub async fn serve(listener: Option<TcpListener>, sources: Sources, shutdown: CancellationToken) {
    let Some(listener) = listener else { return };
    let watched = Arc::new(Watched { sources, turn: Mutex::default() });
    let router = Router::new().route("/metrics", get(metrics)).with_state(watched);
    web::listener::serve(listener, router, shutdown).await;
}

async fn metrics(State(watched): State<Arc<Watched>>) -> Response {
    let _turn = watched.turn.lock().await;
    match watched.sources.picture().await.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            error!(%error, "no metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Sources {
    /// What the store does not tell now is left out; that it does not is told.
    async fn picture(&self) -> Picture {
        let mut picture = Picture::default();
        process::look(&mut picture);
        picture.each(&definitions::BUILD, [([env!("CARGO_PKG_VERSION")], 1.0)]);
        // Whoever watches waits for ten seconds, as a rule: he is to hear of a store that is away, and not to miss it, too.
        let ready = tokio::time::timeout(PATIENCE, self.readiness.is_ready()).await.unwrap_or(false);
        picture.whether(&definitions::READY, ready);
        self.stand_on.telemetry.tell(&mut picture);
        self.decided(&mut picture);
        self.limited(&mut picture);
        self.of_brokers(&mut picture);
        instances::look(self, &mut picture);
        turning::look(self, &mut picture);
        let tries = self.stand_on.sessions.outbox().tries().counts().into_iter();
        picture.each(&definitions::LOGOUT_TRIES, tries.map(|(outcome, count)| ([outcome], number(count))));
        let turning = ready && in_time("what turns", turning::rotations(self, &mut picture)).await;
        let logouts = ready && in_time("logouts on their way", self.logouts(&mut picture)).await;
        picture.whether(&definitions::INCOMPLETE, !(turning && logouts));
        picture
    }

    fn decided(&self, picture: &mut Picture) {
        let snapshot = self.stand_on.registry.snapshot();
        let known = |name: &_| {
            snapshot.instance(name).is_some()
                || snapshot.registration(name).is_some()
                || snapshot.upstream(name).is_some()
        };
        let mut counts = self.stand_on.audit.tally().counts(known);
        // What never happened is told as zero: an alert on the first one needs something to compare it with.
        for (kind, outcome, reason) in Kind::ALL.map(|kind| (kind, Outcome::Done, "")).into_iter().chain(ALERTED) {
            counts.events.entry((kind, outcome, Cow::Borrowed(reason))).or_default();
        }
        let events = counts.events.into_iter().map(|((kind, outcome, reason), count)| {
            ([kind.to_string(), outcome.to_string(), reason.into_owned()], number(count))
        });
        picture.each(&definitions::EVENTS, events);
        let named = |counts: HashMap<(InstanceName, Outcome), u64>| {
            counts.into_iter().map(|((name, outcome), count)| ([name.to_string(), outcome.to_string()], number(count)))
        };
        picture.each(&definitions::LOGINS, named(counts.logins));
        picture.each(&definitions::ANSWERS, named(counts.answers));
        picture.one(&definitions::AUDIT_WAITING, number(self.stand_on.audit.waiting() as u64));
        picture.whether(&definitions::AUDIT_FAILING, self.stand_on.audit.problem().is_some());
    }

    fn limited(&self, picture: &mut Picture) {
        let connections = self.stand_on.telemetry.limits();
        let limits = [
            ("connections", connections.connections.times()),
            ("agent_handshakes", connections.handshakes.times()),
            ("agent_strangers", connections.strangers.times()),
            ("agent_connections", connections.instances.times()),
            ("audit_records", self.stand_on.audit.left_out()),
            ("sessions", self.stand_on.sessions.crowded_out()),
            ("grants", self.stand_on.grants.crowded_out()),
        ];
        picture.each(&definitions::LIMITED, limits.map(|(limit, times)| ([limit], number(times))));
    }

    fn of_brokers(&self, picture: &mut Picture) {
        picture.one(&definitions::BROKERS, number(self.stand_on.brokers.all().len() as u64));
        picture.whether(&definitions::ON_DUTY, *self.stand_on.brokers.duty().borrow());
    }

    async fn logouts(&self, picture: &mut Picture) -> Result<(), StoreError> {
        let waiting = self.stand_on.sessions.outbox().waiting(MOST_LOGOUTS).await?;
        picture.one(&definitions::LOGOUTS_WAITING, number(waiting as u64));
        Ok(())
    }
}

/// Whether it could be told. Whoever watches does not wait for long, and ops are to know what he did not see.
async fn in_time<E: Display>(what: &str, told: impl Future<Output = Result<(), E>>) -> bool {
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error!(%error, "{what}: left out of the metrics"),
        Err(_) => error!("{what}: left out of the metrics, the store takes longer than {} s", PATIENCE.as_secs()),
    }
    false
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact for 285 million years")]
fn moment(at: Timestamp) -> f64 {
    at.as_secs() as f64
}
