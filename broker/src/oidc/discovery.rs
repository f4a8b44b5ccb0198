//! GET /.well-known/openid-configuration (OpenID Connect Discovery 1.0, 3).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde_json::json;

use crate::config::Issuer;
use crate::keys::SigningAlgorithm;
use crate::oidc::document::Document;
use crate::oidc::{Provider, path};
use crate::registry::Scope;

/// What caches may keep: it changes with the configuration only.
const KEPT: Duration = Duration::from_secs(3600);

/// The document. It says what is so and nothing else; RS256 comes first because some clients take the first they find.
pub(super) fn document(issuer: &Issuer) -> Document {
    let metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": issuer.address(path::AUTHORIZE),
        "token_endpoint": issuer.address(path::TOKEN),
        "userinfo_endpoint": issuer.address(path::USERINFO),
        "jwks_uri": issuer.address(path::JWKS),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [SigningAlgorithm::Rs256, SigningAlgorithm::Es256],
        "scopes_supported": Scope::ALL,
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "jti", "nonce", "at_hash", "auth_time", "amr", "preferred_username",
            "homeward_name", "name", "given_name", "family_name", "email", "email_verified", "groups"
        ],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": [SigningAlgorithm::Es256],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "authorization_response_iss_parameter_supported": true,
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    });
    Document::new(metadata.to_string())
}

/// Serves it.
pub(super) async fn get(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    provider.discovery.serve(&headers, KEPT)
}
