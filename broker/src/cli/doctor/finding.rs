//! One thing that was looked at, and what is to be done about it: as the agent's doctor says it.

use serde::Serialize;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How it is.
    pub(super) verdict: Verdict,
    /// What was looked at, in a word or two.
    pub(super) about: &'static str,
    /// What there is, in one sentence.
    pub(super) sentence: String,
    /// The command or setting that mends it.
    pub(super) remedy: Option<String>,
}

/// How something is. In the order of alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Something will not work as people expect.
    Warning,
    /// Logins do not work, or are not safe.
    Error,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(about: &'static str, sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, about, sentence: sentence.into(), remedy: None }
    }

    /// Not as people expect.
    pub(super) fn warning(about: &'static str, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, remedy: Some(remedy.into()), ..Self::ok(about, sentence) }
    }

    /// Logins do not work, or are not safe.
    pub(super) fn error(about: &'static str, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Error, remedy: Some(remedy.into()), ..Self::ok(about, sentence) }
    }
}

impl Verdict {
    /// In one word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
