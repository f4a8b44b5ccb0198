//! Addresses at the application that are more than a fixed path: callbacks with a query, and paths with a value in them.

use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use super::content::placeholder;
use super::{AppPath, NotAnAppPath};

/// Where the broker sends browsers back to: a path, and a query if the application knows its callbacks by one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CallbackPath {
    /// The path.
    pub path: AppPath,
    query: Option<String>,
}

/// A path with values for whole segments: `/api/user/${home_user_id}/`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PathTemplate(String);

/// Not a callback.
#[derive(Debug, Error)]
pub enum NotACallbackPath {
    /// The part before the question mark.
    #[error(transparent)]
    Path(#[from] NotAnAppPath),
    /// The part after it.
    #[error("{0:?}: after the question mark there must be name=value, of letters, digits and -._~%, joined by &")]
    Query(String),
}

/// A value that cannot be a segment of a path.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a value cannot stand in the path {0}: it is missing, empty or made of dots")]
pub struct UnfitSegment(String);

impl TryFrom<String> for CallbackPath {
    type Error = NotACallbackPath;

    fn try_from(text: String) -> Result<Self, NotACallbackPath> {
        let Some((path, query)) = text.split_once('?') else {
            return Ok(Self { path: AppPath::try_from(text)?, query: None });
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
        let is_pair = |pair: &str| {
            pair.split_once('=')
                .is_some_and(|(name, value)| !name.is_empty() && name.chars().all(plain) && value.chars().all(plain))
        };
        if !query.split('&').all(is_pair) {
            return Err(NotACallbackPath::Query(text));
        }
        Ok(Self { path: AppPath::try_from(path.to_owned())?, query: Some(query.to_owned()) })
    }
}

impl CallbackPath {
    /// Its own query, decoded.
    pub fn query(&self) -> Vec<(String, String)> {
        let query = self.query.as_deref().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }
}

impl fmt::Display for CallbackPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, query } = self;
        match query {
            Some(query) => write!(f, "{path}?{query}"),
            None => write!(f, "{path}"),
        }
    }
}

impl TryFrom<String> for PathTemplate {
    type Error = NotAnAppPath;

    fn try_from(text: String) -> Result<Self, NotAnAppPath> {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let fixed: Vec<&str> = text
            .split('/')
            .map(|segment| if placeholder(segment).is_some_and(is_name) { "x" } else { segment })
            .collect();
        AppPath::try_from(fixed.join("/")).map_err(|_| NotAnAppPath(text.clone()))?;
        Ok(Self(text))
    }
}

impl From<&AppPath> for PathTemplate {
    fn from(path: &AppPath) -> Self {
        Self(path.as_str().to_owned())
    }
}

impl PathTemplate {
    /// The names of the values in it.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter_map(placeholder)
    }

    /// The path with these values, each percent-encoded as one segment (RFC 3986 3.3).
    pub fn fill(&self, values: &[(&str, &str)]) -> Result<AppPath, UnfitSegment> {
        let unfit = || UnfitSegment(self.0.clone());
        let segment = |segment: &str| {
            let Some(name) = placeholder(segment) else { return Ok(segment.to_owned()) };
            let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(unfit)?;
            // Encoded dots are still dot segments to a URL parser, and an empty segment is another address.
            if value.chars().all(|c| c == '.') { Err(unfit()) } else { Ok(encode(value)) }
        };
        let filled = self.0.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        Ok(AppPath(filled.join("/")))
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3986 2.3: everything but unreserved characters.
fn encode(value: &str) -> String {
    let encode_one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    value.bytes().map(encode_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_keeps_its_query() {
        let callback = CallbackPath::try_from("/api/auth/sso_callback?method=sso_get_token".to_owned()).unwrap();
        assert_eq!(callback.to_string(), "/api/auth/sso_callback?method=sso_get_token");
        assert_eq!(callback.query(), [("method".to_owned(), "sso_get_token".to_owned())]);
        assert!(CallbackPath::try_from("/cb".to_owned()).unwrap().query().is_empty());
        for bad in ["/cb?", "/cb?a", "/cb?=b", "/cb?a=b#c", "/cb?a=b&", "/cb?a=b c", "//evil.example?a=b", "/cb?a=${b}"]
        {
            assert!(CallbackPath::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_is_one_segment_whatever_is_in_it() {
        let template = PathTemplate::try_from("/api/user/${home_user_id}/".to_owned()).unwrap();
        assert_eq!(template.placeholders().collect::<Vec<_>>(), ["home_user_id"]);
        for (value, path) in
            [("7", "/api/user/7/"), ("a/../b?c#d", "/api/user/a%2F..%2Fb%3Fc%23d/"), ("é%", "/api/user/%C3%A9%25/")]
        {
            assert_eq!(template.fill(&[("home_user_id", value)]).unwrap().as_str(), path);
        }
        for bad in ["", ".", ".."] {
            assert!(template.fill(&[("home_user_id", bad)]).is_err(), "{bad:?}");
        }
        assert!(template.fill(&[]).is_err());
    }

    #[test]
    fn a_placeholder_is_a_whole_segment() {
        for bad in ["/api/x${id}", "/${}", "/${a b}", "${id}", "//${id}", "/${id}?a=b", "/../${id}"] {
            assert!(PathTemplate::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert_eq!(PathTemplate::try_from("/api/".to_owned()).unwrap().fill(&[]).unwrap().as_str(), "/api/");
    }
}
