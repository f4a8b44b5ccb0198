//! ID tokens, userinfo, discovery and JWKS.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::oidc::tests::world::{Browser, ISSUER, NOW, World, alice, claims};

// J9
#[tokio::test]
async fn an_id_token_says_what_it_must() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let tokens = world.redeem(&code, &[]).await.json();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(600)));
    assert_eq!(tokens["scope"], "openid profile email");
    let id_token = tokens["id_token"].as_str().unwrap();
    let header = jsonwebtoken::decode_header(id_token).unwrap();
    let jwks: JwkSet = serde_json::from_slice(world.keys.current().jwks()).unwrap();
    let key = DecodingKey::from_jwk(jwks.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[world.client_id("beta")]);
    validation.set_issuer(&[ISSUER]);
    let claims = jsonwebtoken::decode::<Value>(id_token, &key, &validation).unwrap().claims;
    let hash = digest(&SHA256, tokens["access_token"].as_str().unwrap().as_bytes());
    assert_eq!(claims["at_hash"], URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
    assert_eq!(claims["aud"], world.client_id("beta"));
    assert_eq!((&claims["nonce"], &claims["iat"]), (&json!("nonce"), &json!(NOW)));
    assert_eq!((&claims["exp"], &claims["auth_time"]), (&json!(NOW + Duration::from_secs(600)), &json!(NOW)));
    assert_eq!((&claims["amr"], &claims["preferred_username"]), (&json!(["pwd"]), &json!("alice@alpha")));
    assert_eq!((&claims["email"], &claims["email_verified"]), (&json!("alice@alpha.example"), &json!(true)));
    assert_eq!((&claims["homeward_name"], &claims["groups"]), (&json!("alice@alpha"), &json!(["staff"])));
    assert!(claims.get("azp").is_none());
    let userinfo = world.userinfo(tokens["access_token"].as_str().unwrap()).await.json();
    for (name, value) in userinfo.as_object().unwrap() {
        assert_eq!(&claims[name], value, "{name}");
    }
}

// A9
#[tokio::test]
async fn a_nonce_comes_back_byte_for_byte() {
    let world = World::new().await;
    for nonce in [&"n".repeat(64), &"n".repeat(384), "\"quoted\" \\ é \u{1F600}", ""] {
        let code = world.sign_in(&mut Browser::default(), &[("nonce", nonce)]).await;
        let tokens = world.redeem(&code, &[]).await.json();
        let claims = claims(tokens["id_token"].as_str().unwrap());
        assert_eq!(claims.get("nonce").and_then(Value::as_str).unwrap_or_default(), nonce);
    }
}

#[tokio::test]
async fn a_user_is_the_same_again_and_another_at_another_home() {
    let world = World::new().await;
    let mut subjects = Vec::new();
    for home in ["alpha", "alpha", "gamma"] {
        world.allow("beta", "gamma").await;
        let mut browser = Browser::default();
        let picker = world.authorize(&mut browser, &[]).await;
        let sealed = super::session::hidden(picker.text());
        let portal = browser.post(&world, "/login/home", &[("transaction", &sealed), ("home", home)]).await.location();
        let mut who = alice(NOW);
        who.email = format!("{}@example", subjects.len());
        let code = browser.get(&world, &world.vouch_for(&portal, who).await).await.parameter("code").unwrap();
        let tokens = world.redeem(&code, &[]).await.json();
        subjects.push(claims(tokens["id_token"].as_str().unwrap())["sub"].clone());
    }
    assert_eq!(subjects[0], subjects[1]);
    assert_ne!(subjects[0], subjects[2]);
}

#[tokio::test]
async fn a_client_gets_the_algorithm_that_it_registered() {
    let world = World::new().await;
    let delta = world.client_id("delta");
    let mut browser = Browser::default();
    let picker =
        world.authorize(&mut browser, &[("client_id", &delta), ("redirect_uri", "https://delta.example/two")]).await;
    let sealed = super::session::hidden(picker.text());
    let portal = browser.post(&world, "/login/home", &[("transaction", &sealed), ("home", "gamma")]).await.location();
    let code = browser.get(&world, &world.vouch(&portal).await).await.parameter("code").unwrap();
    let form = format!(
        "grant_type=authorization_code&code={code}&client_id={delta}&client_secret={}&code_verifier={}&redirect_uri={}",
        world.secret("delta"),
        super::world::VERIFIER,
        "https%3A%2F%2Fdelta.example%2Ftwo"
    );
    let tokens = world.token(None, &form).await.json();
    let id_token = tokens["id_token"].as_str().unwrap();
    assert_eq!(jsonwebtoken::decode_header(id_token).unwrap().alg, Algorithm::ES256);
    // gamma is no authority for alice@alpha.example.
    assert_eq!(claims(id_token)["email_verified"], false);
}

