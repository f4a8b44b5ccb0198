//! What a browser keeps while its user is at a provider: sealed, in a cookie of its own for each login, so that several
//! tabs can be on their way. Nobody else has it, so that nobody else can finish the login (RFC 6749 10.12), and the code of
//! another login does not fit it (RFC 9700 4.5).

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::registry::InstanceId;
use crate::secret::{OpaqueSecret, Purpose, SealingKeys, SecretHash};
use crate::upstream::error::UpstreamError;

/// Longest cookie, in bytes: browsers drop those above 4096 with name and attributes (RFC 6265 6.1).
const MAX_COOKIE: usize = 3900;

/// Characters of a transaction's name that tell the logins of one browser apart.
const TAG: usize = 8;

/// The secrets of one login.
#[derive(Serialize, Deserialize)]
pub(super) struct Waiting {
    home: InstanceName,
    home_id: InstanceId,
    state: SecretHash,
    ticket: SecretHash,
    pub(super) nonce: String,
    pub(super) verifier: String,
}

/// What goes out with a browser.
pub(super) struct Outgoing {
    pub(super) state: String,
    pub(super) waiting: Waiting,
    /// End of the cookie's name.
    pub(super) tag: String,
    pub(super) cookie: String,
}

impl Waiting {
    /// Of a login that goes to this home with this ticket.
    ///
    /// # Errors
    /// When nothing can be sealed, or the whole is too large for a cookie.
    pub(super) fn begin(
        sealing: &SealingKeys,
        (home, home_id): (&InstanceName, InstanceId),
        (transaction, ticket): (&str, &str),
    ) -> Result<Outgoing, UpstreamError> {
        let tag: String = transaction.chars().take(TAG).collect();
        let state = format!("{tag}.{}", OpaqueSecret::generate()?.expose());
        let waiting = Self {
            home: home.clone(),
            home_id,
            state: SecretHash::of(&state),
            ticket: SecretHash::of(ticket),
            nonce: OpaqueSecret::generate()?.expose().to_owned(),
            verifier: OpaqueSecret::generate()?.expose().to_owned(),
        };
        let cookie = format!("{}~{ticket}", sealing.seal_value(Purpose::UpstreamLogin, &waiting)?);
        if cookie.len() > MAX_COOKIE {
            return Err(UpstreamError::RequestTooLarge);
        }
        Ok(Outgoing { state, waiting, tag, cookie })
    }

    /// The login that an answer with this state belongs to, and its ticket.
    ///
    /// # Errors
    /// When it belongs to none that this browser began at this home.
    pub(super) fn recognise(
        sealing: &SealingKeys,
        (home, home_id): (&InstanceName, InstanceId),
        state: &str,
        cookie: &str,
    ) -> Result<(Self, String), UpstreamError> {
        let (sealed, ticket) = cookie.split_once('~').ok_or(UpstreamError::StateUnknown)?;
        let waiting: Self =
            sealing.open_value(Purpose::UpstreamLogin, sealed).map_err(|_| UpstreamError::StateUnknown)?;
        let own = waiting.state.matches(state) && waiting.ticket.matches(ticket);
        if own && waiting.home == *home && waiting.home_id == home_id {
            Ok((waiting, ticket.to_owned()))
        } else {
            Err(UpstreamError::StateUnknown)
        }
    }
}

/// The end of the cookie's name for an answer with this state; nothing if no broker has made it.
pub(super) fn tag(state: &str) -> Option<&str> {
    let (tag, _) = state.split_once('.')?;
    let plain = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (tag.len() == TAG && plain).then_some(tag)
}
