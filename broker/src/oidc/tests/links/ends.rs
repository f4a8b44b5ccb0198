//! What rests on a link ends with it and with the permission to follow it, and what a link takes from a user ends too.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::sync::watch;

use super::{alices, ally, field, link, links, made, said, sign_in, tokens, user, world};
use crate::grants::CodeBinding;
use crate::oidc::finish_unlinking;
use crate::oidc::tests::refresh::text;
use crate::oidc::tests::world::{Browser, CALLBACK, CHALLENGE, World};
use crate::registry::{LinkError, TrustEpoch};
use crate::sessions::Message;

/// A code for a grant of ally's at beta that outlives its session.
async fn lasting_code(world: &World) -> String {
    let code = sign_in(world, &mut Browser::default(), "gamma", ally(world.time.now())).await;
    let mut grant = world.grants.open_code(&code).unwrap().grant;
    grant.scopes = "openid profile email offline_access".parse().unwrap();
    let code_challenge = Some(CHALLENGE.parse().unwrap());
    let binding = CodeBinding { redirect_uri: CALLBACK.into(), code_challenge, dpop_jkt: None };
    world.grants.issue_code(grant, binding, world.time.now()).unwrap().expose_secret().to_owned()
}

/// The tokens of such a grant.
async fn lasting(world: &World) -> (String, String) {
    let tokens: Value = world.redeem(&lasting_code(world).await, &[]).await.json();
    (text(&tokens, "access_token"), text(&tokens, "refresh_token"))
}

async fn assert_dead(world: &World, (access, refresh): &(String, String)) {
    assert_eq!(world.userinfo(access).await.status, 401);
    world.refresh(refresh, &[]).await.assert_token_error(400, "invalid_grant");
}

#[tokio::test]
async fn what_died_with_the_permission_does_not_come_back_with_it() {
    let world = world().await;
    link(&world, &mut alices(&world).await).await;
    let tokens = lasting(&world).await;
    assert_eq!(world.userinfo(&tokens.0).await.status, 200);
    for linked in [None, Some(TrustEpoch::generate().unwrap())] {
        world.change_edge("beta", "gamma", |edge| edge.linked = linked).await;
        assert_dead(&world, &tokens).await;
    }
    let anew = lasting(&world).await;
    assert_eq!(world.userinfo(&anew.0).await.status, 200);
}

#[tokio::test]
async fn nothing_by_a_link_that_has_ended_is_renewed_whatever_else_failed() {
    let world = world().await;
    link(&world, &mut alices(&world).await).await;
    let ((_, refresh), code) = (lasting(&world).await, lasting_code(&world).await);
    let made = made(&world).await;
    // As if the broker had died right behind it.
    assert!(world.registry.links.end(&made).await.unwrap());
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    world.refresh(&refresh, &[]).await.assert_token_error(400, "invalid_grant");
    // The same two, linked again: what ended has ended.
    world.registry.links.forget(&made).await.unwrap();
    let writes = world.registry.links.make(&made).await.unwrap();
    world.provider.store.commit(writes).await.unwrap();
    world.refresh(&refresh, &[]).await.assert_token_error(400, "invalid_grant");
}

#[tokio::test]
async fn what_came_in_by_a_link_is_dead_with_it_and_introspection_says_so() {
    let world = world().await;
    link(&world, &mut alices(&world).await).await;
    let (access, refresh) = lasting(&world).await;
    let of_session = text(&tokens(&world, &mut Browser::default(), "gamma").await, "access_token");
    let is_active = async |token: &str| world.introspect("beta", token, "").await.json()["active"] == true;
    for token in [&access, &refresh, &of_session] {
        assert!(is_active(token).await);
    }
    // And nothing but the link ends.
    assert!(world.registry.links.end(&made(&world).await).await.unwrap());
    for token in [&access, &refresh, &of_session] {
        assert!(!is_active(token).await);
    }
    assert_eq!(world.userinfo(&of_session).await.status, 401);
    assert_dead(&world, &(access, refresh)).await;
}

/// ally has come in by the link, and it has ended; as if the store had gone away right behind that.
async fn interrupted() -> (World, Browser) {
    let world = world().await;
    link(&world, &mut alices(&world).await).await;
    let mut allys = Browser::default();
    tokens(&world, &mut allys, "gamma").await;
    let made = made(&world).await;
    assert!(world.registry.links.end(&made).await.unwrap());
    assert!(!world.registry.links.end(&made).await.unwrap(), "once is enough for the audit");
    assert!(world.sessions.outbox().page(None, 10).await.unwrap().is_empty(), "nobody has heard of it");
    (world, allys)
}

