//! The parameters that say how the user is to be treated: `prompt`, `max_age`, `login_hint`, `acr_values`, locales.

use crate::login::{Demand, Prompt};
use crate::oidc::request::RequestError;

/// Longest login hint, in bytes.
const MAX_LOGIN_HINT: usize = 255;

/// Most authentication context classes, and the length of one in bytes.
const MAX_CLASSES: (usize, usize) = (16, 255);

/// Longest list of languages, in bytes.
const MAX_LOCALES: usize = 255;

/// Reads `prompt`.
///
/// # Errors
/// When a value is unknown, or `none` stands with another one (OpenID Connect Core 3.1.2.1).
pub(super) fn prompt(text: Option<&str>) -> Result<Prompt, RequestError> {
    let words: Vec<&str> = text.unwrap_or_default().split(' ').filter(|word| !word.is_empty()).collect();
    if words == ["none"] {
        return Ok(Prompt::Silent);
    }
    let demand = |word: &&str| match *word {
        "login" => Ok(Demand::Login),
        "consent" => Ok(Demand::Consent),
        "select_account" => Ok(Demand::SelectAccount),
        _ => Err(RequestError::Prompt),
    };
    words.iter().map(demand).collect::<Result<_, _>>().map(Prompt::Interactive)
}

/// Reads `max_age`.
///
/// # Errors
/// When it is no number of seconds.
pub(super) fn seconds(text: &str) -> Result<u64, RequestError> {
    // Digits only: the standard parser takes a plus sign too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(RequestError::MaxAge)
}

/// Reads `login_hint`.
///
/// # Errors
/// When it is too long, or not readable.
pub(super) fn login_hint(text: &str) -> Result<String, RequestError> {
    let readable = text.len() <= MAX_LOGIN_HINT && !text.chars().any(char::is_control);
    readable.then(|| text.to_owned()).ok_or(RequestError::LoginHint)
}

/// Reads `acr_values`: voluntary, so what makes no sense is passed over.
pub(super) fn classes(text: &str) -> Vec<String> {
    let (most, longest) = MAX_CLASSES;
    let sensible =
        |class: &&str| !class.is_empty() && class.len() <= longest && class.bytes().all(|byte| byte.is_ascii_graphic());
    text.split(' ').filter(sensible).take(most).map(str::to_owned).collect()
}

/// Reads `ui_locales`: a wish, so what makes no sense is passed over (OpenID Connect Core 3.1.2.1).
pub(super) fn locales(text: &str) -> Option<String> {
    let sensible = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b' ';
    (text.len() <= MAX_LOCALES && text.bytes().all(sensible)).then(|| text.to_owned())
}

/// Checks `display`: all its values are served by the same pages.
///
/// # Errors
/// When it is none of them.
pub(super) fn display(text: Option<&str>) -> Result<(), RequestError> {
    match text {
        None | Some("page" | "popup" | "touch" | "wap") => Ok(()),
        Some(_) => Err(RequestError::Display),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A12
    #[test]
    fn prompts() {
        use Demand::{Consent, Login, SelectAccount};
        let demands = |demands: &[Demand]| Ok(Prompt::Interactive(demands.iter().copied().collect()));
        for (text, expected) in [
            (None, demands(&[])),
            (Some(""), demands(&[])),
            (Some("none"), Ok(Prompt::Silent)),
            (Some("login"), demands(&[Login])),
            (Some("consent"), demands(&[Consent])),
            (Some("select_account"), demands(&[SelectAccount])),
            (Some("login login"), demands(&[Login])),
            (Some("login consent  select_account"), demands(&[Login, Consent, SelectAccount])),
            (Some("none login"), Err(RequestError::Prompt)),
            (Some("consent none"), Err(RequestError::Prompt)),
            (Some("none none"), Err(RequestError::Prompt)),
            (Some("LOGIN"), Err(RequestError::Prompt)),
            (Some("create"), Err(RequestError::Prompt)),
        ] {
            assert_eq!(prompt(text), expected, "{text:?}");
        }
    }

    // A15
    #[test]
    fn max_ages() {
        for (text, expected) in [("0", Some(0)), ("1", Some(1)), ("10000", Some(10_000))] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in ["-1", "+1", "1e99", "abc", "1.5", " 1", "99999999999999999999999"] {
            assert_eq!(seconds(text), Err(RequestError::MaxAge), "{text}");
        }
    }

    #[test]
    fn wishes_never_fail() {
        assert_eq!(classes("1  urn:x:2 é"), ["1", "urn:x:2"]);
        assert_eq!(classes(&"1 ".repeat(100)).len(), 16);
        assert_eq!(locales("de-CH fr").as_deref(), Some("de-CH fr"));
        assert_eq!(locales("<script>"), None);
        assert_eq!(locales(&"de ".repeat(100)), None);
    }
}
