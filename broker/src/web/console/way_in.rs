//! In and out: by a one-time code, or through the federation, where the console is a relying party like any other.
//!
//! The login goes to `/authorize` and comes back with a code, as from a browser of any application. What ties it to this
//! browser is one secret in a cookie: `state` and the verifier of RFC 7636 are made of it, so that nothing has to be stored.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use subtle::ConstantTimeEq as _;
use tracing::info;

use crate::clock::Timestamp;
use crate::console::{CODE_LIFETIME, ConsoleError, Entered, IDLE, Way};
use crate::grants::{Binding, Redemption, Terms};
use crate::registry::{CONSOLE_RETURN, Snapshot};
use crate::secret::{KeyedHash, OpaqueSecret, SecretHash};
use crate::sessions::FoundSession;
use crate::web::console::Reception;
use crate::web::console::door::{OpsForm, broken, is_of_this_site, is_ops, no_session, posted};
use crate::web::console::form::Form;
use crate::web::console::pages::EnterPage;
use crate::web::{CookieName, Problem, Visitor, set_cookie};

/// How long an answer of `/authorize` is on its way, for whom no password was asked: whoever takes longer begins anew.
const ON_THE_WAY: Duration = Duration::from_secs(60);

/// GET: how to come in. A code in the address is not taken by this: whoever previews links would.
pub(super) async fn page(State(reception): State<Arc<Reception>>, RawQuery(query): RawQuery) -> Response {
    let query = Form::read(query.unwrap_or_default().as_bytes());
    let snapshot = reception.ground.registry.snapshot();
    let edges = snapshot.console().is_some_and(|console| snapshot.edges_of(console.name).next().is_some());
    EnterPage { code: query.text("code"), federation: edges, left: query.has("left") }.into_response()
}

/// POST: takes a code.
pub(super) async fn by_code(State(reception): State<Arc<Reception>>, request: Request) -> Result<Response, Problem> {
    if !is_of_this_site(request.headers(), &reception.ground.issuer) {
        return Err(Problem::NOT_OF_THIS_SESSION);
    }
    let visitor = Visitor::of(request.headers());
    let form = posted(request).await?;
    let entered = reception.ground.console.enter_by_code(&form.text("code"), reception.ground.clock.now()).await;
    match entered {
        Ok(entered) => reception.let_in(&entered, &visitor).await,
        Err(ConsoleError::CodeUnknown) => Err(Problem {
            title: "That code does not work",
            advice: "It has been used, is older than ten minutes, or was mistyped. Make another one with \
                     `homeward-broker console code`.",
            ..Problem::SIGN_IN_AGAIN
        }),
        Err(error) => Err(broken(&error)),
    }
}

/// GET: begins a login.
pub(super) async fn sign_in(State(reception): State<Arc<Reception>>) -> Result<Response, Problem> {
    let secret = OpaqueSecret::generate().map_err(|error| broken(&error.into()))?;
    let knot = Knot::of(secret.expose());
    let snapshot = reception.ground.registry.snapshot();
    let console = snapshot.console().ok_or(Problem::NOT_FOUND)?;
    let issuer = &reception.ground.issuer;
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", "code")
        .append_pair("client_id", console.relying_party.client_id.as_str())
        .append_pair("redirect_uri", &issuer.address(CONSOLE_RETURN))
        .append_pair("scope", "openid profile")
        .append_pair("state", &knot.state)
        // The session at the broker outlives that of the console: without this it would let in whoever sits there next.
        .append_pair("max_age", &IDLE.as_secs().to_string())
        .append_pair("code_challenge", SecretHash::of(&knot.verifier).as_str())
        .append_pair("code_challenge_method", "S256")
        .finish();
    let to = issuer.address(&format!("/authorize?{query}"));
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response();
    set_cookie(response.headers_mut(), CookieName::ConsoleWay, secret.expose(), Some(CODE_LIFETIME));
    Ok(response)
}

/// GET: the browser comes back from its login.
pub(super) async fn come_back(
    State(reception): State<Arc<Reception>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let answer = Form::read(query.unwrap_or_default().as_bytes());
    let visitor = Visitor::of(&headers);
    let way = reception.vouched_for(&answer, &visitor).await?;
    let entered = reception.ground.console.enter(way, reception.ground.clock.now()).await;
    reception.let_in(&entered.map_err(|error| broken(&error))?, &visitor).await
}

