//! Scopes (OpenID Connect Core 5.4): what a relying party asks for in bulk.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A scope that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// An ID token; always there.
    Openid,
    /// Names, groups, and what else people say of themselves.
    Profile,
    /// The email address.
    Email,
    /// Groups.
    Groups,
    /// The postal address.
    Address,
    /// The telephone number.
    Phone,
    /// Refresh tokens that outlive the session (OpenID Connect Core 11).
    OfflineAccess,
}

impl Scope {
    /// All of them, as discovery lists them.
    pub const ALL: [Self; 7] =
        [Self::Openid, Self::Profile, Self::Email, Self::Groups, Self::Address, Self::Phone, Self::OfflineAccess];

    /// As in `scope`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openid => "openid",
            Self::Profile => "profile",
            Self::Email => "email",
            Self::Groups => "groups",
            Self::Address => "address",
            Self::Phone => "phone",
            Self::OfflineAccess => "offline_access",
        }
    }

    /// The claims that it stands for.
    pub(super) const fn claims(self) -> &'static [&'static str] {
        match self {
            Self::Openid | Self::OfflineAccess => &[],
            Self::Profile => &[
                "name",
                "given_name",
                "family_name",
                "middle_name",
                "nickname",
                "preferred_username",
                "homeward_name",
                "groups",
                "profile",
                "picture",
                "website",
                "gender",
                "birthdate",
                "zoneinfo",
                "locale",
                "updated_at",
            ],
            Self::Email => &["email", "email_verified"],
            Self::Groups => &["groups"],
            Self::Address => &["address"],
            Self::Phone => &["phone_number", "phone_number_verified"],
        }
    }
}

/// Scopes. `openid` is always among those of a grant; those of a token may be fewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Whether a scope was granted.
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// Whether there is nothing in them that `others` have not.
    pub fn is_within(&self, others: &Self) -> bool {
        self.0.is_subset(&others.0)
    }

    /// All but this one.
    #[must_use]
    pub fn without(mut self, scope: Scope) -> Self {
        self.0.remove(&scope);
        self
    }

    /// Those of them that a `scope` parameter names (RFC 6749 6); nothing if it names any other.
    pub fn narrowed(&self, text: &str) -> Option<Self> {
        let known = |word: &str| self.0.iter().copied().find(|scope| scope.as_str() == word);
        let words = text.split(' ').filter(|word| !word.is_empty());
        words.map(known).collect::<Option<BTreeSet<Scope>>>().map(Self)
    }

    /// No scope at all: for tokens that are about no user.
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// These and others.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(&self.0 | &others.0)
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    /// Reads a `scope` parameter. Scopes that mean nothing here are ignored (OpenID Connect Core 3.1.2.1).
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        // RFC 6749 3.3: what is no list of scopes is refused, since somebody meant something by it.
        if !text.bytes().all(|byte| matches!(byte, b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
            return Err(ScopeError::Malformed);
        }
        let known = |word: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
        let scopes: BTreeSet<Scope> = text.split(' ').filter_map(known).collect();
        if scopes.contains(&Scope::Openid) { Ok(Self(scopes)) } else { Err(ScopeError::OpenidMissing) }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&words.join(" "))
    }
}

/// Why a `scope` parameter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// A request without `openid` is no OpenID Connect request.
    #[error("the scope must contain openid")]
    OpenidMissing,
    /// Characters that no scope has.
    #[error("the scope has characters that no scope has")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    // A17
    #[test]
    fn a_scope_without_openid_is_refused() {
        for bad in ["", "profile", "OpenID"] {
            assert_eq!(bad.parse::<Scopes>(), Err(ScopeError::OpenidMissing), "{bad:?}");
        }
        assert_eq!("profile  openid openid nonsense".parse::<Scopes>().unwrap().to_string(), "openid profile");
    }

    // T12
    #[test]
    fn what_is_no_list_of_scopes_is_refused() {
        for bad in ["openid \"", "openid\tprofile", "openid a\\b", "openid \u{e9}", "openid\n"] {
            assert_eq!(bad.parse::<Scopes>(), Err(ScopeError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn scopes_may_be_narrowed() {
        let all: Scopes = "openid email offline_access".parse().unwrap();
        let fewer = all.clone().without(Scope::OfflineAccess);
        assert_eq!(fewer.to_string(), "openid email");
        assert!(fewer.is_within(&all) && !all.is_within(&fewer));
        assert_eq!(all.narrowed(" email  openid email").unwrap(), fewer);
        assert_eq!(all.narrowed("email").unwrap().to_string(), "email");
        assert!(all.narrowed("openid profile").is_none() && all.narrowed("openid rubbish").is_none());
    }
}
