//! Tables that something is done to as a whole, whatever their records are: who adds a table looks here.

use crate::audit::StoredCounts;
use crate::authority::Authority;
use crate::console::{ConsoleCode, ConsoleSession};
use crate::enrolment::StoredJoinToken;
use crate::fleet::StoredQuestion;
use crate::grants::{DeviceRequest, EnteredCode, GrantOfUser, InstanceProbes, RevokedToken, StoredGrant};
use crate::keys::StoredKey;
use crate::login::{ClaimedTicket, LoginRecord, PushedRequest, SpentLink};
use crate::oidc::UsedAssertion;
use crate::registry::{Instance, KnownName, RegisteredClient, SubjectKey, Upstream};
use crate::rotation::StoredRotation;
use crate::secret::SealedTable;
use crate::sessions::{Session, SessionOfUser, StoredLogout};
use crate::storage::table::Record;
use crate::tls::acme::{StoredAcme, StoredChallenge};

/// Tables whose records the sweeper deletes when they have expired.
pub(super) const EXPIRING: &[&str] = &[
    StoredJoinToken::TABLE,
    LoginRecord::TABLE,
    ClaimedTicket::TABLE,
    PushedRequest::TABLE,
    Session::TABLE,
    SessionOfUser::TABLE,
    KnownName::TABLE,
    StoredLogout::TABLE,
    StoredGrant::TABLE,
    GrantOfUser::TABLE,
    RevokedToken::TABLE,
    DeviceRequest::TABLE,
    EnteredCode::TABLE,
    StoredRotation::TABLE,
    InstanceProbes::TABLE,
    UsedAssertion::TABLE,
    StoredQuestion::TABLE,
    StoredChallenge::TABLE,
    StoredCounts::TABLE,
    ConsoleCode::TABLE,
    ConsoleSession::TABLE,
    SpentLink::TABLE,
];

/// Tables whose records hold something sealed: what a turn of the key-encryption key seals again.
pub const SEALED: &[SealedTable] = &[
    SubjectKey::SEALED,
    Authority::SEALED,
    SealedTable::of::<StoredKey>(),
    SealedTable::of::<StoredJoinToken>(),
    SealedTable::of::<Instance>(),
    SealedTable::of::<RegisteredClient>(),
    SealedTable::of::<Upstream>(),
    SealedTable::of::<StoredAcme>(),
];
