//! Pages that only look. What they find comes from the seat of whoever asks.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::LOCATION;

use crate::audit::Kind;
use crate::grpc::Seat;
use crate::web::console::Reception;
use crate::web::console::door::{Onlooker, Ops};
use crate::web::console::form::Form;
use crate::web::console::pages::{
    AuditPage, Board, EdgePage, ExplainPage, Frame, InstancePage, InstancesPage, OverviewPage, SessionsPage,
    TokensPage, TrustPage, TurningPage, refused, shown,
};
use crate::web::console::records::AuditSearch;
use crate::web::console::view::{EdgeRow, Refusal};
use crate::web::console::words;

impl Reception {
    pub(super) fn seat(&self, ops: &Ops) -> Seat {
        self.desk.seat(&ops.session.way.actor())
    }
}

fn form(query: Option<String>) -> Form {
    Form::read(query.unwrap_or_default().as_bytes())
}

/// The page, or why there is none.
fn page<T, P: Template>(frame: Frame, found: Result<T, Refusal>, make: impl FnOnce(Frame, T) -> P) -> Response {
    match found {
        Ok(found) => shown(&make(frame, found)),
        Err(refusal) => refused(frame, refusal),
    }
}

pub(super) async fn to_overview() -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, "/console/")]).into_response()
}

pub(super) async fn overview(State(reception): State<Arc<Reception>>, ops: Ops) -> Response {
    let found = reception.seat(&ops).overview().await;
    page(Frame::of(&ops, "overview"), found, |frame, sheet| OverviewPage { frame, sheet })
}

pub(super) async fn instances(
    State(reception): State<Arc<Reception>>,
    ops: Ops,
    RawQuery(query): RawQuery,
) -> Response {
    let frame = Frame::of(&ops, "instances").after(&form(query).text("done"));
    let found = reception.seat(&ops).instances().await;
    page(frame, found, |frame, instances| InstancesPage { frame, instances })
}

pub(super) async fn instance(
    State(reception): State<Arc<Reception>>,
    ops: Ops,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let frame = Frame::of(&ops, "instances").after(&form(query).text("done"));
    let found = reception.seat(&ops).instance(name).await;
    page(frame, found, |frame, sheet| InstancePage { frame, sheet })
}

pub(super) async fn tokens(State(reception): State<Arc<Reception>>, ops: Ops, RawQuery(query): RawQuery) -> Response {
    let query = form(query);
    let frame = Frame::of(&ops, "tokens").after(&query.text("done"));
    let found = reception.seat(&ops).tokens().await;
    page(frame, found, |frame, tokens| TokensPage { frame, tokens, instance: query.text("instance") })
}

pub(super) async fn trust(State(reception): State<Arc<Reception>>, ops: Ops, RawQuery(query): RawQuery) -> Response {
    let frame = Frame::of(&ops, "trust").after(&form(query).text("done"));
    let found = reception.seat(&ops).trust_drawn().await;
    page(frame, found, |frame, (sheet, map)| TrustPage { frame, sheet, map })
}

pub(super) async fn edge(State(reception): State<Arc<Reception>>, ops: Ops, RawQuery(query): RawQuery) -> Response {
    let (query, frame) = (form(query), Frame::of(&ops, "trust"));
    let (party, home) = (query.text("relying_party"), query.text("home"));
    let found = reception.seat(&ops).trust().await.map(|sheet| {
        let known = sheet.edges.into_iter().find(|edge| edge.relying_party == party && edge.home == home);
        known.unwrap_or_else(|| EdgeRow {
            relying_party: party,
            home,
            accepts: "",
            releases: "",
            username_template: String::new(),
            groups: Vec::new(),
            email_domains: Vec::new(),
            consent: "none",
            api_access: false,
            linked: false,
            changed: None,
        })
    });
    page(frame, found, |frame, edge| EdgePage { frame, edge })
}

pub(super) async fn explain(State(reception): State<Arc<Reception>>, ops: Ops, RawQuery(query): RawQuery) -> Response {
    let (query, seat) = (form(query), reception.seat(&ops));
    let asked = ["relying_party", "home", "username"].map(|name| query.text(name));
    let found = match asked.clone() {
        [party, home, username] if query.has("username") => Some(seat.explain(party, home, username).await),
        _ => None,
    };
    let sheet = seat.trust().await;
    let command = words::explain(&asked);
    page(Frame::of(&ops, "trust"), sheet, |frame, sheet| ExplainPage { frame, asked, command, sheet, found })
}

pub(super) async fn turning(State(reception): State<Arc<Reception>>, ops: Ops, RawQuery(query): RawQuery) -> Response {
    let frame = Frame::of(&ops, "turning").after(&form(query).text("done"));
    let found = reception.seat(&ops).turning().await;
    page(frame, found, |frame, sheet| TurningPage { frame, sheet })
}

/// The part of the page that the script fetches again and again.
pub(super) async fn board(State(reception): State<Arc<Reception>>, Onlooker(ops): Onlooker) -> Response {
    let found = reception.seat(&ops).board().await;
    page(Frame::of(&ops, "turning"), found, |_, rotations| Board { rotations })
}

pub(super) async fn audit(State(reception): State<Arc<Reception>>, ops: Ops, RawQuery(query): RawQuery) -> Response {
    let query = form(query);
    let text = |name: &str| query.text(name);
    let search = AuditSearch {
        kind: text("kind"),
        actor: text("actor"),
        object: text("object"),
        subject: text("subject"),
        instance: text("instance"),
        since: text("since"),
        until: text("until"),
    };
    let found = reception.seat(&ops).audit(&search).await;
    let until = found.as_ref().ok().and_then(|sheet| sheet.older.clone());
    let older = until.map(|until| address(&search, &until));
    let kinds = Kind::ALL.iter().map(ToString::to_string).collect();
    shown(&AuditPage { frame: Frame::of(&ops, "audit"), search, kinds, found, older })
}

/// The same search before this moment.
fn address(search: &AuditSearch, until: &str) -> String {
    let AuditSearch { kind, actor, object, subject, instance, since, .. } = search;
    let fields = [
        ("kind", kind.as_str()),
        ("actor", actor),
        ("object", object),
        ("subject", subject),
        ("instance", instance),
        ("since", since),
        ("until", until),
    ];
    let said = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
    format!("/console/audit?{query}")
}

pub(super) async fn sessions(State(reception): State<Arc<Reception>>, ops: Ops, RawQuery(query): RawQuery) -> Response {
    let query = form(query);
    let frame = Frame::of(&ops, "sessions").after(&query.text("done"));
    let user = query.text("user");
    let found = reception.seat(&ops).sessions(user.clone(), query.text("after"), ops.id.as_str()).await;
    shown(&SessionsPage { frame, user, found })
}
