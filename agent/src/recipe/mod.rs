//! Recipes: what the agent knows of one application, as data.
//!
//! A recipe says what the application needs as relying party ([`relying_party`]: callbacks, ways to give it its
//! credentials, how to prove that they are used), how it recognises its users as home ([`home`]: requests, JSON pointers,
//! outcomes), which versions it was written for ([`version`]) and what may be wrong at an installation ([`check`]). It is
//! a reviewed document without code: its paths lead to the application only, its placeholders stand only for whole
//! strings, segments and arguments, so nothing that a user or the broker sends can change the shape of what is written or
//! asked.

pub mod account;
pub mod check;
pub mod condition;
pub mod content;
pub mod directory;
pub mod home;
pub mod key_set;
pub mod library;
pub mod password;
pub mod path;
pub mod placeholders;
pub mod pointer;
pub mod probe;
pub mod provider;
pub mod relying_party;
pub mod session_end;
pub mod sql;
pub mod step;
pub mod version;
pub mod way;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use self::check::Check;
use self::content::UnknownPlaceholder;
use self::home::Home;
use self::placeholders::Placeholders;
use self::relying_party::RelyingParty;
use self::session_end::SessionEnd;
use self::version::Version;

/// The recipes that come with the agent: one a line, in the order of their names, which are their files' names.
#[rustfmt::skip]
const EMBEDDED: &[(&str, &str)] = &[
    ("alist", include_str!("../../recipes/alist.toml")),
    ("allauth-idp", include_str!("../../recipes/allauth-idp.toml")),
    ("django-allauth", include_str!("../../recipes/django-allauth.toml")),
    ("django-oauth-toolkit", include_str!("../../recipes/django-oauth-toolkit.toml")),
    ("django-oidc-provider", include_str!("../../recipes/django-oidc-provider.toml")),
    ("django-simple-sso", include_str!("../../recipes/django-simple-sso.toml")),
    ("django-social-auth", include_str!("../../recipes/django-social-auth.toml")),
    ("generic-oidc", include_str!("../../recipes/generic-oidc.toml")),
    ("inventree", include_str!("../../recipes/inventree.toml")),
    ("mozilla-django-oidc", include_str!("../../recipes/mozilla-django-oidc.toml")),
    ("nginx-auth-request", include_str!("../../recipes/nginx-auth-request.toml")),
    ("openlist", include_str!("../../recipes/openlist.toml")),
];

