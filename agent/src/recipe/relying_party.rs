//! The application as relying party: what its logins look like, the ways to give it its credentials, and which of its
//! own answers show that it uses them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::account::{AccountLookup, AccountMade};
use super::content::{Content, WITH_KEY, WITH_SECRET};
use super::key_set::KeySet;
use super::path::{CallbackPath, PathTemplate};
use super::placeholders::Placeholders;
use super::pointer::Pointer;
use super::probe::Probe;
use super::session_end::SessionEnd;
use super::step::{HeaderField, HeaderText, Step};
use super::way::Way;
use super::{AppPath, RecipeError};

/// What may be written for every application. The four addresses are for applications that do not look them up (OpenID Connect Discovery 1.0).
const CLIENT: [&str; 6] =
    ["issuer", "client_id", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"];

/// The application as relying party.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelyingParty {
    /// Where the broker may send browsers back to, below the public URL.
    #[serde(default)]
    pub callback_paths: Vec<CallbackPath>,
    /// How it authenticates at the token endpoint.
    pub client_auth_method: ClientAuthMethod,
    /// Algorithm of its ID tokens.
    pub id_token_alg: IdTokenAlg,
    /// Whether it sends a PKCE challenge.
    pub pkce: bool,
    /// By what it finds a user's account again.
    #[serde(default)]
    pub account_key: AccountKey,
    /// Set if the agent itself is the relying party, in the application's stead; then there is nothing to write.
    pub gate: Option<Gate>,
    /// How it is given its credentials; configuration picks one, or else it is the first.
    #[serde(default)]
    pub ways: Vec<Way>,
    /// What shows that the running application uses them; all must hold.
    #[serde(default)]
    pub proof: Proofs,
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
    /// Which account it would take for a user, in its own order.
    #[serde(default)]
    pub accounts: Vec<AccountLookup>,
    /// What it does for a user without an account.
    pub account_made: Option<AccountMade>,
}

/// The values of an order that the steps of [`RelyingParty::session_end`] may use.
pub const ORDER_VALUES: [&str; 3] = ["subject", "session_id", "username"];

/// What shows that the running application uses the credentials.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "OneOrMore")]
pub struct Proofs(pub Vec<Proof>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Box<Proof>),
    More(Vec<Proof>),
}

/// A GET at the application whose answer names the credentials in use.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "WrittenProof")]
pub struct Proof {
    /// What to ask, without any user's cookies.
    pub request: Step,
    /// Where to look in the JSON answer.
    pub pointer: Pointer,
    /// What one of the values there must be; may be a placeholder.
    pub equals: Content,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProof {
    path: PathTemplate,
    #[serde(default)]
    headers: BTreeMap<HeaderField, HeaderText>,
    #[serde(default)]
    query: BTreeMap<String, String>,
    pointer: Pointer,
    equals: Content,
}

/// By what an application finds a user's account again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKey {
    /// By the subject, as OpenID Connect Core 5.7 demands.
    #[default]
    Subject,
    /// By the address: whoever may claim an address gets its account.
    Email,
    /// By the name.
    Username,
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
    pub(super) fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        let callbacks = if self.gate.is_some() { 0..=8 } else { 1..=8 };
        if !callbacks.contains(&self.callback_paths.len()) {
            return Err(RecipeError::Incomplete("relying_party needs 1 to 8 callback_paths"));
        }
        if self.post_logout_paths.len() > 8 {
            return Err(RecipeError::Incomplete("relying_party may have 8 post_logout_paths"));
        }
        self.check_ways(parameters)?;
        self.proof.0.iter().try_for_each(|proof| proof.check(parameters))?;
        self.probe.as_ref().map_or(Ok(()), |probe| probe.check(parameters))?;
        if let Some(session_end) = &self.session_end {
            session_end.check("relying_party.session_end", &parameters.clone().with(&ORDER_VALUES))?;
        }
        self.accounts.iter().try_for_each(|account| account.check(parameters))?;
        self.key_set.as_ref().map_or(Ok(()), |key_set| key_set.check(parameters))
    }

    fn check_ways(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        if self.gate.is_some() && !self.ways.is_empty() {
            return Err(RecipeError::Incomplete("relying_party with a gate writes nothing: leave out its ways"));
        }
        let secret: &[&str] = match self.client_auth_method {
            ClientAuthMethod::ClientSecretBasic
            | ClientAuthMethod::ClientSecretPost
            | ClientAuthMethod::ClientSecretJwt => &WITH_SECRET,
            ClientAuthMethod::PrivateKeyJwt => &WITH_KEY,
            ClientAuthMethod::Tls => &[],
        };
        let known = parameters.clone().with(&CLIENT).with_secret(secret);
        let mut names = BTreeSet::new();
        for way in &self.ways {
            if !names.insert(&way.name) {
                return Err(RecipeError::WayTwice(way.name.clone()));
            }
            way.check(&known)?;
        }
        Ok(())
    }

    /// The way of this name, or the first.
    pub fn way(&self, name: Option<&str>) -> Option<&Way> {
        match name {
            Some(name) => self.ways.iter().find(|way| way.name == name),
            None => self.ways.first(),
        }
    }
}

