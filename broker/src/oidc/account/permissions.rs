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
    let scopes = || permission.lasting.iter().chain(permission.agreed.iter().map(|(scopes, _)| scopes));
    let may = NAMED.iter().filter(|(scope, _)| scopes().any(|scopes| scopes.has(*scope))).map(|(_, words)| *words);
    PermissionRow {
        client_id: client_id.to_string(),
        name: name.unwrap_or_else(|| client_id.to_string()),
        may: may.collect::<Vec<_>>().join(", "),
        since: permission.agreed.as_ref().map(|(_, at)| ago(now, *at)).unwrap_or_default(),
        lasting: !permission.lasting.is_empty(),
    }
}

/// Scopes as people call what is in them.
const NAMED: [(Scope, &str); 5] = [
    (Scope::Profile, "your name"),
    (Scope::Email, "your email address"),
    (Scope::Address, "your postal address"),
    (Scope::Phone, "your phone number"),
    (Scope::Groups, "your groups"),
];
