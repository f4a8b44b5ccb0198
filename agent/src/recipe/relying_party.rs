//! The application as relying party: what its logins look like, which files hold its credentials, and which of its own
//! answers shows that it uses them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::content::Content;
use super::key_set::KeySet;
use super::pointer::Pointer;
use super::probe::Probe;
use super::session_end::SessionEnd;
use super::{AppPath, RecipeError};

/// What may stand in the files of an application that has a secret.
const WITH_SECRET: [&str; 3] = ["issuer", "client_id", "client_secret"];
/// Of one that shows its certificate at the TLS handshake.
const WITH_NEITHER: [&str; 2] = ["issuer", "client_id"];
/// And of one that has a key instead.
const WITH_KEY: [&str; 4] = ["issuer", "client_id", "client_private_key_pem", "client_private_key_jwk"];

/// The application as relying party.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelyingParty {
    /// Where the broker may send browsers back to, below the public URL.
    #[serde(default)]
    pub callback_paths: Vec<AppPath>,
    /// How it authenticates at the token endpoint.
    pub client_auth_method: ClientAuthMethod,
    /// Algorithm of its ID tokens.
    pub id_token_alg: IdTokenAlg,
    /// Whether it sends a PKCE challenge.
    pub pkce: bool,
    /// Set if the agent itself is the relying party, in the application's stead; then there is nothing to write.
    pub gate: Option<Gate>,
    /// The files, written together.
    #[serde(default)]
    pub files: Vec<CredentialFile>,
    /// What shows that the running application uses them.
    pub proof: Option<Proof>,
    /// What shows by which credential it authenticates at the broker.
    pub probe: Option<Probe>,
    /// What shows that it can verify signatures with a new key.
    pub key_set: Option<KeySet>,
    /// Where it takes logout tokens (OpenID Connect Back-Channel Logout 1.0).
    pub backchannel_logout_path: Option<AppPath>,
    /// What the browser loads at a logout (OpenID Connect Front-Channel Logout 1.0).
    pub frontchannel_logout_path: Option<AppPath>,
    /// Where the browser may go after a logout that it began (OpenID Connect RP-Initiated Logout 1.0).
    #[serde(default)]
    pub post_logout_paths: Vec<AppPath>,
    /// Where a third party may begin a login (OpenID Connect Core 4).
    pub initiate_login_path: Option<AppPath>,
    /// How the agent ends sessions here, for an application that takes no logout tokens.
    pub session_end: Option<SessionEnd>,
}

/// The values of an order that the steps of [`RelyingParty::session_end`] may use.
pub const ORDER_VALUES: [&str; 3] = ["subject", "session_id", "username"];

/// One file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// Its name in the folder.
    pub name: String,
    /// How it is written.
    pub format: FileFormat,
    /// What is in it.
    pub content: Content,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// One JSON document.
    Json,
}

/// A GET at the application whose answer names the credentials in use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Where to ask, without any user's cookies.
    pub path: AppPath,
    /// Where to look in the JSON answer.
    pub pointer: Pointer,
    /// What one of the values there must be; may be a placeholder.
    pub equals: Content,
}

/// What the agent speaks to the application in the broker's stead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// nginx's `auth_request`.
    AuthRequest,
    /// The server of django-simple-sso.
    SimpleSso,
}

/// OpenID Connect Core 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMethod {
    /// In the Authorization header.
    ClientSecretBasic,
    /// In the form.
    ClientSecretPost,
    /// The secret signs an assertion (OpenID Connect Core 9).
    ClientSecretJwt,
    /// No secret: a key of the application's own signs an assertion (RFC 7523 2.2). The agent makes the key.
    PrivateKeyJwt,
    /// No secret: the instance certificate, at the broker's mTLS address (RFC 8705 2.1).
    Tls,
}

/// RFC 7518 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum IdTokenAlg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

