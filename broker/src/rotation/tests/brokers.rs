//! Brokers that decide at the same time, and one that dies in between.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::watch;

use super::*;
use crate::brokers::{Brokers, Pace, StoredBroker};
use crate::registry::{Liveness, Registry};
use crate::storage::Store;
use crate::storage::failing::{FailingStore, Fate};

/// Two brokers on one store: both look at the same time, again and again; each move happens once.
#[tokio::test]
async fn of_two_brokers_that_decide_at_once_one_moves() {
    let world = World::new(&["beta"], POLICY).await;
    let other = World::broker(&world.foundations, POLICY);
    let both = async |now| {
        let (one, two) = tokio::join!(world.rotations.look(now), other.look(now));
        one.unwrap();
        two.unwrap();
    };
    let begin = |rotations: Arc<Rotations>| async move { rotations.begin(RS256, Urgency::Planned, "", NOW).await };
    let (one, two) = tokio::join!(begin(world.rotations.clone()), begin(other.clone()));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert_eq!(world.states().await, ["active", "pending"]);
    world.acknowledges_keys("beta", NOW).await;
    both(NOW + 10 * MINUTE).await;
    assert_eq!(world.states().await, ["active", "retired"]);
    both(NOW + 10 * MINUTE + LONGEST).await;
    both(NOW + 10 * MINUTE + LONGEST).await;
    assert_eq!(world.states().await, ["active"]);
}

/// A store that breaks down for good at its nth commit from now.
fn breaking(store: Arc<dyn Store>, nth: i64, at_the_break: Fate) -> Arc<dyn Store> {
    let left = AtomicI64::new(nth);
    FailingStore::new(store, move || match left.fetch_sub(1, Ordering::SeqCst) {
        1.. => Fate::Passes,
        0 => at_the_break,
        _ => Fate::FailsBefore,
    })
}

/// The broker dies before or after any commit of a rotation, another one goes on from what is stored, and the
/// rotation ends as if nothing had happened.
#[tokio::test]
async fn a_rotation_goes_on_after_a_broker_that_died_at_any_commit() {
    for subject in [RS256, secret_of("beta"), RotationSubject::Authority] {
        for (nth, fate) in (0..5).flat_map(|nth| [(nth, Fate::FailsBefore), (nth, Fate::FailsBehind)]) {
            let world = World::new(&["beta"], POLICY).await;
            world.connects("beta", NOW);
            let store = world.foundations.store.clone();
            let dying =
                World::broker(&Foundations { store: breaking(store, nth, fate), ..world.foundations.clone() }, POLICY);
            let mut now = NOW;
            drop(dying.begin(subject.clone(), Urgency::Planned, "uid=0", now).await);
            for _ in 0..6 {
                now = now + 11 * MINUTE;
                everybody_goes_along(&world, now).await;
                drop(dying.look(now).await);
                settle(&world).await;
            }
            // Ops see no rotation if it died before the first commit, and order it again.
            if world.rotations.status(Some(&subject), now).await.unwrap().is_empty() {
                world.rotations.begin(subject.clone(), Urgency::Planned, "uid=0", now).await.unwrap();
            }
            for _ in 0..20 {
                now = now + 11 * MINUTE;
                everybody_goes_along(&world, now).await;
                world.rotations.look(now).await.unwrap();
                settle(&world).await;
            }
            let end = world.look(&subject, now).await;
            assert_eq!(end.0, Phase::Done, "{subject} died at commit {nth} ({fate:?}): {end:?}");
            assert_eq!(world.states().await, ["active"]);
            assert_eq!(world.party("beta").credentials().count(), 1);
            assert_eq!(world.foundations.authority.state().authorities().len(), 1);
        }
    }
}

