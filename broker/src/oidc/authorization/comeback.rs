//! GET /login/return: the browser comes back from the home.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;

use crate::login::LoginError;
use crate::oidc::Provider;
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::CallbackError;
use crate::web::Visitor;

/// With a handle.
pub(in crate::oidc) async fn get(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    let handle = parameters.get("handle").ok().flatten().ok_or(LoginError::HandleUnknown)?;
    let next = provider.come_back(handle, &Visitor::of(&headers), provider.clock.now()).await?;
    Ok(provider.send(next))
}
