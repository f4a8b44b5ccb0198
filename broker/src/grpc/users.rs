//! The end of what a user has: sessions and grants are two flows, put together here for agents and ops.

use tonic::Status;

use crate::clock::Clock;
use crate::grants::Grants;
use crate::grpc::{Services, status};
use crate::registry::{Registry, UserId};
use crate::sessions::{Ended, Sessions, TellHome};

/// Who ends what users have.
#[derive(Clone)]
pub(super) struct Users {
    pub(super) sessions: Sessions,
    grants: Grants,
    registry: Registry,
    clock: Clock,
}

impl Users {
    pub(super) fn new(services: &Services) -> Self {
        Self {
            sessions: services.sessions.clone(),
            grants: services.grants.clone(),
            registry: services.registry.clone(),
            clock: services.clock.clone(),
        }
    }

    /// Ends all sessions of a user.
    pub(super) async fn log_out(&self, user: &UserId, tell_home: TellHome) -> Result<Ended, Status> {
        let ended = self.sessions.end_all(user, tell_home, &self.registry.snapshot(), self.clock.now()).await;
        ended.map_err(|error| status::session(&error))
    }

    /// Ends what would have outlived the sessions; says how much it was.
    pub(super) async fn end_grants(&self, user: &UserId) -> Result<u32, Status> {
        let grants = self.grants.of_user(user).await.map_err(|error| status::grant(&error))?;
        for (id, _) in &grants {
            self.grants.end(id).await.map_err(|error| status::grant(&error))?;
        }
        Ok(u32::try_from(grants.len()).unwrap_or(u32::MAX))
    }
}
