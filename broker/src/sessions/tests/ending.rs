//! What the end of a session is, whoever comes in between.

use std::time::Duration;

use proptest::prelude::{Strategy as _, any, prop_assert};
use proptest::test_runner::TestCaseError;

use homeward_certs::identity::InstanceName;
use tokio::sync::watch;

use super::{World, identity};
use crate::registry::tests::{NOW, name, upstream};
use crate::registry::{InstanceId, LogoutAddresses, TrustEdge, TrustEdgeId, TrustSide, TrustTerms, Upstream};
use crate::sessions::{LogoutState, Message, Opened, TellHome, Vouched, follow_cut_off_homes};
use crate::storage::{Expect, Store as _};

fn on_duty() -> watch::Receiver<bool> {
    watch::Sender::new(true).subscribe()
}

impl World {
    pub(super) async fn takes_tokens(&self, party: &str, address: &str) {
        let logout = LogoutAddresses { backchannel: Some(address.to_owned()), ..LogoutAddresses::default() };
        self.registry.change(party, |instance| instance.relying_party.as_mut().unwrap().logout = logout).await;
    }

    /// A user of alpha is signed in by another home.
    async fn sign_in_from(&self, (home, home_id): (InstanceName, InstanceId), user: &str, party: &str) {
        let identity = identity(user).verify(NOW).unwrap();
        let vouched = Vouched { home, home_id, user: self.user(user), identity };
        let entered = (self.client(party), self.opened(home_id, user, party));
        let begun = self.sessions.begin(None, vouched, Some(entered), self.clock.now()).unwrap();
        self.registry.store.commit(begun.writes).await.unwrap();
    }

    async fn sessions_left(&self, user: &str) -> usize {
        self.sessions.of_user(&self.user(user)).await.unwrap().len()
    }
}

#[tokio::test]
async fn the_end_is_one_commit_that_reaches_everybody_who_was_entered() {
    let world = World::new().await;
    world.takes_tokens("beta", "https://beta.example/backchannel").await;
    let (id, cookie) = world.sign_in("alice", "beta", None).await;
    let (again, cookie) = world.sign_in("alice", "gamma", Some(&cookie)).await;
    assert_eq!(id, again);
    let snapshot = world.registry.registry.snapshot();
    let ended = world.sessions.end(std::slice::from_ref(&id), TellHome::Yes, &snapshot, NOW).await.unwrap();
    assert_eq!((ended.sessions.len(), ended.logouts.len()), (1, 3));
    assert!(world.sessions.find(&cookie, NOW).await.unwrap().is_none());
    assert!(world.sessions.get(&id, NOW).await.unwrap().is_none());
    assert_eq!(world.sessions_left("alice").await, 0);
    let logouts = world.logouts().await;
    assert!(matches!(&logouts["beta"].1.message, Message::Back(entered) if entered.session == id));
    assert!(matches!(&logouts["gamma"].1.message, Message::Agent(entered) if entered.username == "alice@alpha"));
    assert_eq!(logouts["alpha"].1.message, Message::Home { home_user_id: "alice".into() });
    assert!(logouts.values().all(|(_, logout)| logout.user_name == "alice@alpha"));
    // What has ended ends no second time.
    let again = world.sessions.end(&[id], TellHome::Yes, &snapshot, NOW).await.unwrap();
    assert_eq!((again.sessions.len(), again.logouts.len()), (0, 0));
}

#[tokio::test]
async fn who_was_told_no_name_ends_nobodys_sessions_by_one() {
    let world = World::new().await;
    let (home, user, identity) = (name("alpha"), world.user("alice"), identity("admin").verify(NOW).unwrap());
    let home_id = world.registry.registry.snapshot().home_id(&home).unwrap();
    let opened = Opened { username: None, ..world.opened(home_id, "alice", "beta") };
    let vouched = Vouched { home, home_id, user, identity };
    let begun = world.sessions.begin(None, vouched, Some((world.client("beta"), opened)), NOW).unwrap();
    world.registry.store.commit(begun.writes).await.unwrap();
    let snapshot = world.registry.registry.snapshot();
    world.sessions.end(&[begun.id], TellHome::No, &snapshot, NOW).await.unwrap();
    assert!(matches!(&world.logouts().await["beta"].1.message, Message::Agent(entered) if entered.username.is_empty()));
}

#[tokio::test]
async fn a_relying_party_that_is_gone_is_not_waited_for() {
    let world = World::new().await;
    let (id, _) = world.sign_in("alice", "beta", None).await;
    world.registry.evict("beta").await;
    let snapshot = world.registry.registry.snapshot();
    let ended = world.sessions.end(&[id], TellHome::No, &snapshot, NOW).await.unwrap();
    assert_eq!((ended.sessions.len(), ended.logouts.len()), (1, 0));
}

