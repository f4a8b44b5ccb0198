//! Fields of a query or a form: what is not there is empty, and of what is there twice the last counts.

use std::collections::HashMap;

/// Most fields that are looked at.
const MAX_FIELDS: usize = 64;

/// Decoded fields. Without `Debug`: a code may be among them.
#[derive(Default)]
pub struct Form(HashMap<String, String>);

impl Form {
    /// Reads a query, or the body of a form.
    pub(super) fn read(encoded: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(encoded).take(MAX_FIELDS);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Of these.
    #[cfg(test)]
    pub(super) fn of(fields: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A field without the space around it.
    pub(super) fn text(&self, name: &str) -> String {
        self.0.get(name).map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    /// Whether a field has characters that a terminal obeys, or that turn the direction of the text around them: commands are
    /// made of fields, to be read and copied. Ends of lines separate what is said in a box.
    pub(super) fn has_controls(&self) -> bool {
        let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        self.0.values().any(|text| text.chars().any(|c| turns(c) || (c.is_control() && c != '\n' && c != '\r')))
    }

    /// Whether it is there and holds something: a box that was ticked.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|text| !text.is_empty())
    }
}
