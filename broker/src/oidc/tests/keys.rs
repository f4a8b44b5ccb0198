//! Signing keys that turn while people log in.

use std::time::Duration;

use axum::body::Body;
use homeward_certs::identity::InstanceName;
use http::Request;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;

use crate::keys::{KeyState, SigningAlgorithm, StoredKey};
use crate::oidc::tests::world::{Answer, Browser, World};
use crate::registry::SigningKeyChoice;
use crate::storage::Expect;
use crate::storage::table::Table;

const ALGORITHM: SigningAlgorithm = SigningAlgorithm::Rs256;

/// Writes keys and waits until the broker follows.
async fn put(world: &World, keys: Vec<(String, StoredKey)>) {
    let table = Table::<StoredKey>::new(world.store.clone());
    let mut changes = world.keys.changes();
    changes.mark_unchanged();
    let writes = keys.iter().map(|(kid, key)| table.put(kid, key, Expect::Any).unwrap()).collect();
    table.commit(writes).await.unwrap();
    changes.changed().await.unwrap();
}

/// Publishes a key that does not sign yet.
async fn publish(world: &World) -> String {
    let (kid, key) = StoredKey::generate(&world.sealing, ALGORITHM, world.time.now()).unwrap();
    put(world, vec![(kid.clone(), key)]).await;
    kid
}

/// Lets a published key sign in place of the one that does.
async fn activate(world: &World, kid: &str) -> String {
    let (table, now) = (Table::<StoredKey>::new(world.store.clone()), world.time.now());
    let old = world.keys.current().signer(ALGORITHM).kid().to_owned();
    let stored = async |kid: &str| table.get(kid).await.unwrap().unwrap().record;
    let gone_at = now + Duration::from_secs(600);
    let retired = stored(&old).await.moved(KeyState::Retired { gone_at }, now);
    put(world, vec![(kid.to_owned(), stored(kid).await.moved(KeyState::Active, now)), (old.clone(), retired)]).await;
    old
}

async fn jwks(world: &World) -> Answer {
    world.send(Request::get("/jwks").body(Body::empty()).unwrap()).await
}

/// The `kid` of an ID token, once it has been verified as a relying party does it: by what is published now.
async fn verified_kid(world: &World, id_token: &str) -> String {
    let kid = jsonwebtoken::decode_header(id_token).unwrap().kid.unwrap();
    let keys: JwkSet = serde_json::from_slice(&jwks(world).await.body).unwrap();
    let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let mut validation = Validation::new(ALGORITHM.of_jwt());
    validation.set_audience(&[world.client_id("beta")]);
    jsonwebtoken::decode::<Value>(id_token, &key, &validation).unwrap();
    kid
}

async fn id_token(world: &World) -> String {
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.redeem(&code, &[]).await.json()["id_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_pending_key_is_published_and_does_not_sign() {
    let world = World::new().await;
    let before = jwks(&world).await;
    let kid = publish(&world).await;
    let after = jwks(&world).await;
    assert_ne!(before.header("etag"), after.header("etag"));
    let kids: Vec<_> = after.json()["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert_eq!((kids.len(), &kids[2]), (3, &Value::from(kid.clone())));
    assert_ne!(verified_kid(&world, &id_token(&world).await).await, kid);
}

#[tokio::test]
async fn a_login_that_straddles_an_activation_works() {
    let world = World::new().await;
    let early = id_token(&world).await;
    let kid = publish(&world).await;
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let back = world.vouch(&portal).await;
    let code = browser.get(&world, &back).await.parameter("code").unwrap();
    let old = activate(&world, &kid).await;
    let late = world.redeem(&code, &[]).await.json()["id_token"].as_str().unwrap().to_owned();
    assert_eq!(verified_kid(&world, &late).await, kid);
    assert_eq!(verified_kid(&world, &early).await, old);
}

#[tokio::test]
async fn a_retired_key_still_verifies_hints_and_a_deleted_one_does_not() {
    let world = World::new().await;
    let hint = id_token(&world).await;
    let kid = publish(&world).await;
    let old = activate(&world, &kid).await;
    let answer = world.authorize(&mut Browser::default(), &[("id_token_hint", &hint)]).await;
    assert!(answer.location().starts_with("https://alpha.example/"), "{}", answer.location());
    let mut changes = world.keys.changes();
    changes.mark_unchanged();
    let table = Table::<StoredKey>::new(world.store.clone());
    table.commit(vec![table.delete(&old, Expect::Any)]).await.unwrap();
    changes.changed().await.unwrap();
    let answer = world.authorize(&mut Browser::default(), &[("id_token_hint", &hint)]).await;
    answer.assert_redirect("login_required");
}

#[tokio::test]
async fn a_relying_party_may_choose_the_newest_key_that_it_has_acknowledged() {
    let world = World::new().await;
    world
        .change("beta", |beta| {
            beta.relying_party.as_mut().unwrap().signing_key_choice = SigningKeyChoice::Acknowledged;
        })
        .await;
    let beta: InstanceName = "beta".parse().unwrap();
    let acknowledge = |kids: Vec<String>| {
        world.liveness.update(&beta, |sighting| sighting.acknowledged.key_ids = kids, world.time.now());
    };
    let kid = publish(&world).await;
    let old = activate(&world, &kid).await;
    acknowledge(vec![old.clone()]);
    assert_eq!(verified_kid(&world, &id_token(&world).await).await, old);
    acknowledge(vec![old.clone(), kid.clone()]);
    assert_eq!(verified_kid(&world, &id_token(&world).await).await, kid);
    acknowledge(Vec::new());
    assert_eq!(verified_kid(&world, &id_token(&world).await).await, kid);
}

#[tokio::test]
async fn caches_are_told_to_come_back_before_a_planned_change() {
    let world = World::new().await;
    let max_age = async || jwks(&world).await.header("cache-control").to_owned();
    assert_eq!(max_age().await, "public, max-age=300");
    world.key_set_plan.send_replace(Some(world.time.now() + Duration::from_secs(310)));
    assert_eq!(max_age().await, "public, max-age=300");
    world.pass(190);
    assert_eq!(max_age().await, "public, max-age=120");
    world.pass(118);
    assert_eq!(max_age().await, "public, max-age=5");
}
