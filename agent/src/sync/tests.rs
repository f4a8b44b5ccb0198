//! The dialogue with a broker: what is told, when, and what is said on the next stream.

use std::path::Path;

use homeward_proto::v1::sync_request::Message as Said;
use homeward_proto::v1::sync_response::Message as Says;
use homeward_proto::v1::{
    Ack, ClientCredentials, Drain, EndSessions, HomeEntry, KeySetProofMethod, RenewalOrder, ResourceVersion,
    SessionsEndedOutcome, end_sessions,
};
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::config::Config;
use crate::config::raw::RawConfig;
use crate::disk::PrivateDir;
use crate::home::watch::Watch;
use crate::key_set::{KeySetProver, Means};
use crate::renewal::order::Orders;
use crate::resources::standing::Refusal;
use crate::session_end::{self, SessionEnder};
use crate::test_authority::TestAuthority;
use crate::test_broker::{AgentStream, TestBroker};

/// An agent's Sync, beside a broker in the test's hands.
struct Alpha {
    folder: tempfile::TempDir,
    identity: Arc<Identity>,
    standing: Arc<Standing>,
    running: tokio::task::JoinHandle<Dismissal>,
    streams: mpsc::UnboundedReceiver<AgentStream>,
}

impl Alpha {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = TestAuthority::new(clock::now());
        let (url, streams) = TestBroker::default().serve(&authority).await;
        let identity = Arc::new(authority.enrol(folder.path(), url));
        let (standing, running) = sync(folder.path(), &identity);
        Self { folder, identity, standing, running, streams }
    }

    /// As a restart does: from what is on disk.
    fn restart(&mut self) {
        self.running.abort();
        (self.standing, self.running) = sync(self.folder.path(), &self.identity);
    }

    /// The next stream, after its Hello.
    async fn connects(&mut self) -> (AgentStream, Hello) {
        let mut stream = self.streams.recv().await.unwrap();
        let Said::Hello(hello) = stream.hears().await else { panic!("Hello comes first") };
        (stream, hello)
    }
}

fn sync(folder: &Path, identity: &Arc<Identity>) -> (Arc<Standing>, tokio::task::JoinHandle<Dismissal>) {
    let text = format!(
        "public_url = 'https://alpha.example'\ndata_dir = '{}'\nrecipe = 'django-allauth'\n\
         [app]\nurl = 'http://127.0.0.1:1'\n[home]\n",
        folder.join("agent").display()
    );
    let config = Config::try_from(toml::from_str::<RawConfig>(&text).unwrap()).unwrap();
    let data = PrivateDir::open(&config.data_dir).unwrap();
    let application = crate::application::Application::new(config.app_url.clone(), &config.public_url).unwrap();
    let broker = Broker::new(identity.clone()).unwrap();
    let standing = Arc::new(Standing::open(data.clone()).unwrap());
    let orders = Arc::new(Orders::open(data.clone()).unwrap());
    let (wanted, key_sets) = watch::channel(Wanted::default());
    let prover =
        KeySetProver { application: application.clone(), means: Means::NoRelyingParty, standing: standing.clone() };
    tokio::spawn(prover.run(key_sets));
    let at_home = Watch::new(&config, application.clone(), broker.clone());
    let ender = SessionEnder::new(&config, application.clone(), at_home);
    let (session_ends, orders_to_end) = session_end::queue();
    tokio::spawn(ender.run(orders_to_end));
    let (questions, asked) = crate::preview::queue();
    tokio::spawn(crate::preview::Preview::new(&config, application.clone(), None).run(asked));
    let sync = Sync {
        settling: Settling { identity: identity.clone(), orders, standing: standing.clone() },
        ailing: Ailing { data: data.clone(), identity: identity.clone(), broker: broker.clone() },
        contact: Contact::open(data),
        health: Health::new(&config, application),
        identity: identity.clone(),
        broker,
        spread: Duration::ZERO,
        standing: standing.clone(),
        wanted,
        session_ends,
        questions,
    };
    (standing, tokio::spawn(sync.run()))
}