impl RelyingParty {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        let callbacks = if self.gate.is_some() { 0..=8 } else { 1..=8 };
        if !callbacks.contains(&self.callback_paths.len()) {
            return Err(RecipeError::Incomplete("relying_party needs 1 to 8 callback_paths"));
        }
        if self.post_logout_paths.len() > 8 {
            return Err(RecipeError::Incomplete("relying_party may have 8 post_logout_paths"));
        }
        let placeholder = |place| move |source| RecipeError::Placeholder { place, source };
        let mut names = BTreeSet::new();
        for file in &self.files {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if file.name.is_empty()
                || file.name.starts_with('.')
                || !file.name.chars().all(plain)
                || !names.insert(&file.name)
            {
                return Err(RecipeError::FileName(file.name.clone()));
            }
            let known: &[&str] = match self.client_auth_method {
                ClientAuthMethod::ClientSecretBasic
                | ClientAuthMethod::ClientSecretPost
                | ClientAuthMethod::ClientSecretJwt => &WITH_SECRET,
                ClientAuthMethod::PrivateKeyJwt => &WITH_KEY,
                ClientAuthMethod::Tls => &WITH_NEITHER,
            };
            file.content.check(known).map_err(placeholder("relying_party.files"))?;
        }
        if let Some(proof) = &self.proof {
            // The secret is no answer that an application may give to everyone.
            proof.equals.check(&["issuer", "client_id"]).map_err(placeholder("relying_party.proof"))?;
        }
        self.probe.as_ref().map_or(Ok(()), Probe::check)?;
        if let Some(session_end) = &self.session_end {
            session_end.check("relying_party.session_end", &ORDER_VALUES)?;
        }
        self.key_set.as_ref().map_or(Ok(()), KeySet::check)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    fn parse(files: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&format!(
            "name = 'a'\ntitle = 'A'\ndescription = ''\n[relying_party]\ncallback_paths = ['/cb']\n\
             client_auth_method = 'client_secret_post'\nid_token_alg = 'ES256'\npkce = false\n{files}"
        ))
    }

    #[test]
    fn a_file_name_cannot_leave_the_folder() {
        for name in ["../x", "a/b", "", ".hidden", "..", "a b", "/etc/passwd"] {
            let text = format!("[[relying_party.files]]\nname = '{name}'\nformat = 'json'\ncontent = {{}}");
            assert!(matches!(parse(&text), Err(RecipeError::FileName(_))), "{name:?}");
        }
        let twice = "[[relying_party.files]]\nname = 'a'\nformat = 'json'\ncontent = {}\n".repeat(2);
        assert!(matches!(parse(&twice), Err(RecipeError::FileName(_))));
    }

    #[test]
    fn a_proof_cannot_ask_for_the_secret() {
        let proof =
            |equals: &str| parse(&format!("[relying_party.proof]\npath = '/'\npointer = ''\nequals = '{equals}'"));
        assert!(matches!(proof("${client_secret}"), Err(RecipeError::Placeholder { .. })));
        proof("${client_id}").unwrap();
    }

    #[test]
    fn a_file_has_a_secret_or_a_key_and_never_both() {
        let file =
            |content: &str| format!("[[relying_party.files]]\nname = 'a'\nformat = 'json'\ncontent = '{content}'");
        parse(&file("${client_secret}")).unwrap();
        for content in ["${client_private_key_pem}", "${client_private_key_jwk}"] {
            assert!(matches!(parse(&file(content)), Err(RecipeError::Placeholder { .. })), "{content}");
        }
    }

    #[test]
    fn with_a_certificate_there_is_nothing_secret_to_write() {
        let file = |content: &str| {
            let text = format!(
                "name = 'a'\ntitle = 'A'\ndescription = ''\n[relying_party]\ncallback_paths = ['/cb']\n\
                 client_auth_method = 'tls'\nid_token_alg = 'ES256'\npkce = true\n\
                 [[relying_party.files]]\nname = 'a'\nformat = 'json'\ncontent = '{content}'"
            );
            Recipe::parse(&text)
        };
        file("${client_id}").unwrap();
        assert!(matches!(file("${client_secret}"), Err(RecipeError::Placeholder { .. })));
        assert!(parse("").unwrap().relying_party.unwrap().backchannel_logout_path.is_none());
        let many = "'/a', ".repeat(9);
        assert!(matches!(parse(&format!("post_logout_paths = [{many}]")), Err(RecipeError::Incomplete(_))));
    }

    #[test]
    fn proofs_of_the_key_set_have_what_they_need() {
        let key_set = |lines: &str| parse(&format!("[relying_party.key_set]\n{lines}"));
        key_set("proof = 'no_cache'").unwrap();
        key_set("proof = 'shown'\npath = '/keys'\npointer = '/*/kid'").unwrap();
        key_set("proof = 'warmed'\nwarm = [{ method = 'POST', path = '/refresh' }]").unwrap();
        for bad in
            ["proof = 'shown'", "proof = 'warmed'", "proof = 'no_cache'\nwarm = [{ method = 'GET', path = '/' }]"]
        {
            assert!(matches!(key_set(bad), Err(RecipeError::KeySet(_))), "{bad}");
        }
    }

    #[test]
    fn probes_type_nothing_and_judge_nothing() {
        let probe = |steps: &str| parse(&format!("[relying_party.probe]\nsteps = [{steps}]"));
        probe("{ method = 'GET', path = '/login' }").unwrap();
        assert!(matches!(probe(""), Err(RecipeError::Incomplete(_))));
        let typed = "{ method = 'POST', path = '/login', json = '${password}' }";
        assert!(matches!(probe(typed), Err(RecipeError::Placeholder { .. })));
        let judged = "{ method = 'GET', path = '/', outcomes = [{ when = { status = 200 }, outcome = 'ok' }] }";
        assert!(matches!(probe(judged), Err(RecipeError::OutcomesThere(_))));
    }

    #[test]
    fn only_known_methods_algorithms_and_formats_parse() {
        assert!(parse("[[relying_party.files]]\nname = 'a'\nformat = 'shell'\ncontent = {}").is_err());
        parse("").unwrap();
    }
}
