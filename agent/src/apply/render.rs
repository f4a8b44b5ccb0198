//! The files of a recipe, filled with one set of credentials. Pure.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use thiserror::Error;

use super::client_key::{ClientKey, ClientKeyError};
use super::merge::{self, Unwritable};
use crate::recipe::way::{CredentialFile, FileFormat, MergeFormat};

/// What the application needs for logging in at the broker.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// Issuer.
    pub(crate) issuer: String,
    /// Its endpoints.
    pub(crate) addresses: Addresses,
    /// OAuth client id.
    pub(crate) client_id: String,
    /// Version of the credential.
    pub(crate) secret_version: u64,
    /// How it shows that it is this client.
    pub(crate) credential: Credential,
}

/// How an application shows that it is a client.
#[derive(Debug)]
pub(crate) enum Credential {
    /// OAuth client secret.
    Secret(SecretString),
    /// A private key, in the two forms that applications read.
    PrivateKey {
        /// PKCS#8.
        pem: SecretString,
        /// In one line.
        jwk: SecretString,
    },
    /// By the instance certificate, which is nothing that a file is filled with.
    Certificate,
}

/// Where the broker's endpoints are, by their names in its metadata (OpenID Connect Discovery 1.0 3), for applications
/// that do not look them up.
#[derive(Debug)]
pub(crate) struct Addresses([(&'static str, String); 4]);

/// One file as it will be.
pub(crate) struct RenderedFile {
    /// Its name in the folder.
    pub(crate) name: String,
    bytes: SecretSlice<u8>,
}

/// A format that cannot hold what the recipe has for it.
#[derive(Debug, Error)]
#[error("the recipe's file {name}: {source}")]
pub(crate) struct RenderError {
    name: String,
    #[source]
    source: Unwritable,
}

impl Credentials {
    /// What stands for the placeholders of the client.
    pub(crate) fn values(&self) -> Vec<(&str, &str)> {
        let mut values = self.credential.values();
        values.extend([("issuer", self.issuer.as_str()), ("client_id", self.client_id.as_str())]);
        values.extend(self.addresses.values());
        values
    }
}

impl Credential {
    /// A key's two forms.
    pub(crate) fn of_key(key: &ClientKey) -> Result<Self, ClientKeyError> {
        Ok(Self::PrivateKey { pem: key.pem(), jwk: key.private_jwk()? })
    }

    /// What stands for the credential's own placeholders.
    fn values(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Secret(secret) => vec![("client_secret", secret.expose_secret())],
            Self::PrivateKey { pem, jwk } => {
                vec![("client_private_key_pem", pem.expose_secret()), ("client_private_key_jwk", jwk.expose_secret())]
            }
            Self::Certificate => Vec::new(),
        }
    }

    /// Takes it out of a text that goes to the log.
    pub(crate) fn redact(&self, mut text: String) -> String {
        for (_, secret) in self.values() {
            // By line, and by JSON value: a program that prints its file prints it escaped.
            let pieces = secret.split(['\n', '"']);
            for piece in pieces.filter(|piece| piece.len() > 16 || (*piece == secret && !piece.is_empty())) {
                text = text.replace(piece, "(secret)");
            }
        }
        text
    }
}

impl Addresses {
    /// Of the broker with this issuer.
    pub(crate) fn of(issuer: &str) -> Self {
        let below = |path: &str| format!("{issuer}{path}");
        Self([
            ("authorization_endpoint", below("/authorize")),
            ("token_endpoint", below("/token")),
            ("userinfo_endpoint", below("/userinfo")),
            ("jwks_uri", below("/jwks")),
        ])
    }

    /// By name.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, address)| (*name, address.as_str()))
    }
}

impl RenderedFile {
    /// What is in it: only for writing and comparing.
    pub(crate) fn expose_bytes(&self) -> &[u8] {
        self.bytes.expose_secret()
    }
}

impl fmt::Debug for RenderedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RenderedFile({})", self.name)
    }
}

/// Fills every file. The same values give the same bytes.
pub(crate) fn render(files: &[CredentialFile], values: &[(&str, &str)]) -> Result<Vec<RenderedFile>, RenderError> {
    let render_one = |file: &CredentialFile| {
        let content = file.content.render(values);
        let text = match file.format {
            FileFormat::Json => Ok(format!("{content:#}\n")),
            FileFormat::Env => merge::print(MergeFormat::Env, &content),
            FileFormat::Toml => merge::print(MergeFormat::Toml, &content),
        };
        let text = text.map_err(|source| RenderError { name: file.name.clone(), source })?;
        Ok(RenderedFile { name: file.name.clone(), bytes: text.into_bytes().into() })
    };
    files.iter().map(render_one).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::recipe::Recipe;
    use crate::recipe::relying_party::RelyingParty;
    use crate::recipe::way::Target;

    pub(crate) fn files(recipe: &RelyingParty) -> &[CredentialFile] {
        match &recipe.ways[0].target {
            Target::Files(files) => files,
            other => panic!("{other:?}"),
        }
    }

    fn credentials(secret: &str) -> Credentials {
        Credentials {
            issuer: "https://login.example".to_owned(),
            addresses: Addresses::of("https://login.example"),
            client_id: "beta".to_owned(),
            secret_version: 1,
            credential: Credential::Secret(secret.into()),
        }
    }

    #[test]
    fn django_allauth_gets_the_providers_setting() {
        let recipe = Recipe::embedded("django-allauth").unwrap().relying_party.unwrap();
        let [file] = render(files(&recipe), &credentials("s3cret").values()).unwrap().try_into().unwrap();
        assert_eq!(file.name, "homeward_allauth.json");
        let content: Value = serde_json::from_slice(file.expose_bytes()).unwrap();
        assert_eq!(
            content,
            json!({"openid_connect": {"OAUTH_PKCE_ENABLED": true, "APPS": [{
                "provider_id": "homeward", "name": "Homeward", "client_id": "beta", "secret": "s3cret",
                "settings": {
                    "server_url": "https://login.example",
                    "scope": ["openid", "profile", "email"],
                    "token_auth_method": "client_secret_basic",
                },
            }]}})
        );
    }

    #[test]
    fn a_hostile_secret_changes_no_other_value_and_is_never_printed() {
        let recipe = Recipe::embedded("django-allauth").unwrap().relying_party.unwrap();
        let hostile = "\"}]}}\n{\"${client_id}";
        let [file] = render(files(&recipe), &credentials(hostile).values()).unwrap().try_into().unwrap();
        let content: Value = serde_json::from_slice(file.expose_bytes()).unwrap();
        assert_eq!(content["openid_connect"]["APPS"][0]["secret"], hostile);
        assert_eq!(content["openid_connect"]["APPS"][0]["client_id"], "beta");
        assert!(!format!("{file:?} {:?}", credentials(hostile)).contains("}]}}"));
    }

    #[test]
    fn credentials_are_taken_out_of_what_a_reload_prints() {
        let secret = Credential::Secret("canary".into());
        assert_eq!(secret.redact("read canary, ok".to_owned()), "read (secret), ok");
        let key = Credential::PrivateKey {
            pem: "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n".into(),
            jwk: r#"{"d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#.into(),
        };
        let printed = r#"{"key": "MIGHAgEAMBMGByqGSM49AgEG\n", "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#;
        let redacted = key.redact(printed.to_owned());
        assert!(!redacted.contains("MIGH") && !redacted.contains("870M"), "{redacted}");
        assert_eq!(Credential::Secret("".into()).redact("fine".to_owned()), "fine");
    }
}
