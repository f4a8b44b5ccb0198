//! What a relying party asks when it sends a browser to the logout endpoint (OpenID Connect RP-Initiated Logout 1.0 2).
//!
//! Whoever can make a browser open an address can ask this, so nothing of it is believed but an ID token of ours. What
//! cannot be believed is left out, and the user is asked: that is better than a page that says no to somebody who only
//! wants to leave.

use jsonwebtoken::Validation;
use serde::Deserialize;

use crate::config::Issuer;
use crate::keys::KeySet;
use crate::oidc::parameters::{ParameterError, Parameters};
use crate::registry::{ClientId, SessionId, Snapshot, Subject};
use crate::sessions::FoundSession;

/// Longest hint that is looked at, in bytes: our largest ID tokens are a third of it.
const MAX_HINT: usize = 12 * 1024;

/// Longest state that is given back, in bytes.
const MAX_STATE: usize = 2 * 1024;

/// What a relying party asks.
pub(super) struct LogoutRequest {
    /// Whom it means, if it can show that.
    pub(super) hint: Option<Hint>,
    /// Where the browser goes afterwards, if it may.
    pub(super) back: Option<Back>,
    /// That it said something that cannot be believed.
    pub(super) doubtful: bool,
}

/// An ID token of ours. It may be old: it says who is meant, not that anybody is signed in.
#[derive(Debug, Deserialize)]
pub(super) struct Hint {
    aud: ClientId,
    sub: Subject,
    sid: Option<SessionId>,
}

/// Where the browser goes afterwards: an address that its client registered.
pub(super) struct Back {
    pub(super) client: ClientId,
    pub(super) address: String,
    pub(super) state: Option<String>,
}

impl LogoutRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When a parameter is repeated or no text.
    pub(super) fn read(
        parameters: &Parameters,
        snapshot: &Snapshot,
        keys: &KeySet,
        issuer: &Issuer,
    ) -> Result<Self, ParameterError> {
        let named = parameters.get("client_id")?;
        let (sent, address) = (parameters.get("id_token_hint")?, parameters.get("post_logout_redirect_uri")?);
        let state = parameters.get("state")?;
        let hint = sent.and_then(|sent| Hint::read(sent, keys, issuer));
        // 2: a client_id beside a hint must be the one that the hint was issued to.
        let hint = hint.filter(|hint| named.is_none_or(|named| named == hint.aud.as_str()));
        let client = match (sent, &hint) {
            (Some(_), None) => None,
            (_, Some(hint)) => Some(hint.aud.as_str()),
            (None, None) => named,
        };
        let back = client.and_then(|client| Back::of(client, address?, state, snapshot));
        let doubtful = (sent.is_some() && hint.is_none()) || (address.is_some() && back.is_none());
        Ok(Self { hint, back, doubtful })
    }
}

impl Hint {
    /// Reads an ID token by the keys that are published, as it was issued: whatever says another algorithm, or that it
    /// is another kind of token, is none (RFC 8725 3.1, 3.11).
    fn read(text: &str, keys: &KeySet, issuer: &Issuer) -> Option<Self> {
        if text.len() > MAX_HINT {
            return None;
        }
        let header = jsonwebtoken::decode_header(text).ok()?;
        if header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) || header.crit.is_some() {
            return None;
        }
        let keys = keys.current();
        let key = keys.published(header.kid.as_deref()?)?;
        let mut validation = Validation::new(key.algorithm().of_jwt());
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        validation.set_issuer(&[issuer.as_str()]);
        Some(jsonwebtoken::decode::<Self>(text, key.verifying_key(), &validation).ok()?.claims)
    }

    /// Whether it means the user of this session: by its name, or as the client knows him in it.
    pub(super) fn fits(&self, found: &FoundSession) -> bool {
        let same_user = |opened: &crate::sessions::Opened| opened.subject == self.sub;
        self.sid.as_ref() == Some(&found.id) || found.session.opened.get(&self.aud).is_some_and(same_user)
    }
}

impl Back {
    /// The address of this client, compared as text (3), if it registered that.
    pub(super) fn of(client: &str, address: &str, state: Option<&str>, snapshot: &Snapshot) -> Option<Self> {
        let client = snapshot.client(client)?;
        let registered = client.relying_party.logout.post_logout.iter().any(|known| known == address);
        let state = state.filter(|state| state.len() <= MAX_STATE).map(str::to_owned);
        let client = client.relying_party.client_id.clone();
        registered.then(|| Self { client, address: address.to_owned(), state })
    }

    /// The address with the state, given back as it came.
    pub(super) fn to(&self) -> String {
        let Some(state) = &self.state else { return self.address.clone() };
        let state = form_urlencoded::Serializer::new(String::new()).append_pair("state", state).finish();
        let joint = if self.address.contains('?') { '&' } else { '?' };
        format!("{}{joint}{state}", self.address)
    }
}
