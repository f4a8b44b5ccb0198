//! For whoever watches the broker.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use tracing::error;

use crate::audit::Audit;
use crate::storage::{Key, Store};

/// GET /healthz: the process answers.
pub(super) async fn alive() -> impl IntoResponse {
    "ok\n"
}

/// GET /readyz: logins can work, because the store answers and what is decided can be written down.
pub(super) async fn ready(State((store, audit)): State<(Arc<dyn Store>, Audit)>) -> impl IntoResponse {
    if let Some(problem) = audit.problem() {
        error!(problem, "not ready");
        return (StatusCode::SERVICE_UNAVAILABLE, problem);
    }
    match store.get(&Key::new("ready", "")).await {
        Ok(_) => (StatusCode::OK, "ok\n"),
        Err(error) => {
            error!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n")
        }
    }
}
