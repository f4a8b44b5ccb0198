//! How tokens are made: the same for every grant type. Nothing here is written; who calls commits what makes them good.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::Timestamp;
use crate::grants::Grants;
use crate::grants::binding::Binding;
use crate::grants::error::TokenError;
use crate::grants::id_token::IdToken;
use crate::grants::jwt_access_token::{Audience, JwtAccessToken};
use crate::grants::record::{Family, Grant, GrantId};
use crate::grants::sealed::{AccessTokenContents, Bearer, RefreshTokenContents, SealedToken as _, Serial};
use crate::registry::{
    Asked, Claims, Client, GrantType, Person, ReleaseTerms, Scope, Scopes, SessionId, Snapshot, Subject,
    VerifiedIdentity,
};

/// To whom tokens are issued, and on what terms. The client is authenticated, and what they are bound to was shown.
#[derive(Clone)]
pub struct Terms<'a> {
    /// Who.
    pub client: Client<'a>,
    /// What the access token is bound to.
    pub binding: Binding,
    /// Whom it is for (RFC 8707): this broker if unset.
    pub resource: Option<&'a str>,
}

/// What a client gets.
pub struct Tokens {
    /// For userinfo, or for a resource.
    pub access_token: SecretString,
    /// What it is, if it was exchanged (RFC 8693 2.2.1).
    pub issued_token_type: Option<&'static str>,
    /// How it is used.
    pub token_type: &'static str,
    /// How long it lasts.
    pub expires_in: Duration,
    /// What was granted.
    pub scopes: Scopes,
    /// Who it is.
    pub id_token: Option<String>,
    /// For the next ones.
    pub refresh_token: Option<SecretString>,
    /// Whom they speak of, and in which session: for the audit.
    pub of: Option<(Subject, SessionId)>,
}

/// A grant for which tokens are to be made.
pub(super) struct Issue<'a> {
    pub(super) id: &'a GrantId,
    pub(super) grant: &'a Grant,
    /// Who it is: whom the session is of, or whom an offline grant remembers.
    pub(super) person: &'a VerifiedIdentity,
    pub(super) scopes: Scopes,
    pub(super) terms: &'a Terms<'a>,
    pub(super) occasion: Occasion,
}

/// When tokens are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// At the end of a login.
    Login,
    /// Later.
    Refresh,
}

impl Grants {
    /// Access token and ID token of a grant.
    pub(super) fn issue(&self, issue: &Issue<'_>, snapshot: &Snapshot, now: Timestamp) -> Result<Tokens, TokenError> {
        let Issue { id, grant, person, terms, .. } = issue;
        let audience = match terms.resource {
            Some(resource) => Some(self.granted_audience(grant, resource, person, snapshot)?),
            None => None,
        };
        let contents = AccessTokenContents {
            bearer: Bearer::Grant((*id).clone()),
            serial: Serial::generate()?,
            issued_at: now,
            expires_at: now + self.lifetimes.now().access_token,
            scopes: issue.scopes.clone(),
            resource: terms.resource.map(str::to_owned),
            binding: terms.binding.clone(),
            actor: None,
        };
        let access_token = self.access_token(&contents, audience.as_ref())?;
        let id_token = match issue.scopes.has(Scope::Openid) {
            true => Some(self.id_token(issue, &access_token, snapshot, now)?),
            false => None,
        };
        Ok(Tokens {
            access_token,
            issued_token_type: None,
            token_type: terms.binding.token_type(),
            expires_in: contents.expires_at.since(now),
            scopes: contents.scopes,
            id_token,
            refresh_token: None,
            of: Some((grant.subject.clone(), grant.session.clone())),
        })
    }

    /// An access token as text: sealed for ourselves, or for the API of an instance as a JWT that it can read.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn access_token(
        &self,
        contents: &AccessTokenContents,
        audience: Option<&Audience<'_>>,
    ) -> Result<SecretString, TokenError> {
        let sealed = contents.seal(&self.sealing)?;
        let Some(audience) = audience else { return Ok(sealed) };
        let algorithm = audience.server.relying_party.id_token_alg;
        let claims = JwtAccessToken::of(contents, audience, &self.issuer, sealed.expose_secret());
        Ok(self.signer.sign_typed(audience.server, (JwtAccessToken::TYPE, algorithm), &claims)?.into())
    }

    /// The API that a granted resource is of, and how it knows the user.
    fn granted_audience<'a>(
        &self,
        grant: &'a Grant,
        resource: &str,
        person: &'a VerifiedIdentity,
        snapshot: &'a Snapshot,
    ) -> Result<Audience<'a>, TokenError> {
        let server = snapshot.resource_server(resource).ok_or(TokenError::ResourceNotGranted)?;
        let granted = grant.resources.iter().any(|granted| granted == resource);
        let may_call = snapshot.may_call(&grant.relying_party, server.name, (&grant.home, grant.home_id));
        if !granted || !may_call {
            return Err(TokenError::ResourceNotGranted);
        }
        Ok(Audience::of_user(server, grant, person, (&self.subjects, snapshot)))
    }

    fn id_token(
        &self,
        issue: &Issue<'_>,
        access_token: &SecretString,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<String, TokenError> {
        let Issue { grant, person, scopes, terms, .. } = issue;
        let vouching = snapshot.vouching(&grant.relying_party, &grant.home, grant.home_id);
        let (_, edge) = vouching.ok_or(TokenError::TrustWithdrawn)?;
        let person = Person { identity: person, subject: &grant.subject };
        let asked = Asked { scopes, claims: &grant.claims };
        let release = ReleaseTerms { edge, policy: &terms.client.relying_party.policy };
        let claims = Claims::for_id_token(person, release, asked);
        let times = (now, now + self.lifetimes.now().id_token);
        let id_token = IdToken::of(grant, &claims, &self.issuer, access_token, times)?;
        let id_token = match issue.occasion {
            Occasion::Login => id_token,
            Occasion::Refresh => id_token.without_nonce(),
        };
        Ok(self.signer.sign(terms.client, &id_token)?)
    }

    /// The refresh tokens that a grant begins with: none, unless it outlives its session and the client may have them.
    pub(super) fn family(&self, grant: &Grant, terms: &Terms<'_>, now: Timestamp) -> Option<Family> {
        let allowed = terms.client.relying_party.policy.grant_types.contains(&GrantType::RefreshToken);
        let ends_by = Some(now + self.lifetimes.now().refresh_token);
        let binding = terms.binding_of_family();
        let family = Family { generation: 0, began_at: now, ends_by, used_at: now, binding };
        (allowed && grant.offline.is_some()).then_some(family)
    }

    pub(super) fn refresh_token(&self, id: &GrantId, family: &Family) -> Result<SecretString, TokenError> {
        let contents = RefreshTokenContents { grant: id.clone(), generation: family.generation };
        Ok(contents.seal(&self.sealing)?)
    }
}
