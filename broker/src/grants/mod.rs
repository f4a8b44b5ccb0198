//! Grants: what a relying party holds for one user and one login. First a code, then tokens of one family.
//!
//! 1. [`Grants::issue_code`] seals a [`Grant`] into a code. Nothing is stored.
//! 2. [`Grants::redeem`] turns the code into an access token and an ID token, in one commit: the grant's record.
//! 3. [`Grants::find`] gives the grant of an access token, if it is good.
//!
//! [`Probes`] are codes too, behind which there is no grant.
//!
//! Invariants: a code is redeemed at most once, under any concurrency, because the record of its grant is written once. A
//! second redemption that would have been valid (its rightful client, callback and verifier) means that somebody has the
//! code and all that goes with it: it ends the grant (RFC 6749 4.1.2). One that would not have been valid changes nothing,
//! or everybody who saw a code in a log could end other people's logins. No token is good without its grant's record, nor
//! after the session that the grant came of was ended, unless the grant was made to outlive it.

mod id_token;
mod probe;
mod record;
mod sealed;

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use secrecy::SecretString;

use crate::clock::Timestamp;
use crate::config::{Issuer, Lifetimes};
use crate::grants::id_token::IdToken;
use crate::grants::record::{GrantState, KEPT_BEHIND_END};
use crate::grants::sealed::SealedToken as _;
use crate::keys::{KeyError, KeySet};
use crate::registry::{
    Asked, Claims, Liveness, Person, RelyingParty, Scopes, SigningKeyChoice, Snapshot, VerifiedIdentity,
};
use crate::secret::{KeyEncryptionKey, SecretError, SecretHash, random};
use crate::storage::table::{Stored, Table};
use crate::storage::{Expect, Store, StoreError};

pub use probe::{CreatedProbe, InstanceProbes, ProbeCode, ProbeError, ProbeOutcome, Probes};
pub use record::{Grant, GrantId, StoredGrant};
pub use sealed::{AccessTokenContents, CodeContents};

/// How often a change looks again when another one came in between.
const TRIES: usize = 4;

/// All grants.
#[derive(Clone)]
pub struct Grants {
    table: Table<StoredGrant>,
    kek: Arc<KeyEncryptionKey>,
    keys: KeySet,
    liveness: Liveness,
    issuer: Issuer,
    lifetimes: Lifetimes,
}

/// What grants stand on.
pub struct GrantFoundations {
    /// Where they are written.
    pub store: Arc<dyn Store>,
    /// Seals codes and tokens.
    pub kek: Arc<KeyEncryptionKey>,
    /// Signs ID tokens.
    pub keys: KeySet,
    /// Which keys relying parties know.
    pub liveness: Liveness,
}

/// Where a code may be redeemed from.
pub struct CodeBinding {
    /// The callback that it goes to.
    pub redirect_uri: String,
    /// PKCE challenge.
    pub code_challenge: Option<SecretHash>,
    /// Thumbprint of the only key that its tokens may be bound to (RFC 9449 10).
    pub dpop_jkt: Option<String>,
}

/// What a client sends to have a code redeemed. The client is authenticated already.
pub struct Redemption<'a> {
    /// Who.
    pub client: &'a RelyingParty,
    /// The code, opened.
    pub code: CodeContents,
    /// The callback of the authorization request.
    pub redirect_uri: &'a str,
    /// PKCE verifier.
    pub verifier: Option<&'a str>,
    /// Who is signed in by the session of the grant; nobody if that was ended.
    pub person: Option<&'a VerifiedIdentity>,
}

/// What a client gets for a code.
pub struct Tokens {
    /// For userinfo.
    pub access_token: SecretString,
    /// How long it lasts.
    pub expires_in: Duration,
    /// What was granted.
    pub scopes: Scopes,
    /// Who it is.
    pub id_token: String,
}

impl Grants {
    /// The flow on what it stands on.
    pub fn new(foundations: GrantFoundations, issuer: Issuer, lifetimes: Lifetimes) -> Self {
        let GrantFoundations { store, kek, keys, liveness } = foundations;
        Self { table: Table::new(store), kek, keys, liveness, issuer, lifetimes }
    }

