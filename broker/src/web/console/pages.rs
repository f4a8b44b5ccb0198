//! The console's pages. All but the entrance have the same frame.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, StatusCode};

use crate::web::FormToken;
use crate::web::console::agentless::{AgentlessSheet, FreshRegistration};
use crate::web::console::door::Ops;
use crate::web::console::records::{AuditSearch, AuditSheet};
use crate::web::console::script;
use crate::web::console::sealing::SealingSheet;
use crate::web::console::view::{
    EdgeRow, Explained, Fault, FreshToken, InstanceRow, InstanceSheet, Overview, Refusal, RotationCard, SessionsSheet,
    TokenRow, TrustSheet, TurningSheet, encoded,
};
use crate::web::console::words::{self, Words};
use crate::web::pages::render;
use crate::web::picture::TrustMap;
use crate::web::stylesheet;

/// The pages load the one script, and it asks this broker only.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What all pages have around them.
pub(super) struct Frame {
    /// Who is signed in.
    pub(super) who: String,
    /// Shows that a form is of this session.
    pub(super) form_token: String,
    /// Which part of the console it is.
    pub(super) part: &'static str,
    /// What was just done.
    pub(super) done: Option<&'static str>,
    /// Whether a page of ours led here.
    led_here: bool,
}

impl Frame {
    /// For whoever asks.
    pub(super) fn of(ops: &Ops, part: &'static str) -> Self {
        let form_token = FormToken::of(&ops.cookie).as_str().to_owned();
        Self { who: ops.session.way.name(), form_token, part, done: None, led_here: ops.led_here }
    }

    /// After something of this kind was done. What another site's link says was done was not.
    pub(super) fn after(self, kind: &str) -> Self {
        Self { done: words::done(kind).filter(|_| self.led_here), ..self }
    }
}

/// Puts the policy of the console on a page.
pub(super) fn shown(page: &impl Template) -> Response {
    let mut response = render(page);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// The way in.
#[derive(Template)]
#[template(path = "console/enter.html")]
pub(super) struct EnterPage {
    pub(super) code: String,
    pub(super) federation: bool,
    pub(super) left: bool,
}

impl IntoResponse for EnterPage {
    fn into_response(self) -> Response {
        render(&self)
    }
}

/// What has to be looked after.
#[derive(Template)]
#[template(path = "console/overview.html")]
pub(super) struct OverviewPage {
    pub(super) frame: Frame,
    pub(super) sheet: Overview,
}

/// All instances.
#[derive(Template)]
#[template(path = "console/instances.html")]
pub(super) struct InstancesPage {
    pub(super) frame: Frame,
    pub(super) instances: Vec<InstanceRow>,
}

/// One of them.
#[derive(Template)]
#[template(path = "console/instance.html")]
pub(super) struct InstancePage {
    pub(super) frame: Frame,
    pub(super) sheet: InstanceSheet,
}

/// Join tokens.
#[derive(Template)]
#[template(path = "console/tokens.html")]
pub(super) struct TokensPage {
    pub(super) frame: Frame,
    pub(super) tokens: Vec<TokenRow>,
    pub(super) instance: String,
}

/// A join token, shown once.
#[derive(Template)]
#[template(path = "console/token.html")]
pub(super) struct TokenPage {
    pub(super) frame: Frame,
    pub(super) token: FreshToken,
}

/// Homes and relying parties without agent.
#[derive(Template)]
#[template(path = "console/agentless.html")]
pub(super) struct AgentlessPage {
    pub(super) frame: Frame,
    pub(super) sheet: AgentlessSheet,
}

/// A relying party's initial access token, shown once.
#[derive(Template)]
#[template(path = "console/registration.html")]
pub(super) struct RegistrationPage {
    pub(super) frame: Frame,
    pub(super) fresh: FreshRegistration,
}

/// The keys that seal.
#[derive(Template)]
#[template(path = "console/sealing.html")]
pub(super) struct SealingPage {
    pub(super) frame: Frame,
    pub(super) sheet: SealingSheet,
}

/// Who accepts whom.
#[derive(Template)]
#[template(path = "console/trust.html")]
pub(super) struct TrustPage {
    pub(super) frame: Frame,
    pub(super) sheet: TrustSheet,
    pub(super) map: TrustMap,
}

/// An edge as it is, to be changed, or a new one.
#[derive(Template)]
#[template(path = "console/edge.html")]
pub(super) struct EdgePage {
    pub(super) frame: Frame,
    pub(super) edge: EdgeRow,
}

/// What a login would come to.
#[derive(Template)]
#[template(path = "console/explain.html")]
pub(super) struct ExplainPage {
    pub(super) frame: Frame,
    /// Relying party, home, login name.
    pub(super) asked: [String; 3],
    pub(super) command: String,
    pub(super) sheet: TrustSheet,
    pub(super) found: Option<Result<Explained, Refusal>>,
}

/// Keys, secrets and the CA.
#[derive(Template)]
#[template(path = "console/turning.html")]
pub(super) struct TurningPage {
    pub(super) frame: Frame,
    pub(super) sheet: TurningSheet,
}

/// The part of it that is looked at again and again.
#[derive(Template)]
#[template(path = "console/board.html")]
pub(super) struct Board {
    pub(super) rotations: Vec<RotationCard>,
}

/// Search in the audit.
#[derive(Template)]
#[template(path = "console/audit.html")]
pub(super) struct AuditPage {
    pub(super) frame: Frame,
    pub(super) search: AuditSearch,
    pub(super) kinds: Vec<String>,
    pub(super) found: Result<AuditSheet, Refusal>,
    /// The search for what is older.
    pub(super) older: Option<String>,
    pub(super) command: String,
}

/// Who is signed in.
#[derive(Template)]
#[template(path = "console/sessions.html")]
pub(super) struct SessionsPage {
    pub(super) frame: Frame,
    pub(super) user: String,
    pub(super) found: Result<SessionsSheet, Refusal>,
}

impl SessionsPage {
    /// The user in an address.
    fn user_query(&self) -> String {
        encoded(&self.user)
    }
}

/// What will happen, before it does.
#[derive(Template)]
#[template(path = "console/confirm.html")]
pub(super) struct ConfirmPage {
    pub(super) frame: Frame,
    pub(super) words: Words,
    pub(super) kind: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
    /// Set if a reason is to be given.
    pub(super) reason: Option<String>,
    pub(super) command: String,
    pub(super) back: String,
    /// Why it was not done.
    pub(super) refusal: Option<Refusal>,
}

/// What was asked for cannot be shown.
#[derive(Template)]
#[template(path = "console/refused.html")]
struct RefusedPage {
    frame: Frame,
    refusal: Refusal,
}

/// The page that says why.
pub(super) fn refused(frame: Frame, refusal: Refusal) -> Response {
    let status = status(&refusal);
    (status, shown(&RefusedPage { frame, refusal })).into_response()
}

/// What programs are told of a refusal.
pub(super) fn status(refusal: &Refusal) -> StatusCode {
    match refusal.fault {
        Fault::Unknown => StatusCode::NOT_FOUND,
        Fault::Asker => StatusCode::CONFLICT,
        Fault::Broker => StatusCode::SERVICE_UNAVAILABLE,
    }
}
