//! From the application's answers to the identity that this home vouches for. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use homeward_proto::v1::VerifiedIdentity;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::PortalError;
use super::session::Answers;
use crate::clock;
use crate::config::home::HomeMethod;
use crate::recipe::home::{Home, Selectors};

/// Longest name, address or group that goes to the broker, in characters.
const LONGEST_TEXT: usize = 255;
/// How many groups the contract allows.
const MOST_GROUPS: usize = 128;
/// A time of authentication that is further ahead than this is none: an application that counts milliseconds would
/// satisfy every max_age.
const TOLERATED_LEAD: Duration = Duration::from_secs(60);

/// The identity in the answers to a login by this method.
pub(crate) fn identity(
    recipe: &Home,
    answers: &Answers,
    method: HomeMethod,
    now: OffsetDateTime,
) -> Result<VerifiedIdentity, PortalError> {
    let map = &recipe.identity;
    let documents = answers.documents();
    let text = |selectors: &Selectors| first(selectors, documents, as_text).unwrap_or_default();
    checked(VerifiedIdentity {
        home_user_id: text(&map.home_user_id),
        username: text(&map.username),
        name: text(&map.name),
        given_name: text(&map.given_name),
        family_name: text(&map.family_name),
        email: text(&map.email),
        email_verified: first(&map.email_verified, documents, Value::as_bool) == Some(true),
        groups: all(&map.groups, documents, as_text),
        auth_time: answers.auth_time().map(|at| clock::timestamp(at.min(now))),
        amr: amr(recipe, documents),
        acr: acr(recipe, answers, method).unwrap_or_default(),
        attributes: attributes(recipe, documents),
    })
}

/// What somebody says of a user, as the contract allows it: texts that say nothing or too much are left out, and without
/// an identifier and a name there is no user.
pub(super) fn checked(said: VerifiedIdentity) -> Result<VerifiedIdentity, PortalError> {
    let text = |text: String| fitting(&text).map(str::to_owned).unwrap_or_default();
    let home_user_id = text(said.home_user_id);
    if home_user_id.is_empty() || home_user_id.len() > 255 {
        return Err(PortalError::IdentityIncomplete("home_user_id"));
    }
    let username = text(said.username);
    if username.is_empty() || username.chars().count() > 150 {
        return Err(PortalError::IdentityIncomplete("username"));
    }
    let (given_name, family_name) = (text(said.given_name), text(said.family_name));
    // Applications that know no full name show the login name in its place.
    let name = Some(text(said.name)).filter(|name| !name.is_empty() && *name != username);
    let name = name.unwrap_or_else(|| format!("{given_name} {family_name}").trim().to_owned());
    let email = text(said.email);
    let email_verified = said.email_verified && !email.is_empty();
    let groups = said.groups.into_iter().map(text).filter(|group| !group.is_empty()).take(MOST_GROUPS).collect();
    Ok(VerifiedIdentity {
        home_user_id,
        username,
        name,
        given_name,
        family_name,
        email,
        email_verified,
        groups,
        ..said
    })
}

/// The authentication context class of this login: as the application says, or else what every login by this method has.
pub(super) fn acr(recipe: &Home, answers: &Answers, method: HomeMethod) -> Option<String> {
    let of_method = match method {
        HomeMethod::Session => recipe.acr.session.clone(),
        HomeMethod::Password => recipe.acr.password.clone(),
        HomeMethod::Ldap | HomeMethod::File | HomeMethod::Oidc | HomeMethod::SimpleSso => None,
    };
    first(&recipe.identity.acr, answers.documents(), as_text).or(of_method)
}

/// Further claims that the application knows. An address of a page that is none is left out: relying parties show it as a
/// link.
fn attributes(recipe: &Home, documents: &BTreeMap<String, Value>) -> HashMap<String, String> {
    let is_page = |text: &str| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "https" | "http"));
    let found = recipe.identity.attributes.iter().filter_map(|(name, selectors)| {
        let text = first(selectors, documents, as_text)?;
        let is_link = matches!(name.as_str(), "profile" | "picture" | "website");
        (!is_link || is_page(&text)).then(|| (name.clone(), text))
    });
    found.collect()
}

/// The user that the answers name.
pub(super) fn home_user_id(recipe: &Home, documents: &BTreeMap<String, Value>) -> Option<String> {
    first(&recipe.identity.home_user_id, documents, as_text)
}

/// When the user authenticated last.
pub(super) fn auth_time(
    recipe: &Home,
    documents: &BTreeMap<String, Value>,
    now: OffsetDateTime,
) -> Option<OffsetDateTime> {
    let seconds = all(&recipe.identity.auth_time, documents, Value::as_f64).into_iter().fold(f64::NAN, f64::max);
    // Whole seconds, rounded down: never later than it was.
    #[expect(clippy::cast_possible_truncation, reason = "bounded on both sides just before")]
    let seconds = (seconds > 0.0 && seconds < 1e12).then(|| seconds.floor() as i64)?;
    OffsetDateTime::from_unix_timestamp(seconds).ok().filter(|at| *at <= now + TOLERATED_LEAD)
}

/// How the user authenticated, in the words of RFC 8176.
fn amr(recipe: &Home, documents: &BTreeMap<String, Value>) -> Vec<String> {
    let said = all(&recipe.identity.amr, documents, as_text);
    let mut known: Vec<String> = said.iter().filter_map(|method| recipe.amr_values.get(method).cloned()).collect();
    known.sort();
    known.dedup();
    known
}

fn first<T>(
    selectors: &Selectors,
    documents: &BTreeMap<String, Value>,
    read: impl Fn(&Value) -> Option<T>,
) -> Option<T> {
    all(selectors, documents, read).into_iter().next()
}

