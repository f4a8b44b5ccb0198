//! The two consents of a trust edge: the home releases its users, the relying party accepts them.
//!
//! Only an edge with both is in force. One that lacks a consent keeps its terms, and lets nobody in: whoever asks the
//! [`Snapshot`](crate::registry::Snapshot) for an edge does not find it. A consent that is taken back ends what taking the
//! edge away ends, and for good: the edge that is completed again has another life.

use serde::{Deserialize, Serialize};
use tracing::info;

use crate::clock::Timestamp;
use crate::registry::{
    ConsentPolicy, EmailDomain, GroupMap, Registry, TrustEdge, TrustEdgeId, TrustError, UsernameTemplate,
};
use crate::storage::Expect;
use crate::storage::table::Stored;

/// An end of a trust edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustSide {
    /// Which releases its users.
    Home,
    /// Which accepts them.
    RelyingParty,
}

impl TrustSide {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Home, Self::RelyingParty];

    /// As `trust allow --side` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::RelyingParty => "relying-party",
        }
    }

    /// As `trust allow --side` takes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|side| side.as_str() == name)
    }

    const fn other(self) -> Self {
        match self {
            Self::Home => Self::RelyingParty,
            Self::RelyingParty => Self::Home,
        }
    }
}

/// Who of the two has consented. An edge that neither wants is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consents {
    /// Both: as all edges of the first release.
    #[default]
    Both,
    /// One.
    Only(TrustSide),
}

impl Consents {
    /// Whose consent is missing.
    pub const fn missing(self) -> Option<TrustSide> {
        match self {
            Self::Both => None,
            Self::Only(side) => Some(side.other()),
        }
    }

    fn with(self, side: TrustSide) -> Self {
        if self.missing() == Some(side) { Self::Both } else { self }
    }

    /// What is left without this one; nothing if it was the last.
    fn without(self, side: TrustSide) -> Option<Self> {
        (self == Self::Both).then_some(Self::Only(side.other()))
    }
}

/// What ops say of an edge beside who consents. What is unset stays as it is, or is as on a new edge.
#[derive(Clone, Debug, Default)]
pub struct TrustTerms {
    /// As [`TrustEdge::email_domains`].
    pub email_domains: Option<Vec<EmailDomain>>,
    /// As [`TrustEdge::consent`].
    pub consent: Option<ConsentPolicy>,
    /// As [`TrustEdge::api_access`].
    pub api_access: Option<bool>,
    /// As [`TrustEdge::username_template`].
    pub username_template: Option<UsernameTemplate>,
    /// As [`TrustEdge::groups`].
    pub groups: Option<GroupMap>,
    /// As [`TrustEdge::linked`].
    pub linked: Option<bool>,
}

impl TrustTerms {
    /// This edge, on these terms. A permission to follow links that is said begins with the edge's life.
    pub fn on(self, edge: TrustEdge) -> TrustEdge {
        TrustEdge {
            email_domains: self.email_domains.unwrap_or(edge.email_domains),
            consent: self.consent.unwrap_or(edge.consent),
            api_access: self.api_access.unwrap_or(edge.api_access),
            username_template: self.username_template.unwrap_or(edge.username_template),
            groups: self.groups.unwrap_or(edge.groups),
            linked: match self.linked {
                Some(linked) => linked.then_some(edge.epoch),
                None => edge.linked,
            },
            ..edge
        }
    }
}

impl TrustEdge {
    /// Whether it lets anybody in: both have consented.
    pub fn is_in_force(&self) -> bool {
        self.consents == Consents::Both
    }

    /// The same, in place of what was there. Tokens that rest on an edge in force go on; one that comes into force begins
    /// another life, so that nothing which died with a consent comes back with it. So does the permission to follow links.
    pub(super) fn in_place_of(self, old: Option<&Self>) -> Self {
        match old.filter(|old| old.is_in_force()) {
            Some(old) => {
                let linked = self.linked.map(|anew| old.linked.unwrap_or(anew));
                Self { epoch: old.epoch, linked, ..self }
            }
            None => self,
        }
    }

