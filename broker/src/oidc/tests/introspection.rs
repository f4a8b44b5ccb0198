//! Introspection, revocation, userinfo in a JWT, and access tokens that are JWTs.

use axum::body::Body;
use http::Request;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};

use crate::keys::SigningAlgorithm;
use crate::oidc::tests::refresh::text;
use crate::oidc::tests::world::{Answer, Browser, ISSUER, NOW, World, claims};

impl World {
    pub(super) async fn introspect(&self, name: &str, token: &str, accept: &str) -> Answer {
        self.ask(name, "/introspect", token, accept).await
    }

    pub(super) async fn revoke(&self, name: &str, token: &str) -> Answer {
        self.ask(name, "/revoke", token, "").await
    }

    /// beta and alpha authenticate by Basic, delta by post.
    async fn ask(&self, name: &str, path: &str, token: &str, accept: &str) -> Answer {
        let (id, secret, basic) = (self.client_id(name), self.secret(name), self.basic(name));
        let mut headers = vec![("accept", accept)];
        let mut form = vec![("token", token)];
        if name == "delta" {
            form.extend([("client_id", id.as_str()), ("client_secret", secret)]);
        } else {
            headers.push(("authorization", &basic));
        }
        self.send_form(path, &form, &headers).await
    }

    /// A JWT of ours, verified by what is published.
    fn verified(&self, jwt: &str, audience: &str) -> (jsonwebtoken::Header, Value) {
        let header = jsonwebtoken::decode_header(jwt).unwrap();
        let jwks: JwkSet = serde_json::from_slice(self.keys.current().jwks()).unwrap();
        let key = DecodingKey::from_jwk(jwks.find(header.kid.as_ref().unwrap()).unwrap()).unwrap();
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "aud"]);
        validation.validate_exp = false;
        (header, jsonwebtoken::decode::<Value>(jwt, &key, &validation).unwrap().claims)
    }

    /// beta may call alpha's API.
    async fn let_call(&self, relying_party: &str, api: &str) {
        let snapshot = self.registry.snapshot();
        let (party, home) = (relying_party.parse().unwrap(), api.parse().unwrap());
        let mut edge = snapshot.edge(&party, &home).unwrap().as_ref().clone();
        edge.api_access = true;
        self.registry.allow_trust(edge).await.unwrap();
    }
}

const API: &str = "https://alpha.example/api";

#[tokio::test]
async fn a_client_learns_what_its_own_tokens_are_worth() {
    let world = World::new().await;
    let tokens = world.offline_tokens().await;
    let subject = claims(&text(&tokens, "id_token"))["sub"].clone();
    let beta = world.client_id("beta");
    world.pass(10);
    let answer = world.introspect("beta", &text(&tokens, "access_token"), "").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let mut worth = answer.json();
    assert!(worth.as_object_mut().unwrap().remove("jti").is_some());
    let expected = json!({
        "active": true, "iss": ISSUER, "client_id": beta, "sub": subject, "aud": ISSUER, "username": "alice",
        "scope": "openid profile email offline_access", "iat": NOW, "exp": NOW + std::time::Duration::from_secs(600),
        "token_type": "Bearer", "auth_time": NOW,
    });
    assert_eq!(worth, expected);
    let worth = world.introspect("beta", &text(&tokens, "refresh_token"), "").await.json();
    assert_eq!((&worth["active"], &worth["client_id"], &worth["sub"]), (&json!(true), &json!(beta), &subject));
    assert!(worth.get("token_type").is_none());
    world.refresh(&text(&tokens, "refresh_token"), &[]).await;
    let used = world.introspect("beta", &text(&tokens, "refresh_token"), "").await;
    assert_eq!(used.json(), json!({"active": false}));
    world.pass(600);
    let old = world.introspect("beta", &text(&tokens, "access_token"), "").await;
    assert_eq!(old.json(), json!({"active": false}));
}

// J5
#[tokio::test]
async fn nobody_learns_anything_of_tokens_of_others() {
    let world = World::new().await;
    let tokens = world.offline_tokens().await;
    let code = world.offline_code().await;
    for token in [&text(&tokens, "access_token"), &text(&tokens, "refresh_token")] {
        for stranger in ["delta", "alpha"] {
            let answer = world.introspect(stranger, token, "").await;
            assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"active": false})));
        }
    }
    for rubbish in ["x", "hwa_", "..", &code, &text(&tokens, "id_token"), world.secret("beta"), &"x".repeat(20_000)] {
        let answer = world.introspect("beta", rubbish, "").await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"active": false})), "{rubbish}");
    }
    world.introspect("beta", "", "").await.assert_token_error(400, "invalid_request");
}

