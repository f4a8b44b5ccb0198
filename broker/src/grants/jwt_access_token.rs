//! Access tokens that the API of an instance can read for itself (RFC 9068). Their `jti` is the sealed token that
//! introspection and revocation understand, so that nothing is stored for these either.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::grants::binding::Confirmation;
use crate::grants::record::Grant;
use crate::grants::sealed::AccessTokenContents;
use crate::registry::{Client, ClientId, KnownAs, Snapshot, SubjectKey, UserOfHome, VerifiedIdentity};

/// Whose API an access token is for, and of whom it speaks there.
pub struct Audience<'a> {
    /// The instance.
    pub server: Client<'a>,
    /// Who holds the token.
    pub client_id: &'a ClientId,
    /// For whom, as the instance knows him.
    pub subject: String,
    /// What the instance itself calls the user, if it is his home.
    pub home_user_id: Option<&'a str>,
    /// How the user logged in; nobody did for a client's own token.
    pub login: Option<LoginOfUser<'a>>,
}

/// How a user logged in, in the home's words.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LoginOfUser<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    amr: &'a [String],
}

impl<'a> Audience<'a> {
    /// For the user of a grant.
    pub fn of_user(
        server: Client<'a>,
        grant: &'a Grant,
        person: &'a VerifiedIdentity,
        (subjects, snapshot): (&SubjectKey, &Snapshot),
    ) -> Self {
        let user = UserOfHome { home: &grant.home, home_id: grant.home_id, home_user_id: &person.home_user_id };
        let KnownAs { subject, .. } = subjects.known_as(server, user, grant.link.as_ref(), snapshot);
        Self {
            server,
            client_id: &grant.client_id,
            subject: subject.to_string(),
            home_user_id: (*server.name == grant.home).then(|| person.id_at_home()),
            login: Some(LoginOfUser::of(grant)),
        }
    }

    /// For a client's own token. Its subject has a colon, as no user's has (RFC 9700 4.15).
    pub fn of_client(server: Client<'a>, client_id: &'a ClientId) -> Self {
        let subject = format!("client:{client_id}");
        Self { server, client_id, subject, home_user_id: None, login: None }
    }
}

impl<'a> LoginOfUser<'a> {
    /// That a grant came of.
    pub fn of(grant: &'a Grant) -> Self {
        Self { auth_time: grant.auth_time, acr: grant.acr.as_deref(), amr: &grant.amr }
    }
}

/// What such a token says (2.2).
#[derive(Serialize)]
pub(super) struct JwtAccessToken<'a> {
    iss: &'a Issuer,
    sub: &'a str,
    aud: &'a str,
    client_id: &'a ClientId,
    iat: Timestamp,
    exp: Timestamp,
    jti: &'a str,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homeward_home_user_id: Option<&'a str>,
    #[serde(flatten)]
    login: Option<LoginOfUser<'a>>,
}

/// Who acts for the user (RFC 8693 4.1).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Actor<'a> {
    /// A client.
    pub sub: &'a ClientId,
}

impl<'a> JwtAccessToken<'a> {
    /// `typ` of such a token (2.1).
    pub(super) const TYPE: &'static str = "at+jwt";

    pub(super) fn of(
        contents: &'a AccessTokenContents,
        audience: &'a Audience<'_>,
        issuer: &'a Issuer,
        sealed: &'a str,
    ) -> Self {
        Self {
            iss: issuer,
            sub: &audience.subject,
            aud: contents.resource.as_deref().unwrap_or(issuer.as_str()),
            client_id: audience.client_id,
            iat: contents.issued_at,
            exp: contents.expires_at,
            jti: sealed,
            scope: contents.scopes.to_string(),
            cnf: contents.binding.confirmation(),
            act: contents.actor.as_ref().map(|sub| Actor { sub }),
            homeward_home_user_id: audience.home_user_id,
            login: audience.login,
        }
    }
}
