//! Grants: what a relying party holds for one user and one login. First a code, then an access token.
//!
//! 1. [`Grants::issue_code`] makes a code of a [`Grant`]; its write belongs into the commit that ends the login.
//! 2. [`Grants::redeem`] turns the code into an access token and an ID token, in one commit: `Issued -> Redeemed`.
//! 3. [`Grants::claims`] answers for an access token.
//!
//! [`Probes`] are codes too, behind which there is no grant.
//!
//! Invariants: a code is redeemed at most once, under any concurrency. A second redemption that would have been valid
//! (its rightful client, callback and verifier) means that somebody has the code and all that goes with it: it ends the
//! access token of the first (RFC 6749 4.1.2). One that would not have been valid changes nothing, or everybody who saw
//! a code in a log could end other people's logins.

mod id_token;
mod probe;
mod record;

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;

use crate::clock::Timestamp;
use crate::config::{Issuer, Lifetimes};
use crate::grants::id_token::IdToken;
use crate::grants::record::CodeState;
use crate::keys::{KeyError, KeySet};
use crate::registry::{Claims, Liveness, RelyingParty, Scopes, SigningKeyChoice, Snapshot};
use crate::secret::{OpaqueSecret, SecretError, SecretHash};
use crate::storage::table::{Stored, Table};
use crate::storage::{Expect, Store, StoreError, Write};

pub use probe::{CreatedProbe, InstanceProbes, ProbeCode, ProbeError, ProbeOutcome, Probes};
pub use record::{AccessToken, Code, Grant};

/// How often a redemption looks again when another one came in between.
const REDEEM_TRIES: usize = 4;

/// All grants.
#[derive(Clone)]
pub struct Grants {
    codes: Table<Code>,
    access_tokens: Table<AccessToken>,
    keys: KeySet,
    liveness: Liveness,
    issuer: Issuer,
    lifetimes: Lifetimes,
}

/// What a client sends to have a code redeemed. The client is authenticated already.
pub struct Redemption<'a> {
    /// Who.
    pub client: &'a RelyingParty,
    /// The code.
    pub code: &'a str,
    /// The callback of the authorization request.
    pub redirect_uri: &'a str,
    /// PKCE verifier.
    pub verifier: Option<&'a str>,
}

/// What a client gets for a code.
#[derive(Debug)]
pub struct Tokens {
    /// For userinfo.
    pub access_token: OpaqueSecret,
    /// How long it lasts.
    pub expires_in: Duration,
    /// What was granted.
    pub scopes: Scopes,
    /// Who it is.
    pub id_token: String,
}

impl Grants {
    /// The flow on what it stands on.
    pub fn new(store: Arc<dyn Store>, keys: KeySet, liveness: Liveness, issuer: Issuer, lifetimes: Lifetimes) -> Self {
        Self { codes: Table::new(store.clone()), access_tokens: Table::new(store), keys, liveness, issuer, lifetimes }
    }

    /// A code for this grant, and the write that makes it real.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn issue_code(&self, grant: Grant, now: Timestamp) -> Result<(OpaqueSecret, Write), TokenError> {
        let code = OpaqueSecret::generate()?;
        let expires_at = now + self.lifetimes.authorization_code;
        let kept_until = expires_at + self.lifetimes.access_token;
        let record = Code { grant, expires_at, kept_until, state: CodeState::Issued };
        let write = self.codes.put(code.hash().as_str(), &record, Expect::Absent)?;
        Ok((code, write))
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
    ) -> Result<(Grant, Tokens), TokenError> {
        let id = SecretHash::of(redemption.code);
        for _ in 0..REDEEM_TRIES {
            let Stored { record: code, version } = self.codes.get(id.as_str()).await?.ok_or(TokenError::CodeUnknown)?;
            redemption.check(&code.grant)?;
            match code.state {
                CodeState::Issued => {}
                CodeState::Redeemed { access_token } => return self.end_family(&access_token).await,
            }
            if now >= code.expires_at {
                return Err(TokenError::CodeExpired);
            }
            if !code.grant.is_trusted(snapshot) {
                return Err(TokenError::TrustWithdrawn);
            }
            let (tokens, access_token) = self.make_tokens(&code.grant, redemption.client, now)?;
            let (grant, hash) = (code.grant.clone(), tokens.access_token.hash());
            let redeemed = Code { state: CodeState::Redeemed { access_token: hash.clone() }, ..code };
            let writes = vec![
                self.codes.put(id.as_str(), &redeemed, Expect::Version(version))?,
                self.access_tokens.put(hash.as_str(), &access_token, Expect::Absent)?,
            ];
            match self.codes.commit(writes).await {
                // Another redemption was faster: this one is the replay, and is treated as one in the next round.
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(|_| (grant, tokens))?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// What an access token lets its bearer know.
    ///
    /// # Errors
    /// When it is none, is too old, or trust was withdrawn since.
    pub async fn claims(&self, token: &str, snapshot: &Snapshot, now: Timestamp) -> Result<Claims, TokenError> {
        let stored = self.access_tokens.get(SecretHash::of(token).as_str()).await?;
        let AccessToken { grant, expires_at } = stored.ok_or(TokenError::AccessTokenUnknown)?.record;
        if now >= expires_at {
            return Err(TokenError::AccessTokenExpired);
        }
        if !grant.is_trusted(snapshot) {
            return Err(TokenError::TrustWithdrawn);
        }
        Ok(grant.claims)
    }

    /// Signs first and commits later: a code is not used up for a token that could not be made.
    fn make_tokens(
        &self,
        grant: &Grant,
        client: &RelyingParty,
        now: Timestamp,
    ) -> Result<(Tokens, AccessToken), TokenError> {
        let access_token = OpaqueSecret::generate()?;
        let expires_in = self.lifetimes.access_token;
        let claims = IdToken::of(grant, &self.issuer, &access_token, (now, now + self.lifetimes.id_token))?;
        let id_token = self.sign(&claims, &grant.relying_party, client)?;
        let record = AccessToken { grant: grant.clone(), expires_at: now + expires_in };
        Ok((Tokens { access_token, expires_in, scopes: grant.scopes.clone(), id_token }, record))
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

    /// RFC 6749 4.1.2: a code that is used twice takes the tokens of its first use with it.
    async fn end_family<T>(&self, access_token: &SecretHash) -> Result<T, TokenError> {
        let delete = self.access_tokens.delete(access_token.as_str(), Expect::Any);
        self.access_tokens.commit(vec![delete]).await?;
        Err(TokenError::CodeReplayed)
    }
}

impl Redemption<'_> {
    /// Whether this client may redeem this grant's code at all: judged before anything is said or done about its state.
    fn check(&self, grant: &Grant) -> Result<(), TokenError> {
        if grant.client_id != self.client.client_id {
            return Err(TokenError::CodeOfAnotherClient);
        }
        if grant.redirect_uri != self.redirect_uri {
            return Err(TokenError::RedirectUriMismatch);
        }
        // RFC 9700 2.1.1 and 4.8.2: a verifier if and only if there was a challenge, against downgrades.
        match (&grant.code_challenge, self.verifier) {
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