#[tokio::test]
async fn all_sessions_of_one_user_end_and_the_home_hears_once() {
    let world = World::new().await;
    for _ in 0..40 {
        world.sign_in("alice", "beta", None).await;
    }
    let (bobs, bobs_cookie) = world.sign_in("bob", "beta", None).await;
    let snapshot = world.registry.registry.snapshot();
    let ended = world.sessions.end_all(&world.user("alice"), TellHome::Yes, &snapshot, NOW).await.unwrap();
    assert_eq!(ended.sessions.len(), 40);
    let home = |logout: &crate::sessions::StoredLogout| matches!(logout.message, Message::Home { .. });
    assert_eq!(ended.logouts.iter().filter(|(_, logout)| home(logout)).count(), 1);
    assert_eq!(world.sessions.find(&bobs_cookie, NOW).await.unwrap().unwrap().id, bobs);
}

#[tokio::test]
async fn of_a_user_who_is_gone_no_session_is_left_whenever_it_began() {
    let world = World::new().await;
    let noted_at = world.clock.now();
    world.hands.advance(Duration::from_secs(1));
    world.sign_in("alice", "beta", None).await;
    let snapshot = world.registry.registry.snapshot();
    let (alice, none) = (world.user("alice"), TellHome::No);
    assert_eq!(world.sessions.end_all(&alice, none, &snapshot, noted_at).await.unwrap().sessions.len(), 0);
    assert_eq!(world.sessions.end_for_good(&alice, &snapshot, noted_at).await.unwrap().sessions.len(), 1);
}

/// Whatever a user does meanwhile in his browsers, no session is left that began before the order was given.
#[test]
fn no_session_survives_that_began_before_the_end() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let actions = proptest::collection::vec((0..3_usize, any::<bool>(), 0..4_u8), 1..24);
    let world = runtime.block_on(World::new());
    proptest::test_runner::TestRunner::new(proptest::test_runner::Config::with_cases(24))
        .run(&(actions, "[a-z]{6}").prop_map(|case| case), |(actions, user)| {
            runtime.block_on(interleave(&world, &user, actions))
        })
        .unwrap();
}

async fn interleave(world: &World, user: &str, actions: Vec<(usize, bool, u8)>) -> Result<(), TestCaseError> {
    let mut cookies: [Option<String>; 3] = Default::default();
    for (browser, cookie) in cookies.iter_mut().enumerate().take(2) {
        *cookie = Some(world.sign_in(user, ["beta", "gamma"][browser], None).await.1);
    }
    let before = world.sessions.of_user(&world.user(user)).await.unwrap();
    let ordered_at = world.clock.now();
    world.hands.advance(Duration::from_secs(1));
    let (snapshot, id) = (world.registry.registry.snapshot(), world.user(user));
    let end = world.sessions.end_all(&id, TellHome::No, &snapshot, ordered_at);
    let browse = async {
        for (browser, keep, pause) in actions {
            for _ in 0..pause {
                tokio::task::yield_now().await;
            }
            let cookie = cookies[browser].take().filter(|_| keep);
            cookies[browser] = Some(world.sign_in(user, "delta", cookie.as_deref()).await.1);
        }
    };
    let (ended, ()) = tokio::join!(end, browse);
    ended.map_err(|error| TestCaseError::fail(error.to_string()))?;
    let after = world.sessions.of_user(&id).await.unwrap();
    for (id, session) in &after {
        prop_assert!(session.began_at > ordered_at && before.iter().all(|(old, _)| old != id));
    }
    Ok(())
}

// Invariant 6.
#[tokio::test]
async fn a_home_that_is_cut_off_takes_its_sessions_with_it() {
    let world = World::new().await;
    for _ in 0..200 {
        world.sign_in("alice", "beta", None).await;
    }
    let registry = world.registry.registry.clone();
    let follow =
        tokio::spawn(follow_cut_off_homes(world.sessions.clone(), registry.clone(), world.clock.clone(), on_duty()));
    world.registry.change("gamma", |gamma| gamma.display_name = "another".into()).await;
    assert_eq!(world.sessions_left("alice").await, 200);
    world.registry.quarantine("alpha").await;
    let all_ended = async {
        while world.sessions_left("alice").await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all_ended).await.unwrap();
    assert_eq!(world.logouts().await["beta"].1.state, LogoutState::Pending);
    // What a broker that died left behind is found at the next start: a session that came in between.
    follow.abort();
    world.sign_in("alice", "beta", None).await;
    let follow = tokio::spawn(follow_cut_off_homes(world.sessions.clone(), registry, world.clock.clone(), on_duty()));
    while world.sessions_left("alice").await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    follow.abort();
    assert!(world.registry.registry.snapshot().instance(&name("alpha")).is_some());
}

