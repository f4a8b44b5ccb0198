//! What ops, and the alarm, do with an instance: cut it off, let it in again, remove it, change how it is treated.

use homeward_certs::identity::InstanceName;
use tracing::field::display;
use tracing::{info, warn};

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::enrolment::{Enrolment, EnrolmentError, JoinTokenState, unhindered};
use crate::registry::{Instance, InstanceState, QuarantineCause, RecoveryPolicy, SigningKeyChoice};
use crate::storage::Expect;
use crate::storage::table::Stored;

/// What is to be changed; what is unset stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// Whether it may come back by its recovery key.
    pub recovery: Option<RecoveryPolicy>,
    /// With which key its tokens are signed.
    pub signing_key_choice: Option<SigningKeyChoice>,
}

/// What went with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Trust edges to and from it.
    pub trust_edges: usize,
}

impl Enrolment {
    /// Cuts an instance off. One that an alarm has cut off stays so.
    ///
    /// # Errors
    /// When there is no such instance.
    pub async fn quarantine(&self, name: &InstanceName, reason: &str, now: Timestamp) -> Result<(), EnrolmentError> {
        self.change(name, |instance| {
            if !is_alarmed(instance) {
                instance.cut_off(reason.to_owned(), QuarantineCause::Ops, now);
            }
            Ok(())
        })
        .await?;
        warn!(instance = %name, reason, "instance quarantined");
        self.audit.note(Event::new(Kind::InstanceQuarantined).instance(name).detail(reason.to_owned()));
        Ok(())
    }

    /// Ends a quarantine that ops ordered, or that a restore found necessary.
    ///
    /// # Errors
    /// When it is not quarantined, or an alarm did it: then only a new identity helps, because the old one is in two
    /// hands.
    pub async fn release(&self, name: &InstanceName) -> Result<(), EnrolmentError> {
        let instance = self.registry.instances.get(name.as_str()).await?.ok_or(EnrolmentError::InstanceUnknown)?;
        let before = self.state_before(&instance.record).await?;
        self.change(name, |instance| match &instance.state {
            InstanceState::Quarantined { cause: QuarantineCause::Ops | QuarantineCause::Restored, .. } => {
                instance.state = before.clone();
                Ok(())
            }
            InstanceState::Quarantined { cause: QuarantineCause::Alarm, .. } => {
                Err(EnrolmentError::QuarantinedByAlarm(name.clone()))
            }
            InstanceState::Claimed { .. } | InstanceState::Confirmed => Err(EnrolmentError::NotQuarantined),
        })
        .await?;
        info!(instance = %name, "quarantine ended");
        self.audit.note(Event::new(Kind::InstanceReleased).instance(name));
        Ok(())
    }

    /// Removes an instance, its trust edges, and join tokens that could bring it back. Its users' subjects at
    /// others are never another installation's, because those come from its id.
    ///
    /// # Errors
    /// When there is no such instance.
    pub async fn evict(&self, name: &InstanceName) -> Result<Evicted, EnrolmentError> {
        let evicted = unhindered(|| self.try_evict(name)).await?;
        warn!(instance = %name, trust_edges = evicted.trust_edges, "instance evicted");
        self.audit.note(Event::new(Kind::InstanceEvicted).instance(name));
        Ok(evicted)
    }

    async fn try_evict(&self, name: &InstanceName) -> Result<Evicted, EnrolmentError> {
        let instance = self.registry.instances.get(name.as_str()).await?.ok_or(EnrolmentError::InstanceUnknown)?;
        let mut writes = self.registry.without_edges_of(name).await?;
        let trust_edges = writes.len();
        for (id, Stored { record: mut token, version }) in self.tokens.all().await? {
            if token.instance == *name && token.state == JoinTokenState::Issued {
                token.state = JoinTokenState::Revoked;
                writes.push(self.tokens.put(&id, &token, Expect::Version(version))?);
            }
        }
        // What it rests on goes first, if it is too much for one commit: whoever is cut short finds it still there, and
        // evicts it again.
        let itself = self.registry.instances.delete(name.as_str(), Expect::Version(instance.version));
        let revision = self.registry.instances.commit_after(writes, vec![itself]).await?;
        self.registry.reached(revision).await?;
        self.registry.forget_edges_of(name).await?;
        self.liveness.forget(name);
        Ok(Evicted { trust_edges })
    }

    /// Changes how an instance is treated.
    ///
    /// # Errors
    /// When there is no such instance, or a signing key is chosen for one that gets no tokens.
    pub async fn set_policy(&self, name: &InstanceName, wanted: PolicyChange) -> Result<(), EnrolmentError> {
        self.change(name, |instance| {
            if let Some(choice) = wanted.signing_key_choice {
                let party = instance.relying_party.as_mut().ok_or(EnrolmentError::NoRelyingParty)?;
                party.signing_key_choice = choice;
            }
            instance.recovery = wanted.recovery.unwrap_or(instance.recovery);
            Ok(())
        })
        .await?;
        let signing_key = wanted.signing_key_choice.map(SigningKeyChoice::as_str);
        let recovery = wanted.recovery.map(display);
        info!(instance = %name, recovery, signing_key, "policy changed");
        self.audit.note(Event::new(Kind::InstancePolicyChanged).instance(name));
        Ok(())
    }

    /// Cuts an instance off because its identity is in two hands. Rests on what was judged: a new identity that came in
    /// between is not touched.
    pub(super) async fn raise_alarm(
        &self,
        judged: Stored<Instance>,
        reason: String,
        now: Timestamp,
    ) -> Result<(), EnrolmentError> {
        let Stored { record: mut instance, version } = judged;
        if is_alarmed(&instance) {
            return Ok(());
        }
        let told = reason.clone();
        instance.cut_off(reason, QuarantineCause::Alarm, now);
        let write = self.registry.instances.put(instance.name.as_str(), &instance, Expect::Version(version))?;
        let revision = self.registry.instances.commit(vec![write]).await?;
        self.audit.note(Event::new(Kind::CloneAlarm).instance(&instance.name).detail(told));
        Ok(self.registry.reached(revision).await?)
    }

    async fn change(
        &self,
        name: &InstanceName,
        change: impl Fn(&mut Instance) -> Result<(), EnrolmentError>,
    ) -> Result<(), EnrolmentError> {
        let decide = |instance: Option<Instance>| {
            let mut instance = instance.ok_or(EnrolmentError::InstanceUnknown)?;
            change(&mut instance)?;
            Ok::<_, EnrolmentError>(instance)
        };
        let revision = self.registry.instances.update(name.as_str(), decide).await?;
        Ok(self.registry.reached(revision).await?)
    }

    /// Where a released instance goes on: its first certificate may not have been used before it was cut off.
    async fn state_before(&self, instance: &Instance) -> Result<InstanceState, EnrolmentError> {
        let unused = self.tokens.all().await?.into_iter().find(|(_, token)| {
            matches!(&token.record.state, JoinTokenState::Claimed(claim) if claim.key == instance.certificate.key)
        });
        Ok(unused.map_or(InstanceState::Confirmed, |(join_token, _)| InstanceState::Claimed { join_token }))
    }
}

fn is_alarmed(instance: &Instance) -> bool {
    matches!(instance.state, InstanceState::Quarantined { cause: QuarantineCause::Alarm, .. })
}
