//! A user who has more sessions than anybody needs.

use std::time::Duration;

use super::World;
use crate::registry::SessionId;
use crate::sessions::LogoutState;
use crate::storage::Store as _;

impl World {
    /// Signs in once more, and does what a login does then.
    async fn one_more(&self, user: &str) -> (SessionId, String) {
        self.hands.advance(Duration::from_secs(1));
        let begun = self.sign_in(user, "beta", None).await;
        let snapshot = self.registry.registry.snapshot();
        self.sessions.make_room(&self.user(user), &begun.0, &snapshot, self.clock.now()).await.unwrap();
        begun
    }

    async fn is_there(&self, cookie: &str) -> bool {
        self.sessions.find(cookie, self.clock.now()).await.unwrap().is_some()
    }

    async fn sessions_of(&self, user: &str) -> usize {
        self.sessions.of_user(&self.user(user)).await.unwrap().len()
    }
}

#[tokio::test]
async fn of_too_many_sessions_those_end_that_were_used_longest_ago_and_applications_hear_of_it() {
    let world = World::new().await;
    let (bob, kept) = (world.one_more("bob").await.1, world.one_more("alice").await.1);
    let mut cookies = Vec::new();
    for _ in 0..99 {
        cookies.push(world.one_more("alice").await.1);
    }
    // The one that began first is in use.
    world.hands.advance(Duration::from_secs(600));
    world.sign_in("alice", "gamma", Some(&kept)).await;
    assert_eq!((world.sessions_of("alice").await, world.sessions.crowded_out()), (100, 0));
    assert!(world.logouts().await.is_empty());

    let (last, cookie) = world.one_more("alice").await;
    assert_eq!((world.sessions_of("alice").await, world.sessions.crowded_out()), (85, 16));
    assert!(world.is_there(&cookie).await, "whoever logs in is signed in");
    assert!(world.sessions.get(&last, world.clock.now()).await.unwrap().is_some());
    let of_kept = world.sessions.of_user(&world.user("alice")).await.unwrap();
    assert!(of_kept.iter().any(|(id, _)| kept.starts_with(id.as_str())), "what is used stays");
    for (n, cookie) in cookies.iter().enumerate() {
        assert_eq!(world.is_there(cookie).await, n >= 16, "{n}");
    }
    assert!(world.is_there(&bob).await, "nobody else's");
    let told = world.sessions.outbox().page(None, 100).await.unwrap();
    assert_eq!(told.len(), 16, "each application is told of each session that has ended");
    assert!(told.iter().all(|(_, logout)| logout.state != LogoutState::Confirmed && logout.target.as_str() == "beta"));
}

#[tokio::test]
async fn where_the_clock_was_set_back_what_has_just_begun_is_not_what_was_used_longest_ago() {
    let world = World::new().await;
    let mut cookies = Vec::new();
    for _ in 0..90 {
        cookies.push(world.one_more("alice").await.1);
    }
    world.hands.set_back(Duration::from_secs(600));
    for _ in 0..11 {
        cookies.push(world.one_more("alice").await.1);
    }
    assert_eq!(world.sessions.crowded_out(), 16);
    for (n, cookie) in cookies.iter().enumerate() {
        assert_eq!(world.is_there(cookie).await, n >= 16, "{n}");
    }
}

/// What is kept under a user lives longer than a session that nobody uses: it counts for nothing.
#[tokio::test]
async fn sessions_that_went_by_their_age_take_no_place() {
    let world = World::new().await;
    let (mut cookies, mut gone) = (Vec::new(), Vec::new());
    for n in 0..100 {
        let (id, cookie) = world.one_more("alice").await;
        if n < 60 { gone.push(id) } else { cookies.push(cookie) }
    }
    // As the sweeper does it.
    let deletions = gone.iter().map(|id| world.sessions.table.delete(id.as_str(), crate::storage::Expect::Any));
    world.registry.store.commit(deletions.collect()).await.unwrap();
    cookies.push(world.one_more("alice").await.1);
    for cookie in &cookies {
        assert!(world.is_there(cookie).await);
    }
    assert_eq!((world.sessions_of("alice").await, world.sessions.crowded_out()), (41, 0));
    let first = crate::sessions::SessionOfUser::first_of(&world.user("alice"));
    assert_eq!(world.sessions.of_users.beginning(&first).await.unwrap().len(), 41, "they are forgotten");
}

#[tokio::test]
async fn logins_of_one_moment_lock_nobody_out() {
    let world = World::new().await;
    for _ in 0..100 {
        world.one_more("alice").await;
    }
    let snapshot = world.registry.registry.snapshot();
    let now = world.clock.now();
    let mut begun = Vec::new();
    for _ in 0..8 {
        begun.push(world.sign_in("alice", "beta", None).await);
    }
    let user = world.user("alice");
    let all = begun.iter().map(|(id, _)| world.sessions.make_room(&user, id, &snapshot, now));
    for made in futures_util::future::join_all(all).await {
        made.unwrap();
    }
    for (_, cookie) in &begun {
        assert!(world.is_there(cookie).await);
    }
    let left = world.sessions_of("alice").await;
    assert!((84..=100).contains(&left), "{left}");
}
