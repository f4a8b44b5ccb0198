//! Clients that register themselves and look after themselves (RFC 7591, RFC 7592).

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::oidc::tests::world::{Answer, ISSUER, World};
use crate::registry::Registration;
use crate::secret::SecretHash;
use crate::storage::Expect;

const TOKEN: &str = "hwi_initial";

impl World {
    /// Lets clients of `shop` be registered by [`TOKEN`].
    pub(super) async fn open_registration(&self, clients: u32) {
        let registration = Registration {
            name: "shop".parse().unwrap(),
            initial_token: SecretHash::of(TOKEN),
            expires_at: self.time.now() + Duration::from_secs(3600),
            clients_left: clients,
            opened_at: self.time.now(),
        };
        let write = self.registry.registrations.put("shop", &registration, Expect::Any).unwrap();
        self.registry.reached(self.registry.registrations.commit(vec![write]).await.unwrap()).await.unwrap();
    }

    async fn asked(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request =
            if token.is_empty() { request } else { request.header("authorization", format!("Bearer {token}")) };
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// A registration of `https://shop.example/cb` with these members as well.
    pub(super) async fn register(&self, changed: &Value) -> Answer {
        self.asked("POST", "/register", TOKEN, &with(json!({"redirect_uris": [CALLBACK]}), changed)).await
    }

    pub(super) async fn registered(&self, changed: &Value) -> Value {
        let answer = self.register(changed).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    async fn manage(&self, method: &str, client: &Value, body: &Value) -> Answer {
        let path = format!("/register/{}", client["client_id"].as_str().unwrap());
        self.asked(method, &path, client["registration_access_token"].as_str().unwrap(), body).await
    }

    async fn clients_left(&self) -> u32 {
        self.registry.snapshot().registration(&"shop".parse().unwrap()).unwrap().clients_left
    }
}

const CALLBACK: &str = "https://shop.example/cb";

fn with(mut members: Value, changed: &Value) -> Value {
    members.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    members
}

#[track_caller]
fn assert_refused(answer: &Answer, code: &str, member: &str) {
    let error = answer.json();
    assert_eq!((answer.status.as_u16(), &error["error"]), (400, &json!(code)), "{member}: {error}");
    let sentence = error["error_description"].as_str().unwrap();
    assert!(sentence.contains(member), "{member}: {sentence}");
    assert!(sentence.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte)), "{sentence}");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_client_registers_and_finds_the_defaults_of_the_specification() {
    let world = World::new().await;
    world.open_registration(2).await;
    let answer = world.register(&json!({"client_name": "Shop", "unheard_of": 1, "client_name#de": "Laden"})).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (201, "no-store"));
    let client = answer.json();
    for (name, expected) in [
        ("redirect_uris", json!([CALLBACK])),
        ("client_name", json!("Shop")),
        ("application_type", json!("web")),
        ("grant_types", json!(["authorization_code"])),
        ("response_types", json!(["code"])),
        ("token_endpoint_auth_method", json!("client_secret_basic")),
        ("id_token_signed_response_alg", json!("RS256")),
        ("subject_type", json!("public")),
        ("client_secret_expires_at", json!(0)),
        ("client_id_issued_at", json!(world.time.now().as_secs())),
        ("unheard_of", Value::Null),
    ] {
        assert_eq!(client[name], expected, "{name}");
    }
    let id = client["client_id"].as_str().unwrap();
    assert!(id.starts_with("shop-"), "{id}");
    assert_eq!(client["registration_client_uri"], format!("{ISSUER}/register/{id}"));
    assert!(client["registration_access_token"].as_str().unwrap().starts_with("hwm_"));
    let snapshot = world.registry.snapshot();
    let known = snapshot.client(id).unwrap();
    assert_eq!((known.name.as_str(), known.display_name, known.public_url), ("shop", "Shop", "https://shop.example"));
    let secret = known.relying_party.credential.secret().unwrap();
    assert!(secret.hash.matches(client["client_secret"].as_str().unwrap()));
    assert!(!known.relying_party.policy.claims_in_id_token && !known.enrolled);
    assert_eq!(world.clients_left().await, 1);
}

#[tokio::test]
async fn only_the_initial_access_token_registers() {
    let world = World::new().await;
    let metadata = json!({"redirect_uris": [CALLBACK]});
    world.open_registration(1).await;
    let none = world.asked("POST", "/register", "", &metadata).await;
    assert_eq!((none.status.as_u16(), none.header("www-authenticate")), (401, "Bearer realm=\"homeward\""));
    for wrong in ["x", "hwi_", "hwi_other", "hwm_initial", "HWI_initial", "hwi_initialx"] {
        let answer = world.asked("POST", "/register", wrong, &metadata).await;
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.header("www-authenticate").contains("invalid_token"));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let request = Request::post(format!("/register?access_token={TOKEN}")).header("content-type", "application/json");
    assert_eq!(world.send(request.body(metadata.to_string().into()).unwrap()).await.status, 401);
    let both = Request::post("/register").header("authorization", format!("Bearer {TOKEN}"));
    let both = both.header("authorization", "Bearer x").header("content-type", "application/json");
    assert_eq!(world.send(both.body(metadata.to_string().into()).unwrap()).await.status, 401);
    assert_eq!(world.clients_left().await, 1);
    world.pass(3600);
    assert_eq!(world.register(&json!({})).await.status, 401);
}

#[tokio::test]
async fn a_token_registers_as_many_clients_as_it_was_opened_for() {
    let world = World::new().await;
    world.open_registration(2).await;
    let plain = json!({});
    let register = || world.register(&plain);
    let (one, two, three, four) = tokio::join!(register(), register(), register(), register());
    let mut statuses = [one, two, three, four].map(|answer| answer.status.as_u16());
    statuses.sort_unstable();
    assert_eq!((statuses, world.clients_left().await), ([201, 201, 401, 401], 0));
}
