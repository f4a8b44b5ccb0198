//! The application as home: how to ask it who is signed in, and what its answers mean. How it judges a password is in
//! [`password`](super::password), what it says of its users without a login in [`directory`](super::directory).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::condition::Condition;
use super::directory::{Accounts, DirectoryLookup};
use super::password::Password;
use super::path::PathTemplate;
use super::placeholders::Placeholders;
use super::pointer::Selector;
use super::provider::{OidcHome, SimpleSsoHome};
use super::session_end::SessionEnd;
use super::sql::Query;
use super::step::{HeaderField, HeaderText, Step};
use super::{AppPath, RecipeError};

/// The application as home. Nothing is known of one whose users the application does not know.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Home {
    /// Where a user signs in; needed by the home method `session`.
    pub login: Option<Page>,
    /// Where a user who is signed in proves it again; [`Home::login`] if unset.
    pub reauthenticate: Option<Page>,
    /// Asked with a user's cookies, or after a password sign-in, in this order. The first decides whether anybody is signed
    /// in.
    pub who_am_i: Vec<WhoAmI>,
    /// Sessions that this home does not vouch for, although somebody is signed in.
    pub refuse_when: Vec<Refusal>,
    /// Users whom this home does not vouch for, however they were recognised.
    pub foreign: Option<Foreign>,
    /// Where in the answers the user is.
    pub identity: IdentityMap,
    /// What the application's names of authentication methods are in RFC 8176; others are left out.
    pub amr_values: BTreeMap<String, String>,
    /// How to check a password; needed by the home method `password`.
    pub password: Option<Password>,
    /// The authentication context class of each home method, where it has one that always holds.
    pub acr: MethodAcr,
    /// The application as OpenID provider; needed by the home method `oidc`.
    pub oidc: Option<OidcHome>,
    /// The application as server of django-simple-sso; needed by the home method `simple_sso`.
    pub simple_sso: Option<SimpleSsoHome>,
    /// How the agent ends a user's sessions here.
    pub session_end: Option<SessionEnd>,
    /// Whether a user may still log in.
    pub accounts: Option<Accounts>,
    /// What this home would say of a user, without a login.
    pub directory: Option<DirectoryLookup>,
}

/// The values of an order that the steps of [`Home::session_end`] may use.
pub const ORDER_VALUES: [&str; 1] = ["home_user_id"];

/// The authentication context class (OpenID Connect Core 2, `acr`) that every login by a home method has. What only some
/// logins have is told by [`IdentityMap::acr`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodAcr {
    /// Of every session that the application has, however it was made.
    pub session: Option<String>,
    /// Of a password that was judged this moment.
    pub password: Option<String>,
}

/// A page that sends the browser on when it is done.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Where it is.
    pub path: AppPath,
    /// The query parameter that says where to go next; unset for a page that forgets where people came from. Nobody is
    /// offered such a page who can log in here.
    pub next_parameter: Option<String>,
}

/// A GET whose JSON answer tells something of the signed-in user.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhoAmI {
    /// How selectors name the answer.
    pub name: String,
    /// Where to ask.
    pub path: PathTemplate,
    /// Further headers. A request that needs what only password steps capture is left out where there were none.
    #[serde(default)]
    pub headers: BTreeMap<HeaderField, HeaderText>,
    /// When the answer means that somebody is signed in (first request) or is of use (others): status 200 if unset.
    #[serde(default)]
    pub when: Condition,
    /// What it means otherwise; the answer is just not used if unset. Of the first request that counts only after a password
    /// sign-in: else nobody is signed in.
    pub otherwise: Option<Otherwise>,
}

/// Why a user who is signed in is not vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// The application lets users in only to set up a second factor.
    SecondFactorMissing,
    /// The user may not log in.
    Disabled,
    /// The account belongs to nobody.
    Guest,
}

/// An answer that shows a session which is not this home's to vouch for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Name of the who_am_i request.
    pub answer: String,
    /// What its answer is like then.
    pub when: Condition,
}

/// The section `[home.foreign]`: accounts that belong to users of other homes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foreign {
    /// In the database, by the home user id: one that has a row is another home's.
    pub rows: Query,
}

/// Where the user is. Of several selectors the first that finds something counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityMap {
    /// The application's own stable identifier: a string or a number.
    pub home_user_id: Selectors,
    /// The login name.
    pub username: Selectors,
    /// The full name; left out where it only repeats the login name.
    pub name: Selectors,
    /// Given name.
    pub given_name: Selectors,
    /// Family name.
    pub family_name: Selectors,
    /// Email address.
    pub email: Selectors,
    /// Whether the application has verified it: counts only if it is `true`.
    pub email_verified: Selectors,
    /// Names of groups.
    pub groups: Selectors,
    /// Seconds since 1970 at which the user authenticated; the latest counts.
    pub auth_time: Selectors,
    /// How the user authenticated.
    pub amr: Selectors,
    /// Authentication context class of this very login; stands before what [`Home::acr`] says of the method.
    pub acr: Selectors,
    /// Further standard claims, by name; [`ATTRIBUTES`] are those there are.
    pub attributes: BTreeMap<String, Selectors>,
}

/// The claims of OpenID Connect Core 5.1 that have no place of their own in [`IdentityMap`], and the members of the address
/// claim (5.1.1). Whether an address or number is verified is not among them: that is for the trust edge to say.
pub const ATTRIBUTES: [&str; 16] = [
    "middle_name",
    "nickname",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
    "address.formatted",
    "address.street_address",
    "address.locality",
    "address.region",
    "address.postal_code",
    "address.country",
];

