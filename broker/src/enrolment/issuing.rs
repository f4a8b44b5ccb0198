//! What ops do with join tokens: make, list, take back.

use homeward_certs::join_token::{JoinToken, JoinTokenError, JoinTokenId};
use homeward_certs::proof::ProofKey;
use secrecy::{SecretBox, SecretString};
use std::ops::RangeInclusive;
use std::time::Duration;
use tracing::info;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::enrolment::{Enrolment, EnrolmentError, JoinTokenOrder, JoinTokenState, ListedJoinToken, StoredJoinToken};
use crate::secret::random;
use crate::storage::Expect;
use crate::storage::table::Stored;

/// Bounds of a join token's life.
const TOKEN_LIFETIME: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(86_400);

impl Enrolment {
    /// Makes a join token. The text is the secret: it cannot be had again.
    ///
    /// # Errors
    /// When the lifetime is out of bounds or the name is taken.
    pub async fn create_token(
        &self,
        order: JoinTokenOrder,
        now: Timestamp,
    ) -> Result<(SecretString, ListedJoinToken), EnrolmentError> {
        if !TOKEN_LIFETIME.contains(&order.lifetime) {
            return Err(EnrolmentError::TokenLifetime);
        }
        self.check_name(&order.instance, order.replace)?;
        let token = JoinToken {
            agent_url: self.settings.agent_url.clone(),
            trust_domain: self.authority.trust_domain().clone(),
            id: JoinTokenId::from(random::<8>()?),
            secret: SecretBox::new(Box::new(random::<32>()?)),
            // Both while the CA turns, so that the token is good before and after.
            pins: self.authority.state().bundle.pins(),
            instance: order.instance.clone(),
            expires_at: (now + order.lifetime).as_secs().unsigned_abs(),
        };
        let stored = StoredJoinToken::new(order, &ProofKey::derive(&token.secret)?, &self.sealing, now)?;
        let write = self.tokens.put(&token.id.to_string(), &stored, Expect::Absent)?;
        self.tokens.commit(vec![write]).await?;
        info!(join_token = %token.id, instance = %stored.instance, creator = stored.creator, "join token created");
        self.audit.note(Event::new(Kind::JoinTokenCreated).instance(&stored.instance).object(token.id));
        Ok((token.to_text()?, ListedJoinToken { id: token.id, token: stored }))
    }

    /// Lists join tokens, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list_tokens(&self) -> Result<Vec<ListedJoinToken>, EnrolmentError> {
        let all = self.tokens.all().await?.into_iter();
        let mut listed = all
            .map(|(id, stored)| Ok(ListedJoinToken { id: id.parse()?, token: stored.record }))
            .collect::<Result<Vec<_>, JoinTokenError>>()?;
        listed.sort_by_key(|listed| std::cmp::Reverse(listed.token.created_at));
        Ok(listed)
    }

    /// Makes a join token useless.
    ///
    /// # Errors
    /// When there is none, or it was used.
    pub async fn revoke_token(&self, id: JoinTokenId) -> Result<ListedJoinToken, EnrolmentError> {
        let Stored { mut record, version } =
            self.tokens.get(&id.to_string()).await?.ok_or(EnrolmentError::TokenUnknown)?;
        match record.state {
            JoinTokenState::Issued | JoinTokenState::Revoked => record.state = JoinTokenState::Revoked,
            JoinTokenState::Claimed(_) | JoinTokenState::Confirmed(_) => return Err(EnrolmentError::TokenUsedUp),
        }
        let write = self.tokens.put(&id.to_string(), &record, Expect::Version(version))?;
        self.tokens.commit(vec![write]).await?;
        info!(join_token = %id, "join token revoked");
        self.audit.note(Event::new(Kind::JoinTokenRevoked).instance(&record.instance).object(id));
        Ok(ListedJoinToken { id, token: record })
    }
}
