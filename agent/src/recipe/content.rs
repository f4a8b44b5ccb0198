//! JSON with holes. A placeholder is a whole string (`"${client_id}"`), never a part of one, and is filled by the JSON
//! serialiser, so no value can become structure: there is nothing to quote and nothing to inject.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// What may be written for an application that has a secret.
pub(super) const WITH_SECRET: [&str; 1] = ["client_secret"];
/// And for one that has a key instead. One that shows its certificate at the TLS handshake has neither.
pub(super) const WITH_KEY: [&str; 2] = ["client_private_key_pem", "client_private_key_jwk"];

/// A JSON document with placeholders.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Content(Value);

/// A string that looks like a placeholder and is none.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{found:?} is no placeholder here; there are {known}, each only as a whole string")]
pub struct UnknownPlaceholder {
    found: String,
    known: String,
}

impl Content {
    /// Refuses whatever looks like a placeholder and is not one of `names`.
    pub fn check(&self, names: &[&str]) -> Result<(), UnknownPlaceholder> {
        check(&self.0, names)
    }

    /// The document, with its holes.
    pub fn document(&self) -> &Value {
        &self.0
    }

    /// The names of its placeholders.
    pub(crate) fn placeholders(&self) -> Vec<&str> {
        names(&self.0)
    }

    /// Whether what it becomes lets anybody who reads it be the client.
    pub(crate) fn holds_secret(&self) -> bool {
        self.placeholders().iter().any(|name| WITH_SECRET.contains(name) || WITH_KEY.contains(name))
    }

    /// Fills the placeholders. Ones without a value stay as they are, which [`Content::check`] excludes.
    pub fn render(&self, values: &[(&str, &str)]) -> Value {
        render(&self.0, values)
    }
}

/// A string that may be a placeholder, filled.
pub(crate) fn fill<'a>(text: &'a str, values: &[(&str, &'a str)]) -> &'a str {
    let value = placeholder(text).and_then(|name| values.iter().find(|(known, _)| *known == name));
    value.map_or(text, |(_, value)| value)
}

/// The name in a string that is a placeholder.
pub(crate) fn placeholder(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}')
}

/// Refuses a text that looks like a placeholder and is not one of `names`.
pub(super) fn check_text(text: &str, names: &[&str]) -> Result<(), UnknownPlaceholder> {
    if text.contains("${") && !placeholder(text).is_some_and(|name| names.contains(&name)) {
        let known = names.iter().map(|name| format!("${{{name}}}")).collect::<Vec<_>>().join(", ");
        return Err(UnknownPlaceholder { found: text.to_owned(), known });
    }
    Ok(())
}

fn check(value: &Value, names: &[&str]) -> Result<(), UnknownPlaceholder> {
    match value {
        Value::String(text) => check_text(text, names),
        Value::Array(elements) => elements.iter().try_for_each(|element| check(element, names)),
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            // Keys are structure: no placeholder may stand there, not even a known one.
            if key.contains("${") {
                Err(UnknownPlaceholder { found: key.clone(), known: "none in keys".to_owned() })
            } else {
                check(member, names)
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => placeholder(text).into_iter().collect(),
        Value::Array(elements) => elements.iter().flat_map(names).collect(),
        Value::Object(members) => members.values().flat_map(names).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

fn render(value: &Value, values: &[(&str, &str)]) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, values).to_owned()),
        Value::Array(elements) => elements.iter().map(|element| render(element, values)).collect(),
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), render(member, values))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_are_filled_only_as_whole_strings() {
        let content = Content(json!({"id": "${client_id}", "list": ["${issuer}", 1, true], "fixed": "x"}));
        content.check(&["client_id", "issuer"]).unwrap();
        let rendered = content.render(&[("client_id", "beta"), ("issuer", "https://login.example")]);
        assert_eq!(rendered, json!({"id": "beta", "list": ["https://login.example", 1, true], "fixed": "x"}));
    }

    #[test]
    fn a_hostile_value_stays_one_string() {
        let content = Content(json!({"secret": "${client_secret}", "settings": {"admin": false}}));
        let hostile = "\",\"settings\":{\"admin\":true},\"x\":\"${client_secret}\n\u{0}\\";
        let text = serde_json::to_string(&content.render(&[("client_secret", hostile)])).unwrap();
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, json!({"secret": hostile, "settings": {"admin": false}}));
    }

    #[test]
    fn whatever_only_looks_like_a_placeholder_is_refused() {
        for content in [
            json!("${nonsense}"),
            json!("prefix ${client_id}"),
            json!({"a": ["${client_id} "]}),
            json!({"${client_id}": 1}),
            json!("${client_id"),
        ] {
            assert!(Content(content.clone()).check(&["client_id"]).is_err(), "{content}");
        }
    }
}
