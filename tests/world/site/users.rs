//! The site's own users, as whoever runs it may look them up.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shop;

/// By which of the two.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    username: Option<String>,
    id: Option<String>,
}

/// One user, and whether he may sign in.
pub(super) async fn find(State(shared): Shop, Query(wanted): Query<Wanted>) -> Result<Json<Value>, StatusCode> {
    let is_wanted = |user: &Value| {
        let is = |name: &str, value: &Option<String>| value.as_deref().is_some_and(|value| user[name] == value);
        is("username", &wanted.username) || is("id", &wanted.id)
    };
    let mut user = shared.users().find(is_wanted).ok_or(StatusCode::NOT_FOUND)?;
    let active = user["username"].as_str().is_some_and(|username| !shared.is_disabled(username));
    user["active"] = json!(active);
    Ok(Json(user))
}
