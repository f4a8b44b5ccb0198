//! The standard claims (OpenID Connect Core 5.1), and where each comes from.

use serde_json::{Map, Value, json};

use crate::registry::{Subject, TrustEdge, VerifiedIdentity};

/// Members of an address (5.1.1).
const ADDRESS: [&str; 6] = ["formatted", "street_address", "locality", "region", "postal_code", "country"];

/// Whether a claim of this name could be released at all.
pub(super) fn is_known(name: &str) -> bool {
    ORDER.contains(&name)
}

/// All claims that describe a user, in the order in which people are shown them.
pub(super) const ORDER: [&str; 21] = [
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "homeward_name",
    "email",
    "email_verified",
    "groups",
    "phone_number",
    "phone_number_verified",
    "address",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "profile",
    "picture",
    "website",
    "updated_at",
];

/// The value of a claim, if the home has said anything of it that can be passed on.
pub(super) fn value(name: &str, identity: &VerifiedIdentity, subject: &Subject, edge: &TrustEdge) -> Option<Value> {
    let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    let said = |name: &str| identity.attributes.get(name).map(String::as_str).filter(|value| !value.is_empty());
    match name {
        "preferred_username" => text(&identity.username),
        "homeward_name" => Some(format!("{}@{}", safe_name(&identity.username, subject), edge.id.home).into()),
        "name" => text(&identity.name),
        "given_name" => text(&identity.given_name),
        "family_name" => text(&identity.family_name),
        "email" => text(&identity.email),
        // Only here does an address become verified: applications match accounts by it.
        "email_verified" => {
            text(&identity.email).map(|_| Value::from(identity.email_verified && edge.vouches_for(&identity.email)))
        }
        "groups" => Some(json!(identity.groups)),
        "address" => address(said),
        // No home is an authority for telephone numbers: what it says of one is its own word.
        "phone_number_verified" => said("phone_number").map(|_| Value::from(said(name) == Some("true"))),
        "updated_at" => said(name)?.parse::<u64>().ok().map(Value::from),
        "birthdate" => said(name).filter(|date| is_birthdate(date)).map(Value::from),
        // Applications make links of them: nothing that runs in a page.
        "profile" | "picture" | "website" => {
            said(name).filter(|url| url.starts_with("https://") || url.starts_with("http://")).map(Value::from)
        }
        "middle_name" | "nickname" | "gender" | "zoneinfo" | "locale" | "phone_number" => said(name).map(Value::from),
        _ => None,
    }
}

fn address<'a>(said: impl Fn(&str) -> Option<&'a str>) -> Option<Value> {
    let member = |name: &&str| Some(((*name).to_owned(), Value::from(said(&format!("address.{name}"))?)));
    let members: Map<String, Value> = ADDRESS.iter().filter_map(member).collect();
    (!members.is_empty()).then_some(Value::Object(members))
}

/// `YYYY-MM-DD` or `YYYY`; the year may be 0000 (5.1).
fn is_birthdate(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    matches!(shape.as_str(), "0000" | "0000-00-00")
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
