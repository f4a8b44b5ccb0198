//! Edges that lack a consent, in the picture that every request reads.

use crate::registry::tests::{NOW, World, concerned, name};
use crate::registry::{
    AccountKey, AccountKeyConflict, Registry, TrustEdge, TrustEdgeId, TrustError, TrustSide, TrustTerms,
};

fn id(home: &str) -> TrustEdgeId {
    TrustEdgeId { relying_party: name("beta"), home: name(home) }
}

fn edge(home: &str) -> TrustEdge {
    TrustEdge::new(id(home), NOW).unwrap()
}

async fn consent(registry: &Registry, home: &str, side: TrustSide) -> Result<TrustEdge, TrustError> {
    registry.consent_to_trust(edge(home), side, TrustTerms::default()).await
}

impl World {
    async fn with_two() -> Self {
        let world = Self::new().await;
        for one in ["alpha", "beta"] {
            world.enrol(one).await;
        }
        world
    }

    fn lacking(&self) -> Vec<Option<TrustSide>> {
        self.registry.snapshot().known_edges().map(|edge| edge.consents.missing()).collect()
    }

    fn accepts_alpha(&self) -> bool {
        let (snapshot, (beta, alpha)) = (self.registry.snapshot(), (name("beta"), name("alpha")));
        let known = [
            snapshot.edge(&beta, &alpha).is_some(),
            snapshot.edges_of(&beta).next().is_some(),
            !snapshot.homes_for(&beta).is_empty(),
            snapshot.vouching(&beta, &alpha, snapshot.home_id(&alpha).unwrap()).is_some(),
            snapshot.may_call_itself(&beta, &alpha),
        ];
        assert!(known.iter().all(|it| *it == known[0]), "{known:?}");
        known[0]
    }
}

#[tokio::test]
async fn an_edge_that_lacks_a_consent_is_known_to_ops_and_to_nobody_else() {
    let world = World::with_two().await;
    let (registry, mut touched) = (world.registry.clone(), world.registry.touched());
    let terms = TrustTerms { api_access: Some(true), ..TrustTerms::default() };
    for side in TrustSide::ALL {
        let other = if side == TrustSide::Home { TrustSide::RelyingParty } else { TrustSide::Home };
        let half = registry.consent_to_trust(edge("alpha"), side, terms.clone()).await.unwrap();
        assert_eq!((half.consents.missing(), world.lacking()), (Some(other), vec![Some(other)]));
        assert!(!world.accepts_alpha());
        assert_eq!(concerned(&mut touched).await, [""; 0], "agents are told nothing of it");
        let denials = registry.snapshot().denials();

        let whole = consent(&registry, "alpha", other).await.unwrap();
        assert!(whole.api_access && world.accepts_alpha() && world.lacking() == [None]);
        assert_eq!((concerned(&mut touched).await, registry.snapshot().denials()), (vec!["beta".to_owned()], denials));
        // A registry that is opened anew sees the same.
        registry.withdraw_trust(&id("alpha"), other, NOW).await.unwrap();
        assert_eq!(concerned(&mut touched).await, ["beta"]);
        assert_eq!(registry.snapshot().denials(), denials + 1, "whoever ends sessions hears of it");
        assert!(!world.accepts_alpha() && world.lacking() == [Some(other)]);
        let (again, _keep_fresh) = Registry::open(world.store.clone()).await.unwrap();
        assert_eq!((again.snapshot().known_edges().count(), again.snapshot().edges_of(&name("beta")).count()), (1, 0));

        let back = consent(&registry, "alpha", other).await.unwrap();
        assert!(back.epoch != whole.epoch && back.api_access);
        registry.deny_trust(&id("alpha")).await.unwrap();
        assert!(!world.accepts_alpha() && world.lacking().is_empty());
        concerned(&mut touched).await;
    }
}

#[tokio::test]
async fn the_last_consent_takes_the_edge_with_it_and_none_is_taken_twice() {
    let world = World::with_two().await;
    let registry = &world.registry;
    let withdraw = async |side| registry.withdraw_trust(&id("alpha"), side, NOW).await;
    assert!(matches!(withdraw(TrustSide::Home).await, Err(TrustError::NotReleased(_))));
    assert!(matches!(withdraw(TrustSide::RelyingParty).await, Err(TrustError::NoEdge(_))));
    registry.allow_trust(edge("alpha")).await.unwrap();
    withdraw(TrustSide::Home).await.unwrap();
    assert!(matches!(withdraw(TrustSide::Home).await, Err(TrustError::NotReleased(_))));
    withdraw(TrustSide::RelyingParty).await.unwrap();
    assert!(world.lacking().is_empty());
    // Ops who mean both take away what there is.
    consent(registry, "alpha", TrustSide::Home).await.unwrap();
    registry.deny_trust(&id("alpha")).await.unwrap();
    assert!(world.lacking().is_empty());
    // Nobody consents for who is not there.
    assert!(matches!(consent(registry, "gamma", TrustSide::Home).await, Err(TrustError::UnknownInstance(_))));
}

#[tokio::test]
async fn what_an_application_cannot_keep_apart_is_refused_when_the_edge_is_completed() {
    let world = World::with_two().await;
    let by_email = AccountKey::Email;
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().policy.account_key = by_email).await;
    let registry = &world.registry;
    consent(registry, "alpha", TrustSide::Home).await.unwrap();
    let refused = consent(registry, "alpha", TrustSide::RelyingParty).await;
    assert!(matches!(refused, Err(TrustError::AccountKey(AccountKeyConflict::NoAuthority(_)))));
    assert!(!world.accepts_alpha());
    let terms = TrustTerms { email_domains: Some(vec!["alpha.example".parse().unwrap()]), ..TrustTerms::default() };
    registry.consent_to_trust(edge("alpha"), TrustSide::RelyingParty, terms).await.unwrap();
    assert!(world.registry.snapshot().edge(&name("beta"), &name("alpha")).is_some());
}
