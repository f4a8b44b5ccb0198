//! The page that asks a user whether a relying party may learn what it asks for.

use askama::Template;
use axum::response::{IntoResponse, Response};

use crate::web::pages::{form_policy, render};
use crate::web::stylesheet;

/// The question. Nothing of it is loaded from elsewhere: a logo that somebody else serves would tell him who reads it.
#[derive(Template)]
#[template(path = "consent.html")]
pub struct ConsentPage {
    /// Who asks: the name people read.
    pub relying_party: String,
    /// Where the answer goes.
    pub relying_party_host: String,
    /// Whether nobody of the federation looks after it.
    pub self_registered: bool,
    /// Whether a device waits for the answer.
    pub device: bool,
    /// Who is asked.
    pub username: String,
    /// The name people read of his home.
    pub home: String,
    /// Its host.
    pub home_host: String,
    /// What is released.
    pub released: Vec<ReleasedLine>,
    /// Whether it is released also when he has signed out.
    pub offline: bool,
    /// Whose APIs may be called in his name.
    pub apis: Vec<String>,
    /// What the relying party does with what it learns.
    pub policy: Option<String>,
    /// Its terms of service.
    pub terms: Option<String>,
    /// Where the form goes.
    pub action: &'static str,
    /// The sealed question.
    pub question: String,
    /// Addresses that the form's answer may lead to.
    pub form_targets: Vec<String>,
}

/// Something that is released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasedLine {
    /// What it is.
    pub label: &'static str,
    /// As it is.
    pub value: String,
}

impl IntoResponse for ConsentPage {
    fn into_response(self) -> Response {
        let mut response = render(&self);
        form_policy(&mut response, "'self'", &self.form_targets, None);
        response
    }
}
