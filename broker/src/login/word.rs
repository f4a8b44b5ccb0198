//! What of a home's word is believed, and what is written down of it: one commit.

use homeward_certs::identity::InstanceName;
use tracing::info;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::login::record::{CompletedLogin, LoginState};
use crate::login::{CheckedOutcome, Login, LoginError, LoginFailure, LoginRecord, Outcome, RETURN_PATH, Transaction};
use crate::registry::{CutOffs, InstanceId, VerifiedIdentity};
use crate::secret::OpaqueSecret;
use crate::storage::{Expect, StoreError, Write};

/// How often it is judged again when another login came first.
const TRIES: usize = 8;

/// What of a home's word is believed.
struct Checked {
    outcome: CheckedOutcome,
    cut_offs: CutOffs,
    /// What belongs into the commit of this login: that the user is the first after one who was removed, or has a name.
    writes: Vec<Write>,
}

impl Checked {
    fn failure(failure: LoginFailure) -> Self {
        Self { outcome: CheckedOutcome::Failure(failure), cut_offs: CutOffs::default(), writes: Vec::new() }
    }
}

impl Login {
    /// Uses a login up with what its home says, and gives the address where the browser goes now.
    pub(super) async fn complete(
        &self,
        transaction: Transaction,
        (home, home_id): (InstanceName, InstanceId),
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<String, LoginError> {
        let (id, expires_at) = (transaction.id, transaction.expires_at);
        let verified = match outcome {
            Outcome::Identity(asserted) => Ok(asserted.verify(now)?),
            Outcome::Failure(failure) => Err(failure),
        };
        for _ in 0..TRIES {
            let Checked { outcome, cut_offs, mut writes } = match verified.clone() {
                Ok(identity) => self.check((&home, home_id), identity).await?,
                Err(failure) => Checked::failure(failure),
            };
            let handle = OpaqueSecret::generate()?;
            let login = CompletedLogin {
                transaction: transaction.clone(),
                home: home.clone(),
                home_id,
                outcome,
                cut_offs,
                handle: handle.hash(),
            };
            let record = LoginRecord { state: LoginState::Completed(Box::new(login)), expires_at };
            writes.push(self.records.put(&id.to_string(), &record, Expect::Absent)?);
            match self.records.commit(writes).await {
                Ok(_) => {
                    info!(transaction = %id, %home, "the home has spoken");
                    let answered = Event::new(Kind::HomeAnswered).transaction(id).home(&home);
                    let answered = answered.relying_party(&transaction.request.relying_party);
                    self.audit.note(match &verified {
                        Ok(_) => answered,
                        Err(failure) => answered.refused(failure.as_str()),
                    });
                    return Ok(self.issuer.address(&format!("{RETURN_PATH}?handle={id}.{}", handle.expose())));
                }
                Err(StoreError::Conflict) if self.records.get(&id.to_string()).await?.is_some() => {
                    return Err(LoginError::TicketUsed);
                }
                // Another login of this user, or of one with this name, came first: what it changed is looked at again.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The identity as a login in this moment would have it. Nothing changes.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn foresee(
        &self,
        (home, id): (&InstanceName, InstanceId),
        identity: VerifiedIdentity,
    ) -> Result<VerifiedIdentity, StoreError> {
        let standing = self.registry.home_users.standing(id, &identity.home_user_id).await?;
        Ok(self.names.judge((home, id), standing.vouched(identity)).await?.0)
    }

    /// What of a home's word is believed, of which user with that id it is, and whether his name is his own.
    async fn check(
        &self,
        (home, id): (&InstanceName, InstanceId),
        identity: VerifiedIdentity,
    ) -> Result<Checked, StoreError> {
        let users = &self.registry.home_users;
        let standing = users.standing(id, &identity.home_user_id).await?;
        let (identity, held) = self.names.judge((home, id), standing.vouched(identity)).await?;
        Ok(Checked {
            cut_offs: standing.cut_offs(),
            writes: users.succession(&standing)?.into_iter().chain(held).collect(),
            outcome: CheckedOutcome::Identity(identity),
        })
    }
}
