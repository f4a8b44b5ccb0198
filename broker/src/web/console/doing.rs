//! What is done: GET says what will happen and which command does the same, POST does it and leads on (303), so that
//! nothing is done twice. A token is the answer itself: it is stored nowhere, so that no other page could show it. A reload of
//! that page asks whether to send the form again.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::LOCATION;

use crate::web::Problem;
use crate::web::console::Reception;
use crate::web::console::deed::Deed;
use crate::web::console::door::{Ops, OpsForm};
use crate::web::console::form::Form;
use crate::web::console::pages::{ConfirmPage, Frame, RegistrationPage, TokenPage, shown, status};
use crate::web::console::view::{Fresh, Refusal};
use crate::web::console::words::Words;

pub(super) async fn confirm(
    ops: Ops,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let deed = Deed::read(&kind, &Form::read(query.unwrap_or_default().as_bytes())).ok_or(Problem::NOT_FOUND)?;
    Ok(shown(&page(&ops, &deed, None)))
}

pub(super) async fn carry_out(
    State(reception): State<Arc<Reception>>,
    Path(kind): Path<String>,
    OpsForm { ops, form }: OpsForm,
) -> Result<Response, Problem> {
    let deed = Deed::read(&kind, &form).ok_or(Problem::NOT_FOUND)?;
    match reception.seat(&ops).carry_out(&deed).await {
        Ok(Some(Fresh::JoinToken(token))) => Ok(shown(&TokenPage { frame: Frame::of(&ops, "tokens"), token })),
        Ok(Some(Fresh::Registration(fresh))) => {
            Ok(shown(&RegistrationPage { frame: Frame::of(&ops, "without-agent"), fresh }))
        }
        Ok(None) => {
            let to = format!("{}?done={}", deed.back(), deed.kind());
            Ok((StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response())
        }
        Err(refusal) => Ok((status(&refusal), shown(&page(&ops, &deed, Some(refusal)))).into_response()),
    }
}

fn page(ops: &Ops, deed: &Deed, refusal: Option<Refusal>) -> ConfirmPage {
    let reason = match deed {
        Deed::Quarantine { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    let mut fields = deed.fields();
    fields.retain(|(name, _)| reason.is_none() || *name != "reason");
    ConfirmPage {
        frame: Frame::of(ops, part(deed)),
        words: Words::of(deed),
        kind: deed.kind(),
        fields,
        reason,
        command: deed.command(),
        back: deed.back(),
        refusal,
    }
}

/// Where it belongs.
fn part(deed: &Deed) -> &'static str {
    match deed {
        Deed::CreateToken(_) | Deed::RevokeToken { .. } => "tokens",
        Deed::Quarantine { .. } | Deed::Release { .. } | Deed::Evict { .. } => "instances",
        Deed::Allow(_) | Deed::Deny { .. } => "trust",
        Deed::RemoveUpstream { .. } | Deed::OpenRegistration(_) | Deed::CloseRegistration { .. } => "without-agent",
        Deed::Turn { .. } | Deed::RollBack { .. } | Deed::Resume { .. } => "turning",
        Deed::EndSession { .. } | Deed::EndUser { .. } | Deed::EndConsoleSession { .. } => "sessions",
    }
}
