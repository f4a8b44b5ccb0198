//! The clients of `[gate] clients`, with their keys.

use std::path::PathBuf;

use thiserror::Error;
use url::Url;
use zeroize::Zeroizing;

use super::signed::SigningKey;
use crate::config::gate::SsoClient;

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
pub enum KeyError {
    /// No file.
    #[error("[gate] clients: cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Nothing in it that would keep anybody out.
    #[error("[gate] clients: {} must hold the client's private key, of at least 16 characters", .0.display())]
    TooShort(PathBuf),
}

impl Client {
    /// As it is configured.
    pub(super) fn load(configured: &SsoClient) -> Result<Self, KeyError> {
        let path = || configured.private_key_file.clone();
        let text = std::fs::read_to_string(&configured.private_key_file);
        let text = Zeroizing::new(text.map_err(|source| KeyError::Unreadable { path: path(), source })?);
        if text.trim().len() < 16 {
            return Err(KeyError::TooShort(path()));
        }
        let key = SigningKey::new(text.trim());
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
