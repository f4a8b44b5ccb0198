//! What becomes of each thing that a home says, on its way to a relying party, and why: for ops who want to know before a
//! user does.

use serde_json::Value;

use crate::registry::claims::attribute;
use crate::registry::{AccountKey, Person, ReleaseTerms};

/// One claim, from the home to the relying party.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimMapping {
    /// Its name.
    pub claim: &'static str,
    /// What the home said, as text; empty if it said nothing.
    pub home_value: String,
    /// What the relying party gets when it asks for it; nothing if there is nothing to get.
    pub value: Option<Value>,
    /// Why it is not what the home said; empty if it is.
    pub reason: String,
}

impl ClaimMapping {
    /// Of all claims of which the home said something, or the relying party gets something.
    pub fn of(person: Person<'_>, terms: ReleaseTerms<'_>) -> Vec<Self> {
        let subject = Self {
            claim: "sub",
            home_value: person.identity.id_at_home().to_owned(),
            value: Some(person.subject.as_str().into()),
            reason: "made of the installation and the user's id there: it never changes hands".to_owned(),
        };
        let of_claims = attribute::ORDER.into_iter().map(|claim| {
            let (home_value, value) = (said(claim, person), attribute::value(claim, person, terms));
            let reason = reason(claim, &home_value, value.as_ref(), (person, terms));
            Self { claim, home_value, value, reason }
        });
        let worth_saying = |mapping: &Self| mapping.value.is_some() || !mapping.home_value.is_empty();
        std::iter::once(subject).chain(of_claims.filter(worth_saying)).collect()
    }
}

/// What the home said of a claim.
fn said(claim: &str, Person { identity, .. }: Person<'_>) -> String {
    let attribute = |name: &str| identity.attributes.get(name).cloned().unwrap_or_default();
    match claim {
        "preferred_username" | "homeward_name" => identity.username.clone(),
        "name" => identity.name.clone(),
        "given_name" => identity.given_name.clone(),
        "family_name" => identity.family_name.clone(),
        "email" => identity.email.clone(),
        "email_verified" if identity.email.is_empty() => String::new(),
        "email_verified" => identity.email_verified.to_string(),
        "groups" => identity.groups.join(", "),
        "address" => {
            let members = identity.attributes.iter().filter(|(name, _)| name.starts_with("address."));
            members.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
        }
        other => attribute(other),
    }
}

fn reason(claim: &str, home_value: &str, value: Option<&Value>, about: (Person<'_>, ReleaseTerms<'_>)) -> String {
    match claim {
        "preferred_username" => username_reason(value, about),
        "homeward_name" => "the same at every relying party".to_owned(),
        "email" => email_reason(home_value, value, about),
        "email_verified" => authority_reason(home_value, value, about),
        "groups" => groups_reason(about),
        _ if value.is_none() => "not in the form that OpenID Connect Core 5.1 demands".to_owned(),
        _ => String::new(),
    }
}

fn username_reason(value: Option<&Value>, (Person { identity, .. }, terms): (Person<'_>, ReleaseTerms<'_>)) -> String {
    let template = &terms.edge.username_template;
    match value {
        Some(value) if *value == identity.username => String::new(),
        Some(_) if identity.name_is_held => format!(
            "by the template {template}, respelt: another user of {} had this name first, and keeps it",
            terms.edge.id.home
        ),
        Some(_) => format!("by the template {template}"),
        None if terms.policy.account_key == AccountKey::Username && !terms.edge.keeps_names_apart() => {
            format!(
                "{} finds accounts by it, and by {template} it could be somebody else's",
                terms.edge.id.relying_party
            )
        }
        None if identity.email.is_empty() => {
            format!("the template {template} needs an email address, and there is none")
        }
        None => format!("{} is no authority for the address that {template} is made of", terms.edge.id.home),
    }
}

fn email_reason(email: &str, value: Option<&Value>, (person, terms): (Person<'_>, ReleaseTerms<'_>)) -> String {
    if email.is_empty() || value.is_some() || terms.policy.account_key != AccountKey::Email {
        return String::new();
    }
    let why = authority_reason("true", Some(&Value::Bool(false)), (person, terms));
    format!("{} finds accounts by it and is told only verified addresses: {why}", terms.edge.id.relying_party)
}

/// Why an address is not verified.
fn authority_reason(said: &str, value: Option<&Value>, (person, terms): (Person<'_>, ReleaseTerms<'_>)) -> String {
    let (identity, home) = (person.identity, &terms.edge.id.home);
    let domain = identity.email.rsplit_once('@').map_or("", |(_, domain)| domain);
    match (said, value.and_then(Value::as_bool)) {
        ("true", Some(true)) | ("", _) => String::new(),
        _ if !identity.email_verified => format!("{home} itself has not verified it"),
        _ => format!("{home} is no authority for {domain}: see --email-domain"),
    }
}

