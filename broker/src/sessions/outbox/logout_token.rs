//! The logout token (OpenID Connect Back-Channel Logout 1.0 2.4).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::registry::{SessionId, Subject};
use crate::sessions::outbox::record::{Entered, LogoutId};

/// Says what it is, so that it is taken for nothing else (RFC 8725 3.11).
pub(super) const TYP: &str = "logout+jwt";

/// Two minutes, as the specification recommends.
const LIFETIME: Duration = Duration::from_secs(120);

/// The one member of `events`.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a logout token says. There is no `nonce`, so that nobody takes it for an ID token.
#[derive(Serialize)]
pub(super) struct LogoutToken<'a> {
    iss: &'a Issuer,
    aud: &'a str,
    iat: Timestamp,
    exp: Timestamp,
    /// Another one in each try: an application that refuses what it has seen (2.6) would else never confirm a logout
    /// whose first confirmation was lost.
    jti: String,
    events: BTreeMap<&'static str, Nothing>,
    sub: &'a Subject,
    sid: &'a SessionId,
}

/// `{}`.
#[derive(Serialize)]
struct Nothing {}

impl<'a> LogoutToken<'a> {
    /// For this try to tell a relying party.
    pub(super) fn of(
        entered: &'a Entered,
        issuer: &'a Issuer,
        (id, attempt): (&LogoutId, u32),
        now: Timestamp,
    ) -> Self {
        Self {
            iss: issuer,
            aud: entered.client_id.as_str(),
            iat: now,
            exp: now + LIFETIME,
            jti: format!("{id}.{attempt}"),
            events: [(EVENT, Nothing {})].into(),
            sub: &entered.subject,
            sid: &entered.session,
        }
    }
}
