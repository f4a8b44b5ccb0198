//! One request to the application, often one of a conversation: a sign-in, the start of a login, a look at an account.

use std::collections::BTreeMap;

use http::HeaderName;
use serde::Deserialize;
use thiserror::Error;

use super::RecipeError;
use super::content::{Content, UnknownPlaceholder, check_text, placeholder};
use super::password::OutcomeRule;
use super::path::PathTemplate;
use super::placeholders::Placeholders;
use super::pointer::Pointer;

/// One request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// HTTP method.
    pub method: StepMethod,
    /// Where to.
    pub path: PathTemplate,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<HeaderField, HeaderText>,
    /// What stands after the question mark, not yet encoded. Applications log it: no secrets.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// The JSON body.
    pub json: Option<Content>,
    /// The body as `application/x-www-form-urlencoded`, instead of JSON.
    pub form: Option<BTreeMap<String, String>>,
    /// What to copy from a cookie to a header, against the application's CSRF check.
    pub csrf: Option<Csrf>,
    /// What later steps of the conversation may use of the answer, by name.
    #[serde(default)]
    pub capture: BTreeMap<String, Pointer>,
    /// What answers mean; the first that fits counts. In password steps only.
    #[serde(default)]
    pub outcomes: Vec<OutcomeRule>,
}

/// HTTP methods that steps may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StepMethod {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

/// A double-submit CSRF token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Csrf {
    /// The cookie that has it.
    pub cookie: String,
    /// The header that wants it.
    pub header: String,
    /// What the cookie is, if the application has set none: for one that only compares the two. Nobody's secret, since the
    /// conversation is the agent's own.
    pub if_unset: Option<String>,
}

/// The name of a header that a recipe may set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderField(String);

/// The value of a header: a text, which may end in one placeholder (`Bearer ${token}`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderText {
    literal: String,
    placeholder: Option<String>,
}

/// Not a header for a recipe to set.
#[derive(Debug, Error)]
pub enum NotAHeader {
    /// Not a name, or one that is the agent's to set: whom a request is for, and where it goes.
    #[error("{0:?} is no header that a recipe may set")]
    Name(String),
    /// Not a value.
    #[error("the header value {0:?} must be plain ASCII with at most one placeholder, at its end")]
    Value(String),
}

impl Step {
    /// A GET without anything.
    pub fn get(path: PathTemplate) -> Self {
        Self {
            method: StepMethod::Get,
            path,
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            json: None,
            form: None,
            csrf: None,
            capture: BTreeMap::new(),
            outcomes: Vec::new(),
        }
    }

    /// Refuses placeholders that are not known there, and two bodies.
    pub(super) fn check(&self, place: &'static str, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        if self.json.is_some() && self.form.is_some() {
            return Err(RecipeError::TwoBodies(place));
        }
        let refused = |source| RecipeError::Placeholder { place, source };
        let all = known.all();
        for name in self.path.placeholders() {
            check_name(name, known.open()).map_err(refused)?;
        }
        for value in self.query.values() {
            check_text(value, known.open()).map_err(refused)?;
        }
        for name in self.headers.values().filter_map(HeaderText::placeholder) {
            check_name(name, &all).map_err(refused)?;
        }
        for value in self.form.iter().flat_map(BTreeMap::values) {
            check_text(value, &all).map_err(refused)?;
        }
        self.json.as_ref().map_or(Ok(()), |json| json.check(&all).map_err(refused))
    }

    /// And outcomes, where nobody's password is judged.
    pub(super) fn check_plain(&self, place: &'static str, known: &Placeholders<'_>) -> Result<(), RecipeError> {
        if self.outcomes.is_empty() { self.check(place, known) } else { Err(RecipeError::OutcomesThere(place)) }
    }

    /// The names of all values that the request needs.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &str> {
        let texts = self.query.values().chain(self.form.iter().flat_map(BTreeMap::values));
        let of_json = self.json.iter().flat_map(Content::placeholders);
        let of_headers = self.headers.values().filter_map(HeaderText::placeholder);
        self.path.placeholders().chain(texts.filter_map(|text| placeholder(text))).chain(of_headers).chain(of_json)
    }
}

/// Checks the steps of one conversation, where each may use what those before it captured. What the last one may use
/// and has captured is known after it.
pub(super) fn check_conversation<'a>(
    steps: &'a [Step],
    place: &'static str,
    known: Placeholders<'a>,
) -> Result<Placeholders<'a>, RecipeError> {
    steps.iter().try_fold(known, |known, step| {
        step.check(place, &known)?;
        let captured: Vec<&str> = step.capture.keys().map(String::as_str).collect();
        Ok(known.with(&captured))
    })
}

