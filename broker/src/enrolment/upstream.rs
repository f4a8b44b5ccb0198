//! Homes without agent, as ops make them: under a name that is nobody else's, and that nobody mistakes for another one.

use std::collections::BTreeMap;

use homeward_certs::identity::InstanceName;
use secrecy::{ExposeSecret as _, SecretString};
use tracing::{info, warn};

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::enrolment::{Enrolment, EnrolmentError, unhindered};
use crate::registry::{InstanceId, Upstream, UpstreamProtocol, UpstreamSecret};
use crate::storage::Expect;

/// What ops ask for.
#[derive(Clone, Debug)]
pub struct UpstreamOrder {
    /// Its name.
    pub name: InstanceName,
    /// The name people read; the name if empty.
    pub display_name: String,
    /// What it speaks.
    pub protocol: UpstreamProtocol,
    /// OAuth client id there.
    pub client_id: String,
    /// OAuth client secret there; the stored one if unset.
    pub client_secret: Option<SecretString>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Where what is known of a user stands.
    pub fields: BTreeMap<String, String>,
    /// What every user must have.
    pub required: BTreeMap<String, String>,
}

impl Enrolment {
    /// What an order would be stored as, if it keeps all rules: so that it can be tried before.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub async fn judge_upstream(
        &self,
        order: UpstreamOrder,
        broker: &Issuer,
        now: Timestamp,
    ) -> Result<Upstream, EnrolmentError> {
        let stored = self.registry.upstreams.get(order.name.as_str()).await?.map(|stored| stored.record);
        let client_secret = match (&order.client_secret, &stored) {
            (Some(secret), _) if secret.expose_secret().is_empty() => {
                return Err(EnrolmentError::UpstreamSecretMissing);
            }
            (Some(secret), _) => UpstreamSecret::seal(&self.sealing, secret.expose_secret())?,
            // To another server, or of another client, the stored one would be a secret that is given away.
            (None, Some(stored)) if stored.protocol == order.protocol && stored.client_id == order.client_id => {
                stored.client_secret.clone()
            }
            (None, _) => return Err(EnrolmentError::UpstreamSecretMissing),
        };
        let UpstreamOrder { name, display_name, protocol, client_id, client_secret: _, scopes, fields, required } =
            order;
        let display_name = if display_name.is_empty() { name.to_string() } else { display_name };
        let id = InstanceId::generate();
        let mut wanted = Upstream {
            name,
            id,
            display_name,
            protocol,
            client_id,
            client_secret,
            scopes,
            fields,
            required,
            updated_at: now,
        }
        .check(broker)?;
        let snapshot = self.registry.snapshot();
        wanted.id = self.id_of(&wanted, stored.as_ref())?;
        if let Some(twin) = snapshot.twin(&wanted.name, &wanted.display_name) {
            return Err(EnrolmentError::NameLooksAlike(twin.clone()));
        }
        Ok(wanted)
    }

    /// Makes a home without agent, or changes one. What is stored already is not written again.
    ///
    /// # Errors
    /// When the name is somebody else's, or will be.
    pub async fn put_upstream(&self, wanted: Upstream, now: Timestamp) -> Result<Upstream, EnrolmentError> {
        let put = unhindered(|| self.try_put(&wanted, now)).await?;
        info!(home = %put.name, provider = put.protocol.origin(), "a home without agent was made or changed");
        self.audit.note(Event::new(Kind::UpstreamPut).home(&put.name));
        Ok(put)
    }

    /// Which home it is: the one that is stored, if its users are the same. Whoever accepts a home means the users that it
    /// has.
    fn id_of(&self, wanted: &Upstream, stored: Option<&Upstream>) -> Result<InstanceId, EnrolmentError> {
        match stored {
            Some(stored) if stored.has_users_of(wanted) => Ok(stored.id),
            Some(_) if self.registry.snapshot().known_edges().any(|edge| edge.id.home == wanted.name) => {
                Err(EnrolmentError::UpstreamTrusted(wanted.name.clone()))
            }
            Some(_) | None => Ok(wanted.id),
        }
    }

    async fn try_put(&self, wanted: &Upstream, now: Timestamp) -> Result<Upstream, EnrolmentError> {
        let name = &wanted.name;
        let stored = self.registry.upstreams.get(name.as_str()).await?;
        // The provider was asked in the meantime, and another may have been put, and accepted.
        let id = self.id_of(wanted, stored.as_ref().map(|stored| &stored.record))?;
        let wanted = &Upstream { id, ..wanted.clone() };
        if let Some(stored) = stored.as_ref().map(|stored| &stored.record)
            && *stored == (Upstream { updated_at: stored.updated_at, ..wanted.clone() })
        {
            return Ok(stored.clone());
        }
        if self.registry.instances.get(name.as_str()).await?.is_some() {
            return Err(EnrolmentError::NameEnrolled(name.clone()));
        }
        if self.registry.registrations.get(name.as_str()).await?.is_some() {
            return Err(EnrolmentError::NameRegistered(name.clone()));
        }
        if self.expects(name, now).await? {
            return Err(EnrolmentError::NameExpected(name.clone()));
        }
        let expect = stored.map_or(Expect::Absent, |stored| Expect::Version(stored.version));
        let writes = vec![
            self.registry.upstreams.put(name.as_str(), wanted, expect)?,
            // Nobody takes the name in this moment.
            self.registry.instances.delete(name.as_str(), Expect::Absent),
            self.registry.registrations.delete(name.as_str(), Expect::Absent),
        ];
        self.registry.reached(self.registry.upstreams.commit(writes).await?).await?;
        Ok(wanted.clone())
    }

    /// Removes a home without agent, and its trust edges before it. Its users' sessions end with it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_upstream(&self, name: &InstanceName) -> Result<(), EnrolmentError> {
        unhindered(|| self.try_remove(name)).await?;
        warn!(home = %name, "a home without agent was removed");
        self.audit.note(Event::new(Kind::UpstreamRemoved).home(name));
        Ok(())
    }

    async fn try_remove(&self, name: &InstanceName) -> Result<(), EnrolmentError> {
        let stored = self.registry.upstreams.get(name.as_str()).await?;
        let stored = stored.ok_or_else(|| EnrolmentError::UpstreamUnknown(name.clone()))?;
        let edges = self.registry.without_edges_of(name).await?;
        let itself = self.registry.upstreams.delete(name.as_str(), Expect::Version(stored.version));
        self.registry.reached(self.registry.upstreams.commit_after(edges, vec![itself]).await?).await?;
        self.registry.forget_edges_of(name).await?;
        Ok(())
    }
}
