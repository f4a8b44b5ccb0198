//! Clients that register themselves (RFC 7591).

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::oidc::tests::world::{Answer, Browser, ISSUER, VERIFIER, World, claims};
use crate::registry::{ClientAuthMethod, ClientCredential, Registration, SubjectType};
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

    /// What a client asks of its own endpoint.
    pub(super) async fn manage(&self, method: &str, client: &Value, body: &Value) -> Answer {
        let path = format!("/register/{}", client["client_id"].as_str().unwrap());
        self.asked(method, &path, client["registration_access_token"].as_str().unwrap(), body).await
    }

    pub(super) async fn clients_left(&self) -> u32 {
        self.registry.snapshot().registration(&"shop".parse().unwrap()).unwrap().clients_left
    }
}

pub(super) const CALLBACK: &str = "https://shop.example/cb";

pub(super) fn with(mut members: Value, changed: &Value) -> Value {
    members.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    members
}

#[track_caller]
pub(super) fn assert_refused(answer: &Answer, code: &str, member: &str) {
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

// R4, R5
#[tokio::test]
async fn callbacks_that_could_be_somebody_elses_are_refused() {
    let world = World::new().await;
    world.open_registration(1).await;
    for callbacks in [
        json!(["javascript:alert(1)"]),
        json!(["JavaScript:alert(1)"]),
        json!(["data:text/html,x"]),
        json!([CALLBACK, "https://shop.example/cb#fragment"]),
        json!(["/cb"]),
        json!(["https://*.shop.example/cb"]),
        json!(["https://shop.example/cb\0"]),
        json!(["https://shop.example/cb?state=x"]),
        json!(["http://shop.example/cb"]),
        json!(["http://127.0.0.1/cb"]),
        json!([]),
    ] {
        let answer = world.register(&json!({"redirect_uris": callbacks})).await;
        assert_refused(&answer, "invalid_redirect_uri", "redirect_uris");
    }
    for callbacks in [json!("https://shop.example/cb"), json!([1]), json!([""]), json!(vec![CALLBACK; 33])] {
        let answer = world.register(&json!({"redirect_uris": callbacks})).await;
        assert_refused(&answer, "invalid_client_metadata", "redirect_uris");
    }
    assert_eq!(world.clients_left().await, 1);
}

#[tokio::test]
async fn members_that_cannot_be_kept_to_are_refused_by_name() {
    let world = World::new().await;
    world.open_registration(1).await;
    for (member, value) in [
        ("application_type", json!("spa")),
        ("response_types", json!(["code", "token"])),
        ("response_types", json!(["id_token"])),
        ("response_types", json!([])),
        ("grant_types", json!(["implicit"])),
        ("grant_types", json!(["authorization_code", "password"])),
        ("grant_types", json!(["authorization_code", "urn:ietf:params:oauth:grant-type:token-exchange"])),
        ("grant_types", json!([])),
        ("token_endpoint_auth_method", json!("tls_client_auth")),
        ("token_endpoint_auth_method", json!("self_signed_tls_client_auth")),
        ("token_endpoint_auth_method", json!(1)),
        ("token_endpoint_auth_signing_alg", json!("none")),
        ("token_endpoint_auth_signing_alg", json!("HS512")),
        ("id_token_signed_response_alg", json!("none")),
        ("id_token_signed_response_alg", json!("HS256")),
        ("id_token_encrypted_response_alg", json!("RSA-OAEP")),
        ("userinfo_signed_response_alg", json!("none")),
        ("userinfo_encrypted_response_alg", json!("RSA1_5")),
        ("introspection_signed_response_alg", json!("HS256")),
        ("request_object_signing_alg", json!("HS256")),
        ("request_object_encryption_alg", json!("RSA-OAEP")),
        ("request_object_encryption_enc", json!("A128GCM")),
        ("subject_type", json!("secret")),
        ("sector_identifier_uri", json!("http://shop.example/sector")),
        ("logo_uri", json!("http://shop.example/logo.png")),
        ("logo_uri", json!("javascript:alert(1)")),
        ("policy_uri", json!("data:text/html,x")),
        ("tos_uri", json!(7)),
        ("client_uri", json!("https://user@shop.example/")),
        ("initiate_login_uri", json!("http://shop.example/login")),
        ("request_uris", json!(["http://shop.example/request.jwt"])),
        ("request_uris", json!(["file:///etc/passwd"])),
        ("post_logout_redirect_uris", json!(["javascript:alert(1)"])),
        ("backchannel_logout_uri", json!("https://shop.example/logout#x")),
        ("backchannel_logout_uri", json!("http://shop.example/logout")),
        ("backchannel_logout_session_required", json!("yes")),
        ("frontchannel_logout_uri", json!("https://other.example/logout")),
        ("frontchannel_logout_session_required", json!(1)),
        ("default_max_age", json!(-1)),
        ("default_max_age", json!("60")),
        ("require_auth_time", json!("true")),
        ("default_acr_values", json!("1")),
        ("require_pushed_authorization_requests", json!("true")),
        ("dpop_bound_access_tokens", json!(1)),
        ("client_name", json!("")),
        ("client_name", json!("x".repeat(257))),
        ("client_name", json!("a\u{202e}b")),
        ("client_name", json!("\u{1b}[2J")),
        ("contacts", json!("ops@shop.example")),
        ("jwks", json!({"keys": []})),
        ("jwks", json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})),
        ("jwks_uri", json!("http://shop.example/jwks")),
    ] {
        assert_refused(&world.register(&json!({member: value})).await, "invalid_client_metadata", member);
    }
    let odd = world.register(&json!({"<script>alert(1)</script>_alg": "x"})).await;
    assert_refused(&odd, "invalid_client_metadata", "An algorithm");
    assert!(!odd.text().contains("alert"));
    assert_eq!(world.clients_left().await, 1);
}

