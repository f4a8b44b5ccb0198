//! Whom the relying party of a login takes its user for, with what that rests on.

use crate::oidc::Provider;
use crate::registry::{Client, FoundLink, KnownAs, LinkTrust, LinkedTo, Snapshot, Subject, UserId, UserOfHome};
use crate::storage::{StoreError, Write};

/// A user as a relying party knows him.
pub(super) struct Recognised {
    pub(super) subject: Subject,
    /// His link, if he has one that has an effect anywhere.
    pub(super) link: Option<LinkedTo>,
    /// Set if the subject is by that.
    pub(super) by_link: Option<LinkTrust>,
    /// Makes a commit rest on nobody having changed it.
    pub(super) unchanged: Option<Write>,
}

impl Recognised {
    /// What a session keeps of the link, to know when its client has to be told that all is over.
    pub(super) fn kept(&self) -> Option<(LinkedTo, Option<LinkTrust>)> {
        self.link.clone().map(|link| (link, self.by_link))
    }
}

impl Provider {
    /// Whom this client takes a user for. Links are read only where any relying party follows them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn recognise(
        &self,
        client: Client<'_>,
        person: UserOfHome<'_>,
        user: &UserId,
        snapshot: &Snapshot,
    ) -> Result<Recognised, StoreError> {
        let (link, unchanged) = match snapshot.follows_links() {
            true => {
                let FoundLink { link, unchanged } = self.registry.links.of_alias(user).await?;
                (link.filter(|link| snapshot.judge_link(link).is_ok()).map(LinkedTo::of), Some(unchanged))
            }
            false => (None, None),
        };
        let KnownAs { subject, by_link } = self.subjects.known_as(client, person, link.as_ref(), snapshot);
        Ok(Recognised { subject, link, by_link, unchanged })
    }
}