/// ally's session is gone, and beta hears of it.
async fn assert_finished(world: &World) {
    assert_eq!(links(world).await, 0);
    assert!(world.sessions.of_user(&user(world, "gamma", "99")).await.unwrap().is_empty());
    assert_eq!(world.sessions.of_user(&user(world, "alpha", "17")).await.unwrap().len(), 1, "alice stays");
    let logouts = world.sessions.outbox().page(None, 10).await.unwrap();
    assert!(matches!(&logouts[..], [(_, logout)] if logout.target.as_str() == "beta"));
}

#[tokio::test]
async fn whoever_was_interrupted_behind_the_end_of_a_link_can_end_the_rest() {
    let (world, mut allys) = interrupted().await;
    let made = made(&world).await;
    assert!(matches!(world.registry.links.make(&made).await, Err(LinkError::AliasIsLinked)), "not over this one");
    let page = allys.get(&world, "/account").await;
    assert!(page.text().contains("Unlink once more"), "{}", page.text());
    let (id, token) = (field(page.text(), "unlink"), field(page.text(), "form_token"));
    allys.post(&world, "/account", &[("unlink", &id), ("form_token", &token)]).await;
    assert_finished(&world).await;
    world.authorize(&mut allys, &[("prompt", "none")]).await.assert_redirect("login_required");
}

#[tokio::test]
async fn what_is_left_of_a_link_when_a_broker_dies_ends_by_the_one_on_duty() {
    let (world, _) = interrupted().await;
    let on_duty = watch::Sender::new(true);
    let again = Duration::from_millis(50);
    let follow = tokio::spawn(finish_unlinking(world.provider.clone(), on_duty.subscribe(), again));
    let finished = async || {
        while links(&world).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), finished()).await.unwrap();
    assert_finished(&world).await;
    // Nobody tells who is on duty already. What was made while no link counted knows of none, and ends too.
    link(&world, &mut alices(&world).await).await;
    world.change_edge("beta", "gamma", |edge| edge.linked = None).await;
    let (_, refresh) = lasting(&world).await;
    assert!(world.registry.links.end(&made(&world).await).await.unwrap());
    tokio::time::timeout(Duration::from_secs(10), finished()).await.unwrap();
    world.refresh(&refresh, &[]).await.assert_token_error(400, "invalid_grant");
    follow.abort();
}

#[tokio::test]
async fn what_was_made_for_the_account_itself_is_not_renewed_when_it_is_linked() {
    let world = world().await;
    link(&world, &mut alices(&world).await).await;
    let made = made(&world).await;
    world.registry.links.forget(&made).await.unwrap();
    let (_, refresh) = lasting(&world).await;
    // As if the broker had died right behind the link.
    let writes = world.registry.links.make(&made).await.unwrap();
    world.provider.store.commit(writes).await.unwrap();
    world.refresh(&refresh, &[]).await.assert_token_error(400, "invalid_grant");
}

#[tokio::test]
async fn a_link_that_comes_to_count_ends_what_he_had_as_himself() {
    let world = world().await;
    world.change_edge("delta", "gamma", |edge| edge.linked = Some(edge.epoch)).await;
    link(&world, &mut alices(&world).await).await;
    world.change_edge("beta", "gamma", |edge| edge.linked = None).await;
    let tokens = lasting(&world).await;
    assert_eq!(world.userinfo(&tokens.0).await.status, 200);
    let denials = world.registry.snapshot().denials();
    world.change_edge("beta", "gamma", |edge| edge.linked = Some(edge.epoch)).await;
    assert_dead(&world, &tokens).await;
    assert!(world.registry.snapshot().denials() > denials, "whoever ends sessions hears of it");
}

#[tokio::test]
async fn an_application_hears_the_end_of_whom_it_had_before() {
    for by_session in [true, false] {
        let world = world().await;
        link(&world, &mut alices(&world).await).await;
        let mut allys = Browser::default();
        let before = said(&tokens(&world, &mut allys, "gamma").await)["sub"].clone();
        assert!(world.sessions.outbox().page(None, 10).await.unwrap().is_empty());
        // Nobody has swept yet when he comes again.
        world.change_edge("beta", "gamma", |edge| edge.linked = None).await;
        let code = match by_session {
            true => world.authorize(&mut allys, &[("prompt", "none")]).await.parameter("code").unwrap(),
            false => sign_in(&world, &mut allys, "gamma", ally(world.time.now())).await,
        };
        let after = said(&world.redeem(&code, &[]).await.json())["sub"].clone();
        assert_ne!(before, after);
        let logouts = world.sessions.outbox().page(None, 10).await.unwrap();
        assert_eq!(logouts.len(), 1);
        let (Message::Agent(entered) | Message::Back(entered)) = &logouts[0].1.message else { panic!("the home") };
        assert_eq!(before, entered.subject.to_string().as_str());
        // Once: he is the same one from now on.
        world.authorize(&mut allys, &[("prompt", "none")]).await.parameter("code").unwrap();
        assert_eq!(world.sessions.outbox().page(None, 10).await.unwrap().len(), 1);
    }
}
