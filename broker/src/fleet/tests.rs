//! Agents without a wire: what they are sent, who is woken, and what stands of what they said.

mod brokers;

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::TrustBundle;
use homeward_certs::pin::SpkiPin;
use tokio::sync::watch;

use crate::brokers::Brokers;
use crate::clock::{Clock, ManualClock};
use crate::config::Issuer;
use crate::fleet::{
    Acknowledgement, Connection, Contents, CredentialSecret, EndReason, Fleet, Hello, KnownKeys, Nack, Next,
    RenewalOrder, Report, SharedState, StoredQuestion, Terms, Update, Word,
};
use crate::registry::tests::{NOW, World, name};
use crate::registry::{
    ClientCredential, ClientSecret, HomeStatus, Instance, KeySetProof, Liveness, Resource, Sighting, Touched,
};
use crate::storage::table::Table;

struct Federation {
    world: World,
    fleet: Arc<Fleet>,
    shared: watch::Sender<Arc<SharedState>>,
    time: ManualClock,
}

impl Federation {
    /// With the instances alpha, beta and gamma; beta accepts alpha.
    async fn new() -> Self {
        let world = World::new().await;
        for text in ["alpha", "beta", "gamma"] {
            world.enrol(text).await;
        }
        world.allow("beta", "alpha", &[]).await;
        let terms = Terms {
            issuer: Issuer::parse("https://login.example").unwrap(),
            sealing: world.sealing.clone(),
            brokers: Brokers::default(),
            store: world.store.clone(),
        };
        let (shared, state) = watch::channel(Arc::new(SharedState {
            revision: 0,
            key_set: "{\"keys\":[]}".into(),
            key_ids: vec!["one".into()],
            key_set_max_age: Duration::from_secs(300),
            bundle: bundle(1),
            renewal: None,
        }));
        let (clock, time) = Clock::manual(NOW);
        let (fleet, wake) = Fleet::open(world.registry.clone(), Liveness::default(), terms, state, clock);
        tokio::spawn(wake);
        Self { world, fleet, shared, time }
    }

    fn connect(&self, text: &str, hello: Hello) -> Connection {
        self.fleet.connect(self.world.registry.snapshot().instance(&name(text)).unwrap(), hello)
    }

    /// An agent that was sent everything and uses it.
    async fn settled(&self, text: &str) -> Connection {
        let mut connection = self.connect(text, Hello::default());
        let update = sent(&mut connection).await;
        ack(&mut connection, &update, update.versions.clone());
        assert_eq!(quiet(&mut connection).await, None);
        connection
    }

    fn sighting(&self, text: &str) -> Sighting {
        self.fleet.liveness().sighting(&name(text)).unwrap()
    }

    fn share(&self, change: impl FnOnce(&mut SharedState)) {
        let mut state = SharedState::clone(&self.shared.borrow());
        change(&mut state);
        state.revision = self.world.registry.snapshot().revision() + 1000;
        self.shared.send_replace(Arc::new(state));
    }
}

fn bundle(version: u64) -> TrustBundle {
    use homeward_certs::authority::CertificateAuthority;
    let domain = "example.org".parse().unwrap();
    let ca = CertificateAuthority::generate(domain, NOW.to_system_time(), Duration::from_secs(3600)).unwrap();
    TrustBundle::new(version, vec![ca.certificate().to_vec()]).unwrap()
}

async fn sent(connection: &mut Connection) -> Update {
    let next = tokio::time::timeout(Duration::from_secs(5), connection.next()).await;
    assert_eq!(next, Ok(Next::Send));
    connection.update().unwrap()
}

/// What wakes a stream within a moment, if anything.
async fn quiet(connection: &mut Connection) -> Option<Next> {
    tokio::time::timeout(Duration::from_millis(30), connection.next()).await.ok()
}

fn ack(connection: &mut Connection, update: &Update, resources: Vec<(Resource, u64)>) {
    connection.heard(Word::Ack(Acknowledgement { revision: update.revision, resources, proof: None }));
}

fn resources(update: &Update) -> Vec<Resource> {
    update.versions.iter().map(|(resource, _)| *resource).collect()
}

fn version(update: &Update, wanted: Resource) -> u64 {
    update.versions.iter().find(|(resource, _)| *resource == wanted).unwrap().1
}

