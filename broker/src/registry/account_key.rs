//! By what an application finds the account of a user who comes again, and what that demands of trust edges.
//!
//! Whoever goes by `sub` (OpenID Connect Core 5.7) is safe by that alone. Whoever goes by the email address or the user
//! name takes two users for one as soon as two homes may say the same of them: such edges are refused.

use homeward_certs::identity::InstanceName;
use serde::{Deserialize, Serialize};

use crate::registry::{EmailDomain, TrustEdge, TrustEdgeId};

/// By what an application finds the account of a user who comes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKey {
    /// By `sub`.
    #[default]
    Subject,
    /// By the email address, verified or not: it is told only those for which the home is an authority.
    Email,
    /// By `preferred_username`.
    Username,
}

impl AccountKey {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Subject, Self::Email, Self::Username];

    /// As `client policy` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Email => "email",
            Self::Username => "username",
        }
    }

    /// As `client policy` takes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    /// Whether a relying party that goes by this may have this edge beside its others.
    ///
    /// # Errors
    /// When it could take users of two homes for one, or would never be told what it goes by.
    pub fn check<'a>(
        self,
        edge: &TrustEdge,
        others: impl IntoIterator<Item = &'a TrustEdge>,
    ) -> Result<(), AccountKeyConflict> {
        let others: Vec<&TrustEdge> = others.into_iter().filter(|other| other.id != edge.id).collect();
        if edge.linked.is_some() && self != Self::Subject {
            return Err(AccountKeyConflict::LinksUnseen(edge.id.clone()));
        }
        match self {
            Self::Subject => Ok(()),
            Self::Email => check_authority(edge, &others),
            Self::Username => check_names(edge, &others),
        }
    }
}

fn check_authority(edge: &TrustEdge, others: &[&TrustEdge]) -> Result<(), AccountKeyConflict> {
    if edge.email_domains.is_empty() {
        return Err(AccountKeyConflict::NoAuthority(edge.id.clone()));
    }
    check_domains(edge, others)
}

/// Two authorities for one domain could say the same address.
fn check_domains(edge: &TrustEdge, others: &[&TrustEdge]) -> Result<(), AccountKeyConflict> {
    let domains = others.iter().flat_map(|other| other.email_domains.iter().map(|domain| (&other.id, domain)));
    match domains.into_iter().find(|(_, domain)| edge.email_domains.contains(domain)) {
        Some((other, domain)) => Err(AccountKeyConflict::SharedDomain {
            id: edge.id.clone(),
            other: other.home.clone(),
            domain: domain.clone(),
        }),
        None => Ok(()),
    }
}

/// Also for the only home: its names meet those of local accounts, and of the home that was there before. An edge beside
/// it that does not keep names apart hinders nobody: no name is told there.
fn check_names(edge: &TrustEdge, others: &[&TrustEdge]) -> Result<(), AccountKeyConflict> {
    if !edge.keeps_names_apart() {
        return Err(AccountKeyConflict::NamesMeet(edge.id.clone()));
    }
    let by_email = |edge: &TrustEdge| edge.username_template.is_email();
    let others: Vec<&TrustEdge> = others.iter().copied().filter(|other| by_email(other)).collect();
    if by_email(edge) { check_domains(edge, &others) } else { Ok(()) }
}

impl TrustEdge {
    /// Whether no name that is made here can be another home's user's, or another user's of this home.
    ///
    /// What is made of an address needs a home that is the authority for it. An address is one home's own by that, but one
    /// of a domain without dot could be made of a user name, `@` and the name of another home. Two domains may each have
    /// an alice, so that what stands before the `@` is somebody's own only where there is one domain.
    pub fn keeps_names_apart(&self) -> bool {
        let (template, domains) = (&self.username_template, &self.email_domains);
        let answers = match (template.needs_email(), template.needs_domain()) {
            (false, _) => true,
            (true, false) => !domains.is_empty(),
            (true, true) => domains.len() == 1,
        };
        let dotted = || domains.iter().all(|domain| domain.as_str().contains('.'));
        answers && (template.names_the_home() || (template.is_email() && dotted()))
    }
}

