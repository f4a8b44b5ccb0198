//! Logouts arrive: whoever fails, sleeps or is away, and whenever the broker dies.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use tokio::sync::watch;

use super::{LIFETIMES, Listener, World};
use crate::registry::tests::{NOW, name};
use crate::sessions::{LogoutState, Message, OutboxError, Outcome, Sessions, TellHome};

const AT_ONCE: Duration = Duration::ZERO;

impl World {
    /// alice's session at these relying parties ends.
    async fn log_out(&self, parties: &[&str]) {
        let mut cookie: Option<String> = None;
        for party in parties {
            cookie = Some(self.sign_in("alice", party, cookie.as_deref()).await.1);
        }
        let snapshot = self.registry.registry.snapshot();
        let now = self.clock.now();
        self.sessions.end_all(&self.user("alice"), TellHome::No, &snapshot, now).await.unwrap();
    }
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

// S9
#[tokio::test]
async fn a_logout_token_says_what_it_is_and_no_more() {
    let world = World::new().await;
    let beta = Listener::start(&[]).await;
    world.takes_tokens("beta", &beta.address).await;
    let (id, _) = world.sign_in("alice", "beta", None).await;
    let delivery = world.deliver();
    let snapshot = world.registry.registry.snapshot();
    world.sessions.end(std::slice::from_ref(&id), TellHome::No, &snapshot, NOW).await.unwrap();
    let logout = world.becomes("beta", LogoutState::Confirmed).await;
    assert_eq!((logout.attempts, logout.detail.as_str()), (1, "200"));
    let token = beta.tokens().remove(0);
    let header = part(&token, 0);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("logout+jwt"), &json!("RS256")));
    assert!(world.keys.current().published(header["kid"].as_str().unwrap()).is_some());
    let claims = part(&token, 1);
    let names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    assert_eq!(names, ["aud", "events", "exp", "iat", "iss", "jti", "sid", "sub"]);
    assert_eq!(claims["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    assert_eq!((&claims["sid"], &claims["aud"]), (&json!(id), &json!(world.client("beta"))));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 120);
    delivery.abort();
}

#[tokio::test]
async fn who_fails_is_tried_again_under_another_name() {
    let world = World::new().await;
    let beta = Listener::start(&[(503, AT_ONCE), (400, AT_ONCE), (204, AT_ONCE)]).await;
    world.takes_tokens("beta", &beta.address).await;
    let delivery = world.deliver();
    world.log_out(&["beta"]).await;
    let (first, second) = (Duration::from_secs(2), Duration::from_secs(4));
    for (tries, pause) in [(1, first), (2, second)] {
        while world.logouts().await["beta"].1.attempts < tries {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.hands.advance(pause);
    }
    let logout = world.becomes("beta", LogoutState::Confirmed).await;
    assert_eq!((logout.attempts, logout.detail.as_str()), (3, "204"));
    let mut names: Vec<String> = beta.tokens().iter().map(|token| part(token, 1)["jti"].to_string()).collect();
    names.dedup();
    assert_eq!(names.len(), 3);
    delivery.abort();
}

#[tokio::test]
async fn who_is_slow_delays_nobody_else() {
    let world = World::new().await;
    let beta = Listener::start(&[(200, Duration::from_secs(60))]).await;
    let gamma = Listener::start(&[]).await;
    world.takes_tokens("beta", &beta.address).await;
    world.takes_tokens("gamma", &gamma.address).await;
    let delivery = world.deliver();
    world.log_out(&["beta"]).await;
    while beta.tokens().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = tokio::time::Instant::now();
    world.log_out(&["gamma"]).await;
    world.becomes("gamma", LogoutState::Confirmed).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(world.logouts().await["beta"].1.state, LogoutState::Pending);
    delivery.abort();
}

/// The broker dies between commit and delivery, and between delivery and receipt.
#[tokio::test]
async fn what_is_committed_is_delivered_by_the_next_broker() {
    let world = World::new().await;
    let beta = Listener::start(&[(200, Duration::from_secs(60))]).await;
    world.takes_tokens("beta", &beta.address).await;
    world.log_out(&["beta"]).await;
    let first = world.deliver();
    while beta.tokens().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    first.abort();
    let second = world.deliver();
    world.becomes("beta", LogoutState::Confirmed).await;
    let tokens = beta.tokens();
    assert_eq!(tokens.len(), 2);
    // Nobody noted the first try: it is the same one, and says so.
    assert_eq!(part(&tokens[0], 1)["jti"], part(&tokens[1], 1)["jti"]);
    second.abort();
}

#[tokio::test]
async fn after_a_day_ops_have_to_look() {
    let world = World::new().await;
    let beta = Listener::start(&[(503, AT_ONCE), (503, AT_ONCE)]).await;
    world.takes_tokens("beta", &beta.address).await;
    world.log_out(&["beta", "gamma"]).await;
    let delivery = world.deliver();
    while world.logouts().await["beta"].1.attempts < 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (id, _) = world.logouts().await.remove("beta").unwrap();
    assert!(matches!(world.sessions.outbox().retry(&id, NOW).await, Err(OutboxError::NotDead)));
    world.hands.advance(Duration::from_secs(86_401));
    let dead = world.becomes("beta", LogoutState::Dead).await;
    assert_eq!(dead.detail, "it answered 503");
    world.sessions.outbox().retry(&id, world.clock.now()).await.unwrap();
    world.becomes("beta", LogoutState::Confirmed).await;
    // gamma's agent never came. The lanes are looked at again at the latest when the next broker starts.
    delivery.abort();
    let delivery = world.deliver();
    world.becomes("gamma", LogoutState::Dead).await;
    delivery.abort();
}

#[tokio::test]
async fn who_goes_away_is_given_up_at_once() {
    let world = World::new().await;
    world.takes_tokens("beta", "http://127.0.0.1:9/").await;
    world.takes_tokens("gamma", "http://127.0.0.1:9/").await;
    world.log_out(&["beta", "gamma"]).await;
    world.registry.evict("beta").await;
    world.registry.change("gamma", |gamma| gamma.relying_party.as_mut().unwrap().logout = Default::default()).await;
    let delivery = world.deliver();
    assert_eq!(world.becomes("beta", LogoutState::Dead).await.detail, "the client is gone");
    world.becomes("gamma", LogoutState::Dead).await;
    delivery.abort();
}

#[tokio::test]
async fn agents_get_one_order_at_a_time_and_again_until_they_answer() {
    let world = World::new().await;
    let outbox = world.sessions.outbox();
    let delivery = world.deliver();
    world.log_out(&["beta"]).await;
    let mut orders = outbox.orders(name("beta"), world.clock.clone());
    let first = orders.next().await;
    assert!(matches!(&first.message, Message::Agent(entered) if entered.username == "alice@alpha"));
    // The stream breaks; the next one begins with the same order.
    drop(orders);
    let mut orders = outbox.orders(name("beta"), world.clock.clone());
    let again = orders.next().await;
    assert_eq!(again.id, first.id);
    // Nothing else comes until that is answered, and nobody answers for somebody else.
    world.log_out(&["beta"]).await;
    let soon = Duration::from_millis(200);
    assert!(tokio::time::timeout(soon, orders.next()).await.is_err());
    orders.answered("somebody else's", Outcome::Told(String::new())).await;
    assert!(tokio::time::timeout(soon, orders.next()).await.is_err());
    orders.answered(again.id.as_str(), Outcome::Told("1 session(s) ended".into())).await;
    let second = orders.next().await;
    assert_ne!(second.id, first.id);
    assert_eq!(outbox.get(&first.id).await.unwrap().unwrap().state, LogoutState::Confirmed);
    // A failure is ordered again, after a while.
    orders.answered(second.id.as_str(), Outcome::Failed("the application does not answer".into())).await;
    assert!(tokio::time::timeout(soon, orders.next()).await.is_err());
    world.hands.advance(Duration::from_secs(2));
    let third = tokio::time::timeout(Duration::from_secs(5), orders.next()).await.unwrap();
    assert_eq!(third.id, second.id);
    orders.answered(third.id.as_str(), Outcome::NotSupported).await;
    assert_eq!(outbox.get(&third.id).await.unwrap().unwrap().state, LogoutState::NotSupported);
    // A bell rings at the desk of an agent that is there.
    let waiting = tokio::spawn(async move { orders.next().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.log_out(&["beta"]).await;
    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    delivery.abort();
}

/// A second broker on the same store, with agents of its own: what is known of lanes and desks is not shared.
#[tokio::test]
async fn with_two_brokers_a_token_is_posted_once_and_orders_reach_the_agent_wherever_it_is() {
    let mut world = World::new().await;
    let beta = Listener::start(&[]).await;
    world.takes_tokens("beta", &beta.address).await;
    let duty = [watch::Sender::new(true), watch::Sender::new(false)];
    let first = world.deliver_when(duty[0].subscribe());
    let other = Sessions::new(world.registry.store.clone(), LIFETIMES, crate::audit::Audit::unheard());
    let here = std::mem::replace(&mut world.sessions, other);
    // Off duty, at another broker, whose agent gamma's is.
    let second = world.deliver_when(duty[1].subscribe());
    let there = std::mem::replace(&mut world.sessions, here);
    let mut orders = there.outbox().orders(name("gamma"), world.clock.clone());
    let idle = tokio::time::timeout(Duration::from_millis(100), orders.next()).await;
    assert!(idle.is_err(), "nothing yet");
    for round in 1..=5 {
        world.log_out(&["beta", "gamma"]).await;
        let order = tokio::time::timeout(Duration::from_secs(1), orders.next()).await.expect("within a second");
        orders.answered(order.id.as_str(), Outcome::Told(String::new())).await;
        world.becomes("beta", LogoutState::Confirmed).await;
        while beta.tokens().len() < round {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(beta.tokens().len(), 5, "each once");
    // The first one dies; what comes then, and what it left, is posted by the other.
    first.abort();
    world.log_out(&["beta"]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(beta.tokens().len(), 5, "who is not on duty posts nothing");
    duty[1].send_replace(true);
    let posted = async {
        while beta.tokens().len() < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), posted).await.unwrap();
    second.abort();
}