#[tokio::test]
async fn a_new_agent_is_sent_everything_and_is_done_when_it_uses_all_of_it() {
    let federation = Federation::new().await;
    let mut beta = federation.connect("beta", Hello::default());
    let update = sent(&mut beta).await;
    assert_eq!(update.contents, Contents::Everything);
    let all = [Resource::ClientCredentials, Resource::KeySet, Resource::TrustBundle, Resource::Homes];
    assert_eq!(resources(&update), all);
    assert_eq!((update.homes.len(), update.homes[0].name.as_str()), (1, "alpha"));
    assert!(matches!(&update.credentials.as_ref().unwrap().secret, CredentialSecret::Text(text) if !text.is_empty()));
    for resource in &update.versions {
        assert_ne!(federation.sighting("beta").applied_revision, update.revision);
        ack(&mut beta, &update, vec![*resource]);
    }
    let seen = federation.sighting("beta");
    assert_eq!((seen.applied_revision, seen.wanted_revision), (update.revision, update.revision));
    assert_eq!((seen.acknowledged.bundle_version, seen.acknowledged.secret_version), (1, 1));
    assert_eq!(quiet(&mut beta).await, None);
}

#[tokio::test]
async fn an_agent_that_has_everything_is_greeted_and_sent_nothing() {
    let federation = Federation::new().await;
    let update = sent(&mut federation.connect("beta", Hello::default())).await;
    let hello = Hello { resources: update.versions.clone(), ..Hello::default() };
    let mut beta = federation.connect("beta", hello.clone());
    let greeting = sent(&mut beta).await;
    assert_eq!((greeting.contents, greeting.versions), (Contents::Changes(Vec::new()), Vec::new()));
    assert_eq!(quiet(&mut beta).await, None);
    let seen = federation.sighting("beta");
    assert_eq!((seen.applied_revision, seen.acknowledged.secret_version), (update.revision, 1));
    // One that lacks something is sent that and no more.
    let lacking = hello.resources.into_iter().filter(|(resource, _)| *resource != Resource::Homes).collect();
    let mut beta = federation.connect("beta", Hello { resources: lacking, ..Hello::default() });
    let update = sent(&mut beta).await;
    assert_eq!((resources(&update), update.contents), (vec![Resource::Homes], Contents::Changes(Vec::new())));
    assert!(update.credentials.is_none());
}

#[tokio::test]
async fn a_change_wakes_only_those_whom_it_concerns() {
    let federation = Federation::new().await;
    let mut agents = Vec::new();
    for text in ["alpha", "beta", "gamma"] {
        agents.push(federation.settled(text).await);
    }
    let mut touched = federation.world.registry.touched();
    federation.world.change("gamma", |gamma| gamma.certificate.generation = 2).await;
    federation.world.change("alpha", |alpha| alpha.display_name = "Alpha".into()).await;
    assert!(matches!(&*touched.recv().await.unwrap(), Touched::Agents(names) if names.len() == 1));
    assert_eq!(quiet(&mut agents[0]).await, None);
    let update = sent(&mut agents[1]).await;
    assert_eq!((resources(&update), update.homes[0].display_name.as_str()), (vec![Resource::Homes], "Alpha"));
    assert_eq!(quiet(&mut agents[2]).await, None);
    let woken = |text: &str| federation.fleet.seats()[&name(text)].borrow().touched;
    assert_eq!(["alpha", "beta", "gamma"].map(woken), [0, 1, 0], "not even for finding nothing to do");
}

#[tokio::test]
async fn a_shared_resource_reaches_everyone_and_nothing_else_is_sent_with_it() {
    let federation = Federation::new().await;
    let mut alpha = federation.settled("alpha").await;
    federation.share(|state| {
        state.key_set = "{\"keys\":[{}]}".into();
        state.key_ids = vec!["one".into(), "two".into()];
    });
    let update = sent(&mut alpha).await;
    assert_eq!((resources(&update), update.credentials.is_none()), (vec![Resource::KeySet], true));
    assert_eq!(&update.shared.key_set[..], b"{\"keys\":[{}]}");
    let told = ["two", "invented", "one", "two"].map(str::to_owned);
    let proof = KnownKeys { key_ids: told.into(), method: KeySetProof::Warmed };
    let acknowledgement = Acknowledgement { revision: update.revision, resources: update.versions, proof: Some(proof) };
    alpha.heard(Word::Ack(acknowledgement));
    let seen = federation.sighting("alpha");
    assert_eq!(seen.acknowledged.key_ids, ["one", "two"], "only keys that are published count");
    assert_eq!(seen.acknowledged.key_set_proof, Some(KeySetProof::Warmed));
    assert_eq!(seen.applied_revision, update.revision);
}

