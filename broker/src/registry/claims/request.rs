//! The `claims` parameter (OpenID Connect Core 5.5): what a relying party asks for one by one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::registry::claims::attribute;

/// Longest parameter that is read, in bytes.
const MAX_LENGTH: usize = 4096;

/// Most values that one claim may be asked for with.
const MAX_VALUES: usize = 16;

/// Longest value, in bytes.
const MAX_VALUE: usize = 255;

/// Claims that were asked for one by one, by name (OpenID Connect Core 5.5). Unknown ones were dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsRequest {
    /// For the ID token.
    pub id_token: BTreeSet<String>,
    /// For userinfo.
    pub userinfo: BTreeSet<String>,
}

impl ClaimsRequest {
    /// Whether there is nothing in it that `other` has not.
    pub fn is_within(&self, other: &Self) -> bool {
        self.id_token.is_subset(&other.id_token) && self.userinfo.is_subset(&other.userinfo)
    }

    /// These and others.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self { id_token: &self.id_token | &others.id_token, userinfo: &self.userinfo | &others.userinfo }
    }
}

/// All that the parameter says, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimsParameter {
    /// What is to be released.
    pub request: ClaimsRequest,
    /// The subjects that would do, if it names any.
    pub subjects: Option<Vec<String>>,
    /// The authentication context classes that would do, one of which there must be (5.5.1.1).
    pub essential_acr: Vec<String>,
    /// Those that would be welcome.
    pub voluntary_acr: Vec<String>,
}

/// Not what the specification describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claims parameter is no object of requested claims, or larger than {MAX_LENGTH} bytes")]
pub struct ClaimsParameterError;

/// Members other than these two mean nothing here.
#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    userinfo: Option<BTreeMap<String, Option<Wanted>>>,
    #[serde(default)]
    id_token: Option<BTreeMap<String, Option<Wanted>>>,
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    essential: bool,
    value: Option<Value>,
    values: Option<Vec<Value>>,
}

impl ClaimsParameter {
    /// Reads the parameter.
    ///
    /// # Errors
    /// When it is too long, too deep, or says something else than 5.5 lets it.
    pub fn read(text: &str) -> Result<Self, ClaimsParameterError> {
        if text.len() > MAX_LENGTH {
            return Err(ClaimsParameterError);
        }
        // Through values: their reader bounds the depth also of members that nobody looks at.
        let members: Map<String, Value> = serde_json::from_str(text).map_err(|_| ClaimsParameterError)?;
        let members = serde_json::from_value(Value::Object(members)).map_err(|_| ClaimsParameterError)?;
        let Members { userinfo, id_token } = members;
        let (userinfo, id_token) = (userinfo.unwrap_or_default(), id_token.unwrap_or_default());
        let mut read = Self {
            request: ClaimsRequest { id_token: known(&id_token), userinfo: known(&userinfo) },
            ..Self::default()
        };
        for wanted in [&id_token, &userinfo].into_iter().filter_map(|asked| asked.get("sub")).flatten() {
            if let Some(subjects) = wanted.texts()? {
                let before = read.subjects.take();
                let both = |subject: &String| before.as_ref().is_none_or(|before| before.contains(subject));
                read.subjects = Some(subjects.into_iter().filter(both).collect());
            }
        }
        if let Some(wanted) = id_token.get("acr").and_then(Option::as_ref) {
            let classes = wanted.texts()?.unwrap_or_default();
            let place = if wanted.essential { &mut read.essential_acr } else { &mut read.voluntary_acr };
            *place = classes;
        }
        Ok(read)
    }
}

