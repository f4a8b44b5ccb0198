//! An OpenID provider for tests: it says what it is told to say, in tokens that it signs.

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use crate::clock;
use crate::provider::{Registration, SecretShown};

/// A provider on loopback.
pub(crate) struct TestProvider {
    pub(crate) issuer: String,
    pub(crate) script: Arc<Mutex<Script>>,
}

/// What it says.
pub(crate) struct Script {
    pub(crate) issuer: String,
    pub(crate) key: EcdsaKeyPair,
    pub(crate) header: Value,
    /// Over the usual claims; null removes one.
    pub(crate) claims: Value,
    pub(crate) userinfo: Option<Value>,
    pub(crate) metadata: Value,
    pub(crate) token_error: Option<&'static str>,
    pub(crate) nonce: String,
    /// What was posted to the token endpoint, with the Authorization header.
    pub(crate) redeemed: Vec<String>,
    pub(crate) keys_fetched: usize,
}

type Shared = Arc<Mutex<Script>>;

pub(crate) fn new_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

impl TestProvider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script {
            issuer: issuer.clone(),
            key: new_key(),
            header: json!({"alg": "ES256", "kid": "one", "typ": "JWT"}),
            claims: json!({}),
            userinfo: Some(json!({"sub": "alice-1", "preferred_username": "alice@alpha"})),
            metadata: json!({}),
            token_error: None,
            nonce: String::new(),
            redeemed: Vec::new(),
            keys_fetched: 0,
        }));
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { issuer, script }
    }

    pub(crate) fn registration(&self) -> Registration {
        Registration {
            issuer: self.issuer.clone(),
            client_id: "beta".to_owned(),
            client_secret: "s3cret".into(),
            shown: SecretShown::Basic,
            redirect_uri: "https://beta.example/homeward/gate/callback".to_owned(),
            scopes: vec!["profile".to_owned()],
        }
    }

    /// What a browser brings back from a login that began with this address.
    pub(crate) fn log_in(&self, address: &Url) -> String {
        let parameter = |wanted: &str| address.query_pairs().find(|(name, _)| name == wanted).unwrap().1.into_owned();
        assert_eq!(parameter("code_challenge_method"), "S256");
        let mut script = self.script.lock().unwrap();
        script.nonce = parameter("nonce");
        format!("code=c-1&state={}", parameter("state"))
    }
}

async fn metadata(State(script): State<Shared>) -> Json<Value> {
    let script = script.lock().unwrap();
    let at = |path: &str| format!("{}/{path}", script.issuer);
    let mut metadata = json!({"issuer": script.issuer, "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"), "jwks_uri": at("jwks"), "userinfo_endpoint": at("userinfo"),
        "end_session_endpoint": at("logout")});
    merge(&mut metadata, &script.metadata);
    Json(metadata)
}

async fn jwks(State(script): State<Shared>) -> Json<Value> {
    let mut script = script.lock().unwrap();
    script.keys_fetched += 1;
    let point = script.key.public_key().as_ref().to_vec();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    Json(json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "one", "x": x, "y": y}]}))
}

async fn token(State(script): State<Shared>, headers: HeaderMap, form: String) -> (StatusCode, Json<Value>) {
    let mut script = script.lock().unwrap();
    let shown = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    script.redeemed.push(format!("{shown} {form}"));
    if let Some(error) = script.token_error {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": error })));
    }
    let now = clock::now().unix_timestamp();
    let mut claims = json!({"iss": script.issuer, "aud": "beta", "sub": "alice-1", "iat": now, "exp": now + 300,
        "nonce": script.nonce, "auth_time": now - 10});
    merge(&mut claims, &script.claims);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&script.header), part(&claims));
    let signature = script.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let id_token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    let answer = json!({"access_token": "at-1", "token_type": "Bearer", "expires_in": 300, "id_token": id_token});
    (StatusCode::OK, Json(answer))
}

async fn userinfo(State(script): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    assert_eq!(headers["authorization"], "Bearer at-1");
    script.lock().unwrap().userinfo.clone().map(Json).ok_or(StatusCode::UNAUTHORIZED)
}

fn merge(into: &mut Value, over: &Value) {
    for (name, value) in over.as_object().unwrap() {
        match value {
            Value::Null => into.as_object_mut().unwrap().remove(name),
            value => into.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
}
