//! Client credentials and token exchange. beta may call alpha's API, the home of alice; delta, which accepts alpha, is an
//! API too.

use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::oidc::tests::world::{Answer, Browser, ISSUER, World, alice, claims};
use crate::registry::{ClientAuthMethod, GrantType, SubjectType};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const API: &str = "https://alpha.example/api";

async fn world() -> World {
    let world = World::new().await;
    for grant_type in [GrantType::TokenExchange, GrantType::ClientCredentials] {
        world.grant_type("beta", grant_type).await;
    }
    world.allow_with("beta", "alpha", |edge| edge.api_access = true).await;
    world
}

/// alice's access token at beta.
async fn token(world: &World) -> String {
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned()
}

/// beta's request, with some parameters replaced; an empty one counts as absent.
pub(super) async fn exchange(world: &World, token: &str, replaced: &[(&str, &str)]) -> Answer {
    exchange_by(world, "beta", token, replaced).await
}

async fn exchange_by(world: &World, client: &str, token: &str, replaced: &[(&str, &str)]) -> Answer {
    let mut parameters = vec![
        ("grant_type", EXCHANGE),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("resource", API),
    ];
    parameters.retain(|(name, _)| replaced.iter().all(|(other, _)| other != name));
    parameters.extend(replaced);
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    world.token(Some(&world.basic(client)), &form).await
}

pub(super) fn issued(answer: &Answer) -> (String, Value) {
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let claims = claims(&token);
    (token, claims)
}

#[tokio::test]
async fn an_api_learns_who_calls_and_for_whom() {
    let world = world().await;
    let token = token(&world).await;
    world.pass(100);
    let answer = exchange(&world, &token, &[]).await;
    let (jwt, claims) = issued(&answer);
    assert_eq!(answer.header("cache-control"), "no-store");
    let told = answer.json();
    assert_eq!((&told["issued_token_type"], &told["token_type"]), (&json!(ACCESS_TOKEN), &json!("Bearer")));
    assert_eq!((&told["expires_in"], &told["scope"]), (&json!(500), &json!("openid profile email")));
    assert!(told.get("refresh_token").is_none() && told.get("id_token").is_none());
    assert_eq!(jsonwebtoken::decode_header(&jwt).unwrap().typ.as_deref(), Some("at+jwt"));
    let beta = json!(world.client_id("beta"));
    assert_eq!((&claims["iss"], &claims["aud"], &claims["client_id"]), (&json!(ISSUER), &json!(API), &beta));
    assert_eq!((&claims["act"], &claims["homeward_home_user_id"]), (&json!({"sub": beta}), &json!("17")));
    assert_eq!(claims["amr"], json!(["pwd"]));
    assert!(claims["exp"].as_i64() <= Some(world.time.now().as_secs() + 500));
}

/// As that instance knows the user, who is not its own: by its own kind of subject, and by no id of another home's.
#[tokio::test]
async fn an_api_that_accepts_the_users_home_knows_him_by_its_own_subject() {
    let world = world().await;
    let token = token(&world).await;
    world.allow_with("beta", "delta", |edge| edge.api_access = true).await;
    let public = issued(&exchange(&world, &token, &[("resource", "https://delta.example")]).await).1;
    let pairwise = SubjectType::Pairwise { sector: "delta.example".into() };
    world.change("delta", |delta| delta.relying_party.as_mut().unwrap().policy.subject_type = pairwise).await;
    for target in
        [("audience", "delta"), ("audience", &world.client_id("delta")), ("resource", "https://delta.example")]
    {
        let replaced = [("resource", ""), target];
        let replaced = if target.0 == "resource" { &replaced[1..] } else { &replaced[..] };
        let (jwt, claims) = issued(&exchange(&world, &token, replaced).await);
        assert_eq!((&claims["aud"], claims.get("homeward_home_user_id")), (&json!("https://delta.example"), None));
        assert_ne!(claims["sub"], public["sub"]);
        // delta signs by ES256: what it verifies its ID tokens with.
        assert_eq!(jsonwebtoken::decode_header(&jwt).unwrap().alg, jsonwebtoken::Algorithm::ES256);
    }
}

#[tokio::test]
async fn scope_and_lifetime_only_shrink() {
    let world = world().await;
    let token = token(&world).await;
    let (_, claims) = issued(&exchange(&world, &token, &[("scope", "email")]).await);
    assert_eq!(claims["scope"], "email");
    exchange(&world, &token, &[("scope", "email groups")]).await.assert_token_error(400, "invalid_scope");
    exchange(&world, &token, &[("scope", "nonsense")]).await.assert_token_error(400, "invalid_scope");
    world.pass(599);
    assert_eq!(exchange(&world, &token, &[]).await.json()["expires_in"], 1);
    world.pass(1);
    exchange(&world, &token, &[]).await.assert_token_error(400, "invalid_request");
}

