//! The gate's pages, in the portal's dress.

use askama::Template;

use super::GateError;
use super::simple_sso::TokenError;
use crate::provider::ProviderError;

/// The style sheet of all pages.
pub(super) const STYLE: &str = include_str!("../home/templates/style.css");

/// What all pages have around them.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Where the style sheet is.
    pub(super) path: String,
}

/// Asks whether somebody wants to log out.
#[derive(Debug, Template)]
#[template(path = "gate_logout.html")]
pub(super) struct Logout<'a> {
    pub(super) frame: &'a Frame,
    pub(super) application: &'a str,
}

/// A fixed sentence, and where to find the rest in the log.
#[derive(Debug, Template)]
#[template(path = "gate_error.html")]
pub(super) struct Failure<'a> {
    pub(super) frame: &'a Frame,
    /// The application, if its front page is at this very site: whoever opens that begins anew.
    pub(super) application: Option<&'a str>,
    pub(super) heading: &'static str,
    pub(super) sentence: &'static str,
    pub(super) request_id: &'a str,
}

/// What a stranger reads of an error: status, heading, sentence. Never more; the log has the cause.
pub(super) fn public(error: &GateError) -> (u16, &'static str, &'static str) {
    match error {
        GateError::NotReady => (
            503,
            "Logging in is not set up yet",
            "This site is not connected to Homeward yet. Try again in a minute, or ask the people who run it.",
        ),
        GateError::NotBegunHere | GateError::BadAnswer | GateError::Provider(ProviderError::NotAsked) => (
            400,
            "This login is over",
            "It took too long, was finished already, or your browser blocks cookies of this site. Open the page that you want again.",
        ),
        GateError::Provider(ProviderError::Refused(code)) if code.is_denial() => {
            (403, "You are not logged in", "The login was cancelled, or your account is not allowed here.")
        }
        GateError::Provider(
            ProviderError::Unreachable { .. } | ProviderError::Metadata(_) | ProviderError::BadTokenResponse,
        ) => (503, "Homeward does not answer", "Logging in is not possible at the moment. Try again in a minute."),
        GateError::Provider(_) => (
            502,
            "This login did not work",
            "Open the page that you want again. If it stays, tell the people who run this site the number below.",
        ),
        GateError::NoUsername => (
            502,
            "Your account lacks something",
            "Your home does not say enough of your account to log in here. Ask the people who run this site.",
        ),
        GateError::Seal(_)
        | GateError::Disk(_)
        | GateError::NoRandomness
        | GateError::SimpleSso(TokenError::NoRandomness) => (
            500,
            "Something went wrong",
            "Try again in a minute. If it stays, tell the people who run this site the number below.",
        ),
        GateError::NoNavigation => (401, "You are not logged in", "Reload the page to log in."),
        GateError::SimpleSso(TokenError::Missing) => {
            (400, "No login to continue", "Start at the site that you want to log in to.")
        }
        GateError::SimpleSso(_) => (
            403,
            "This login is over",
            "It took too long or was finished already. Start again at the site that you want to log in to.",
        ),
    }
}
