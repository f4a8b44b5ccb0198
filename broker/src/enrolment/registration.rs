//! Relying parties without agent, as ops let them in: under a name that is nobody else's, with an initial access token
//! that registers a number of clients (RFC 7591 1.2). What those clients then do is theirs.

use std::ops::RangeInclusive;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use secrecy::SecretString;
use tracing::{info, warn};

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::enrolment::{Enrolment, EnrolmentError, JoinTokenState, unhindered};
use crate::registry::{CONSOLE, INITIAL_TOKEN_PREFIX, Registration};
use crate::secret::{OpaqueSecret, SecretHash};
use crate::storage::{Expect, Write};

/// How long an initial access token may live.
const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);

/// How many clients it may register.
const CLIENTS: RangeInclusive<u32> = 1..=1000;

/// What ops ask for.
#[derive(Clone, Debug)]
pub struct RegistrationOrder {
    /// Names the relying party.
    pub name: InstanceName,
    /// Of the initial access token, from now.
    pub lifetime: Duration,
    /// How many clients it registers.
    pub clients: u32,
}

/// What went with a relying party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Its clients.
    pub clients: usize,
}

impl Enrolment {
    /// Opens a relying party without agent, or gives one that is open a new initial access token in place of the old one.
    ///
    /// # Errors
    /// When the name is an instance's, or will be one's.
    pub async fn open_registration(
        &self,
        order: RegistrationOrder,
        now: Timestamp,
    ) -> Result<(SecretString, Registration), EnrolmentError> {
        if !LIFETIME.contains(&order.lifetime) || !CLIENTS.contains(&order.clients) {
            return Err(EnrolmentError::RegistrationBounds);
        }
        let token = format!("{INITIAL_TOKEN_PREFIX}{}", OpaqueSecret::generate()?.expose());
        let opened = unhindered(|| self.try_open(&order, SecretHash::of(&token), now)).await?;
        info!(relying_party = %opened.name, clients = order.clients, until = %opened.expires_at, "registration opened");
        self.audit.note(Event::new(Kind::RegistrationOpened).relying_party(&opened.name));
        Ok((token.into(), opened))
    }

    async fn try_open(
        &self,
        order: &RegistrationOrder,
        initial_token: SecretHash,
        now: Timestamp,
    ) -> Result<Registration, EnrolmentError> {
        let name = &order.name;
        // One that had the name before there was a console keeps it, and keeps the console from having it.
        if name.as_str() == CONSOLE && self.registry.snapshot().registration(name).is_none() {
            return Err(EnrolmentError::NameReserved(name.clone()));
        }
        if self.registry.instances.get(name.as_str()).await?.is_some() {
            return Err(EnrolmentError::NameEnrolled(name.clone()));
        }
        if self.registry.upstreams.get(name.as_str()).await?.is_some() {
            return Err(EnrolmentError::NameOfUpstream(name.clone()));
        }
        if let Some(twin) = self.registry.snapshot().upstream_twin(name, name.as_str()) {
            return Err(EnrolmentError::NameLooksAlike(twin.clone()));
        }
        if self.expects(name, now).await? {
            return Err(EnrolmentError::NameExpected(name.clone()));
        }
        let known = self.registry.registrations.get(name.as_str()).await?;
        let expect = known.as_ref().map_or(Expect::Absent, |known| Expect::Version(known.version));
        let registration = Registration {
            name: name.clone(),
            initial_token,
            expires_at: now + order.lifetime,
            clients_left: order.clients,
            opened_at: known.map_or(now, |known| known.record.opened_at),
        };
        let writes = vec![
            self.registry.registrations.put(name.as_str(), &registration, expect)?,
            // Nobody enrols under the name in this moment.
            self.registry.instances.delete(name.as_str(), Expect::Absent),
            self.registry.upstreams.delete(name.as_str(), Expect::Absent),
        ];
        self.registry.reached(self.registry.registrations.commit(writes).await?).await?;
        Ok(registration)
    }

    /// Closes a relying party without agent: its clients and its trust edges, and with the last of them its initial
    /// access token.
    ///
    /// # Errors
    /// When there is none.
    pub async fn close_registration(&self, name: &InstanceName) -> Result<Closed, EnrolmentError> {
        let closed = unhindered(|| self.try_close(name)).await?;
        warn!(relying_party = %name, clients = closed.clients, "registration closed");
        self.audit.note(Event::new(Kind::RegistrationClosed).relying_party(name));
        Ok(closed)
    }

    async fn try_close(&self, name: &InstanceName) -> Result<Closed, EnrolmentError> {
        let known = self.registry.registrations.get(name.as_str()).await?;
        let known = known.ok_or_else(|| EnrolmentError::RegistrationUnknown(name.clone()))?;
        // Read from the store: whoever registers one meanwhile changes the registration, and this is judged again.
        let clients = self.registry.clients.all().await?.into_iter().filter(|(_, stored)| stored.record.name == *name);
        let mut writes: Vec<Write> = clients.map(|(id, _)| self.registry.clients.delete(&id, Expect::Any)).collect();
        let closed = Closed { clients: writes.len() };
        writes.extend(self.registry.without_edges_of(name).await?);
        let itself = self.registry.registrations.delete(name.as_str(), Expect::Version(known.version));
        self.registry.reached(self.registry.registrations.commit_after(writes, vec![itself]).await?).await?;
        self.registry.forget_edges_of(name).await?;
        Ok(closed)
    }

    /// Whether somebody holds a join token for a name that can still be used.
    pub(super) async fn expects(&self, name: &InstanceName, now: Timestamp) -> Result<bool, EnrolmentError> {
        let tokens = self.tokens.all().await?;
        Ok(tokens.iter().any(|(_, stored)| {
            let token = &stored.record;
            token.instance == *name && token.state == JoinTokenState::Issued && now < token.expires_at
        }))
    }
}
