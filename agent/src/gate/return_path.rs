//! The page that a browser goes to after its login: always one of this site. Pure.

use serde::{Deserialize, Serialize};
use url::Url;
use url::form_urlencoded;

use crate::config::PublicUrl;

/// Longest that is kept: some logins at once have to fit into one line of cookies. The front page is what everything longer
/// comes to.
const LONGEST: usize = 500;

/// Path and query, below the public address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReturnPath(String);

impl ReturnPath {
    /// From the query of the login page; the front page if it names none of this site.
    ///
    /// nginx cannot encode: its `?next=$request_uri` is `?next=/page?a=1&b=2` as it stands. So what follows `next=` with a
    /// slash is taken to the end; only what begins otherwise is decoded as a form field.
    pub(crate) fn of_query(query: &str, public_url: &PublicUrl) -> Self {
        let raw = query.strip_prefix("next=").filter(|rest| rest.starts_with('/')).map(str::to_owned);
        let field = || form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "next");
        let wanted = raw.or_else(|| field().map(|(_, value)| value.into_owned()));
        wanted.and_then(|wanted| Self::of_site(&wanted, public_url)).unwrap_or_else(Self::front_page)
    }

    /// A page of the agent's own.
    pub(crate) fn own(path_and_query: String) -> Self {
        Self(path_and_query)
    }

    /// The front page.
    pub(crate) fn front_page() -> Self {
        Self("/".to_owned())
    }

    /// For the Location header.
    pub(crate) fn address(&self, public_url: &PublicUrl) -> String {
        format!("{}{}", public_url.origin(), self.0)
    }

    /// `wanted`, if a browser that is sent there stays at this site. Browsers read backslashes as slashes, and drop tabs
    /// and line feeds, so those are refused before anything is read.
    fn of_site(wanted: &str, public_url: &PublicUrl) -> Option<Self> {
        let rest = wanted.strip_prefix('/')?;
        let hostile = rest.starts_with(['/', '\\']) || wanted.contains('\\') || wanted.chars().any(char::is_control);
        if hostile || wanted.len() > LONGEST {
            return None;
        }
        let own = Url::parse(&public_url.origin()).ok()?;
        let url = own.join(wanted).ok().filter(|url| url.origin() == own.origin())?;
        // As it was parsed: dots resolved, everything else than ASCII encoded.
        Some(Self(url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()))
            .filter(|path| !path.0.starts_with("//"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(query: &str) -> String {
        let public_url = PublicUrl::try_from("https://beta.example".parse::<Url>().unwrap()).unwrap();
        ReturnPath::of_query(query, &public_url).address(&public_url)
    }

    #[test]
    fn pages_of_this_site_are_returned_to() {
        for (query, path) in [
            ("next=/", "/"),
            ("next=/page?a=1&b=2", "/page?a=1&b=2"),
            ("next=/page%2Fx?a=%20", "/page%2Fx?a=%20"),
            ("next=%2Fpage%3Fa%3D1%26b%3D2", "/page?a=1&b=2"),
            ("x=1&next=%2Fpage&y=2", "/page"),
            ("next=/ü", "/%C3%BC"),
            ("next=/a/../b", "/b"),
            ("next=/page#fragment", "/page"),
        ] {
            assert_eq!(address(query), format!("https://beta.example{path}"), "{query}");
        }
    }

    #[test]
    fn everything_else_comes_to_the_front_page() {
        for query in [
            "",
            "next=",
            "next=page",
            "next=//evil.example/",
            "next=/\\evil.example/",
            "next=/%09/evil.example\t",
            "next=%2F%2Fevil.example",
            "next=%2F%5Cevil.example",
            "next=%2F%09%2Fevil.example",
            "next=%2F%0D%0Aset-cookie%3A%20a",
            "next=https://evil.example/",
            "next=https%3A%2F%2Fevil.example%2F",
            "next=javascript:alert(1)",
            "next=/.//evil.example",
            "next=/a/..//evil.example",
        ] {
            assert_eq!(address(query), "https://beta.example/", "{query:?}");
        }
        assert_eq!(address(&format!("next=/{}", "x".repeat(LONGEST))), "https://beta.example/");
    }
}
