//! Whom a relying party takes a user for: the one place that decides it.
//!
//! It is decided when a code is made, and the grant carries what it was decided by: a refresh keeps the subject, or ends
//! with what it rested on. Only for whose API a token is made is it decided again, for that API may know the user by
//! another name than the client does.

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::registry::{Client, Home, InstanceId, Link, LinkId, Snapshot, Subject, SubjectKey, TrustEpoch};

/// A user, by his home's word.
#[derive(Clone, Copy, Debug)]
pub struct UserOfHome<'a> {
    /// His home.
    pub home: &'a InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// The id that his subjects are made of.
    pub home_user_id: &'a str,
}

/// The account whose subject a user has by a link: what grants and sessions keep of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedTo {
    /// Its home.
    pub home: InstanceName,
    /// Which installation of that name.
    pub home_id: InstanceId,
    /// The id that its subjects are made of.
    pub home_user_id: String,
    /// How often its home had been in quarantine when it was linked, and the home of who has the link.
    pub quarantines: [u32; 2],
    /// Which link it is.
    pub id: LinkId,
}

impl LinkedTo {
    /// Of a link.
    pub fn of(link: Link) -> Self {
        let Link { id, primary, alias, .. } = link;
        let quarantines = [primary.quarantines, alias.quarantines];
        Self { home: primary.home, home_id: primary.home_id, home_user_id: primary.home_user_id, quarantines, id }
    }
}

/// What ops have said where a link is followed: what rests on the link dies when they take any of it back, and stays dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkTrust {
    /// The life of the permission to follow links of the user's own home.
    pub linked: TrustEpoch,
    /// The life of the trust edge to the home of the account that he is linked to.
    pub accepted: TrustEpoch,
}

/// Whom a relying party takes a user for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAs {
    /// By what it knows him.
    pub subject: Subject,
    /// Set if that is the subject of the account that he is linked to: what that rests on.
    pub by_link: Option<LinkTrust>,
}

impl SubjectKey {
    /// Whom a relying party takes a user for who may be linked to an account at another home.
    pub fn known_as(
        &self,
        client: Client<'_>,
        person: UserOfHome<'_>,
        link: Option<&LinkedTo>,
        snapshot: &Snapshot,
    ) -> KnownAs {
        let kind = &client.relying_party.policy.subject_type;
        let home = (person.home, person.home_id);
        let followed = link.and_then(|link| Some((link, snapshot.follows_link(client.name, home, link)?)));
        let (of_home, id) = match followed {
            Some((link, _)) => (link.home_id, link.home_user_id.as_str()),
            None => (person.home_id, person.home_user_id),
        };
        KnownAs { subject: self.subject_for(kind, of_home, id), by_link: followed.map(|(_, trust)| trust) }
    }
}

impl Snapshot {
    /// Whether a relying party takes a home's user for the one that he is linked to: ops have allowed it for this home, the
    /// other one is accepted there too, and the link has an effect. Gives what that rests on.
    pub fn follows_link(
        &self,
        relying_party: &InstanceName,
        home: (&InstanceName, InstanceId),
        link: &LinkedTo,
    ) -> Option<LinkTrust> {
        let linked = self.edge(relying_party, home.0)?.linked?;
        let accepted = self.edge(relying_party, &link.home)?.epoch;
        self.may_follow_link(home, link).then_some(LinkTrust { linked, accepted })
    }

    /// Whether a link of this home's user can have an effect anywhere, as its homes stand.
    pub fn may_follow_link(&self, home: (&InstanceName, InstanceId), link: &LinkedTo) -> bool {
        self.judge_homes(link.quarantines, [(&link.home, link.home_id), home]).is_ok()
    }

    /// The homes that a user of this one may link, with the relying parties at which that has an effect, by display name.
    /// Looks at all edges: few pages ask.
    pub fn linkable(&self, own: &InstanceName) -> Vec<(Home<'_>, Vec<&InstanceName>)> {
        let mut homes: Vec<(Home<'_>, Vec<&InstanceName>)> = Vec::new();
        for edge in self.known_edges().filter(|edge| edge.is_in_force() && edge.id.home != *own) {
            if edge.linked.is_none() {
                continue;
            }
            let party = &edge.id.relying_party;
            let own_too = self.home_id(own).and_then(|id| self.vouching(party, own, id));
            let other = self.home_id(&edge.id.home).and_then(|id| self.vouching(party, &edge.id.home, id));
            let (Some(_), Some((other, _))) = (own_too, other) else { continue };
            match homes.iter_mut().find(|(home, _)| home.name == other.name) {
                Some((_, parties)) => parties.push(party),
                None => homes.push((other, vec![party])),
            }
        }
        homes.sort_by_cached_key(|(home, _)| (home.display_name.to_lowercase(), home.name));
        homes.iter_mut().for_each(|(_, parties)| parties.sort());
        homes
    }
}
