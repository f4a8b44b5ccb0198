//! Refresh tokens: one use each, and who uses an old one ends them all (RFC 9700 4.14.2).
//!
//! A refresh token carries its grant and its generation; the grant's record has the generation that is good. Using it is
//! one compare-and-swap of that record, so of many uses at once one succeeds. Whoever comes with an older one holds a
//! copy, or has let somebody take one: nobody can tell which, and the family ends.
//!
//! A client of the FAPI 2.0 profile keeps its token (5.3.2.1): it authenticates by a key, so a copy alone is worth
//! nothing.

use crate::clock::Timestamp;
use crate::config::Lifetimes;
use crate::grants::Grants;
use crate::grants::TRIES;
use crate::grants::binding::Binding;
use crate::grants::error::TokenError;
use crate::grants::issuing::{Issue, Occasion, Terms, Tokens};
use crate::grants::record::{Family, GrantState, KEPT_BEHIND_END, StoredGrant};
use crate::grants::sealed::{RefreshTokenContents, SealedToken as _};
use crate::registry::{ClientAuthMethod, Scopes, Snapshot};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError};

/// A token that stays is noted as used only if so large a part of its idle time has passed since.
const TOUCH_EVERY: u32 = 16;

/// What a client sends to have its tokens renewed. It is authenticated already.
pub struct Refreshment<'a> {
    /// Who, and on what terms.
    pub terms: Terms<'a>,
    /// The refresh token, opened.
    pub token: RefreshTokenContents,
    /// `scope`, to get less than was granted.
    pub scope: Option<&'a str>,
}

/// What becomes of a family when one of its tokens is used.
enum Next {
    /// Its next generation.
    Turn(Family),
    /// The token stays, and that it was used is noted.
    Note(Family),
    /// The token stays, and was noted lately.
    Stay,
}

impl Grants {
    /// Opens a refresh token that somebody sent. That it opens says that it was issued here, and nothing else.
    ///
    /// # Errors
    /// When it was not.
    pub fn open_refresh_token(&self, token: &str) -> Result<RefreshTokenContents, TokenError> {
        RefreshTokenContents::open(&self.sealing, token).ok_or(TokenError::RefreshTokenUnknown)
    }

    /// Renews the tokens of a grant.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub async fn refresh(
        &self,
        refreshment: &Refreshment<'_>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Tokens, TokenError> {
        let id = &refreshment.token.grant;
        for _ in 0..TRIES {
            let stored = self.table.get(id.as_str()).await?;
            let Stored { record, version } = stored.ok_or(TokenError::RefreshTokenUnknown)?;
            let lifetimes = self.lifetimes.now();
            refreshment.check_owner(&record)?;
            let judged = self.judge_refresh_token(&refreshment.token, &record, (snapshot, &lifetimes), now).await;
            let family = match judged {
                Err(error @ (TokenError::RefreshTokenReplayed | TokenError::LinkChanged)) => {
                    self.end(id).await?;
                    return Err(error);
                }
                judged => judged?,
            };
            // What is written knows nothing yet of a lifetime that was made longer.
            let covered = family.end(&lifetimes) < record.kept_until;
            let used_lately = covered && now.since(family.used_at) < lifetimes.refresh_token_idle / TOUCH_EVERY;
            let next = next(family, refreshment.terms.keeps_refresh_token(), used_lately, now);
            let mut tokens = self.renewed(refreshment, &record, snapshot, now)?;
            let family = match next {
                Next::Stay => return Ok(tokens),
                Next::Note(family) => family,
                Next::Turn(family) => {
                    tokens.refresh_token = Some(self.refresh_token(id, &family)?);
                    family
                }
            };
            let kept_until = family.end(&lifetimes).max(now + lifetimes.access_token) + KEPT_BEHIND_END;
            let record = StoredGrant { family: Some(family), kept_until, ..record };
            let write = self.table.put(id.as_str(), &record, Expect::Version(version))?;
            match self.table.commit(vec![write]).await {
                // Somebody used it first, revoked something or ended it: looking again tells which.
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(|_| tokens)?),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The family of a refresh token, if it could be used now: asked by who uses it, and by who only looks.
    pub(super) async fn judge_refresh_token<'a>(
        &self,
        token: &RefreshTokenContents,
        record: &'a StoredGrant,
        (snapshot, lifetimes): (&Snapshot, &Lifetimes),
        now: Timestamp,
    ) -> Result<&'a Family, TokenError> {
        let family = record.family.as_ref().ok_or(TokenError::RefreshTokenUnknown)?;
        if record.state == GrantState::Ended {
            return Err(TokenError::GrantEnded);
        }
        // A newer one than the record knows comes of a record that was put back from a backup: as bad as an older one.
        if token.generation != family.generation {
            return Err(TokenError::RefreshTokenReplayed);
        }
        if now >= family.end(lifetimes) {
            return Err(TokenError::RefreshTokenExpired);
        }
        self.judge(&record.grant, snapshot).await.map(|()| family)
    }

    fn renewed(
        &self,
        refreshment: &Refreshment<'_>,
        record: &StoredGrant,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Tokens, TokenError> {
        let (grant, terms) = (&record.grant, &refreshment.terms);
        let person = grant.offline.as_deref().ok_or(TokenError::RefreshTokenUnknown)?;
        let scopes = refreshment.scopes(&grant.scopes)?;
        let id = &refreshment.token.grant;
        self.issue(&Issue { id, grant, person, scopes, terms, occasion: Occasion::Refresh }, snapshot, now)
    }
}