fn all<T>(selectors: &Selectors, documents: &BTreeMap<String, Value>, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    let found = selectors.0.iter().flat_map(|selector| {
        let document = documents.get(&selector.answer);
        document.map(|document| selector.pointer.select(document)).unwrap_or_default()
    });
    found.filter_map(read).collect()
}

/// A text that says something, or a whole number: what an identifier may be.
pub(super) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => fitting(text).map(str::to_owned),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A text that says something, without the space around it.
fn fitting(text: &str) -> Option<&str> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control);
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recipe::Recipe;

    const NOW: i64 = 1_800_000_000;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(NOW).unwrap()
    }

    fn vouch(session: Value, email: Value) -> Result<VerifiedIdentity, PortalError> {
        let recipe = Recipe::embedded("django-allauth").unwrap().home.unwrap();
        let documents = BTreeMap::from([("session".to_owned(), session), ("email".to_owned(), email)]);
        let answers = Answers::new(&recipe, documents, now());
        identity(&recipe, &answers, HomeMethod::Session, now())
    }

    fn alice() -> Value {
        json!({"data": {
            "user": {"id": 7, "username": "alice", "display": "alice", "email": "alice@alpha.example",
                     "first_name": "Alice", "last_name": "Archer"},
            "methods": [{"method": "password", "at": 1_799_999_000.7}, {"method": "mfa", "at": 1_799_999_500.2},
                        {"method": "code", "at": 1.0}],
        }, "meta": {"is_authenticated": true}})
    }

    #[test]
    fn alice_of_an_allauth_site() {
        let emails = json!({"data": [{"email": "old@alpha.example", "verified": false, "primary": false},
                                     {"email": "alice@alpha.example", "verified": true, "primary": true}]});
        let alice = vouch(alice(), emails).unwrap();
        assert_eq!((alice.home_user_id.as_str(), alice.username.as_str()), ("7", "alice"));
        assert_eq!((alice.name.as_str(), alice.given_name.as_str()), ("Alice Archer", "Alice"));
        assert_eq!((alice.email.as_str(), alice.email_verified), ("alice@alpha.example", true));
        assert_eq!(alice.auth_time.unwrap().seconds, 1_799_999_500, "the latest counts");
        assert_eq!(alice.amr, ["mfa", "pwd"], "unknown methods are left out");
    }

    #[test]
    fn an_address_is_verified_only_if_the_application_says_so_of_that_address() {
        let other = json!({"data": [{"email": "other@alpha.example", "verified": true, "primary": false}]});
        let vouched = vouch(alice(), other).unwrap();
        assert_eq!((vouched.email.as_str(), vouched.email_verified), ("alice@alpha.example", false));
        let text = json!({"data": [{"email": "alice@alpha.example", "verified": "true", "primary": true}]});
        assert!(!vouch(alice(), text).unwrap().email_verified);
        assert!(!vouch(alice(), Value::Null).unwrap().email_verified);
    }

    #[test]
    fn nobody_is_vouched_for_without_identifier_and_name() {
        for user in [
            json!({"username": "alice"}),
            json!({"id": 7}),
            json!({"id": {}, "username": "alice"}),
            json!({"id": 7, "username": "a\u{0}b"}),
            json!({"id": true, "username": "alice"}),
            json!({"id": "x".repeat(256), "username": "alice"}),
        ] {
            let refused = vouch(json!({"data": {"user": user}}), Value::Null);
            assert!(matches!(refused, Err(PortalError::IdentityIncomplete(_))), "{user}");
        }
    }

    #[test]
    fn a_time_of_authentication_that_cannot_be_is_unknown() {
        for at in [json!(NOW + 3600), json!(1_799_999_000_700.0), json!("yesterday"), json!(-5), json!(1e300)] {
            let session = json!({"data": {"user": {"id": 7, "username": "alice"}, "methods": [{"at": at}]}});
            assert_eq!(vouch(session, Value::Null).unwrap().auth_time, None, "{at}");
        }
    }
    #[test]
    fn the_class_of_a_login_is_what_the_application_says_or_what_the_method_always_has() {
        let text = "name = 'a'\ntitle = 'A'\ndescription = ''\n[home]\nwho_am_i = [{ name = 'me', path = '/me' }]\n\
                    acr = { password = 'pw' }\n[home.identity]\nhome_user_id = 'me:/id'\nusername = 'me:/id'\n\
                    acr = 'me:/acr'\nattributes = { nickname = 'me:/nick', picture = 'me:/face', 'address.locality' = 'me:/city' }";
        let recipe = Recipe::parse(text).unwrap().home.unwrap();
        let vouch = |document: Value, method| {
            let answers = Answers::new(&recipe, BTreeMap::from([("me".to_owned(), document)]), now());
            identity(&recipe, &answers, method, now()).unwrap()
        };
        let (told, silent) = (json!({"id": 7, "acr": "mfa"}), json!({"id": 7}));
        assert_eq!(vouch(told.clone(), HomeMethod::Session).acr, "mfa");
        assert_eq!(vouch(told, HomeMethod::Password).acr, "mfa");
        assert_eq!(vouch(silent.clone(), HomeMethod::Password).acr, "pw");
        assert_eq!(vouch(silent, HomeMethod::Session).acr, "", "never that of another method");
        let alice = json!({"id": 7, "nick": "al", "face": "javascript:alert(1)", "city": "Oxford"});
        let attributes = BTreeMap::from_iter(vouch(alice, HomeMethod::Session).attributes);
        let expected = [("address.locality", "Oxford"), ("nickname", "al")];
        assert_eq!(attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
