//! The page for who sets an identity provider up.

use askama::Template;
use axum::response::{IntoResponse, Response};

use crate::web::pages::render;
use crate::web::stylesheet;

/// What to paste where.
#[derive(Template)]
#[template(path = "setup.html")]
pub struct SetupPage {
    /// Name of the home.
    pub home: String,
    /// The provider's name, as people read it.
    pub title: String,
    /// The one callback.
    pub callback: String,
    /// One sentence each.
    pub steps: Vec<String>,
    /// What the broker is told afterwards.
    pub command: String,
    /// What an issuer looks like, and which one it is.
    pub issuer: Option<(String, String)>,
    /// What is asked for beside `openid`.
    pub scopes: String,
    /// Pages for other providers.
    pub others: Vec<SetupLink>,
    /// Where those pages are.
    pub action: String,
}

/// A page for another provider.
pub struct SetupLink {
    /// As the address has it.
    pub provider: &'static str,
    /// As people read it.
    pub title: String,
}

impl IntoResponse for SetupPage {
    fn into_response(self) -> Response {
        render(&self)
    }
}
