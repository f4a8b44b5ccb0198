//! GET and POST /userinfo (OpenID Connect Core 5.3), with a bearer token (RFC 6750 2) or one that is bound to a key
//! (RFC 9449 7) or a certificate (RFC 8705 3).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::grants::{AccessTokenContents, Bearer, Binding, Thumbprint, TokenError};
use crate::oidc::client_auth::Caller;
use crate::oidc::dpop::Purported;
use crate::oidc::error::UserinfoError;
use crate::oidc::parameters::Parameters;
use crate::oidc::{Provider, path};
use crate::registry::{Asked, Claims, ClientId, Person, ReleaseTerms, Scope};

/// Both methods.
pub(super) async fn serve(
    State(provider): State<Arc<Provider>>,
    RawQuery(query): RawQuery,
    caller: Caller,
    body: Bytes,
) -> Response {
    let now = provider.clock.now();
    let said = match AccessToken::of(query.as_deref(), &caller, &body) {
        Ok(token) => provider.userinfo(&token, &caller, now).await,
        Err(error) => Err(error),
    };
    let mut answer = match said {
        Ok(Said::Plain(claims)) => ([(CACHE_CONTROL, "no-store")], Json(claims)).into_response(),
        Ok(Said::Signed(jwt)) => {
            ([(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "application/jwt")], jwt).into_response()
        }
        Err(error) => error.into_response(),
    };
    provider.add_nonce(&caller.headers, answer.headers_mut(), now);
    answer
}

/// What a client learns.
enum Said {
    /// As JSON.
    Plain(Claims),
    /// As a JWT (OpenID Connect Core 5.3.2).
    Signed(String),
}

/// Claims in a JWT: with issuer and audience, so that nobody can show them to somebody else.
#[derive(Serialize)]
struct SignedClaims<'a> {
    iss: &'a Issuer,
    aud: &'a ClientId,
    iat: Timestamp,
    #[serde(flatten)]
    claims: &'a Claims,
}

/// An access token as it was sent.
struct AccessToken {
    text: String,
    scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Dpop,
}

impl Provider {
    /// What an access token lets its bearer know.
    async fn userinfo(&self, presented: &AccessToken, caller: &Caller, now: Timestamp) -> Result<Said, UserinfoError> {
        let snapshot = self.registry.snapshot();
        let token = self.grants.open_access_token(&presented.text, now)?;
        self.check_binding(&token, presented, caller, now)?;
        // RFC 8707 2: one that is for an instance's API is not for us, and a client's own is about nobody.
        let id = match &token.bearer {
            Bearer::Grant(id) if token.resource.is_none() => id,
            Bearer::Grant(_) | Bearer::Client(_) => return Err(TokenError::AccessTokenUnknown.into()),
        };
        let grant = self.grants.find(id, token.serial, &snapshot).await?;
        if !token.scopes.has(Scope::Openid) {
            return Err(UserinfoError::Scope);
        }
        let session = self.sessions.get(&grant.session, now).await?;
        let person = grant.offline.as_deref().or(session.as_ref().map(|session| &session.identity));
        let person = person.ok_or(TokenError::SessionEnded)?;
        let vouching = snapshot.vouching(&grant.relying_party, &grant.home, grant.home_id);
        let (_, edge) = vouching.ok_or(TokenError::TrustWithdrawn)?;
        let person = Person { identity: person, subject: &grant.subject };
        let client = snapshot.client(grant.client_id.as_str()).ok_or(TokenError::TrustWithdrawn)?;
        let terms = ReleaseTerms { edge, policy: &client.relying_party.policy };
        let claims = Claims::for_userinfo(person, terms, Asked { scopes: &token.scopes, claims: &grant.claims });
        let Some(algorithm) = client.relying_party.policy.userinfo_signing_alg else { return Ok(Said::Plain(claims)) };
        let signed = SignedClaims { iss: &self.issuer, aud: &grant.client_id, iat: now, claims: &claims };
        let jwt = self.signer.sign_typed(client, ("JWT", algorithm), &signed).map_err(TokenError::from)?;
        Ok(Said::Signed(jwt))
    }

    /// That who sends a bound token has what it is bound to. A stolen one is worth nothing, in whatever scheme it is sent.
    fn check_binding(
        &self,
        token: &AccessTokenContents,
        presented: &AccessToken,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(), UserinfoError> {
        match (&token.binding, presented.scheme) {
            (Binding::Bearer, Scheme::Bearer) => Ok(()),
            (Binding::Certificate(thumbprint), Scheme::Bearer) => {
                let shown = caller.certificate.as_ref().map(|shown| Thumbprint::of(&shown.thumbprint));
                if shown.as_ref() == Some(thumbprint) { Ok(()) } else { Err(UserinfoError::Unbound) }
            }
            (Binding::Key(jkt), Scheme::Dpop) => {
                let addresses = self.addresses(path::USERINFO);
                let purported =
                    Purported { method: &caller.method, addresses: &addresses, access_token: Some(&presented.text) };
                let shown = self.shown_key(&caller.headers, &purported, now)?.ok_or(UserinfoError::Unbound)?;
                if shown.thumbprint != *jkt {
                    return Err(UserinfoError::Unbound);
                }
                self.use_up_proof(shown, now)?;
                Ok(())
            }
            // RFC 9449 7.2: a bound token is no bearer token. Nor does a proof make an unbound one better.
            (Binding::Key(_), Scheme::Bearer) | (Binding::Bearer | Binding::Certificate(_), Scheme::Dpop) => {
                Err(UserinfoError::Unbound)
            }
        }
    }
}

impl AccessToken {
    /// The token: in the header or in the body, never in the query (RFC 9700 4.3.2), and only once.
    fn of(query: Option<&str>, caller: &Caller, body: &Bytes) -> Result<Self, UserinfoError> {
        let query = Parameters::parse(query.unwrap_or_default().as_bytes()).map_err(|_| UserinfoError::Ambiguous)?;
        if !matches!(query.get("access_token"), Ok(None)) {
            return Err(UserinfoError::Ambiguous);
        }
        let in_body = match Parameters::of_form(&caller.headers, body) {
            Ok(form) => form.get("access_token").map_err(|_| UserinfoError::Ambiguous)?.map(str::to_owned),
            Err(_) => None,
        };
        let in_body = in_body.map(|text| Self { text, scheme: Scheme::Bearer });
        let mut authorization = caller.headers.get_all(AUTHORIZATION).iter();
        let in_header = authorization.next().and_then(|header| {
            let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
            let schemes = [("Bearer", Scheme::Bearer), ("DPoP", Scheme::Dpop)];
            let (_, scheme) = schemes.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name))?;
            Some(Self { text: token.trim_matches(' ').to_owned(), scheme })
        });
        match (in_header, in_body, authorization.next()) {
            (Some(token), None, None) | (None, Some(token), None) => Ok(token),
            (None, None, None) => Err(UserinfoError::Missing),
            _ => Err(UserinfoError::Ambiguous),
        }
    }
}
