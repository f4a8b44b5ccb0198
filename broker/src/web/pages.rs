//! The pages. Templates escape all that is put into them.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, StatusCode};
use tracing::error;

use crate::web::stylesheet;

/// Why there is no page: a status and what a stranger is told. The boundary makes a page of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// A heading.
    pub title: &'static str,
    /// One or two sentences on what to do.
    pub advice: &'static str,
}

impl Problem {
    /// No such address.
    pub const NOT_FOUND: Self = Self {
        status: StatusCode::NOT_FOUND,
        title: "There is nothing here",
        advice: "Go back to the application that you want to use and log in from there.",
    };
    /// No such method.
    pub const METHOD: Self = Self {
        status: StatusCode::METHOD_NOT_ALLOWED,
        title: "That does not work here",
        advice: "Go back to the application that you want to use and log in from there.",
    };
    /// Ambiguous, or no HTTP.
    pub const BAD_REQUEST: Self = Self {
        status: StatusCode::BAD_REQUEST,
        title: "That request cannot be understood",
        advice: "Go back to the application that you want to use and log in from there.",
    };
    /// The address.
    pub const ADDRESS_TOO_LONG: Self = Self { status: StatusCode::URI_TOO_LONG, ..Self::BAD_REQUEST };
    /// The body.
    pub const TOO_LARGE: Self = Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::BAD_REQUEST };
    /// Took too long, or the store does not answer.
    pub const BUSY: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        title: "Logging in does not work right now",
        advice: "Wait a moment, then go back to the application and try again.",
    };
    /// Our fault.
    pub const INTERNAL: Self = Self {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        title: "Something went wrong here",
        advice: "Go back to the application and try again. If it happens again, tell its operator the number below.",
    };
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem with the id of the request that met it.
#[derive(Template)]
#[template(path = "problem.html")]
pub(super) struct ErrorPage<'a> {
    pub(super) problem: Problem,
    pub(super) request_id: &'a str,
}

impl IntoResponse for ErrorPage<'_> {
    fn into_response(self) -> Response {
        (self.problem.status, render(&self)).into_response()
    }
}

/// The home picker.
#[derive(Template)]
#[template(path = "picker.html")]
pub struct PickerPage {
    /// Who asks: the name people read.
    pub relying_party: String,
    /// Its host.
    pub relying_party_host: String,
    /// Where the form goes.
    pub action: &'static str,
    /// The sealed login transaction.
    pub transaction: String,
    /// What can be chosen, the likeliest first.
    pub homes: Vec<HomeButton>,
    /// Origins that the form's answer may lead to: browsers apply `form-action` to redirects too.
    pub form_targets: Vec<String>,
}

/// One home on the picker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeButton {
    /// Its name.
    pub name: String,
    /// The name people read.
    pub display_name: String,
    /// Its host.
    pub host: String,
    /// Why it cannot be chosen now, in words.
    pub hindrance: Option<&'static str>,
    /// Whether it was chosen last time.
    pub last_used: bool,
}

impl IntoResponse for PickerPage {
    fn into_response(self) -> Response {
        let policy = format!(
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {}; frame-ancestors 'none'; \
             base-uri 'none'",
            self.form_targets.join(" ")
        );
        let mut response = render(&self);
        // Origins were checked when they were registered; if one is no header value the strict default stays.
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

pub(super) fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            error!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