impl AgentStream {
    async fn hears(&mut self) -> Said {
        let said = tokio::time::timeout(Duration::from_secs(10), self.said.message()).await;
        said.expect("the agent says nothing").unwrap().unwrap().message.unwrap()
    }

    async fn hears_acks(&mut self, count: usize) -> Vec<Ack> {
        let mut acks = Vec::new();
        while acks.len() < count {
            match self.hears().await {
                Said::Ack(ack) => acks.push(ack),
                Said::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
        acks
    }

    fn says(&self, message: Says) {
        self.say.send(Ok(SyncResponse { message: Some(message) })).unwrap();
    }
}

fn version(resource: Resource, version: u64) -> ResourceVersion {
    ResourceVersion { resource: resource.into(), version }
}

fn everything() -> Snapshot {
    Snapshot {
        revision: 5,
        key_set: br#"{"keys":[{"kid":"one"}]}"#.to_vec().into(),
        homes: vec![HomeEntry { name: "beta".to_owned(), display_name: "Beta".to_owned() }],
        versions: vec![version(Resource::KeySet, 51), version(Resource::Homes, 52)],
        ..Snapshot::default()
    }
}

fn resources(acks: &[Ack]) -> Vec<u64> {
    let mut versions: Vec<u64> = acks.iter().flat_map(|ack| &ack.resources).map(|it| it.version).collect();
    versions.sort_unstable();
    versions
}

#[tokio::test]
async fn each_resource_is_acknowledged_and_known_after_a_restart() {
    let mut alpha = Alpha::start().await;
    let (mut stream, hello) = alpha.connects().await;
    assert!(hello.resources.is_empty() && hello.key_set_proof.is_none());
    stream.says(Says::Snapshot(everything()));
    let acks = stream.hears_acks(2).await;
    assert_eq!(resources(&acks), [51, 52]);
    assert!(acks.iter().all(|ack| ack.revision == 5 && ack.resources.len() == 1));
    let proof = acks.iter().find_map(|ack| ack.key_set_proof.clone()).unwrap();
    assert_eq!((proof.key_ids, proof.method), (vec!["one".to_owned()], KeySetProofMethod::NoRelyingParty.into()));
    alpha.standing.watch().wait_for(|state| state.applied.revision == 5).await.unwrap();

    alpha.restart();
    let (mut stream, hello) = alpha.connects().await;
    assert_eq!((hello.applied_revision, hello.resources.len()), (5, 2));
    assert_eq!(hello.key_set_proof.unwrap().key_ids, ["one"]);
    // Only what differs comes, and only that is answered.
    let changes = Snapshot { revision: 6, versions: vec![version(Resource::Homes, 62)], ..Snapshot::default() };
    stream.says(Says::Delta(Delta { changes: Some(changes), removed: Vec::new() }));
    let acks = stream.hears_acks(1).await;
    assert_eq!((resources(&acks), acks[0].revision), (vec![62], 6));
    alpha.standing.watch().wait_for(|state| state.applied.revision == 6).await.unwrap();
    assert_eq!(alpha.standing.applied().versions.of(Resource::KeySet), Some(51), "not named, so as it was");
    assert!(alpha.standing.applied().homes.is_empty() && alpha.standing.applied().key_set.contains("one"));
}

#[tokio::test]
async fn credentials_that_fail_hold_up_nothing_else() {
    let mut alpha = Alpha::start().await;
    let (mut stream, _) = alpha.connects().await;
    let mut snapshot = everything();
    snapshot.client_credentials = Some(ClientCredentials::default());
    snapshot.versions.push(version(Resource::ClientCredentials, 53));
    stream.says(Says::Snapshot(snapshot));
    assert_eq!(resources(&stream.hears_acks(2).await), [51, 52]);
    let refusal = Refusal { version: 53, reason: "SECRET_REFUSED", detail: "no".to_owned() };
    alpha.standing.refuse(Resource::ClientCredentials, refusal.clone(), clock::now());
    let Said::Nack(nack) = stream.hears().await else { panic!("a refusal") };
    assert_eq!((nack.revision, nack.reason.as_str(), nack.resource.unwrap().version), (5, "SECRET_REFUSED", 53));
    assert_eq!(alpha.standing.applied().revision, 0, "not all of it is in effect");
}

#[tokio::test]
async fn a_broker_without_versions_gets_one_plain_acknowledgement() {
    let mut alpha = Alpha::start().await;
    let (mut stream, _) = alpha.connects().await;
    stream.says(Says::Snapshot(Snapshot { versions: Vec::new(), ..everything() }));
    let acks = stream.hears_acks(1).await;
    assert_eq!((acks[0].revision, acks[0].resources.len()), (5, 0));
    stream.says(Says::Snapshot(Snapshot { revision: 6, versions: Vec::new(), ..everything() }));
    assert_eq!(stream.hears_acks(1).await[0].revision, 6);
}

#[tokio::test]
async fn an_order_is_acknowledged_once_its_moment_is_drawn() {
    let mut alpha = Alpha::start().await;
    let (mut stream, _) = alpha.connects().await;
    let order = RenewalOrder {
        authority_pin: vec![7; 32],
        within_duration: prost_types::Duration::try_from(Duration::from_secs(30)).ok(),
    };
    let versions = vec![version(Resource::RenewalOrder, 70)];
    let snapshot = Snapshot { revision: 7, renewal_order: Some(order), versions, ..Snapshot::default() };
    stream.says(Says::Snapshot(snapshot));
    assert_eq!(resources(&stream.hears_acks(1).await), [70]);
    let orders = || Orders::open(PrivateDir::open(&alpha.folder.path().join("agent")).unwrap()).unwrap();
    let due = orders().due(alpha.identity.authority_pin()).unwrap();
    assert!(due <= clock::now() + Duration::from_secs(30));
    let removed = vec![Resource::RenewalOrder.into()];
    stream.says(Says::Delta(Delta { changes: Some(Snapshot { revision: 8, ..Snapshot::default() }), removed }));
    alpha.standing.watch().wait_for(|state| state.applied.revision == 8).await.unwrap();
    assert!(orders().due(None).is_none());
}

#[tokio::test]
async fn an_order_to_end_sessions_is_answered_and_holds_up_nothing() {
    let mut alpha = Alpha::start().await;
    let (mut stream, _) = alpha.connects().await;
    let user = Some(end_sessions::User::HomeUserId("7".to_owned()));
    stream.says(Says::EndSessions(EndSessions { id: "one".to_owned(), user }));
    let Said::SessionsEnded(answer) = stream.hears().await else { panic!("an answer") };
    // The recipe's command needs parameters that this configuration does not have.
    assert_eq!((answer.id.as_str(), answer.outcome()), ("one", SessionsEndedOutcome::NotSupported));
    stream.says(Says::Snapshot(everything()));
    assert_eq!(resources(&stream.hears_acks(2).await), [51, 52]);
}

#[tokio::test]
async fn a_drained_agent_comes_back_and_one_that_is_sent_away_does_not() {
    let mut alpha = Alpha::start().await;
    let (stream, _) = alpha.connects().await;
    stream.says(Says::Drain(Drain::default()));
    let (stream, _) = alpha.connects().await;
    let details = ErrorDetails::with_error_info("INSTANCE_QUARANTINED", "homeward", []);
    let refused = Status::with_error_details(Code::PermissionDenied, "no", details);
    stream.say.send(Err(refused)).unwrap();
    assert_eq!(alpha.running.await.unwrap(), Dismissal::Quarantined);
    let contact = crate::contact::LastContact::load(&PrivateDir::open(&alpha.folder.path().join("agent")).unwrap());
    assert!(contact.unwrap().dismissed.unwrap().contains("quarantine"));
}
