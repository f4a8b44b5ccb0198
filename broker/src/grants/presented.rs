//! Tokens that come back to us, of whatever kind: for introspection and revocation (RFC 7662, RFC 7009).

use jsonwebtoken::Validation;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::grants::Grants;
use crate::grants::error::TokenError;
use crate::grants::jwt_access_token::JwtAccessToken;
use crate::grants::record::Grant;
use crate::grants::sealed::{AccessTokenContents, Bearer, RefreshTokenContents, SealedToken as _, Serial};
use crate::registry::{Client, Snapshot};

/// A token that somebody sent, opened. That it opens says that it was issued here, and nothing else.
pub enum Presented {
    /// An access token, also one that is too old.
    Access(Box<AccessTokenContents>),
    /// A refresh token, also one that is not good any more.
    Refresh(RefreshTokenContents),
}

/// A refresh token that could be used now.
pub struct GoodRefreshToken {
    /// What it is of.
    pub grant: Grant,
    /// When the first of its family was issued.
    pub issued_at: Timestamp,
    /// When it ends, unless it is used before.
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Reference {
    jti: String,
}

impl Grants {
    /// Opens a token, whatever it is: nothing if it was not issued here.
    pub fn open_presented(&self, text: &str) -> Option<Presented> {
        if let Some(token) = RefreshTokenContents::open(&self.sealing, text) {
            return Some(Presented::Refresh(token));
        }
        let sealed = AccessTokenContents::open(&self.sealing, text).filter(|token| token.resource.is_none());
        let token = sealed.or_else(|| self.open_jwt(text))?;
        Some(Presented::Access(Box::new(token)))
    }

    /// The whole JWT counts, and not the reference in it alone: who took that over into claims of his own gets nothing.
    fn open_jwt(&self, text: &str) -> Option<AccessTokenContents> {
        let header = jsonwebtoken::decode_header(text).ok()?;
        if header.typ.as_deref() != Some(JwtAccessToken::TYPE) {
            return None;
        }
        let keys = self.signer.keys().current();
        let key = keys.published(header.kid.as_deref()?)?;
        // RFC 8725 3.1: the algorithm is that of our key. How old it is, is in the reference too.
        let mut validation = Validation::new(key.algorithm().of_jwt());
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.set_required_spec_claims(&["iss"]);
        validation.set_issuer(&[self.issuer.as_str()]);
        let token = jsonwebtoken::decode::<Reference>(text, key.verifying_key(), &validation).ok()?;
        AccessTokenContents::open(&self.sealing, &token.claims.jti).filter(|token| token.resource.is_some())
    }

    /// The grant of a refresh token, if that could be used now.
    ///
    /// # Errors
    /// When it could not.
    pub async fn find_refreshable(
        &self,
        token: &RefreshTokenContents,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<GoodRefreshToken, TokenError> {
        let stored = self.table.get(token.grant.as_str()).await?.ok_or(TokenError::RefreshTokenUnknown)?.record;
        let lifetimes = self.lifetimes.now();
        let family = self.judge_refresh_token(token, &stored, (snapshot, &lifetimes), now).await?;
        let (issued_at, expires_at) = (family.began_at, family.end(&lifetimes));
        Ok(GoodRefreshToken { issued_at, expires_at, grant: stored.grant })
    }

    /// The client of an access token that is its own, if both are good still.
    ///
    /// # Errors
    /// When they are not.
    pub async fn find_client<'a>(
        &self,
        token: &AccessTokenContents,
        snapshot: &'a Snapshot,
    ) -> Result<Client<'a>, TokenError> {
        let Bearer::Client(id) = &token.bearer else { return Err(TokenError::AccessTokenUnknown) };
        let client = snapshot.client(id.as_str()).ok_or(TokenError::TrustWithdrawn)?;
        if self.is_revoked(token.serial).await? { Err(TokenError::AccessTokenRevoked) } else { Ok(client) }
    }

    async fn is_revoked(&self, serial: Serial) -> Result<bool, TokenError> {
        Ok(self.revoked.get(&serial.to_string()).await?.is_some())
    }
}
