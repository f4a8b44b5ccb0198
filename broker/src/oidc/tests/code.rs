//! Authorization codes: bound, single-use, short-lived.

use std::sync::Arc;

use crate::oidc::tests::world::{Browser, VERIFIER, World};

// R6
#[tokio::test]
async fn another_callback_redeems_nothing() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.redeem(&code, &[("redirect_uri", "https://beta.example/two")]).await.assert_token_error(400, "invalid_grant");
    world.redeem(&code, &[("redirect_uri", "")]).await.assert_token_error(400, "invalid_request");
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
}

// P3
#[tokio::test]
async fn a_challenge_needs_its_verifier() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    for wrong in ["", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXX", &VERIFIER[..42], &"a".repeat(129)] {
        world.redeem(&code, &[("code_verifier", wrong)]).await.assert_token_error(400, "invalid_grant");
    }
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
}

// P4
#[tokio::test]
async fn a_verifier_without_challenge_is_refused() {
    let world = World::new().await;
    let none = [("code_challenge", ""), ("code_challenge_method", "")];
    let code = world.sign_in(&mut Browser::default(), &none).await;
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    assert_eq!(world.redeem(&code, &[("code_verifier", "")]).await.status, 200);
}

// C1
#[tokio::test]
async fn a_valid_second_use_ends_the_first_token() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let token = world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(world.userinfo(&token).await.status, 200);
    // Also long after the code has expired.
    world.pass(120);
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    assert_eq!(world.userinfo(&token).await.status, 401);
}

// C2
#[tokio::test]
async fn an_invalid_second_use_changes_nothing() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let token = world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let form = format!("grant_type=authorization_code&code={code}");
    world.redeem(&code, &[("code_verifier", &"x".repeat(43))]).await.assert_token_error(400, "invalid_grant");
    world.redeem(&code, &[("redirect_uri", "https://beta.example/two")]).await.assert_token_error(400, "invalid_grant");
    world.token(Some("Basic YTpi"), &form).await.assert_token_error(401, "invalid_client");
    assert_eq!(world.userinfo(&token).await.status, 200);
}

// C3
#[tokio::test]
async fn another_clients_code_stays_its_owners() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let (id, secret) = (world.client_id("delta"), world.secret("delta").to_owned());
    let form = format!(
        "grant_type=authorization_code&code={code}&client_id={id}&client_secret={secret}&code_verifier={VERIFIER}\
         &redirect_uri=https%3A%2F%2Fbeta.example%2Fcb%3Fmethod%3Dget"
    );
    world.token(None, &form).await.assert_token_error(400, "invalid_grant");
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
}

// C4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_redemptions_at_once_one_succeeds() {
    let world = Arc::new(World::new().await);
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let tries = (0..16).map(|_| {
        let (world, code) = (world.clone(), code.clone());
        tokio::spawn(async move { world.redeem(&code, &[]).await.status.as_u16() })
    });
    let mut succeeded = 0;
    for attempt in tries.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            200 => succeeded += 1,
            status => assert_eq!(status, 400),
        }
    }
    assert_eq!(succeeded, 1);
}

// C5
#[tokio::test]
async fn a_code_lasts_a_minute() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.pass(60);
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.pass(59);
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
}

// C6, C8
#[tokio::test]
async fn what_only_looks_like_the_code_is_none() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let code = world.sign_in(&mut browser, &[]).await;
    let swapped: String = code
        .chars()
        .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    let session = browser.session().unwrap().clone();
    for bad in
        [&code[..42], &format!("{code}="), &format!("{code}A"), &swapped, &session, "", "\0", world.secret("beta")]
    {
        let error = if bad.is_empty() { "invalid_request" } else { "invalid_grant" };
        world.redeem(bad, &[]).await.assert_token_error(400, error);
    }
    assert_eq!(world.userinfo(&code).await.status, 401);
    let tokens = world.redeem(&code, &[]).await.json();
    for other in [&session, tokens["id_token"].as_str().unwrap(), &code] {
        assert_eq!(world.userinfo(other).await.status, 401);
    }
    let token = tokens["access_token"].as_str().unwrap();
    world.redeem(token, &[]).await.assert_token_error(400, "invalid_grant");
}

// C7
#[tokio::test]
async fn a_code_dies_with_the_trust_it_rests_on() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.deny("beta", "alpha").await;
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    // What died with one edge does not come back with another.
    world.allow("beta", "alpha").await;
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let token = world.redeem(&code, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.quarantine("alpha").await;
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    assert_eq!(world.userinfo(&token).await.status, 401);
    world.change("alpha", |alpha| alpha.state = crate::registry::InstanceState::Confirmed).await;
    assert_eq!(world.userinfo(&token).await.status, 200);
    world.quarantine("beta").await;
    world.redeem(&code, &[]).await.assert_token_error(401, "invalid_client");
    assert_eq!(world.userinfo(&token).await.status, 401);
}
