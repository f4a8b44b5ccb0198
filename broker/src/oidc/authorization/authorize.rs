//! GET and POST /authorize (OpenID Connect Core 3.1.2).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};

use crate::oidc::authorization::{Next, Onward};
use crate::oidc::error::BrowserError;
use crate::oidc::parameters::{self, Parameters};
use crate::oidc::request::CallbackError;
use crate::oidc::{Provider, path};
use crate::web::{CookieName, Visitor, set_cookie};

/// How long the last home is remembered.
const HOME_REMEMBERED: Duration = Duration::from_secs(365 * 86_400);

/// With the request in the query.
pub(in crate::oidc) async fn get(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, BrowserError> {
    let query = query.unwrap_or_default();
    let parameters = Parameters::parse(query.as_bytes()).map_err(|_| CallbackError::Parameters)?;
    let next = provider.authorize(&parameters, Visitor::of(&headers), provider.clock.now()).await?;
    Ok(provider.send(next))
}

/// With the request in the body.
pub(in crate::oidc) async fn post(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, BrowserError> {
    let parameters = Parameters::of_form(&headers, &body).map_err(|_| CallbackError::Parameters)?;
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let as_get = || parameters::as_get(&provider.issuer.address(path::AUTHORIZE), &body);
    if let Some(to) = cross_site.then(as_get).flatten() {
        return Ok((StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response());
    }
    let next = provider.authorize(&parameters, Visitor::of(&headers), provider.clock.now()).await?;
    Ok(provider.send(next))
}

impl Provider {
    /// Sends the browser on, by 303: whatever it posted here is posted nowhere else (RFC 9700 4.12).
    pub(in crate::oidc) fn send(&self, Next { onward, cookies }: Next) -> Response {
        let mut response = match onward {
            Onward::Address(to) => (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response(),
            Onward::Form(page) => page.into_response(),
            Onward::Choose(page) => page.into_response(),
            Onward::Consent(page) => page.into_response(),
        };
        let headers = response.headers_mut();
        if let Some(browser) = cookies.browser {
            set_cookie(headers, CookieName::Browser, &browser, Some(self.login_lifetime));
        }
        if let Some(session) = cookies.session {
            set_cookie(headers, CookieName::Session, &session, None);
        }
        if let Some(home) = cookies.home {
            set_cookie(headers, CookieName::Home, home.as_str(), Some(HOME_REMEMBERED));
        }
        for cookie in cookies.upstreams {
            cookie.set(headers, self.login_lifetime);
        }
        response
    }
}
