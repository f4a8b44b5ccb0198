//! Claims: what a relying party learns of a user (OpenID Connect Core 5.1), decided by the trust edge and the scopes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::registry::{Subject, TrustEdge, VerifiedIdentity};

/// A scope that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// An ID token; always there.
    Openid,
    /// Names, and groups.
    Profile,
    /// The email address.
    Email,
    /// Groups.
    Groups,
}

impl Scope {
    /// All of them, as discovery lists them.
    pub const ALL: [Self; 4] = [Self::Openid, Self::Profile, Self::Email, Self::Groups];

    /// As in `scope`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openid => "openid",
            Self::Profile => "profile",
            Self::Email => "email",
            Self::Groups => "groups",
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
}

impl FromStr for Scopes {
    type Err = OpenidMissing;

    /// Reads a `scope` parameter. Scopes that mean nothing here are ignored (OpenID Connect Core 3.1.2.1).
    fn from_str(text: &str) -> Result<Self, OpenidMissing> {
        let known = |word: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
        let scopes: BTreeSet<Scope> = text.split(' ').filter_map(known).collect();
        if scopes.contains(&Scope::Openid) { Ok(Self(scopes)) } else { Err(OpenidMissing) }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&words.join(" "))
    }
}

/// Claims that were asked for one by one, by name (OpenID Connect Core 5.5). Unknown ones were dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsRequest {
    /// For the ID token.
    pub id_token: BTreeSet<String>,
    /// For userinfo.
    pub userinfo: BTreeSet<String>,
}

/// A request without `openid` is no OpenID Connect request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scope must contain openid")]
pub struct OpenidMissing;

/// What a relying party learns: the same in the ID token and from userinfo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who it is.
    pub sub: Subject,
    /// Login name at the home.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preferred_username: Option<String>,
    /// `<login name>@<home>`: no two users of the federation share one, for applications that know users by name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub homeward_name: Option<String>,
    /// Full name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Given name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub given_name: Option<String>,
    /// Family name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub family_name: Option<String>,
    /// Email address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// Whether it is verified by a home that is an authority for its domain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email_verified: Option<bool>,
    /// Groups at the home.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub groups: Option<Vec<String>>,
}

impl Claims {
    /// What the edge and the scopes let through.
    pub fn release(identity: &VerifiedIdentity, subject: Subject, edge: &TrustEdge, scopes: &Scopes) -> Self {
        let profile = scopes.has(Scope::Profile);
        let text = |granted: bool, text: &str| (granted && !text.is_empty()).then(|| text.to_owned());
        let email = text(scopes.has(Scope::Email), &identity.email);
        // Only here does an address become verified: applications match accounts by it.
        let email_verified = email.as_ref().map(|email| identity.email_verified && edge.vouches_for(email));
        Self {
            preferred_username: text(profile, &identity.username),
            homeward_name: profile.then(|| format!("{}@{}", safe_name(&identity.username, &subject), edge.id.home)),
            name: text(profile, &identity.name),
            given_name: text(profile, &identity.given_name),
            family_name: text(profile, &identity.family_name),
            email,
            email_verified,
            groups: (profile || scopes.has(Scope::Groups)).then(|| identity.groups.clone()),
            sub: subject,
        }
    }
}

/// A user name of letters, digits, `.`, `_` and `-` stands for itself. Any other one is spelt with `_` and gets a `+`
/// and a piece of the subject behind it, which no name of the first kind can look like: `a b` and `a_b` stay apart.
fn safe_name(username: &str, subject: &Subject) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if username.chars().all(safe) {
        return username.to_owned();
    }
    let spelt: String = username.chars().map(|c| if safe(c) { c } else { '_' }).collect();
    let piece: String = subject.to_string().chars().take(12).collect();
    format!("{spelt}+{piece}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::registry::{AssertedIdentity, TrustEdgeId};

    fn release(scope: &str, change: impl FnOnce(&mut AssertedIdentity)) -> serde_json::Value {
        let mut identity = AssertedIdentity {
            home_user_id: "1".into(),
            username: "alice".into(),
            name: "Alice Archer".into(),
            given_name: "Alice".into(),
            family_name: String::new(),
            email: "alice@alpha.example".into(),
            email_verified: true,
            groups: vec!["staff".into()],
            auth_time: None,
            amr: Vec::new(),
            acr: None,
            attributes: std::collections::BTreeMap::new(),
        };
        change(&mut identity);
        let edge = TrustEdge {
            id: TrustEdgeId { relying_party: "beta".parse().unwrap(), home: "alpha".parse().unwrap() },
            email_domains: vec!["alpha.example".parse().unwrap()],
            consent: crate::registry::ConsentPolicy::None,
            api_access: false,
            updated_at: Timestamp::from_secs(0),
        };
        let subject: Subject = serde_json::from_str("\"s-u_b3456789abcdef\"").unwrap();
        let identity = identity.verify(Timestamp::from_secs(0)).unwrap();
        serde_json::to_value(Claims::release(&identity, subject, &edge, &scope.parse().unwrap())).unwrap()
    }

    #[test]
    fn scopes_decide_what_is_released() {
        use serde_json::json;
        let sub = "s-u_b3456789abcdef";
        for (scope, claims) in [
            ("openid", json!({"sub": sub})),
            ("openid groups", json!({"sub": sub, "groups": ["staff"]})),
            ("email openid", json!({"sub": sub, "email": "alice@alpha.example", "email_verified": true})),
            (
                "openid profile address x",
                json!({"sub": sub, "preferred_username": "alice", "homeward_name": "alice@alpha",
                    "name": "Alice Archer", "given_name": "Alice", "groups": ["staff"]}),
            ),
        ] {
            assert_eq!(release(scope, |_| {}), claims, "{scope}");
        }
    }

    #[test]
    fn an_address_is_verified_only_by_the_authority_for_its_domain() {
        let verified = |email: &str, verified: bool| {
            release("openid email", |i| (i.email, i.email_verified) = (email.into(), verified))["email_verified"]
                .clone()
        };
        assert_eq!(verified("alice@alpha.example", true), true);
        assert_eq!(verified("alice@alpha.example", false), false);
        assert_eq!(verified("alice@beta.example", true), false);
        assert!(release("openid email", |i| i.email.clear()).get("email_verified").is_none());
    }

    #[test]
    fn federation_names_never_collide() {
        let name =
            |username: &str| release("openid profile", |i| i.username = username.into())["homeward_name"].clone();
        assert_eq!(name("a_b"), "a_b@alpha");
        assert_eq!(name("a b"), "a_b+s-u_b3456789@alpha");
        assert_eq!(name("alice@beta"), "alice_beta+s-u_b3456789@alpha");
        assert_eq!(name("a+b"), "a_b+s-u_b3456789@alpha");
    }

    #[test]
    fn a_scope_without_openid_is_refused() {
        for bad in ["", "profile", "OpenID", "openid\tprofile"] {
            assert_eq!(bad.parse::<Scopes>(), Err(OpenidMissing), "{bad:?}");
        }
        assert_eq!("profile  openid openid nonsense".parse::<Scopes>().unwrap().to_string(), "openid profile");
    }
}
