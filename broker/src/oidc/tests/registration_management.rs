//! Clients that look after themselves (RFC 7592), and what they cannot take back.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::oidc::tests::registration::{CALLBACK, assert_refused, with};
use crate::oidc::tests::world::{Browser, World};
use crate::registry::{ClientPolicyChange, GrantType, SecurityProfile};
use crate::storage::Expect;

/// A client with one secret, as it was told.
async fn client(world: &World) -> Value {
    world.open_registration(2).await;
    world.registered(&json!({"client_name": "Shop"})).await
}

fn update(client: &Value, changed: &Value) -> Value {
    with(json!({"client_id": client["client_id"], "redirect_uris": [CALLBACK]}), changed)
}

async fn set_policy(world: &World, client: &Value, change: ClientPolicyChange) {
    world.registry.set_client_policy(client["client_id"].as_str().unwrap(), &change).await.unwrap();
}

#[tokio::test]
async fn a_client_reads_what_is_registered() {
    let world = World::new().await;
    let client = client(&world).await;
    let answer = world.manage("GET", &client, &Value::Null).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    assert_eq!(answer.json(), client);
}

#[tokio::test]
async fn unknown_clients_and_wrong_tokens_look_the_same() {
    let world = World::new().await;
    let (one, two) = (client(&world).await, world.registered(&json!({})).await);
    let token = |client: &Value| client["registration_access_token"].as_str().unwrap().to_owned();
    let mut answers = Vec::new();
    for (id, token) in [
        (one["client_id"].as_str().unwrap(), token(&two)),
        (one["client_id"].as_str().unwrap(), "hwm_x".to_owned()),
        (one["client_id"].as_str().unwrap(), "hwi_initial".to_owned()),
        (one["client_id"].as_str().unwrap(), one["client_secret"].as_str().unwrap().to_owned()),
        ("nobody", token(&one)),
        (&world.client_id("beta"), token(&one)),
        ("%2e%2e", token(&one)),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let request = Request::builder().method(method).uri(format!("/register/{id}"));
            let request = request.header("authorization", format!("Bearer {token}"));
            let body = Body::from(update(&one, &json!({})).to_string());
            let answer = world.send(request.header("content-type", "application/json").body(body).unwrap()).await;
            assert_eq!(answer.status, 401, "{method} {id}");
            answers.push((answer.text().to_owned(), answer.header("www-authenticate").to_owned()));
        }
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    let bare = Request::get(format!("/register/{}", one["client_id"].as_str().unwrap())).body(Body::empty()).unwrap();
    assert_eq!(world.send(bare).await.status, 401);
    assert_eq!(world.manage("GET", &one, &Value::Null).await.status, 200);
}

#[tokio::test]
async fn an_update_replaces_everything_but_id_and_secret() {
    let world = World::new().await;
    let client = client(&world).await;
    let changed = json!({"redirect_uris": ["https://shop.example/new"], "logo_uri": "https://shop.example/logo",
        "client_secret": client["client_secret"]});
    let answer = world.manage("PUT", &client, &update(&client, &changed)).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"), "{}", answer.text());
    let told = answer.json();
    assert_eq!(told["redirect_uris"], json!(["https://shop.example/new"]));
    assert_eq!(told.get("client_name"), None);
    for kept in ["client_id", "client_secret", "registration_access_token", "client_id_issued_at"] {
        assert_eq!(told[kept], client[kept], "{kept}");
    }
    let snapshot = world.registry.snapshot();
    let known = snapshot.client(client["client_id"].as_str().unwrap()).unwrap();
    assert_eq!(known.relying_party.redirect_uris, ["https://shop.example/new"]);
    assert_eq!(known.display_name, client["client_id"].as_str().unwrap());
    assert_eq!(world.clients_left().await, 1);
}

#[tokio::test]
async fn a_client_changes_neither_what_it_is_nor_what_the_broker_chose() {
    let world = World::new().await;
    let client = client(&world).await;
    for (member, value) in [
        ("client_id", json!("another")),
        ("client_id", Value::Null),
        ("client_secret", json!("chosen")),
        ("client_secret", json!(1)),
        ("registration_access_token", client["registration_access_token"].clone()),
        ("registration_client_uri", client["registration_client_uri"].clone()),
        ("client_secret_expires_at", json!(0)),
        ("client_id_issued_at", json!(1)),
        ("grant_types", json!(["urn:ietf:params:oauth:grant-type:token-exchange"])),
        ("client_name", json!("alpha")),
    ] {
        let answer = world.manage("PUT", &client, &update(&client, &json!({member: value}))).await;
        assert_refused(&answer, "invalid_client_metadata", member);
    }
    assert_eq!(world.manage("GET", &client, &Value::Null).await.json(), client);
}