// J7, C7
#[tokio::test]
async fn a_token_is_worth_nothing_when_what_it_rests_on_is_gone() {
    let world = World::new().await;
    let tokens = world.offline_tokens().await;
    let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    let is_active = async |token: &str| world.introspect("beta", token, "").await.json()["active"] == true;
    assert!(is_active(&access).await && is_active(&refresh).await);
    world.deny("beta", "alpha").await;
    assert!(!is_active(&access).await && !is_active(&refresh).await);
    world.allow("beta", "alpha").await;
    world.quarantine("alpha").await;
    assert!(!is_active(&access).await && !is_active(&refresh).await);
}

// RFC 9701
#[tokio::test]
async fn an_answer_is_signed_for_who_wants_that() {
    let world = World::new().await;
    let beta = world.client_id("beta");
    let token = text(&world.offline_tokens().await, "access_token");
    let answer = world.introspect("beta", &token, "application/token-introspection+jwt").await;
    assert_eq!(answer.header("content-type"), "application/token-introspection+jwt");
    let (header, said) = world.verified(answer.text(), &beta);
    assert_eq!(header.typ.as_deref(), Some("token-introspection+jwt"));
    assert_eq!(said["token_introspection"], world.introspect("beta", &token, "application/json").await.json());
    let nothing = world.introspect("beta", "x", "application/token-introspection+jwt").await;
    assert_eq!(world.verified(nothing.text(), &beta).1["token_introspection"], json!({"active": false}));
    // It is no token itself.
    assert_eq!(world.userinfo(answer.text()).await.status, 401);
    assert_eq!(world.introspect("beta", answer.text(), "").await.json(), json!({"active": false}));
    world
        .change("beta", |beta| {
            let policy = &mut beta.relying_party.as_mut().unwrap().policy;
            policy.introspection_signing_alg = Some(SigningAlgorithm::Es256);
        })
        .await;
    let (header, _) = world.verified(world.introspect("beta", &token, "").await.text(), &beta);
    assert_eq!(header.alg, jsonwebtoken::Algorithm::ES256);
}

// J6
#[tokio::test]
async fn a_client_revokes_its_own_tokens() {
    let world = World::new().await;
    let tokens = world.offline_tokens().await;
    let other = world.refresh(&text(&tokens, "refresh_token"), &[]).await.json();
    let (first, second) = (text(&tokens, "access_token"), text(&other, "access_token"));
    let refresh = text(&other, "refresh_token");
    for stranger in ["delta", "alpha"] {
        world.revoke(stranger, &first).await.assert_token_error(400, "invalid_grant");
        world.revoke(stranger, &refresh).await.assert_token_error(400, "invalid_grant");
    }
    assert_eq!(world.userinfo(&first).await.status, 200);
    for unknown in ["x", "hwa_x", &world.offline_code().await, &text(&tokens, "id_token")] {
        assert_eq!(world.revoke("beta", unknown).await.status, 200);
    }
    // One access token, and nothing else.
    assert_eq!(world.revoke("beta", &first).await.status, 200);
    assert_eq!(world.revoke("beta", &first).await.status, 200);
    assert_eq!(
        (world.userinfo(&first).await.status.as_u16(), world.userinfo(&second).await.status.as_u16()),
        (401, 200)
    );
    assert_eq!(world.introspect("beta", &first, "").await.json(), json!({"active": false}));
    // A refresh token, and all that came of it.
    assert_eq!(world.revoke("beta", &refresh).await.status, 200);
    assert_eq!(world.userinfo(&second).await.status, 401);
    world.refresh(&refresh, &[]).await.assert_token_error(400, "invalid_grant");
    assert_eq!(world.revoke("beta", &refresh).await.status, 200);
    world.revoke("beta", "").await.assert_token_error(400, "invalid_request");
}

#[tokio::test]
async fn a_grant_remembers_so_many_revoked_tokens_and_then_ends() {
    let world = World::new().await;
    let mut tokens = world.offline_tokens().await;
    let mut revoked = Vec::new();
    for _ in 0..17 {
        let access = text(&tokens, "access_token");
        assert_eq!(world.revoke("beta", &access).await.status, 200);
        revoked.push(access);
        let next = world.refresh(&text(&tokens, "refresh_token"), &[]).await;
        if revoked.len() == 17 {
            next.assert_token_error(400, "invalid_grant");
        } else {
            tokens = next.json();
        }
    }
    for token in &revoked {
        assert_eq!(world.userinfo(token).await.status, 401);
    }
}

