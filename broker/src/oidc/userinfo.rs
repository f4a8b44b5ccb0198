//! GET and POST /userinfo (OpenID Connect Core 5.3), with a bearer token (RFC 6750 2).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CACHE_CONTROL};

use crate::oidc::Provider;
use crate::oidc::error::UserinfoError;
use crate::oidc::parameters::Parameters;

/// Both methods.
pub(super) async fn serve(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, UserinfoError> {
    let token = bearer(query.as_deref(), &headers, &body)?;
    let snapshot = provider.registry.snapshot();
    let claims = provider.grants.claims(&token, &snapshot, provider.clock.now()).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(claims)).into_response())
}

/// The token: in the header or in the body, never in the query (RFC 9700 4.3.2), and only once.
fn bearer(query: Option<&str>, headers: &HeaderMap, body: &Bytes) -> Result<String, UserinfoError> {
    let query = Parameters::parse(query.unwrap_or_default().as_bytes()).map_err(|_| UserinfoError::Ambiguous)?;
    if !matches!(query.get("access_token"), Ok(None)) {
        return Err(UserinfoError::Ambiguous);
    }
    let in_body = match Parameters::of_form(headers, body) {
        Ok(form) => form.get("access_token").map_err(|_| UserinfoError::Ambiguous)?.map(str::to_owned),
        Err(_) => None,
    };
    let mut authorization = headers.get_all(AUTHORIZATION).iter();
    let in_header = authorization.next().and_then(|header| {
        let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_matches(' ').to_owned())
    });
    match (in_header, in_body, authorization.next()) {
        (Some(token), None, None) | (None, Some(token), None) => Ok(token),
        (None, None, None) => Err(UserinfoError::Missing),
        _ => Err(UserinfoError::Ambiguous),
    }
}
