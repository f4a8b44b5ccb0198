//! The end of what a user has: sessions and grants are two flows, put together here for agents and ops.

use tonic::Status;

use crate::audit::{Audit, Event, Kind};
use crate::clock::Clock;
use crate::grants::Grants;
use crate::grpc::{Services, status};
use crate::registry::{Departure, InstanceId, Link, Registry, SubjectKey, UserId};
use crate::sessions::{Ended, Sessions, TellHome};

/// Who ends what users have.
#[derive(Clone)]
pub(super) struct Users {
    pub(super) sessions: Sessions,
    grants: Grants,
    registry: Registry,
    pub(super) subjects: SubjectKey,
    audit: Audit,
    clock: Clock,
}

impl Users {
    pub(super) fn new(services: &Services) -> Self {
        Self {
            sessions: services.sessions.clone(),
            grants: services.grants.clone(),
            registry: services.registry.clone(),
            subjects: services.subjects.clone(),
            audit: services.audit.clone(),
            clock: services.clock.clone(),
        }
    }

    /// Ends all sessions of a user.
    pub(super) async fn log_out(&self, user: &UserId, tell_home: TellHome) -> Result<Ended, Status> {
        let ended = self.sessions.end_all(user, tell_home, &self.registry.snapshot(), self.clock.now()).await;
        ended.map_err(|error| status::session(&error))
    }

    /// Ends what a home's user has, who logged out there or may log in there no more.
    ///
    /// In this order: once the home's word is taken back no login that is under way begins a session, and once the sessions
    /// are gone no code brings another grant. A broker that dies in between is asked again.
    pub(super) async fn leave_home(
        &self,
        home: InstanceId,
        home_user_id: &str,
        departure: Option<Departure>,
    ) -> Result<Ended, Status> {
        let (users, now) = (&self.registry.home_users, self.clock.now());
        let id = match departure {
            Some(departure) => {
                let noted = users.cut_off(home, home_user_id, departure).await;
                noted.map(|user| user.current_id(home_user_id))
            }
            None => users.standing(home, home_user_id).await.map(|standing| standing.current_id(home_user_id)),
        };
        let user = self.subjects.user(home, &id.map_err(|error| status::store(&error))?);
        let reported = Event::new(Kind::UserReported).user(&user);
        self.audit.note(reported.detail(departure.map_or("logged out", Departure::as_str)));
        let snapshot = self.registry.snapshot();
        let ended = match departure {
            Some(_) => self.sessions.end_for_good(&user, &snapshot, now).await,
            None => self.sessions.end_all(&user, TellHome::No, &snapshot, now).await,
        };
        let ended = ended.map_err(|error| status::session(&error))?;
        if departure.is_some() {
            self.end_grants(&user).await?;
            // The home does not stand by him any more, so no other home lets anybody in as him.
            for link in self.registry.links.of_user(&user).await.map_err(|error| status::store(&error))? {
                self.unlink(&link, "the home has taken back its word").await?;
            }
        }
        Ok(ended)
    }

    /// Ends a link, then what rests on it; says how many sessions that were. A login that is under way finds the link gone, or
    /// is ended with the rest; and what is not reached is dead, for it asks for its link. Whoever fails in between is asked
    /// again: until all has ended the link is there to be ended.
    pub(super) async fn unlink(&self, link: &Link, why: &'static str) -> Result<usize, Status> {
        let ended = self.registry.links.end(link).await.map_err(|error| status::store(&error))?;
        if ended {
            let unlinked = Event::new(Kind::HomesUnlinked).object(&link.id).home(&link.alias.home);
            self.audit.note(unlinked.user(&link.alias.user).detail(why));
        }
        let sessions = self.end_everything(&link.alias.user).await?;
        self.registry.links.forget(link).await.map_err(|error| status::store(&error))?;
        Ok(sessions)
    }

    async fn end_everything(&self, user: &UserId) -> Result<usize, Status> {
        let (snapshot, now) = (self.registry.snapshot(), self.clock.now());
        let ended = self.sessions.end_for_good(user, &snapshot, now).await;
        let ended = ended.map_err(|error| status::session(&error))?.sessions.len();
        self.end_grants(user).await?;
        Ok(ended)
    }

    /// Ends what would have outlived the sessions; says how much it was.
    pub(super) async fn end_grants(&self, user: &UserId) -> Result<u32, Status> {
        let ended = self.grants.end_all(user).await.map_err(|error| status::grant(&error))?;
        Ok(u32::try_from(ended).unwrap_or(u32::MAX))
    }
}
