//! The web console: what ops see and do in a browser.
//!
//! | address | where |
//! |---|---|
//! | `/console/enter`, `/console/sign-in`, `/console/return`, `/console/sign-out` | `way_in.rs`: in and out |
//! | `/console/do/{deed}` | `doing.rs`: GET says what will happen and which command does the same, POST does it |
//! | all others | `looking.rs`: pages that only look |
//!
//! `door.rs` recognises ops, on every request anew. Pages get words ([`view`]) from the [`Seat`](crate::grpc::Seat) of
//! whoever asks, which calls what the command line calls.

mod agentless;
mod deed;
mod doing;
mod door;
mod form;
mod looking;
mod pages;
mod records;
mod script;
mod sealing;
mod view;
mod way_in;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::clock::Clock;
use crate::config::Issuer;
use crate::console::Console;
use crate::grants::Grants;
use crate::grpc::Desk;
use crate::registry::{CONSOLE_RETURN, Registry};
use crate::sessions::Sessions;
use crate::web::{Boundary, Problem};

pub use agentless::{AgentlessSheet, ClientRow, FreshRegistration, RegistrationRow, UpstreamRow};
pub use deed::{Deed, EdgeOrder, RegistrationOrder, TokenOrder};
pub use records::{AuditRow, AuditSearch, AuditSheet};
pub use sealing::{DataKeyRow, SealingSheet};
pub use view::{
    AtConsoleRow, Attention, AuthorityRow, BrokerRow, EdgeRow, Explained, Fault, Fresh, FreshToken, InstanceRow,
    InstanceSheet, KeyRow, LaggardRow, Moment, MoveRow, Overview, Refusal, RotationCard, SessionsSheet, SignedIn,
    SignedInRow, TokenRow, TrustSheet, TurningSheet,
};

/// What the way in stands on.
pub struct Foundations {
    /// Codes and sessions of the console.
    pub console: Console,
    /// Who is signed in at the broker.
    pub sessions: Sessions,
    /// Where codes of logins are redeemed.
    pub grants: Grants,
    /// Who accepts whom.
    pub registry: Registry,
    /// Where the broker is.
    pub issuer: Issuer,
    /// The time.
    pub clock: Clock,
}

/// What all handlers share.
struct Reception {
    ground: Foundations,
    desk: Desk,
}

/// All pages of the console.
pub fn router(ground: Foundations, desk: Desk, boundary: Boundary) -> Router {
    let router = Router::new()
        .route("/console", get(looking::to_overview))
        .route("/console/", get(looking::overview))
        .route("/console/instances", get(looking::instances))
        .route("/console/instances/{name}", get(looking::instance))
        .route("/console/tokens", get(looking::tokens))
        .route("/console/trust", get(looking::trust))
        .route("/console/trust/edge", get(looking::edge))
        .route("/console/trust/explain", get(looking::explain))
        .route("/console/without-agent", get(looking::agentless))
        .route("/console/sealing", get(looking::sealing))
        .route("/console/turning", get(looking::turning))
        .route("/console/turning/board", get(looking::board))
        .route("/console/audit", get(looking::audit))
        .route("/console/sessions", get(looking::sessions))
        .route("/console/do/{deed}", get(doing::confirm).post(doing::carry_out))
        .route("/console/enter", get(way_in::page).post(way_in::by_code))
        .route("/console/sign-in", get(way_in::sign_in).head(no_head))
        .route(CONSOLE_RETURN, get(way_in::come_back).head(no_head))
        .route("/console/sign-out", post(way_in::sign_out))
        .route(script::path(), get(script::serve))
        .with_state(Arc::new(Reception { ground, desk }))
        .method_not_allowed_fallback(async || Problem::METHOD);
    boundary.around(router)
}

/// HEAD where GET does something.
async fn no_head() -> Problem {
    Problem::METHOD
}
