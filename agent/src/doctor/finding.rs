//! One thing that was looked at, and what is to be done about it.

use serde::Serialize;

/// Longer than any sentence that is written here: what others put into one is cut.
const LONGEST: usize = 2000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How it is.
    pub(crate) verdict: Verdict,
    /// What was looked at, in a word or two.
    pub(crate) about: String,
    /// What there is, in one sentence.
    pub(crate) sentence: String,
    /// The command or setting that mends it.
    pub(crate) remedy: Option<String>,
}

/// How something is. In the order of alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Something will not work as users expect.
    Warning,
    /// Logins do not work, or are not safe.
    Error,
}

impl Finding {
    /// As it should be.
    pub(crate) fn ok(about: &str, sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, about: about.to_owned(), sentence: fit(&sentence.into()), remedy: None }
    }

    /// Not as users expect.
    pub(crate) fn warning(about: &str, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, remedy: Some(fit(&remedy.into())), ..Self::ok(about, sentence) }
    }

    /// Logins do not work, or are not safe.
    pub(crate) fn error(about: &str, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Error, remedy: Some(fit(&remedy.into())), ..Self::ok(about, sentence) }
    }
}

impl Verdict {
    /// In one word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// As a terminal may show it: what others put into it writes nothing but letters.
fn fit(text: &str) -> String {
    let text = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    text.filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_put_into_a_sentence_moves_no_terminal() {
        let long = "x".repeat(LONGEST);
        let finding = Finding::error("login", format!("a\u{1b}]0;b\u{7}\nc {long}"), "d\u{9b}e");
        assert!(finding.sentence.starts_with("a]0;b c x") && finding.sentence.len() == LONGEST, "{finding:?}");
        assert_eq!(finding.remedy.as_deref(), Some("de"));
    }
}
