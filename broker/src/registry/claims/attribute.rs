//! The standard claims (OpenID Connect Core 5.1), and where each comes from.

use serde_json::{Map, Value, json};

use crate::registry::claims::username::with_piece;
use crate::registry::{AccountKey, Person, ReleaseTerms, Subject, VerifiedIdentity};

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
pub(super) fn value(name: &str, person: Person<'_>, terms: ReleaseTerms<'_>) -> Option<Value> {
    let (Person { identity, subject }, edge) = (person, terms.edge);
    let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    let said = |name: &str| identity.attributes.get(name).map(String::as_str).filter(|value| !value.is_empty());
    match name {
        "preferred_username" => username(person, terms).map(Value::from),
        "homeward_name" => Some(format!("{}@{}", safe_name(identity, subject), edge.id.home).into()),
        "name" => text(&identity.name),
        "given_name" => text(&identity.given_name),
        "family_name" => text(&identity.family_name),
        "email" => email(person, terms).map(Value::from),
        // Only here does an address become verified: applications match accounts by it.
        "email_verified" => email(person, terms).map(|_| Value::from(has_own_email(person, terms))),
        "groups" => edge.groups.claim(&identity.groups).map(|groups| json!(groups)),
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

/// The name of a user at the relying party. An application that finds accounts by it is told no name that could be
/// somebody else's, nor one that is made of an address, or a part of it, for which the home does not answer.
pub(super) fn username(person: Person<'_>, terms: ReleaseTerms<'_>) -> Option<String> {
    let ReleaseTerms { edge, policy } = terms;
    let template = &edge.username_template;
    let own_email = || !template.needs_email() || has_own_email(person, terms);
    let safe = policy.account_key != AccountKey::Username || (edge.keeps_names_apart() && own_email());
    if safe { template.name(person.identity, person.subject, &edge.id.home) } else { None }
}

/// The address that is told. An application that finds accounts by it gets only those that are verified by an authority:
/// else whoever types somebody's address into his profile at home would get that account.
fn email<'a>(person: Person<'a>, terms: ReleaseTerms<'_>) -> Option<&'a str> {
    let told = terms.policy.account_key != AccountKey::Email || has_own_email(person, terms);
    Some(person.identity.email.as_str()).filter(|email| told && !email.is_empty())
}

/// Whether the address is the user's by the word of a home that is an authority for it.
fn has_own_email(Person { identity, .. }: Person<'_>, terms: ReleaseTerms<'_>) -> bool {
    identity.email_verified && terms.edge.vouches_for(&identity.email)
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
/// and a piece of the subject behind it, which no name of the first kind can look like: `a b` and `a_b` stay apart. So
/// does one that another user had before.
fn safe_name(identity: &VerifiedIdentity, subject: &Subject) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let username = identity.username.as_str();
    if username.chars().all(safe) && !identity.name_is_held {
        return username.to_owned();
    }
    with_piece(username.chars().map(|c| if safe(c) { c } else { '_' }), subject)
}
