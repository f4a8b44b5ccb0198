//! One thing that was tried, and how it is shown: never with a password, a token or more than the beginning of what an
//! answer says of a user.

use serde::Serialize;
use serde_json::Value;

use crate::application::ApplicationError;
use crate::doctor::finding::Verdict;
use crate::recipe::step::{Step, StepMethod};

/// How much of a value is shown, in characters.
const SHOWN: usize = 4;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Act {
    /// Which part of the recipe.
    pub(crate) part: String,
    /// What was asked.
    pub(crate) request: Option<String>,
    /// Status of the answer.
    pub(crate) status: Option<u16>,
    /// Whether it was as the recipe says.
    pub(crate) verdict: Verdict,
    /// What the recipe made of it.
    pub(crate) meaning: String,
}

impl Act {
    /// Without a request.
    pub(crate) fn note(part: &str, verdict: Verdict, meaning: impl Into<String>) -> Self {
        Self { part: part.to_owned(), request: None, status: None, verdict, meaning: meaning.into() }
    }

    /// A step and what its answer means.
    pub(crate) fn answered(part: &str, step: &Step, status: u16, verdict: Verdict, meaning: impl Into<String>) -> Self {
        Self { request: Some(request(step)), status: Some(status), ..Self::note(part, verdict, meaning) }
    }

    /// A step without an answer.
    pub(crate) fn failed(part: &str, step: &Step, error: &ApplicationError) -> Self {
        Self { request: Some(request(step)), ..Self::note(part, Verdict::Error, error.to_string()) }
    }
}

/// As the recipe has it, with its placeholders: what they are filled with may be anybody's.
pub(crate) fn request(step: &Step) -> String {
    let method = match step.method {
        StepMethod::Get => "GET",
        StepMethod::Post => "POST",
        StepMethod::Put => "PUT",
        StepMethod::Patch => "PATCH",
        StepMethod::Delete => "DELETE",
    };
    let query: Vec<String> = step.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let question_mark = if query.is_empty() { "" } else { "?" };
    format!("{method} {}{question_mark}{}", step.path, query.join("&"))
}

/// The beginning of a value, and how much more there is.
pub(crate) fn shortened(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) => return value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(elements) => return format!("a list of {}", elements.len()),
        Value::Object(members) => return format!("an object of {}", members.len()),
    };
    let length = text.chars().count();
    let begin: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if length > SHOWN { format!("{begin}… ({length} characters)") } else { begin }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_recognised_and_not_told() {
        for (value, shown) in [
            (json!("alice@alpha.example"), "alic… (19 characters)"),
            (json!(7), "7"),
            (json!(true), "true"),
            (json!(["a", "b"]), "a list of 2"),
            (json!("a\nb"), "a?b"),
        ] {
            assert_eq!(shortened(&value), shown);
        }
    }
}
