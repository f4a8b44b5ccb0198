//! The page that carries an answer to a relying party in a form (OAuth 2.0 Form Post Response Mode).

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::web::pages::{form_policy, render};
use crate::web::stylesheet;

/// The one script of all pages. Without it there is a button.
const SUBMIT: &str = "document.forms[0].submit()";

static SUBMIT_SOURCE: LazyLock<String> =
    LazyLock::new(|| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, SUBMIT.as_bytes()))));

/// The form.
#[derive(Template)]
#[template(path = "form_post.html")]
pub struct FormPostPage {
    /// The registered callback.
    pub action: String,
    /// What it is told.
    pub fields: Vec<(String, String)>,
}

impl IntoResponse for FormPostPage {
    fn into_response(self) -> Response {
        let mut response = render(&self);
        form_policy(&mut response, "", std::slice::from_ref(&self.action), Some(SUBMIT_SOURCE.as_str()));
        response
    }
}
