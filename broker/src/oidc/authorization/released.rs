//! What is released of a user, in words for that user.

use std::collections::BTreeSet;

use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use crate::registry::{Claims, Snapshot};
use crate::web::ReleasedLine;

/// One line for each thing that the relying party learns. Whether an address is verified stands behind the address.
pub(super) fn lines(claims: &Claims) -> Vec<ReleasedLine> {
    let verified = |name: &str| match claims.released().find(|(found, _)| *found == name) {
        Some((_, Value::Bool(true))) => " (verified)",
        _ => "",
    };
    let line = |(name, value): (&'static str, &Value)| {
        let label = label(name)?;
        let text = text(name, value).filter(|text| !text.is_empty())?;
        let behind = match name {
            "email" => verified("email_verified"),
            "phone_number" => verified("phone_number_verified"),
            _ => "",
        };
        Some(ReleasedLine { label, value: format!("{text}{behind}") })
    };
    claims.released().filter_map(line).collect()
}

/// What these claims are called, for people who are not shown what is in them.
pub(in crate::oidc) fn labels(names: &BTreeSet<String>) -> Vec<&'static str> {
    LABELS.into_iter().filter(|(claim, _)| names.contains(*claim)).map(|(_, label)| label).collect()
}

/// The API behind a resource, as people know it.
pub(super) fn api(resource: &str, snapshot: &Snapshot) -> String {
    let origin = Url::parse(resource).ok().map(|url| url.origin());
    let at = |public_url: &str| Url::parse(public_url).is_ok_and(|own| Some(own.origin()) == origin);
    let instance = snapshot.instances().find(|instance| instance.is_active() && at(&instance.public_url));
    instance.map_or(resource.to_owned(), |instance| instance.display_name.clone())
}

/// What claims are called, in an order for people. Those that stand in another one's line have no name.
const LABELS: [(&str, &str); 19] = [
    ("name", "Name"),
    ("given_name", "Given name"),
    ("family_name", "Family name"),
    ("middle_name", "Middle name"),
    ("nickname", "Nickname"),
    ("preferred_username", "User name"),
    ("homeward_name", "Name in the federation"),
    ("email", "Email address"),
    ("groups", "Groups"),
    ("phone_number", "Phone number"),
    ("address", "Postal address"),
    ("gender", "Gender"),
    ("birthdate", "Date of birth"),
    ("zoneinfo", "Time zone"),
    ("locale", "Language"),
    ("profile", "Profile page"),
    ("picture", "Picture"),
    ("website", "Website"),
    ("updated_at", "Profile changed on"),
];

fn label(name: &str) -> Option<&'static str> {
    LABELS.into_iter().find(|(claim, _)| *claim == name).map(|(_, label)| label)
}

fn text(name: &str, value: &Value) -> Option<String> {
    let joined = |values: Vec<&Value>| {
        let texts: Vec<String> =
            values.into_iter().filter_map(Value::as_str).map(|text| text.replace('\n', ", ")).collect();
        texts.join(", ")
    };
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => Some(joined(values.iter().collect())),
        Value::Object(members) => Some(joined(members.values().collect())),
        Value::Number(at) if name == "updated_at" => {
            OffsetDateTime::from_unix_timestamp(at.as_i64()?).ok().map(|at| at.date().to_string())
        }
        Value::Number(_) | Value::Bool(_) | Value::Null => None,
    }
}
