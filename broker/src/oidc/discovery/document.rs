//! A document that is served as it is: discovery and JWKS.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

/// JSON that everybody may read, from any origin.
pub(in crate::oidc) struct Document {
    body: Bytes,
    etag: String,
}

impl Document {
    /// Of this text.
    pub(in crate::oidc) fn new(json: impl Into<Bytes>) -> Self {
        let body = json.into();
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest(&SHA256, &body)));
        Self { body, etag }
    }

    /// The document, or word that the one who asks has it already. Caches may keep it for so long.
    pub(in crate::oidc) fn serve(&self, request: &HeaderMap, kept: Duration) -> Response {
        let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let known = known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == self.etag);
        let headers = [
            (ETAG, self.etag.as_str()),
            (CACHE_CONTROL, &format!("public, max-age={}", kept.as_secs())),
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ];
        if known {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        } else {
            (headers, [(CONTENT_TYPE, "application/json")], self.body.clone()).into_response()
        }
    }
}
