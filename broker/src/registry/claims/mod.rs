//! Claims: what a relying party learns of a user (OpenID Connect Core 5.1). Scopes and the `claims` parameter say what was
//! asked for, the home's word what there is, and the trust edge what of it may be called verified. Nothing is released
//! that was not asked for.
//!
//! Where it goes follows OpenID Connect Core 5.4 and 5.5: what a scope stands for is for userinfo, what the `claims`
//! parameter names is for the place that it names. Clients that read nothing but the ID token get all of it there, if their
//! policy says so.

mod attribute;
mod group_map;
mod mapping;
mod request;
mod scope;
mod username;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::registry::{ClientPolicy, Subject, TrustEdge, VerifiedIdentity};

pub use group_map::{GroupMap, GroupMapError, GroupMapping};
pub use mapping::ClaimMapping;
pub use request::{ClaimsParameter, ClaimsParameterError, ClaimsRequest};
pub use scope::{Scope, ScopeError, Scopes};
pub use username::{UsernameTemplate, UsernameTemplateError};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// In bulk.
    pub scopes: &'a Scopes,
    /// One by one.
    pub claims: &'a ClaimsRequest,
}

/// Whom claims are about.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// What his home said.
    pub identity: &'a VerifiedIdentity,
    /// As the relying party knows him.
    pub subject: &'a Subject,
}

/// On what terms a relying party learns of a home's users.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseTerms<'a> {
    /// What the home may vouch for, and what is told of it.
    pub edge: &'a TrustEdge,
    /// What the client is like.
    pub policy: &'a ClientPolicy,
}

/// What a relying party learns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claims {
    /// Who it is.
    pub sub: Subject,
    #[serde(flatten)]
    released: BTreeMap<&'static str, Value>,
}

impl Claims {
    /// For userinfo: what the scopes stand for, and what was asked for there.
    pub fn for_userinfo(person: Person<'_>, terms: ReleaseTerms<'_>, asked: Asked<'_>) -> Self {
        Self::release(person, terms, &(&of_scopes(asked.scopes) | &names(&asked.claims.userinfo)))
    }

    /// For the ID token: what was asked for there, and all the rest for clients that look nowhere else.
    pub fn for_id_token(person: Person<'_>, terms: ReleaseTerms<'_>, asked: Asked<'_>) -> Self {
        if terms.policy.claims_in_id_token {
            Self::in_all(person, terms, asked)
        } else {
            Self::release(person, terms, &names(&asked.claims.id_token))
        }
    }

    /// All that the relying party learns, wherever: what users are asked to agree to.
    pub fn in_all(person: Person<'_>, terms: ReleaseTerms<'_>, asked: Asked<'_>) -> Self {
        let Asked { scopes, claims } = asked;
        let all = &(&of_scopes(scopes) | &names(&claims.userinfo)) | &names(&claims.id_token);
        Self::release(person, terms, &all)
    }

    /// The name by which the relying party knows the user, if it is told one.
    pub fn username(person: Person<'_>, terms: ReleaseTerms<'_>) -> Option<String> {
        attribute::username(person, terms)
    }

    /// What was released, by name, in an order for people.
    pub fn released(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        attribute::ORDER.into_iter().filter_map(|name| Some((name, self.released.get(name)?)))
    }

    fn release(person: Person<'_>, terms: ReleaseTerms<'_>, names: &BTreeSet<&str>) -> Self {
        let known = attribute::ORDER.into_iter().filter(|name| names.contains(name));
        let released = known.filter_map(|name| Some((name, attribute::value(name, person, terms)?)));
        Self { sub: person.subject.clone(), released: released.collect() }
    }
}

fn of_scopes(scopes: &Scopes) -> BTreeSet<&str> {
    scopes.iter().flat_map(Scope::claims).copied().collect()
}

fn names(asked: &BTreeSet<String>) -> BTreeSet<&str> {
    asked.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests;
