//! From a code to tokens.

use crate::clock::Timestamp;
use crate::grants::Grants;
use crate::grants::binding::Binding;
use crate::grants::error::TokenError;
use crate::grants::issuing::{Issue, Occasion, Terms, Tokens};
use crate::grants::record::{Grant, GrantId, GrantOfUser, GrantState, KEPT_BEHIND_END, StoredGrant};
use crate::grants::sealed::{CodeContents, SealedToken as _};
use crate::registry::{Scope, Snapshot, VerifiedIdentity};
use crate::secret::SecretHash;
use crate::storage::{Expect, StoreError, Write};
use secrecy::SecretString;

/// Where a code may be redeemed from.
pub struct CodeBinding {
    /// The callback that it goes to.
    pub redirect_uri: String,
    /// PKCE challenge.
    pub code_challenge: Option<SecretHash>,
    /// The key that its tokens have to be bound to (RFC 9449 10).
    pub dpop_jkt: Option<String>,
}

/// What a client sends to have a code redeemed. The client is authenticated already.
pub struct Redemption<'a> {
    /// Who.
    pub terms: Terms<'a>,
    /// The code, opened.
    pub code: CodeContents,
    /// The callback of the authorization request.
    pub redirect_uri: &'a str,
    /// PKCE verifier.
    pub verifier: Option<&'a str>,
    /// Who is signed in by the session of the grant; nobody if that was ended.
    pub person: Option<&'a VerifiedIdentity>,
}

/// A grant that begins: its tokens, and what has to be committed before anybody gets them.
pub struct BegunGrant {
    /// For the client.
    pub tokens: Tokens,
    /// The grant's record, expected to be absent, and what goes with it.
    pub writes: Vec<Write>,
}

impl Grants {
    /// A code for this grant.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn issue_code(&self, grant: Grant, binding: CodeBinding, now: Timestamp) -> Result<SecretString, TokenError> {
        let expires_at = now + self.lifetimes.now().authorization_code;
        let CodeBinding { redirect_uri, code_challenge, dpop_jkt } = binding;
        let code = CodeContents { id: GrantId::generate()?, grant, redirect_uri, code_challenge, dpop_jkt, expires_at };
        Ok(code.seal(&self.sealing)?)
    }

    /// Opens a code that somebody sent. That it opens says that it was issued here, and nothing else.
    ///
    /// # Errors
    /// When it was not.
    pub fn open_code(&self, code: &str) -> Result<CodeContents, TokenError> {
        CodeContents::open(&self.sealing, code).ok_or(TokenError::CodeUnknown)
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
        let Redemption { terms, code, person, .. } = redemption;
        let id = code.id.clone();
        let (user, client) = (code.grant.user.clone(), code.grant.client_id.clone());
        // A replay is one also when the code would not be good any more.
        if now >= code.expires_at {
            self.end(&id).await?;
            return Err(TokenError::CodeExpired);
        }
        match self.judge(&code.grant, snapshot).await {
            Err(TokenError::LinkChanged) => {
                self.end(&id).await?;
                return Err(TokenError::LinkChanged);
            }
            judged => judged?,
        }
        // Signs first and commits later: a code is not used up for a token that could not be made.
        let begun = match self.begin((code.id, code.grant), &terms, (person, snapshot), now) {
            Err(TokenError::SessionEnded) => {
                self.end(&id).await?;
                return Err(TokenError::SessionEnded);
            }
            begun => begun?,
        };
        match self.table.commit(begun.writes).await {
            Ok(_) => {
                self.keep_few(&begun.tokens, (&user, &client), &id).await;
                Ok(begun.tokens)
            }
            // RFC 6749 4.1.2: a code that is used twice takes the tokens of its first use with it.
            Err(StoreError::Conflict) => {
                self.end(&id).await?;
                Err(TokenError::CodeReplayed)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the first tokens of a grant. They are worth nothing until the writes are committed, and those can be
    /// committed once.
    ///
    /// # Errors
    /// When trust was withdrawn, the session was ended, or tokens cannot be made.
    pub fn begin(
        &self,
        (id, mut grant): (GrantId, Grant),
        terms: &Terms<'_>,
        (person, snapshot): (Option<&VerifiedIdentity>, &Snapshot),
        now: Timestamp,
    ) -> Result<BegunGrant, TokenError> {
        if !grant.is_trusted(snapshot) {
            return Err(TokenError::TrustWithdrawn);
        }
        // Also of a grant that outlives its session: whoever is logged out, or reported, while a code is on its way is not
        // let in by that code for months.
        let person = person.ok_or(TokenError::SessionEnded)?;
        grant.offline = grant.scopes.has(Scope::OfflineAccess).then(|| Box::new(person.clone()));
        let scopes = grant.scopes.clone();
        let issue = Issue { id: &id, grant: &grant, person, scopes, terms, occasion: Occasion::Login };
        let mut tokens = self.issue(&issue, snapshot, now)?;
        let family = self.family(&grant, terms, now);
        let ends_at = family.as_ref().map_or(now, |family| family.end(&self.lifetimes.now()));
        let replayable = now + self.lifetimes.now().authorization_code.max(self.lifetimes.now().access_token);
        let mut writes = Vec::new();
        if let Some(family) = &family {
            tokens.refresh_token = Some(self.refresh_token(&id, family)?);
            let kept_until = now + self.lifetimes.now().refresh_token + KEPT_BEHIND_END;
            let key = GrantOfUser::key(&grant.user, &id);
            let of_user = GrantOfUser { kept_until, client: Some(grant.client_id.clone()) };
            writes.push(self.of_users.put(&key, &of_user, Expect::Any)?);
        }
        let kept_until = ends_at.max(replayable) + KEPT_BEHIND_END;
        let record = StoredGrant { grant, state: GrantState::Live, family, revoked: Vec::new(), kept_until };
        writes.insert(0, self.table.put(id.as_str(), &record, Expect::Absent)?);
        Ok(BegunGrant { tokens, writes })
    }
}

impl Redemption<'_> {
    /// Whether this client may redeem this grant's code at all: judged before anything is said or done about its state.
    fn check(&self) -> Result<(), TokenError> {
        if self.code.grant.client_id != self.terms.client.relying_party.client_id {
            return Err(TokenError::CodeOfAnotherClient);
        }
        if self.code.redirect_uri != self.redirect_uri {
            return Err(TokenError::RedirectUriMismatch);
        }
        // RFC 9700 2.1.1 and 4.8.2: a verifier if and only if there was a challenge, against downgrades.
        match (&self.code.code_challenge, self.verifier) {
            (None, None) => {}
            (None, Some(_)) => return Err(TokenError::VerifierUnexpected),
            (Some(_), None) => return Err(TokenError::VerifierMissing),
            (Some(challenge), Some(verifier)) if is_verifier(verifier) && challenge.matches(verifier) => {}
            (Some(_), Some(_)) => return Err(TokenError::VerifierWrong),
        }
        match (&self.code.dpop_jkt, &self.terms.binding) {
            (None, _) => Ok(()),
            (Some(jkt), Binding::Key(shown)) if jkt == shown.as_str() => Ok(()),
            (Some(_), _) => Err(TokenError::BoundToAnotherKey),
        }
    }
}

/// RFC 7636 4.1: 43 to 128 unreserved characters.
fn is_verifier(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&text.len()) && text.bytes().all(unreserved)
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
