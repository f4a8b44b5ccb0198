//! Client authentication and the token endpoint.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;

use crate::oidc::tests::world::{Browser, VERIFIER, World};

const FORM: &str = "grant_type=authorization_code&code=x&redirect_uri=x";

// T1, T2, T5
#[tokio::test]
async fn wrong_secrets_and_wrong_methods_look_the_same() {
    let world = World::new().await;
    let basic = |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let (beta, delta) = (world.client_id("beta"), world.client_id("delta"));
    let mut bodies = Vec::new();
    for authorization in [
        basic(&beta, "wrong"),
        basic(&beta, ""),
        basic("nobody", world.secret("beta")),
        basic(&delta, world.secret("delta")),
        basic(&beta, world.secret("delta")),
    ] {
        let answer = world.token(Some(&authorization), FORM).await;
        answer.assert_token_error(401, "invalid_client");
        assert!(answer.header("www-authenticate").starts_with("Basic "));
        bodies.push(answer.text().to_owned());
    }
    for (id, secret) in [(&beta, world.secret("beta")), (&delta, "wrong"), (&"nobody".to_owned(), "x")] {
        let answer = world.token(None, &format!("{FORM}&client_id={id}&client_secret={secret}")).await;
        answer.assert_token_error(401, "invalid_client");
        assert_eq!(answer.header("www-authenticate"), "");
        bodies.push(answer.text().to_owned());
    }
    for form in [FORM.to_owned(), format!("{FORM}&client_id={beta}"), format!("{FORM}&client_secret=x")] {
        world.token(None, &form).await.assert_token_error(401, "invalid_client");
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn each_method_works_for_the_client_that_registered_it() {
    let world = World::new().await;
    world.token(Some(&world.basic("beta")), FORM).await.assert_token_error(400, "invalid_grant");
    let post = format!("{FORM}&client_id={}&client_secret={}", world.client_id("delta"), world.secret("delta"));
    world.token(None, &post).await.assert_token_error(400, "invalid_grant");
    let repeated_id = format!("{FORM}&client_id={}", world.client_id("beta"));
    world.token(Some(&world.basic("beta")), &repeated_id).await.assert_token_error(400, "invalid_grant");
}

// T3
#[tokio::test]
async fn two_methods_and_two_names_are_refused() {
    let world = World::new().await;
    let basic = world.basic("beta");
    let both = format!("{FORM}&client_id={}&client_secret={}", world.client_id("beta"), world.secret("beta"));
    world.token(Some(&basic), &both).await.assert_token_error(400, "invalid_request");
    let other = format!("{FORM}&client_id={}", world.client_id("delta"));
    world.token(Some(&basic), &other).await.assert_token_error(401, "invalid_client");
    let query = Request::post(format!("/token?client_id=x&client_secret={}", world.secret("beta")))
        .header("content-type", "application/x-www-form-urlencoded");
    world.send(query.body(FORM.into()).unwrap()).await.assert_token_error(400, "invalid_request");
}

// T4
#[tokio::test]
async fn malformed_headers_are_refused_without_a_crash() {
    let world = World::new().await;
    for bad in ["Basic", "Basic ", "Basic %%%", "Basic YQ==", "Bearer x", "basic", "Basic /////w==", "Negotiate x y z"]
    {
        world.token(Some(bad), FORM).await.assert_token_error(401, "invalid_client");
    }
}

// T7
#[tokio::test]
async fn the_token_endpoint_takes_posted_forms_with_codes_only() {
    let world = World::new().await;
    let basic = world.basic("beta");
    world.send(Request::get("/token").body(Body::empty()).unwrap()).await.assert_page(405);
    let json = Request::post("/token").header("content-type", "application/json").header("authorization", &basic);
    world.send(json.body("{}".into()).unwrap()).await.assert_token_error(400, "invalid_request");
    for (form, error) in [
        ("", "invalid_request"),
        ("code=x", "invalid_request"),
        ("grant_type=authorization_code", "invalid_request"),
        ("grant_type=authorization_code&code=x&code=x&redirect_uri=x", "invalid_request"),
        ("grant_type=authorization_code&grant_type=authorization_code", "invalid_request"),
        ("grant_type=password&username=alice&password=x", "unsupported_grant_type"),
        ("grant_type=client_credentials", "unauthorized_client"),
        ("grant_type=urn%3Arubbish", "unsupported_grant_type"),
    ] {
        world.token(Some(&basic), form).await.assert_token_error(400, error);
    }
}

// A client that tries the wrong method first must still get its token (AList does).
#[tokio::test]
async fn a_failed_authentication_does_not_use_the_code_up() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let wrong = format!(
        "grant_type=authorization_code&code={code}&code_verifier={VERIFIER}&client_id={}&client_secret={}",
        world.client_id("beta"),
        world.secret("beta")
    );
    world.token(None, &wrong).await.assert_token_error(401, "invalid_client");
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
}
