//! The code that a user carries from a device to the browser (RFC 8628 6.1).

use std::fmt;
use std::str::FromStr;

use crate::secret::{SecretError, SecretHash, random};

/// Letters that are read and typed alike on any keyboard, and of which no word can be made: 20 of them.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// How many letters: 34 bits. Nobody guesses one of those that wait, at the rate at which codes may be entered (5.1).
const LENGTH: usize = 8;

/// Longest text that may be a code: what people put between the letters.
const LONGEST: usize = 32;

/// Eight letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// A new one.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub(super) fn generate() -> Result<Self, SecretError> {
        let mut code = String::new();
        while code.len() < LENGTH {
            // Bytes beyond the last whole round would make the first letters likelier.
            let fair = random::<LENGTH>()?.into_iter().filter(|byte| *byte < 240);
            let letters = fair.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
            let wanted = LENGTH - code.len();
            code.extend(letters.take(wanted));
        }
        Ok(Self(code))
    }

    /// What the store finds it by.
    pub(super) fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }
}

impl fmt::Display for UserCode {
    /// In two groups, as people read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.0.split_at(LENGTH / 2);
        write!(f, "{first}-{second}")
    }
}

impl FromStr for UserCode {
    type Err = NotAUserCode;

    /// Reads what somebody typed: in any case, with anything but letters and digits between them.
    fn from_str(text: &str) -> Result<Self, NotAUserCode> {
        if text.len() > LONGEST {
            return Err(NotAUserCode);
        }
        let typed: String = text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_uppercase()).collect();
        let known = typed.bytes().all(|byte| LETTERS.contains(&byte));
        if typed.len() == LENGTH && known { Ok(Self(typed)) } else { Err(NotAUserCode) }
    }
}

/// No code looks like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user code is eight letters")]
pub struct NotAUserCode;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        for text in ["WDJB-MJHT", "wdjbmjht", " wdjb mjht ", "WDJB–MJHT", "w.d.j.b.m.j.h.t"] {
            assert_eq!(text.parse::<UserCode>().map(|code| code.to_string()), Ok("WDJB-MJHT".to_owned()), "{text}");
        }
        for bad in ["", "WDJB-MJH", "WDJB-MJHTT", "WDJA-MJHT", "WDJ0-MJHT", "ẄDJB-MJHT", "<script>"] {
            assert_eq!(bad.parse::<UserCode>(), Err(NotAUserCode), "{bad}");
        }
        assert!(format!("{}WDJBMJHT", "-".repeat(30)).parse::<UserCode>().is_err());
    }

    #[test]
    fn codes_use_all_letters_and_differ() {
        let codes: Vec<UserCode> = (0..200).map(|_| UserCode::generate().unwrap()).collect();
        let different: BTreeSet<String> = codes.iter().map(UserCode::to_string).collect();
        let letters: BTreeSet<char> = different.iter().flat_map(|code| code.chars()).collect();
        assert_eq!((different.len(), letters.len()), (200, LETTERS.len() + 1));
        assert!(codes.iter().all(|code| code.to_string().parse() == Ok(code.clone())));
    }
}
