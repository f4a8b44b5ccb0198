//! Homes without agent: the broker as the client of their identity providers.
//!
//! 1. [`Upstreams::depart`] sends a browser to a provider, with a state, a nonce and a PKCE challenge of this login alone;
//!    what belongs to them stays in the browser, sealed ([`waiting`]).
//! 2. The browser comes back to the one callback of this home. [`Upstreams::recognise`] finds out which login it is of.
//! 3. The login is used up (by who calls; the ticket is the login flow's), and [`Upstreams::hear`] gives the code for what
//!    the provider says of the user: an ID token, held against every rule, and userinfo; or the document of an OAuth
//!    server that is no OpenID provider.
//!
//! Invariants: a code is sent to the provider that the browser was sent to, and to nobody else; nothing of an answer
//! counts before its state, issuer, signature and nonce do; no token of a provider is kept, logged or handed on.

mod asked;
mod error;
mod exchange;
mod id_token;
mod json;
mod jws;
mod metadata;
mod oauth;
mod openid;
mod person;
mod presets;
mod provider;
#[cfg(test)]
pub(crate) mod tests;
mod waiting;

use std::sync::Arc;

use tracing::{info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::Issuer;
use crate::outbound::Outbound;
use crate::registry::{AssertedIdentity, InstanceId, Registry, Upstream, UpstreamProtocol};
use crate::secret::SealingKeys;
use asked::Asked;
use exchange::Secrets;
use provider::Providers;
use waiting::{Outgoing, Waiting};

use homeward_certs::identity::InstanceName;

pub use error::{IdTokenRule, MetadataRule, UpstreamError, UserRule};
pub use presets::{ANY, Preset, PresetError, Setup};

/// The flow.
#[derive(Clone)]
pub struct Upstreams {
    sealing: Arc<SealingKeys>,
    issuer: Issuer,
    providers: Arc<Providers>,
    asked: Asked,
}

/// A login that goes to a provider.
#[derive(Clone, Copy, Debug)]
pub struct Errand<'a> {
    /// Names it in logs, and its cookie.
    pub transaction: &'a str,
    /// The login, sealed by its own flow.
    pub ticket: &'a str,
    /// The user must have proven who he is at most so many seconds ago.
    pub max_age: Option<u64>,
    /// As in `prompt`: login, select_account.
    pub prompts: &'a [&'static str],
    /// The user name that is expected. Untrusted text.
    pub login_hint: Option<&'a str>,
    /// Classes that would do, the best first.
    pub acr_values: &'a [String],
    /// Languages of the user. Untrusted text.
    pub ui_locales: Option<&'a str>,
}

/// Where a browser goes, and what it keeps.
#[derive(Debug)]
pub struct Departure {
    /// The provider's authorization endpoint.
    pub address: String,
    /// End of the cookie's name.
    pub tag: String,
    /// The cookie.
    pub cookie: String,
}

/// What a browser brings back from a provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// `state`.
    pub state: &'a str,
    /// `iss` (RFC 9207).
    pub issuer: Option<&'a str>,
    /// `code`, whatever the dialect calls it.
    pub code: Option<&'a str>,
    /// `error`.
    pub error: Option<&'a str>,
}

/// A login that has come back.
pub struct Recognised {
    upstream: Arc<Upstream>,
    waiting: Waiting,
    /// The login, sealed by its own flow.
    pub ticket: String,
}

/// What a provider says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly always the large one, and moved once")]
pub enum Word {
    /// This is the user.
    User(AssertedIdentity),
    /// There is none.
    Nobody(Why),
}

/// Why there is no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Something would have had to be shown, and might not be.
    LoginRequired,
    /// The user gave up.
    Cancelled,
    /// The user may not log in here.
    Denied,
    /// The provider does not do what it should.
    Unavailable,
}

impl Upstreams {
    /// The flow on what it stands on.
    pub fn new(sealing: Arc<SealingKeys>, registry: Registry, outbound: Outbound, issuer: Issuer) -> Self {
        let providers = Arc::new(Providers::new(outbound, registry, issuer.clone()));
        Self { sealing, issuer, providers, asked: Asked::default() }
    }

    /// Keeps what is known of the providers fresh. Must be run.
    pub async fn keep_fresh(self, clock: Clock) {
        self.providers.keep_fresh(clock).await;
    }

