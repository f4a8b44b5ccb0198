//! POST /register, and GET, PUT and DELETE /register/{client_id}: clients that register themselves (RFC 7591, OpenID
//! Connect Dynamic Client Registration 1.0) and look after themselves (RFC 7592).
//!
//! 1. An initial access token, which ops made for one relying party, or the client's own registration access token, is
//!    asked for before anything is read or fetched.
//! 2. `metadata.rs` reads what the client says of itself into types; `address.rs` says which addresses are taken.
//! 3. What has to be fetched to judge it (the sector identifier) is fetched; nothing else is.
//! 4. One commit writes the client and takes one off the clients that may still be registered.
//!
//! Invariants: a client chooses neither its id nor its secret, is never more than its relying party was opened for, and
//! never takes back what ops said of it (`change.rs`).

mod address;
mod answer;
mod change;
mod members;
mod metadata;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use tracing::info;
use url::Url;

use crate::audit::{Event, Kind};
use crate::clock::Timestamp;
use crate::oidc::Provider;
use crate::oidc::error::RegistrationRequestError;
use crate::registry::{
    ClientAuthMethod, ClientCredential, ClientId, ClientPolicyChange, ClientSecret, INITIAL_TOKEN_PREFIX,
    REGISTRATION_TOKEN_PREFIX, RegisteredClient, RegistrationError, RelyingParty, SigningKeyChoice,
};
use crate::secret::{OpaqueSecret, SecretError, SecretHash};
use address::AddressRules;
use members::Fault;
pub(super) use members::MetadataError;
use metadata::ClientMetadata;

/// Largest sector identifier document, in bytes.
const MAX_SECTOR: usize = 64 * 1024;