/// T12: what is malformed or not supported is refused, never left out.
#[tokio::test]
async fn what_cannot_be_understood_is_refused() {
    let world = world().await;
    let token = token(&world).await;
    for replaced in [
        &[("subject_token", "")][..],
        &[("subject_token_type", "")],
        &[("subject_token_type", "urn:ietf:params:oauth:token-type:id_token")],
        &[("subject_token_type", "access_token")],
        &[("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")],
        &[("requested_token_type", "x")],
        &[("actor_token", "x")],
        &[("actor_token_type", ACCESS_TOKEN)],
        &[("resource", "")],
        &[("resource", API), ("resource", API)],
    ] {
        exchange(&world, &token, replaced).await.assert_token_error(400, "invalid_request");
    }
    let answer = exchange(&world, &token, &[("requested_token_type", "urn:ietf:params:oauth:token-type:jwt")]).await;
    assert_eq!(answer.json()["issued_token_type"], "urn:ietf:params:oauth:token-type:jwt");
}

/// That there is no such instance and that it may not be called look the same.
#[tokio::test]
async fn only_apis_that_may_be_called_are_targets() {
    let world = world().await;
    let token = token(&world).await;
    let mut answers = Vec::new();
    for target in [
        ("resource", "https://delta.example/api"),
        ("resource", "https://gamma.example"),
        ("resource", "https://nobody.example"),
        ("resource", "https://alpha.example.evil/"),
        ("resource", "https://alpha.example@evil.example/"),
        ("resource", "https://alpha.example/api#fragment"),
        ("resource", "https://alpha.example/\tapi"),
        ("resource", "https://alpha.example/../../x"),
        ("resource", "alpha"),
        ("resource", "/api"),
        ("audience", "delta"),
        ("audience", "nobody"),
        ("audience", "https://alpha.example"),
    ] {
        let replaced = [target, ("resource", "")];
        let replaced = if target.0 == "resource" { &replaced[..1] } else { &replaced[..] };
        let answer = exchange(&world, &token, replaced).await;
        answer.assert_token_error(400, "invalid_target");
        answers.push(answer.text().to_owned());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    exchange(&world, &token, &[("audience", "delta")]).await.assert_token_error(400, "invalid_target");
    issued(&exchange(&world, &token, &[("audience", "alpha")]).await);
}

/// The home is accepted where the token is to go, or it is the home itself.
#[tokio::test]
async fn an_api_that_does_not_accept_the_users_home_gets_no_token_of_him() {
    let world = world().await;
    let token = token(&world).await;
    world.allow_with("beta", "gamma", |edge| edge.api_access = true).await;
    let gamma = &[("resource", "https://gamma.example")][..];
    exchange(&world, &token, gamma).await.assert_token_error(400, "invalid_target");
    world.allow("gamma", "alpha").await;
    issued(&exchange(&world, &token, gamma).await);
    world.deny("gamma", "alpha").await;
    exchange(&world, &token, gamma).await.assert_token_error(400, "invalid_target");
    world.quarantine("gamma").await;
    exchange(&world, &token, gamma).await.assert_token_error(400, "invalid_target");
}

/// J2, C8: nothing but a client's own access token for the broker itself, and no chains.
#[tokio::test]
async fn no_other_token_is_exchanged() {
    let world = world().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let tokens = world.redeem(&code, &[]).await.json();
    let token = tokens["access_token"].as_str().unwrap();
    let (jwt, claims) = issued(&exchange(&world, token, &[]).await);
    let own = world.token(Some(&world.basic("beta")), "grant_type=client_credentials").await.json();
    for other in [
        tokens["id_token"].as_str().unwrap(),
        &code,
        &jwt,
        // The token inside.
        claims["jti"].as_str().unwrap(),
        own["access_token"].as_str().unwrap(),
        "hwa_",
        "x",
    ] {
        exchange(&world, other, &[]).await.assert_token_error(400, "invalid_request");
    }
    assert_eq!(world.userinfo(&jwt).await.status.as_u16(), 401);
}

/// Another client's token, and a client that may not.
#[tokio::test]
async fn a_client_exchanges_its_own_tokens_if_it_may() {
    let world = world().await;
    let token = token(&world).await;
    exchange_by(&world, "alpha", &token, &[]).await.assert_token_error(400, "unauthorized_client");
    world.grant_type("alpha", GrantType::TokenExchange).await;
    exchange_by(&world, "alpha", &token, &[]).await.assert_token_error(400, "invalid_request");
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().policy.grant_types.clear()).await;
    exchange(&world, &token, &[]).await.assert_token_error(400, "unauthorized_client");
}

