//! POST /introspect (RFC 7662): what a token is worth now. Asked by the client that holds it, or by the instance whose API
//! it is for. Everybody else is told what is said of rubbish: that it is not active.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::grants::{
    AccessTokenContents, Actor, Audience, Bearer, GoodRefreshToken, Grant, Presented, RefreshTokenContents, TokenError,
};
use crate::oidc::Provider;
use crate::oidc::client_auth::Caller;
use crate::oidc::error::TokenRequestError;
use crate::oidc::parameters::Parameters;
use crate::oidc::token::form;
use crate::registry::{Client, Scope, Snapshot};

/// Media type of a signed answer (RFC 9701 4).
const SIGNED_MEDIA_TYPE: &str = "application/token-introspection+jwt";

/// `typ` of a signed answer (RFC 9701 5).
const SIGNED_TYPE: &str = "token-introspection+jwt";

/// What a token is worth.
pub(in crate::oidc) async fn post(
    State(provider): State<Arc<Provider>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, TokenRequestError> {
    provider.introspect(&caller, &form(&caller, &body)?, provider.clock.now()).await
}

/// Who asks, and when.
struct Question<'a> {
    asking: Client<'a>,
    snapshot: &'a Snapshot,
    now: Timestamp,
}

impl Provider {
    async fn introspect(
        &self,
        caller: &Caller,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<Response, TokenRequestError> {
        let snapshot = self.snapshot_for(caller, parameters).await;
        let asking = self.client_of(caller, parameters, &snapshot, now).await?;
        // J5: who could be anybody is told nothing.
        asking.confidential()?;
        // A hint saves nothing here: each token says what it is. But it must be one.
        parameters.get("token_type_hint")?;
        let token = parameters.get("token")?.ok_or(TokenRequestError::Missing)?;
        let question = Question { asking: asking.client, snapshot: &snapshot, now };
        let found = match self.grants.open_presented(token) {
            Some(Presented::Access(token)) => self.worth_of(&token, &question).await,
            Some(Presented::Refresh(token)) => self.worth_of_refresh_token(&token, &question).await,
            None => Err(TokenError::AccessTokenUnknown.into()),
        };
        let worth = match found {
            Ok(worth) => worth,
            // 2.2: why it is not good is nobody's business. That we do not know is another thing.
            Err(TokenRequestError::Token(error)) if error.is_about_the_token() => json!({"active": false}),
            Err(error) => return Err(error),
        };
        self.say(&worth, &question, &caller.headers)
    }

    async fn worth_of(&self, token: &AccessTokenContents, question: &Question<'_>) -> Result<Value, TokenRequestError> {
        let Question { asking, snapshot, now } = question;
        if *now >= token.expires_at {
            return Err(TokenError::AccessTokenExpired.into());
        }
        let own_id = &asking.relying_party.client_id;
        let server = token.resource.as_deref().and_then(|resource| snapshot.resource_server(resource));
        let for_us = server.is_some_and(|server| server.relying_party.client_id == *own_id);
        let mut worth = match &token.bearer {
            Bearer::Client(_) => {
                let client = self.grants.find_client(token, snapshot).await?;
                // 4: nobody learns anything by asking about tokens of others.
                if !for_us && client.relying_party.client_id != *own_id {
                    return Err(TokenError::TokenOfAnotherClient.into());
                }
                let audience = Audience::of_client(server.unwrap_or(client), &client.relying_party.client_id);
                json!({"client_id": audience.client_id, "sub": audience.subject})
            }
            Bearer::Grant(id) => {
                let grant = self.grants.find(id, token.serial, snapshot).await?;
                if !for_us && grant.client_id != *own_id {
                    return Err(TokenError::TokenOfAnotherClient.into());
                }
                self.worth_of_grant(&grant, token, server, question).await?
            }
        };
        let common = json!({
            "active": true,
            "iss": self.issuer,
            "aud": token.resource.as_deref().unwrap_or(self.issuer.as_str()),
            "scope": token.scopes.to_string(),
            "iat": token.issued_at,
            "exp": token.expires_at,
            // That of a JWT is the whole reference in it.
            "jti": token.resource.is_none().then(|| token.serial.to_string()),
            "token_type": token.binding.token_type(),
            "cnf": token.binding.confirmation(),
            "act": token.actor.as_ref().map(|sub| Actor { sub }),
        });
        add(&mut worth, common);
        Ok(worth)
    }

    /// What there is to say of the user: as whoever asks knows him.
    async fn worth_of_grant(
        &self,
        grant: &Grant,
        token: &AccessTokenContents,
        server: Option<Client<'_>>,
        Question { snapshot, now, .. }: &Question<'_>,
    ) -> Result<Value, TokenRequestError> {
        let session = self.sessions.get(&grant.session, *now).await?;
        let person = grant.offline.as_deref().or(session.as_ref().map(|session| &session.identity));
        let person = person.ok_or(TokenError::SessionEnded)?;
        let home = (&grant.home, grant.home_id);
        let subject = match (&token.resource, server) {
            (None, _) => grant.subject.to_string(),
            // The edge that let the client call it may be gone since.
            (Some(_), Some(server)) if snapshot.may_call(&grant.relying_party, server.name, home) => {
                Audience::of_user(server, grant, person, (&self.subjects, snapshot)).subject
            }
            (Some(_), _) => return Err(TokenError::TrustWithdrawn.into()),
        };
        Ok(json!({
            "client_id": grant.client_id,
            "sub": subject,
            "username": token.scopes.has(Scope::Profile).then_some(&person.username),
            "auth_time": grant.auth_time,
            "acr": grant.acr,
        }))
    }

    async fn worth_of_refresh_token(
        &self,
        token: &RefreshTokenContents,
        question: &Question<'_>,
    ) -> Result<Value, TokenRequestError> {
        let good = self.grants.find_refreshable(token, question.snapshot, question.now).await?;
        let GoodRefreshToken { grant, issued_at, expires_at } = good;
        if grant.client_id != question.asking.relying_party.client_id {
            return Err(TokenError::TokenOfAnotherClient.into());
        }
        let mut worth = json!({"active": true, "iss": self.issuer, "iat": issued_at, "exp": expires_at});
        let more = json!({
            "client_id": grant.client_id,
            "sub": grant.subject,
            "scope": grant.scopes.to_string(),
            "auth_time": grant.auth_time,
            "acr": grant.acr,
        });
        add(&mut worth, more);
        Ok(worth)
    }

    /// Plain, or signed for who wants that (RFC 9701 4).
    fn say(
        &self,
        worth: &Value,
        Question { asking, now, .. }: &Question<'_>,
        headers: &HeaderMap,
    ) -> Result<Response, TokenRequestError> {
        let no_store = (CACHE_CONTROL, "no-store");
        let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
        let wanted = accepted.any(|accept| accept.contains(SIGNED_MEDIA_TYPE));
        let party = asking.relying_party;
        let registered = party.policy.introspection_signing_alg;
        let Some(algorithm) = registered.or(wanted.then_some(party.id_token_alg)) else {
            return Ok(([no_store], Json(worth)).into_response());
        };
        let claims = json!({
            "iss": self.issuer,
            "aud": party.client_id,
            "iat": now,
            "token_introspection": worth,
        });
        let jwt = self.signer.sign_typed(*asking, (SIGNED_TYPE, algorithm), &claims).map_err(TokenError::from)?;
        Ok(([no_store, (CONTENT_TYPE, SIGNED_MEDIA_TYPE)], jwt).into_response())
    }
}

/// Adds what there is to say; what is null is not.
fn add(worth: &mut Value, more: Value) {
    if let (Value::Object(worth), Value::Object(more)) = (worth, more) {
        worth.extend(more);
        worth.retain(|_, value| !value.is_null());
    }
}
