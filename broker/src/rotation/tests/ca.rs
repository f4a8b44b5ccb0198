//! The CA turns, and is taken back.

use super::*;
use crate::authority::Authority;

#[tokio::test]
async fn the_ca_can_be_taken_back_from_every_phase_but_the_last() {
    for steps in 0..3 {
        let world = World::new(&["beta"], POLICY).await;
        world.connects("beta", NOW);
        let old = world.foundations.authority.state().signer_pin();
        let mut now = NOW;
        world.begin(&RotationSubject::Authority, Urgency::Planned).await;
        settle(&world).await;
        for _ in 0..steps {
            now = now + 5 * MINUTE;
            everybody_goes_along(&world, now).await;
            world.rotations.look(now).await.unwrap();
            settle(&world).await;
        }
        world.rotations.roll_back(&RotationSubject::Authority, now).await.unwrap();
        settle(&world).await;
        everybody_goes_along(&world, now).await;
        assert_eq!(world.look(&RotationSubject::Authority, now + MINUTE).await.0, Phase::RolledBack, "after {steps}");
        settle(&world).await;
        let state = world.foundations.authority.state();
        assert_eq!((state.signer_pin(), state.authorities().len()), (old, 1), "after {steps}");
    }
}

/// A broker that has not read yet what it has just written must not take an empty gate for an open one.
#[tokio::test]
async fn a_compromised_ca_gives_its_notice_to_whoever_reads_slowly_too() {
    let world = World::new(&["beta"], POLICY).await;
    world.connects("beta", NOW);
    let known = &world.foundations;
    let (domain, clock) = ("example.org".parse().unwrap(), Clock::manual(NOW).0);
    let (authority, _never_read) = Authority::open(&known.store, &known.sealing, &domain, None, clock).await.unwrap();
    let behind = World::broker(&Foundations { authority, ..known.clone() }, POLICY);
    let ca = RotationSubject::Authority;
    behind.begin(ca.clone(), Urgency::Compromised, "uid=0", NOW).await.unwrap();
    behind.look(NOW).await.unwrap();
    let status = behind.status(Some(&ca), NOW).await.unwrap().remove(0);
    assert_eq!(status.rotation.phase, Phase::Prepared);
}
