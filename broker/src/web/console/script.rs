//! The one script of the console, at an address that changes with its content. Every page does without it.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

const SCRIPT: &str = include_str!("../templates/console/console.js");

static PATH: LazyLock<String> = LazyLock::new(|| {
    let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, SCRIPT.as_bytes()));
    format!("/assets/{}.js", hash.split_at(16).0)
});

/// Where it is.
pub(super) fn path() -> &'static str {
    PATH.as_str()
}

/// GET.
pub(super) async fn serve() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8"), (CACHE_CONTROL, "public, max-age=31536000, immutable")], SCRIPT)
}
