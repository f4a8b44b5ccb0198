//! Pushed authorization requests (RFC 9126): checked before a browser is sent here, kept until they are answered.
//!
//! A request is used up by the commit that answers it, not when its address is loaded: a browser that loads it twice, or
//! prefetches it, must not lose the login. Two answers to one request cannot be: the commit takes the record away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::login::{AuthorizationRequest, LoginError};
use crate::registry::ClientId;
use crate::secret::{OpaqueSecret, SecretHash};
use crate::storage::table::{Record, Table};
use crate::storage::{Expect, Store, Write};

/// What every `request_uri` of a pushed request begins with (RFC 9126 2.2).
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// How long a browser has to bring it.
const LIFETIME: Duration = Duration::from_secs(60);

/// How much longer than its login a record is kept, so that a clock that is set back loses none.
const KEPT_BEHIND_END: Duration = Duration::from_secs(60);

/// All requests that were pushed and not answered yet.
#[derive(Clone)]
pub struct PushedRequests {
    table: Table<PushedRequest>,
    login_lifetime: Duration,
}

/// A request that was pushed, under the hash of its address.
#[derive(Serialize, Deserialize)]
pub struct PushedRequest {
    request: AuthorizationRequest,
    expires_at: Timestamp,
    kept_until: Timestamp,
}

impl Record for PushedRequest {
    const TABLE: &'static str = "pushed_request";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.kept_until)
    }
}

/// Names a pushed request: the hash of its address, so that what the store holds is of no use to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PushedId(String);

impl PushedId {
    /// Of this `request_uri`; nothing if it is none of a pushed request.
    pub fn of(request_uri: &str) -> Option<Self> {
        let secret = request_uri.strip_prefix(PREFIX)?;
        Some(Self(SecretHash::of(secret).as_str().to_owned()))
    }
}

impl fmt::Display for PushedId {
    /// Enough to tell two apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..6).unwrap_or_default())
    }
}

/// What the client is told.
pub struct Pushed {
    /// The address that stands for the request.
    pub request_uri: String,
    /// How long a browser has to bring it.
    pub expires_in: Duration,
}

impl PushedRequests {
    /// With logins of this lifetime.
    pub fn new(store: Arc<dyn Store>, login_lifetime: Duration) -> Self {
        Self { table: Table::new(store), login_lifetime }
    }

    /// Keeps a request.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn push(&self, request: AuthorizationRequest, now: Timestamp) -> Result<Pushed, LoginError> {
        let secret = OpaqueSecret::generate()?;
        let expires_at = now + LIFETIME;
        let kept_until = expires_at + self.login_lifetime + KEPT_BEHIND_END;
        let record = PushedRequest { request, expires_at, kept_until };
        let write = self.table.put(secret.hash().as_str(), &record, Expect::Absent)?;
        self.table.commit(vec![write]).await?;
        Ok(Pushed { request_uri: format!("{PREFIX}{}", secret.expose()), expires_in: LIFETIME })
    }

    /// The request behind an address that a browser brings, for the client that pushed it. Its login begins now.
    ///
    /// # Errors
    /// When there is none for this client, or it is too old.
    pub async fn find(
        &self,
        id: PushedId,
        client: &ClientId,
        now: Timestamp,
    ) -> Result<AuthorizationRequest, LoginError> {
        let found = self.table.get(&id.0).await?.map(|stored| stored.record);
        let found = found.filter(|found| found.request.client_id == *client && now < found.expires_at);
        let request = found.ok_or(LoginError::PushedRequestUnknown)?.request;
        Ok(AuthorizationRequest { pushed: Some(id), received_at: now, ..request })
    }

    /// The write that uses up what a request was pushed as; nothing if it was not pushed. Belongs into the commit of the
    /// answer.
    ///
    /// # Errors
    /// When it was used up already.
    pub async fn use_up(&self, request: &AuthorizationRequest) -> Result<Option<Write>, LoginError> {
        let Some(id) = &request.pushed else { return Ok(None) };
        let stored = self.table.get(&id.0).await?.ok_or(LoginError::PushedRequestUnknown)?;
        Ok(Some(self.table.delete(&id.0, Expect::Version(stored.version))))
    }
}
