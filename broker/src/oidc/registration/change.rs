//! What a client may change of itself (RFC 7592 2.2): everything that it could have registered, but not what it is, nor
//! what ops have said of it. Pure.

use serde_json::{Map, Value};

use crate::oidc::registration::address::AddressRules;
use crate::oidc::registration::members::{Fault, MetadataError};
use crate::oidc::registration::metadata::{self, ClientMetadata};
use crate::registry::{ClientAuthMethod, ClientCredential, RegisteredClient, RelyingParty};

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

/// Whatever of the policy is not as the client had asked for it is the word of ops, and stays.
pub(super) fn keep_the_word_of_ops(
    wanted: &mut ClientMetadata,
    client: &RegisteredClient,
    rules: AddressRules,
) -> Result<(), MetadataError> {
    let (party, now) = (&client.relying_party, &client.relying_party.policy);
    // Rules may have become stricter since: then all that is, is taken for the word of ops.
    let asked = client.metadata.as_object().and_then(|metadata| ClientMetadata::read(metadata, rules).ok());
    let asked = asked.as_ref().map(|asked| (asked.id_token_alg, &asked.policy));
    let policy = &mut wanted.policy;
    let by_ops = asked.map(|(_, asked)| &asked.grant_types) != Some(&now.grant_types);
    let allowed = if by_ops { now.grant_types.clone() } else { metadata::registrable() };
    if !policy.grant_types.is_subset(&allowed) {
        return Err(MetadataError::Member("grant_types", Fault::NotAllowed));
    }
    if asked.map(|(_, asked)| asked.require_par) != Some(now.require_par) {
        policy.require_par = now.require_par;
    }
    if asked.map(|(_, asked)| asked.require_dpop) != Some(now.require_dpop) {
        policy.require_dpop = now.require_dpop;
    }
    if asked.map(|(_, asked)| &asked.subject_type) != Some(&now.subject_type) {
        policy.subject_type = now.subject_type.clone();
    }
    if asked.map(|(algorithm, _)| algorithm) != Some(party.id_token_alg) {
        wanted.id_token_alg = party.id_token_alg;
    }
    if now.is_fapi2() && wanted.auth_method != ClientAuthMethod::PrivateKeyJwt {
        return Err(MetadataError::Member("token_endpoint_auth_method", Fault::NotAllowed));
    }
    // No client registers these.
    (policy.profile, policy.claims_in_id_token) = (now.profile, now.claims_in_id_token);
    Ok(())
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
    new.pkce_required |= old.pkce_required;
    new
}
