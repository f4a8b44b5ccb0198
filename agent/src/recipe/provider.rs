//! The application as a provider of logins of its own, of which the agent is a client: the sections `[home.oidc]` and
//! `[home.simple_sso]`.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::content::placeholder;
use super::home::{Home, IdentityMap, Selectors};
use super::pointer::Selector;
use super::relying_party::ClientAuthMethod;
use super::{AppPath, RecipeError};

/// What the claims of a login are called among the answers.
pub(crate) const CLAIMS: &str = "claims";
/// And what the further document is called, unless the recipe says otherwise.
const DOCUMENT: &str = "me";
/// RFC 8176 2: a provider of OpenID Connect speaks its words already.
const AMR_VALUES: [&str; 21] = [
    "face", "fpt", "geo", "hwk", "iris", "kba", "mca", "mfa", "otp", "pin", "pop", "pwd", "rba", "retina", "sc", "sms",
    "swk", "tel", "user", "vbm", "wia",
];

/// The application as OpenID provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcHome {
    /// Its issuer, below the public address; `/` for the address itself, without a slash.
    pub issuer_path: Option<AppPath>,
    /// What is asked for.
    #[serde(default = "openid")]
    pub scopes: Vec<String>,
    /// How the agent authenticates: `client_secret_basic` or `client_secret_post`.
    #[serde(default = "basic")]
    pub client_auth_method: ClientAuthMethod,
    /// Where in the ID token and userinfo the user is, as JSON pointers; `me:/…` for the further document.
    #[serde(deserialize_with = "claims")]
    pub claims: IdentityMap,
    /// A further document that is to be had with the access token.
    pub attributes: Option<Attributes>,
    /// How the client is made there; by the operator's hand if empty.
    #[serde(default)]
    pub client: Vec<ClientMaking>,
}

/// A document about the user.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// Where it is.
    pub path: AppPath,
    /// What claims call it.
    #[serde(default = "document")]
    pub name: String,
}

/// A command that makes the agent's client at the application, changes one that is there, and succeeds if there is nothing
/// to do. It is run at the first login after the agent's start. `HOMEWARD_CLIENT_ID`, `HOMEWARD_CLIENT_SECRET` and
/// `HOMEWARD_CALLBACK_URL` are in its environment: arguments are for everybody on the machine to read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientMaking {
    /// Program and arguments, run without a shell.
    pub command: Vec<String>,
}

/// The application as server of django-simple-sso.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimpleSsoHome {
    /// Where its addresses begin: with a slash at the end.
    pub server_path: AppPath,
    /// Where in what it says the user is.
    #[serde(deserialize_with = "claims")]
    pub claims: IdentityMap,
}

impl OidcHome {
    pub(super) fn check(&self, parameters: &BTreeMap<String, String>) -> Result<(), RecipeError> {
        check_claims(&self.claims, &[CLAIMS, self.attributes.as_ref().map_or(CLAIMS, |attributes| &attributes.name)])?;
        if !matches!(self.client_auth_method, ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost)
        {
            return Err(RecipeError::Incomplete("home.oidc.client_auth_method is client_secret_basic or _post"));
        }
        let known = |argument: &str| placeholder(argument).is_some_and(|name| parameters.contains_key(name));
        let mut arguments = self.client.iter().flat_map(|client| &client.command);
        match arguments.find(|argument| argument.contains("${") && !known(argument)) {
            Some(found) => Err(RecipeError::UnknownParameter { place: "home.oidc.client", found: found.clone() }),
            None => Ok(()),
        }
    }

    /// As a home whose identities are in the claims.
    pub(crate) fn as_home(&self, home: &Home) -> Home {
        let mut amr_values = home.amr_values.clone();
        for value in AMR_VALUES {
            amr_values.entry(value.to_owned()).or_insert_with(|| value.to_owned());
        }
        let mut identity = self.claims.clone();
        for (place, claim) in
            [(&mut identity.auth_time, "/auth_time"), (&mut identity.amr, "/amr/*"), (&mut identity.acr, "/acr")]
        {
            // OpenID Connect Core 2.
            if place.0.is_empty() {
                place.0.extend(Selector::try_from(format!("{CLAIMS}:{claim}")));
            }
        }
        Home { identity, amr_values, ..Home::default() }
    }
}

impl SimpleSsoHome {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        if !self.server_path.as_str().ends_with('/') {
            return Err(RecipeError::Incomplete("home.simple_sso.server_path ends with a slash"));
        }
        check_claims(&self.claims, &[CLAIMS])
    }

    /// As a home whose identities are in what the server says.
    pub(crate) fn as_home(&self) -> Home {
        Home { identity: self.claims.clone(), ..Home::default() }
    }
}

fn check_claims(claims: &IdentityMap, answers: &[&str]) -> Result<(), RecipeError> {
    let missing = |selectors: &Selectors| selectors.0.is_empty();
    if missing(&claims.home_user_id) || missing(&claims.username) {
        return Err(RecipeError::Incomplete("home's claims need home_user_id and username"));
    }
    match claims.selectors().find(|selector| !answers.contains(&selector.answer.as_str())) {
        Some(unknown) => Err(RecipeError::UnknownAnswer(unknown.answer.clone())),
        None => Ok(()),
    }
}

/// A pointer without an answer's name is one into the claims.
fn claims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IdentityMap, D::Error> {
    let mut written = Value::deserialize(deserializer)?;
    name_claims(&mut written);
    serde_json::from_value(written).map_err(D::Error::custom)
}

fn name_claims(written: &mut Value) {
    match written {
        Value::String(text) if text.starts_with('/') => text.insert_str(0, &format!("{CLAIMS}:")),
        Value::Array(elements) => elements.iter_mut().for_each(name_claims),
        Value::Object(members) => members.values_mut().for_each(name_claims),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn openid() -> Vec<String> {
    vec!["openid".to_owned()]
}

fn basic() -> ClientAuthMethod {
    ClientAuthMethod::ClientSecretBasic
}

fn document() -> String {
    DOCUMENT.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    fn parse(oidc: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&format!(
            "name = 'a'\ntitle = 'A'\ndescription = ''\nparameters = {{ python = 'where' }}\n[home.oidc]\n{oidc}"
        ))
    }

    #[test]
    fn claims_are_pointers_and_the_document_has_a_name() {
        let claims = "claims = { home_user_id = '/sub', username = ['me:/username', '/preferred_username'] }";
        let recipe =
            parse(&format!("issuer_path = '/o'\nattributes = {{ path = '/api/user/me/' }}\n{claims}")).unwrap();
        let home = recipe.home.unwrap();
        let home = home.oidc.as_ref().unwrap().as_home(&home);
        assert_eq!(home.identity.home_user_id.0[0].answer, CLAIMS);
        assert_eq!(home.identity.username.0[0].answer, "me");
        assert_eq!(home.identity.auth_time.0.len(), 1);
        assert_eq!(home.amr_values["otp"], "otp");
        assert!(matches!(parse(claims), Err(RecipeError::UnknownAnswer(name)) if name == "me"));
        assert!(matches!(
            parse("claims = { home_user_id = '/sub' }"),
            Err(RecipeError::Incomplete(_) | RecipeError::Malformed(_))
        ));
    }

    #[test]
    fn a_secret_is_never_an_argument() {
        let with = |argument: &str| {
            parse(&format!(
                "claims = {{ home_user_id = '/sub', username = '/sub' }}\n[[home.oidc.client]]\ncommand = ['{argument}']"
            ))
        };
        with("${python}").unwrap();
        assert!(matches!(with("${client_secret}"), Err(RecipeError::UnknownParameter { .. })));
    }
}
