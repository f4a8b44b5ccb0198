//! GET /metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use homeward_telemetry::metrics::{CONTENT_TYPE, Picture, number};
use homeward_telemetry::process;
use http::{StatusCode, header};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use super::{Telemetry, definitions};
use crate::clock;
use crate::health::Health;
use crate::home::listener::serve as serve_pages;
use crate::identity::Identity;
use crate::resources::standing::Standing;
use crate::resources::wanted::Wanted;

/// What is looked at.
pub(crate) struct Watched {
    /// What was counted.
    pub(crate) telemetry: Telemetry,
    /// Who the instance is.
    pub(crate) identity: Arc<Identity>,
    /// What is in effect.
    pub(crate) standing: Arc<Standing>,
    /// What should be.
    pub(crate) wanted: watch::Receiver<Wanted>,
    /// Whether there is a stream.
    pub(crate) connected: watch::Receiver<bool>,
    /// How the instance is. Asked by one at a time.
    pub(crate) health: Mutex<Health>,
}

/// Serves until nobody waits for it any more, if there is a listener.
pub(crate) async fn serve(listener: Option<TcpListener>, watched: Watched) -> std::io::Result<()> {
    let Some(listener) = listener else { return Ok(()) };
    let readiness = super::health(watched.identity.clone(), clock::now);
    let pages = Router::new().route("/metrics", get(metrics)).with_state(Arc::new(watched)).merge(readiness);
    serve_pages(listener, pages, &[], std::future::pending()).await
}

async fn metrics(State(watched): State<Arc<Watched>>) -> Response {
    match watched.picture().await.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "no metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Watched {
    async fn picture(&self) -> Picture {
        let mut picture = Picture::default();
        process::look(&mut picture);
        self.telemetry.tell(&mut picture);
        let (identity, instance) = (&self.identity, self.identity.instance().to_string());
        picture.each(&definitions::BUILD, [([env!("CARGO_PKG_VERSION").to_owned(), instance], 1.0)]);
        picture.whether(&definitions::CONNECTED, *self.connected.borrow());
        picture.whether(&definitions::IDENTITY_GOOD, identity.is_good(clock::now()));
        picture.one(&definitions::EXPIRY, moment(identity.expires_at()));
        picture.one(&definitions::GENERATION, number(identity.certificate_generation()));
        let standing = self.standing.watch().borrow().clone();
        picture.one(&definitions::APPLIED, number(standing.applied.revision));
        picture.one(&definitions::WANTED, number(self.wanted.borrow().revision));
        picture.whether(&definitions::PROVED, standing.applied.proved);
        picture.one(&definitions::REFUSED, number(standing.refusals.len() as u64));
        let state = self.health.lock().await.state(&standing).await;
        picture.whether(&definitions::APPLICATION_UP, state.application_healthy);
        picture.whether(&definitions::HOME_READY, state.home_ready);
        picture
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact for 285 million years")]
fn moment(at: OffsetDateTime) -> f64 {
    at.unix_timestamp() as f64
}
