//! The picture of the registry: kept by a watch, and precise in whom a change concerns.

mod consents;
mod liveness;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use homeward_certs::identity::InstanceName;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::broadcast;

use crate::clock::Timestamp;
use crate::registry::{
    AccountKey, AccountKeyConflict, ClientCredential, ClientId, ClientPolicyChange, ClientPolicyError, ClientSecret,
    Instance, InstanceId, InstanceState, QuarantineCause, Registry, Touched, TrustEdge, TrustEdgeId, TrustError,
};
use crate::secret::SealingKeys;
use crate::storage::sled::SledStore;
use crate::storage::{Expect, Revision, Store, Write};

pub(crate) use super::upstream::tests::upstream;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) fn name(text: &str) -> InstanceName {
    text.parse().unwrap()
}

/// A confirmed instance, relying party and home.
pub(crate) fn instance(text: &str, secret: &ClientSecret) -> Instance {
    let id = InstanceId::generate();
    let value = json!({
        "name": text,
        "id": id,
        "display_name": format!("{text} site"),
        "public_url": format!("https://{text}.example"),
        "state": "confirmed",
        "enrolled_at": NOW,
        "recovery_key": "",
        "certificate": {"serial": "", "der": "", "key": "", "request_id": uuid::Uuid::nil(), "issued_at": NOW,
            "not_after": NOW, "generation": 1},
        "pending_certificate": null,
        "relying_party": {
            "client_id": ClientId::of(&name(text), id),
            "secret": secret,
            "redirect_uris": [],
            "auth_method": "client_secret_basic",
            "id_token_alg": "RS256",
            "pkce_required": false,
        },
        "home": {"portal_url": format!("https://{text}.example/homeward/login")},
    });
    serde_json::from_value(value).unwrap()
}

/// A registry of its own, followed in the background.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) store: Arc<SledStore>,
    pub(crate) sealing: Arc<SealingKeys>,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(folder.path()).unwrap());
        let (registry, keep_fresh) = Registry::open(store.clone()).await.unwrap();
        tokio::spawn(keep_fresh);
        Self { registry, store, sealing: SealingKeys::new_for_test(), _folder: folder }
    }

    pub(crate) async fn enrol(&self, text: &str) {
        self.commit(vec![self.instance_write(&instance(text, &ClientSecret::generate(&self.sealing, 1).unwrap()))])
            .await;
    }

    pub(crate) async fn change(&self, text: &str, change: impl FnOnce(&mut Instance)) {
        let mut instance = Instance::clone(self.registry.snapshot().instance(&name(text)).unwrap());
        change(&mut instance);
        self.commit(vec![self.instance_write(&instance)]).await;
    }

    pub(crate) async fn quarantine(&self, text: &str) {
        let state = InstanceState::Quarantined { reason: "test".into(), since: NOW, cause: QuarantineCause::Ops };
        self.change(text, |instance| instance.state = state).await;
    }

    pub(crate) async fn evict(&self, text: &str) {
        self.commit(vec![self.registry.instances.delete(text, Expect::Any)]).await;
    }

    pub(crate) async fn allow(&self, relying_party: &str, home: &str, domains: &[&str]) {
        let id = TrustEdgeId { relying_party: name(relying_party), home: name(home) };
        let email_domains = domains.iter().map(|domain| domain.parse().unwrap()).collect();
        let edge = TrustEdge { email_domains, ..TrustEdge::new(id, NOW).unwrap() };
        self.commit(vec![self.registry.edges.put(&edge.id.key(), &edge, Expect::Any).unwrap()]).await;
    }

    pub(crate) async fn deny(&self, relying_party: &str, home: &str) {
        self.commit(vec![self.registry.edges.delete(&format!("{relying_party}.{home}"), Expect::Any)]).await;
    }

    fn instance_write(&self, instance: &Instance) -> Write {
        self.registry.instances.put(instance.name.as_str(), instance, Expect::Any).unwrap()
    }

    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Revision {
        let revision = self.store.commit(writes).await.unwrap();
        self.registry.reached(revision).await.unwrap();
        revision
    }

    fn homes(&self, relying_party: &str) -> Vec<String> {
        let snapshot = self.registry.snapshot();
        snapshot.homes_for(&name(relying_party)).iter().map(|home| home.name.to_string()).collect()
    }
}

