//! Families of refresh tokens, whatever happens to them in whatever order: of one grant at most one token is good, and a
//! store that fails in the middle leaves the old one good or the new one.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use secrecy::ExposeSecret as _;

use crate::grants::{Binding, Presented, Redemption, Refreshment, Terms, TokenError, Tokens};
use crate::oidc::tests::world::{CALLBACK, VERIFIER, World, alice};
use crate::storage::failing::{FailingStore, Fate};

/// What may happen to a family.
#[derive(Clone, Debug)]
enum Event {
    /// Somebody uses one of the tokens that there ever were.
    Use(usize),
    /// Some do at once.
    UseAtOnce(Vec<usize>),
    /// delta tries one.
    Steal(usize),
    /// One is revoked as an access token would be.
    RevokeAccess,
    /// Time passes, in days.
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        // The newest, mostly.
        4 => Just(Event::Use(0)),
        1 => (0..4_usize).prop_map(Event::Use),
        1 => proptest::collection::vec(0..3_usize, 2..5).prop_map(Event::UseAtOnce),
        1 => any::<usize>().prop_map(Event::Steal),
        1 => Just(Event::RevokeAccess),
        1 => (0..12_u64).prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 1..16)
}

impl World {
    async fn first_tokens(&self) -> Tokens {
        let code = self.offline_code().await;
        let snapshot = self.registry.snapshot();
        let beta = self.client_id("beta");
        let terms = Terms { client: snapshot.client(&beta).unwrap(), binding: Binding::Bearer, resource: None };
        let code = self.grants.open_code(&code).unwrap();
        let person = alice(self.time.now()).verify(self.time.now()).unwrap();
        let person = Some(&person);
        let redemption = Redemption { terms, code, redirect_uri: CALLBACK, verifier: Some(VERIFIER), person };
        self.grants.redeem(redemption, &snapshot, self.time.now()).await.unwrap()
    }

    async fn renew(&self, name: &str, token: &str) -> Result<Tokens, TokenError> {
        let (snapshot, id) = (self.registry.snapshot(), self.client_id(name));
        let terms = Terms { client: snapshot.client(&id).unwrap(), binding: Binding::Bearer, resource: None };
        let token = self.grants.open_refresh_token(token)?;
        self.grants.refresh(&Refreshment { terms, token, scope: None }, &snapshot, self.time.now()).await
    }

    async fn is_good(&self, token: &str) -> bool {
        let token = self.grants.open_refresh_token(token).unwrap();
        self.grants.find_refreshable(&token, &self.registry.snapshot(), self.time.now()).await.is_ok()
    }

    /// How a family fares. Gives what is wrong with it.
    async fn live_through(&self, events: &[Event]) -> Result<(), String> {
        let mut access = self.first_tokens().await;
        let mut all = vec![access.refresh_token.take().unwrap().expose_secret().to_owned()];
        for event in events {
            let chosen = |index: &usize| all[all.len() - 1 - index % all.len()].clone();
            let used = match event {
                Event::Use(index) => vec![self.renew("beta", &chosen(index)).await],
                Event::UseAtOnce(indices) => {
                    let tokens: Vec<String> = indices.iter().map(chosen).collect();
                    join_all(tokens.iter().map(|token| self.renew("beta", token))).await
                }
                Event::Steal(index) => {
                    if self.renew("delta", &chosen(index)).await.is_ok() {
                        return Err("a token was good for somebody else".into());
                    }
                    Vec::new()
                }
                Event::RevokeAccess => {
                    let token = self.grants.open_presented(access.access_token.expose_secret()).unwrap();
                    let Presented::Access(_) = &token else { return Err("another kind".into()) };
                    let beta = self.registry.snapshot();
                    let beta = beta.client(&self.client_id("beta")).unwrap().relying_party.client_id.clone();
                    self.grants.revoke(&token, &beta, self.time.now()).await.map_err(|error| error.to_string())?;
                    Vec::new()
                }
                Event::Pass(days) => {
                    self.pass(days * 86_400);
                    Vec::new()
                }
            };
            let succeeded: Vec<Tokens> = used.into_iter().filter_map(Result::ok).collect();
            for mut tokens in succeeded {
                all.push(tokens.refresh_token.take().unwrap().expose_secret().to_owned());
                access = tokens;
            }
            let mut good = 0;
            for token in &all {
                good += usize::from(self.is_good(token).await);
            }
            if good > 1 {
                return Err(format!("{good} tokens are good after {event:?}"));
            }
        }
        // Whoever uses an old one has ended them all.
        if all.len() > 1 {
            let replayed = self.renew("beta", &all[0]).await.is_ok();
            let mut good = false;
            for token in &all {
                good |= self.is_good(token).await;
            }
            if replayed || good {
                return Err("an old token did not end its family".into());
            }
        }
        Ok(())
    }
}

// T9, T10
#[test]
fn a_family_has_at_most_one_good_token_whatever_happens() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let held = |events: Vec<Event>| {
        let lived = runtime.block_on(world.live_through(&events));
        lived.map_err(proptest::test_runner::TestCaseError::fail)
    };
    runner.run(&events(), held).unwrap();
}

// D1, D2, D6: old xor new, and nobody was told of what is not there.
#[tokio::test]
async fn a_store_that_fails_leaves_one_token_and_confirms_nothing() {
    let mut world = World::new().await;
    let next = Arc::new(Mutex::new(Fate::Passes));
    let fate = next.clone();
    let fate = move || std::mem::replace(&mut *fate.lock().unwrap(), Fate::Passes);
    world.grants = world.grants_on(FailingStore::new(world.store.clone(), fate));
    for (fate, old_is_good) in [(Fate::FailsBefore, true), (Fate::FailsBehind, false)] {
        let tokens = world.first_tokens().await;
        let old = tokens.refresh_token.unwrap().expose_secret().to_owned();
        *next.lock().unwrap() = fate;
        assert!(matches!(world.renew("beta", &old).await, Err(TokenError::Store(_))));
        assert_eq!(world.is_good(&old).await, old_is_good);
        assert_eq!(world.renew("beta", &old).await.is_ok(), old_is_good);
    }
    let tokens = world.first_tokens().await;
    let token = world.grants.open_presented(tokens.access_token.expose_secret()).unwrap();
    let snapshot = world.registry.snapshot();
    let beta = &snapshot.client(&world.client_id("beta")).unwrap().relying_party.client_id;
    for fate in [Fate::FailsBefore, Fate::FailsBehind] {
        *next.lock().unwrap() = fate;
        let revoked = world.grants.revoke(&token, beta, world.time.now()).await;
        assert!(matches!(revoked, Err(TokenError::Store(_))), "J6");
    }
}
