//! Signing keys turn.

use proptest::prelude::{ProptestConfig, proptest};

use super::*;
use crate::rotation::RotationError;

#[tokio::test]
async fn a_key_signs_when_it_is_acknowledged_and_was_published_long_enough() {
    let world = World::new(&["beta"], POLICY).await;
    world.connects("beta", NOW);
    world.begin(&RS256, Urgency::Planned).await;
    assert_eq!(world.states().await, ["active", "pending"]);
    assert_eq!(world.look(&RS256, NOW + 20 * MINUTE).await.0, Phase::Published, "nobody has acknowledged");
    world.acknowledges_keys("beta", NOW).await;
    let next = world.kid(KeyState::Pending).await;
    assert_eq!(world.look(&RS256, NOW + 9 * MINUTE).await.0, Phase::Published, "caches may be old");
    assert_eq!(world.look(&RS256, NOW + 10 * MINUTE).await.0, Phase::Active);
    assert_eq!(
        (world.kid(KeyState::Active).await, world.states().await),
        (next, vec!["active".into(), "retired".into()])
    );
    let end = NOW + 10 * MINUTE + LONGEST;
    assert_eq!(world.look(&RS256, end - Duration::from_secs(1)).await.0, Phase::Active);
    assert_eq!(world.look(&RS256, end).await.0, Phase::Done);
    assert_eq!(world.states().await, ["active"]);
}

#[tokio::test]
async fn a_connected_agent_that_does_not_acknowledge_pauses_the_turn_until_it_does() {
    let world = World::new(&["beta", "gamma"], POLICY).await;
    world.connects("beta", NOW);
    world.connects("gamma", NOW);
    world.begin(&RS256, Urgency::Planned).await;
    world.acknowledges_keys("beta", NOW).await;
    let late = NOW + 61 * MINUTE;
    assert_eq!(world.look(&RS256, NOW + 59 * MINUTE).await, (Phase::Published, false, String::new()));
    assert!(world.look(&RS256, late).await.1, "paused");
    let shown = world.rotations.status(Some(&RS256), late).await.unwrap().remove(0);
    assert!(shown.next_step().contains("gamma"), "{}", shown.next_step());
    assert!(world.look(&RS256, late + 500 * MINUTE).await.1, "it does not go on by itself");
    world.rotations.resume(&RS256, late).await.unwrap();
    assert!(!world.look(&RS256, late + MINUTE).await.1);
    world.acknowledges_keys("gamma", late).await;
    assert_eq!(world.look(&RS256, late + MINUTE).await.0, Phase::Active);
}

#[tokio::test]
async fn the_absent_are_waited_for_and_then_left_behind_by_name() {
    let world = World::new(&["beta", "gamma"], POLICY).await;
    world.connects("beta", NOW);
    world.begin(&RS256, Urgency::Planned).await;
    world.acknowledges_keys("beta", NOW).await;
    let day = Duration::from_secs(86_400);
    assert_eq!(world.look(&RS256, NOW + day - MINUTE).await.0, Phase::Published);
    assert_eq!(world.look(&RS256, NOW + day).await.0, Phase::Active);
    let shown = world.rotations.status(Some(&RS256), NOW + day).await.unwrap().remove(0);
    assert_eq!(shown.rotation.left_behind, ["gamma".parse().unwrap()]);
}

#[tokio::test]
async fn whoever_chose_acknowledged_keys_holds_up_nobody_and_keeps_the_old_key_alive() {
    let world = World::new(&["beta"], POLICY).await;
    world.chooses("beta", SigningKeyChoice::Acknowledged).await;
    world.connects("beta", NOW);
    world.acknowledges_keys("beta", NOW).await;
    world.begin(&RS256, Urgency::Planned).await;
    assert_eq!(world.look(&RS256, NOW + 10 * MINUTE).await.0, Phase::Active);
    // Long after the last token that the old key signed for others.
    let later = NOW + 10 * MINUTE + 5 * LONGEST;
    for minutes in 0..300 {
        world.look(&RS256, NOW + 10 * MINUTE + minutes * MINUTE).await;
    }
    assert_eq!(world.look(&RS256, later).await.0, Phase::Active);
    assert_eq!(world.states().await, ["active", "retired"]);
    world.acknowledges_keys("beta", later).await;
    // A token that it signed a moment ago lives to the end.
    assert_eq!(world.look(&RS256, later + LONGEST).await.0, Phase::Active);
    assert_eq!(world.look(&RS256, later + 3 * LONGEST).await.0, Phase::Done);
    assert_eq!(world.states().await, ["active"]);
}