/// Whom everything that was published since concerns.
async fn concerned(touched: &mut broadcast::Receiver<Arc<Touched>>) -> Vec<String> {
    // The names follow the picture at once, in the same step of another task.
    let first = tokio::time::timeout(Duration::from_millis(50), touched.recv()).await;
    let mut all = HashSet::new();
    let mut next = first.ok().and_then(Result::ok);
    while let Some(touched_now) = next {
        let Touched::Agents(agents) = &*touched_now else { panic!("everyone") };
        all.extend(agents.iter().map(ToString::to_string));
        next = touched.try_recv().ok();
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_change_concerns_those_who_are_told_other_things_by_it() {
    let world = World::new().await;
    let mut touched = world.registry.touched();
    for text in ["alpha", "beta", "gamma"] {
        world.enrol(text).await;
    }
    assert_eq!(concerned(&mut touched).await, ["alpha", "beta", "gamma"]);
    world.allow("beta", "alpha", &[]).await;
    assert_eq!(concerned(&mut touched).await, ["beta"]);
    world.allow("beta", "alpha", &["alpha.example"]).await;
    assert_eq!(concerned(&mut touched).await, [""; 0], "what a home may vouch for is not told to agents");
    world.change("alpha", |alpha| alpha.certificate.generation = 2).await;
    assert_eq!(concerned(&mut touched).await, [""; 0], "a renewed certificate concerns nobody");
    let next = ClientCredential::Secret(ClientSecret::generate(&world.sealing, 2).unwrap());
    world.change("alpha", |alpha| alpha.relying_party.as_mut().unwrap().next_credential = Some(next)).await;
    assert_eq!(concerned(&mut touched).await, ["alpha"]);
    world.change("alpha", |alpha| alpha.display_name = "Alpha".into()).await;
    assert_eq!(concerned(&mut touched).await, ["beta"]);
    world.quarantine("alpha").await;
    assert_eq!(concerned(&mut touched).await, ["alpha", "beta"]);
    world.deny("beta", "alpha").await;
    assert_eq!(concerned(&mut touched).await, ["beta"]);
    world.evict("alpha").await;
    assert_eq!(concerned(&mut touched).await, ["alpha"]);
}

#[tokio::test]
async fn the_picture_follows_every_change() {
    let world = World::new().await;
    for text in ["alpha", "beta", "gamma"] {
        world.enrol(text).await;
    }
    world.allow("beta", "gamma", &[]).await;
    world.allow("beta", "alpha", &[]).await;
    world.allow("gamma", "alpha", &[]).await;
    assert_eq!(
        (world.homes("beta"), world.homes("gamma")),
        (vec!["alpha".into(), "gamma".into()], vec!["alpha".into()])
    );
    let snapshot = world.registry.snapshot();
    assert_eq!((snapshot.size(), snapshot.instances().count(), snapshot.known_edges().count()), (3, 3, 3));
    let client_id = snapshot.instance(&name("alpha")).unwrap().relying_party.as_ref().unwrap().client_id.clone();
    assert_eq!(snapshot.client(client_id.as_str()).unwrap().name, &name("alpha"));
    let told = (snapshot.told_at(&name("beta")), snapshot.told_at(&name("gamma")));

    world.deny("beta", "alpha").await;
    assert_eq!((world.homes("beta"), world.homes("gamma")), (vec!["gamma".to_owned()], vec!["alpha".to_owned()]));
    let after = world.registry.snapshot();
    assert!(after.told_at(&name("beta")) > told.0 && after.told_at(&name("gamma")) == told.1);

    world.quarantine("alpha").await;
    assert_eq!(world.homes("gamma"), [""; 0]);
    assert!(world.registry.snapshot().client(client_id.as_str()).is_none());
    world.evict("alpha").await;
    assert!(world.registry.snapshot().instance(&name("alpha")).is_none());
    // Enrolled anew under the same name, it has another client id.
    world.enrol("alpha").await;
    let snapshot = world.registry.snapshot();
    assert!(snapshot.client(client_id.as_str()).is_none());
    assert_eq!((snapshot.size(), snapshot.known_edges().count()), (3, 2));
}

#[tokio::test]
async fn changes_that_come_together_are_published_together() {
    let world = World::new().await;
    let secret = ClientSecret::generate(&world.sealing, 1).unwrap();
    let writes = (0..100).map(|n| world.instance_write(&instance(&format!("site-{n}"), &secret))).collect();
    let mut touched = world.registry.touched();
    world.commit(writes).await;
    let Touched::Agents(agents) = &*touched.recv().await.unwrap() else { panic!("everyone") };
    assert_eq!((agents.len(), world.registry.snapshot().size()), (100, 100));
    assert!(touched.is_empty());
}

#[tokio::test]
async fn a_registry_that_was_opened_anew_shows_the_same() {
    let world = World::new().await;
    world.enrol("alpha").await;
    world.enrol("beta").await;
    world.allow("beta", "alpha", &["alpha.example"]).await;
    let (again, _keep_fresh) = Registry::open(world.store.clone()).await.unwrap();
    let (old, new) = (world.registry.snapshot(), again.snapshot());
    assert_eq!(new.size(), old.size());
    assert_eq!(new.homes_for(&name("beta")).len(), 1);
    assert!(new.edge(&name("beta"), &name("alpha")).unwrap().vouches_for("alice@alpha.example"));
    assert!(new.told_at(&name("beta")) >= old.told_at(&name("beta")));
}

#[tokio::test]
async fn an_edge_lives_until_it_is_taken_away() {
    let world = World::new().await;
    for one in ["alpha", "beta", "gamma"] {
        world.enrol(one).await;
    }
    let registry = &world.registry;
    let edge = |home: &str, template: &str| {
        let id = TrustEdgeId { relying_party: name("beta"), home: name(home) };
        TrustEdge { username_template: template.parse().unwrap(), ..TrustEdge::new(id, NOW).unwrap() }
    };
    let epoch = || registry.snapshot().edge(&name("beta"), &name("alpha")).unwrap().epoch;
    registry.allow_trust(edge("alpha", "{username}")).await.unwrap();
    let first = epoch();
    registry.allow_trust(edge("alpha", "{email}")).await.unwrap();
    assert_eq!(epoch(), first, "what rests on an edge survives its changes");
    registry.deny_trust(&edge("alpha", "{email}").id).await.unwrap();
    assert!(matches!(registry.deny_trust(&edge("alpha", "{email}").id).await, Err(TrustError::NoEdge(_))));
    registry.allow_trust(edge("alpha", "{username}")).await.unwrap();
    assert_ne!(epoch(), first);

    // An application that finds accounts by user name has no two homes with an alice.
    let by_name = AccountKey::Username;
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().policy.account_key = by_name).await;
    let refused = registry.allow_trust(edge("gamma", "{username}")).await;
    assert!(
        matches!(refused, Err(TrustError::AccountKey(AccountKeyConflict::NamesMeet(id))) if id.home == name("gamma"))
    );
    registry.allow_trust(edge("gamma", "{username}@{home}")).await.unwrap();
}

#[tokio::test]
async fn a_client_finds_accounts_by_what_its_edges_keep_apart() {
    let world = World::new().await;
    for one in ["alpha", "beta"] {
        world.enrol(one).await;
    }
    let registry = &world.registry;
    let id = TrustEdgeId { relying_party: name("beta"), home: name("alpha") };
    let edge = TrustEdge::new(id, NOW).unwrap();
    let plain = TrustEdge { username_template: "{username}".parse().unwrap(), ..edge.clone() };
    registry.allow_trust(plain).await.unwrap();
    let by = |key| ClientPolicyChange { account_key: Some(key), ..ClientPolicyChange::default() };
    for key in [AccountKey::Username, AccountKey::Email] {
        let refused = registry.set_client_policy("beta", &by(key)).await;
        assert!(matches!(refused, Err(ClientPolicyError::AccountKey(_))), "{key:?}");
    }
    registry.allow_trust(edge).await.unwrap();
    registry.set_client_policy("beta", &by(AccountKey::Username)).await.unwrap();
    let snapshot = registry.snapshot();
    let policy = &snapshot.client_named("beta").unwrap().relying_party.policy;
    assert_eq!((policy.account_key, policy.account_key_by_ops), (AccountKey::Username, true));
}