/// POST: leaves.
pub(super) async fn sign_out(
    State(reception): State<Arc<Reception>>,
    OpsForm { ops, .. }: OpsForm,
) -> Result<Response, Problem> {
    let ended = reception.ground.console.end(&ops.id, "signed out").await;
    ended.map_err(|error| broken(&error))?;
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, "/console/enter?left=yes")]).into_response();
    set_cookie(response.headers_mut(), CookieName::Console, "", Some(Duration::ZERO));
    Ok(response)
}

impl Reception {
    /// To the first page, with the cookie of the session, and without what tied the login. The session that this browser had
    /// before ends: nothing of it is left that somebody may have copied.
    async fn let_in(&self, entered: &Entered, visitor: &Visitor) -> Result<Response, Problem> {
        let (console, now) = (&self.ground.console, self.ground.clock.now());
        if let Some(before) = &visitor.console {
            let found = console.find(before, now).await.map_err(|error| broken(&error))?;
            if let Some((id, _)) = found {
                console.end(&id, "its browser signed in anew").await.map_err(|error| broken(&error))?;
            }
        }
        let mut response = (StatusCode::SEE_OTHER, [(LOCATION, "/console/")]).into_response();
        set_cookie(response.headers_mut(), CookieName::Console, &entered.cookie, None);
        set_cookie(response.headers_mut(), CookieName::ConsoleWay, "", Some(Duration::ZERO));
        Ok(response)
    }

    /// Who it is that comes back with this answer, if it is one of ops and the login was begun in this browser.
    async fn vouched_for(&self, answer: &Form, visitor: &Visitor) -> Result<Way, Problem> {
        let secret = visitor.console_way.as_deref().ok_or(Problem::SIGN_IN_AGAIN)?;
        let knot = Knot::of(secret);
        let same: bool = knot.state.as_bytes().ct_eq(answer.text("state").as_bytes()).into();
        if !same {
            return Err(Problem::SIGN_IN_AGAIN);
        }
        let (now, snapshot) = (self.ground.clock.now(), self.ground.registry.snapshot());
        let found = self.redeem(&answer.text("code"), &knot, visitor, (&snapshot, now)).await?;
        let way = Way::Federation {
            home: found.session.home.clone(),
            home_id: found.session.home_id,
            user: found.session.user.clone(),
            username: found.session.identity.username.clone(),
            session: found.id,
        };
        if is_ops(&found.session, &snapshot) {
            return Ok(way);
        }
        self.ground.console.refuse(&way);
        Err(Problem::NOT_OPS)
    }

    /// The session at the broker that a code is of, if it is the one that this browser has. The tokens are nobody's: who
    /// the user is stands in the session.
    async fn redeem(
        &self,
        code: &str,
        knot: &Knot,
        visitor: &Visitor,
        (snapshot, now): (&Snapshot, Timestamp),
    ) -> Result<FoundSession, Problem> {
        let refused = |why: &dyn std::fmt::Display| {
            info!(reason = %why, "a login at the console was refused");
            Problem::SIGN_IN_AGAIN
        };
        let code = self.ground.grants.open_code(code).map_err(|error| refused(&error))?;
        let cookie = visitor.session.as_deref().ok_or_else(|| refused(&"the browser has no session"))?;
        let found = self.ground.sessions.find(cookie, now).await.map_err(|error| no_session(&error))?;
        let found = found.filter(|found| found.id == code.grant.session);
        let found = found.ok_or_else(|| refused(&"the code is of another session than the browser's"))?;
        // Whoever sits at the browser can strike `max_age` from the address: what counts is when the password was given.
        if code.grant.auth_time.is_none_or(|proven| now.since(proven) > IDLE + ON_THE_WAY) {
            return Err(refused(&"the login is too old, and was not asked for anew"));
        }
        let client = snapshot.console().ok_or(Problem::NOT_FOUND)?;
        let redirect_uri = self.ground.issuer.address(CONSOLE_RETURN);
        let redemption = Redemption {
            terms: Terms { client, binding: Binding::Bearer, resource: None },
            code,
            person: Some(&found.session.identity),
            redirect_uri: &redirect_uri,
            verifier: Some(&knot.verifier),
        };
        self.ground.grants.redeem(redemption, snapshot, now).await.map_err(|error| refused(&error))?;
        Ok(found)
    }
}

/// What ties a login to the browser that began it.
struct Knot {
    state: String,
    verifier: String,
}

impl Knot {
    fn of(secret: &str) -> Self {
        let hash = KeyedHash::new(secret.as_bytes());
        let text = |part: &[u8]| URL_SAFE_NO_PAD.encode(hash.of(&[part]));
        Self { state: text(b"state"), verifier: text(b"verifier") }
    }
}