#[tokio::test]
async fn userinfo_is_signed_for_who_registered_that() {
    let world = World::new().await;
    let token = text(&world.offline_tokens().await, "access_token");
    let plain = world.userinfo(&token).await.json();
    world
        .change("beta", |beta| {
            let policy = &mut beta.relying_party.as_mut().unwrap().policy;
            policy.userinfo_signing_alg = Some(SigningAlgorithm::Rs256);
        })
        .await;
    let answer = world.userinfo(&token).await;
    assert_eq!(answer.header("content-type"), "application/jwt");
    let (header, mut said) = world.verified(answer.text(), &world.client_id("beta"));
    assert_eq!(header.alg, jsonwebtoken::Algorithm::RS256);
    for added in ["iss", "aud", "iat"] {
        said.as_object_mut().unwrap().remove(added).unwrap();
    }
    assert_eq!(said, plain);
    assert_eq!(world.userinfo(answer.text()).await.status, 401);
}

// RFC 9068, RFC 8707
#[tokio::test]
async fn the_api_of_an_instance_gets_a_token_that_it_can_read() {
    let world = World::new().await;
    world.let_call("beta", "alpha").await;
    let code = world.code_for(|grant| grant.resources = vec![API.into()]).await;
    let tokens = world.redeem(&code, &[("resource", API)]).await.json();
    let token = text(&tokens, "access_token");
    let (header, said) = world.verified(&token, API);
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!((&said["client_id"], &said["scope"]), (&json!(world.client_id("beta")), &json!("openid profile email")));
    // alpha is the user's home.
    assert_eq!(said["homeward_home_user_id"], "17");
    assert!(said["sub"].is_string() && said["jti"].is_string() && said["auth_time"] == json!(NOW));
    // It is for alpha, and alpha may ask what it is worth.
    assert_eq!(world.userinfo(&token).await.status, 401);
    assert_eq!(world.userinfo(said["jti"].as_str().unwrap()).await.status, 401);
    for asking in ["beta", "alpha"] {
        let worth = world.introspect(asking, &token, "").await.json();
        assert_eq!(
            (&worth["active"], &worth["aud"], &worth["sub"]),
            (&json!(true), &json!(API), &said["sub"]),
            "{asking}"
        );
    }
    assert_eq!(world.introspect("delta", &token, "").await.json(), json!({"active": false}));
    assert_eq!(world.introspect("alpha", said["jti"].as_str().unwrap(), "").await.json(), json!({"active": false}));
    // The edge goes, and the token with it.
    world.allow("beta", "alpha").await;
    assert_eq!(world.introspect("alpha", &token, "").await.json(), json!({"active": false}));
    world.let_call("beta", "alpha").await;
    assert_eq!(world.revoke("beta", &token).await.status, 200);
    assert_eq!(world.introspect("alpha", &token, "").await.json(), json!({"active": false}));
}

// T12
#[tokio::test]
async fn a_resource_that_was_not_granted_or_may_not_be_called_is_refused() {
    let world = World::new().await;
    let granted = || world.code_for(|grant| grant.resources = vec![API.into(), "https://nobody.example".into()]);
    // Granted once, but the edge does not let beta call alpha.
    world.redeem(&granted().await, &[("resource", API)]).await.assert_token_error(400, "invalid_target");
    world.let_call("beta", "alpha").await;
    for other in [
        "https://alpha.example",
        "https://alpha.example/api/",
        "https://alpha.example.evil/api",
        "https://nobody.example",
        "https://gamma.example/api",
        "x",
    ] {
        world.redeem(&granted().await, &[("resource", other)]).await.assert_token_error(400, "invalid_target");
    }
    let code = granted().await;
    world.redeem(&code, &[("resource", "x")]).await.assert_token_error(400, "invalid_target");
    assert_eq!(world.redeem(&code, &[("resource", API)]).await.status, 200, "what was refused was not used up");
}

// J1, J2
#[tokio::test]
async fn a_token_of_one_kind_is_never_taken_for_another() {
    let world = World::new().await;
    let code = world.offline_code().await;
    let tokens = world.redeem(&code, &[]).await.json();
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    let kinds = [
        text(&tokens, "id_token"),
        text(&tokens, "refresh_token"),
        code.clone(),
        browser.session().unwrap().clone(),
        world.secret("beta").to_owned(),
        world.nonce().await,
    ];
    for kind in &kinds {
        assert_eq!(world.userinfo(kind).await.status, 401, "{kind}");
        if kind != &kinds[1] {
            world.refresh(kind, &[]).await.assert_token_error(400, "invalid_grant");
            assert_eq!(world.introspect("beta", kind, "").await.json(), json!({"active": false}), "{kind}");
        }
        if kind != &code {
            world.redeem(kind, &[]).await.assert_token_error(400, "invalid_grant");
        }
    }
    world.refresh(&text(&tokens, "access_token"), &[]).await.assert_token_error(400, "invalid_grant");
    world.redeem(&text(&tokens, "access_token"), &[]).await.assert_token_error(400, "invalid_grant");
    let request = Request::get("/userinfo").header("authorization", format!("DPoP {}", text(&tokens, "access_token")));
    assert_eq!(world.send(request.body(Body::empty()).unwrap()).await.status, 401);
}
