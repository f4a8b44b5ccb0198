//! What becomes of a backup in an empty store: [`restore`], a function of its entries.
//!
//! A backup knows nothing of what happened after it. What was revoked, quarantined or turned since must not live again,
//! and only people know what that was. So:
//!
//! * everything short-lived is left behind: sessions, grants with their tokens, codes and device codes, logins on their
//!   way, join tokens, consents, links of homes, logouts, probes, reports of agents;
//! * the signing keys are left behind, and new ones are made: no token from before is believed, whoever made it;
//! * a trust edge begins another life: no code or token that rests on an earlier one counts;
//! * an instance comes back quarantined, unless ops name it as known to be good. In either case none of its certificates
//!   counts, its agent has to come back by its recovery key, and its application gets another client credential. If two
//!   machines have that key, whoever comes back second shows it: see `enrolment::renewal`;
//! * a relying party or a home without agent has nobody who could bring it anything new: unless ops name it, it is left
//!   behind;
//! * the certificate of the public address and the account at its CA are left behind: others are ordered;
//! * where the audit ends stays known: what brokers wrote since follows from it;
//! * the CA stays, because agents have nothing else to know the broker by; so do the key of the subjects and the names that
//!   users have, because accounts hang on them.
//!
//! Each restore is an epoch of its own, counted in the store's schema record.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use homeward_certs::identity::{InstanceName, NameError};
use tracing::info;

use crate::clock::Timestamp;
use crate::keys::{KeyError, KeyState, SigningAlgorithm, StoredKey};
use crate::registry::{
    ClientCredential, ClientSecret, Instance, InstanceState, QuarantineCause, RegisteredClient, Registration,
    RelyingParty, TrustEdge, TrustEpoch, Upstream,
};
use crate::secret::{SealingKeys, SecretError};
use crate::storage::table::{Record, decode, encode};
use crate::storage::{Key, StoreError};

/// Tables that are taken over as they are. Those that say what is used up or revoked are among them: the keys that open
/// such things are, too.
const KEPT: [&str; 13] = [
    // The files of the audit are not in the backup: what they have to hold is known here, or a restore would hide what is
    // taken out of them.
    "audit_day",
    "audit_head",
    "authority",
    "client_assertion",
    "federation",
    "held_name",
    "home_user",
    "login-claimed",
    "login_name",
    "revoked_token",
    "sealing_key",
    "subject_key",
    "trust_bundle",
];

/// Tables whose records are judged one by one.
const JUDGED: [&str; 5] =
    [Instance::TABLE, TrustEdge::TABLE, Registration::TABLE, RegisteredClient::TABLE, Upstream::TABLE];

/// The turn of the CA, which stays as the CA does.
const TURN_OF_THE_CA: &str = "rotation/ca";

/// What nobody can judge by a backup, and what ops do about it.
const AS_OF_THE_BACKUP: [(&str, &str); 3] = [
    (
        "users of homes, and their names",
        "who was removed, disabled or renamed since is to be so again: do it again at his home",
    ),
    ("settings, and policies of instances and clients", "make stricter again what you made stricter since"),
    (
        "keys that seal",
        "if the key-encryption key was turned since because it was stolen: turn it again with `kek rotate`",
    ),
];

/// What ops know to be good: nothing of it was revoked, cut off or replaced since the backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// Nobody.
    #[default]
    Nobody,
    /// These.
    Named(BTreeSet<InstanceName>),
    /// Everybody.
    All,
}

impl Release {
    fn has(&self, name: &InstanceName) -> bool {
        match self {
            Self::Nobody => false,
            Self::Named(names) => names.contains(name),
            Self::All => true,
        }
    }
}

impl FromStr for Release {
    type Err = NameError;

    /// `all`, or names with commas.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "all" => Ok(Self::All),
            names => names.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>().map(Self::Named),
        }
    }
}

/// On what a restore rests.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Now.
    pub now: Timestamp,
    /// When the backup was made.
    pub made_at: Timestamp,
    /// Who is known to be good.
    pub release: &'a Release,
    /// Seals the new keys and secrets.
    pub sealing: &'a SealingKeys,
}

/// What is to be in the store, and what ops have to know of it.
#[derive(Debug, Default)]
pub struct Restored {
    /// All entries.
    pub entries: BTreeMap<Key, Vec<u8>>,
    /// What was done, with whom first.
    pub outcomes: Vec<Outcome>,
}

