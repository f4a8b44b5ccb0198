//! What a relying party asks for, checked: made by the authorization endpoint, carried through the login.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::registry::{ClaimsRequest, ClientId, Scopes, Subject};
use crate::secret::SecretHash;

use homeward_certs::identity::InstanceName;

/// An authorization request (OpenID Connect Core 3.1.2.1) whose client and callback are known to belong together.
/// Without `Debug`: state and nonce are nobody else's business.
#[derive(Clone, Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// Who asks, as OAuth knows it.
    pub client_id: ClientId,
    /// Who asks, as we know it.
    pub relying_party: InstanceName,
    /// Where the answer goes.
    pub reply: Reply,
    /// What it wants to learn.
    pub scopes: Scopes,
    /// Which claims it wants one by one.
    pub claims: ClaimsRequest,
    /// Whom its access tokens shall be for, beside this broker (RFC 8707).
    pub resources: Vec<String>,
    /// Goes into the ID token as it is.
    pub nonce: Option<String>,
    /// PKCE challenge: the SHA-256 of a verifier (RFC 7636 4.2).
    pub code_challenge: Option<SecretHash>,
    /// Whether it may, or must, be asked of the user.
    pub prompt: Prompt,
    /// Most seconds since the user last proved who they are.
    pub max_age: Option<u64>,
    /// The user name it expects. Untrusted text.
    pub login_hint: Option<String>,
    /// The user it expects, proven by an ID token of ours.
    pub expected_subject: Option<Subject>,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// Where the answer to a request goes.
#[derive(Clone, Serialize, Deserialize)]
pub enum Reply {
    /// To the relying party, with the browser.
    Callback {
        /// One of the registered callbacks.
        redirect_uri: String,
        /// How it travels.
        mode: ResponseMode,
        /// Returned as it is.
        state: Option<String>,
    },
    /// To a device that waits for it (RFC 8628); the browser is told that it may go.
    Device {
        /// Which.
        id: String,
    },
}

/// How an answer travels with the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// In the address.
    Query,
    /// In a form that the browser posts (OAuth 2.0 Form Post Response Mode).
    FormPost,
}

/// The `prompt` parameter. `consent` changes nothing as long as nobody is asked for consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// `none`: nothing may be shown.
    Silent,
    /// Something may be shown where it is needed.
    Allowed,
    /// `login`: the user must prove again who they are.
    Login,
    /// `select_account`: the user must choose the home again.
    SelectAccount,
    /// `login select_account`.
    SelectAccountAndLogin,
}

impl Prompt {
    /// Whether the user must prove again who they are.
    pub fn demands_login(self) -> bool {
        matches!(self, Self::Login | Self::SelectAccountAndLogin)
    }
}

impl AuthorizationRequest {
    /// The user must have proven who they are at this time or later; unset when any time will do.
    pub fn min_auth_time(&self) -> Option<Timestamp> {
        if self.prompt.demands_login() {
            return Some(self.received_at);
        }
        self.max_age.map(|secs| self.received_at - Duration::from_secs(secs))
    }

    /// Whether a user who proved who they are at `auth_time` is fresh enough. An unknown time never satisfies a demand.
    pub fn accepts(&self, auth_time: Option<Timestamp>) -> bool {
        self.min_auth_time().is_none_or(|min| auth_time.is_some_and(|at| at >= min))
    }

    /// Whether this may be the user: any, unless an ID token named one.
    pub fn expects(&self, subject: &Subject) -> bool {
        self.expected_subject.as_ref().is_none_or(|expected| expected == subject)
    }
}