// J1
#[tokio::test]
async fn userinfo_takes_one_token_in_the_right_place() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let token = world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let form = "application/x-www-form-urlencoded";
    let send = async |method: &str, path: &str, authorization: Option<&str>, body: Option<String>| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        if body.is_some() {
            request = request.header("content-type", form);
        }
        let answer = world.send(request.body(body.map_or_else(Body::empty, Body::from)).unwrap()).await;
        (answer.status.as_u16(), answer.header("www-authenticate").to_owned())
    };
    let bearer = format!("Bearer {token}");
    let in_body = || Some(format!("access_token={token}"));
    assert_eq!(send("GET", "/userinfo", Some(&bearer), None).await.0, 200);
    assert_eq!(send("GET", "/userinfo", Some(&format!("bEaReR {token}")), None).await.0, 200);
    assert_eq!(send("POST", "/userinfo", Some(&bearer), None).await.0, 200);
    assert_eq!(send("POST", "/userinfo", None, in_body()).await.0, 200);
    let (status, challenge) = send("GET", "/userinfo", None, None).await;
    assert_eq!((status, challenge.as_str()), (401, "Bearer realm=\"homeward\""));
    let (status, challenge) = send("GET", "/userinfo", Some("Bearer x"), None).await;
    assert!(status == 401 && challenge.contains("error=\"invalid_token\""));
    assert_eq!(send("POST", "/userinfo", Some(&bearer), in_body()).await.0, 400);
    assert_eq!(send("GET", &format!("/userinfo?access_token={token}"), None, None).await.0, 400);
    assert_eq!(send("GET", &format!("/userinfo?access_token={token}"), Some(&bearer), None).await.0, 400);
    assert_eq!(send("GET", "/userinfo", Some(&format!("Basic {token}")), None).await.0, 401);
    world.pass(600);
    assert_eq!(send("GET", "/userinfo", Some(&bearer), None).await.0, 401);
}

// J8
#[tokio::test]
async fn discovery_and_keys_do_not_depend_on_who_asks() {
    let world = World::new().await;
    let get = async |path: &str| {
        let request = Request::get(path).header("host", "evil").header("x-forwarded-host", "evil");
        world.send(request.header("forwarded", "host=evil").body(Body::empty()).unwrap()).await
    };
    let discovery = get("/.well-known/openid-configuration").await;
    assert!(!discovery.text().contains("evil"));
    assert_eq!(discovery.header("access-control-allow-origin"), "*");
    let metadata = discovery.json();
    assert_eq!(metadata["issuer"], ISSUER);
    assert_eq!(metadata["jwks_uri"], format!("{ISSUER}/jwks"));
    assert_eq!(metadata["id_token_signing_alg_values_supported"], json!(["RS256", "ES256"]));
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    assert_eq!(
        metadata["scopes_supported"],
        json!(["openid", "profile", "email", "groups", "address", "phone", "offline_access"])
    );
    let jwks = get("/jwks").await;
    assert_eq!(jwks.header("access-control-allow-origin"), "*");
    let keys = jwks.json()["keys"].as_array().unwrap().clone();
    assert_eq!((keys.len(), &keys[0]["alg"]), (2, &json!("RS256")));
    assert_ne!(keys[0]["kid"], keys[1]["kid"]);
    for secret in ["d", "p", "q", "dp", "dq", "qi", "k"] {
        assert!(keys.iter().all(|key| key.get(secret).is_none()), "{secret}");
    }
    let known = Request::get("/jwks").header("if-none-match", jwks.header("etag")).body(Body::empty()).unwrap();
    assert_eq!(world.send(known).await.status, 304);
}