#[tokio::test]
async fn members_that_contradict_each_other_are_refused() {
    let world = World::new().await;
    world.open_registration(1).await;
    for (members, named) in [
        (json!({"token_endpoint_auth_method": "private_key_jwt"}), "jwks"),
        (json!({"jwks": {"keys": [key()]}, "jwks_uri": "https://shop.example/jwks"}), "jwks"),
        (json!({"token_endpoint_auth_method": "none", "grant_types": ["client_credentials"]}), "grant_types"),
        (
            json!({"token_endpoint_auth_method": "client_secret_jwt", "token_endpoint_auth_signing_alg": "ES256"}),
            "token_endpoint_auth_signing_alg",
        ),
        (json!({"grant_types": ["client_credentials"], "response_types": ["code"]}), "response_types"),
        (
            json!({"subject_type": "pairwise", "redirect_uris": [CALLBACK, "https://two.example/cb"]}),
            "sector_identifier_uri",
        ),
    ] {
        assert_refused(&world.register(&members).await, "invalid_client_metadata", named);
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() {
    let world = World::new().await;
    world.open_registration(1).await;
    let send = async |media_type: &str, body: String| {
        let request = Request::post("/register").header("authorization", format!("bearer {TOKEN}"));
        world.send(request.header("content-type", media_type).body(body.into()).unwrap()).await
    };
    let good = json!({"redirect_uris": [CALLBACK]}).to_string();
    for (media_type, body) in [
        ("application/x-www-form-urlencoded", good.clone()),
        ("text/plain", good.clone()),
        ("application/json", String::new()),
        ("application/json", "[]".to_owned()),
        ("application/json", "{".to_owned()),
        ("application/json", "[".repeat(60_000)),
        ("application/json", format!("{{\"a\":{}", "[".repeat(60_000))),
        ("application/json", "\"x\"".to_owned()),
    ] {
        assert_refused(&send(media_type, body).await, "invalid_client_metadata", "JSON object");
    }
    assert_eq!(send("application/json", "x".repeat(70_000)).await.status, 413);
    assert_eq!(send("Application/JSON; charset=utf-8", good).await.status, 201);
}

fn key() -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": "1", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
}

#[tokio::test]
async fn all_that_is_understood_is_kept_and_said_back() {
    let world = World::new().await;
    world.open_registration(1).await;
    let members = json!({
        "application_type": "web",
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "PS256",
        "jwks": {"keys": [key()]},
        "client_uri": "https://shop.example/",
        "logo_uri": "https://shop.example/logo.png",
        "policy_uri": "https://shop.example/policy",
        "tos_uri": "https://shop.example/terms",
        "initiate_login_uri": "https://shop.example/login",
        "contacts": ["ops@shop.example"],
        "subject_type": "pairwise",
        "id_token_signed_response_alg": "ES256",
        "userinfo_signed_response_alg": "RS256",
        "introspection_signed_response_alg": "ES256",
        "request_object_signing_alg": "none",
        "request_uris": ["https://shop.example/request.jwt#hash"],
        "post_logout_redirect_uris": ["https://shop.example/bye?a=b"],
        "backchannel_logout_uri": "https://api.shop.example/logout",
        "backchannel_logout_session_required": true,
        "frontchannel_logout_uri": "https://shop.example/logout",
        "frontchannel_logout_session_required": true,
        "default_max_age": 600,
        "require_auth_time": true,
        "default_acr_values": ["silver"],
        "require_pushed_authorization_requests": true,
        "require_signed_request_object": true,
        "dpop_bound_access_tokens": true,
        "tls_client_certificate_bound_access_tokens": true,
    });
    let client = world.registered(&members).await;
    for (name, value) in members.as_object().unwrap() {
        assert_eq!(&client[name], value, "{name}");
    }
    assert!(client.get("client_secret").is_none() && client.get("client_secret_expires_at").is_none());
    let snapshot = world.registry.snapshot();
    let party = snapshot.client(client["client_id"].as_str().unwrap()).unwrap().relying_party;
    assert!(matches!(party.credential, ClientCredential::Nothing));
    assert_eq!(party.auth_method, ClientAuthMethod::PrivateKeyJwt);
    let policy = &party.policy;
    assert!(policy.require_par && policy.require_dpop && policy.require_certificate_binding);
    assert!(policy.require_signed_request);
    assert_eq!(policy.subject_type, SubjectType::Pairwise { sector: "shop.example".into() });
    assert_eq!((policy.assertion_alg.as_deref(), policy.request_object_alg.as_deref()), (Some("PS256"), Some("none")));
    assert_eq!((policy.default_max_age, policy.default_acr_values.as_slice()), (Some(600), &["silver".to_owned()][..]));
    assert_eq!(party.logout.backchannel.as_deref(), Some("https://api.shop.example/logout"));
    assert!(party.logout.frontchannel_session);
    assert_eq!(party.pages.initiate_login.as_deref(), Some("https://shop.example/login"));
    assert_eq!(party.request_uris, ["https://shop.example/request.jwt#hash"]);
}

#[tokio::test]
async fn public_clients_have_no_secret_and_always_send_a_challenge() {
    let world = World::new().await;
    world.open_registration(1).await;
    let members = json!({"application_type": "native", "token_endpoint_auth_method": "none",
        "redirect_uris": ["http://127.0.0.1/cb", "com.example.shop:/cb"]});
    let client = world.registered(&members).await;
    assert!(client.get("client_secret").is_none());
    let snapshot = world.registry.snapshot();
    let known = snapshot.client(client["client_id"].as_str().unwrap()).unwrap();
    assert!(known.relying_party.pkce_required && known.relying_party.auth_method == ClientAuthMethod::None);
}

#[tokio::test]
async fn the_name_of_an_application_that_users_trust_is_nobody_elses() {
    let world = World::new().await;
    world.open_registration(2).await;
    for name in ["<alpha> & co", "ALPHA & CO", "alpha co", "\u{430}lpha co", "aIpha c0", "beta", "B E T A"] {
        assert_refused(&world.register(&json!({"client_name": name})).await, "invalid_client_metadata", "client_name");
    }
    world.registered(&json!({"client_name": "Alphabet Shop"})).await;
}

// RFC 7591 5; CVE-2026-1180: nothing that is registered makes the broker speak to something internal.
#[tokio::test]
async fn internal_addresses_are_never_fetched() {
    let world = World::new().await;
    world.open_registration(2).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let internal = format!("https://127.0.0.1:{}/x", listener.local_addr().unwrap().port());
    let sector = json!({"sector_identifier_uri": internal, "subject_type": "pairwise"});
    assert_refused(&world.register(&sector).await, "invalid_client_metadata", "sector_identifier_uri");
    let addresses = json!({"logo_uri": internal, "policy_uri": internal, "tos_uri": internal, "client_uri": internal,
        "jwks_uri": internal, "backchannel_logout_uri": internal, "request_uris": [internal],
        "initiate_login_uri": internal, "token_endpoint_auth_method": "private_key_jwt"});
    world.registered(&addresses).await;
    let visited = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(visited.is_err());
    // Without a token not even a public address would be.
    let answer =
        world.asked("POST", "/register", "hwi_wrong", &with(json!({"redirect_uris": [CALLBACK]}), &sector)).await;
    assert_eq!(answer.status, 401);
}

/// Serves one document at one address of loopback.
async fn published(document: Value) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/sector.json", listener.local_addr().unwrap());
    let app = axum::Router::new().route("/sector.json", axum::routing::get(async || axum::Json(document)));
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn a_sector_names_all_callbacks() {
    let world = World::with("http://localhost:8080", vec!["127.0.0.0/8".parse().unwrap()]).await;
    world.open_registration(1).await;
    let callbacks = json!([CALLBACK, "https://two.example/cb"]);
    for bad in [json!([CALLBACK]), json!([]), json!({"redirect_uris": callbacks}), json!("x")] {
        let sector = json!({"redirect_uris": callbacks, "sector_identifier_uri": published(bad).await});
        assert_refused(&world.register(&sector).await, "invalid_client_metadata", "sector_identifier_uri");
    }
    let good = published(json!([CALLBACK, "https://two.example/cb", "https://three.example/cb"])).await;
    let members = json!({"redirect_uris": callbacks, "sector_identifier_uri": good, "subject_type": "pairwise"});
    let client = world.registered(&members).await;
    let snapshot = world.registry.snapshot();
    let policy = &snapshot.client(client["client_id"].as_str().unwrap()).unwrap().relying_party.policy;
    assert_eq!(policy.subject_type, SubjectType::Pairwise { sector: "127.0.0.1".into() });
}

#[tokio::test]
async fn a_registered_client_logs_its_user_in() {
    let world = World::new().await;
    world.open_registration(1).await;
    let client = world.registered(&json!({"token_endpoint_auth_method": "client_secret_post"})).await;
    world.allow("shop", "alpha").await;
    let (id, secret) = (client["client_id"].as_str().unwrap(), client["client_secret"].as_str().unwrap());
    let code = world.sign_in(&mut Browser::default(), &[("client_id", id), ("redirect_uri", CALLBACK)]).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", id),
        ("client_secret", secret),
    ];
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let answer = world.token(None, &form).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(claims(answer.json()["id_token"].as_str().unwrap())["aud"], id);
}
