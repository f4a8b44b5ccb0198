//! Whom the API of an instance takes a linked user for, in whose name it is called. delta is such an API.

use serde_json::json;

use super::{alices, link, made, tokens, world};
use crate::oidc::tests::exchange::{exchange, issued};
use crate::oidc::tests::refresh::text;
use crate::oidc::tests::world::{Browser, World};
use crate::registry::GrantType;

const API: &[(&str, &str)] = &[("resource", "https://delta.example")];

/// ally has linked his account, and beta may call delta's API.
async fn calling() -> World {
    let world = world().await;
    link(&world, &mut alices(&world).await).await;
    world.grant_type("beta", GrantType::TokenExchange).await;
    world.allow_with("beta", "delta", |edge| edge.api_access = true).await;
    world
}

/// ally's, at beta.
async fn token(world: &World) -> String {
    text(&tokens(world, &mut Browser::default(), "gamma").await, "access_token")
}

fn subject(world: &World, home: &str, id: &str) -> String {
    world.provider.subjects.subject(world.instance_id(home), id).to_string()
}

#[tokio::test]
async fn an_api_takes_a_linked_user_for_whom_its_own_edge_says() {
    let world = calling().await;
    let token = token(&world).await;
    let (alice, ally) = (subject(&world, "alpha", "17"), subject(&world, "gamma", "99"));
    assert_eq!(world.userinfo(&token).await.json()["sub"], alice);
    let told = issued(&exchange(&world, &token, API).await).1;
    assert_eq!(told["sub"], ally, "delta follows no links");
    world.change_edge("delta", "gamma", |edge| edge.linked = Some(edge.epoch)).await;
    let (jwt, told) = issued(&exchange(&world, &token, API).await);
    assert_eq!((&told["sub"], &told["act"]), (&json!(alice), &json!({"sub": world.client_id("beta")})));
    for asking in ["beta", "delta"] {
        let worth = world.introspect(asking, &jwt, "").await.json();
        assert_eq!((&worth["active"], &worth["sub"]), (&json!(true), &json!(alice)), "{asking}");
    }
    // By her subject, and not by her id at home: that is for alpha's own word.
    world.allow("alpha", "gamma").await;
    world.allow_with("beta", "alpha", |edge| edge.api_access = true).await;
    let told = issued(&exchange(&world, &token, &[("resource", "https://alpha.example/api")]).await).1;
    assert_eq!((&told["sub"], told.get("homeward_home_user_id")), (&json!(ally), None));
}

/// Whether the client takes him for the linked one too, or only the API does.
#[tokio::test]
async fn nothing_is_exchanged_by_a_link_that_has_ended_nor_is_what_was_worth_anything() {
    for at_client in [true, false] {
        let world = calling().await;
        world.change_edge("delta", "gamma", |edge| edge.linked = Some(edge.epoch)).await;
        world.change_edge("beta", "gamma", |edge| edge.linked = at_client.then_some(edge.epoch)).await;
        let token = token(&world).await;
        let (jwt, told) = issued(&exchange(&world, &token, API).await);
        assert_eq!(told["sub"], subject(&world, "alpha", "17"), "{at_client}");
        // And nothing but the link ends.
        assert!(world.registry.links.end(&made(&world).await).await.unwrap());
        exchange(&world, &token, API).await.assert_token_error(400, "invalid_request");
        assert_eq!(world.introspect("delta", &jwt, "").await.json(), json!({"active": false}), "{at_client}");
        assert_eq!(world.userinfo(&token).await.status, 401, "{at_client}");
    }
}

#[tokio::test]
async fn a_link_that_is_void_takes_nothing_from_whom_nobody_knows_by_it() {
    let world = calling().await;
    world.change_edge("delta", "gamma", |edge| edge.linked = Some(edge.epoch)).await;
    world.change_edge("beta", "gamma", |edge| edge.linked = None).await;
    let token = token(&world).await;
    world.quarantine("alpha").await;
    assert_eq!(world.userinfo(&token).await.status, 200);
    let told = issued(&exchange(&world, &token, API).await).1;
    assert_eq!(told["sub"], subject(&world, "gamma", "99"));
}