/// What became of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The thing.
    pub what: String,
    /// What became of it.
    pub became: String,
    /// What ops do next, if anything.
    pub next: String,
}

impl Outcome {
    fn new(what: impl fmt::Display, became: impl fmt::Display, next: impl fmt::Display) -> Self {
        Self { what: what.to_string(), became: became.to_string(), next: next.to_string() }
    }
}

/// Whether anything of this entry is taken over: for who reads a backup.
pub fn is_wanted(key: &Key) -> bool {
    KEPT.contains(&key.table()) || JUDGED.contains(&key.table()) || key.as_str() == TURN_OF_THE_CA
}

/// What a backup becomes. Only entries that [are wanted](is_wanted) matter.
///
/// # Errors
/// When a record cannot be read, a key cannot be made, or ops name somebody who is not in the backup.
pub fn restore(entries: BTreeMap<Key, Vec<u8>>, terms: &Terms<'_>) -> Result<Restored, RestoreError> {
    let mut restored = Restored::default();
    let mut known = BTreeSet::new();
    let mut edges = Vec::new();
    for (key, value) in entries {
        match key.table() {
            Instance::TABLE => {
                let instance: Instance = decode(&value)?;
                known.insert(instance.name.clone());
                let instance = restored.instance(instance, terms)?;
                restored.entries.insert(key, encode(&instance)?);
            }
            TrustEdge::TABLE => edges.push((key, decode::<TrustEdge>(&value)?)),
            Registration::TABLE => {
                let registration: Registration = decode(&value)?;
                known.insert(registration.name.clone());
                restored.registration(key, registration, terms)?;
            }
            RegisteredClient::TABLE => {
                let client: RegisteredClient = decode(&value)?;
                restored.entries.extend(terms.release.has(&client.name).then_some((key, value)));
            }
            Upstream::TABLE => {
                let name = decode::<Upstream>(&value)?.name;
                restored.upstream(key, value, &name, terms);
                known.insert(name);
            }
            _ if is_wanted(&key) => drop(restored.entries.insert(key, value)),
            _ => {}
        }
    }
    if let Release::Named(names) = terms.release
        && let Some(unknown) = names.difference(&known).next()
    {
        return Err(RestoreError::Unknown(unknown.clone()));
    }
    restored.edges(edges, terms)?;
    restored.signing_keys(terms.sealing, terms.now)?;
    let next = "if you turned it since because its key was stolen: turn it again with `ca rotate --compromised`; agents that \
                trust only a later one need `rebootstrap`";
    let made_at = terms.made_at;
    for (what, next) in AS_OF_THE_BACKUP {
        restored.outcomes.push(Outcome::new(what, format_args!("as of {made_at}"), next));
    }
    restored.outcomes.push(Outcome::new("the CA", format_args!("as of {}", terms.made_at), next));
    info!(entries = restored.entries.len(), made_at = %terms.made_at, "a backup was judged");
    Ok(restored)
}

impl Restored {
    fn instance(&mut self, mut instance: Instance, terms: &Terms<'_>) -> Result<Instance, RestoreError> {
        let name = instance.name.clone();
        let released = terms.release.has(&name);
        instance.pending_certificate = None;
        instance.restored_at = Some(terms.now);
        if let Some(party) = &mut instance.relying_party {
            *party = with_another_credential(party.clone(), terms)?;
        }
        let (state, became, next) = match instance.state {
            quarantined @ InstanceState::Quarantined { .. } => (quarantined, "quarantined, as it was", String::new()),
            InstanceState::Claimed { .. } | InstanceState::Confirmed if released => {
                let next = "its agent comes back by its recovery key, if it runs; else start it, or replace it with \
                            `token create --replace`";
                (InstanceState::Confirmed, "released", next.to_owned())
            }
            InstanceState::Claimed { .. } | InstanceState::Confirmed => {
                let reason =
                    format!("restored from the backup of {}: nobody has said that it is still good", terms.made_at);
                let cause = QuarantineCause::Restored;
                let next =
                    format!("if it is good: homeward-broker instance release {name}; then start its agent again");
                (InstanceState::Quarantined { reason, since: terms.now, cause }, "quarantined", next)
            }
        };
        instance.state = state;
        self.outcomes.push(Outcome::new(format_args!("instance {name}"), became, next));
        Ok(instance)
    }