    /// Whether a definition would do: its provider answers as it should, now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn check(&self, upstream: &Upstream, now: Timestamp) -> Result<(), UpstreamError> {
        match upstream.protocol {
            UpstreamProtocol::OpenId { .. } => self.providers.check(upstream, now).await.map(drop),
            // Such a server publishes nothing that could be looked at.
            UpstreamProtocol::Oauth { .. } => Ok(()),
        }
    }

    /// Sends a browser to a provider.
    ///
    /// # Errors
    /// When nothing is known of the provider, or the login is too large for a cookie.
    pub async fn depart(
        &self,
        upstream: &Upstream,
        errand: Errand<'_>,
        now: Timestamp,
    ) -> Result<Departure, UpstreamError> {
        let home = (&upstream.name, upstream.id);
        let Outgoing { state, waiting, tag, cookie } =
            Waiting::begin(&self.sealing, home, (errand.transaction, errand.ticket))?;
        let secrets = Secrets { state: &state, verifier: &waiting.verifier };
        let address = match &upstream.protocol {
            UpstreamProtocol::OpenId { .. } => {
                let provider = self.providers.find(upstream, now).await?;
                let further = openid::further(&waiting.nonce, &errand);
                let party = openid::party((upstream, &self.issuer), &provider.metadata, "");
                party.authorization_address(&secrets, openid::scopes(upstream), &further)?
            }
            UpstreamProtocol::Oauth { .. } => {
                let party = oauth::party((upstream, &self.issuer), "");
                party.authorization_address(&secrets, upstream.scopes.clone(), &oauth::further(upstream, &errand))?
            }
        };
        info!(transaction = errand.transaction, home = %upstream.name, "sent to an identity provider");
        Ok(Departure { address, tag, cookie })
    }

    /// The end of the cookie's name for an answer with this state.
    pub fn tag(state: &str) -> Option<&str> {
        waiting::tag(state)
    }

    /// Finds out which login of this browser an answer belongs to, and whether it is from the provider that was asked
    /// (RFC 9207 2.4): before anything else of it counts, its error too.
    ///
    /// # Errors
    /// When it belongs to none, or is from somebody else.
    pub async fn recognise(
        &self,
        upstream: Arc<Upstream>,
        answer: &Answer<'_>,
        cookie: &str,
        now: Timestamp,
    ) -> Result<Recognised, UpstreamError> {
        let home: (&InstanceName, InstanceId) = (&upstream.name, upstream.id);
        let (waiting, ticket) = Waiting::recognise(&self.sealing, home, answer.state, cookie)?;
        if let UpstreamProtocol::OpenId { issuer, .. } = &upstream.protocol {
            let provider = self.providers.find(&upstream, now).await?;
            match answer.issuer {
                Some(named) if named != issuer => return Err(UpstreamError::IssuerDiffers),
                None if provider.metadata.names_issuer => return Err(UpstreamError::IssuerMissing),
                Some(_) | None => {}
            }
        }
        Ok(Recognised { upstream, waiting, ticket })
    }

    /// What the provider says. An outage is an answer for the relying party; a word that breaks a rule is none.
    ///
    /// # Errors
    /// The rule that is broken.
    pub async fn hear(
        &self,
        recognised: Recognised,
        answer: &Answer<'_>,
        now: Timestamp,
    ) -> Result<Word, UpstreamError> {
        let Recognised { upstream, waiting, ticket: _ } = recognised;
        if let Some(error) = answer.error {
            let said: String = error.chars().filter(char::is_ascii_graphic).take(64).collect();
            warn!(home = %upstream.name, error = said, "an identity provider answers with an error");
            return Ok(Word::Nobody(of_error(error)));
        }
        let code = answer.code.ok_or(UpstreamError::CodeMissing)?;
        let asked = self.asked.of(upstream.id);
        // It is never closed.
        let _permit = asked.acquire().await.ok();
        let secret = upstream.client_secret.open(&self.sealing)?;
        let heard = match &upstream.protocol {
            UpstreamProtocol::OpenId { .. } => self.hear_openid(&upstream, (&secret, &waiting), code, now).await,
            UpstreamProtocol::Oauth { .. } => self.hear_oauth(&upstream, (&secret, &waiting), code).await,
        };
        match heard {
            Err(error) if error.is_outage() => {
                warn!(home = %upstream.name, %error, "an identity provider does not answer as it should");
                Ok(Word::Nobody(Why::Unavailable))
            }
            Err(error) => {
                warn!(home = %upstream.name, %error, "the word of an identity provider is refused");
                Err(error)
            }
            heard => heard,
        }
    }
}

impl UpstreamError {
    /// Whether the provider only did not do it: no rule is broken by that.
    fn is_outage(&self) -> bool {
        match self {
            Self::Fetch(..) | Self::Answer(..) | Self::Exchange(_) | Self::NotKnown => true,
            Self::StateUnknown
            | Self::IssuerDiffers
            | Self::IssuerMissing
            | Self::CodeMissing
            | Self::RequestTooLarge
            | Self::Metadata(_)
            | Self::IdToken(_)
            | Self::User(_)
            | Self::UserRefused
            | Self::Internal(_) => false,
        }
    }
}

/// RFC 6749 4.1.2.1, OpenID Connect Core 3.1.2.6. What is not known there is a fault of the set-up, for ops.
fn of_error(error: &str) -> Why {
    match error {
        "access_denied" => Why::Cancelled,
        "login_required" | "interaction_required" | "account_selection_required" | "consent_required" => {
            Why::LoginRequired
        }
        _ => Why::Unavailable,
    }
}