/// One selector, or several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "OneOrMore")]
pub struct Selectors(pub Vec<Selector>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Selector),
    More(Vec<Selector>),
}

impl Home {
    pub(super) fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        let signs_in = self.login.is_some() || self.password.is_some();
        if signs_in && self.who_am_i.is_empty() {
            return Err(RecipeError::Incomplete("home needs at least one who_am_i request"));
        }
        let used = self.identity.selectors().map(|selector| &selector.answer);
        let mut used = used.chain(self.refuse_when.iter().map(|refusal| &refusal.answer));
        if let Some(unknown) = used.find(|used| !self.who_am_i.iter().any(|request| request.name == **used)) {
            return Err(RecipeError::UnknownAnswer(unknown.clone()));
        }
        if signs_in && (self.identity.home_user_id.0.is_empty() || self.identity.username.0.is_empty()) {
            return Err(RecipeError::Incomplete("home.identity needs home_user_id and username"));
        }
        if let Some(name) = self.identity.attributes.keys().find(|name| !ATTRIBUTES.contains(&name.as_str())) {
            return Err(RecipeError::UnknownAttribute(name.clone()));
        }
        if let Some(session_end) = &self.session_end {
            session_end.check("home.session_end", &parameters.clone().with(&ORDER_VALUES))?;
        }
        if let Some(simple_sso) = &self.simple_sso {
            simple_sso.check()?;
        }
        if let Some(foreign) = &self.foreign {
            foreign.rows.check("home.foreign", parameters)?;
        }
        if let Some(accounts) = &self.accounts {
            accounts.check(parameters)?;
        }
        if let Some(directory) = &self.directory {
            directory.check(parameters)?;
        }
        let known = self.password.as_ref().map(|password| password.check(parameters)).transpose()?;
        let known = known.unwrap_or_else(|| parameters.clone());
        self.who_am_i.iter().try_for_each(|request| request.step().check_plain("home.who_am_i", &known))
    }
}

impl WhoAmI {
    /// The request.
    pub fn step(&self) -> Step {
        Step { headers: self.headers.clone(), ..Step::get(self.path.clone()) }
    }
}

impl IdentityMap {
    pub(super) fn selectors(&self) -> impl Iterator<Item = &Selector> {
        [
            &self.home_user_id,
            &self.username,
            &self.name,
            &self.given_name,
            &self.family_name,
            &self.email,
            &self.email_verified,
            &self.groups,
            &self.auth_time,
            &self.amr,
            &self.acr,
        ]
        .into_iter()
        .chain(self.attributes.values())
        .flat_map(|selectors| &selectors.0)
    }
}

impl From<OneOrMore> for Selectors {
    fn from(selectors: OneOrMore) -> Self {
        match selectors {
            OneOrMore::One(selector) => Self(vec![selector]),
            OneOrMore::More(selectors) => Self(selectors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::super::step::StepMethod;
    use super::*;

    const SMALL: &str = r"
        name = 'small'
        title = 'Small'
        description = ''
        [home]
        login = { path = '/login', next_parameter = 'next' }
        who_am_i = [{ name = 'me', path = '/whoami' }]
        identity = { home_user_id = 'me:/id', username = ['me:/login', 'me:/username'] }
        [[home.password.steps]]
        method = 'POST'
        path = '/login'
        json = { username = '${username}', password = '${password}' }
        outcomes = [{ when = { status = 200 }, outcome = 'ok' }, { when = { status = 401 }, outcome = 'wrong' }]
    ";

    #[test]
    fn a_small_application_needs_a_small_recipe() {
        let home = Recipe::parse(SMALL).unwrap().home.unwrap();
        assert_eq!(home.identity.username.0.len(), 2);
        assert_eq!(home.password.unwrap().steps[0].method, StepMethod::Post);
    }

    #[test]
    fn a_value_must_come_from_a_request_that_is_made() {
        let text = SMALL.replace("'me:/id'", "'you:/id'");
        assert!(matches!(Recipe::parse(&text), Err(RecipeError::UnknownAnswer(name)) if name == "you"));
    }

    #[test]
    fn only_standard_claims_are_attributes() {
        let with = |attribute: &str| SMALL.replace("'me:/id',", &format!("'me:/id', attributes = {{ {attribute} }},"));
        let home =
            Recipe::parse(&with("nickname = 'me:/nick', 'address.locality' = 'me:/city'")).unwrap().home.unwrap();
        assert_eq!(home.identity.attributes.len(), 2);
        for bad in ["sub = 'me:/id'", "email_verified = 'me:/id'", "groups = 'me:/id'", "'address.x' = 'me:/id'"] {
            assert!(matches!(Recipe::parse(&with(bad)), Err(RecipeError::UnknownAttribute(_))), "{bad}");
        }
        assert!(matches!(Recipe::parse(&with("nickname = 'you:/nick'")), Err(RecipeError::UnknownAnswer(_))));
    }

    #[test]
    fn password_steps_must_be_able_to_succeed() {
        let text = SMALL.replace("outcome = 'ok'", "outcome = 'disabled'");
        assert!(matches!(Recipe::parse(&text), Err(RecipeError::Incomplete(_))));
        let text = SMALL.replace("'${password}'", "'${client_secret}'");
        assert!(matches!(Recipe::parse(&text), Err(RecipeError::Placeholder { .. })));
    }
}
