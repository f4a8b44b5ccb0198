//! Parameters of a query or a form, once each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use axum::body::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Longest form that is sent on as an address, in bytes.
const MAX_QUERY: usize = 15 * 1024;

/// Most parameters that are looked at.
const MAX_COUNT: usize = 64;

/// Decoded parameters. Without `Debug`: codes and secrets are among them.
pub(super) struct Parameters {
    values: HashMap<String, Value>,
}

#[derive(Clone)]
enum Value {
    Once(String),
    Repeated(Vec<String>),
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

/// What a stranger typed, as far as a line of the log has room for it. To be logged as `Debug`: that escapes what is no
/// text.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

impl Parameters {
    /// Reads a query, or the body of a form.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn parse(encoded: &[u8]) -> Result<Self, ParametersError> {
        let (mut values, mut count) = (HashMap::new(), 0);
        for (name, value) in form_urlencoded::parse(encoded) {
            if count == MAX_COUNT {
                return Err(ParametersError::TooMany);
            }
            add(&mut values, name.into_owned(), value.into_owned());
            count += 1;
        }
        Ok(Self { values })
    }

    /// Of pairs that were read elsewhere.
    pub(super) fn of_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut values = HashMap::new();
        for (name, value) in pairs {
            add(&mut values, name, value);
        }
        Self { values }
    }

    /// These, and of `others` those that are not among them.
    pub(super) fn or(mut self, others: &Self) -> Self {
        for (name, value) in &others.values {
            self.values.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self
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
            Some(Value::Repeated(_)) => Err(ParameterError::Repeated(name)),
            // The decoder puts U+FFFD for what is not UTF-8.
            Some(Value::Once(value)) if value.contains('\u{fffd}') => Err(ParameterError::NotText(name)),
            Some(Value::Once(value)) => Ok(Some(value.as_str()).filter(|value| !value.is_empty())),
        }
    }

    /// All values of a parameter that may be repeated.
    ///
    /// # Errors
    /// When one is not UTF-8.
    pub(super) fn all(&self, name: &'static str) -> Result<Vec<&str>, ParameterError> {
        let values = match self.values.get(name) {
            None => &[],
            Some(Value::Once(value)) => std::slice::from_ref(value),
            Some(Value::Repeated(values)) => values.as_slice(),
        };
        if values.iter().any(|value| value.contains('\u{fffd}')) {
            return Err(ParameterError::NotText(name));
        }
        Ok(values.iter().map(String::as_str).filter(|value| !value.is_empty()).collect())
    }
}

fn add(values: &mut HashMap<String, Value>, name: String, value: String) {
    match values.entry(name) {
        Entry::Vacant(free) => drop(free.insert(Value::Once(value))),
        Entry::Occupied(mut taken) => match taken.get_mut() {
            Value::Repeated(values) => values.push(value),
            Value::Once(first) => {
                let first = std::mem::take(first);
                taken.insert(Value::Repeated(vec![first, value]));
            }
        },
    }
}

/// The address that brings a posted form along by GET. A browser keeps its cookies back when another site's page posts
/// here (SameSite=Lax), and nobody would seem to be signed in; as a GET the same request brings them along. Nothing if
/// the form is not encoded as it should be, or is too long for an address.
pub(super) fn as_get(address: &str, form: &[u8]) -> Option<String> {
    let query = std::str::from_utf8(form).ok().filter(|_| form.iter().all(u8::is_ascii_graphic))?;
    (query.len() <= MAX_QUERY).then(|| format!("{address}?{query}"))
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
        assert_eq!(parameters.all("c"), Ok(vec!["1", "1"]));
        assert_eq!((parameters.all("d"), parameters.all("x")), (Ok(vec!["2"]), Ok(vec![])));
        assert_eq!(parameters.all("f"), Err(ParameterError::NotText("f")));
    }

    #[test]
    fn a_form_goes_on_as_an_address_if_it_fits_into_one() {
        assert_eq!(as_get("https://a/x", b"a=1&b=%20").as_deref(), Some("https://a/x?a=1&b=%20"));
        for bad in ["a=1\r\nX: y", "a= 1", "a=\u{e9}", &"a".repeat(MAX_QUERY + 1)] {
            assert_eq!(as_get("https://a/x", bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn thousands_of_parameters_are_refused_early() {
        let many: String = (0..5000).map(|n| format!("p{n}=1&")).collect();
        assert_eq!(Parameters::parse(many.as_bytes()).err(), Some(ParametersError::TooMany));
    }
}
