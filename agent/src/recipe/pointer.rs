//! Where a value is in a JSON document: RFC 6901 pointers with two more kinds of segment.
//!
//! * `*` is every element of an array (or member of an object);
//! * `?key=value` is those elements whose member `key` has that value (JSON, or else a string).
//!
//! So `/data/?primary=true/email` is the address of the entry that is called primary. Where a recipe says so, a value may be
//! a placeholder: `/users/?name=${username}/id`.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::content::placeholder;

/// Where values are in a document.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pointer(Vec<Segment>);

/// Where values are among the answers of named requests: `name:/pointer`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Selector {
    /// Name of the request.
    pub answer: String,
    /// Where in its answer.
    pub pointer: Pointer,
}

/// One place in a document that is written: an RFC 6901 pointer of member names only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Place(Vec<String>);

/// Not a pointer.
#[derive(Debug, Error)]
pub enum PointerError {
    /// RFC 6901 3: a pointer is empty or starts with a slash.
    #[error("{0:?} is no JSON pointer: it must be empty or start with a slash")]
    NoSlash(String),
    /// A condition without a value.
    #[error("the pointer segment {0:?} must be ?key=value")]
    NoCondition(String),
    /// A selector without a name.
    #[error("{0:?} must be the name of a request, a colon and a JSON pointer")]
    NoAnswerName(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Key(String),
    Each,
    Where { key: String, value: Value },
}

impl Pointer {
    /// All values there, in document order.
    pub fn select<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        self.0
            .iter()
            .fold(vec![document], |found, segment| found.into_iter().flat_map(|value| segment.step(value)).collect())
    }
}

impl Pointer {
    /// With these values for placeholders, each as the text that it is: what a user is called selects nothing else.
    #[must_use]
    pub fn filled(&self, values: &[(&str, &str)]) -> Self {
        Self(self.0.iter().map(|segment| segment.filled(values)).collect())
    }
}

impl TryFrom<String> for Pointer {
    type Error = PointerError;

    fn try_from(text: String) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let path = text.strip_prefix('/').ok_or_else(|| PointerError::NoSlash(text.clone()))?;
        path.split('/').map(Segment::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<String> for Selector {
    type Error = PointerError;

    fn try_from(text: String) -> Result<Self, PointerError> {
        match text.split_once(':') {
            Some((answer, pointer)) if !answer.is_empty() && !answer.contains('/') => {
                Ok(Self { answer: answer.to_owned(), pointer: Pointer::try_from(pointer.to_owned())? })
            }
            _ => Err(PointerError::NoAnswerName(text)),
        }
    }
}

impl Place {
    /// The member names on the way there; at least one.
    pub fn members(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<String> for Place {
    type Error = PointerError;

    fn try_from(text: String) -> Result<Self, PointerError> {
        let path = text.strip_prefix('/').ok_or_else(|| PointerError::NoSlash(text.clone()))?;
        Ok(Self(path.split('/').map(unescape).collect()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|member| write!(f, "/{}", escape(member)))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Key(key) => write!(f, "/{}", escape(key)),
            Segment::Each => f.write_str("/*"),
            Segment::Where { key, value } => write!(f, "/?{key}={value}"),
        })
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PointerError> {
        if text == "*" {
            return Ok(Self::Each);
        }
        let Some(condition) = text.strip_prefix('?') else {
            return Ok(Self::Key(unescape(text)));
        };
        let (key, value) = condition.split_once('=').ok_or_else(|| PointerError::NoCondition(text.to_owned()))?;
        let value = unescape(value);
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        Ok(Self::Where { key: unescape(key), value })
    }

    fn filled(&self, values: &[(&str, &str)]) -> Self {
        if let Self::Where { key, value: Value::String(text) } = self
            && let Some(name) = placeholder(text)
            && let Some((_, value)) = values.iter().find(|(known, _)| *known == name)
        {
            return Self::Where { key: key.clone(), value: Value::String((*value).to_owned()) };
        }
        self.clone()
    }

    fn step<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Key(key) => match value {
                Value::Object(members) => members.get(key).into_iter().collect(),
                // RFC 6901 4: an index is digits without leading zeros.
                Value::Array(elements) if key == "0" || !key.starts_with(['0', '+']) => {
                    key.parse::<usize>().ok().and_then(|index| elements.get(index)).into_iter().collect()
                }
                _ => Vec::new(),
            },
            Self::Each => children(value),
            Self::Where { key, value: wanted } => {
                children(value).into_iter().filter(|child| child.get(key) == Some(wanted)).collect()
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(elements) => elements.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    }
}

/// RFC 6901 3.
fn escape(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

/// RFC 6901 4: first `~1`, then `~0`, so that `~01` is `~1`.
fn unescape(text: &str) -> String {
    text.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn select(pointer: &str, document: &Value) -> Value {
        let pointer = Pointer::try_from(pointer.to_owned()).unwrap();
        Value::Array(pointer.select(document).into_iter().cloned().collect())
    }

    #[test]
    fn pointers_find_what_rfc_6901_says() {
        let document = json!({"a": {"b/c": 1, "~": 2}, "list": [10, 20], "": 3});
        for (pointer, found) in [
            ("", json!([document])),
            ("/a/b~1c", json!([1])),
            ("/a/~0", json!([2])),
            ("/list/1", json!([20])),
            ("/list/01", json!([])),
            ("/list/2", json!([])),
            ("/list/-", json!([])),
            ("/", json!([3])),
            ("/a/none/deeper", json!([])),
        ] {
            assert_eq!(select(pointer, &document), found, "{pointer}");
        }
    }

    #[test]
    fn wildcards_and_conditions_select_elements() {
        let document = json!({"data": [
            {"email": "old@alpha.example", "primary": false, "verified": true},
            {"email": "alice@alpha.example", "primary": true, "verified": false},
        ]});
        assert_eq!(select("/data/*/verified", &document), json!([true, false]));
        assert_eq!(select("/data/?primary=true/email", &document), json!(["alice@alpha.example"]));
        assert_eq!(select("/data/?email=old@alpha.example/verified", &document), json!([true]));
        assert_eq!(select("/data/?primary=1/email", &document), json!([]));
        assert_eq!(select("/*/*/primary", &document), json!([false, true]));
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        assert!(Pointer::try_from("a/b".to_owned()).is_err());
        assert!(Pointer::try_from("/a/?b".to_owned()).is_err());
        assert!(Selector::try_from("/a".to_owned()).is_err());
        assert!(Selector::try_from(":/a".to_owned()).is_err());
        assert_eq!(Selector::try_from("session:/a".to_owned()).unwrap().answer, "session");
    }

    #[test]
    fn a_pointer_prints_as_it_was_written() {
        for text in ["", "/a/b~1c/*/?primary=true/x~0"] {
            assert_eq!(Pointer::try_from(text.to_owned()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_value_selects_only_what_it_is() {
        let users = json!({"users": [{"name": "alice", "id": 1}, {"name": "x/id", "id": 2}, {"name": true, "id": 3}]});
        let pointer = Pointer::try_from("/users/?name=${username}/id".to_owned()).unwrap();
        let find =
            |name: &str| pointer.filled(&[("username", name)]).select(&users).into_iter().cloned().collect::<Vec<_>>();
        assert_eq!((find("alice"), find("x/id"), find("bob")), (vec![json!(1)], vec![json!(2)], vec![]));
        assert!(find("true").is_empty() && find("*").is_empty(), "a name is a text, whatever it looks like");
        assert!(pointer.select(&users).is_empty(), "unfilled it finds nobody");
    }
}