/// What the agent knows of one application.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// How configuration names it.
    pub name: String,
    /// How people call the application.
    pub title: String,
    /// What it needs of the application, for `recipe show`.
    pub description: String,
    /// Which versions of the application it is for.
    pub version: Option<Version>,
    /// What only the operator knows of this installation, by name, each with what it is: `[app.parameters]` of the
    /// configuration gives the values. Of a name that ends in `_file`, the file's content is a parameter too, a secret
    /// one, by the name without that ending.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The application as relying party.
    pub relying_party: Option<RelyingParty>,
    /// The application as home.
    pub home: Option<Home>,
    /// What would go wrong at this installation.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// Why a recipe is refused.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// No recipe of that name comes with the agent.
    #[error(
        "there is no recipe {0:?}; `homeward-agent recipe list` names those there are, recipe_dirs and recipe_file take your own"
    )]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read the recipe {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Commands are in it.
    #[error("{path} can be changed by others than its owner, and recipes name commands that the agent runs; run: chmod go-w {path}", path = .0.display())]
    Writable(PathBuf),
    /// It would be found by one name and shown by another.
    #[error("{path} calls itself {name:?}: give file and recipe the same name", path = .path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        name: String,
    },
    /// It is no TOML, or no recipe.
    #[error("the recipe does not parse: {0}")]
    Malformed(#[from] Box<toml::de::Error>),
    /// A placeholder that does not exist there, or not as a whole string.
    #[error("the recipe's {place}: {source}")]
    Placeholder {
        /// Where.
        place: &'static str,
        /// Which.
        #[source]
        source: UnknownPlaceholder,
    },
    /// A file name that would leave the folder, or occurs twice.
    #[error("the recipe's file name {0:?} must be one plain name, and only one file may have it")]
    FileName(String),
    /// Something that must be there is not.
    #[error("the recipe's {0}")]
    Incomplete(&'static str),
    /// A value is taken from an answer that no request gives.
    #[error("the recipe takes a value from the answer {0:?}, but no who_am_i request has that name")]
    UnknownAnswer(String),
    /// Outcomes where no password is judged.
    #[error("the recipe's {0}: nobody judges a password there, so a step has no outcomes")]
    OutcomesThere(&'static str),
    /// A claim that is not for an application to make.
    #[error("the recipe's home.identity.attributes: {0:?} is none; there are {known}", known = home::ATTRIBUTES.join(", "))]
    UnknownAttribute(String),
    /// A command that names a parameter which the recipe does not declare, or names it within a text.
    #[error("the recipe's {place}: {found:?}: parameters are those of [parameters], each only as a whole argument")]
    UnknownParameter {
        /// Where.
        place: &'static str,
        /// The argument.
        found: String,
    },
    /// A statement that is not what it must be.
    #[error("the recipe's {place}: {rule}")]
    Statement {
        /// Where.
        place: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// Two bodies in one request.
    #[error("the recipe's {0}: a request has either json or form")]
    TwoBodies(&'static str),
    /// Two ways of one name.
    #[error("the recipe has two ways that are called {0:?}")]
    WayTwice(String),
    /// A proof without what it needs.
    #[error("the recipe's relying_party.key_set: {0}")]
    KeySet(&'static str),
}

impl Recipe {
    /// Parses and checks.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(Box::new)?;
        let parameters = Placeholders::of_parameters(&recipe.parameters);
        if let Some(relying_party) = &recipe.relying_party {
            relying_party.check(&parameters)?;
        }
        if let Some(home) = &recipe.home {
            home.check(&parameters)?;
            home.oidc.as_ref().map_or(Ok(()), |oidc| oidc.check(&recipe.parameters))?;
        }
        recipe.checks.iter().try_for_each(|check| check.check(&parameters))?;
        for (place, session_end) in recipe.session_ends() {
            session_end.check_command(place, &recipe.parameters)?;
        }
        Ok(recipe)
    }

    /// How sessions are ended, in which role.
    fn session_ends(&self) -> impl Iterator<Item = (&'static str, &SessionEnd)> {
        let of_party = self.relying_party.as_ref().and_then(|role| role.session_end.as_ref());
        let of_home = self.home.as_ref().and_then(|role| role.session_end.as_ref());
        let of_party = of_party.map(|session_end| ("relying_party.session_end", session_end));
        of_party.into_iter().chain(of_home.map(|session_end| ("home.session_end", session_end)))
    }

    /// One that comes with the agent.
    pub fn embedded(name: &str) -> Result<Self, RecipeError> {
        Self::parse(Self::embedded_text(name)?)
    }

    /// The text of one that comes with the agent: its comments are its documentation.
    pub fn embedded_text(name: &str) -> Result<&'static str, RecipeError> {
        let found = EMBEDDED.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| *text).ok_or_else(|| RecipeError::Unknown(name.to_owned()))
    }

    /// The operator's own.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        Self::parse(&library::trusted_text_of(path)?)
    }

    /// Anybody's, of which nothing is run.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        Self::parse(&library::text_of(path)?)
    }
}

/// A path at the application: absolute, without host, query or dot segments, so that a recipe cannot send a user's
/// cookies or password anywhere else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AppPath(String);

/// Not a path at the application.
#[derive(Debug, Error)]
#[error("{0:?} is no path at the application: it must start with one slash and have no query, fragment or dot segment")]
pub struct NotAnAppPath(String);

impl TryFrom<String> for AppPath {
    type Error = NotAnAppPath;

    fn try_from(text: String) -> Result<Self, NotAnAppPath> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~@:+".contains(c);
        let dotted = text.split('/').any(|segment| segment == "." || segment == "..");
        if text.starts_with('/') && !text.starts_with("//") && !dotted && text.chars().all(plain) {
            Ok(Self(text))
        } else {
            Err(NotAnAppPath(text))
        }
    }
}

impl AppPath {
    /// The front page.
    pub(crate) fn root() -> Self {
        Self("/".to_owned())
    }

    /// As it goes on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_recipe_parses_and_is_found_by_its_name() {
        assert!(EMBEDDED.is_sorted_by_key(|(name, _)| name), "one recipe a line, in the order of their names");
        for (name, text) in EMBEDDED {
            assert_eq!(Recipe::parse(text).unwrap_or_else(|e| panic!("{name}: {e}")).name, *name);
            assert_eq!(Recipe::embedded(name).unwrap().name, *name);
        }
        assert!(matches!(Recipe::embedded("nonsense"), Err(RecipeError::Unknown(_))));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = "name = 'a'\ntitle = 'A'\ndescription = ''\nshell = 'rm'";
        assert!(matches!(Recipe::parse(text), Err(RecipeError::Malformed(_))));
    }

    #[test]
    fn a_path_leads_nowhere_but_to_the_application() {
        for good in ["/", "/accounts/login/", "/_allauth/browser/v1/config", "/@login"] {
            assert!(AppPath::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in
            ["", "x", "//evil.example/", "http://evil.example/", "/a?b=c", "/a#b", "/../x", "/a/./b", "/a\\b", "/a b"]
        {
            assert!(AppPath::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
