//! The clients of `[gate] clients`, with their keys.

use thiserror::Error;
use url::Url;

use super::signed::SigningKey;
use crate::config::gate::SsoClient;
use crate::secret_file::{self, SecretFileError};

/// A shorter key would keep nobody out.
const SHORTEST_KEY: usize = 16;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    /// What names it.
    pub(crate) public_key: String,
    /// What it shares with us.
    pub(crate) key: SigningKey,
    redirect: Url,
}

/// Why there is no such client.
#[derive(Debug, Error)]
#[error("[gate] clients: {0}")]
pub struct KeyError(#[from] SecretFileError);

impl Client {
    /// As it is configured.
    pub(super) fn load(configured: &SsoClient) -> Result<Self, KeyError> {
        let key = SigningKey::new(&secret_file::read_of(&configured.private_key_file, SHORTEST_KEY)?);
        Ok(Self { public_key: configured.public_key.clone(), key, redirect: configured.redirect.clone() })
    }

    /// Whether its users may be sent there: below the address that is configured. The parser has resolved dots by now.
    pub(super) fn may_return_to(&self, address: &Url) -> bool {
        let same_site = address.origin() == self.redirect.origin() && address.username().is_empty();
        same_site && address.password().is_none() && address.path().starts_with(self.redirect.path())
    }

    /// Below what its users come back to.
    pub(super) fn redirect(&self) -> &Url {
        &self.redirect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_go_back_to_the_client_and_nowhere_else() {
        let key = SigningKey::new("k");
        let redirect = "https://app.example/client/".parse().unwrap();
        let client = Client { public_key: "p".to_owned(), key, redirect };
        let may = |address: &str| client.may_return_to(&address.parse().unwrap());
        assert!(may("https://app.example/client/authenticate/?next=%2F"));
        assert!(may("https://app.example:443/client/"));
        for elsewhere in [
            "http://app.example/client/authenticate/",
            "https://app.example:8443/client/authenticate/",
            "https://app.example/client/../other/",
            "https://app.example/other/",
            "https://app.example@evil.example/client/",
            "https://u:p@app.example/client/",
            "https://evil.example/client/",
            "javascript:alert(1)",
        ] {
            assert!(!may(elsewhere), "{elsewhere}");
        }
    }
}
