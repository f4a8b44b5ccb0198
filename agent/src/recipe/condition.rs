//! What an answer of the application must be like to mean something.

use serde::Deserialize;
use serde_json::Value;

use super::pointer::Pointer;

/// What an answer must be like.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Its status; 200 if unset.
    pub status: Option<u16>,
    /// Where to look in its JSON.
    pub pointer: Option<Pointer>,
    /// What one of the values there must be; any value will do if unset.
    pub equals: Option<Value>,
    /// Instead of that: whether one of the values there must be there twice. Empty texts do not count.
    #[serde(default)]
    pub repeated: bool,
}

impl Condition {
    /// Whether an answer is like this.
    pub fn holds(&self, status: u16, body: &Value) -> bool {
        if status != self.status.unwrap_or(200) {
            return false;
        }
        let Some(pointer) = &self.pointer else { return true };
        let found = pointer.select(body);
        match &self.equals {
            _ if self.repeated => is_repeated(&found),
            Some(wanted) => found.contains(&wanted),
            None => !found.is_empty(),
        }
    }
}

fn is_repeated(found: &[&Value]) -> bool {
    let said: Vec<&&Value> = found.iter().filter(|value| value.as_str() != Some("")).collect();
    said.iter().enumerate().any(|(at, value)| said[..at].contains(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_look_at_status_and_body() {
        let pending = Condition {
            status: Some(401),
            pointer: Some(Pointer::try_from("/flows/?id=mfa/is_pending".to_owned()).unwrap()),
            equals: Some(json!(true)),
            repeated: false,
        };
        assert!(pending.holds(401, &json!({"flows": [{"id": "x"}, {"id": "mfa", "is_pending": true}]})));
        assert!(!pending.holds(401, &json!({"flows": [{"id": "mfa", "is_pending": false}]})));
        assert!(!pending.holds(401, &Value::Null));
        assert!(!pending.holds(200, &json!({"flows": [{"id": "mfa", "is_pending": true}]})));
        assert!(Condition::default().holds(200, &Value::Null));
        assert!(!Condition::default().holds(302, &Value::Null));
    }

    #[test]
    fn what_is_there_twice_is_found() {
        let twice = Condition {
            pointer: Some(Pointer::try_from("/users/*/id".to_owned()).unwrap()),
            repeated: true,
            ..Condition::default()
        };
        assert!(twice.holds(200, &json!({"users": [{"id": "a"}, {"id": ""}, {"id": "b"}, {"id": "a"}]})));
        assert!(!twice.holds(200, &json!({"users": [{"id": "a"}, {"id": ""}, {"id": ""}, {"id": "b"}]})));
        assert!(!twice.holds(200, &Value::Null));
    }
}
