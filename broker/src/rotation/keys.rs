//! Signing keys turn: the next key is published, then signs, then the one before goes when nothing that it signed lives.

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::keys::{KeyState, SigningAlgorithm, StoredKey};
use crate::registry::{Instance, Resource, SigningKeyChoice};
use crate::rotation::gate::{Absent, Gate, Participant};
use crate::rotation::record::{Phase, StoredRotation, Urgency};
use crate::rotation::{Move, RotationError, RotationSubject, Rotations};
use crate::storage::table::Stored;
use crate::storage::{Expect, StoreError};

/// The keys of one algorithm by their states.
pub(super) struct Turn {
    /// Signs nothing yet.
    pub(super) pending: Option<(String, Stored<StoredKey>)>,
    /// Signs.
    pub(super) active: (String, Stored<StoredKey>),
    /// Stays for what it signed, the newest first.
    pub(super) retired: Vec<(String, Stored<StoredKey>)>,
}

impl Turn {
    /// The moment at which the last retired key goes.
    fn gone_at(&self) -> Option<Timestamp> {
        let gone = self.retired.iter().filter_map(|(_, stored)| match stored.record.state {
            KeyState::Retired { gone_at } => Some(gone_at),
            KeyState::Pending | KeyState::Active => None,
        });
        gone.max()
    }
}

impl Rotations {
    /// All keys of an algorithm.
    pub(super) async fn turn(&self, algorithm: SigningAlgorithm) -> Result<Turn, RotationError> {
        let (mut pending, mut active, mut retired) = (None, None, Vec::new());
        for (kid, stored) in self.keys.all().await? {
            match stored.record.state {
                _ if stored.record.algorithm != algorithm => {}
                KeyState::Pending => pending = Some((kid, stored)),
                KeyState::Active => active = Some((kid, stored)),
                KeyState::Retired { .. } => retired.push((kid, stored)),
            }
        }
        retired.sort_by_key(|(_, stored)| std::cmp::Reverse(stored.record.since()));
        Ok(Turn { pending, active: active.ok_or(RotationError::NoActiveKey)?, retired })
    }

