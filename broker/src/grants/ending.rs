//! How grants and tokens end before their time.

use secrecy::ExposeSecret as _;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::grants::error::TokenError;
use crate::grants::issuing::Tokens;
use crate::grants::presented::Presented;
use crate::grants::record::{Grant, GrantId, GrantOfUser, GrantState, KEPT_BEHIND_END, RevokedToken, StoredGrant};
use crate::grants::sealed::{AccessTokenContents, Bearer, Serial};
use crate::grants::{Grants, TRIES};
use crate::registry::{ClientId, UserId};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError};

/// Most access tokens of one grant that are revoked one by one; with the next the grant ends.
const MOST_REVOKED: usize = 16;

impl Grants {
    /// Ends a grant and all its tokens. Says nothing if it has ended already, or never was.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn end(&self, id: &GrantId) -> Result<(), TokenError> {
        let end = |record: StoredGrant| Ok(StoredGrant { state: GrantState::Ended, ..record });
        self.change(id, end).await
    }

    /// Ends the grant of tokens that must not be given out after all.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn take_back(&self, tokens: &Tokens) -> Result<(), TokenError> {
        let Some(refresh_token) = &tokens.refresh_token else { return Ok(()) };
        self.end(&self.open_refresh_token(refresh_token.expose_secret())?.grant).await
    }

    /// Revokes a token at its client's wish (RFC 7009 2.1): a refresh token takes its whole family with it. Says nothing
    /// if there is nothing to revoke any more.
    ///
    /// # Errors
    /// When it is another client's, or the store does not answer: then it is not revoked.
    pub async fn revoke(&self, token: &Presented, client: &ClientId, now: Timestamp) -> Result<(), TokenError> {
        let own = |record: StoredGrant| match record.grant.client_id == *client {
            true => Ok(record),
            false => Err(TokenError::TokenOfAnotherClient),
        };
        match token {
            Presented::Refresh(token) => {
                let end = |record| Ok(StoredGrant { state: GrantState::Ended, ..own(record)? });
                self.change(&token.grant, end).await
            }
            Presented::Access(token) if now >= token.expires_at => Ok(()),
            Presented::Access(token) => match &token.bearer {
                // Who has exchanged a token for this one holds the grant of both.
                Bearer::Grant(id) => self.change(id, |record| Ok(without(own(record)?, token.serial))).await,
                Bearer::Client(owner) if owner == client => self.note_revoked(token).await,
                Bearer::Client(_) => Err(TokenError::TokenOfAnotherClient),
            },
        }
    }

    /// The grants of a user that outlive their sessions, and are not ended.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn of_user(&self, user: &UserId) -> Result<Vec<(GrantId, Grant)>, TokenError> {
        let first = GrantOfUser::first_of(user);
        let mut grants = Vec::new();
        for (key, _) in self.of_users.beginning(&first).await? {
            let Some(id) = key.strip_prefix(&first).map(GrantId::of_key) else { continue };
            let stored = self.table.get(id.as_str()).await?.map(|stored| stored.record);
            grants.extend(stored.filter(|record| record.state == GrantState::Live).map(|record| (id, record.grant)));
        }
        Ok(grants)
    }

    /// Ends all grants of a user that outlive their sessions; says how many. Whoever means all that a user has ends the
    /// sessions first, so that no code brings another grant.
    ///
    /// # Errors
    /// When the store does not answer. What was ended until then has ended.
    pub async fn end_all(&self, user: &UserId) -> Result<usize, TokenError> {
        let all = self.of_user(user).await?;
        for (id, _) in &all {
            self.end(id).await?;
        }
        if !all.is_empty() {
            let ended = Event::new(Kind::GrantsEnded).user(user);
            self.audit.note(ended.detail(format!("all of the user's: {}", all.len())));
        }
        Ok(all.len())
    }

    /// An access token without grant is noted by itself.
    async fn note_revoked(&self, token: &AccessTokenContents) -> Result<(), TokenError> {
        let record = RevokedToken { kept_until: token.expires_at + KEPT_BEHIND_END };
        let write = self.revoked.put(&token.serial.to_string(), &record, Expect::Any)?;
        self.revoked.commit(vec![write]).await?;
        Ok(())
    }

    /// Changes a live grant's record by one compare-and-swap, again until nobody came in between.
    async fn change(
        &self,
        id: &GrantId,
        change: impl Fn(StoredGrant) -> Result<StoredGrant, TokenError>,
    ) -> Result<(), TokenError> {
        for _ in 0..TRIES {
            let Some(Stored { record, version }) = self.table.get(id.as_str()).await? else { return Ok(()) };
            let ended = record.state == GrantState::Ended;
            let changed = change(record)?;
            if ended {
                return Ok(());
            }
            let write = self.table.put(id.as_str(), &changed, Expect::Version(version))?;
            match self.table.commit(vec![write]).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(drop)?),
            }
        }
        Err(StoreError::Conflict.into())
    }
}

/// The grant without one of its access tokens.
fn without(mut record: StoredGrant, serial: Serial) -> StoredGrant {
    if !record.revoked.contains(&serial) {
        record.revoked.push(serial);
    }
    if record.revoked.len() > MOST_REVOKED {
        record.state = GrantState::Ended;
    }
    record
}
