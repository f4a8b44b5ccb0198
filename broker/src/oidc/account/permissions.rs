//! What a user has allowed applications for longer than a session: consents, and grants that outlive their sessions. On
//! the account page both are one line for each application, and are withdrawn together: who takes back what an
//! application may know does not want it to go on asking.

use std::collections::BTreeMap;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::oidc::Provider;
use crate::oidc::error::BrowserError;
use crate::registry::{ClientId, Scope, Scopes, Snapshot, UserId};
use crate::web::{PermissionRow, ago};

/// What one application may do.
#[derive(Default)]
struct Permission {
    agreed: Option<(Scopes, Timestamp)>,
    /// What lasts, whoever has agreed to it.
    lasting: Vec<Scopes>,
}

impl Provider {
    /// What this user has allowed, by application.
    pub(super) async fn permissions(
        &self,
        user: &UserId,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Vec<PermissionRow>, BrowserError> {
        let mut permissions: BTreeMap<ClientId, Permission> = BTreeMap::new();
        for consent in self.consents.of_user(user).await? {
            permissions.entry(consent.client_id).or_default().agreed = Some((consent.scopes, consent.at));
        }
        for (_, grant) in self.grants.of_user(user).await? {
            permissions.entry(grant.client_id).or_default().lasting.push(grant.scopes);
        }
        Ok(permissions.iter().map(|(client, permission)| row(client, permission, snapshot, now)).collect())
    }

    /// Takes back what a user has allowed an application.
    pub(super) async fn withdraw(&self, user: &UserId, client: &str) -> Result<(), BrowserError> {
        let client = ClientId::of_key(client);
        for (id, _) in self.grants.of_user(user).await?.iter().filter(|(_, grant)| grant.client_id == client) {
            self.grants.end(id).await?;
        }
        self.store.commit(vec![self.consents.revoke(user, &client)]).await?;
        // The form has named it: only one that there is goes into the audit.
        let known = self.registry.snapshot().client(client.as_str()).is_some();
        let withdrawn = Event::new(Kind::ConsentWithdrawn).user(user);
        self.audit.note(if known { withdrawn.client(&client) } else { withdrawn });
        Ok(())
    }
}

fn row(client_id: &ClientId, permission: &Permission, snapshot: &Snapshot, now: Timestamp) -> PermissionRow {
    let name = snapshot.client(client_id.as_str()).map(|client| client.display_name.to_owned());
    let agreed = permission.agreed.as_ref().map(|(scopes, _)| scopes);
    let may = words(|scope| permission.lasting.iter().chain(agreed).any(|scopes| scopes.has(scope)));
    let agreed_to = words(|scope| agreed.is_some_and(|scopes| scopes.has(scope)));
    PermissionRow {
        client_id: client_id.to_string(),
        name: name.unwrap_or_else(|| client_id.to_string()),
        agreed_to: match agreed_to.as_str() {
            all if agreed.is_none() || *all == may => String::new(),
            "" => WHO.to_owned(),
            _ => agreed_to,
        },
        may,
        since: permission.agreed.as_ref().map(|(_, at)| ago(now, *at)).unwrap_or_default(),
        lasting: !permission.lasting.is_empty(),
    }
}

/// What is in these scopes.
fn words(has: impl Fn(Scope) -> bool) -> String {
    let words: Vec<&str> = NAMED.iter().filter(|(scope, _)| has(*scope)).map(|(_, words)| *words).collect();
    words.join(", ")
}

/// What is in no scope, and is known of every login.
const WHO: &str = "who you are";

/// Scopes as people call what is in them.
const NAMED: [(Scope, &str); 5] = [
    (Scope::Profile, "your name"),
    (Scope::Email, "your email address"),
    (Scope::Address, "your postal address"),
    (Scope::Phone, "your phone number"),
    (Scope::Groups, "your groups"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn nobody_is_said_to_have_agreed_to_more_than_was_agreed() {
        for (agreed, lasting, may, agreed_to) in [
            (Some("openid email"), "openid email offline_access", "your email address", ""),
            (Some("openid email"), "openid email groups", "your email address, your groups", "your email address"),
            (Some("openid"), "openid groups", "your groups", "who you are"),
            (Some("openid"), "openid", "", ""),
            (None, "openid groups", "your groups", ""),
        ] {
            let agreed = agreed.map(|scopes| (scopes.parse().unwrap(), NOW));
            let permission = Permission { agreed, lasting: vec![lasting.parse().unwrap()] };
            let row = row(&ClientId::of_key("beta"), &permission, &Snapshot::default(), NOW);
            assert_eq!((row.may.as_str(), row.agreed_to.as_str()), (may, agreed_to), "{lasting}");
            assert_eq!(row.since.is_empty(), permission.agreed.is_none());
        }
    }
}
