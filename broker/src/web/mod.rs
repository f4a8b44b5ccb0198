//! What a browser sees: pages, their one stylesheet, and the boundary that every HTTP request passes.
//!
//! Nothing here knows of OAuth. A handler answers with a page ([`PickerPage`]) or a [`Problem`]; `boundary` gives every
//! request its id, its limits and its security headers, and turns a problem into a page that shows the id.

mod boundary;
pub mod console;
mod cookies;
mod form_token;
mod health;
mod icon;
pub mod listener;
mod pages;
pub mod picture;
mod redirect;
mod stylesheet;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

pub use boundary::{Boundary, ClientAddress, in_any_window, note_peer};
pub use cookies::{CookieName, UpstreamCookie, Visitor, set_cookie};
pub use form_token::FormToken;
pub use health::{Readiness, identity};
pub use pages::{
    ANY_HTTPS, AccountPage, ApplicationRow, ConsentPage, DeviceEndPage, DevicePage, FormPostPage, HomeButton, LinkPage,
    LinkQuestion, LinkRow, LinkedHomes, PermissionRow, PickerPage, Problem, ReleasedLine, SessionRow, SetupLink,
    SetupPage, SignOutPage, SignedOutPage, StrangerPage, ToldRow, ago, ahead,
};
pub use redirect::redirect;

/// Health, the stylesheet, the icon, and the answer to every address that is none.
pub fn router(readiness: Arc<Readiness>, boundary: Boundary) -> Router {
    let router = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route(icon::PATH, get(icon::serve))
        .route(stylesheet::path(), get(stylesheet::serve))
        .with_state(readiness)
        .method_not_allowed_fallback(async || Problem::METHOD)
        .fallback(async || Problem::NOT_FOUND);
    boundary.around(router)
}
