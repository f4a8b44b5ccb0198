//! What the page is made of: facts with a name each, and moments.

use time::{Duration, OffsetDateTime};

use crate::clock;
use crate::doctor::finding::Verdict;

/// Facts that belong together.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// For links within the page.
    pub(super) id: &'static str,
    /// Its heading.
    pub(super) title: &'static str,
    /// In the order in which they are read.
    pub(super) facts: Vec<Fact>,
    /// The command that shows the same.
    pub(super) command: &'static str,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    /// As `homeward-agent status` and the configuration call it.
    pub(super) name: &'static str,
    /// What there is to be said.
    pub(super) said: Vec<Said>,
}

/// A part of what is said.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// Words.
    Text(String),
    /// An address, a path, a name.
    Code(String),
    /// A time.
    At(Moment),
    /// A word that is a colour, too.
    Word(Verdict, &'static str),
}

/// A time, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    /// RFC 3339.
    pub(super) iso: String,
    /// The same to read.
    pub(super) words: String,
    /// How far away it is.
    pub(super) distance: String,
}

impl Fact {
    /// In words.
    pub(super) fn text(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, said: vec![Said::Text(text.into())] }
    }

    /// To the letter.
    pub(super) fn code(name: &'static str, code: impl Into<String>) -> Self {
        Self { name, said: vec![Said::Code(code.into())] }
    }

    /// Several, to the letter; in words if there is none.
    pub(super) fn codes(name: &'static str, codes: impl IntoIterator<Item = String>, none: &str) -> Self {
        let said: Vec<Said> = codes.into_iter().map(Said::Code).collect();
        if said.is_empty() { Self::text(name, none) } else { Self { name, said } }
    }

    /// A time.
    pub(super) fn at(name: &'static str, at: OffsetDateTime, now: OffsetDateTime) -> Self {
        Self { name, said: vec![Said::At(Moment::new(at, now))] }
    }

    /// A word with its colour, and what goes with it.
    pub(super) fn word(name: &'static str, verdict: Verdict, word: &'static str, said: Option<Said>) -> Self {
        Self { name, said: std::iter::once(Said::Word(verdict, word)).chain(said).collect() }
    }
}

impl Moment {
    /// As seen from now.
    pub(super) fn new(at: OffsetDateTime, now: OffsetDateTime) -> Self {
        let iso = clock::rfc3339(at);
        let words = iso.replacen('T', " ", 1).replacen('Z', " UTC", 1);
        let distance = match at - now {
            near if near.abs() < Duration::MINUTE => "now".to_owned(),
            ahead if ahead.is_positive() => format!("in {}", clock::lasting(ahead)),
            past => format!("{} ago", clock::lasting(-past)),
        };
        Self { iso, words, distance }
    }

    /// One that was noted, if it was.
    pub(super) fn noted(seconds: Option<i64>, now: OffsetDateTime) -> Option<Self> {
        OffsetDateTime::from_unix_timestamp(seconds?).ok().map(|at| Self::new(at, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_with_its_distance() {
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let told = |after: Duration| Moment::new(now + after, now);
        assert_eq!(told(Duration::ZERO).words, "2023-11-14 22:13:20 UTC");
        let distances =
            [0, 59, 60, 3600, 7200, 86400, 172_800, -90, -7200].map(|s| told(Duration::seconds(s)).distance);
        let expected =
            ["now", "now", "in 1 minute", "in 60 minutes", "in 2 hours", "in 24 hours", "in 2 days", "1 minute ago"];
        assert_eq!(distances[..8], expected);
        assert_eq!((Moment::noted(None, now), Moment::noted(Some(i64::MAX), now)), (None, None));
    }
}