#[tokio::test]
async fn a_compromised_key_is_gone_at_once_and_it_is_said_what_breaks() {
    let world = World::new(&["beta", "gamma"], POLICY).await;
    let old = world.kid(KeyState::Active).await;
    world.begin(&RS256, Urgency::Planned).await;
    world.acknowledges_keys("beta", NOW).await;
    let pending = world.kid(KeyState::Pending).await;
    world.begin(&RS256, Urgency::Compromised).await;
    assert_eq!((world.kid(KeyState::Active).await, world.states().await), (pending, vec!["active".to_owned()]));
    let remark = world.look(&RS256, NOW).await.2;
    assert!(remark.contains(&old) && remark.contains("gamma") && !remark.contains("beta"), "{remark}");
}

#[tokio::test]
async fn keys_are_taken_back_before_and_after_the_new_one_signs() {
    let world = World::new(&[], POLICY).await;
    let old = world.kid(KeyState::Active).await;
    world.begin(&RS256, Urgency::Planned).await;
    world.rotations.roll_back(&RS256, NOW).await.unwrap();
    assert_eq!(world.states().await, ["active"]);
    world.begin(&RS256, Urgency::Planned).await;
    let again = world.rotations.begin(RS256, Urgency::Planned, "", NOW).await;
    assert!(matches!(again, Err(RotationError::AlreadyTurning(_))));
    assert_eq!(world.look(&RS256, NOW + 10 * MINUTE).await.0, Phase::Active);
    world.rotations.roll_back(&RS256, NOW + 11 * MINUTE).await.unwrap();
    assert_eq!(
        (world.kid(KeyState::Active).await, world.states().await),
        (old, vec!["active".into(), "retired".into()])
    );
    world.rotations.look(NOW + 11 * MINUTE + LONGEST).await.unwrap();
    assert_eq!(world.states().await, ["active"]);
    assert!(matches!(world.rotations.roll_back(&RS256, NOW).await, Err(RotationError::NotTurning(_))));
}

#[tokio::test]
async fn what_is_planned_begins_and_nothing_else() {
    let every = Some(Duration::from_secs(86_400));
    let world = World::new(&["beta"], RotationPolicy { signing_keys_every: every, ..POLICY }).await;
    let day = Duration::from_secs(86_400);
    world.rotations.look(NOW + day - MINUTE).await.unwrap();
    assert!(world.rotations.status(None, NOW + day).await.unwrap().is_empty());
    let plan = world.rotations.plan(NOW).await.unwrap();
    let planned: Vec<_> = plan.iter().map(|planned| (planned.subject.to_string(), planned.at)).collect();
    assert_eq!(planned, [("keys/RS256".to_owned(), NOW + day), ("keys/ES256".to_owned(), NOW + day)]);
    world.rotations.look(NOW + day).await.unwrap();
    let begun = world.rotations.status(None, NOW + day).await.unwrap();
    assert_eq!(begun.len(), 2);
    assert!(begun.iter().all(|status| status.rotation.creator == "schedule"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever ops and agents do, in whatever order: one key of each algorithm signs, and no key that signed goes
    /// before its tokens, but by the order that says so.
    #[test]
    fn one_key_signs_at_any_time(steps in proptest::collection::vec((0_u8..6, 0_u64..5000), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(&["beta"], POLICY).await;
            let mut now = NOW;
            for (step, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                match step {
                    0 => drop(world.rotations.begin(RS256, Urgency::Planned, "", now).await),
                    1 => drop(world.rotations.begin(RS256, Urgency::Compromised, "", now).await),
                    2 => drop(world.rotations.roll_back(&RS256, now).await),
                    3 => drop(world.rotations.force(&RS256, now).await),
                    4 => world.acknowledges_keys("beta", now).await,
                    _ => drop(world.rotations.look(now).await.unwrap()),
                }
                let states = world.states().await;
                assert_eq!(states.iter().filter(|state| *state == "active").count(), 1, "{states:?}");
                assert!(states.iter().filter(|state| *state == "pending").count() <= 1, "{states:?}");
            }
        });
    }
}
