//! Consent: what a user has agreed that a client may learn, and when the question is asked.
//!
//! The trust edge says whether ops answer for it, the user once, or the user each time; a request can ask for the question
//! (`prompt=consent`), and what a device asks for is always shown to the user who lets it in (RFC 8628 5.4). What was
//! agreed to is written in the commit of the code, and read when the next code is asked for. More than was agreed to asks
//! again.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::login::{AuthorizationRequest, Demand, Reply};
use crate::registry::{ClaimsRequest, ClientId, ConsentPolicy, Scopes, TransactionId, UserId};
use crate::storage::table::{Record, Stored, Table};
use crate::storage::{Expect, Store, StoreError, Version, Write};

/// Most consents of one user that are read.
const MOST_OF_USER: usize = 500;

/// What a user has agreed to for one client, under both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Consent {
    /// For whom.
    pub client_id: ClientId,
    /// In bulk.
    pub scopes: Scopes,
    /// One by one.
    pub claims: ClaimsRequest,
    /// Whose APIs may be called in the user's name (RFC 8707).
    pub resources: BTreeSet<String>,
    /// When.
    pub at: Timestamp,
    /// The login in which the question was answered last.
    transaction: TransactionId,
}

impl Record for Consent {
    const TABLE: &'static str = "consent";
}

impl Consent {
    /// Whether it was given in this very login, so that the question is not asked twice.
    pub fn was_given_in(&self, transaction: TransactionId) -> bool {
        self.transaction == transaction
    }

    fn covers(&self, request: &AuthorizationRequest) -> bool {
        request.scopes.is_within(&self.scopes)
            && request.claims.is_within(&self.claims)
            && request.resources.iter().all(|resource| self.resources.contains(resource))
    }
}

/// Whether the user has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// No: somebody has answered for it.
    Given,
    /// Yes.
    Wanted,
}

impl Agreement {
    /// What the edge's policy, the request and the user's earlier answer come to.
    pub fn of(request: &AuthorizationRequest, policy: ConsentPolicy, earlier: Option<&Consent>) -> Self {
        let asked_for = request.prompt.demands(Demand::Consent) || matches!(request.reply, Reply::Device { .. });
        match (asked_for, policy) {
            (true, _) | (false, ConsentPolicy::Always) => Self::Wanted,
            (false, ConsentPolicy::None) => Self::Given,
            (false, ConsentPolicy::FirstTime) if earlier.is_some_and(|earlier| earlier.covers(request)) => Self::Given,
            (false, ConsentPolicy::FirstTime) => Self::Wanted,
        }
    }
}

/// A consent that was found.
pub struct FoundConsent {
    /// What was agreed to.
    pub consent: Consent,
    version: Version,
}

/// All consents.
#[derive(Clone)]
pub struct Consents {
    table: Table<Consent>,
}

impl Consents {
    /// In this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { table: Table::new(store) }
    }

    /// What a user has agreed to for a client.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(&self, user: &UserId, client: &ClientId) -> Result<Option<FoundConsent>, StoreError> {
        let stored = self.table.get(&key(user, client)).await?;
        Ok(stored.map(|Stored { record, version }| FoundConsent { consent: record, version }))
    }

    /// All that a user has agreed to.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn of_user(&self, user: &UserId) -> Result<Vec<Consent>, StoreError> {
        // `.` is in no user id: behind it come the user's own entries.
        let mut after = format!("{}.", user.as_str());
        let own = after.clone();
        let mut consents = Vec::new();
        while consents.len() < MOST_OF_USER {
            let page = self.table.page(Some(&after), 64).await?;
            let ended = page.len() < 64;
            for (id, stored) in page {
                if !id.starts_with(&own) {
                    return Ok(consents);
                }
                consents.push(stored.record);
                after = id;
            }
            if ended {
                break;
            }
        }
        Ok(consents)
    }

    /// The write that notes a user's answer: it adds to what was agreed to before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn give(
        &self,
        user: &UserId,
        request: &AuthorizationRequest,
        transaction: TransactionId,
        earlier: Option<FoundConsent>,
        now: Timestamp,
    ) -> Result<Write, StoreError> {
        let (expect, earlier) = match earlier {
            Some(FoundConsent { consent, version }) => (Expect::Version(version), Some(consent)),
            None => (Expect::Absent, None),
        };
        let mut consent = Consent {
            client_id: request.client_id.clone(),
            scopes: request.scopes.clone(),
            claims: request.claims.clone(),
            resources: request.resources.iter().cloned().collect(),
            at: now,
            transaction,
        };
        if let Some(earlier) = earlier {
            consent.scopes = consent.scopes.and(&earlier.scopes);
            consent.claims = consent.claims.and(&earlier.claims);
            consent.resources.extend(earlier.resources);
        }
        self.table.put(&key(user, &request.client_id), &consent, expect)
    }

    /// The write that takes an answer back.
    pub fn revoke(&self, user: &UserId, client: &ClientId) -> Write {
        self.table.delete(&key(user, client), Expect::Any)
    }
}

fn key(user: &UserId, client: &ClientId) -> String {
    format!("{}.{client}", user.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::Prompt;

    fn request(scope: &str) -> AuthorizationRequest {
        let scopes = scope.parse().unwrap();
        AuthorizationRequest { scopes, ..AuthorizationRequest::for_test("beta-1", "state") }
    }

    #[test]
    fn who_is_asked_when() {
        use Agreement::{Given, Wanted};
        use ConsentPolicy::{Always, FirstTime, None as Never};
        let earlier = Consent {
            client_id: request("openid").client_id,
            scopes: "openid email".parse().unwrap(),
            claims: ClaimsRequest { id_token: ["name".to_owned()].into(), ..ClaimsRequest::default() },
            resources: ["https://alpha.example".to_owned()].into(),
            at: Timestamp::from_secs(0),
            transaction: "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap(),
        };
        let consent_demanded =
            AuthorizationRequest { prompt: Prompt::Interactive([Demand::Consent].into()), ..request("openid") };
        let device = AuthorizationRequest { reply: Reply::Device { id: "1".into() }, ..request("openid") };
        let same_claim = AuthorizationRequest { claims: earlier.claims.clone(), ..request("openid") };
        let elsewhere = ClaimsRequest { userinfo: ["name".to_owned()].into(), ..ClaimsRequest::default() };
        let other_claim = AuthorizationRequest { claims: elsewhere, ..request("openid") };
        let resource = |resource: &str| AuthorizationRequest { resources: vec![resource.into()], ..request("openid") };
        for (case, request, policy, known, expected) in [
            ("ops answer", request("openid email"), Never, false, Given),
            ("asked for", consent_demanded, Never, true, Wanted),
            ("a device", device, Never, true, Wanted),
            ("always", request("openid"), Always, true, Wanted),
            ("first time", request("openid"), FirstTime, false, Wanted),
            ("second time", request("openid email"), FirstTime, true, Given),
            ("less", request("openid"), FirstTime, true, Given),
            ("more", request("openid email phone"), FirstTime, true, Wanted),
            ("for longer", request("openid offline_access"), FirstTime, true, Wanted),
            ("same claim", same_claim, FirstTime, true, Given),
            ("in another place", other_claim, FirstTime, true, Wanted),
            ("same API", resource("https://alpha.example"), FirstTime, true, Given),
            ("another API", resource("https://gamma.example"), FirstTime, true, Wanted),
        ] {
            assert_eq!(Agreement::of(&request, policy, known.then_some(&earlier)), expected, "{case}");
        }
    }
}