impl Wanted {
    /// The values that would do, if any are named.
    fn texts(&self) -> Result<Option<Vec<String>>, ClaimsParameterError> {
        let values: Vec<&Value> = self.value.iter().chain(self.values.iter().flatten()).collect();
        if values.is_empty() && self.values.is_none() {
            return Ok(None);
        }
        if values.len() > MAX_VALUES {
            return Err(ClaimsParameterError);
        }
        let text = |value: &Value| value.as_str().filter(|text| text.len() <= MAX_VALUE).map(str::to_owned);
        values.into_iter().map(text).collect::<Option<_>>().map(Some).ok_or(ClaimsParameterError)
    }
}

fn known(asked: &BTreeMap<String, Option<Wanted>>) -> BTreeSet<String> {
    asked.keys().filter(|name| attribute::is_known(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_kept_and_the_rest_is_ignored() {
        let read = ClaimsParameter::read(
            r#"{"userinfo": {"given_name": {"essential": true}, "nickname": null, "http://x/y": null, "name#de": null},
                "id_token": {"auth_time": {"essential": true}, "email": {"value": "a@b.example"}}, "more": [1]}"#,
        );
        let read = read.unwrap();
        assert_eq!(Vec::from_iter(&read.request.userinfo), ["given_name", "nickname"]);
        assert_eq!(Vec::from_iter(&read.request.id_token), ["email"]);
        assert_eq!((read.subjects, read.essential_acr.len(), read.voluntary_acr.len()), (None, 0, 0));
        assert_eq!(ClaimsParameter::read("{}").unwrap(), ClaimsParameter::default());
        assert_eq!(ClaimsParameter::read(r#"{"id_token": null}"#).unwrap(), ClaimsParameter::default());
    }

    #[test]
    fn classes_and_subjects_are_read() {
        let read = |text| ClaimsParameter::read(text).unwrap();
        let essential = read(r#"{"id_token": {"acr": {"essential": true, "values": ["2", "1"]}}}"#);
        assert_eq!((essential.essential_acr, essential.voluntary_acr), (vec!["2".into(), "1".into()], vec![]));
        let voluntary = read(r#"{"id_token": {"acr": {"value": "2"}}}"#);
        assert_eq!((voluntary.essential_acr, voluntary.voluntary_acr), (vec![], vec!["2".into()]));
        assert_eq!(read(r#"{"id_token": {"sub": {"value": "s"}}}"#).subjects, Some(vec!["s".into()]));
        let both = read(r#"{"id_token": {"sub": {"values": ["s", "t"]}}, "userinfo": {"sub": {"value": "t"}}}"#);
        assert_eq!(both.subjects, Some(vec!["t".into()]));
        let nobody = read(r#"{"id_token": {"sub": {"value": "s"}}, "userinfo": {"sub": {"value": "t"}}}"#);
        assert_eq!(nobody.subjects, Some(vec![]));
    }

    // A16
    #[test]
    fn what_is_malformed_large_or_deep_is_refused() {
        let deep = format!("{{\"id_token\":{{\"x\":{{\"value\":{}{}}}}}}}", "[".repeat(1500), "]".repeat(1500));
        let deep_aside = format!("{{\"x\":{}{}}}", "[".repeat(1500), "]".repeat(1500));
        let large = format!("{{\"x\": \"{}\"}}", "x".repeat(1 << 20));
        let many = format!("{{\"id_token\":{{\"acr\":{{\"values\":[{}\"1\"]}}}}}}", "\"1\",".repeat(16));
        for bad in [
            "",
            "{",
            "[]",
            "1",
            "null",
            r#"{"id_token": []}"#,
            r#"{"id_token": {"email": true}}"#,
            r#"{"id_token": {"email": {"essential": "yes"}}}"#,
            r#"{"id_token": {"acr": {"values": "1"}}}"#,
            r#"{"id_token": {"acr": {"values": [1]}}}"#,
            r#"{"userinfo": {"sub": {"value": 17}}}"#,
            &deep,
            &deep_aside,
            &large,
            &many,
        ] {
            assert_eq!(ClaimsParameter::read(bad), Err(ClaimsParameterError), "{:.60}", bad);
        }
    }
}
