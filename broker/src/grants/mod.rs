//! Grants: what a relying party holds for one user and one login. First a code, then tokens of one family.
//!
//! 1. [`Grants::issue_code`] seals a [`Grant`] into a code. Nothing is stored.
//! 2. [`Grants::redeem`] turns the code into an access token, an ID token and, for a grant that outlives its session, a
//!    refresh token, in one commit: the grant's record. ([`Grants::begin`] does so for grants that need no code.)
//! 3. [`Grants::find`] gives the grant of an access token, if it is good; [`Grants::refresh`] turns a refresh token into
//!    the next ones.
//! 4. [`Grants::end`] and [`Grants::revoke`] end them before their time.
//!
//! [`Devices`] bring grants to where there is no browser; `exchange.rs` makes tokens that need no login of their own.
//! [`Probes`] are codes too, behind which there is no grant.
//!
//! Invariants: a code is redeemed at most once, under any concurrency, because the record of its grant is written once. A
//! second redemption that would have been valid (its rightful client, callback and verifier) means that somebody has the
//! code and all that goes with it: it ends the grant (RFC 6749 4.1.2). One that would not have been valid changes nothing,
//! or everybody who saw a code in a log could end other people's logins. Of the refresh tokens of a grant at most one is
//! good. No token is good without its grant's record, nor after the session that the grant came of was ended, unless the
//! grant was made to outlive it.

mod binding;
mod crowd;
mod device;
mod ending;
mod error;
mod exchange;
mod id_token;
mod issuing;
mod jwt_access_token;
mod presented;
mod probe;
mod record;
mod redemption;
mod refresh;
mod sealed;

use std::sync::Arc;

use crate::audit::Audit;
use crate::clock::Timestamp;
use crate::config::{Current, Issuer, Lifetimes};
use crate::grants::record::GrantState;
use crate::grants::sealed::SealedToken as _;
use crate::rate_limit::Met;
use crate::registry::{LinkedTo, Links, Snapshot, SubjectKey, TokenSigner};
use crate::secret::SealingKeys;
use crate::storage::Store;
use crate::storage::table::Table;

pub use binding::{Binding, Confirmation, Thumbprint, ThumbprintError};
pub use device::{
    AskedDevice, DeviceError, DeviceRequest, Devices, EnteredCode, NotAUserCode, UserCode, WaitingDevice,
};
pub use error::TokenError;
pub use exchange::{Exchange, SubjectToken, Target};
pub use issuing::{Terms, Tokens};
pub use jwt_access_token::{Actor, Audience, LoginOfUser};
pub use presented::{GoodRefreshToken, Presented};
pub use probe::{CreatedProbe, InstanceProbes, ProbeCode, ProbeError, ProbeOutcome, Probes};
pub use record::{Grant, GrantId, GrantOfUser, RevokedToken, StoredGrant};
pub use redemption::{BegunGrant, CodeBinding, Redemption};
pub use refresh::Refreshment;
pub use sealed::{AccessTokenContents, Bearer, CodeContents, RefreshTokenContents, Serial};

/// How often a change looks again when another one came in between.
const TRIES: usize = 8;

/// All grants.
#[derive(Clone)]
pub struct Grants {
    table: Table<StoredGrant>,
    of_users: Table<GrantOfUser>,
    revoked: Table<RevokedToken>,
    links: Links,
    sealing: Arc<SealingKeys>,
    signer: TokenSigner,
    subjects: SubjectKey,
    issuer: Issuer,
    lifetimes: Current<Lifetimes>,
    audit: Audit,
    crowded: Met,
}

/// What grants stand on.
#[derive(Clone)]
pub struct GrantFoundations {
    /// Where they are written.
    pub store: Arc<dyn Store>,
    /// Seals codes and tokens.
    pub sealing: Arc<SealingKeys>,
    /// Signs ID tokens.
    pub signer: TokenSigner,
    /// How instances know users.
    pub subjects: SubjectKey,
    /// What ends is noted there.
    pub audit: Audit,
}

impl Grants {
    /// The flow on what it stands on.
    pub fn new(foundations: GrantFoundations, issuer: Issuer, lifetimes: Current<Lifetimes>) -> Self {
        let GrantFoundations { store, sealing, signer, subjects, audit } = foundations;
        let (table, of_users) = (Table::new(store.clone()), Table::new(store.clone()));
        let (revoked, links) = (Table::new(store.clone()), Links::new(store));
        let crowded = Met::default();
        Self { table, of_users, revoked, links, sealing, signer, subjects, issuer, lifetimes, audit, crowded }
    }

    /// Opens an access token that somebody sent.
    ///
    /// # Errors
    /// When it was not made here, or is too old.
    pub fn open_access_token(&self, token: &str, now: Timestamp) -> Result<AccessTokenContents, TokenError> {
        let token = AccessTokenContents::open(&self.sealing, token).ok_or(TokenError::AccessTokenUnknown)?;
        if now < token.expires_at { Ok(token) } else { Err(TokenError::AccessTokenExpired) }
    }

    /// The grant of an access token, if it is good still. Whether its session is there is for the caller to ask.
    ///
    /// # Errors
    /// When it was ended, or what it rests on.
    pub async fn find(&self, id: &GrantId, serial: Serial, snapshot: &Snapshot) -> Result<Grant, TokenError> {
        let stored = self.table.get(id.as_str()).await?.ok_or(TokenError::AccessTokenUnknown)?.record;
        match stored.state {
            GrantState::Ended => Err(TokenError::GrantEnded),
            GrantState::Live if stored.revoked.contains(&serial) => Err(TokenError::AccessTokenRevoked),
            GrantState::Live => self.judge(&stored.grant, snapshot).await.map(|()| stored.grant),
        }
    }

    /// Whether all that a grant rests on is what it was when it was made. A link ends in a record of its own, which is read
    /// where it can matter: so whatever fails behind its end, nothing by it is good.
    async fn judge(&self, grant: &Grant, snapshot: &Snapshot) -> Result<(), TokenError> {
        if !grant.is_trusted(snapshot) {
            return Err(TokenError::TrustWithdrawn);
        }
        if !grant.asks_for_link(snapshot) {
            return Ok(());
        }
        let link = self.links.of_alias(&grant.user).await?.link.map(LinkedTo::of);
        if grant.goes_with(link.as_ref(), snapshot) { Ok(()) } else { Err(TokenError::LinkChanged) }
    }
}