    /// A code for this grant.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn issue_code(&self, grant: Grant, binding: CodeBinding, now: Timestamp) -> Result<SecretString, TokenError> {
        let expires_at = now + self.lifetimes.authorization_code;
        let CodeBinding { redirect_uri, code_challenge, dpop_jkt } = binding;
        let id = GrantId::generate()?;
        let code = CodeContents { id, grant, redirect_uri, code_challenge, dpop_jkt, expires_at };
        Ok(code.seal(&self.kek)?)
    }

    /// Opens a code that somebody sent. That it opens says that it was issued here, and nothing else.
    ///
    /// # Errors
    /// When it was not.
    pub fn open_code(&self, code: &str) -> Result<CodeContents, TokenError> {
        CodeContents::open(&self.kek, code).ok_or(TokenError::CodeUnknown)
    }

    /// Redeems a code.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub async fn redeem(
        &self,
        redemption: Redemption<'_>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Tokens, TokenError> {
        redemption.check()?;
        let Redemption { client, code, person, .. } = redemption;
        // A replay is one also when the code would not be good any more.
        if now >= code.expires_at {
            self.end(&code.id).await?;
            return Err(TokenError::CodeExpired);
        }
        if !code.grant.is_trusted(snapshot) {
            return Err(TokenError::TrustWithdrawn);
        }
        let Some(person) = code.grant.offline.as_deref().or(person) else {
            self.end(&code.id).await?;
            return Err(TokenError::SessionEnded);
        };
        // Signs first and commits later: a code is not used up for a token that could not be made.
        let tokens = self.make_tokens((&code.id, &code.grant), client, (person, snapshot), now)?;
        let kept_until = now + self.lifetimes.authorization_code.max(self.lifetimes.access_token) + KEPT_BEHIND_END;
        let record = StoredGrant { grant: code.grant, state: GrantState::Live, kept_until };
        let write = self.table.put(code.id.as_str(), &record, Expect::Absent)?;
        match self.table.commit(vec![write]).await {
            Ok(_) => Ok(tokens),
            // RFC 6749 4.1.2: a code that is used twice takes the tokens of its first use with it.
            Err(StoreError::Conflict) => {
                self.end(&code.id).await?;
                Err(TokenError::CodeReplayed)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens an access token that somebody sent.
    ///
    /// # Errors
    /// When it was not made here, or is too old.
    pub fn open_access_token(&self, token: &str, now: Timestamp) -> Result<AccessTokenContents, TokenError> {
        let token = AccessTokenContents::open(&self.kek, token).ok_or(TokenError::AccessTokenUnknown)?;
        if now < token.expires_at { Ok(token) } else { Err(TokenError::AccessTokenExpired) }
    }

    /// The grant of an access token, if it is good still. Whether its session is there is for the caller to ask.
    ///
    /// # Errors
    /// When it was ended, or trust was withdrawn since.
    pub async fn find(&self, id: &GrantId, snapshot: &Snapshot) -> Result<Grant, TokenError> {
        let stored = self.table.get(id.as_str()).await?.ok_or(TokenError::AccessTokenUnknown)?.record;
        match stored.state {
            GrantState::Ended => Err(TokenError::GrantEnded),
            GrantState::Live if !stored.grant.is_trusted(snapshot) => Err(TokenError::TrustWithdrawn),
            GrantState::Live => Ok(stored.grant),
        }
    }

    /// Ends a grant and all its tokens. Says nothing if it has ended already, or never was.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn end(&self, id: &GrantId) -> Result<(), TokenError> {
        for _ in 0..TRIES {
            let Some(Stored { record, version }) = self.table.get(id.as_str()).await? else { return Ok(()) };
            if record.state == GrantState::Ended {
                return Ok(());
            }
            let ended = StoredGrant { state: GrantState::Ended, ..record };
            let write = self.table.put(id.as_str(), &ended, Expect::Version(version))?;
            match self.table.commit(vec![write]).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(drop)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    fn make_tokens(
        &self,
        (id, grant): (&GrantId, &Grant),
        client: &RelyingParty,
        (person, snapshot): (&VerifiedIdentity, &Snapshot),
        now: Timestamp,
    ) -> Result<Tokens, TokenError> {
        let vouching = snapshot.vouching(&grant.relying_party, &grant.home, grant.home_id);
        let (_, edge) = vouching.ok_or(TokenError::TrustWithdrawn)?;
        let expires_in = self.lifetimes.access_token;
        let contents = AccessTokenContents {
            grant: id.clone(),
            serial: random()?,
            expires_at: now + expires_in,
            scopes: grant.scopes.clone(),
        };
        let access_token = contents.seal(&self.kek)?;
        let person = Person { identity: person, subject: &grant.subject };
        let asked = Asked { scopes: &grant.scopes, claims: &grant.claims };
        let claims = Claims::for_id_token(person, edge, asked, &client.policy);
        let times = (now, now + self.lifetimes.id_token);
        let id_token = IdToken::of(grant, &claims, &self.issuer, &access_token, times)?;
        let id_token = self.sign(&id_token, &grant.relying_party, client)?;
        Ok(Tokens { access_token, expires_in, scopes: grant.scopes.clone(), id_token })
    }

    /// Signs by the key that the relying party chose, as the keys are at this moment: a login that began before they
    /// turned ends with the new one.
    fn sign(&self, claims: &IdToken<'_>, name: &InstanceName, client: &RelyingParty) -> Result<String, KeyError> {
        let (keys, algorithm) = (self.keys.current(), client.id_token_alg);
        match client.signing_key_choice {
            SigningKeyChoice::Active => keys.signer(algorithm).sign(claims),
            SigningKeyChoice::Acknowledged => {
                let sighting = self.liveness.sighting(name);
                let acknowledged = sighting.map(|sighting| sighting.acknowledged.key_ids).unwrap_or_default();
                keys.signer_for(algorithm, &acknowledged).sign(claims)
            }
        }
    }
}

impl Redemption<'_> {
    /// Whether this client may redeem this grant's code at all: judged before anything is said or done about its state.
    fn check(&self) -> Result<(), TokenError> {
        if self.code.grant.client_id != self.client.client_id {
            return Err(TokenError::CodeOfAnotherClient);
        }
        if self.code.redirect_uri != self.redirect_uri {
            return Err(TokenError::RedirectUriMismatch);
        }
        // RFC 9700 2.1.1 and 4.8.2: a verifier if and only if there was a challenge, against downgrades.
        match (&self.code.code_challenge, self.verifier) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(TokenError::VerifierUnexpected),
            (Some(_), None) => Err(TokenError::VerifierMissing),
            (Some(challenge), Some(verifier)) if is_verifier(verifier) && challenge.matches(verifier) => Ok(()),
            (Some(_), Some(_)) => Err(TokenError::VerifierWrong),
        }
    }
}

