//! What somebody tries who holds one token, one client or nothing at all.

use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::json;

use crate::grants::{Binding, GrantId, Terms};
use crate::oidc::tests::world::{Browser, ISSUER, World};
use crate::registry::GrantType;
use crate::storage::Store as _;

/// C7, S8: a login that was ended gives no tokens any more, also none that would have outlived it: who is logged out, or
/// whose account was closed, is not kept in by a code that is still on its way.
#[tokio::test]
async fn a_code_for_offline_access_is_dead_with_its_session() {
    let world = World::new().await;
    let code = world.offline_code().await;
    let grant = world.grants.open_code(&code).unwrap().grant;
    world.end_session(grant.session.as_str()).await;
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    assert!(world.grants.of_user(&grant.user).await.unwrap().is_empty());
}

/// The same, when the session ends between the look at it and the commit of the grant.
#[tokio::test]
async fn a_grant_that_was_written_while_its_session_ended_is_taken_back() {
    let world = World::new().await;
    let code = world.offline_code().await;
    let grant = world.grants.open_code(&code).unwrap().grant;
    let (snapshot, now) = (world.registry.snapshot(), world.time.now());
    let client = snapshot.client(&world.client_id("beta")).unwrap();
    let terms = Terms { client, binding: Binding::Bearer, resource: None };
    let person = world.sessions.get(&grant.session, now).await.unwrap().unwrap().identity;
    let id = GrantId::generate().unwrap();
    let begun = world.grants.begin((id, grant.clone()), &terms, (Some(&person), &snapshot), now).unwrap();
    world.store.commit(begun.writes).await.unwrap();
    assert_eq!(world.grants.of_user(&grant.user).await.unwrap().len(), 1);
    world.end_session(grant.session.as_str()).await;
    assert!(world.provider.check_signed_in(&grant.session, begun.tokens, now).await.is_err());
    assert!(world.grants.of_user(&grant.user).await.unwrap().is_empty());
}

/// A registered client says itself where it is: a callback at an instance's origin makes it no part of that instance's
/// API, nor does the name that it shares with others of its registration.
#[tokio::test]
async fn a_registered_client_is_no_api_and_gets_no_token_for_an_instances() {
    let world = World::new().await;
    world.open_registration(5).await;
    let kinds = json!(["authorization_code", "client_credentials"]);
    let members = json!({"redirect_uris": ["https://alpha.example/cb"], "grant_types": kinds});
    let (evil, other) = (world.registered(&members).await, world.registered(&json!({})).await);
    let (id, secret) = (evil["client_id"].as_str().unwrap(), evil["client_secret"].as_str().unwrap());
    let neighbour = other["client_id"].as_str().unwrap();
    let basic = world.basic_of(id, secret);
    for target in [
        format!("audience={id}"),
        format!("audience={neighbour}"),
        "resource=https://alpha.example".to_owned(),
        "resource=https://shop.example/api".to_owned(),
    ] {
        let form = format!("grant_type=client_credentials&{target}");
        world.token(Some(&basic), &form).await.assert_token_error(400, "invalid_target");
    }
    assert_eq!(world.token(Some(&basic), "grant_type=client_credentials").await.status, 200);
}

/// S12: whoever shares an address with a client, and knows its public name, cannot lock it out.
#[tokio::test]
async fn a_client_that_has_its_secret_is_never_locked_out() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let wrong = world.basic_of(&world.client_id("beta"), "wrong");
    for _ in 0..400 {
        world.token(Some(&wrong), "grant_type=authorization_code&code=x&redirect_uri=x").await;
    }
    let refused = world.token(Some(&wrong), "grant_type=authorization_code&code=x&redirect_uri=x").await;
    refused.assert_token_error(429, "temporarily_unavailable");
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
}

/// A public client id is no secret: nobody fills the store with what it may ask for.
#[tokio::test]
async fn a_stranger_with_a_public_client_id_cannot_fill_the_store() {
    let world = World::new().await;
    world.open_registration(5).await;
    let device = json!([GrantType::DeviceCode.as_str(), "authorization_code"]);
    let members = json!({"token_endpoint_auth_method": "none", "grant_types": device});
    let client = world.registered(&members).await;
    let id = client["client_id"].as_str().unwrap();
    let pushed = format!(
        "client_id={id}&response_type=code&scope=openid&redirect_uri=https%3A%2F%2Fshop.example%2Fcb\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
    );
    for (path, form) in [("/device_authorization", format!("client_id={id}")), ("/par", pushed)] {
        let mut taken = 0;
        let refused = loop {
            let answer = world.post(path, &form).await;
            if !answer.status.is_success() {
                break answer;
            }
            taken += 1;
            assert!(taken < 1000, "{path} takes everything");
        };
        assert_eq!(refused.status, 429, "{path}: {}", refused.text());
        assert!(taken >= 30, "{path}: a few devices behind one address are served");
        world.pass(100);
    }
}

/// RFC 8628 5.4: who lures a user to let his device in shows no address that he has not got.
#[tokio::test]
async fn the_question_about_a_device_names_no_address_that_its_client_chose() {
    let world = World::new().await;
    world.open_registration(1).await;
    world.allow("shop", "alpha").await;
    let kinds = json!([GrantType::DeviceCode.as_str()]);
    let chosen =
        json!({"grant_types": kinds, "response_types": [], "redirect_uris": [], "client_uri": "https://bank.example/"});
    let client = world.registered(&chosen).await;
    let basic = world.basic_of(client["client_id"].as_str().unwrap(), client["client_secret"].as_str().unwrap());
    let asked = Request::post("/device_authorization")
        .header(AUTHORIZATION, basic)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body("scope=openid".into());
    let user_code = world.send(asked.unwrap()).await.json()["user_code"].as_str().unwrap().to_owned();
    let mut browser = Browser::default();
    let page = browser.get(&world, "/device").await;
    let form = page.text().split("name=\"form\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let portal = browser.post(&world, "/device", &[("form", &form), ("user_code", &user_code)]).await.location();
    let question = browser.get(&world, &world.vouch(&portal).await).await.location();
    let page = browser.get(&world, question.strip_prefix(ISSUER).unwrap()).await;
    assert!(page.text().contains("A device waits for your answer"), "{}", page.text());
    assert!(!page.text().contains("<span class=\"host\">bank.example"), "{}", page.text());
}
