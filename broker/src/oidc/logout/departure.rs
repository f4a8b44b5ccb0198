//! What a browser gets that has been logged out: without its cookie, and on its way.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;
use url::Url;

use crate::config::Issuer;
use crate::oidc::logout::request::Back;
use crate::registry::{Client, Snapshot};
use crate::sessions::{Ended, LogoutState, Message};
use crate::web::{CookieName, SignedOutPage, set_cookie};

/// A browser that has been logged out.
pub(in crate::oidc) struct Departure {
    back: Option<Back>,
    /// Whether the browser goes there by itself.
    by_itself: bool,
    frames: Vec<String>,
    told: BTreeSet<String>,
    untold: BTreeSet<String>,
}

impl Departure {
    /// Nobody was signed in.
    pub(super) fn of_nobody() -> Self {
        Self { back: None, by_itself: true, frames: Vec::new(), told: BTreeSet::new(), untold: BTreeSet::new() }
    }

    /// These sessions have ended.
    pub(in crate::oidc) fn of(ended: &Ended, snapshot: &Snapshot, issuer: &Issuer) -> Self {
        let mut departure = Self::of_nobody();
        for (id, session) in &ended.sessions {
            // A provider without agent hears of nothing: whoever comes next to this browser is signed in there still.
            departure.untold.extend(snapshot.upstream(&session.home).map(|home| home.display_name.clone()));
            for (client_id, opened) in &session.opened {
                let Some(client) = Client::told(snapshot, &opened.relying_party, client_id) else { continue };
                departure.frames.extend(frame(client, id.as_str(), issuer));
            }
        }
        for (_, logout) in &ended.logouts {
            let client = match &logout.message {
                Message::Back(entered) | Message::Agent(entered) => &entered.client_id,
                Message::Home { .. } => continue,
            };
            let Some(client) = Client::told(snapshot, &logout.target, client) else { continue };
            // Who has a front channel alone is told by the browser.
            let framed = client.relying_party.logout.frontchannel.is_some();
            let reached = framed || logout.state != LogoutState::NotSupported;
            let names = if reached { &mut departure.told } else { &mut departure.untold };
            names.insert(client.display_name.to_owned());
        }
        departure
    }

    /// The browser goes back there.
    pub(super) fn to(self, back: Option<Back>) -> Self {
        Self { back, ..self }
    }

    /// The user goes on by a click.
    pub(super) fn by_hand(self) -> Self {
        Self { by_itself: false, ..self }
    }
}

/// A front-channel page with what it is to be told (OpenID Connect Front-Channel Logout 1.0 2).
fn frame(client: Client<'_>, sid: &str, issuer: &Issuer) -> Option<String> {
    let logout = &client.relying_party.logout;
    let mut url = Url::parse(logout.frontchannel.as_deref()?).ok()?;
    if logout.frontchannel_session {
        url.query_pairs_mut().append_pair("iss", issuer.as_str()).append_pair("sid", sid);
    }
    Some(url.into())
}

/// How long front-channel pages have before the browser goes on.
const FRAMES: Duration = Duration::from_secs(2);

impl IntoResponse for Departure {
    fn into_response(self) -> Response {
        let to = self.back.as_ref().map(Back::to);
        let mut response = match to {
            Some(to) if self.by_itself && self.frames.is_empty() => {
                (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
            }
            to => SignedOutPage {
                go_on_after: (self.by_itself && to.is_some()).then_some(FRAMES),
                go_on_to: to,
                frames: self.frames,
                told: self.told.into_iter().collect(),
                untold: self.untold.into_iter().collect(),
            }
            .into_response(),
        };
        set_cookie(response.headers_mut(), CookieName::Session, "", Some(Duration::ZERO));
        response
    }
}
