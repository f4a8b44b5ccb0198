//! Logins for a device that waits (RFC 8628): how they end.

use tracing::info;

use crate::clock::Timestamp;
use crate::grants::Grant;
use crate::login::Refusal;
use crate::oidc::authorization::{Next, Onward};
use crate::oidc::error::BrowserError;
use crate::oidc::{Provider, path};
use crate::storage::Write;

impl Provider {
    /// Lets the device in: the grant is its, in one commit with the writes of the login.
    ///
    /// # Errors
    /// When somebody has answered already, or it took too long.
    pub(super) async fn approve_device(
        &self,
        id: &str,
        grant: Grant,
        mut writes: Vec<Write>,
        now: Timestamp,
    ) -> Result<Next, BrowserError> {
        info!(relying_party = %grant.relying_party, "a device was let in");
        writes.extend(self.devices.approve(id, grant, now).await?);
        self.commit(writes).await?;
        Ok(self.device_page(path::DEVICE_CONNECTED))
    }

    /// Ends a login by which no device is let in, in one commit with its writes. The device is turned away if that is what
    /// was meant; where only the login failed, it waits on.
    ///
    /// # Errors
    /// When somebody has answered already.
    pub(super) async fn refuse_device(
        &self,
        id: &str,
        refusal: Refusal,
        mut writes: Vec<Write>,
    ) -> Result<Next, BrowserError> {
        info!(?refusal, "a device was not let in");
        if turns_away(refusal) {
            writes.extend(self.devices.deny(id).await?);
        }
        self.commit(writes).await?;
        Ok(self.device_page(path::DEVICE_REFUSED))
    }

    fn device_page(&self, path: &str) -> Next {
        Onward::Address(self.issuer.address(path)).into()
    }
}

/// Whether a refusal is somebody's word: the user's, or the home's.
fn turns_away(refusal: Refusal) -> bool {
    match refusal {
        Refusal::ConsentRefused | Refusal::Cancelled | Refusal::DeniedByHome => true,
        Refusal::LoginRequired
        | Refusal::NotFreshEnough
        | Refusal::OtherUser
        | Refusal::ClassNotMet
        | Refusal::ConsentRequired
        | Refusal::HomeUnavailable
        | Refusal::HomeNotAccepted => false,
    }
}
