//! What a provider says of a user, as the broker's own words. Pure.
//!
//! Nothing is taken that ops have not named or the specification does not define: a claim `groups` or `roles` means
//! nothing here unless a field says where it stands.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::registry::{AssertedIdentity, Upstream};
use crate::upstream::error::UserRule;

/// Standard claims that are passed on as they are, if they are text (OpenID Connect Core 5.1).
const ATTRIBUTES: [&str; 10] = [
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
];

/// Members of an address (5.1.1).
const ADDRESS: [&str; 6] = ["formatted", "street_address", "locality", "region", "postal_code", "country"];

/// Casdoor's organisation whose users administer all of Casdoor, and its application, by the names that both have had.
const BUILT_IN: [&str; 2] = ["built-in", "app-built-in"];

/// How the user has proven who he is.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) auth_time: Option<Timestamp>,
    pub(super) acr: Option<String>,
    pub(super) amr: Vec<String>,
}

/// Why a user may not log in, in words for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// The claim at this pointer is not as ops demand.
    Demand(String),
    /// An administrator of Casdoor itself.
    BuiltIn,
}

/// Whether the user may log in at all.
pub(super) fn denial(upstream: &Upstream, claims: &Value) -> Option<Denial> {
    let at = |pointer: &str| claims.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let built_in = BUILT_IN.contains(&at("/owner"))
        || BUILT_IN.contains(&at("/signupApplication"))
        || at("/sub").split_once('/').is_some_and(|(owner, _)| BUILT_IN.contains(&owner));
    if built_in {
        return Some(Denial::BuiltIn);
    }
    let unmet = upstream.required.iter().find(|(pointer, value)| !holds(claims.pointer(pointer), value));
    unmet.map(|(pointer, _)| Denial::Demand(pointer.clone()))
}

/// Whether a claim is this value, or a list with it.
fn holds(claim: Option<&Value>, wanted: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Bool(flag)) => flag.to_string() == wanted,
        Some(Value::Number(number)) => number.to_string() == wanted,
        Some(Value::Array(values)) => values.iter().any(|value| value == wanted),
        Some(Value::Null | Value::Object(_)) | None => false,
    }
}

/// The user. `tenant` tells users of a provider's tenants apart.
///
/// # Errors
/// When nothing tells this user from others.
pub(super) fn identity(
    upstream: &Upstream,
    claims: &Value,
    tenant: Option<&str>,
    proof: Proof,
) -> Result<AssertedIdentity, UserRule> {
    let field = |name: &str, standard: &str| {
        let pointer = upstream.fields.get(name).map_or(standard, String::as_str);
        claims.pointer(pointer)
    };
    let text = |name: &str, standard: &str| field(name, standard).and_then(text).unwrap_or_default();
    let key = text("home_user_id", "/sub");
    if key.is_empty() {
        return Err(UserRule::NoKey);
    }
    let email = text("email", "/email");
    // `email_verified` is about the standard claim, not about whatever address ops take in its place.
    let verifies = upstream.fields.contains_key("email_verified") || !upstream.fields.contains_key("email");
    let email_verified =
        !email.is_empty() && verifies && field("email_verified", "/email_verified").is_some_and(is_true);
    // Anybody may have typed an address that nobody has verified: it is no name.
    let own_email = if email_verified { email.clone() } else { String::new() };
    let named = [text("username", "/preferred_username"), own_email, key.clone()];
    let who = AssertedIdentity {
        // Core 5.7: a subject means something beside its issuer alone, and each tenant is one.
        home_user_id: tenant.map_or_else(|| key.clone(), |tenant| format!("{tenant}/{key}")),
        username: named.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
        name: text("name", "/name"),
        given_name: text("given_name", "/given_name"),
        family_name: text("family_name", "/family_name"),
        email_verified,
        email,
        groups: upstream.fields.get("groups").and_then(|at| claims.pointer(at)).map(groups).unwrap_or_default(),
        auth_time: proof.auth_time,
        amr: proof.amr,
        acr: proof.acr,
        attributes: attributes(claims),
        name_is_held: false,
    };
    Ok(who.without_excess())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        // GitHub's users have numbers.
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        Value::Number(_) | Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Some providers write truth as text.
fn is_true(value: &Value) -> bool {
    matches!(value, Value::Bool(true)) || value == "true"
}

fn groups(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(one) if !one.is_empty() => vec![one.clone()],
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null | Value::Object(_) => Vec::new(),
    }
}

fn attributes(claims: &Value) -> BTreeMap<String, String> {
    let said = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut attributes: BTreeMap<String, String> =
        ATTRIBUTES.iter().filter_map(|name| Some(((*name).to_owned(), said(name)?.to_owned()))).collect();
    if claims.get("phone_number_verified").is_some_and(is_true) {
        attributes.insert("phone_number_verified".to_owned(), "true".to_owned());
    }
    if let Some(at) = claims.get("updated_at").and_then(Value::as_u64) {
        attributes.insert("updated_at".to_owned(), at.to_string());
    }
    if let Some(address) = claims.get("address").and_then(Value::as_object) {
        let member = |name: &&str| Some((format!("address.{name}"), address.get(*name)?.as_str()?.to_owned()));
        attributes.extend(ADDRESS.iter().filter_map(member).map(|(name, value)| (name, lines(&value))));
    }
    attributes
}

/// Lines (5.1.1), however they end, as one.
fn lines(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(", ")
}

/// The claims of userinfo over those of the ID token. What only the signed token may say stays as it is there; and that a
/// value is verified is said by who says the value, for the other may have another one in mind.
pub(super) fn merged(id_token: Map<String, Value>, userinfo: Map<String, Value>) -> Value {
    const OF_THE_TOKEN: [&str; 13] =
        ["iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "auth_time", "acr", "amr", "at_hash", "tid"];
    let (mut claims, mut userinfo) = (id_token, userinfo);
    for (value, verified) in [("email", "email_verified"), ("phone_number", "phone_number_verified")] {
        let other = if userinfo.contains_key(value) { &mut claims } else { &mut userinfo };
        other.remove(verified);
    }
    claims.extend(userinfo.into_iter().filter(|(name, _)| !OF_THE_TOKEN.contains(&name.as_str())));
    Value::Object(claims)
}
