//! A home that takes back its word: of a user who is disabled or removed there, or who has left a group.

use serde_json::{Value, json};

use crate::oidc::tests::refresh::text;
use crate::oidc::tests::world::{Answer, Browser, World, alice, claims};
use crate::registry::Departure;
use crate::sessions::{Message, TellHome};

impl World {
    /// What the report of a home comes to.
    async fn departs(&self, departure: Departure) {
        let (users, home) = (&self.registry.home_users, self.instance_id("alpha"));
        let current = users.cut_off(home, "17", departure).await.unwrap().current_id("17");
        let (user, snapshot) = (self.provider.subjects.user(home, &current), self.registry.snapshot());
        self.sessions.end_for_good(&user, &snapshot, self.time.now()).await.unwrap();
    }

    /// In a browser of his own.
    async fn tokens(&self) -> Value {
        let code = self.sign_in(&mut Browser::default(), &[]).await;
        self.redeem(&code, &[]).await.json()
    }
}

fn subject(tokens: &Value) -> Value {
    claims(&text(tokens, "id_token"))["sub"].clone()
}

fn assert_taken_back(answer: &Answer) {
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("Your account was disabled or removed at home"), "{}", answer.text());
    assert!(answer.headers.get("location").is_none());
}

#[tokio::test]
async fn a_login_that_was_completed_before_the_user_was_disabled_is_not_finished_after() {
    for departure in [Departure::Disabled, Departure::Removed] {
        let world = World::new().await;
        let mut browser = Browser::default();
        let portal = world.authorize(&mut browser, &[]).await.location();
        let back = world.vouch(&portal).await;
        world.departs(departure).await;
        assert_taken_back(&browser.get(&world, &back).await);
        assert_taken_back(&browser.get(&world, &back).await);
        // Once the home vouches again, it counts again.
        world.tokens().await;
    }
}

#[tokio::test]
async fn a_code_dies_with_the_account_at_home() {
    for departure in [Departure::Disabled, Departure::Removed] {
        let world = World::new().await;
        let code = world.sign_in(&mut Browser::default(), &[]).await;
        let token = text(&world.tokens().await, "access_token");
        world.departs(departure).await;
        world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
        assert_eq!(world.userinfo(&token).await.status, 401);
    }
}

#[tokio::test]
async fn whoever_gets_the_id_of_a_removed_user_is_a_stranger_to_everybody_but_the_home() {
    let world = World::new().await;
    let first = subject(&world.tokens().await);
    world.departs(Departure::Disabled).await;
    assert_eq!(subject(&world.tokens().await), first);
    world.departs(Departure::Removed).await;
    let mut browser = Browser::default();
    let code = world.sign_in(&mut browser, &[]).await;
    let second = subject(&world.redeem(&code, &[]).await.json());
    assert_ne!(second, first);
    // By the session of the browser as by the home's word.
    let code = world.authorize(&mut browser, &[]).await.parameter("code").unwrap();
    assert_eq!(subject(&world.redeem(&code, &[]).await.json()), second);
    assert_eq!(subject(&world.tokens().await), second);

    let user = world.grants.open_code(&world.sign_in(&mut Browser::default(), &[]).await).unwrap().grant.user;
    let (snapshot, now) = (world.registry.snapshot(), world.time.now());
    let ended = world.sessions.end_all(&user, TellHome::Yes, &snapshot, now).await.unwrap();
    let at_home = ended.logouts.iter().find_map(|(_, logout)| match &logout.message {
        Message::Home { home_user_id } => Some(home_user_id.as_str()),
        Message::Back(_) | Message::Agent(_) => None,
    });
    assert_eq!(at_home, Some("17"), "the home knows nothing of incarnations");
}

#[tokio::test]
async fn whoever_has_left_a_group_at_home_leaves_it_with_the_next_login() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let code = world.sign_in(&mut browser, &[("scope", "openid groups")]).await;
    let first = world.redeem(&code, &[]).await.json();
    let token = text(&first, "access_token");
    assert_eq!(claims(&text(&first, "id_token"))["groups"], json!(["staff"]));
    assert_eq!(world.userinfo(&token).await.json()["groups"], json!(["staff"]));

    let portal = world.authorize(&mut browser, &[("scope", "openid groups"), ("prompt", "login")]).await.location();
    let mut identity = alice(world.time.now());
    identity.groups.clear();
    let back = browser.get(&world, &world.vouch_for(&portal, identity).await).await;
    let second = world.redeem(&back.parameter("code").unwrap(), &[]).await.json();
    assert_eq!(claims(&text(&second, "id_token"))["groups"], json!([]), "not missing: then it would stay");
    assert_eq!(world.userinfo(&token).await.json()["groups"], json!([]), "also by a token from before");
    let code = world.authorize(&mut browser, &[("scope", "openid groups")]).await.parameter("code").unwrap();
    assert_eq!(claims(&text(&world.redeem(&code, &[]).await.json(), "id_token"))["groups"], json!([]));
}
