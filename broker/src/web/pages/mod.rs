//! The pages. Templates escape all that is put into them.

mod account;
mod consent;
mod device;
mod form_post;
mod link;
mod setup;
mod signing_out;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, StatusCode};
use tracing::error;
use url::Url;

use crate::web::stylesheet;

pub use account::{AccountPage, ApplicationRow, PermissionRow, SessionRow, StrangerPage, ToldRow, ago, ahead};
pub use consent::{ConsentPage, ReleasedLine};
pub use device::{DeviceEndPage, DevicePage};
pub use form_post::FormPostPage;
pub use link::{LinkPage, LinkQuestion, LinkRow, LinkedHomes};
pub use setup::{SetupLink, SetupPage};
pub use signing_out::{SignOutPage, SignedOutPage};

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
    /// Tried too often.
    pub const TOO_MANY: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        title: "That was tried too often",
        advice: "Wait a minute, then try again.",
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
pub(in crate::web) struct ErrorPage<'a> {
    pub(in crate::web) problem: Problem,
    pub(in crate::web) request_id: &'a str,
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
    /// What the relying party does with what it learns.
    pub policy: Option<String>,
    /// Its terms of service.
    pub terms: Option<String>,
    /// Addresses that the form's answer may lead to.
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
        let mut response = render(&self);
        form_policy(&mut response, "'self'", &self.form_targets, None);
        response
    }
}

/// Stands for every https address, where nobody knows to which ones a form leads.
pub const ANY_HTTPS: &str = "https:";

/// Lets the page's form go to these places as well, and run this one script: browsers apply `form-action` to redirects too.
fn form_policy(response: &mut Response, first: &str, targets: &[String], script: Option<&str>) {
    let mut places = vec![first.to_owned()];
    for place in targets.iter().filter_map(|target| source(target)) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let script = script.map_or(String::new(), |script| format!("script-src {script}; "));
    let policy = format!(
        "default-src 'none'; {script}style-src 'self'; img-src 'self'; form-action {}; frame-ancestors 'none'; \
         base-uri 'none'",
        places.join(" ").trim()
    );
    // Addresses were checked when they were registered; if one is no header value the strict default stays.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
}

/// What stands for an address in a policy: its origin, or the scheme of an application on the user's machine. Nothing if it
/// could say more than that: a host may hold characters that separate one directive from the next.
fn source(address: &str) -> Option<String> {
    if address == ANY_HTTPS {
        return Some(ANY_HTTPS.to_owned());
    }
    let url = Url::parse(address).ok()?;
    let origin = url.origin();
    let source = if origin.is_tuple() { origin.ascii_serialization() } else { format!("{}:", url.scheme()) };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-+[]_".contains(&byte);
    let harmless = !matches!(url.scheme(), "javascript" | "data" | "blob" | "file");
    (harmless && source.bytes().all(plain)).then_some(source)
}

pub(in crate::web) fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            error!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S7
    #[test]
    fn an_address_says_no_more_in_a_policy_than_where_it_is() {
        for (address, expected) in [
            ("https://b.example/cb?x=1", Some("https://b.example")),
            ("https://b.example:8443/cb", Some("https://b.example:8443")),
            ("http://[::1]:49152/cb", Some("http://[::1]:49152")),
            ("com.example.app:/cb", Some("com.example.app:")),
            ("https://b.example;script-src/cb", None),
            ("https://b.example,x/cb", None),
            ("javascript:alert(1)", None),
            ("data:text/html,x", None),
            ("/cb", None),
        ] {
            assert_eq!(source(address).as_deref(), expected, "{address}");
        }
    }
}