/// The agent is connected to one broker, and the rotation is moved by the other.
#[tokio::test]
async fn a_gate_at_one_broker_sees_what_agents_of_another_acknowledge() {
    let world = World::new(&["beta"], POLICY).await;
    let store = world.foundations.store.clone();
    let join = async |name| {
        let own = StoredBroker::new(name, NOW);
        let (brokers, heart) = Brokers::join(store.clone(), own, Pace::FAST).await.unwrap();
        tokio::spawn(heart);
        let (liveness, keep_reports) = Liveness::open(store.clone(), brokers).await.unwrap();
        tokio::spawn(keep_reports);
        liveness
    };
    let (here, there) = (join("here").await, join("there").await);
    let mover = World::broker(&Foundations { liveness: here.clone(), ..world.foundations.clone() }, POLICY);
    let beta: InstanceName = "beta".parse().unwrap();
    let kids =
        async || -> Vec<String> { mover.signing_keys().await.unwrap().into_iter().map(|(kid, _)| kid).collect() };
    let old = kids().await;
    let claim = there.claim(&beta, |seen| (seen.online, seen.acknowledged.key_ids) = (true, old), NOW);
    mover.begin(RS256, Urgency::Planned, "", NOW).await.unwrap();
    let knows = async |count| {
        while here.sighting(&beta).is_none_or(|seen| !seen.online || seen.acknowledged.key_ids.len() < count) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), knows(2)).await.unwrap();
    mover.look(NOW + 10 * MINUTE).await.unwrap();
    assert_eq!(world.states().await, ["active", "pending"], "it is connected, and has not acknowledged");
    let new = kids().await;
    there.amend(&beta, &claim, |seen| seen.acknowledged.key_ids = new);
    tokio::time::timeout(Duration::from_secs(5), knows(3)).await.unwrap();
    mover.look(NOW + 10 * MINUTE).await.unwrap();
    assert_eq!(world.states().await, ["active", "retired"]);
}

/// A broker whose picture of the registry is old sees no new credential, and so nobody who would have to prove it.
#[tokio::test]
async fn a_gate_does_not_open_for_what_another_broker_has_just_offered() {
    let world = World::new(&["beta"], POLICY).await;
    let store = world.foundations.store.clone();
    // Nobody keeps it fresh.
    let (registry, _keep_fresh) = Registry::open(store).await.unwrap();
    let behind = World::broker(&Foundations { registry, ..world.foundations.clone() }, POLICY);
    world.connects("beta", NOW);
    world.begin(&secret_of("beta"), Urgency::Planned).await;
    behind.look(NOW).await.unwrap();
    assert_eq!(world.look(&secret_of("beta"), NOW).await.0, Phase::Offered);
    assert_eq!(world.party("beta").credentials().count(), 2, "both are good");
}

/// Only the broker on duty moves; the other one follows the plan.
#[tokio::test]
async fn who_is_not_on_duty_moves_nothing_and_takes_over_at_once() {
    let world = World::new(&["beta"], POLICY).await;
    let (clock, hands) = Clock::manual(NOW);
    let duty = watch::Sender::new(false);
    let running = tokio::spawn(world.rotations.clone().run(clock, duty.subscribe()));
    // Ordered at the other broker.
    let other = World::broker(&world.foundations, POLICY);
    other.begin(RS256, Urgency::Planned, "", NOW).await.unwrap();
    world.acknowledges_keys("beta", NOW).await;
    hands.advance(10 * MINUTE);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.states().await, ["active", "pending"]);
    duty.send_replace(true);
    let moved = async {
        while world.states().await != ["active", "retired"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), moved).await.unwrap();
    running.abort();
}

/// The broker on duty sees at once what is ordered at another one.
#[tokio::test]
async fn what_is_ordered_at_another_broker_is_begun_within_a_second() {
    let world = World::new(&["beta"], POLICY).await;
    let (clock, hands) = Clock::manual(NOW);
    let running = tokio::spawn(world.rotations.clone().run(clock, watch::Sender::new(true).subscribe()));
    // It has looked, and rests.
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.acknowledges_keys("beta", NOW).await;
    hands.advance(10 * MINUTE);
    let other = World::broker(&world.foundations, POLICY);
    other.begin(RS256, Urgency::Compromised, "", NOW).await.unwrap();
    other.begin(secret_of("beta"), Urgency::Planned, "", NOW).await.unwrap();
    world.hears("beta", NOW, |seen| (seen.online, seen.acknowledged.secret_version) = (true, 2));
    let since = tokio::time::Instant::now();
    while world.party("beta").credentials().count() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    running.abort();
}
