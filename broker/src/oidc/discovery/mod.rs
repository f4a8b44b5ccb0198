//! GET /.well-known/openid-configuration (OpenID Connect Discovery 1.0, 3), and the same document under the name that
//! OAuth has for it, /.well-known/oauth-authorization-server (RFC 8414 3: the issuer has no path).
//!
//! `jwks.rs` is the other document; `document.rs` serves both, so that caches can keep them.

mod document;
pub(super) mod jwks;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use url::Url;

use crate::config::Issuer;
use crate::keys::SigningAlgorithm;
use crate::oidc::{Provider, path};
use crate::registry::{CLIENT_SIGNING_ALGS, GrantType, Scope, alg_name};

pub(super) use document::Document;
pub use jwks::Publication;
pub(super) use jwks::PublishedKeys;

/// What caches may keep: it changes with the configuration only.
const KEPT: Duration = Duration::from_secs(3600);

/// How clients may authenticate where they speak for themselves.
const AUTH_METHODS: [&str; 5] =
    ["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth"];

/// What the claims of a user may be; what a home does not know is left out.
const CLAIMS: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "jti",
    "nonce",
    "at_hash",
    "auth_time",
    "amr",
    "acr",
    "sid",
    "preferred_username",
    "homeward_name",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "updated_at",
    "email",
    "email_verified",
    "address",
    "phone_number",
    "phone_number_verified",
    "groups",
];

/// The document. It says what is so and nothing else; RS256 comes first because some clients take the first they find.
/// `agent_url` is where clients show certificates.
pub(super) fn document(issuer: &Issuer, agent_url: &Url) -> Document {
    let mut metadata = endpoints(issuer, agent_url);
    for part in [requests(), clients(), answers()] {
        metadata.extend(part);
    }
    Document::new(Value::Object(metadata).to_string())
}

fn endpoints(issuer: &Issuer, agent_url: &Url) -> Map<String, Value> {
    let at = |path: &str| json!(issuer.address(path));
    // RFC 8705 5: the same, on the port that asks for certificates.
    let by_certificate = |path: &str| json!(format!("{}{path}", agent_url.as_str().trim_end_matches('/')));
    members(json!({
        "issuer": issuer,
        "authorization_endpoint": at(path::AUTHORIZE),
        "pushed_authorization_request_endpoint": at(path::PAR),
        "token_endpoint": at(path::TOKEN),
        "device_authorization_endpoint": at(path::DEVICE_AUTHORIZATION),
        "introspection_endpoint": at(path::INTROSPECT),
        "revocation_endpoint": at(path::REVOKE),
        "userinfo_endpoint": at(path::USERINFO),
        "end_session_endpoint": at(path::LOGOUT),
        "registration_endpoint": at(path::REGISTER),
        "jwks_uri": at(path::JWKS),
        "mtls_endpoint_aliases": {
            "pushed_authorization_request_endpoint": by_certificate(path::PAR),
            "token_endpoint": by_certificate(path::TOKEN),
            "device_authorization_endpoint": by_certificate(path::DEVICE_AUTHORIZATION),
            "introspection_endpoint": by_certificate(path::INTROSPECT),
            "revocation_endpoint": by_certificate(path::REVOKE),
            "userinfo_endpoint": by_certificate(path::USERINFO),
        },
    }))
}

/// What may be asked for, and how.
fn requests() -> Map<String, Value> {
    let request_objects = [signed_by_clients().as_slice(), &["none"]].concat();
    members(json!({
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": GrantType::ALL,
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": Scope::ALL,
        "claims_parameter_supported": true,
        "request_parameter_supported": true,
        "request_uri_parameter_supported": true,
        "require_request_uri_registration": true,
        "require_pushed_authorization_requests": false,
        "request_object_signing_alg_values_supported": request_objects,
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "display_values_supported": ["page", "popup", "touch"],
        "ui_locales_supported": ["en"],
    }))
}

/// How clients show who they are, and what is bound to them.
fn clients() -> Map<String, Value> {
    let or_none = [AUTH_METHODS.as_slice(), &["none"]].concat();
    let assertions = [signed_by_clients().as_slice(), &["HS256"]].concat();
    members(json!({
        "token_endpoint_auth_methods_supported": or_none,
        "token_endpoint_auth_signing_alg_values_supported": assertions,
        "introspection_endpoint_auth_methods_supported": AUTH_METHODS,
        "introspection_endpoint_auth_signing_alg_values_supported": assertions,
        "revocation_endpoint_auth_methods_supported": or_none,
        "revocation_endpoint_auth_signing_alg_values_supported": assertions,
        "dpop_signing_alg_values_supported": signed_by_clients(),
        "tls_client_certificate_bound_access_tokens": true,
    }))
}

/// What is answered.
fn answers() -> Map<String, Value> {
    let ours = [SigningAlgorithm::Rs256, SigningAlgorithm::Es256];
    members(json!({
        "subject_types_supported": ["public", "pairwise"],
        "id_token_signing_alg_values_supported": ours,
        "userinfo_signing_alg_values_supported": ours,
        "introspection_signing_alg_values_supported": ours,
        "claim_types_supported": ["normal"],
        "claims_supported": CLAIMS,
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "frontchannel_logout_supported": true,
        "frontchannel_logout_session_supported": true,
    }))
}

/// The algorithms by which clients may sign.
fn signed_by_clients() -> [&'static str; CLIENT_SIGNING_ALGS.len()] {
    CLIENT_SIGNING_ALGS.map(alg_name)
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// Serves it.
pub(super) async fn get(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    provider.discovery.serve(&headers, KEPT)
}