    /// Its initial access token may have been used up since: another one is for ops to make.
    fn registration(&mut self, key: Key, registration: Registration, terms: &Terms<'_>) -> Result<(), RestoreError> {
        let what = format!("relying party {}", registration.name);
        let open = format!("homeward-broker registration open {}", registration.name);
        if terms.release.has(&registration.name) {
            let registration = Registration { expires_at: terms.now, clients_left: 0, ..registration };
            self.entries.insert(key, encode(&registration)?);
            let next = format!("for more clients: {open}");
            self.outcomes.push(Outcome::new(what, "released with its clients; its initial access token is dead", next));
        } else {
            let next = format!("restore again with --release {}, or begin anew: {open}", registration.name);
            self.outcomes.push(Outcome::new(what, "left behind with its clients", next));
        }
        Ok(())
    }

    fn upstream(&mut self, key: Key, value: Vec<u8>, name: &InstanceName, terms: &Terms<'_>) {
        let what = format!("home {name}");
        if terms.release.has(name) {
            self.entries.insert(key, value);
            self.outcomes.push(Outcome::new(
                what,
                "released",
                "if its client secret was turned since: homeward-broker upstream add",
            ));
        } else {
            let next = format!("restore again with --release {name}: its users keep their accounts only so");
            self.outcomes.push(Outcome::new(what, "left behind", next));
        }
    }

    fn edges(&mut self, edges: Vec<(Key, TrustEdge)>, terms: &Terms<'_>) -> Result<(), RestoreError> {
        let mut names = Vec::new();
        for (key, edge) in edges {
            let has = |table: &str, name: &InstanceName| self.entries.contains_key(&Key::new(table, name.as_str()));
            let (party, home) = (&edge.id.relying_party, &edge.id.home);
            let party_is_there = has(Instance::TABLE, party) || has(Registration::TABLE, party);
            if party_is_there && (has(Instance::TABLE, home) || has(Upstream::TABLE, home)) {
                names.push(format!("{party} accepts {home}"));
                self.entries.insert(key, encode(&TrustEdge { epoch: TrustEpoch::generate()?, ..edge })?);
            }
        }
        if !names.is_empty() {
            let became = format!("as of {}: {}", terms.made_at, names.join(", "));
            let next = "take away again what you took away since: homeward-broker trust deny";
            self.outcomes.push(Outcome::new("trust edges", became, next));
        }
        Ok(())
    }

    fn signing_keys(&mut self, sealing: &SealingKeys, now: Timestamp) -> Result<(), RestoreError> {
        for algorithm in [SigningAlgorithm::Rs256, SigningAlgorithm::Es256] {
            let (kid, key) = StoredKey::generate(sealing, algorithm, now)?;
            self.entries.insert(Key::new(StoredKey::TABLE, &kid), encode(&key.moved(KeyState::Active, now))?);
        }
        let next = "applications without agent fetch the new key set when they see a new key";
        self.outcomes.push(Outcome::new("signing keys", "new ones; no token from before is believed", next));
        Ok(())
    }
}

/// What the backup knows may have been given up since, and a credential since then may bear any later number: the new one's
/// is beyond all of them.
fn with_another_credential(party: RelyingParty, terms: &Terms<'_>) -> Result<RelyingParty, RestoreError> {
    let version = party.next_version().max(terms.now.as_secs().unsigned_abs());
    let credential = match party.wanted_credential() {
        ClientCredential::Secret(_) => ClientCredential::Secret(ClientSecret::generate(terms.sealing, version)?),
        ClientCredential::Key(_) | ClientCredential::KeyWanted { .. } => ClientCredential::KeyWanted { version },
        ClientCredential::Nothing => return Ok(party),
    };
    let last_credential_version = version;
    Ok(RelyingParty {
        credential,
        next_credential: None,
        last_credential_version,
        credential_at: Some(terms.now),
        ..party
    })
}

/// Why a backup is not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Ops name somebody else.
    #[error("--release names {0}, which the backup does not have")]
    Unknown(InstanceName),
    /// A record.
    #[error("the backup holds what cannot be read")]
    Store(#[from] StoreError),
    /// A new signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A new secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
}
