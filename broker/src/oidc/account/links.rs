//! Linked homes on the account page: which there are, which there could be, and the end of one.
//!
//! The end of a link ends all that its alias has here: sessions, and grants that would outlive them. So does its beginning:
//! no application is left with a user whom it takes for somebody else the next time.

use homeward_certs::identity::InstanceName;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::oidc::Provider;
use crate::oidc::authorization::choice::host;
use crate::oidc::error::BrowserError;
use crate::registry::{Home, HomeStatus, Link, LinkVoid, LinkedAccount, Snapshot, UserId, Way};
use crate::sessions::{Ended, Session};
use crate::web::{ANY_HTTPS, HomeButton, LinkRow, LinkedHomes, ago};

/// Most applications that are named to who is asked whether to link.
const MOST_NAMED: usize = 20;

impl Provider {
    /// The section of the page.
    pub(super) async fn linked_homes(
        &self,
        own: &Session,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<LinkedHomes, BrowserError> {
        let links = self.registry.links.of_user(&own.user).await?;
        let is_alias = links.iter().any(|link| link.alias.user == own.user);
        let mut linkable = if is_alias { Vec::new() } else { snapshot.linkable(&own.home) };
        linkable.retain(|(home, _)| !links.iter().any(|link| link.alias.home_id == home.id));
        let own_home = snapshot.home(&own.home).filter(|_| !linkable.is_empty());
        Ok(LinkedHomes {
            links: links.iter().map(|link| link_row(link, own, snapshot, now)).collect(),
            linkable: linkable.iter().map(|(home, _)| self.link_button(home)).collect(),
            form_targets: own_home.iter().map(target).collect(),
        })
    }

    fn link_button(&self, home: &Home<'_>) -> HomeButton {
        HomeButton {
            name: home.name.to_string(),
            display_name: home.display_name.to_owned(),
            host: host(&home.public_url()),
            hindrance: match self.login.status(home) {
                HomeStatus::Ready => None,
                HomeStatus::Offline | HomeStatus::NotReady => Some("Cannot log anybody in right now. Try again later."),
            },
            last_used: false,
        }
    }

    /// Ends a link, then what rests on it. A login that is under way finds the link gone, or is ended with the rest; and what is
    /// not reached is dead, for it asks for its link. Until all has ended the link is there to be ended.
    pub(super) async fn unlink(&self, link: &Link, snapshot: &Snapshot, now: Timestamp) -> Result<Ended, BrowserError> {
        if self.registry.links.end(link).await? {
            self.audit.note(noted(Kind::HomesUnlinked, link).detail("by the user"));
        }
        let ended = self.end_all_of(&link.alias.user, snapshot, now).await?;
        self.registry.links.forget(link).await?;
        Ok(ended)
    }

    /// Ends all that a user has here: the sessions first, so that no code brings another grant.
    pub(super) async fn end_all_of(
        &self,
        user: &UserId,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Ended, BrowserError> {
        let ended = self.sessions.end_for_good(user, snapshot, now).await?;
        self.grants.end_all(user).await?;
        Ok(ended)
    }
}

/// What the audit says of a link.
pub(super) fn noted(kind: Kind, link: &Link) -> Event {
    Event::new(kind).object(&link.id).home(&link.alias.home).user(&link.alias.user)
}

/// Where a form may lead that sends the browser to this home. An identity provider goes where it likes.
pub(super) fn target(home: &Home<'_>) -> String {
    match home.way {
        Way::Portal(..) => home.public_url(),
        Way::Provider(_) => ANY_HTTPS.to_owned(),
    }
}

/// The name people read of the home of an account, if that installation is still here.
pub(super) fn home_name(account: &LinkedAccount, snapshot: &Snapshot) -> String {
    let home = snapshot.home(&account.home).filter(|home| home.id == account.home_id);
    home.map_or_else(|| account.home.to_string(), |home| home.display_name.to_owned())
}

/// Whether linking these two has an effect anywhere.
pub(super) fn is_offered(link: &Link, snapshot: &Snapshot) -> bool {
    let homes = snapshot.linkable(&link.primary.home).into_iter();
    let mut parties = homes.filter(|(home, _)| home.id == link.alias.home_id).flat_map(|(_, parties)| parties);
    parties.any(|party| named(party, snapshot).is_some())
}

/// The names people read of the relying parties where linking these two has an effect: the first of them. One without agent
/// goes by its name, whatever its clients are called.
pub(super) fn applications(link: &Link, snapshot: &Snapshot) -> Vec<String> {
    let homes = snapshot.linkable(&link.primary.home).into_iter();
    let parties = homes.filter(|(home, _)| home.id == link.alias.home_id).flat_map(|(_, parties)| parties);
    let mut names: Vec<_> = parties.filter_map(|party| named(party, snapshot)).collect();
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    names.extend((more > 0).then(|| format!("and {more} more")));
    names
}

/// How a relying party is named to people; the console, which is none, is not.
fn named(party: &InstanceName, snapshot: &Snapshot) -> Option<String> {
    let of_instance = snapshot.instance(party).filter(|instance| instance.relying_party.is_some());
    let registered = || snapshot.registration(party).map(|registration| registration.name.to_string());
    of_instance.map(|instance| instance.display_name.clone()).or_else(registered)
}

fn link_row(link: &Link, own: &Session, snapshot: &Snapshot, now: Timestamp) -> LinkRow {
    let Link { primary, alias, .. } = link;
    LinkRow {
        id: link.id.to_string(),
        home: home_name(if alias.user == own.user { primary } else { alias }, snapshot),
        primary_home: home_name(primary, snapshot),
        primary_username: primary.username.clone(),
        alias_home: home_name(alias, snapshot),
        alias_username: alias.username.clone(),
        since: ago(now, link.made_at),
        void: snapshot.judge_link(link).err().map(|void| match void {
            LinkVoid::Over => "It has ended, but not yet everywhere where you came in by it. Unlink once more.",
            LinkVoid::Gone => "It has no effect: one of the two homes is not here any more.",
            LinkVoid::CutOff => "It has no effect: one of the two homes is cut off right now.",
            LinkVoid::CutOffSince => {
                "It has no effect any more: one of the two homes was cut off since. Unlink, and link again if you want to."
            }
        }),
    }
}