impl Refreshment<'_> {
    /// Whether the token is its client's. This comes first: what would not have been valid anyway gives nobody away, and ends
    /// nothing.
    fn check_owner(&self, record: &StoredGrant) -> Result<(), TokenError> {
        if record.grant.client_id != self.terms.client.relying_party.client_id {
            return Err(TokenError::RefreshTokenOfAnotherClient);
        }
        let family = record.family.as_ref().ok_or(TokenError::RefreshTokenUnknown)?;
        if family.binding != Binding::Bearer && family.binding != self.terms.binding {
            return Err(TokenError::BoundToAnotherKey);
        }
        Ok(())
    }

    /// RFC 6749 6: what was granted, or less.
    fn scopes(&self, granted: &Scopes) -> Result<Scopes, TokenError> {
        match self.scope {
            None => Ok(granted.clone()),
            Some(scope) => granted.narrowed(scope).ok_or(TokenError::ScopeWidened),
        }
    }
}

impl Terms<'_> {
    /// What refresh tokens are bound to beside their client: a public one has nothing but its key to be known by.
    pub(super) fn binding_of_family(&self) -> Binding {
        match self.client.relying_party.auth_method {
            ClientAuthMethod::None => self.binding.clone(),
            ClientAuthMethod::ClientSecretBasic
            | ClientAuthMethod::ClientSecretPost
            | ClientAuthMethod::ClientSecretJwt
            | ClientAuthMethod::PrivateKeyJwt
            | ClientAuthMethod::TlsClientAuth => Binding::Bearer,
        }
    }

    fn keeps_refresh_token(&self) -> Keeping {
        let party = self.client.relying_party;
        let known_by_key = party.auth_method != ClientAuthMethod::None;
        if party.policy.is_fapi2() && known_by_key { Keeping::Kept } else { Keeping::Turned }
    }
}

/// Whether a client keeps its refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Kept,
    Turned,
}

fn next(family: &Family, keeping: Keeping, used_lately: bool, now: Timestamp) -> Next {
    match keeping {
        Keeping::Turned => Next::Turn(Family { generation: family.generation + 1, used_at: now, ..family.clone() }),
        Keeping::Kept if used_lately => Next::Stay,
        Keeping::Kept => Next::Note(Family { used_at: now, ..family.clone() }),
    }
}
