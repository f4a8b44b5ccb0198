//! What a relying party asks for, checked: made by the authorization endpoint, carried through the login.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::login::PushedId;
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
    /// Thumbprint of the key that its tokens are to be bound to (RFC 9449 10).
    pub dpop_jkt: Option<String>,
    /// Whether the user may, or must, be asked.
    pub prompt: Prompt,
    /// Most seconds since the user last proved who they are.
    pub max_age: Option<u64>,
    /// Authentication context classes that would be welcome, the best first.
    pub acr_values: Vec<String>,
    /// Authentication context classes of which there must be one; any will do if empty (OpenID Connect Core 5.5.1.1).
    pub essential_acr: Vec<String>,
    /// Languages of the user. Untrusted text.
    pub ui_locales: Option<String>,
    /// The user name it expects. Untrusted text.
    pub login_hint: Option<String>,
    /// The users who will do, as it knows them: any if unset, nobody if empty.
    pub expected_subjects: Option<Vec<String>>,
    /// What it was pushed as (RFC 9126).
    pub pushed: Option<PushedId>,
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

/// The `prompt` parameter (OpenID Connect Core 3.1.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// `none`: nothing may be shown.
    Silent,
    /// Something may be shown where it is needed, and what is demanded must be.
    Interactive(BTreeSet<Demand>),
}

/// What must be asked of the user, whatever is known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// `login`: to prove again who they are.
    Login,
    /// `consent`: to agree again.
    Consent,
    /// `select_account`: to choose the home again.
    SelectAccount,
}

impl Prompt {
    /// Whether this must be asked of the user.
    pub fn demands(&self, demand: Demand) -> bool {
        matches!(self, Self::Interactive(demands) if demands.contains(&demand))
    }
}

impl AuthorizationRequest {
    /// The user must have proven who they are at this time or later; unset when any time will do.
    pub fn min_auth_time(&self) -> Option<Timestamp> {
        if self.prompt.demands(Demand::Login) {
            return Some(self.received_at);
        }
        self.max_age.map(|secs| self.received_at - Duration::from_secs(secs))
    }

    /// Whether a user who proved who they are at `auth_time` is fresh enough. An unknown time never satisfies a demand.
    pub fn accepts(&self, auth_time: Option<Timestamp>) -> bool {
        self.min_auth_time().is_none_or(|min| auth_time.is_some_and(|at| at >= min))
    }

    /// Whether the class in which the user proved who they are will do. None is made up: an unknown one never satisfies
    /// a demand.
    pub fn accepts_class(&self, acr: Option<&str>) -> bool {
        self.essential_acr.is_empty() || acr.is_some_and(|acr| self.essential_acr.iter().any(|wanted| wanted == acr))
    }

    /// Whether this may be the user.
    pub fn expects(&self, subject: &Subject) -> bool {
        self.expected_subjects.as_ref().is_none_or(|expected| expected.iter().any(|wanted| wanted == subject.as_str()))
    }

    /// One that demands nothing but a login.
    pub fn plain(client: (ClientId, InstanceName), reply: Reply, scopes: Scopes, received_at: Timestamp) -> Self {
        let (client_id, relying_party) = client;
        Self {
            client_id,
            relying_party,
            reply,
            scopes,
            claims: ClaimsRequest::default(),
            resources: Vec::new(),
            nonce: None,
            code_challenge: None,
            dpop_jkt: None,
            prompt: Prompt::Interactive(BTreeSet::new()),
            max_age: None,
            acr_values: Vec::new(),
            essential_acr: Vec::new(),
            ui_locales: None,
            login_hint: None,
            expected_subjects: None,
            pushed: None,
            received_at,
        }
    }

    /// What the home is told of the classes: those of which there must be one before those that would be welcome.
    pub fn wanted_classes(&self) -> Vec<String> {
        self.essential_acr.iter().chain(&self.acr_values).cloned().collect()
    }
}

#[cfg(test)]
impl AuthorizationRequest {
    /// One that demands nothing.
    pub(crate) fn for_test(client: &str, state: &str) -> Self {
        let reply = Reply::Callback {
            redirect_uri: "https://beta.example/cb".into(),
            mode: ResponseMode::Query,
            state: Some(state.into()),
        };
        let client = (serde_json::from_value(client.into()).unwrap(), "beta".parse().unwrap());
        Self::plain(client, reply, "openid".parse().unwrap(), Timestamp::from_secs(1_800_000_000))
    }
}
