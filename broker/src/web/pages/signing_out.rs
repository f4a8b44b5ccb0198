//! Pages for who leaves.

use std::time::Duration;

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, HeaderName};

use crate::web::pages::{form_policy, render, source};
use crate::web::stylesheet;

/// Where a browser goes by itself, and when. Old as the web, and without any script.
const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// Whether the user wants to leave.
#[derive(Template)]
#[template(path = "sign_out.html")]
pub struct SignOutPage {
    /// Who is signed in.
    pub user: String,
    /// His home: the name people read.
    pub home: String,
    /// Whether his home ends its own session too.
    pub home_is_told: bool,
    /// Who asks, if that is known: the name people read.
    pub relying_party: Option<String>,
    /// Whether it asked for something that cannot be believed.
    pub doubtful: bool,
    /// Where the form goes.
    pub action: &'static str,
    /// Where the user goes who stays.
    pub account: &'static str,
    /// Shows that the form is of this session.
    pub form_token: String,
    /// Client, address and state of who wants the browser back.
    pub back: Option<(String, String, Option<String>)>,
}

impl IntoResponse for SignOutPage {
    fn into_response(self) -> Response {
        let mut response = render(&self);
        let targets: Vec<String> = self.back.into_iter().map(|(_, address, _)| address).collect();
        form_policy(&mut response, "'self'", &targets, None);
        response
    }
}

/// The user has left.
#[derive(Template)]
#[template(path = "signed_out.html")]
pub struct SignedOutPage {
    /// Where the user may go on to.
    pub go_on_to: Option<String>,
    /// When the browser goes there by itself.
    pub go_on_after: Option<Duration>,
    /// Pages of relying parties that end their sessions (OpenID Connect Front-Channel Logout 1.0).
    pub frames: Vec<String>,
    /// Applications that hear of it: the names people read.
    pub told: Vec<String>,
    /// Applications that cannot hear of it.
    pub untold: Vec<String>,
}

impl IntoResponse for SignedOutPage {
    fn into_response(self) -> Response {
        let mut response = render(&self);
        let origins: Vec<String> = self.frames.iter().filter_map(|address| source(address)).collect();
        let policy = format!(
            "default-src 'none'; style-src 'self'; img-src 'self'; frame-src {}; form-action 'none'; \
             frame-ancestors 'none'; base-uri 'none'",
            if origins.is_empty() { "'none'".to_owned() } else { origins.join(" ") }
        );
        // Addresses were checked when they were registered; if one is no header value the strict default stays.
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        if let (Some(to), Some(after)) = (&self.go_on_to, self.go_on_after)
            && let Ok(refresh) = HeaderValue::from_str(&format!("{};url={to}", after.as_secs()))
        {
            response.headers_mut().insert(REFRESH, refresh);
        }
        response
    }
}
