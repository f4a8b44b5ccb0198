//! The files of a recipe, filled with one set of credentials. Pure.

use std::fmt;

use homeward_proto::v1::ClientCredentials;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::recipe::relying_party::{CredentialFile, FileFormat};

/// What the application needs for logging in at the broker.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// Issuer.
    pub(crate) issuer: String,
    /// OAuth client id.
    pub(crate) client_id: String,
    /// OAuth client secret.
    pub(crate) client_secret: SecretString,
}

/// One file as it will be.
pub(crate) struct RenderedFile {
    /// Its name in the folder.
    pub(crate) name: String,
    bytes: SecretSlice<u8>,
}

impl From<&ClientCredentials> for Credentials {
    fn from(message: &ClientCredentials) -> Self {
        Self {
            issuer: message.issuer.clone(),
            client_id: message.client_id.clone(),
            client_secret: message.client_secret.as_str().into(),
        }
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

/// Fills every file. The same credentials give the same bytes.
pub(crate) fn render(files: &[CredentialFile], credentials: &Credentials) -> Vec<RenderedFile> {
    let values = [
        ("issuer", credentials.issuer.as_str()),
        ("client_id", credentials.client_id.as_str()),
        ("client_secret", credentials.client_secret.expose_secret()),
    ];
    let render_one = |file: &CredentialFile| {
        let bytes = match file.format {
            FileFormat::Json => format!("{:#}\n", file.content.render(&values)).into_bytes(),
        };
        RenderedFile { name: file.name.clone(), bytes: bytes.into() }
    };
    files.iter().map(render_one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::recipe::Recipe;

    fn credentials(secret: &str) -> Credentials {
        Credentials {
            issuer: "https://login.example".to_owned(),
            client_id: "beta".to_owned(),
            client_secret: secret.into(),
        }
    }

    #[test]
    fn django_allauth_gets_the_providers_setting() {
        let recipe = Recipe::embedded("django-allauth").unwrap().relying_party.unwrap();
        let [file] = render(&recipe.files, &credentials("s3cret")).try_into().unwrap();
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
        let [file] = render(&recipe.files, &credentials(hostile)).try_into().unwrap();
        let content: Value = serde_json::from_slice(file.expose_bytes()).unwrap();
        assert_eq!(content["openid_connect"]["APPS"][0]["secret"], hostile);
        assert_eq!(content["openid_connect"]["APPS"][0]["client_id"], "beta");
        assert!(!format!("{file:?} {:?}", credentials(hostile)).contains("}]}}"));
    }
}