/// RFC 7636 4.1: 43 to 128 unreserved characters.
fn is_verifier(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&text.len()) && text.bytes().all(unreserved)
}

/// Why there is no token, or none that is good.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Never issued, or long ago.
    #[error("the code is unknown")]
    CodeUnknown,
    /// Issued to somebody else.
    #[error("the code belongs to another client")]
    CodeOfAnotherClient,
    /// Not the callback that it went to.
    #[error("the redirect_uri is not that of the authorization request")]
    RedirectUriMismatch,
    /// There was a challenge.
    #[error("the code_verifier is missing")]
    VerifierMissing,
    /// It does not fit the challenge.
    #[error("the code_verifier is wrong")]
    VerifierWrong,
    /// There was no challenge.
    #[error("there is a code_verifier but there was no code_challenge")]
    VerifierUnexpected,
    /// Used before.
    #[error("the code was used already; its access token is ended")]
    CodeReplayed,
    /// Too late.
    #[error("the code has expired")]
    CodeExpired,
    /// A probe, not a login.
    #[error("the code is a probe; how the client authenticated has been noted")]
    CodeIsProbe,
    /// The user logged out, or was logged out.
    #[error("the session that it came of has ended")]
    SessionEnded,
    /// Revoked, or a code or refresh token of it was used twice.
    #[error("the grant has ended")]
    GrantEnded,
    /// The edge is gone, or the home is cut off.
    #[error("the home may not vouch to this relying party any more")]
    TrustWithdrawn,
    /// Never issued, or ended.
    #[error("the access token is unknown")]
    AccessTokenUnknown,
    /// Too late.
    #[error("the access token has expired")]
    AccessTokenExpired,
    /// No randomness.
    #[error("a secret could not be made")]
    Internal(#[from] SecretError),
    /// The ID token could not be signed.
    #[error("the ID token could not be made")]
    Signing(#[from] KeyError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    // P3
    #[test]
    fn a_verifier_has_43_to_128_unreserved_characters() {
        for (text, good) in [
            ("a".repeat(42), false),
            ("a".repeat(43), true),
            ("aZ09-._~".repeat(16), true),
            ("a".repeat(129), false),
            (format!("{}+", "a".repeat(43)), false),
            (format!("{} ", "a".repeat(43)), false),
            (format!("{}é", "a".repeat(43)), false),
        ] {
            assert_eq!(is_verifier(&text), good, "{text}");
        }
    }
}