/// Registers a client.
pub(super) async fn post(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, RegistrationRequestError> {
    let token = bearer(&headers, INITIAL_TOKEN_PREFIX)?;
    let (client, registration_token) =
        provider.register(token, Submission { headers: &headers, body: &body }, provider.clock.now()).await?;
    Ok((StatusCode::CREATED, provider.client_information(&client, &registration_token)?).into_response())
}

/// Tells a client what is registered.
pub(super) async fn get(
    State(provider): State<Arc<Provider>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, RegistrationRequestError> {
    let token = bearer(&headers, REGISTRATION_TOKEN_PREFIX)?;
    let client = provider.registry.managed_client(&id, token).await?.record;
    Ok(provider.client_information(&client, token)?.into_response())
}

/// Replaces what is registered.
pub(super) async fn put(
    State(provider): State<Arc<Provider>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, RegistrationRequestError> {
    let token = bearer(&headers, REGISTRATION_TOKEN_PREFIX)?;
    let client = provider.replace(&id, token, Submission { headers: &headers, body: &body }).await?;
    Ok(provider.client_information(&client, token)?.into_response())
}

/// Removes a client.
pub(super) async fn delete(
    State(provider): State<Arc<Provider>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, RegistrationRequestError> {
    let client = provider.registry.managed_client(&id, bearer(&headers, REGISTRATION_TOKEN_PREFIX)?).await?;
    provider.registry.remove_client(&client).await?;
    provider.audit.note(of_client(Kind::ClientRemoved, &client.record));
    provider.client_keys.forget(&client.record.relying_party.client_id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Provider {
    async fn register(
        &self,
        initial_token: &str,
        sent: Submission<'_>,
        now: Timestamp,
    ) -> Result<(RegisteredClient, String), RegistrationRequestError> {
        let snapshot = self.registry.snapshot();
        let name = snapshot.admitting(initial_token, now).ok_or(RegistrationError::TokenInvalid)?;
        let metadata = self.judged(&sent.object()?).await?;
        if !metadata.policy.grant_types.is_subset(&metadata::registrable()) {
            return Err(MetadataError::Member("grant_types", Fault::NotAllowed).into());
        }
        let registration_token = format!("{REGISTRATION_TOKEN_PREFIX}{}", OpaqueSecret::generate()?.expose());
        let client_id = ClientId::generate(name);
        let client = RegisteredClient {
            name: name.clone(),
            display_name: metadata.name.clone().unwrap_or_else(|| client_id.to_string()),
            public_url: metadata.public_url(),
            registration_token: SecretHash::of(&registration_token),
            metadata: Value::Object(metadata.accepted.clone()),
            registered_at: now,
            word_of_ops: ClientPolicyChange::default(),
            relying_party: self.relying_party(client_id, metadata)?,
        };
        self.registry.add_client(&client, initial_token, now).await?;
        self.audit.note(of_client(Kind::ClientRegistered, &client));
        Ok((client, registration_token))
    }

    async fn replace(
        &self,
        id: &str,
        token: &str,
        sent: Submission<'_>,
    ) -> Result<RegisteredClient, RegistrationRequestError> {
        let mut stored = self.registry.managed_client(id, token).await?;
        let sent = sent.object()?;
        change::check_constants(&sent, &stored.record)?;
        let metadata = self.judged(&sent).await?;
        change::check_grant_types(&metadata, &stored.record)?;
        let old = stored.record.relying_party.clone();
        let client = change::with_the_word_of_ops(RegisteredClient {
            display_name: metadata.name.clone().unwrap_or_else(|| id.to_owned()),
            public_url: metadata.public_url(),
            metadata: Value::Object(metadata.accepted.clone()),
            relying_party: change::with_secret_of(self.relying_party(old.client_id.clone(), metadata)?, old),
            ..stored.record
        })?;
        stored.record = client.clone();
        self.registry.replace_client(stored).await?;
        self.audit.note(of_client(Kind::ClientChanged, &client));
        self.client_keys.forget(&client.relying_party.client_id);
        Ok(client)
    }

    /// What a client says of itself, if it may all be registered.
    async fn judged(&self, object: &Map<String, Value>) -> Result<ClientMetadata, MetadataError> {
        let metadata = ClientMetadata::read(object, AddressRules::new(&self.issuer))?;
        let snapshot = self.registry.snapshot();
        if let Some(alike) = metadata.name.as_deref().and_then(|name| snapshot.look_alike(name)) {
            info!(instance = %alike, "a client's name looks like this instance's");
            return Err(MetadataError::Member("client_name", Fault::LookAlike));
        }
        if let Some(uri) = &metadata.sector_identifier_uri {
            self.check_sector(uri, &metadata.redirect_uris).await?;
        }
        Ok(metadata)
    }

    /// OpenID Connect Core 8.1, Dynamic Client Registration 5: the document names every callback.
    async fn check_sector(&self, uri: &str, redirect_uris: &[String]) -> Result<(), MetadataError> {
        let refused = |fault| MetadataError::Member("sector_identifier_uri", fault);
        let listed = self.outbound.fetch_json(uri, MAX_SECTOR).await.map_err(|error| {
            info!(%error, uri, "a sector identifier was not fetched");
            refused(Fault::NotFetched)
        })?;
        let listed = listed.as_array().ok_or_else(|| refused(Fault::Sector))?;
        let named = |uri: &String| listed.iter().any(|listed| listed == uri);
        if redirect_uris.iter().all(named) { Ok(()) } else { Err(refused(Fault::Sector)) }
    }

    fn relying_party(&self, client_id: ClientId, metadata: ClientMetadata) -> Result<RelyingParty, SecretError> {
        let secret = match metadata.auth_method {
            ClientAuthMethod::ClientSecretBasic
            | ClientAuthMethod::ClientSecretPost
            | ClientAuthMethod::ClientSecretJwt => Some(ClientSecret::generate(&self.sealing, 1)?),
            ClientAuthMethod::PrivateKeyJwt | ClientAuthMethod::TlsClientAuth | ClientAuthMethod::None => None,
        };
        Ok(RelyingParty {
            client_id,
            last_credential_version: u64::from(secret.is_some()),
            credential: secret.map_or(ClientCredential::Nothing, ClientCredential::Secret),
            next_credential: None,
            credential_at: None,
            signing_key_choice: SigningKeyChoice::default(),
            redirect_uris: metadata.redirect_uris,
            auth_method: metadata.auth_method,
            id_token_alg: metadata.id_token_alg,
            // RFC 7636 4.4.1, RFC 9700 2.1.1: nothing else ties a public client's code to who asked for it.
            pkce_required: metadata.auth_method == ClientAuthMethod::None,
            policy: metadata.policy,
            logout: metadata.logout,
            keys: metadata.keys,
            request_uris: metadata.request_uris,
            pages: metadata.pages,
        })
    }
}

impl ClientMetadata {
    /// The origin of its first callback, or of its home page; empty for a native client that has neither.
    fn public_url(&self) -> String {
        let addresses = self.redirect_uris.iter().chain(&self.pages.home);
        let origins = addresses.filter_map(|uri| Url::parse(uri).ok()).map(|url| url.origin());
        origins.filter(url::Origin::is_tuple).map(|origin| origin.ascii_serialization()).next().unwrap_or_default()
    }
}

/// What is noted of a client.
fn of_client(kind: Kind, client: &RegisteredClient) -> Event {
    Event::new(kind).relying_party(&client.name).client(&client.relying_party.client_id)
}

/// The token that a client shows: in one Authorization header, and of the kind that is asked for here.
fn bearer<'a>(headers: &'a HeaderMap, prefix: &str) -> Result<&'a str, RegistrationRequestError> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (sent.next(), sent.next()) else { return Err(RegistrationRequestError::TokenMissing) };
    let (scheme, token) = header.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(RegistrationRequestError::TokenMissing);
    }
    // What is a secret of another kind is none of this one (C8).
    let token = token.trim_matches(' ');
    if token.starts_with(prefix) { Ok(token) } else { Err(RegistrationError::TokenInvalid.into()) }
}

/// What a client sends: looked at once it is known who it is.
#[derive(Clone, Copy)]
struct Submission<'a> {
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

impl Submission<'_> {
    /// The JSON object in the body (RFC 7591 3.1).
    fn object(self) -> Result<Map<String, Value>, MetadataError> {
        let media_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(MetadataError::NotAnObject);
        }
        serde_json::from_slice(self.body).map_err(|_| MetadataError::NotAnObject)
    }
}
