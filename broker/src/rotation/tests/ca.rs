//! The CA turns, and is taken back.

use super::*;

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