/// Why a relying party cannot have an edge, by what it goes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountKeyConflict {
    /// No address would be told.
    #[error(
        "{} finds accounts by email address and is told only those for which the home is an authority: name the domains of \
         {} with --email-domain",
        .0.relying_party, .0.home
    )]
    NoAuthority(TrustEdgeId),
    /// Two homes could say the same address.
    #[error(
        "{} finds accounts by what is made of email addresses, and {other} is an authority for {domain} there already: take \
         that from it before it is given to {}",
        .id.relying_party, .id.home
    )]
    SharedDomain {
        /// The edge in question.
        id: TrustEdgeId,
        /// The other home.
        other: InstanceName,
        /// What both would speak for.
        domain: EmailDomain,
    },
    /// Two users could get the same name.
    #[error(
        "{} finds accounts by user name, and users of {} could get the name of somebody else: allow {} with \
         --username-template '{{username}}@{{home}}', or another one that ends in {{home}} behind @, + or _; one that is made \
         of {{email}} also needs --email-domain, and of {{local_part}} exactly one",
        .0.relying_party, .0.home, .0.home
    )]
    NamesMeet(TrustEdgeId),
    /// A link changes the subject alone: it would have no effect, or one that nobody means.
    #[error(
        "{} does not find accounts by the subject, which is all that linked homes share: allow {} without --linked",
        .0.relying_party, .0.home
    )]
    LinksUnseen(TrustEdgeId),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn edge(home: &str, domains: &[&str], template: &str) -> TrustEdge {
        let id = TrustEdgeId { relying_party: "beta".parse().unwrap(), home: home.parse().unwrap() };
        TrustEdge {
            email_domains: domains.iter().map(|domain| domain.parse().unwrap()).collect(),
            username_template: template.parse().unwrap(),
            ..TrustEdge::new(id, Timestamp::from_secs(0)).unwrap()
        }
    }

    fn check(key: AccountKey, edges: &[TrustEdge]) -> Result<(), String> {
        key.check(&edges[0], edges).map_err(|conflict| format!("{conflict:?}").split(['(', ' ']).next().unwrap().into())
    }

    #[test]
    fn edges_that_make_one_account_of_two_users_are_refused() {
        use AccountKey::{Email, Subject, Username};
        let (plain, full) = ("{username}", "{username}@{home}");
        let (no, own, one) = (&[][..], &["alpha.example"][..], &["alpha"][..]);
        let two = &["gamma.example", "alpha.example"][..];
        let refused = |text: &str| Err(text.to_owned());
        for (key, edges, expected) in [
            (Subject, vec![edge("alpha", no, plain), edge("gamma", no, plain)], Ok(())),
            (Email, vec![edge("alpha", no, full)], refused("NoAuthority")),
            (Email, vec![edge("alpha", own, full), edge("gamma", no, full)], Ok(())),
            (Email, vec![edge("alpha", own, full), edge("gamma", own, full)], refused("SharedDomain")),
            (Username, vec![edge("alpha", no, plain)], refused("NamesMeet")),
            (Username, vec![edge("alpha", no, full)], Ok(())),
            (Username, vec![edge("alpha", no, plain), edge("gamma", no, full)], refused("NamesMeet")),
            (Username, vec![edge("alpha", no, full), edge("gamma", no, plain)], Ok(())),
            (Username, vec![edge("alpha", no, full), edge("gamma", own, "{local_part}_{home}")], Ok(())),
            // What is before the @ is nobody's own without an authority, or with two domains.
            (Username, vec![edge("gamma", no, "{local_part}_{home}")], refused("NamesMeet")),
            (Username, vec![edge("gamma", two, "{local_part}_{home}")], refused("NamesMeet")),
            (Username, vec![edge("gamma", two, "{email}@{home}")], Ok(())),
            (Username, vec![edge("gamma", no, "{email}@{home}")], refused("NamesMeet")),
            (Username, vec![edge("alpha", own, "{email}"), edge("gamma", two, "{email}")], refused("SharedDomain")),
            (Username, vec![edge("alpha", own, "{email}"), edge("gamma", own, full)], Ok(())),
            (Username, vec![edge("alpha", own, "{email}"), edge("gamma", no, full)], Ok(())),
            (Username, vec![edge("alpha", no, "{email}"), edge("gamma", no, full)], refused("NamesMeet")),
            (Username, vec![edge("gamma", one, "{email}"), edge("alpha", no, full)], refused("NamesMeet")),
        ] {
            assert_eq!(check(key, &edges), expected, "{key:?} {edges:?}");
        }
    }

    #[test]
    fn only_who_finds_accounts_by_the_subject_sees_links() {
        let plain = edge("alpha", &["alpha.example"], "{username}@{home}");
        let linked = TrustEdge { linked: Some(plain.epoch), ..plain };
        assert_eq!(AccountKey::Subject.check(&linked, []), Ok(()));
        for key in [AccountKey::Email, AccountKey::Username] {
            assert_eq!(key.check(&linked, []), Err(AccountKeyConflict::LinksUnseen(linked.id.clone())), "{key:?}");
        }
    }

    #[test]
    fn an_edge_takes_the_place_of_itself() {
        let (old, new) =
            (edge("alpha", &["alpha.example"], "{username}@{home}"), edge("alpha", &["alpha.example"], "{email}"));
        assert_eq!(AccountKey::Email.check(&new, [&old]), Ok(()));
        assert_eq!(AccountKey::Username.check(&new, [&old]), Ok(()));
    }
}
