//! What a client may change of itself (RFC 7592 2.2): everything that it could have registered, but not what it is, nor
//! what ops have said of it. Pure.

use serde_json::{Map, Value};

use crate::oidc::registration::members::{Fault, MetadataError};
use crate::oidc::registration::metadata::{self, ClientMetadata};
use crate::registry::{ClientCredential, PolicyConflict, RegisteredClient, RelyingParty};

/// What the broker chooses: a client that sends it back is not heard (RFC 7592 2.2).
const CHOSEN_HERE: [&str; 4] =
    ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"];

/// The client names itself, and neither its id nor its secret changes.
pub(super) fn check_constants(sent: &Map<String, Value>, client: &RegisteredClient) -> Result<(), MetadataError> {
    let own = client.relying_party.client_id.as_str();
    if sent.get("client_id").and_then(Value::as_str) != Some(own) {
        return Err(MetadataError::Member("client_id", Fault::Changed));
    }
    if let Some(secret) = sent.get("client_secret").filter(|secret| !secret.is_null()) {
        let known = client.relying_party.credential.secret();
        let same = secret.as_str().zip(known).is_some_and(|(sent, known)| known.hash.matches(sent));
        if !same {
            return Err(MetadataError::Member("client_secret", Fault::Changed));
        }
    }
    let chosen = CHOSEN_HERE.into_iter().find(|name| sent.get(*name).is_some_and(|value| !value.is_null()));
    chosen.map_or(Ok(()), |name| Err(MetadataError::Member(name, Fault::NotYours)))
}

/// It asks for grants within the word of ops, or else within what anybody may register.
pub(super) fn check_grant_types(wanted: &ClientMetadata, client: &RegisteredClient) -> Result<(), MetadataError> {
    let said = client.word_of_ops.grant_types.as_ref().map(|kinds| kinds.iter().copied().collect());
    let allowed = said.unwrap_or_else(metadata::registrable);
    let within = wanted.policy.grant_types.is_subset(&allowed);
    if within { Ok(()) } else { Err(MetadataError::Member("grant_types", Fault::NotAllowed)) }
}

/// The client as it has changed itself, with the word of ops on top: a registration token takes nothing of it back
/// (CVE-2026-9705).
pub(super) fn with_the_word_of_ops(mut client: RegisteredClient) -> Result<RegisteredClient, MetadataError> {
    let mut said = client.word_of_ops.clone();
    // Those are a limit, and were held against what it asks for.
    said.grant_types = None;
    let sector = client.sector();
    match said.apply(&mut client.relying_party, sector) {
        Ok(()) => Ok(client),
        Err(PolicyConflict::NoSector) => Err(MetadataError::Member("sector_identifier_uri", Fault::Sector)),
        Err(PolicyConflict::PublicClient | PolicyConflict::Fapi2) => {
            Err(MetadataError::Member("token_endpoint_auth_method", Fault::NotAllowed))
        }
    }
}

/// The changed client, with the secret that it has if it still needs one.
pub(super) fn with_secret_of(mut new: RelyingParty, old: RelyingParty) -> RelyingParty {
    if new.credential.secret().is_some() && old.credential.secret().is_some() {
        (new.credential, new.next_credential) = (old.credential, old.next_credential);
        (new.last_credential_version, new.credential_at) = (old.last_credential_version, old.credential_at);
    } else if let ClientCredential::Secret(secret) = &mut new.credential {
        // A secret that comes back is another one than any before.
        secret.version = old.last_credential_version + 1;
        new.last_credential_version = secret.version;
    } else {
        new.last_credential_version = old.last_credential_version;
    }
    new.signing_key_choice = old.signing_key_choice;
    new
}
