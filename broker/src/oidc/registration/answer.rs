//! The client information response (RFC 7591 3.2.1, RFC 7592 3): what is registered, and how to come back to it.

use axum::Json;
use http::HeaderName;
use http::header::{CACHE_CONTROL, PRAGMA};
use serde_json::{Value, json};

use crate::oidc::{Provider, path};
use crate::registry::{RegisteredClient, SubjectType};
use crate::secret::SecretError;

/// Headers and body of the response.
pub(super) type ClientInformation = ([(HeaderName, &'static str); 2], Json<Value>);

impl Provider {
    /// What a client is told of itself, with its secret and the token that it came by.
    pub(super) fn client_information(
        &self,
        client: &RegisteredClient,
        registration_token: &str,
    ) -> Result<ClientInformation, SecretError> {
        let (party, id) = (&client.relying_party, client.relying_party.client_id.as_str());
        let mut told = client.metadata.as_object().cloned().unwrap_or_default();
        let mut tell = |name: &str, value: Value| drop(told.insert(name.to_owned(), value));
        tell("client_id", json!(id));
        tell("client_id_issued_at", json!(client.registered_at));
        if let Some(secret) = party.credential.secret() {
            tell("client_secret", json!(*secret.open(&self.sealing)?));
            tell("client_secret_expires_at", json!(0));
        }
        tell("registration_access_token", json!(registration_token));
        tell("registration_client_uri", json!(self.issuer.address(&format!("{}/{id}", path::REGISTER))));
        // What ops have said since counts more than what the client had asked for.
        let policy = &party.policy;
        tell("grant_types", json!(policy.grant_types));
        tell("id_token_signed_response_alg", json!(party.id_token_alg));
        let subject_type = if policy.subject_type == SubjectType::Public { "public" } else { "pairwise" };
        tell("subject_type", json!(subject_type));
        for (name, demanded) in [
            ("require_pushed_authorization_requests", policy.require_par || policy.is_fapi2()),
            ("dpop_bound_access_tokens", policy.require_dpop),
        ] {
            if demanded {
                tell(name, json!(true));
            }
        }
        Ok(([(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")], Json(Value::Object(told))))
    }
}