// CVE-2026-9705: a registration token takes nothing back that ops have said.
#[tokio::test]
async fn the_word_of_ops_stays() {
    let world = World::new().await;
    let client = client(&world).await;
    let demands = ClientPolicyChange {
        require_par: Some(true),
        require_dpop: Some(true),
        require_pkce: Some(true),
        pairwise: Some(true),
        grant_types: Some(vec![GrantType::AuthorizationCode, GrantType::TokenExchange]),
        claims_in_id_token: Some(true),
        ..ClientPolicyChange::default()
    };
    set_policy(&world, &client, demands).await;
    let told = world.manage("GET", &client, &Value::Null).await.json();
    assert_eq!(
        (&told["require_pushed_authorization_requests"], &told["subject_type"]),
        (&json!(true), &json!("pairwise"))
    );
    let policy = || {
        let snapshot = world.registry.snapshot();
        let party = snapshot.client(client["client_id"].as_str().unwrap()).unwrap().relying_party;
        (party.policy.clone(), party.pkce_required)
    };
    let before = policy();
    let harmless = json!({"require_pushed_authorization_requests": false, "dpop_bound_access_tokens": false,
        "subject_type": "public"});
    let obedient = json!({"require_pushed_authorization_requests": true, "dpop_bound_access_tokens": true,
        "subject_type": "pairwise"});
    // What ops demand must not become what the client had asked for, and may take back.
    for wanted in [&harmless, &obedient, &harmless] {
        assert_eq!(world.manage("PUT", &client, &update(&client, wanted)).await.status, 200);
        let (now, pkce) = policy();
        assert!(now.require_par && now.require_dpop && now.claims_in_id_token && pkce);
        assert_eq!(now.subject_type, before.0.subject_type);
    }
    let granted = json!({"grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:token-exchange"]});
    assert_eq!(world.manage("PUT", &client, &update(&client, &granted)).await.status, 200);
    let more = json!({"grant_types": ["authorization_code", "client_credentials"]});
    assert_refused(
        &world.manage("PUT", &client, &update(&client, &more)).await,
        "invalid_client_metadata",
        "grant_types",
    );
}

#[tokio::test]
async fn a_fapi2_client_keeps_its_kind_of_authentication() {
    let world = World::new().await;
    world.open_registration(1).await;
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    let by_key = json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": keys});
    let client = world.registered(&by_key).await;
    let profile = Some(SecurityProfile::Fapi2);
    set_policy(&world, &client, ClientPolicyChange { profile, ..ClientPolicyChange::default() }).await;
    let weaker = world.manage("PUT", &client, &update(&client, &json!({}))).await;
    assert_refused(&weaker, "invalid_client_metadata", "token_endpoint_auth_method");
    assert_eq!(world.manage("PUT", &client, &update(&client, &by_key)).await.status, 200);
}

#[tokio::test]
async fn another_way_of_authentication_brings_its_own_secret() {
    let world = World::new().await;
    let client = client(&world).await;
    let public = json!({"token_endpoint_auth_method": "none"});
    let told = world.manage("PUT", &client, &update(&client, &public)).await.json();
    assert!(told.get("client_secret").is_none());
    let told = world.manage("PUT", &client, &update(&client, &json!({}))).await.json();
    assert_ne!(told["client_secret"], client["client_secret"]);
    let snapshot = world.registry.snapshot();
    let party = snapshot.client(client["client_id"].as_str().unwrap()).unwrap().relying_party;
    assert_eq!((party.credential.version(), party.last_credential_version), (2, 2));
}

#[tokio::test]
async fn a_client_removes_itself() {
    let world = World::new().await;
    let client = client(&world).await;
    world.allow("shop", "alpha").await;
    let removed = world.manage("DELETE", &client, &Value::Null).await;
    assert_eq!((removed.status.as_u16(), removed.text()), (204, ""));
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(world.manage(method, &client, &update(&client, &json!({}))).await.status, 401);
    }
    let request = [("client_id", client["client_id"].as_str().unwrap()), ("redirect_uri", CALLBACK)];
    world.authorize(&mut Browser::default(), &request).await.assert_page(400);
    // Nor does the token register another one in its place.
    assert_eq!(world.clients_left().await, 1);
}

#[tokio::test]
async fn a_closed_relying_party_has_no_clients_to_look_after() {
    let world = World::new().await;
    let client = client(&world).await;
    let id = client["client_id"].as_str().unwrap();
    let writes =
        vec![world.registry.clients.delete(id, Expect::Any), world.registry.registrations.delete("shop", Expect::Any)];
    world.registry.reached(world.registry.clients.commit(writes).await.unwrap()).await.unwrap();
    assert_eq!(world.manage("PUT", &client, &update(&client, &json!({}))).await.status, 401);
    assert_eq!(world.register(&json!({})).await.status, 401);
}
