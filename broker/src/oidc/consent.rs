//! GET and POST /login/consent: what the user is asked to agree to, and the answer.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;

use crate::oidc::Provider;
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::CallbackError;
use crate::web::Visitor;

/// The question.
pub(super) async fn get(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    let next = provider.show_question(&parameters, &Visitor::of(&headers), provider.clock.now()).await?;
    Ok(provider.send(next))
}

/// The answer.
pub(super) async fn post(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    let next = provider.answer_question(&parameters, &Visitor::of(&headers), provider.clock.now()).await?;
    Ok(provider.send(next))
}
