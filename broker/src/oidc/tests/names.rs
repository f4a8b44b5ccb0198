//! Names by which applications find accounts: whoever had one keeps it.

use serde_json::{Value, json};

use crate::oidc::tests::world::{Browser, World, alice, claims};
use crate::registry::{AssertedIdentity, Departure};
use crate::storage::{Expect, Key, Page, Store as _, Write};

impl World {
    /// What beta is told of the names of a user of alpha: of him who has this id there.
    async fn names(&self, id: &str, username: &str) -> (String, String) {
        let mut browser = Browser::default();
        let portal = self.authorize(&mut browser, &[("scope", "openid profile")]).await.location();
        let (home_user_id, username) = (id.to_owned(), username.to_owned());
        let identity = AssertedIdentity { home_user_id, username, ..alice(self.time.now()) };
        let back = browser.get(self, &self.vouch_for(&portal, identity).await).await;
        let tokens: Value = self.redeem(&back.parameter("code").unwrap(), &[]).await.json();
        let told = claims(tokens["id_token"].as_str().unwrap());
        let name = |claim: &str| told[claim].as_str().unwrap().to_owned();
        (name("preferred_username"), name("homeward_name"))
    }
}

fn plain() -> (String, String) {
    ("alice@alpha".into(), "alice@alpha".into())
}

fn assert_respelt(names: &(String, String), username: &str) {
    for name in [&names.0, &names.1] {
        let piece = name.strip_prefix(username).and_then(|rest| rest.strip_suffix("@alpha")).unwrap();
        assert!(piece.len() == 13 && piece.starts_with('+'), "{name}");
    }
}

#[tokio::test]
async fn two_users_of_one_home_never_have_one_name() {
    let world = World::new().await;
    assert_eq!(world.names("17", "alice").await, plain());
    let other = world.names("18", "alice").await;
    assert_respelt(&other, "alice");
    // Where names are compared without case, this would be the first one's account.
    let shouting = world.names("19", "ALICE").await;
    assert_respelt(&shouting, "ALICE");
    assert_ne!(other.0, shouting.0.to_lowercase());
    // Everybody stays who he is, also under a name that he takes up again.
    assert_eq!(world.names("17", "alicia").await.0, "alicia@alpha");
    assert_eq!((world.names("17", "alice").await, world.names("18", "alice").await), (plain(), other));
    assert_respelt(&world.names("18", "alicia").await, "alicia");
    assert_eq!(world.names("18", "bob").await.0, "bob@alpha");
}

#[tokio::test]
async fn a_removed_user_takes_his_name_with_him() {
    let world = World::new().await;
    assert_eq!(world.names("17", "alice").await, plain());
    let (users, alpha) = (&world.registry.home_users, world.instance_id("alpha"));
    users.cut_off(alpha, "17", Departure::Disabled).await.unwrap();
    assert_eq!(world.names("17", "alice").await, plain());
    users.cut_off(alpha, "17", Departure::Removed).await.unwrap();
    let successor = world.names("17", "alice").await;
    assert_respelt(&successor, "alice");
    assert_eq!(world.names("17", "alice").await, successor);
}

#[tokio::test]
async fn an_upgrade_gives_nobodys_name_away() {
    let world = World::new().await;
    assert_eq!(world.names("17", "alice").await, plain());
    // As a broker left it that did not know of this yet.
    let held = world.store.list(Page { prefix: "held_name/".into(), after: None, limit: 9 }).await.unwrap();
    let gone = |key: Key| Write { key, expect: Expect::Any, value: None };
    world.store.commit(held.into_iter().map(|(key, _)| gone(key)).collect()).await.unwrap();
    assert_respelt(&world.names("18", "Alice").await, "Alice");
    assert_eq!(world.names("17", "alice").await, plain());
}

#[tokio::test]
async fn who_comes_in_the_same_moment_is_let_in_too() {
    let world = std::sync::Arc::new(World::new().await);
    let logins = (0..8).map(|n| {
        let world = world.clone();
        tokio::spawn(async move { world.names(&n.to_string(), "alice").await })
    });
    let mut names = Vec::new();
    for login in logins.collect::<Vec<_>>() {
        names.push(login.await.unwrap().0);
    }
    names.sort();
    names.dedup();
    assert_eq!((names.len(), names.iter().filter(|name| **name == plain().0).count()), (8, 1), "{names:?}");
    // Also the first two logins of who comes after a removed user.
    let (users, alpha) = (&world.registry.home_users, world.instance_id("alpha"));
    users.cut_off(alpha, "0", Departure::Removed).await.unwrap();
    let (one, two) = tokio::join!(world.names("0", "zoe"), world.names("0", "zoe"));
    assert_eq!((&one, json!(two.0)), (&two, json!("zoe@alpha")));
}