    /// With the consent of this side too, on these terms. `fresh` is one that nobody has said anything of.
    fn consented(old: Option<&Self>, fresh: Self, side: TrustSide, terms: TrustTerms) -> Self {
        let consents = old.map_or(Consents::Only(side), |old| old.consents.with(side));
        let (epoch, updated_at) = (fresh.epoch, fresh.updated_at);
        let edge = terms.on(Self { epoch, ..old.cloned().unwrap_or(fresh) });
        Self { consents, epoch, updated_at, ..edge }.in_place_of(old)
    }

    /// Without the consent of this side, if it was given and the other one is left.
    fn withdrawn(self, side: TrustSide, now: Timestamp) -> Option<Self> {
        Some(Self { consents: self.consents.without(side)?, updated_at: now, ..self })
    }
}

impl Registry {
    /// Gives one side's consent to an edge that may be there already, or else is this one. Its terms stay but for those
    /// that are said.
    ///
    /// # Errors
    /// As [`Registry::allow_trust`].
    pub async fn consent_to_trust(
        &self,
        fresh: TrustEdge,
        side: TrustSide,
        terms: TrustTerms,
    ) -> Result<TrustEdge, TrustError> {
        self.put_trust(&fresh.id, |old| TrustEdge::consented(old, fresh.clone(), side, terms.clone())).await
    }

