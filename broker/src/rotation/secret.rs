//! A client credential turns: two are good, the agent brings its application to the new one, and proves it by a token
//! request that the application itself makes. Then the old one closes.
//!
//! At the deadline it is decided by what is known. An application that was *seen* to refuse the new one, or to go on with
//! the old one, keeps the old one: the new one is taken back. Where nothing is known the old one closes, with an alert: a
//! secret that is to turn must not stay because an agent is silent.

use homeward_certs::identity::InstanceName;
use tracing::error;

use crate::audit::Kind;
use crate::clock::Timestamp;
use crate::registry::{ClientCredential, ClientSecret, Instance, RelyingParty, Resource};
use crate::rotation::gate::{Absent, Gate, Participant};
use crate::rotation::record::{Phase, RotationSubject, StoredRotation, Urgency};
use crate::rotation::{Move, RotationError, Rotations};
use crate::storage::table::Stored;
use crate::storage::{Expect, Write};

impl Rotations {
    /// Begins for every active relying party whose credential does not turn yet.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn begin_all_secrets(
        &self,
        urgency: Urgency,
        creator: &str,
        now: Timestamp,
    ) -> Result<Vec<StoredRotation>, RotationError> {
        let snapshot = self.registry.snapshot();
        let mut begun = Vec::new();
        for instance in snapshot.instances().filter(|instance| instance.is_active()) {
            if instance.relying_party.is_none() {
                continue;
            }
            match self.begin(RotationSubject::Secret(instance.name.clone()), urgency, creator, now).await {
                Ok(rotation) => begun.push(rotation),
                Err(RotationError::AlreadyTurning(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(begun)
    }

    pub(super) async fn begin_secret(
        &self,
        name: &InstanceName,
        urgency: Urgency,
        now: Timestamp,
    ) -> Result<Move, RotationError> {
        let (stored, mut party) = self.party(name).await?;
        // One that leaked closes for an instance that is cut off too: it must not be good again when that is let in.
        if urgency == Urgency::Planned && !stored.record.is_active() {
            return Err(RotationError::UnknownInstance(name.clone()));
        }
        let version = party.next_version();
        party.last_credential_version = version;
        let next = match &party.credential {
            ClientCredential::Secret(_) => ClientCredential::Secret(ClientSecret::generate(&self.sealing, version)?),
            ClientCredential::Key(_) | ClientCredential::KeyWanted { .. } => ClientCredential::KeyWanted { version },
            ClientCredential::Nothing => return Err(RotationError::NoCredential(name.clone())),
        };
        let (phase, remark) = match urgency {
            Urgency::Planned => {
                party.next_credential = Some(next);
                (Phase::Offered, String::new())
            }
            Urgency::Compromised => {
                (party.credential, party.next_credential, party.credential_at) = (next, None, Some(now));
                let remark = "The old credential is closed. Logins at this application fail until its agent has brought \
                              the new one into it: seconds if it is connected, for as long as it is away if not.";
                (Phase::Done, remark.to_owned())
            }
        };
        Ok(Move { writes: vec![self.put_party(stored, party)?], phase, remark })
    }

    pub(super) fn gate_of_secret(&self, name: &InstanceName, rotation: &StoredRotation) -> Gate {
        let (snapshot, seen) = (self.registry.snapshot(), self.liveness.sighting(name));
        let party = snapshot.instance(name).filter(|instance| instance.is_active());
        let next = party.and_then(|instance| instance.relying_party.as_ref()?.next_credential.as_ref());
        // An instance that is gone or cut off, or got another credential by enrolling anew, holds up nothing.
        let participants = next.map(|next| {
            let version = next.version();
            let uses = seen.as_ref().is_some_and(|seen| seen.acknowledged.secret_version == version);
            let refusal = seen.as_ref().and_then(|seen| seen.refusals.get(&Resource::ClientCredentials));
            let refusal = refusal.filter(|refusal| refusal.since >= rotation.phase_at);
            Participant::new(name.clone(), seen.as_ref(), uses).refusing(refusal)
        });
        Gate {
            participants: participants.into_iter().collect(),
            not_before: rotation.phase_at,
            absent: Absent::Grace,
            words: "the application presents the new credential at the token endpoint",
        }
    }

    /// Whether the instance has changed and this broker has not seen it yet: another broker may have offered it a new
    /// credential, and to whom that is unknown the gate looks open.
    pub(super) async fn is_behind(&self, name: &InstanceName) -> Result<bool, RotationError> {
        let stored = self.registry.instances.get(name.as_str()).await?;
        Ok(stored.is_some_and(|stored| !self.registry.snapshot().contains(stored.version.revision())))
    }

    /// The new credential is the only one from now on.
    pub(super) async fn close_old_secret(
        &self,
        name: &InstanceName,
        unproved: &[InstanceName],
        now: Timestamp,
    ) -> Result<Move, RotationError> {
        let (stored, mut party) = match self.party(name).await {
            Ok(found) => found,
            Err(RotationError::UnknownInstance(_) | RotationError::NoRelyingParty(_)) => {
                let remark = "The instance is gone.".to_owned();
                return Ok(Move { writes: Vec::new(), phase: Phase::RolledBack, remark });
            }
            Err(error) => return Err(error),
        };
        let Some(next) = party.next_credential.take() else {
            let remark = "The instance has got another credential by enrolling anew.".to_owned();
            return Ok(Move { writes: Vec::new(), phase: Phase::Done, remark });
        };
        (party.credential, party.credential_at) = (next, Some(now));
        let remark = if unproved.is_empty() {
            "The application presented the new credential; the old one is closed.".to_owned()
        } else {
            "The old credential closed without proof: the agent was away for the whole grace. Logins at this application \
             fail until it is back."
                .to_owned()
        };
        Ok(Move { writes: vec![self.put_party(stored, party)?], phase: Phase::Done, remark })
    }

    /// The agent had its time. What is known decides which of the two goes.
    pub(super) async fn end_unproved_secret(
        &self,
        stored: Stored<StoredRotation>,
        gate: &Gate,
        now: Timestamp,
    ) -> Result<(), RotationError> {
        let Stored { record: rotation, version } = stored;
        let RotationSubject::Secret(name) = rotation.subject.clone() else { return Ok(()) };
        let refusal = gate.participants.iter().find_map(|participant| participant.refusal.as_ref());
        let end = match refusal {
            Some(refusal) => {
                let back = self.roll_back_secret(&name).await?;
                let remark = format!("Taken back: {}: {}", refusal.reason, refusal.detail);
                Move { remark, ..back }
            }
            None => {
                let remark = "The old credential closed at the deadline without proof: the agent is connected and said \
                              nothing. Look at its log.";
                Move { remark: remark.to_owned(), ..self.close_old_secret(&name, &[], now).await? }
            }
        };
        error!(instance = %name, phase = ?end.phase, remark = end.remark, "ALERT: a client credential was not proved in time");
        let rotation = super::moved(rotation, &end, now);
        self.commit(&rotation, Expect::Version(version), end.writes).await?;
        self.audit.note(super::record(Kind::RotationMoved, &rotation).refused("not_proved"));
        Ok(())
    }

    /// The new credential is good no longer.
    pub(super) async fn roll_back_secret(&self, name: &InstanceName) -> Result<Move, RotationError> {
        let (stored, mut party) = self.party(name).await?;
        let writes = match party.next_credential.take() {
            Some(_) => vec![self.put_party(stored, party)?],
            None => Vec::new(),
        };
        Ok(Move { writes, phase: Phase::RolledBack, remark: "The old credential stays.".to_owned() })
    }

    async fn party(&self, name: &InstanceName) -> Result<(Stored<Instance>, RelyingParty), RotationError> {
        let stored = self.registry.instances.get(name.as_str()).await?;
        let stored = stored.ok_or_else(|| RotationError::UnknownInstance(name.clone()))?;
        let party = stored.record.relying_party.clone();
        Ok((stored, party.ok_or_else(|| RotationError::NoRelyingParty(name.clone()))?))
    }

    fn put_party(&self, stored: Stored<Instance>, party: RelyingParty) -> Result<Write, RotationError> {
        let instance = Instance { relying_party: Some(party), ..stored.record };
        Ok(self.registry.instances.put(instance.name.as_str(), &instance, Expect::Version(stored.version))?)
    }
}
