//! Who is there, as headers that nginx passes on to the application. Pure.
//!
//! No user can put anything but text into them: whatever is not printable ASCII is percent-encoded as UTF-8, and so is the
//! percent sign, so that decoding is always right. A header about which nothing is known is not there.

use std::fmt::Write as _;

use ::http::{HeaderName, HeaderValue};

use super::session::Session;

/// The headers of a session.
pub(crate) fn of(session: &Session) -> Vec<(HeaderName, HeaderValue)> {
    let groups: Vec<String> = session.groups.iter().map(|group| encode(group, ",")).collect();
    // An address that nobody vouches for may be somebody else's, and applications go by it.
    let email = if session.email_verified { session.email.as_str() } else { "" };
    let headers = [
        ("x-homeward-user", encode(&session.username, "")),
        ("x-homeward-subject", encode(&session.subject, "")),
        ("x-homeward-name", encode(&session.name, "")),
        ("x-homeward-email", encode(email, "")),
        ("x-homeward-groups", groups.join(",")),
    ];
    let some = headers.into_iter().filter(|(_, value)| !value.is_empty());
    some.filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))).collect()
}

/// Whether it is one of these, or what an application could take for one: CGI makes underscores of hyphens.
pub(crate) fn is_one(name: &HeaderName) -> bool {
    name.as_str().replace('_', "-").starts_with("x-homeward-")
}

fn encode(text: &str, reserved: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        if (c == ' ' || c.is_ascii_graphic()) && c != '%' && !reserved.contains(c) {
            encoded.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a String does not fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;

    fn headers(said: &serde_json::Value) -> Vec<(String, String)> {
        let session = Session::new("s-1".to_owned(), said, OffsetDateTime::UNIX_EPOCH).unwrap();
        let text = |(name, value): (HeaderName, HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        of(&session).into_iter().map(text).collect()
    }

    #[test]
    fn what_is_not_ascii_is_encoded_and_what_is_unknown_is_left_out() {
        let said = json!({"preferred_username": "zoë@alpha", "name": "100% Zoë", "groups": ["a,b", "Ops"],
                          "email": "zoe@alpha.example", "email_verified": true});
        let expected = [
            ("x-homeward-user", "zo%C3%AB@alpha"),
            ("x-homeward-subject", "s-1"),
            ("x-homeward-name", "100%25 Zo%C3%AB"),
            ("x-homeward-email", "zoe@alpha.example"),
            ("x-homeward-groups", "a%2Cb,Ops"),
        ];
        assert_eq!(headers(&said), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let little = json!({"preferred_username": "bob", "email": "bob@elsewhere.example", "name": "x\r\nX-Evil: 1"});
        let names: Vec<String> = headers(&little).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["x-homeward-user", "x-homeward-subject"]);
    }

    #[test]
    fn all_that_look_like_them_are_known() {
        for (name, ours) in
            [("X-Homeward-User", true), ("x_homeward_new", true), ("x-homewards", false), ("accept", false)]
        {
            assert_eq!(is_one(&name.parse().unwrap()), ours, "{name}");
        }
    }

    #[test]
    fn no_control_character_gets_through() {
        assert_eq!(encode("a\r\nb\0\u{7f}", ""), "a%0D%0Ab%00%7F");
    }
}
