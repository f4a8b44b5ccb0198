//! The authorization response: an address at the relying party (RFC 6749 4.1.2, RFC 9207).

use crate::config::Issuer;

/// What an answer says: `state` is returned as it came; `iss` says who answers, so that a relying party with several
/// providers cannot be made to mix them up (RFC 9207 2).
pub(super) fn fields(answer: &[(&str, &str)], state: Option<&str>, issuer: &Issuer) -> Vec<(String, String)> {
    let all = answer.iter().copied().chain(state.map(|state| ("state", state))).chain([("iss", issuer.as_str())]);
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The callback with an answer in its query. A query of its own is kept.
pub(super) fn address(redirect_uri: &str, answer: &[(&str, &str)], state: Option<&str>, issuer: &Issuer) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields(answer, state, issuer));
    let joint = match redirect_uri.split_once('?') {
        None => "?",
        Some((_, own)) if own.is_empty() || own.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{redirect_uri}{joint}{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_added_to_what_was_registered() {
        let issuer = Issuer::parse("https://login.example").unwrap();
        let iss = "iss=https%3A%2F%2Flogin.example";
        for (callback, expected) in [
            ("https://b.example/cb", format!("https://b.example/cb?code=1&{iss}")),
            ("https://b.example/cb?", format!("https://b.example/cb?code=1&{iss}")),
            ("https://b.example/cb?m=get", format!("https://b.example/cb?m=get&code=1&{iss}")),
            ("https://b.example/cb?m=get&", format!("https://b.example/cb?m=get&code=1&{iss}")),
        ] {
            assert_eq!(address(callback, &[("code", "1")], None, &issuer), expected);
        }
    }

    // A10
    #[test]
    fn a_state_comes_back_as_it_was_and_escaped() {
        let issuer = Issuer::parse("https://login.example").unwrap();
        let state = "\"><script>alert('é')</script>\r\nSet-Cookie: a=b#&=+ %";
        let address = address("https://b.example/cb", &[("error", "x")], Some(state), &issuer);
        assert!(address.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"'#".contains(&byte)), "{address}");
        let url = url::Url::parse(&address).unwrap();
        assert_eq!(url.query_pairs().find(|(name, _)| name == "state").unwrap().1, state);
    }
}