#[tokio::test]
async fn a_bundle_that_does_not_exist_cannot_be_acknowledged() {
    let federation = Federation::new().await;
    let mut alpha = federation.settled("alpha").await;
    federation.share(|state| state.bundle = bundle(2));
    let update = sent(&mut alpha).await;
    ack(&mut alpha, &update, vec![(Resource::TrustBundle, 7)]);
    assert_eq!(federation.sighting("alpha").acknowledged.bundle_version, 1);
    ack(&mut alpha, &update, vec![(Resource::TrustBundle, 2)]);
    assert_eq!(federation.sighting("alpha").acknowledged.bundle_version, 2);
}

#[tokio::test]
async fn a_renewal_order_comes_and_goes() {
    let federation = Federation::new().await;
    let mut alpha = federation.settled("alpha").await;
    let order = RenewalOrder { authority_pin: SpkiPin::from_bytes([7; 32]), within: Duration::from_secs(30) };
    federation.share(|state| state.renewal = Some(order));
    let update = sent(&mut alpha).await;
    assert_eq!((resources(&update), update.shared.renewal), (vec![Resource::RenewalOrder], Some(order)));
    ack(&mut alpha, &update, update.versions.clone());
    federation.share(|state| state.renewal = None);
    let update = sent(&mut alpha).await;
    assert_eq!(update.contents, Contents::Changes(vec![Resource::RenewalOrder]));
    assert!(update.versions.is_empty());
    assert_eq!(quiet(&mut alpha).await, None);
}

#[tokio::test]
async fn a_slow_agent_is_sent_the_newest_of_all_that_changed() {
    let federation = Federation::new().await;
    let mut beta = federation.settled("beta").await;
    federation.world.allow("beta", "gamma", &[]).await;
    assert_eq!(beta.next().await, Next::Send);
    // There is no room yet; meanwhile more happens, and some of it is taken back.
    federation.share(|state| state.key_set = "{}".into());
    federation.world.deny("beta", "gamma").await;
    let update = sent(&mut beta).await;
    assert_eq!(resources(&update), [Resource::KeySet]);
    assert!(beta.update().is_none());
}

#[tokio::test]
async fn a_new_secret_is_sent_and_both_are_recognised_while_it_turns() {
    let federation = Federation::new().await;
    let mut beta = federation.settled("beta").await;
    let next = ClientCredential::Secret(ClientSecret::generate(&federation.world.sealing, 2).unwrap());
    let turn = |party: &mut Instance| {
        party.relying_party.as_mut().unwrap().next_credential = Some(next);
    };
    let old = sent(&mut federation.connect("beta", Hello::default())).await;
    federation.world.change("beta", turn).await;
    assert_eq!(quiet(&mut beta).await, Some(Next::End(EndReason::Superseded)));
    let mut beta = federation.connect("beta", Hello { resources: old.versions, ..Hello::default() });
    assert_eq!(federation.sighting("beta").acknowledged.secret_version, 1);
    let update = sent(&mut beta).await;
    assert_eq!(resources(&update), [Resource::ClientCredentials]);
    assert_eq!(update.credentials.as_ref().unwrap().version, 2);
    ack(&mut beta, &update, update.versions.clone());
    assert_eq!(federation.sighting("beta").acknowledged.secret_version, 2);
}

#[tokio::test]
async fn an_application_with_a_key_of_its_own_is_sent_no_secret() {
    let federation = Federation::new().await;
    let wanted = ClientCredential::KeyWanted { version: 2 };
    let turn = |party: &mut Instance| {
        party.relying_party.as_mut().unwrap().next_credential = Some(wanted);
    };
    federation.world.change("beta", turn).await;
    let update = sent(&mut federation.connect("beta", Hello::default())).await;
    let credentials = update.credentials.unwrap();
    assert!(matches!(credentials.secret, CredentialSecret::OwnKey) && credentials.version == 2);
}

#[tokio::test]
async fn a_refusal_stands_since_it_was_first_said_until_the_resource_is_in_use() {
    let federation = Federation::new().await;
    let mut beta = federation.connect("beta", Hello::default());
    let update = sent(&mut beta).await;
    let refused = (Resource::ClientCredentials, version(&update, Resource::ClientCredentials));
    let nack = |reason: &str| {
        let (reason, detail) = (reason.to_owned(), "It said no.".to_owned());
        Word::Nack(Nack { revision: update.revision, resource: Some(refused), reason, detail })
    };
    beta.heard(nack("RELOAD_FAILED"));
    federation.time.advance(Duration::from_secs(60));
    beta.heard(nack("RELOAD_FAILED"));
    let stands = federation.sighting("beta").refusals[&refused.0].clone();
    assert_eq!((stands.since, stands.version, stands.reason.as_str()), (NOW, refused.1, "RELOAD_FAILED"));
    beta.heard(nack("PROOF_FAILED"));
    assert_eq!(federation.sighting("beta").refusals[&refused.0].since, NOW + Duration::from_secs(60));
    ack(&mut beta, &update, vec![(Resource::Homes, version(&update, Resource::Homes))]);
    assert_eq!(federation.sighting("beta").refusals.len(), 1);
    ack(&mut beta, &update, vec![refused]);
    assert!(federation.sighting("beta").refusals.is_empty());
}

