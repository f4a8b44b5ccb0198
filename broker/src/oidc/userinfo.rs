//! GET and POST /userinfo (OpenID Connect Core 5.3), with a bearer token (RFC 6750 2).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CACHE_CONTROL};

use crate::clock::Timestamp;
use crate::grants::{Bearer, TokenError};
use crate::oidc::Provider;
use crate::oidc::error::UserinfoError;
use crate::oidc::parameters::Parameters;
use crate::registry::{Asked, Claims, Person};

/// Both methods.
pub(super) async fn serve(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, UserinfoError> {
    let token = bearer(query.as_deref(), &headers, &body)?;
    let claims = provider.userinfo(&token, provider.clock.now()).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(claims)).into_response())
}

impl Provider {
    /// What an access token lets its bearer know.
    async fn userinfo(&self, token: &str, now: Timestamp) -> Result<Claims, UserinfoError> {
        let snapshot = self.registry.snapshot();
        let token = self.grants.open_access_token(token, now)?;
        let Bearer::Grant(id) = &token.bearer else { return Err(TokenError::AccessTokenUnknown.into()) };
        let grant = self.grants.find(id, token.serial, &snapshot).await?;
        let session = self.sessions.get(&grant.session, now).await?;
        let person = grant.offline.as_deref().or(session.as_ref().map(|session| &session.identity));
        let person = person.ok_or(TokenError::SessionEnded)?;
        let vouching = snapshot.vouching(&grant.relying_party, &grant.home, grant.home_id);
        let (_, edge) = vouching.ok_or(TokenError::TrustWithdrawn)?;
        let person = Person { identity: person, subject: &grant.subject };
        Ok(Claims::for_userinfo(person, edge, Asked { scopes: &token.scopes, claims: &grant.claims }))
    }
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
