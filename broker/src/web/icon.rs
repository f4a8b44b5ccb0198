//! The icon of a browser's tab, at the address where browsers look for one unasked.

use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

const ICON: &str = include_str!("templates/homeward.svg");

/// Where it is.
pub(super) const PATH: &str = "/favicon.ico";

/// GET.
pub(super) async fn serve() -> impl IntoResponse {
    ([(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "public, max-age=86400")], ICON)
}
