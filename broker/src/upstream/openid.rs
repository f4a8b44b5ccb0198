//! What an OpenID provider is asked, and what becomes of its answer.

use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use tracing::info;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::registry::{Upstream, UpstreamProtocol};
use crate::upstream::error::{IdTokenRule, UpstreamError, UserRule};
use crate::upstream::exchange::{self, Party, Tokens};
use crate::upstream::id_token::{self, Expected, Vouched};
use crate::upstream::metadata::Metadata;
use crate::upstream::person::{self, Proof};
use crate::upstream::provider::Provider;
use crate::upstream::waiting::Waiting;
use crate::upstream::{Errand, Upstreams, Why, Word};

/// The broker as a client of this provider.
pub(super) fn party<'a>(
    (upstream, broker): (&'a Upstream, &Issuer),
    metadata: &'a Metadata,
    client_secret: &'a str,
) -> Party<'a> {
    Party {
        client_id: &upstream.client_id,
        client_secret,
        callback: upstream.callback(broker),
        authorization_url: &metadata.authorization_endpoint,
        token_url: &metadata.token_endpoint,
        secret_in_body: metadata.secret_in_body,
    }
}

/// `openid`, and what ops have named.
pub(super) fn scopes(upstream: &Upstream) -> Vec<String> {
    let further = upstream.scopes.iter().filter(|scope| *scope != "openid").cloned();
    std::iter::once("openid".to_owned()).chain(further).collect()
}

/// What the relying party demands goes on to the provider; whether it was met is judged by what comes back.
pub(super) fn further(nonce: &str, errand: &Errand<'_>) -> Vec<(&'static str, String)> {
    let mut further = vec![("nonce", nonce.to_owned())];
    let mut add = |name, value: Option<String>| further.extend(value.map(|value| (name, value)));
    add("prompt", (!errand.prompts.is_empty()).then(|| errand.prompts.join(" ")));
    add("max_age", errand.max_age.map(|seconds| seconds.to_string()));
    add("login_hint", errand.login_hint.map(str::to_owned));
    add("acr_values", (!errand.acr_values.is_empty()).then(|| errand.acr_values.join(" ")));
    add("ui_locales", errand.ui_locales.map(str::to_owned));
    further
}

impl Upstreams {
    /// The user whom the provider vouches for by this code.
    ///
    /// # Errors
    /// The rule that its word breaks, or why there is none.
    pub(super) async fn hear_openid(
        &self,
        upstream: &Upstream,
        (secret, waiting): (&str, &Waiting),
        code: &str,
        now: Timestamp,
    ) -> Result<Word, UpstreamError> {
        let provider = self.providers.find(upstream, now).await?;
        let outbound = self.providers.outbound(upstream);
        let party = party((upstream, &self.issuer), &provider.metadata, secret);
        let tokens = party.exchange(code, &waiting.verifier, &outbound).await?;
        let vouched = self.judge(upstream, &provider, (&tokens, &waiting.nonce), now).await?;
        let userinfo = match &provider.metadata.userinfo_endpoint {
            None => Map::new(),
            Some(address) => {
                let answer = exchange::fetch(address, &tokens.access_token, None, &outbound).await?;
                userinfo(&answer, upstream, &provider, &vouched)?
            }
        };
        let Vouched { tenant, auth_time, acr, amr, claims, .. } = vouched;
        let claims = person::merged(claims, userinfo);
        if let Some(denial) = person::denial(upstream, &claims) {
            info!(home = %upstream.name, ?denial, "a user may not log in through this home");
            return Ok(Word::Nobody(Why::Denied));
        }
        let proof = Proof { auth_time, acr, amr };
        Ok(Word::User(person::identity(upstream, &claims, tenant.as_deref(), proof)?))
    }

    /// Judges the ID token; looks once more at the provider's keys if none of them fits.
    async fn judge(
        &self,
        upstream: &Upstream,
        provider: &Provider,
        (tokens, nonce): (&Tokens, &str),
        now: Timestamp,
    ) -> Result<Vouched, UpstreamError> {
        let UpstreamProtocol::OpenId { issuer, .. } = &upstream.protocol else { return Err(UpstreamError::NotKnown) };
        let token = tokens.id_token.as_ref().ok_or(IdTokenRule::Missing)?.expose_secret();
        let expected = |provider| expected((issuer, upstream), provider, (tokens, nonce));
        match id_token::judge(token, &expected(provider), &provider.keys, now) {
            Err(rule @ (IdTokenRule::Key | IdTokenRule::Signature)) => {
                let newer = self.providers.newer(upstream, provider, now).await.ok_or(rule)?;
                Ok(id_token::judge(token, &expected(&newer), &newer.keys, now)?)
            }
            judged => Ok(judged?),
        }
    }
}

fn expected<'a>(
    (issuer, upstream): (&'a str, &'a Upstream),
    provider: &'a Provider,
    (tokens, nonce): (&'a Tokens, &'a str),
) -> Expected<'a> {
    Expected {
        issuer,
        client_id: &upstream.client_id,
        nonce,
        access_token: tokens.access_token.expose_secret(),
        algorithms: &provider.metadata.algorithms,
    }
}

/// What userinfo says of the same user: plain, or signed by the same provider for the broker (Core 5.3.2).
fn userinfo(
    answer: &http::Response<Vec<u8>>,
    upstream: &Upstream,
    provider: &Provider,
    vouched: &Vouched,
) -> Result<Map<String, Value>, UserRule> {
    let kind = answer.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let signed = kind.is_some_and(|kind| kind.split(';').next().unwrap_or_default().trim() == "application/jwt");
    let claims = if signed {
        let token = std::str::from_utf8(answer.body()).map_err(|_| UserRule::Unreadable)?;
        let read = provider.keys.verify(token.trim(), &provider.metadata.algorithms);
        let claims = read.map_err(|_| UserRule::Unreadable)?.claims;
        let from = claims.get("iss").is_none_or(|issuer| *issuer == vouched.issuer);
        let for_us = id_token::check_audience(&claims, &upstream.client_id).is_ok() || !claims.contains_key("aud");
        if !from || !for_us {
            return Err(UserRule::OtherAudience);
        }
        claims
    } else {
        exchange::object(answer)?
    };
    // Core 5.3.2: must be there and the same, or nothing of it counts.
    let same = claims.get("sub").is_some_and(|subject| *subject == vouched.subject);
    if same { Ok(claims) } else { Err(UserRule::OtherSubject) }
}
