//! What an agent says of its instance, and what of it may be registered.

use std::str::FromStr;

use homeward_certs::identity::InstanceName;
use url::Url;

use crate::keys::SigningAlgorithm;
use crate::registry::{AccountKey, ClientAuthMethod, LogoutAddresses, PublicJwk};

/// Most callback addresses of one relying party.
const MAX_REDIRECT_URIS: usize = 8;

/// Longest address that is registered, in bytes.
const MAX_URL: usize = 1024;

/// Parameters of authorization responses: a callback that carries one already would be ambiguous (CVE-2026-9689).
pub const RESPONSE_PARAMETERS: [&str; 5] = ["code", "state", "error", "iss", "error_description"];

/// What an agent says of its instance, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// An origin.
    pub public_url: String,
    /// The name people read.
    pub display_name: String,
    /// Callbacks below `public_url`; none if it is no relying party.
    pub redirect_uris: Vec<String>,
    /// Below `public_url`; none if it is no home.
    pub portal_url: Option<String>,
    /// How the application authenticates itself.
    pub auth_method: ClientAuthMethod,
    /// How its ID tokens are signed.
    pub id_token_alg: SigningAlgorithm,
    /// Whether it sends a PKCE challenge.
    pub pkce: bool,
    /// The application's first key, if it authenticates by one.
    pub client_key: Option<PublicJwk>,
    /// By what the application finds the account of a user who comes again.
    pub account_key: AccountKey,
    /// Where it wants to hear of logouts, and where the browser may go afterwards: below `public_url`.
    pub logout: LogoutAddresses,
    /// Where a third party may begin a login: below `public_url`.
    pub initiate_login: Option<String>,
}

impl Profile {
    /// Checks addresses and names: all addresses lie under the instance's own origin, so that an agent can register
    /// nobody else's.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(mut self, name: &InstanceName) -> Result<Self, ProfileError> {
        let origin = crate::config::Issuer::parse(&self.public_url).map_err(|_| ProfileError::PublicUrl)?;
        if self.display_name.is_empty() {
            self.display_name = name.to_string();
        }
        if self.display_name.chars().count() > 64 || !is_readable(&self.display_name) {
            return Err(ProfileError::DisplayName);
        }
        if self.redirect_uris.len() > MAX_REDIRECT_URIS {
            return Err(ProfileError::TooManyRedirectUris);
        }
        let below = |address: &str| {
            Url::from_str(address).ok().filter(|url| {
                address.len() <= MAX_URL
                    && address.bytes().all(|byte| byte.is_ascii_graphic())
                    && url.fragment().is_none()
                    && !address.contains('#')
                    && address.strip_prefix(origin.as_str()).is_some_and(|rest| rest.starts_with('/'))
                    && url.origin().ascii_serialization() == origin.as_str()
            })
        };
        for address in &self.redirect_uris {
            let url = below(address).ok_or(ProfileError::RedirectUri)?;
            if url.query_pairs().any(|(name, _)| RESPONSE_PARAMETERS.contains(&&*name)) {
                return Err(ProfileError::RedirectUri);
            }
        }
        let logout = &self.logout;
        let further = logout.backchannel.iter().chain(&logout.frontchannel).chain(&self.initiate_login);
        if logout.post_logout.len() > MAX_REDIRECT_URIS
            || !further.chain(&logout.post_logout).all(|uri| below(uri).is_some())
        {
            return Err(ProfileError::LogoutUri);
        }
        let portal = self.portal_url.as_deref().map(|address| below(address).filter(|url| url.query().is_none()));
        if portal.is_some_and(|url| url.is_none()) {
            return Err(ProfileError::PortalUrl);
        }
        if self.redirect_uris.is_empty() && self.portal_url.is_none() {
            return Err(ProfileError::NoRole);
        }
        let needs_key = self.auth_method == ClientAuthMethod::PrivateKeyJwt && !self.redirect_uris.is_empty();
        match (needs_key, &self.client_key) {
            (true, None) => return Err(ProfileError::ClientKeyMissing),
            (false, Some(_)) => return Err(ProfileError::ClientKeyUnexpected),
            (true, Some(_)) | (false, None) => {}
        }
        Ok(self)
    }
}

/// Whether nothing in a name is a control character, turns text around or cannot be seen: a name on a page must be what
/// it looks like.
pub fn is_readable(name: &str) -> bool {
    name.chars().all(is_seen)
}