    /// All signing keys with their ids: those that sign first, then those to come, then those to go.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn signing_keys(&self) -> Result<Vec<(String, StoredKey)>, RotationError> {
        let all = self.keys.all().await?.into_iter();
        let mut all: Vec<_> = all.map(|(kid, stored)| (kid, stored.record)).collect();
        let rank = |key: &StoredKey| match key.state {
            KeyState::Active => 0,
            KeyState::Pending => 1,
            KeyState::Retired { .. } => 2,
        };
        all.sort_by_key(|(_, key)| (rank(key), key.algorithm.as_str() == "ES256", std::cmp::Reverse(key.since())));
        Ok(all)
    }

    pub(super) async fn begin_keys(
        &self,
        algorithm: SigningAlgorithm,
        urgency: Urgency,
        now: Timestamp,
    ) -> Result<Move, RotationError> {
        let turn = self.turn(algorithm).await?;
        match urgency {
            Urgency::Planned => {
                // One that an interrupted turn left over is as good.
                let writes = match turn.pending {
                    Some(_) => Vec::new(),
                    None => {
                        let (kid, key) = StoredKey::generate(&self.sealing, algorithm, now)?;
                        vec![self.keys.put(&kid, &key, Expect::Absent)?]
                    }
                };
                Ok(Move { writes, phase: Phase::Published, remark: String::new() })
            }
            Urgency::Compromised => self.replace_keys(turn, algorithm, now),
        }
    }

    /// The keys that have signed are published no longer and the next one signs, at once. A pending key, which agents may have
    /// acknowledged already, is the next one.
    fn replace_keys(&self, turn: Turn, algorithm: SigningAlgorithm, now: Timestamp) -> Result<Move, RotationError> {
        let (old, stored) = turn.active;
        let mut writes = vec![self.keys.delete(&old, Expect::Version(stored.version))];
        // Nobody can be sure that it is not the one before that leaked.
        writes.extend(turn.retired.iter().map(|(kid, stored)| self.keys.delete(kid, Expect::Version(stored.version))));
        let (kid, key, expect) = match turn.pending {
            Some((kid, stored)) => (kid, stored.record, Expect::Version(stored.version)),
            None => {
                let (kid, key) = StoredKey::generate(&self.sealing, algorithm, now)?;
                (kid, key, Expect::Absent)
            }
        };
        writes.push(self.keys.put(&kid, &key.moved(KeyState::Active, now), expect)?);
        let unaware: Vec<_> = self
            .key_participants(algorithm, &kid, |_| true)
            .into_iter()
            .filter(|participant| !participant.acknowledged)
            .map(|participant| participant.instance.to_string())
            .collect();
        let remark = format!(
            "The key {old}, and any before it, is published and accepted no longer. ID tokens that it signed are worth nothing now, and \
             logins at applications that keep the key set fail until they fetch it again: in {} s at the latest where \
             caches obey max-age. Not known to have the new key {kid}: {}.",
            self.settings.now().policy.key_set_max_age.as_secs(),
            if unaware.is_empty() { "nobody".to_owned() } else { unaware.join(", ") },
        );
        Ok(Move { writes, phase: Phase::Done, remark })
    }

    pub(super) async fn gate_of_keys(
        &self,
        algorithm: SigningAlgorithm,
        phase: Phase,
        now: Timestamp,
    ) -> Result<Gate, RotationError> {
        let turn = self.turn(algorithm).await?;
        match (phase, &turn.pending) {
            (Phase::Published, Some((kid, stored))) => Ok(Gate {
                // Who asked for keys that he has acknowledged holds up nobody: his tokens stay with the old one.
                participants: self.key_participants(algorithm, kid, |choice| choice == SigningKeyChoice::Active),
                // Twice the longest life of a copy in a cache (RFC 9111), which no agent can look into.
                not_before: stored.record.created_at + self.settings.now().policy.key_set_max_age * 2,
                absent: Absent::Grace,
                words: "every connected relying party proves that it can verify with the new key; caches of the key set expire",
            }),
            (Phase::Published, None) => Err(RotationError::NoActiveKey),
            _ => Ok(Gate {
                participants: Vec::new(),
                not_before: turn.gone_at().unwrap_or(now),
                absent: Absent::Grace,
                words: "the last token that the old key signed expires",
            }),
        }
    }

    /// The relying parties whose tokens are of this algorithm.
    fn key_participants(
        &self,
        algorithm: SigningAlgorithm,
        kid: &str,
        counts: impl Fn(SigningKeyChoice) -> bool,
    ) -> Vec<Participant> {
        let (snapshot, sightings) = (self.registry.snapshot(), self.sightings());
        let concerned = |instance: &&std::sync::Arc<Instance>| {
            let party = instance.relying_party.as_ref();
            instance.is_active()
                && party.is_some_and(|party| party.id_token_alg == algorithm && counts(party.signing_key_choice))
        };
        let participants = snapshot.instances().filter(concerned).map(|instance| {
            let seen = sightings.get(&instance.name).map(|seen| &**seen);
            let knows = seen.is_some_and(|seen| seen.acknowledged.key_ids.iter().any(|known| known == kid));
            let refusal = seen.and_then(|seen| seen.refusals.get(&Resource::KeySet));
            Participant::new(instance.name.clone(), seen, knows).refusing(refusal)
        });
        participants.collect()
    }

    pub(super) async fn advance_keys(
        &self,
        algorithm: SigningAlgorithm,
        rotation: &StoredRotation,
        now: Timestamp,
    ) -> Result<Move, RotationError> {
        if rotation.phase != Phase::Published {
            // What was retired is gone by now: the sweep deletes it.
            return Ok(Move { writes: Vec::new(), phase: Phase::Done, remark: String::new() });
        }
        let turn = self.turn(algorithm).await?;
        let (kid, next) = turn.pending.ok_or(RotationError::NoActiveKey)?;
        let (old, current) = turn.active;
        let retired = KeyState::Retired { gone_at: now + self.settings.now().longest_token };
        let writes = vec![
            self.keys.put(&kid, &next.record.moved(KeyState::Active, now), Expect::Version(next.version))?,
            self.keys.put(&old, &current.record.moved(retired, now), Expect::Version(current.version))?,
        ];
        Ok(Move { writes, phase: Phase::Active, remark: format!("{kid} signs; {old} stays for its tokens.") })
    }

    pub(super) async fn roll_back_keys(
        &self,
        algorithm: SigningAlgorithm,
        rotation: &StoredRotation,
        now: Timestamp,
    ) -> Result<Move, RotationError> {
        let turn = self.turn(algorithm).await?;
        let too_late = || RotationError::TooLate(RotationSubject::Keys(algorithm));
        let (writes, remark) = match (rotation.phase, turn.pending) {
            (Phase::Published, Some((kid, stored))) => {
                (vec![self.keys.delete(&kid, Expect::Version(stored.version))], format!("{kid} was never used."))
            }
            (Phase::Active, _) => {
                let (old, before) = turn.retired.into_iter().next().ok_or_else(too_late)?;
                let (kid, current) = turn.active;
                let retired = KeyState::Retired { gone_at: now + self.settings.now().longest_token };
                let writes = vec![
                    self.keys.put(
                        &old,
                        &before.record.moved(KeyState::Active, now),
                        Expect::Version(before.version),
                    )?,
                    self.keys.put(&kid, &current.record.moved(retired, now), Expect::Version(current.version))?,
                ];
                (writes, format!("{old} signs again; {kid} stays for its tokens."))
            }
            _ => return Err(too_late()),
        };
        Ok(Move { writes, phase: Phase::RolledBack, remark })
    }

    /// Deletes retired keys whose time has come, and gives more time to one that still signs for somebody.
    pub(super) async fn sweep_keys(&self, now: Timestamp) -> Result<(), RotationError> {
        for (kid, Stored { record: key, version }) in self.keys.all().await? {
            let KeyState::Retired { gone_at } = key.state else { continue };
            let longest = self.settings.now().longest_token;
            let write = if self.still_signs(&kid, key.algorithm).await? {
                // A token signed in this very second lives to the end.
                if gone_at >= now + longest + super::TICK * 60 {
                    continue;
                }
                let since = key.since();
                let longer = KeyState::Retired { gone_at: now + longest * 2 + super::TICK * 60 };
                self.keys.put(&kid, &key.moved(longer, since), Expect::Version(version))?
            } else if now >= gone_at {
                self.keys.delete(&kid, Expect::Version(version))
            } else {
                continue;
            };
            let deletes = write.value.is_none();
            match self.keys.commit(vec![write]).await {
                Ok(_) if deletes => {
                    tracing::info!(kid, "a retired signing key is gone");
                    self.audit.note(Event::new(Kind::SigningKeyGone).object(&kid));
                }
                Ok(_) | Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether a relying party has its tokens signed by this retired key, because it has acknowledged no newer one.
    async fn still_signs(&self, kid: &str, algorithm: SigningAlgorithm) -> Result<bool, RotationError> {
        let turn = self.turn(algorithm).await?;
        let newer = |known: &str| {
            let newer_retired = turn.retired.iter().take_while(|(retired, _)| retired != kid);
            known == turn.active.0 || newer_retired.clone().any(|(retired, _)| retired == known)
        };
        let holds = self.key_participants(algorithm, kid, |choice| choice == SigningKeyChoice::Acknowledged);
        let sightings = self.sightings();
        Ok(holds.into_iter().filter(|participant| participant.acknowledged).any(|participant| {
            let seen = sightings.get(&participant.instance);
            !seen.is_some_and(|seen| seen.acknowledged.key_ids.iter().any(|known| newer(known)))
        }))
    }
}
