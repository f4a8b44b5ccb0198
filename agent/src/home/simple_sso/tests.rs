//! The agent as client of a server of django-simple-sso: here the gate's own, which is checked against the real ones.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;

use super::*;
use crate::clock;
use crate::recipe::Recipe;

const KEY: &str = "a-private-key-of-a-client";

/// A home at that origin.
pub(crate) fn home(origin: &str) -> SimpleSsoHome {
    let recipe = "name = 'a'\ntitle = 'A'\ndescription = ''\n[home.simple_sso]\nserver_path = '/server/'\n\
                  claims = { home_user_id = '/username', username = '/username', email = '/email', given_name = '/first_name' }";
    let recipe = Recipe::parse(recipe).unwrap().home.unwrap().simple_sso.unwrap();
    SimpleSsoHome {
        wire: Wire::new(None).unwrap(),
        server: format!("{origin}/server/").parse().unwrap(),
        public_key: "pub-1".to_owned(),
        key: SigningKey::new(KEY),
        callback: "https://alpha.example/homeward/oidc/callback".parse().unwrap(),
        recipe: recipe.as_home(),
    }
}

/// A server that knows one token, and says this of its user.
async fn server(user: Value) -> String {
    async fn request_token(headers: HeaderMap, body: String) -> String {
        let (key, now) = (SigningKey::new(KEY), clock::now());
        assert_eq!(headers["x-services-public-key"], "pub-1");
        let asked: Value = serde_json::from_str(key.open(&body, now).unwrap()).unwrap();
        let to = asked["redirect_to"].as_str().unwrap();
        assert!(to.starts_with("https://alpha.example/homeward/oidc/callback?state="), "{to}");
        key.sign("{\"request_token\": \"r-1\"}", now)
    }
    async fn verify(State(user): State<Arc<Value>>, body: String) -> Result<String, (StatusCode, String)> {
        let (key, now) = (SigningKey::new(KEY), clock::now());
        let asked: Value = serde_json::from_str(key.open(&body, now).unwrap()).unwrap();
        if asked["access_token"] == "a-1" {
            Ok(key.sign(&user.to_string(), now))
        } else {
            Err((StatusCode::BAD_REQUEST, "Failed to process the request".to_owned()))
        }
    }
    let routes = Router::new()
        .route("/server/request-token/", post(request_token))
        .route("/server/verify/", post(verify))
        .with_state(Arc::new(user));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    origin
}

fn answer(access_token: &str, key: &str) -> String {
    let payload = URL_SAFE_NO_PAD.encode(Value::from(access_token).to_string());
    format!("state=s&access_token={}", SigningKey::new(key).sign(&payload, clock::now()))
}

fn alice() -> Value {
    json!({"username": "alice", "email": "alice@alpha.example", "first_name": "Alice", "is_active": true})
}

#[tokio::test]
async fn users_of_a_server_are_vouched_for() {
    let home = home(&server(alice()).await);
    let (address, state) = home.begin(clock::now()).await.unwrap();
    assert!(address.path() == "/server/authorize/" && address.query() == Some("token=r-1") && state.len() == 43);
    let alice = home.finish(&answer("a-1", KEY), clock::now()).await.unwrap();
    assert_eq!((alice.home_user_id.as_str(), alice.username.as_str()), ("alice", "alice"));
    assert_eq!((alice.email.as_str(), alice.email_verified, alice.auth_time), ("alice@alpha.example", false, None));
}

#[tokio::test]
async fn forged_and_foreign_answers_are_refused() {
    let home = home(&server(alice()).await);
    let finish = async |query: &str| home.finish(query, clock::now()).await.unwrap_err();
    let forged = finish(&answer("a-1", "another-private-key")).await;
    assert!(matches!(forged, ElsewhereError::SimpleSso(ServerError::Signature(_))), "{forged}");
    let unknown = finish(&answer("a-2", KEY)).await;
    assert!(matches!(unknown, ElsewhereError::SimpleSso(ServerError::Refused { status: 400, .. })), "{unknown}");
    assert!(matches!(finish("state=s").await, ElsewhereError::SimpleSso(ServerError::Malformed)));
}

#[tokio::test]
async fn an_account_that_is_not_active_is_disabled() {
    for user in [json!({"username": "bob", "is_active": false}), json!({"username": "bob"})] {
        let home = home(&server(user).await);
        let refused = home.finish(&answer("a-1", KEY), clock::now()).await.unwrap_err();
        assert!(matches!(refused, ElsewhereError::SimpleSso(ServerError::Disabled)), "{refused}");
    }
}