    /// Takes one side's consent back: what rests on the edge is dead by that. An edge that has no consent left is gone.
    ///
    /// # Errors
    /// When this side has not consented.
    pub async fn withdraw_trust(&self, id: &TrustEdgeId, side: TrustSide, now: Timestamp) -> Result<(), TrustError> {
        let nothing = || match side {
            TrustSide::Home => TrustError::NotReleased(id.clone()),
            TrustSide::RelyingParty => TrustError::NoEdge(id.clone()),
        };
        let Stored { record: edge, version } = self.edges.get(&id.key()).await?.ok_or_else(nothing)?;
        if edge.consents.missing() == Some(side) {
            return Err(nothing());
        }
        let expect = Expect::Version(version);
        let write = match edge.withdrawn(side, now) {
            Some(left) => self.edges.put(&id.key(), &left, expect)?,
            None => self.edges.delete(&id.key(), expect),
        };
        self.reached(self.edges.commit(vec![write]).await?).await?;
        info!(relying_party = %id.relying_party, home = %id.home, side = side.as_str(), "consent to trust withdrawn");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn edge(consents: Consents) -> TrustEdge {
        let id = TrustEdgeId { relying_party: "beta".parse().unwrap(), home: "alpha".parse().unwrap() };
        TrustEdge { consents, ..TrustEdge::new(id, NOW).unwrap() }
    }

    #[test]
    fn an_edge_is_in_force_when_both_have_consented_and_gone_when_nobody_has() {
        use TrustSide::{Home, RelyingParty};
        for (consents, missing, with_home, with_party, without_home, without_party) in [
            (
                Consents::Both,
                None,
                Consents::Both,
                Consents::Both,
                Some(Consents::Only(RelyingParty)),
                Some(Consents::Only(Home)),
            ),
            (Consents::Only(Home), Some(RelyingParty), Consents::Only(Home), Consents::Both, None, None),
            (Consents::Only(RelyingParty), Some(Home), Consents::Both, Consents::Only(RelyingParty), None, None),
        ] {
            assert_eq!((consents.missing(), edge(consents).is_in_force()), (missing, missing.is_none()));
            assert_eq!((consents.with(Home), consents.with(RelyingParty)), (with_home, with_party));
            assert_eq!((consents.without(Home), consents.without(RelyingParty)), (without_home, without_party));
        }
    }

    #[test]
    fn an_edge_that_comes_into_force_begins_another_life() {
        use TrustSide::{Home, RelyingParty};
        let consented =
            |old: &TrustEdge, side| TrustEdge::consented(Some(old), edge(Consents::Both), side, TrustTerms::default());
        let whole = edge(Consents::Both);
        assert_eq!(consented(&whole, Home).epoch, whole.epoch, "what rests on it goes on");
        for side in TrustSide::ALL {
            let half = whole.clone().withdrawn(side, NOW).unwrap();
            assert_eq!(half.consents.missing(), Some(side));
            let again = consented(&half, side);
            assert!(again.is_in_force() && again.epoch != whole.epoch);
            // Also if both say it at once.
            assert_ne!(edge(Consents::Both).in_place_of(Some(&half)).epoch, whole.epoch);
            assert!(!consented(&half, side.other()).is_in_force(), "one side is not two");
            assert!(half.withdrawn(side.other(), NOW).is_none());
        }
        let first = TrustEdge::consented(None, edge(Consents::Both), RelyingParty, TrustTerms::default());
        assert_eq!(first.consents.missing(), Some(Home));
    }

    #[test]
    fn a_permission_to_follow_links_that_is_given_anew_is_another_one() {
        let terms = |linked| TrustTerms { linked: Some(linked), ..TrustTerms::default() };
        let fresh = || edge(Consents::Both);
        let first = terms(true).on(fresh());
        let again = terms(true).on(fresh()).in_place_of(Some(&first));
        assert_eq!((again.epoch, again.linked), (first.epoch, first.linked), "what rests on it goes on");
        let off = TrustTerms::default().on(fresh()).in_place_of(Some(&first));
        assert_eq!((off.epoch, off.linked), (first.epoch, None));
        let is_another = |on: &TrustEdge| on.epoch == first.epoch && on.linked.is_some() && on.linked != first.linked;
        assert!(first.linked.is_some() && is_another(&terms(true).on(fresh()).in_place_of(Some(&off))));
        // By one side's word too.
        let consented =
            |old: &TrustEdge, terms| TrustEdge::consented(Some(old), fresh(), TrustSide::RelyingParty, terms);
        assert_eq!(consented(&first, terms(true)).linked, first.linked);
        assert_eq!(consented(&first, TrustTerms::default()).linked, first.linked);
        assert_eq!(consented(&first, terms(false)).linked, None);
        assert!(is_another(&consented(&off, terms(true))));
    }

    #[test]
    fn what_is_not_said_with_a_consent_stays() {
        let terms = || TrustTerms { api_access: Some(true), ..TrustTerms::default() };
        let old = TrustEdge {
            email_domains: vec!["alpha.example".parse().unwrap()],
            consent: ConsentPolicy::Always,
            groups: GroupMap::everything(),
            username_template: "{email}".parse().unwrap(),
            ..edge(Consents::Only(TrustSide::Home))
        };
        let edge_after = TrustEdge::consented(Some(&old), edge(Consents::Both), TrustSide::RelyingParty, terms());
        assert!(edge_after.api_access && edge_after.is_in_force() && edge_after.vouches_for("alice@alpha.example"));
        assert_eq!((edge_after.consent, &edge_after.groups), (ConsentPolicy::Always, &old.groups));
        assert_eq!(edge_after.username_template.to_string(), "{email}");
    }

    #[test]
    fn it_is_stored_in_words() {
        for (consents, stored) in [
            (Consents::Both, r#""both""#),
            (Consents::Only(TrustSide::Home), r#"{"only":"home"}"#),
            (Consents::Only(TrustSide::RelyingParty), r#"{"only":"relying_party"}"#),
        ] {
            assert_eq!(serde_json::to_string(&consents).unwrap(), stored);
            assert_eq!(serde_json::from_str::<Consents>(stored).unwrap(), consents);
        }
        for nobody in [r#""none""#, r#"{"only":"nobody"}"#, "null", r#"{}"#] {
            assert!(serde_json::from_str::<Consents>(nobody).is_err(), "{nobody}");
        }
        assert!(TrustSide::ALL.iter().all(|side| TrustSide::named(side.as_str()) == Some(*side)));
        assert_eq!(TrustSide::named("both"), None);
    }
}
