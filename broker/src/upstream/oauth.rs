//! OAuth 2.0 servers that are no OpenID providers: who the user is stands in a document of their own. When and how the
//! user has proven it is not known, and nothing is made up.

use serde_json::{Map, Value};
use tracing::info;

use crate::config::Issuer;
use crate::registry::{OauthDialect, Upstream, UpstreamProtocol};
use crate::upstream::error::UpstreamError;
use crate::upstream::exchange::{self, Party, Tokens};
use crate::upstream::person::{self, Proof};
use crate::upstream::waiting::Waiting;
use crate::upstream::{Errand, Upstreams, Why, Word};

/// Where DingTalk wants the access token.
const DINGTALK_HEADER: &str = "x-acs-dingtalk-access-token";

/// The broker as a client of this server.
pub(super) fn party<'a>((upstream, broker): (&'a Upstream, &Issuer), client_secret: &'a str) -> Party<'a> {
    let (authorization_url, token_url) = match &upstream.protocol {
        UpstreamProtocol::Oauth { authorization_url, token_url, .. } => {
            (authorization_url.as_str(), token_url.as_str())
        }
        UpstreamProtocol::OpenId { .. } => ("", ""),
    };
    Party {
        client_id: &upstream.client_id,
        client_secret,
        callback: upstream.callback(broker),
        authorization_url,
        token_url,
        // What nearly all of them take, and GitHub's documentation says.
        secret_in_body: true,
    }
}

/// What is asked for beside RFC 6749: DingTalk shows nothing without `prompt`, GitHub knows `login`.
pub(super) fn further(upstream: &Upstream, errand: &Errand<'_>) -> Vec<(&'static str, String)> {
    match (dialect(upstream), errand.login_hint) {
        (OauthDialect::Dingtalk, _) => vec![("prompt", "consent".to_owned())],
        (OauthDialect::Github, Some(hint)) => vec![("login", hint.to_owned())],
        (OauthDialect::Github | OauthDialect::Plain, _) => Vec::new(),
    }
}

fn dialect(upstream: &Upstream) -> OauthDialect {
    match &upstream.protocol {
        UpstreamProtocol::Oauth { dialect, .. } => *dialect,
        UpstreamProtocol::OpenId { .. } => OauthDialect::Plain,
    }
}

impl Upstreams {
    /// The user whom the server names by this code.
    ///
    /// # Errors
    /// The rule that its word breaks, or why there is none.
    pub(super) async fn hear_oauth(
        &self,
        upstream: &Upstream,
        (secret, waiting): (&str, &Waiting),
        code: &str,
    ) -> Result<Word, UpstreamError> {
        let UpstreamProtocol::Oauth { user_url, dialect, .. } = &upstream.protocol else {
            return Err(UpstreamError::NotKnown);
        };
        let outbound = self.providers.outbound(upstream);
        let party = party((upstream, &self.issuer), secret);
        let (tokens, header) = match dialect {
            OauthDialect::Dingtalk => (party.exchange_dingtalk(code, &outbound).await?, Some(DINGTALK_HEADER)),
            OauthDialect::Plain | OauthDialect::Github => {
                (party.exchange(code, &waiting.verifier, &outbound).await?, None)
            }
        };
        let Tokens { access_token, id_token: _ } = tokens;
        let mut user = exchange::object(&exchange::fetch(user_url, &access_token, header, &outbound).await?)?;
        if *dialect == OauthDialect::Github {
            // What a profile shows is what its user has typed; which addresses are verified stands elsewhere.
            let emails = exchange::fetch(&format!("{user_url}/emails"), &access_token, None, &outbound).await;
            put_email(&mut user, emails.ok().and_then(|answer| serde_json::from_slice(answer.body()).ok()));
        }
        let user = Value::Object(user);
        if let Some(denial) = person::denial(upstream, &user) {
            info!(home = %upstream.name, ?denial, "a user may not log in through this home");
            return Ok(Word::Nobody(Why::Denied));
        }
        Ok(Word::User(person::identity(upstream, &user, None, Proof::default())?))
    }
}

/// The primary address that GitHub has verified, or none.
fn put_email(user: &mut Map<String, Value>, emails: Option<Vec<Value>>) {
    let is = |email: &Value, name: &str| email.get(name).and_then(Value::as_bool) == Some(true);
    let emails = emails.unwrap_or_default();
    let primary = emails.iter().find(|email| is(email, "primary") && is(email, "verified"));
    let address = primary.and_then(|email| email.get("email")).cloned().unwrap_or_default();
    user.insert("email_verified".to_owned(), address.is_string().into());
    user.insert("email".to_owned(), address);
}