#[tokio::test]
async fn a_token_is_exchanged_as_long_as_what_it_stands_on() {
    for end in ["session", "trust", "quarantine", "api access"] {
        let world = world().await;
        let mut browser = Browser::default();
        let code = world.sign_in(&mut browser, &[]).await;
        let token = world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
        issued(&exchange(&world, &token, &[]).await);
        let error = match end {
            "session" => {
                let sid = browser.session().unwrap().split_once('.').unwrap().0.to_owned();
                world.end_session(&sid).await;
                "invalid_request"
            }
            "trust" => {
                world.deny("beta", "alpha").await;
                "invalid_request"
            }
            "quarantine" => {
                world.quarantine("alpha").await;
                "invalid_target"
            }
            _ => {
                world.allow("beta", "alpha").await;
                "invalid_target"
            }
        };
        exchange(&world, &token, &[]).await.assert_token_error(400, error);
    }
    // C1: who has redeemed the code twice takes this with it.
    let world = world().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let token = world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    exchange(&world, &token, &[]).await.assert_token_error(400, "invalid_request");
}

/// T11: a client's own token names the client, as no user is named, and says nothing of anybody.
#[tokio::test]
async fn client_credentials_are_the_clients_own() {
    let world = world().await;
    let basic = world.basic("beta");
    let answer = world.token(Some(&basic), "grant_type=client_credentials").await.json();
    assert_eq!((&answer["scope"], &answer["token_type"]), (&json!(""), &json!("Bearer")));
    assert!(answer.get("refresh_token").is_none() && answer.get("id_token").is_none());
    assert_eq!(world.userinfo(answer["access_token"].as_str().unwrap()).await.status.as_u16(), 401);

    let form = format!("grant_type=client_credentials&resource={API}");
    let (jwt, claims) = issued(&world.token(Some(&basic), &form).await);
    assert_eq!(claims["sub"], format!("client:{}", world.client_id("beta")));
    assert!(claims.get("act").is_none() && claims.get("auth_time").is_none() && claims.get("amr").is_none());
    assert_eq!(world.userinfo(&jwt).await.status.as_u16(), 401);
    let subject = claims["sub"].as_str().unwrap();
    let user = world.provider.subjects.subject(world.instance_id("alpha"), &alice(world.time.now()).home_user_id);
    assert!(!user.to_string().contains(':') && subject.contains(':'));

    for (form, error) in [
        ("grant_type=client_credentials&scope=openid", "invalid_scope"),
        ("grant_type=client_credentials&scope=x", "invalid_scope"),
        ("grant_type=client_credentials&resource=https://delta.example", "invalid_target"),
        ("grant_type=client_credentials&resource=x", "invalid_target"),
        ("grant_type=client_credentials&resource=x&resource=x", "invalid_request"),
    ] {
        world.token(Some(&basic), form).await.assert_token_error(400, error);
    }
    let delta = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        world.client_id("delta"),
        world.secret("delta")
    );
    world.token(None, &delta).await.assert_token_error(400, "unauthorized_client");
}

/// RFC 6749 4.4: who only says who it is gets nothing by that.
#[tokio::test]
async fn public_clients_get_no_tokens_without_a_user() {
    let world = world().await;
    let token = token(&world).await;
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().auth_method = ClientAuthMethod::None).await;
    let beta = world.client_id("beta");
    let exchange =
        format!("grant_type={EXCHANGE}&subject_token={token}&subject_token_type={ACCESS_TOKEN}&resource={API}");
    for form in [format!("grant_type=client_credentials&client_id={beta}"), format!("{exchange}&client_id={beta}")] {
        let answer = world.token(None, &form).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        assert!(answer.json().get("access_token").is_none());
    }
}

/// The API may ask what the token is worth, and learns when what it stands on has ended (RFC 7662 2.2).
#[tokio::test]
async fn an_api_may_ask_about_the_tokens_that_it_is_shown() {
    let world = world().await;
    let mut browser = Browser::default();
    let code = world.sign_in(&mut browser, &[]).await;
    let token = world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let (jwt, claims) = issued(&exchange(&world, &token, &[]).await);
    let worth = introspect(&world, "alpha", &jwt).await;
    let beta = json!(world.client_id("beta"));
    assert_eq!((&worth["active"], &worth["aud"], &worth["sub"]), (&json!(true), &json!(API), &claims["sub"]));
    assert_eq!((&worth["act"], &worth["client_id"]), (&json!({"sub": beta}), &beta));
    assert_eq!(introspect(&world, "gamma", &jwt).await, json!({"active": false}));
    world.end_session(browser.session().unwrap().split_once('.').unwrap().0).await;
    assert_eq!(introspect(&world, "alpha", &jwt).await, json!({"active": false}));

    let form = format!("grant_type=client_credentials&resource={API}");
    let (jwt, claims) = issued(&world.token(Some(&world.basic("beta")), &form).await);
    let worth = introspect(&world, "alpha", &jwt).await;
    assert_eq!((&worth["active"], &worth["sub"]), (&json!(true), &claims["sub"]));
}

async fn introspect(world: &World, client: &str, token: &str) -> Value {
    let request = Request::post("/introspect")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(AUTHORIZATION, world.basic(client));
    world.send(request.body(format!("token={token}").into()).unwrap()).await.json()
}
