//! GET /jwks: the public keys (RFC 7517 5).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use crate::keys::KeySet;
use crate::oidc::Provider;
use crate::oidc::document::Document;

/// What caches may keep: short, so that a new key is known soon after it is published.
const KEPT: Duration = Duration::from_secs(300);

/// The document.
pub(super) fn document(keys: &KeySet) -> Document {
    Document::new(keys.jwks().to_owned(), KEPT)
}

/// Serves it.
pub(super) async fn get(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    provider.jwks.serve(&headers)
}