impl Proof {
    fn check(&self, parameters: &Placeholders<'_>) -> Result<(), RecipeError> {
        const PLACE: &str = "relying_party.proof";
        self.request.check_plain(PLACE, parameters)?;
        // The secret is no answer that an application may give.
        let known = parameters.clone().with(&CLIENT);
        self.equals.check(known.open()).map_err(|source| RecipeError::Placeholder { place: PLACE, source })
    }
}

impl From<OneOrMore> for Proofs {
    fn from(proofs: OneOrMore) -> Self {
        match proofs {
            OneOrMore::One(proof) => Self(vec![*proof]),
            OneOrMore::More(proofs) => Self(proofs),
        }
    }
}

impl From<WrittenProof> for Proof {
    fn from(proof: WrittenProof) -> Self {
        let WrittenProof { path, headers, query, pointer, equals } = proof;
        let request = Step { headers, query, ..Step::get(path) };
        Self { request, pointer, equals }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    fn parse(rest: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&format!(
            "name = 'a'\ntitle = 'A'\ndescription = ''\n[relying_party]\ncallback_paths = ['/cb']\n\
             client_auth_method = 'client_secret_post'\nid_token_alg = 'ES256'\npkce = false\n{rest}"
        ))
    }

    #[test]
    fn a_proof_cannot_ask_for_the_secret() {
        let proof =
            |equals: &str| parse(&format!("[relying_party.proof]\npath = '/'\npointer = ''\nequals = '{equals}'"));
        assert!(matches!(proof("${client_secret}"), Err(RecipeError::Placeholder { .. })));
        assert_eq!(proof("${client_id}").unwrap().relying_party.unwrap().proof.0.len(), 1);
        let both =
            "[[relying_party.proof]]\npath = '/a'\nquery = { b = 'c' }\npointer = '/d'\nequals = 'OIDC'\n".repeat(2);
        assert_eq!(parse(&both).unwrap().relying_party.unwrap().proof.0.len(), 2);
    }

    #[test]
    fn callbacks_have_queries_and_a_gate_has_its_own() {
        let party = parse("").unwrap().relying_party.unwrap();
        assert_eq!((party.account_key, party.gate), (AccountKey::Subject, None));
        let text = "name = 'a'\ntitle = 'A'\ndescription = ''\n[relying_party]\nclient_auth_method = 'tls'\n\
                    id_token_alg = 'ES256'\npkce = false\n";
        let callbacks = "callback_paths = ['/cb?method=a', '/cb?method=b']\naccount_key = 'username'\n";
        Recipe::parse(&format!("{text}{callbacks}")).unwrap();
        Recipe::parse(&format!("{text}gate = 'auth_request'")).unwrap();
        assert!(matches!(Recipe::parse(text), Err(RecipeError::Incomplete(_))));
        let file = "[[relying_party.ways]]\nname = 'w'\ndescription = ''\nfiles = [{ name = 'a', format = 'json', content = {} }]";
        assert!(matches!(
            Recipe::parse(&format!("{text}gate = 'simple_sso'\n{file}")),
            Err(RecipeError::Incomplete(_))
        ));
    }

    #[test]
    fn a_file_has_a_secret_or_a_key_and_never_both() {
        let file = |content: &str| {
            format!(
                "[[relying_party.ways]]\nname = 'w'\ndescription = ''\nfiles = [{{ name = 'a', format = 'json', content = '{content}' }}]"
            )
        };
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
                 [[relying_party.ways]]\nname = 'w'\ndescription = ''\n\
                 files = [{{ name = 'a', format = 'json', content = '{content}' }}]"
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
    fn only_known_keys_and_gates_parse() {
        assert!(parse("account_key = 'name'").is_err());
        assert!(parse("gate = 'saml'").is_err());
    }
}
