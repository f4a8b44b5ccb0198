//! Home method `simple_sso`: the application is a server of django-simple-sso, and the agent is one of its clients. Users
//! log in on the application's own page.
//!
//! The server tells neither when nor how somebody logged in, and knows users by their names only: a name that is given to
//! somebody else is that of another user no more.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use homeward_proto::v1::VerifiedIdentity;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use thiserror::Error;
use time::OffsetDateTime;
use url::{Url, form_urlencoded};

use super::elsewhere::{ElsewhereError, NotOpened};
use super::session::Answers;
use super::vouching;
use crate::config::Config;
use crate::config::home::HomeMethod;
use crate::gate::simple_sso::signed::{SignatureRefused, SigningKey};
use crate::provider::wire::{Wire, WireError};
use crate::random::{self, NoRandomness};
use crate::recipe::home::Home;
use crate::recipe::provider::CLAIMS;
use crate::secret_file;

/// How old an answer of the server may be, in seconds.
const ANSWER_AGE: i64 = 60;
/// And an access token, which the browser brings: as long as the server knows it.
const TOKEN_AGE: i64 = 300;

/// Less keeps nobody out.
const SHORTEST_KEY: usize = 16;

/// The server.
#[derive(Debug)]
pub(crate) struct SimpleSsoHome {
    /// The way there.
    pub(super) wire: Wire,
    /// Where its addresses begin.
    pub(super) server: Url,
    /// What names the agent there.
    pub(super) public_key: String,
    /// What the agent shares with it.
    pub(super) key: SigningKey,
    /// Where users come back to.
    pub(super) callback: Url,
    /// Where in what it says the user is.
    pub(super) recipe: Home,
}

/// Why nobody logs in there.
#[derive(Debug, Error)]
pub(crate) enum ServerError {
    /// It cannot be asked.
    #[error("the server of django-simple-sso: {0}")]
    Unreachable(#[from] WireError),
    /// It refuses.
    #[error(
        "the server of django-simple-sso answers with status {status}: {said:?}; check that its Consumer has the keys of [home.simple_sso], and the clocks"
    )]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words, as far as they are short and plain.
        said: String,
    },
    /// It answers, but not so.
    #[error("the server of django-simple-sso answers what its protocol does not know")]
    Malformed,
    /// Not its signature.
    #[error("what should be from the server of django-simple-sso is not: {0}")]
    Signature(#[from] SignatureRefused),
    /// The account may not log in.
    #[error("the account is not active")]
    Disabled,
    /// An address that is none.
    #[error("an address is none: {0}")]
    Address(#[from] url::ParseError),
    /// No randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

impl SimpleSsoHome {
    /// As configured.
    pub(super) fn open(config: &Config) -> Result<Self, NotOpened> {
        let home = config.recipe.home.as_ref().zip(config.home.as_ref());
        let found = home.and_then(|(recipe, home)| recipe.simple_sso.as_ref().zip(home.simple_sso.as_ref()));
        let (recipe, said) = found.ok_or(NotOpened::Incomplete)?;
        let key = secret_file::read_of(&said.private_key_file, SHORTEST_KEY).map_err(NotOpened::KeyFile)?;
        let origin = config.public_url.origin();
        let below = |path: &str| Url::parse(&format!("{origin}{path}")).map_err(|_| NotOpened::Incomplete);
        Ok(Self {
            wire: Wire::new(None)?.beside(&config.public_url, &config.app_url)?,
            server: below(said.server_path.as_ref().unwrap_or(&recipe.server_path).as_str())?,
            public_key: said.public_key.clone(),
            key: SigningKey::new(&key),
            callback: below(&format!("{}oidc/callback", config.portal.path))?,
            recipe: recipe.as_home(),
        })
    }

    /// Where the browser goes, and the state that it comes back with.
    pub(super) async fn begin(&self, now: OffsetDateTime) -> Result<(Url, String), ServerError> {
        let state = URL_SAFE_NO_PAD.encode(random::bytes::<32>()?);
        let mut redirect_to = self.callback.clone();
        redirect_to.query_pairs_mut().append_pair("state", &state);
        let answer = self.ask("request-token/", &json!({ "redirect_to": redirect_to.as_str() }), now).await?;
        let token = answer.get("request_token").and_then(Value::as_str).ok_or(ServerError::Malformed)?;
        let mut address = self.server.join("authorize/")?;
        address.query_pairs_mut().append_pair("token", token);
        Ok((address, state))
    }

    /// Who has logged in there.
    pub(super) async fn finish(&self, query: &str, now: OffsetDateTime) -> Result<VerifiedIdentity, ElsewhereError> {
        let user = self.user(query, now).await?;
        // Only a true one is: the server says so of everybody who may log in.
        if user.get("is_active").and_then(Value::as_bool) != Some(true) {
            return Err(ServerError::Disabled.into());
        }
        let answers = Answers::new(&self.recipe, BTreeMap::from([(CLAIMS.to_owned(), user)]), now);
        Ok(vouching::identity(&self.recipe, &answers, HomeMethod::SimpleSso, now)?)
    }

    async fn user(&self, query: &str, now: OffsetDateTime) -> Result<Value, ServerError> {
        let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "access_token");
        let (_, token) = token.ok_or(ServerError::Malformed)?;
        let payload = self.key.open_within(&token, now, TOKEN_AGE)?;
        let access_token = URL_SAFE_NO_PAD.decode(payload).map_err(|_| ServerError::Malformed)?;
        let access_token: String = serde_json::from_slice(&access_token).map_err(|_| ServerError::Malformed)?;
        self.ask("verify/", &json!({ "access_token": access_token }), now).await
    }

    async fn ask(&self, path: &str, what: &Value, now: OffsetDateTime) -> Result<Value, ServerError> {
        let address = self.server.join(path)?;
        let request = Request::post(address.as_str())
            .header("x-services-public-key", self.public_key.as_str())
            .header(CONTENT_TYPE, "application/json")
            .body(self.key.sign(&what.to_string(), now).into_bytes());
        let answer = self.wire.send(request.map_err(|_| ServerError::Malformed)?).await?;
        let (status, text) = (answer.status().as_u16(), String::from_utf8_lossy(answer.body()));
        if status != 200 {
            let said = text.chars().filter(|c| !c.is_control()).take(100).collect();
            return Err(ServerError::Refused { status, said });
        }
        let payload = self.key.open_within(text.trim_end(), now, ANSWER_AGE)?;
        serde_json::from_str(payload).ok().filter(Value::is_object).ok_or(ServerError::Malformed)
    }
}

impl From<NoRandomness> for ServerError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

#[cfg(test)]
pub(super) mod tests;
