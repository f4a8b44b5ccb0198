//! The rules of the way in, on a real store.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::storage::sled::SledStore;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

struct World {
    console: Console,
    store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        Self { console: Console::new(store.clone(), Audit::unheard()), store, _folder: folder }
    }

    async fn code(&self) -> String {
        self.console.issue_code("uid=0", NOW).await.unwrap().0
    }
}

fn after(secs: u64) -> Timestamp {
    NOW + Duration::from_secs(secs)
}

#[tokio::test]
async fn a_code_lets_one_browser_in_once() {
    let world = World::new();
    let code = world.code().await;
    let entered = world.console.enter_by_code(&code, NOW).await.unwrap();
    let (id, session) = world.console.find(&entered.cookie, NOW).await.unwrap().unwrap();
    assert_eq!((id, session.way.name()), (entered.id, "uid=0".to_owned()));
    let again = world.console.enter_by_code(&code, NOW).await;
    assert!(matches!(again, Err(ConsoleError::CodeUnknown)));
}

#[tokio::test]
async fn of_two_who_come_with_a_code_at_once_one_is_let_in() {
    let world = World::new();
    for _ in 0..20 {
        let code = world.code().await;
        let other = Console::new(world.store.clone(), Audit::unheard());
        let (one, two) = tokio::join!(world.console.enter_by_code(&code, NOW), other.enter_by_code(&code, NOW));
        assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1);
    }
}

#[tokio::test]
async fn a_code_is_good_for_ten_minutes() {
    let world = World::new();
    let (early, late) = (world.code().await, world.code().await);
    assert!(world.console.enter_by_code(&early, after(599)).await.is_ok());
    assert!(matches!(world.console.enter_by_code(&late, after(600)).await, Err(ConsoleError::CodeUnknown)));
}

#[tokio::test]
async fn what_is_stored_opens_nothing() {
    let world = World::new();
    let code = world.code().await;
    let key = SecretHash::of(&code);
    for guess in [key.as_str(), "", "hwc_", &code[..code.len() - 1]] {
        assert!(matches!(world.console.enter_by_code(guess, NOW).await, Err(ConsoleError::CodeUnknown)), "{guess}");
    }
    let entered = world.console.enter_by_code(&code, NOW).await.unwrap();
    let hash = world.console.all(NOW).await.unwrap()[0].1.secret.as_str().to_owned();
    let other = world.console.enter_by_code(&world.code().await, NOW).await.unwrap();
    let (_, others) = other.cookie.split_once('.').unwrap();
    for forged in [format!("{}.{hash}", entered.id), format!("{}.{others}", entered.id), entered.id.to_string()] {
        assert!(world.console.find(&forged, NOW).await.unwrap().is_none(), "{forged}");
    }
}

#[tokio::test]
async fn a_session_ends_when_it_rests_and_after_eight_hours() {
    let world = World::new();
    let entered = world.console.enter_by_code(&world.code().await, NOW).await.unwrap();
    let resting = world.console.enter_by_code(&world.code().await, NOW).await.unwrap();
    for minutes in (25..480).step_by(25) {
        let now = after(minutes * 60);
        assert!(world.console.use_by(&entered.cookie, now).await.unwrap().is_some(), "{minutes}");
        // A page that looks by itself keeps nobody signed in.
        let looks = world.console.find(&resting.cookie, now).await.unwrap();
        assert_eq!(looks.is_some(), minutes < 30);
    }
    assert!(world.console.use_by(&resting.cookie, after(30 * 60)).await.unwrap().is_none());
    assert!(world.console.find(&entered.cookie, after(8 * 3600)).await.unwrap().is_none());
    assert!(world.console.all(after(8 * 3600)).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_ended_session_is_over_at_every_broker_and_comes_back_at_none() {
    let world = World::new();
    let entered = world.console.enter_by_code(&world.code().await, NOW).await.unwrap();
    let other = Console::new(world.store.clone(), Audit::unheard());
    assert!(other.use_by(&entered.cookie, after(120)).await.unwrap().is_some());
    assert!(world.console.end(&entered.id, "signed out").await.unwrap());
    assert!(other.use_by(&entered.cookie, after(300)).await.unwrap().is_none());
    assert!(!other.end(&entered.id, "signed out").await.unwrap());
}
