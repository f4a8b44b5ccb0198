//! Linked homes: their section of the account page, and the pages on the way to a link.

use askama::Template;
use axum::response::{IntoResponse, Response};

use crate::web::pages::{HomeButton, form_policy, render};
use crate::web::stylesheet;

/// The section of the account page.
pub struct LinkedHomes {
    /// The links that there are.
    pub links: Vec<LinkRow>,
    /// The homes that could be linked.
    pub linkable: Vec<HomeButton>,
    /// Addresses that the form's answer may lead to.
    pub form_targets: Vec<String>,
}

/// One link.
pub struct LinkRow {
    /// Names it.
    pub id: String,
    /// The other home of the two: the name people read.
    pub home: String,
    /// The home whose account counts.
    pub primary_home: String,
    /// Login name there.
    pub primary_username: String,
    /// The home whose account is known by that.
    pub alias_home: String,
    /// Login name there.
    pub alias_username: String,
    /// When it was made, in words.
    pub since: String,
    /// Why it has no effect, in words, if it has none.
    pub void: Option<&'static str>,
}

/// What the user is asked on the way to a link.
pub enum LinkQuestion {
    /// To sign in at the other home too.
    GoOn {
        /// The home where he just did: the name people read.
        home: String,
        /// His login name there.
        username: String,
        /// The other home.
        to: String,
    },
    /// Whether he wants it.
    Link {
        /// The home whose account counts: the name people read.
        primary_home: String,
        /// Login name there.
        primary_username: String,
        /// The home whose account is known by that.
        alias_home: String,
        /// Login name there.
        alias_username: String,
        /// Where it has an effect.
        applications: Vec<String>,
    },
}

/// A page on the way to a link.
#[derive(Template)]
#[template(path = "link.html")]
pub struct LinkPage {
    /// What is asked.
    pub question: LinkQuestion,
    /// Where the form goes.
    pub action: &'static str,
    /// Where the account page is.
    pub account: &'static str,
    /// Shows that the form is of this session.
    pub form_token: String,
    /// The sealed link.
    pub link: String,
    /// Addresses that the form's answer may lead to.
    pub form_targets: Vec<String>,
}

impl IntoResponse for LinkPage {
    fn into_response(self) -> Response {
        let mut response = render(&self);
        form_policy(&mut response, "'self'", &self.form_targets, None);
        response
    }
}
