//! Parameters of a query or a form, once each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use axum::body::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Most parameters that are looked at.
const MAX_COUNT: usize = 64;

/// Decoded parameters. Without `Debug`: codes and secrets are among them.
pub(super) struct Parameters {
    values: HashMap<String, Value>,
}

enum Value {
    Once(String),
    Repeated,
}

/// Why a body or a query holds no parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParametersError {
    /// Not a form.
    #[error("the body is not application/x-www-form-urlencoded")]
    NotAForm,
    /// More than anybody needs.
    #[error("there are too many parameters")]
    TooMany,
}

/// A parameter that cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParameterError {
    /// RFC 6749 3.1: at most once.
    #[error("the parameter {0} is repeated")]
    Repeated(&'static str),
    /// What is not UTF-8 could not be returned as it came.
    #[error("the parameter {0} is not UTF-8")]
    NotText(&'static str),
}

impl Parameters {
    /// Reads a query, or the body of a form.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn parse(encoded: &[u8]) -> Result<Self, ParametersError> {
        let mut values = HashMap::new();
        for (name, value) in form_urlencoded::parse(encoded) {
            if values.len() == MAX_COUNT {
                return Err(ParametersError::TooMany);
            }
            match values.entry(name.into_owned()) {
                Entry::Vacant(free) => drop(free.insert(Value::Once(value.into_owned()))),
                Entry::Occupied(mut taken) => drop(taken.insert(Value::Repeated)),
            }
        }
        Ok(Self { values })
    }

    /// Reads the body of a form.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn of_form(headers: &HeaderMap, body: &Bytes) -> Result<Self, ParametersError> {
        let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Self::parse(body)
        } else {
            Err(ParametersError::NotAForm)
        }
    }

    /// A parameter; an empty one counts as absent (RFC 6749 3.1).
    ///
    /// # Errors
    /// When it is repeated or not UTF-8.
    pub(super) fn get(&self, name: &'static str) -> Result<Option<&str>, ParameterError> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Value::Repeated) => Err(ParameterError::Repeated(name)),
            // The decoder puts U+FFFD for what is not UTF-8.
            Some(Value::Once(value)) if value.contains('\u{fffd}') => Err(ParameterError::NotText(name)),
            Some(Value::Once(value)) => Ok(Some(value.as_str()).filter(|value| !value.is_empty())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A7, A8
    #[test]
    fn empty_is_absent_and_repeated_is_an_error() {
        let parameters = Parameters::parse(b"a=1&b=&c=1&c=1&d=&d=2&e=a+b%2B&f=%ff").unwrap();
        assert_eq!(parameters.get("a"), Ok(Some("1")));
        assert_eq!(parameters.get("b"), Ok(None));
        assert_eq!(parameters.get("x"), Ok(None));
        assert_eq!(parameters.get("c"), Err(ParameterError::Repeated("c")));
        assert_eq!(parameters.get("d"), Err(ParameterError::Repeated("d")));
        assert_eq!(parameters.get("e"), Ok(Some("a b+")));
        assert_eq!(parameters.get("f"), Err(ParameterError::NotText("f")));
    }

    #[test]
    fn thousands_of_parameters_are_refused_early() {
        let many: String = (0..5000).map(|n| format!("p{n}=1&")).collect();
        assert_eq!(Parameters::parse(many.as_bytes()).err(), Some(ParametersError::TooMany));
    }
}