#[tokio::test]
async fn an_agent_that_names_no_resources_is_sent_snapshots() {
    let federation = Federation::new().await;
    let mut beta = federation.connect("beta", Hello::default());
    let first = sent(&mut beta).await;
    ack(&mut beta, &first, Vec::new());
    assert_eq!(federation.sighting("beta").applied_revision, first.revision);
    assert_eq!(quiet(&mut beta).await, None);
    federation.world.allow("beta", "gamma", &[]).await;
    let second = sent(&mut beta).await;
    assert_eq!((second.contents.clone(), second.versions.len()), (Contents::Everything, 4));
    assert!(second.revision > first.revision);
    let (reason, detail) = ("RELOAD_FAILED".to_owned(), String::new());
    beta.heard(Word::Nack(Nack { revision: second.revision, resource: None, reason, detail }));
    let seen = federation.sighting("beta");
    assert_eq!(seen.refusals.keys().collect::<Vec<_>>(), [&Resource::Homes], "all but that is in use");
    // An acknowledgement of an older revision is none of this one.
    ack(&mut beta, &first, Vec::new());
    assert_ne!(federation.sighting("beta").applied_revision, second.revision);
    ack(&mut beta, &second, Vec::new());
    assert_eq!(federation.sighting("beta").applied_revision, second.revision);
}

#[tokio::test]
async fn streams_end_with_the_standing_of_their_instance() {
    let federation = Federation::new().await;
    let (mut alpha, mut gamma) = (federation.settled("alpha").await, federation.settled("gamma").await);
    federation.world.quarantine("alpha").await;
    assert_eq!(quiet(&mut alpha).await, Some(Next::End(EndReason::Quarantined)));
    assert!(alpha.update().is_none());
    federation.world.evict("gamma").await;
    assert_eq!(quiet(&mut gamma).await, Some(Next::End(EndReason::Unknown)));
    // A stream that opens now ends at once.
    let mut alpha = federation.connect("alpha", Hello::default());
    assert_eq!(quiet(&mut alpha).await, Some(Next::End(EndReason::Quarantined)));
}

/// N2: who has the keys of an identity that ops have replaced is sent nothing of the next one's.
#[tokio::test]
async fn streams_end_with_the_identity_that_opened_them() {
    let federation = Federation::new().await;
    let before = federation.world.registry.snapshot().instance(&name("beta")).unwrap().clone();
    let mut old = federation.settled("beta").await;
    let credential = ClientCredential::Secret(ClientSecret::generate(&federation.world.sealing, 2).unwrap());
    let replace = |instance: &mut Instance| {
        instance.recovery_key = "another".to_owned();
        instance.relying_party.as_mut().unwrap().credential = credential;
    };
    federation.world.change("beta", replace).await;
    assert!(old.update().is_none());
    assert_eq!(quiet(&mut old).await, Some(Next::End(EndReason::Unknown)));
    // Let in before, and said Hello after.
    drop(federation.settled("beta").await);
    let ready = Report { home_ready: true, problem: String::new() };
    let mut late = federation.fleet.connect(&before, Hello { report: ready, ..Hello::default() });
    assert!(late.update().is_none());
    assert_eq!(quiet(&mut late).await, Some(Next::End(EndReason::Unknown)));
    assert!(!federation.sighting("beta").online);
}

#[tokio::test]
async fn of_an_agents_streams_only_the_newest_counts() {
    let federation = Federation::new().await;
    let mut old = federation.settled("alpha").await;
    let ready = Hello { report: Report { home_ready: true, problem: String::new() }, ..Hello::default() };
    let new = federation.connect("alpha", ready);
    assert_eq!(quiet(&mut old).await, Some(Next::End(EndReason::Superseded)));
    drop(old);
    assert_eq!(federation.fleet.liveness().home_status(&name("alpha")), HomeStatus::Ready);
    drop(new);
    assert_eq!(federation.fleet.liveness().home_status(&name("alpha")), HomeStatus::Offline);
    assert!(federation.fleet.seats().is_empty());
}