#[tokio::test]
async fn a_home_without_agent_that_is_removed_or_becomes_another_takes_its_sessions_with_it() {
    let world = World::new().await;
    let (registry, sealing) = (world.registry.registry.clone(), &world.registry.sealing);
    let staff = upstream("staff", "https://id.example", sealing);
    let put = |staff: &Upstream| registry.upstreams.put("staff", staff, Expect::Any).unwrap();
    let follow =
        tokio::spawn(follow_cut_off_homes(world.sessions.clone(), registry.clone(), world.clock.clone(), on_duty()));
    let none_left = async || {
        while world.sessions_left("alice").await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let another = upstream("staff", "https://other.example", sealing);
    for end in [put(&another), registry.upstreams.delete("staff", Expect::Any)] {
        world.registry.commit(vec![put(&staff)]).await;
        world.sign_in_from((name("staff"), staff.id), "alice", "beta").await;
        assert_eq!(world.sessions_left("alice").await, 1);
        world.registry.commit(vec![end]).await;
        tokio::time::timeout(Duration::from_secs(10), none_left()).await.unwrap();
    }
    follow.abort();
}

#[tokio::test]
async fn who_accepts_a_home_no_more_hears_of_its_users_and_they_stay_signed_in_elsewhere() {
    for side in [None, Some(TrustSide::Home), Some(TrustSide::RelyingParty)] {
        loses_its_trust_in_alpha(side).await;
    }
}

/// beta's, or one of the two consents to it.
async fn loses_its_trust_in_alpha(side: Option<TrustSide>) {
    let world = World::new().await;
    let registry = world.registry.registry.clone();
    // It has looked at a registry without edges when the first login comes.
    let follow = tokio::spawn(follow_cut_off_homes(world.sessions.clone(), registry, world.clock.clone(), on_duty()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    for party in ["beta", "gamma"] {
        world.registry.allow(party, "alpha", &[]).await;
    }
    let (id, cookie) = world.sign_in("alice", "beta", None).await;
    let (_, cookie) = world.sign_in("alice", "gamma", Some(&cookie)).await;
    let id_of_edge = TrustEdgeId { relying_party: name("beta"), home: name("alpha") };
    let fresh = TrustEdge::new(id_of_edge.clone(), NOW).unwrap();
    // Allowed again at once, it is another edge: nobody slips through.
    let registry = &world.registry.registry;
    match side {
        None => {
            registry.deny_trust(&id_of_edge).await.unwrap();
            world.registry.allow("beta", "alpha", &[]).await;
        }
        Some(side) => {
            registry.withdraw_trust(&id_of_edge, side, NOW).await.unwrap();
            let whole = registry.consent_to_trust(fresh, side, TrustTerms::default()).await.unwrap();
            assert!(whole.is_in_force());
        }
    }
    let told = async {
        while !world.logouts().await.contains_key("beta") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    let logouts = world.logouts().await;
    assert!(matches!(&logouts["beta"].1.message, Message::Agent(entered) if entered.username == "alice@alpha"));
    assert!(!logouts.contains_key("gamma") && !logouts.contains_key("alpha"));
    assert!(world.sessions.find(&cookie, NOW).await.unwrap().is_some());
    let opened = world.sessions.get(&id, NOW).await.unwrap().unwrap().opened;
    assert_eq!(opened.keys().collect::<Vec<_>>(), [&world.client("gamma")]);
    follow.abort();
}

#[tokio::test]
async fn of_two_brokers_the_one_on_duty_ends_the_sessions_of_a_home_that_is_cut_off() {
    let world = World::new().await;
    world.sign_in("alice", "beta", None).await;
    let duty = watch::Sender::new(false);
    let (registry, clock) = (world.registry.registry.clone(), world.clock.clone());
    let follow = tokio::spawn(follow_cut_off_homes(world.sessions.clone(), registry, clock, duty.subscribe()));
    world.registry.quarantine("alpha").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.sessions_left("alice").await, 1, "that is the other one's to do");
    // Who has died: its duty is taken, and what it left is found.
    duty.send_replace(true);
    let ended = async {
        while world.sessions_left("alice").await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
    follow.abort();
}