impl HeaderField {
    /// As it goes on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HeaderField {
    type Error = NotAHeader;

    fn try_from(text: String) -> Result<Self, NotAHeader> {
        const THE_AGENTS: [&str; 7] =
            ["host", "cookie", "connection", "content-length", "content-type", "transfer-encoding", "forwarded"];
        let name = text.to_ascii_lowercase();
        let is_the_agents = THE_AGENTS.contains(&name.as_str()) || name.starts_with("x-forwarded-");
        if HeaderName::try_from(&name).is_ok() && !is_the_agents { Ok(Self(name)) } else { Err(NotAHeader::Name(text)) }
    }
}

impl HeaderText {
    /// The value that it needs.
    pub fn placeholder(&self) -> Option<&str> {
        self.placeholder.as_deref()
    }

    /// The text, with the value.
    pub fn fill(&self, values: &[(&str, &str)]) -> String {
        let value = self.placeholder().and_then(|name| values.iter().find(|(known, _)| *known == name));
        value.map_or_else(|| self.literal.clone(), |(_, value)| format!("{}{value}", self.literal))
    }
}

impl TryFrom<String> for HeaderText {
    type Error = NotAHeader;

    fn try_from(text: String) -> Result<Self, NotAHeader> {
        let (literal, value) = text.find("${").map_or((text.as_str(), None), |at| {
            let (literal, value) = text.split_at(at);
            (literal, Some(value))
        });
        let name = value.map(|value| placeholder(value).filter(|name| !name.contains('$')));
        let printable = literal.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        match name {
            Some(None) => Err(NotAHeader::Value(text)),
            _ if !printable => Err(NotAHeader::Value(text)),
            name => Ok(Self { literal: literal.to_owned(), placeholder: name.flatten().map(str::to_owned) }),
        }
    }
}

fn check_name(name: &str, known: &[&str]) -> Result<(), UnknownPlaceholder> {
    check_text(&format!("${{{name}}}"), known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(step: &str) -> Result<(), RecipeError> {
        let step: Step = toml::from_str(step).map_err(Box::new)?;
        step.check("steps", &Placeholders::default().with(&["id"]).with_secret(&["token"]))
    }

    #[test]
    fn values_stand_where_they_are_known() {
        check("method = 'GET'\npath = '/u/${id}/'\nquery = { q = '${id}' }\nheaders = { Authorization = 'Token ${token}' }")
            .unwrap();
        check("method = 'PATCH'\npath = '/u'\nform = { id = '${id}', t = '${token}' }").unwrap();
        for bad in ["headers = { A = '${x}' }", "query = { a = '${x}' }", "form = { a = '${x}' }", "json = '${x}'"] {
            let refused = check(&format!("method = 'POST'\npath = '/'\n{bad}"));
            assert!(matches!(refused, Err(RecipeError::Placeholder { .. })), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_in_no_address() {
        for bad in ["path = '/u/${token}'", "path = '/'\nquery = { t = '${token}' }"] {
            assert!(matches!(check(&format!("method = 'GET'\n{bad}")), Err(RecipeError::Placeholder { .. })), "{bad}");
        }
    }

    #[test]
    fn a_request_has_one_body() {
        let both = "method = 'POST'\npath = '/'\njson = {}\nform = {}";
        assert!(matches!(check(both), Err(RecipeError::TwoBodies("steps"))));
    }

    #[test]
    fn what_is_captured_is_known_later() {
        let steps: BTreeMap<String, Vec<Step>> = toml::from_str(
            "steps = [{ method = 'POST', path = '/login', capture = { key = '/data/token' } },\
             { method = 'GET', path = '/me', headers = { Authorization = '${key}' } }]",
        )
        .unwrap();
        let known = check_conversation(&steps["steps"], "steps", Placeholders::default()).unwrap();
        assert_eq!(known.all(), ["key"]);
        let early = &steps["steps"][1..];
        assert!(check_conversation(early, "steps", Placeholders::default()).is_err());
        assert_eq!(steps["steps"][1].placeholders().collect::<Vec<_>>(), ["key"]);
    }

    #[test]
    fn whom_a_request_is_for_is_no_header_of_a_recipe() {
        for bad in ["Host", "cookie", "X-Forwarded-For", "Content-Type", "a b", ""] {
            assert!(HeaderField::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for bad in ["${a}x", "${a}${b}", "a\r\nb: c", "é ${a}"] {
            assert!(HeaderText::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
