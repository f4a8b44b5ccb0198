//! Logins and failures are counted over restarts, of all brokers, and whether or not they are written down.

use super::*;

/// What the store has of the counts, of all chains.
async fn stored(world: &World) -> Vec<LoginCount> {
    let all = Table::<StoredCounts>::new(world.store.clone()).all().await.unwrap();
    let mut sum = LoginCounts::default();
    all.iter().for_each(|(_, stored)| sum.add(&stored.record.counts, world.clock.now()));
    nonzero(&sum, world)
}

fn nonzero(counts: &LoginCounts, world: &World) -> Vec<LoginCount> {
    let counts = counts.up_to(world.clock.now()).into_iter();
    counts.filter(|count| count.logins + count.failures > 0).collect()
}

async fn counted(audit: &Audit, world: &World) -> Vec<LoginCount> {
    nonzero(&audit.login_counts(&world.store, world.clock.now()).await.unwrap(), world)
}

#[tokio::test]
async fn counts_go_on_over_restarts_and_are_those_of_all_brokers() {
    let world = World::new();
    let audit = world.open().await;
    audit.note(Event::new(Kind::LoginDecided));
    let first = LoginCount { at: START, logins: 1, failures: 0 };
    assert_eq!(counted(&audit, &world).await, [first]);
    audit.close().await;
    assert_eq!(stored(&world).await, [first]);

    world.time.advance(LoginCounts::PERIOD);
    let audit = world.open().await;
    let elsewhere = AuditSettings { dir: world.settings.dir.with_extension("other"), ..world.settings.clone() };
    let other = Audit::open(&world.store, &elsewhere, "other", world.clock.clone()).await.unwrap();
    audit.note(Event::new(Kind::LoginDecided));
    other.note(Event::new(Kind::LoginDecided).refused("access_denied"));
    other.close().await;
    let second = LoginCount { at: START + LoginCounts::PERIOD, logins: 1, failures: 1 };
    assert_eq!(counted(&audit, &world).await, [first, second]);
    audit.close().await;
    assert_eq!(stored(&world).await, [first, second]);

    // Two days later nobody has to delete anything.
    world.time.advance(LoginCounts::KEPT);
    assert_eq!(counted(&world.open().await, &world).await, []);
}

#[tokio::test]
async fn what_is_counted_is_in_the_store_without_anybody_stopping_and_seldom() {
    let world = World::new();
    let audit = world.open().await;
    audit.note(Event::new(Kind::LoginDecided));
    tokio::time::timeout(Duration::from_secs(10), async {
        while stored(&world).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    // What comes within the same minute waits, though its record is on the disk.
    audit.note(Event::new(Kind::LoginDecided));
    assert!(audit.settled().await);
    assert_eq!(stored(&world).await[0].logins, 1);
    audit.close().await;
    assert_eq!(stored(&world).await[0].logins, 2);
}

#[tokio::test]
async fn what_is_left_out_of_the_files_is_counted() {
    let (audit, mut heard) = Audit::heard();
    let flood = async {
        for _ in 0..5000 {
            audit.note(Event::new(Kind::LoginRefused).refused("x"));
        }
    };
    Origin::Web("192.0.2.1".parse().unwrap()).of(flood).await;
    assert!(heard.events().len() < 5000);
    let world = World::new();
    let now = Clock::system().now();
    let counts = audit.login_counts(&world.store, now).await.unwrap().up_to(now);
    assert_eq!(counts.iter().map(|count| count.failures).sum::<u32>(), 5000);
}