fn groups_reason((Person { identity, .. }, terms): (Person<'_>, ReleaseTerms<'_>)) -> String {
    let groups = &terms.edge.groups;
    let untold = groups.untold(&identity.groups);
    match (groups.is_empty(), untold.is_empty()) {
        (true, _) => "no group is mapped: see --group".to_owned(),
        (false, true) => String::new(),
        (false, false) => format!("not mapped: {}", untold.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::registry::{AssertedIdentity, ClientPolicy, GroupMap, Subject, TrustEdge, TrustEdgeId};

    /// claim: said -> got (why)
    fn lines(key: AccountKey, template: &str, groups: &[&str], domains: &[&str]) -> Vec<String> {
        let said = serde_json::json!({
            "home_user_id": "17", "username": "alice", "name": "Alice", "given_name": "", "family_name": "",
            "email": "alice@alpha.example", "email_verified": true, "groups": ["staff", "admins"], "auth_time": null,
            "amr": [], "attributes": {"birthdate": "1.2.1990"},
        });
        let identity =
            serde_json::from_value::<AssertedIdentity>(said).unwrap().verify(Timestamp::from_secs(0)).unwrap();
        let subject: Subject = serde_json::from_value("s".into()).unwrap();
        let id = TrustEdgeId { relying_party: "beta".parse().unwrap(), home: "alpha".parse().unwrap() };
        let edge = TrustEdge {
            username_template: template.parse().unwrap(),
            groups: GroupMap::of(groups.iter().map(|line| line.parse().unwrap())).unwrap(),
            email_domains: domains.iter().map(|domain| domain.parse().unwrap()).collect(),
            ..TrustEdge::new(id, Timestamp::from_secs(0)).unwrap()
        };
        let policy = ClientPolicy { account_key: key, ..ClientPolicy::default() };
        let terms = ReleaseTerms { edge: &edge, policy: &policy };
        let mappings = ClaimMapping::of(Person { identity: &identity, subject: &subject }, terms).into_iter();
        let line = |ClaimMapping { claim, home_value, value, reason }: ClaimMapping| {
            let value = value.map(|value| value.to_string()).unwrap_or_default();
            format!("{claim}: {home_value} -> {value} ({reason})")
        };
        mappings.map(line).collect()
    }

    #[test]
    fn every_claim_says_what_became_of_it() {
        assert_eq!(
            lines(AccountKey::Subject, "{username}@{home}", &["staff=Staff"], &[]),
            [
                r#"sub: 17 -> "s" (made of the installation and the user's id there: it never changes hands)"#,
                r#"name: Alice -> "Alice" ()"#,
                r#"preferred_username: alice -> "alice@alpha" (by the template {username}@{home})"#,
                r#"homeward_name: alice -> "alice@alpha" (the same at every relying party)"#,
                r#"email: alice@alpha.example -> "alice@alpha.example" ()"#,
                "email_verified: true -> false (alpha is no authority for alpha.example: see --email-domain)",
                r#"groups: staff, admins -> ["Staff"] (not mapped: admins)"#,
                "birthdate: 1.2.1990 ->  (not in the form that OpenID Connect Core 5.1 demands)",
            ]
        );
    }

    #[test]
    fn a_name_that_is_kept_back_says_why() {
        let of = |key, template| lines(key, template, &[], &[]).into_iter().find(|line| line.starts_with("preferred"));
        assert_eq!(
            of(AccountKey::Username, "{username}").unwrap(),
            "preferred_username: alice ->  (beta finds accounts by it, and by {username} it could be somebody else's)"
        );
        assert_eq!(
            of(AccountKey::Subject, "{email}").unwrap(),
            r#"preferred_username: alice -> "alice@alpha.example" (by the template {email})"#
        );
    }

    #[test]
    fn what_is_kept_back_says_why() {
        let lines = lines(AccountKey::Email, "{username}", &[], &["elsewhere.example"]);
        assert_eq!(
            lines[2..],
            [
                r#"preferred_username: alice -> "alice" ()"#,
                r#"homeward_name: alice -> "alice@alpha" (the same at every relying party)"#,
                "email: alice@alpha.example ->  (beta finds accounts by it and is told only verified addresses: alpha is no \
                 authority for alpha.example: see --email-domain)",
                "email_verified: true ->  (alpha is no authority for alpha.example: see --email-domain)",
                "groups: staff, admins ->  (no group is mapped: see --group)",
                "birthdate: 1.2.1990 ->  (not in the form that OpenID Connect Core 5.1 demands)",
            ]
        );
    }
}