/// Whether a character is what it looks like: no control, no turn of the direction, not invisible.
pub fn is_seen(c: char) -> bool {
    !c.is_control() && !is_invisible(c)
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// What is wrong with a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not an origin.
    #[error("public_url must be https://host[:port] without path (http only for a loopback host)")]
    PublicUrl,
    /// Too long, or not readable.
    #[error("display_name must be at most 64 readable characters")]
    DisplayName,
    /// Not below the instance's own address, or ambiguous.
    #[error(
        "a callback address must lie below public_url, without fragment and without code, state, error or iss in its query"
    )]
    RedirectUri,
    /// More than eight.
    #[error("an instance may register at most 8 callback addresses")]
    TooManyRedirectUris,
    /// Not below the instance's own address.
    #[error("an address for logouts, or for beginning a login, must lie below public_url, without fragment; at most 8")]
    LogoutUri,
    /// Not below the instance's own address.
    #[error("the portal's address must lie below public_url, without query")]
    PortalUrl,
    /// Nothing to register.
    #[error("an instance must be a relying party, a home, or both: configure [relying_party] or [home]")]
    NoRole,
    /// Nothing to verify assertions with.
    #[error("private_key_jwt needs the application's public key: send client_key with it")]
    ClientKeyMissing,
    /// A key that nobody would use.
    #[error("client_key goes with private_key_jwt, of a relying party only: send it with that or not at all")]
    ClientKeyUnexpected,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile {
            public_url: "https://beta.example".into(),
            display_name: String::new(),
            redirect_uris: vec!["https://beta.example/cb".into()],
            portal_url: Some("https://beta.example/homeward/login".into()),
            auth_method: ClientAuthMethod::ClientSecretBasic,
            id_token_alg: SigningAlgorithm::Rs256,
            pkce: true,
            client_key: None,
            account_key: AccountKey::Subject,
            logout: LogoutAddresses::default(),
            initiate_login: None,
        }
    }

    fn check(change: impl FnOnce(&mut Profile)) -> Result<Profile, ProfileError> {
        let mut profile = profile();
        change(&mut profile);
        profile.check(&"beta".parse().unwrap())
    }

    #[test]
    fn name_stands_in_for_a_missing_display_name() {
        assert_eq!(check(|_| {}).unwrap().display_name, "beta");
    }

    #[test]
    fn callbacks_with_a_query_of_their_own_are_kept() {
        assert!(check(|p| p.redirect_uris = vec!["https://beta.example/api?method=get".into()]).is_ok());
    }

    #[test]
    fn foreign_and_hostile_callbacks_are_refused() {
        for bad in [
            "https://evil.example/cb",
            "https://beta.example.evil/cb",
            "https://beta.example@evil.example/cb",
            "https://beta.example:444/cb",
            "http://beta.example/cb",
            "https://BETA.example/cb",
            "https://beta.example/cb#x",
            "https://beta.example/cb#",
            "https://beta.example/c b",
            "https://beta.example/cb\0",
            "https://beta.example/cb\r\nSet-Cookie: x",
            "https://beta.example/cb?code=1",
            "https://beta.example/cb?a=1&%73tate=1",
            "https://beta.example/cb?iss=x",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "/cb",
            "*",
            "https://beta.example",
            "",
        ] {
            let refused = check(|p| p.redirect_uris = vec![bad.into()]);
            assert_eq!(refused.err(), Some(ProfileError::RedirectUri), "{bad:?}");
        }
    }

    #[test]
    fn other_mistakes_are_named() {
        assert_eq!(check(|p| p.public_url = "https://beta.example/".into()), Err(ProfileError::PublicUrl));
        assert_eq!(check(|p| p.display_name = "x".repeat(65)), Err(ProfileError::DisplayName));
        assert_eq!(check(|p| p.display_name = "a\u{202e}b".into()), Err(ProfileError::DisplayName));
        assert_eq!(check(|p| p.display_name = "a\x1b[2J".into()), Err(ProfileError::DisplayName));
        let many = vec!["https://beta.example/cb".to_owned(); 9];
        assert_eq!(check(|p| p.redirect_uris = many), Err(ProfileError::TooManyRedirectUris));
        let portal = Some("https://alpha.example/homeward/".to_owned());
        assert_eq!(check(|p| p.portal_url = portal), Err(ProfileError::PortalUrl));
        let key = PublicJwk::read(
            br#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                 "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        );
        let key = key.ok();
        assert_eq!(check(|p| p.client_key = key.clone()), Err(ProfileError::ClientKeyUnexpected));
        let by_key = ClientAuthMethod::PrivateKeyJwt;
        assert_eq!(check(|p| p.auth_method = by_key), Err(ProfileError::ClientKeyMissing));
        assert!(check(|p| (p.auth_method, p.client_key) = (by_key, key.clone())).is_ok());
        let nothing = check(|p| (p.redirect_uris, p.portal_url) = (Vec::new(), None));
        assert_eq!(nothing, Err(ProfileError::NoRole));
    }
}
