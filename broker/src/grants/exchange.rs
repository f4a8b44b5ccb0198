//! Tokens that need no login: a client's own (RFC 6749 4.4), and one for the API of another instance in the name of a
//! user, for a token that the client has of him (RFC 8693).
//!
//! Nothing is stored for either. What was exchanged stands on the grant of the token that was given for it, and ends with
//! that: it lives no longer than that token, holds no scope that it did not have, and can be exchanged for nothing.

use crate::clock::Timestamp;
use crate::grants::binding::Binding;
use crate::grants::issuing::{Terms, Tokens};
use crate::grants::jwt_access_token::Audience;
use crate::grants::record::{Grant, GrantId};
use crate::grants::sealed::{AccessTokenContents, Bearer, Serial};
use crate::grants::{Grants, TokenError};
use crate::registry::{Client, Scopes, Snapshot, VerifiedIdentity};

/// A token of a user, good for being exchanged by its client.
pub struct SubjectToken {
    contents: AccessTokenContents,
    grant_id: GrantId,
    /// What it stands on.
    pub grant: Grant,
}

/// For whose API, and for which part of it, a token is to be.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Whose.
    pub server: Client<'a>,
    /// Goes into `aud`.
    pub resource: &'a str,
}

/// What a client wants to have for a token.
pub struct Exchange<'a> {
    /// Who, and on what terms.
    pub terms: Terms<'a>,
    /// The token that it gives.
    pub subject: &'a SubjectToken,
    /// Who that is: whom the session is of, or whom an offline grant remembers.
    pub person: &'a VerifiedIdentity,
    /// For whom the new one is to be.
    pub target: Target<'a>,
    /// `scope`, to get less than the token has.
    pub scope: Option<&'a str>,
}

impl Grants {
    /// Opens a token that a client gives in exchange. Whether its session is there is for the caller to ask.
    ///
    /// # Errors
    /// When it is not good, not the client's own, or nothing to be exchanged.
    pub async fn open_subject_token(
        &self,
        token: &str,
        terms: &Terms<'_>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<SubjectToken, TokenError> {
        let contents = self.open_access_token(token, now)?;
        let Bearer::Grant(grant_id) = contents.bearer.clone() else { return Err(TokenError::NotExchangeable) };
        // Neither what was exchanged before, nor what is for somebody's API: whoever runs that has it too.
        if contents.actor.is_some() || contents.resource.is_some() {
            return Err(TokenError::NotExchangeable);
        }
        let grant = self.find(&grant_id, contents.serial, snapshot).await?;
        if grant.client_id != terms.client.relying_party.client_id {
            return Err(TokenError::TokenOfAnotherClient);
        }
        // A token that is bound to a key stays so: it does not become one that anybody could use.
        if contents.binding != Binding::Bearer && contents.binding != terms.binding {
            return Err(TokenError::BoundToAnotherKey);
        }
        Ok(SubjectToken { contents, grant_id, grant })
    }

    /// A token for the API of an instance, in the name of a user whom that instance knows.
    ///
    /// # Errors
    /// When the client may not call that API for this user, or wants more than its token has.
    pub fn exchange(&self, exchange: &Exchange<'_>, snapshot: &Snapshot, now: Timestamp) -> Result<Tokens, TokenError> {
        let Exchange { terms, subject, person, target, scope } = exchange;
        let (grant, given) = (&subject.grant, &subject.contents);
        if !snapshot.may_call(&grant.relying_party, target.server.name, (&grant.home, grant.home_id)) {
            return Err(TokenError::ResourceNotGranted);
        }
        let scopes = match scope {
            Some(scope) => given.scopes.narrowed(scope).ok_or(TokenError::ScopeWidened)?,
            None => given.scopes.clone(),
        };
        let contents = AccessTokenContents {
            bearer: Bearer::Grant(subject.grant_id.clone()),
            serial: Serial::generate()?,
            issued_at: now,
            expires_at: given.expires_at.min(now + self.lifetimes.now().access_token),
            scopes,
            resource: Some(target.resource.to_owned()),
            binding: terms.binding.clone(),
            actor: Some(terms.client.relying_party.client_id.clone()),
        };
        let audience = Audience::of_user(target.server, grant, person, (&self.subjects, snapshot));
        self.without_login(contents, Some(&audience), now)
    }

    /// A client's own token: about no user, and good for the API of an instance at most.
    ///
    /// # Errors
    /// When the client may not call that API.
    pub fn issue_to_client(
        &self,
        terms: &Terms<'_>,
        target: Option<Target<'_>>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Tokens, TokenError> {
        let client_id = &terms.client.relying_party.client_id;
        if target.is_some_and(|target| !snapshot.may_call_itself(terms.client.name, target.server.name)) {
            return Err(TokenError::ResourceNotGranted);
        }
        let contents = AccessTokenContents {
            bearer: Bearer::Client(client_id.clone()),
            serial: Serial::generate()?,
            issued_at: now,
            expires_at: now + self.lifetimes.now().access_token,
            scopes: Scopes::none(),
            resource: target.map(|target| target.resource.to_owned()),
            binding: terms.binding.clone(),
            actor: None,
        };
        let audience = target.map(|target| Audience::of_client(target.server, client_id));
        self.without_login(contents, audience.as_ref(), now)
    }

    fn without_login(
        &self,
        contents: AccessTokenContents,
        audience: Option<&Audience<'_>>,
        now: Timestamp,
    ) -> Result<Tokens, TokenError> {
        Ok(Tokens {
            access_token: self.access_token(&contents, audience)?,
            issued_token_type: None,
            token_type: contents.binding.token_type(),
            expires_in: contents.expires_at.since(now),
            scopes: contents.scopes,
            id_token: None,
            refresh_token: None,
            of: None,
        })
    }
}
