//! A user of whom somebody has more sessions, or grants that outlive them, than anybody needs.

use std::time::Duration;

use crate::oidc::tests::refresh::text;
use crate::oidc::tests::world::{Browser, World};

#[tokio::test]
async fn a_user_has_a_hundred_sessions_at_most_and_is_never_locked_out() {
    let world = World::new().await;
    let mut first = Browser::default();
    world.sign_in(&mut first, &[]).await;
    let mut last = Browser::default();
    for _ in 0..100 {
        world.pass(1);
        last = Browser::default();
        world.sign_in(&mut last, &[]).await;
    }
    let silent = [("prompt", "none")];
    assert!(world.authorize(&mut last, &silent).await.parameter("code").is_some());
    world.authorize(&mut first, &silent).await.assert_redirect("login_required");
    assert_eq!(world.sessions.crowded_out(), 16);
}

/// The clock is set back before there are too many: what has just begun is not what was used longest ago.
#[tokio::test]
async fn a_user_has_some_two_hundred_lasting_grants_at_a_client_and_those_that_are_used_stay() {
    let world = World::new().await;
    let crowded_out = || world.provider.grants().crowded_out();
    let mut used = text(&world.offline_tokens().await, "refresh_token");
    let mut tokens = Vec::new();
    while crowded_out() == 0 {
        world.pass(1);
        tokens.push(text(&world.offline_tokens().await, "refresh_token"));
        assert!(tokens.len() < 700, "nobody looks");
        if tokens.len() % 50 == 0 {
            used = text(&world.refresh(&used, &[]).await.json(), "refresh_token");
        }
        if tokens.len() == 190 {
            world.clock.set_back(Duration::from_secs(600));
        }
    }
    assert!(tokens.len() >= 200, "they were not too many: {}", tokens.len());
    assert_eq!(crowded_out(), 32);
    assert_eq!(world.refresh(&used, &[]).await.status, 200, "what is used stays");
    for (n, token) in tokens.iter().enumerate() {
        let answer = world.refresh(token, &[]).await;
        if n < 32 { answer.assert_token_error(400, "invalid_grant") } else { assert_eq!(answer.status, 200, "{n}") }
    }
}
