//! Clients by their instance certificate, and tokens that are bound to it (RFC 8705). What the handshake and the registry
//! said of a connection is put into the request here, as the listener does it.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::json;

use crate::oidc::PeerCertificate;
use crate::oidc::tests::world::{Answer, Browser, CALLBACK, VERIFIER, World, claims};
use crate::registry::{ClientAuthMethod, GrantType};

fn certificate(name: &str) -> PeerCertificate {
    PeerCertificate::new(name.parse().unwrap(), format!("certificate of {name}").as_bytes())
}

fn thumbprint(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(certificate(name).thumbprint)
}

/// Posts a form over a connection with this certificate.
async fn post(world: &World, path: &str, shown: Option<&str>, form: &str) -> Answer {
    post_as(world, path, shown, None, form).await
}

async fn post_as(world: &World, path: &str, shown: Option<&str>, basic: Option<&str>, form: &str) -> Answer {
    let mut request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(name) = shown {
        request = request.extension(certificate(name));
    }
    if let Some(basic) = basic {
        request = request.header(AUTHORIZATION, basic);
    }
    world.send(request.body(form.to_owned().into()).unwrap()).await
}

async fn userinfo(world: &World, shown: Option<&str>, token: &str) -> Answer {
    let mut request = Request::get("/userinfo").header(AUTHORIZATION, format!("Bearer {token}"));
    if let Some(name) = shown {
        request = request.extension(certificate(name));
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

/// beta authenticates by its certificate.
async fn world() -> World {
    let world = World::new().await;
    let by_certificate = ClientAuthMethod::TlsClientAuth;
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().auth_method = by_certificate).await;
    for grant_type in [GrantType::TokenExchange, GrantType::ClientCredentials, GrantType::DeviceCode] {
        world.grant_type("beta", grant_type).await;
    }
    world.allow_with("beta", "alpha", |edge| edge.api_access = true).await;
    world
}

fn redemption(world: &World, code: &str) -> String {
    let beta = world.client_id("beta");
    let pairs = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("client_id", &beta),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[tokio::test]
async fn tokens_of_a_client_that_shows_its_certificate_are_bound_to_it() {
    let world = world().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let answer = post(&world, "/token", Some("beta"), &redemption(&world, &code)).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let (tokens, beta) = (answer.json(), world.client_id("beta"));
    assert_eq!(tokens["token_type"], "Bearer");
    let token = tokens["access_token"].as_str().unwrap();
    let form = format!("client_id={beta}&token={token}");
    let worth = post(&world, "/introspect", Some("beta"), &form).await.json();
    assert_eq!((&worth["active"], &worth["cnf"]), (&json!(true), &json!({"x5t#S256": thumbprint("beta")})));
    // On the other port, where nobody shows a certificate, and with another one, it is worth nothing.
    for shown in [None, Some("alpha")] {
        let refused = userinfo(&world, shown, token).await;
        assert_eq!(refused.status.as_u16(), 401);
        assert!(refused.header("www-authenticate").contains("error=\"invalid_token\""));
    }
    assert_eq!(userinfo(&world, Some("beta"), token).await.status.as_u16(), 200);
}

/// T2: the certificate speaks for the client of its instance, if that is how it authenticates.
#[tokio::test]
async fn a_certificate_speaks_for_its_own_client_only() {
    let world = world().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    for shown in [None, Some("alpha"), Some("delta")] {
        post(&world, "/token", shown, &redemption(&world, &code)).await.assert_token_error(401, "invalid_client");
    }
    let secret = post_as(&world, "/token", Some("beta"), Some(&world.basic("beta")), &redemption(&world, &code)).await;
    secret.assert_token_error(401, "invalid_client");
    // The code is still its owner's (C2, C3).
    assert_eq!(post(&world, "/token", Some("beta"), &redemption(&world, &code)).await.status.as_u16(), 200);
    // Whose method is another one is not let in by his certificate.
    let alpha = format!("grant_type=client_credentials&client_id={}", world.client_id("alpha"));
    world.grant_type("alpha", GrantType::ClientCredentials).await;
    post(&world, "/token", Some("alpha"), &alpha).await.assert_token_error(401, "invalid_client");
    // An instance that is cut off is no client, whatever it shows.
    world.quarantine("beta").await;
    let own = format!("grant_type=client_credentials&client_id={}", world.client_id("beta"));
    post(&world, "/token", Some("beta"), &own).await.assert_token_error(401, "invalid_client");
}

/// RFC 8705 3: whatever a client authenticates by, its policy may want its tokens bound.
#[tokio::test]
async fn a_policy_wants_tokens_bound_to_the_certificate() {
    let world = World::new().await;
    world.grant_type("beta", GrantType::ClientCredentials).await;
    world
        .change("beta", |beta| {
            beta.relying_party.as_mut().unwrap().policy.require_certificate_binding = true;
        })
        .await;
    let (basic, form) = (world.basic("beta"), "grant_type=client_credentials");
    for shown in [None, Some("alpha")] {
        post_as(&world, "/token", shown, Some(&basic), form).await.assert_token_error(400, "invalid_request");
    }
    let token = post_as(&world, "/token", Some("beta"), Some(&basic), form).await.json()["access_token"].clone();
    let form = format!("token={}", token.as_str().unwrap());
    let worth = post_as(&world, "/introspect", None, Some(&basic), &form).await.json();
    assert_eq!(worth["cnf"], json!({"x5t#S256": thumbprint("beta")}));
}

/// What was bound stays bound, and to the same certificate.
#[tokio::test]
async fn a_bound_token_is_exchanged_by_its_owner_for_a_bound_one() {
    let world = world().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let tokens = post(&world, "/token", Some("beta"), &redemption(&world, &code)).await.json();
    let token = tokens["access_token"].as_str().unwrap();
    let exchange = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}&audience=alpha\
         &subject_token_type=urn:ietf:params:oauth:token-type:access_token&client_id={}",
        world.client_id("beta")
    );
    let jwt = post(&world, "/token", Some("beta"), &exchange).await.json()["access_token"].clone();
    assert_eq!(claims(jwt.as_str().unwrap())["cnf"], json!({"x5t#S256": thumbprint("beta")}));
    // Its agent has renewed the certificate meanwhile: the old token is worth nothing any more.
    let renewed = PeerCertificate::new("beta".parse().unwrap(), b"another certificate of beta");
    let request = Request::post("/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded").extension(renewed);
    let refused = world.send(request.body(exchange.into()).unwrap()).await;
    refused.assert_token_error(400, "invalid_request");
}

#[tokio::test]
async fn a_device_asks_with_a_certificate_too() {
    let world = world().await;
    let form = format!("client_id={}&scope=openid", world.client_id("beta"));
    post(&world, "/device_authorization", None, &form).await.assert_token_error(401, "invalid_client");
    assert_eq!(post(&world, "/device_authorization", Some("beta"), &form).await.status.as_u16(), 200);
}
