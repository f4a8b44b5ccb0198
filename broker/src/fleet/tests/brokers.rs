//! Two brokers on one store, in a hurry: an agent has one stream at one of them, and both know it.

use tokio::task::JoinHandle;

use super::*;
use crate::fleet::{AccountPreview, AgentQuestions, Inquiry, NoReply, QuestionError, Reply};
use crate::registry::Registry;
use crate::storage::Store;

/// One broker.
struct Broker {
    brokers: Brokers,
    registry: Registry,
    fleet: Arc<Fleet>,
    /// All that it does by itself.
    running: Vec<JoinHandle<()>>,
    _shared: watch::Sender<Arc<SharedState>>,
}

impl Broker {
    async fn start(world: &World, text: &str) -> Self {
        let (brokers, heart) = Brokers::join_for_test(&world.store, text).await;
        let store: Arc<dyn Store> = world.store.clone();
        let (registry, keep_fresh) = Registry::open(store.clone()).await.unwrap();
        let (liveness, keep_reports) = Liveness::open(store.clone(), brokers.clone()).await.unwrap();
        let (shared, state) = watch::channel(Arc::new(SharedState {
            revision: 0,
            key_set: "{\"keys\":[]}".into(),
            key_ids: vec!["one".into()],
            key_set_max_age: Duration::from_secs(300),
            bundle: bundle(1),
            renewal: None,
        }));
        let terms = Terms {
            issuer: Issuer::parse("https://login.example").unwrap(),
            sealing: world.sealing.clone(),
            brokers: brokers.clone(),
            store,
        };
        let (fleet, wake) = Fleet::open(registry.clone(), liveness, terms, state, Clock::manual(NOW).0);
        let running = vec![heart, tokio::spawn(keep_fresh), tokio::spawn(keep_reports), tokio::spawn(wake)];
        Self { brokers, registry, fleet, running, _shared: shared }
    }

    /// Without goodbye.
    fn kill(&self) {
        self.running.iter().for_each(JoinHandle::abort);
    }

    fn connect(&self, text: &str) -> Connection {
        let report = Report { home_ready: true, problem: String::new() };
        let hello = Hello { report, ..Hello::default() };
        self.fleet.connect(self.registry.snapshot().instance(&name(text)).unwrap(), hello)
    }

    async fn sees(&self, text: &str, status: HomeStatus) {
        within(async || self.fleet.liveness().home_status(&name(text)) == status).await;
    }
}

/// What reaches another broker does so within a second; the machine of a test may be busy.
async fn within(true_at_last: impl AsyncFn() -> bool) {
    let wait = async {
        while !true_at_last().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("it never comes about");
}

/// Waits for the end of a stream.
async fn ended(connection: &mut Connection) -> EndReason {
    let end = async {
        loop {
            if let Next::End(reason) = connection.next().await {
                return reason;
            }
            connection.update();
        }
    };
    tokio::time::timeout(Duration::from_secs(5), end).await.expect("the stream goes on")
}

async fn two() -> (World, Broker, Broker) {
    let world = World::new().await;
    for text in ["alpha", "beta"] {
        world.enrol(text).await;
    }
    world.allow("beta", "alpha", &[]).await;
    let (one, other) = (Broker::start(&world, "one").await, Broker::start(&world, "other").await);
    one.brokers.knows(&other.brokers).await;
    (world, one, other)
}

#[tokio::test]
async fn an_agent_is_online_for_all_brokers_until_its_own_is_gone() {
    let (_world, one, other) = two().await;
    let mut alpha = one.connect("alpha");
    other.sees("alpha", HomeStatus::Ready).await;
    let update = sent(&mut alpha).await;
    ack(&mut alpha, &update, update.versions.clone());
    let seen = || other.fleet.liveness().sighting(&name("alpha")).unwrap();
    within(async || seen().applied_revision == update.revision && seen().acknowledged.secret_version == 1).await;
    assert_eq!((seen().wanted_revision, seen().connected_at), (update.revision, NOW));
    assert_eq!(other.fleet.liveness().agents_by_broker(), [(one.brokers.me(), 1)].into());
    alpha.heard(Word::Heartbeat(Report { home_ready: false, problem: "No users.".into() }));
    other.sees("alpha", HomeStatus::NotReady).await;
    // Killed, with the stream open.
    one.kill();
    other.sees("alpha", HomeStatus::Offline).await;
    assert!(!other.brokers.lives(one.brokers.me()));
}

#[tokio::test]
async fn an_agent_that_goes_away_or_over_to_another_broker_is_where_it_says() {
    let (_world, one, other) = two().await;
    let mut first = one.connect("alpha");
    other.sees("alpha", HomeStatus::Ready).await;
    let second = other.connect("alpha");
    assert_eq!(ended(&mut first).await, EndReason::Superseded);
    drop(first);
    within(async || one.fleet.liveness().held_elsewhere(&name("alpha")) == Some(other.brokers.me())).await;
    // The last words of the first stream change nothing.
    tokio::time::sleep(Duration::from_millis(400)).await;
    for broker in [&one, &other] {
        assert_eq!(broker.fleet.liveness().home_status(&name("alpha")), HomeStatus::Ready);
    }
    drop(second);
    one.sees("alpha", HomeStatus::Offline).await;
}

#[tokio::test]
async fn of_streams_at_two_brokers_at_once_exactly_one_is_left() {
    let (_world, one, other) = two().await;
    for round in 0..8 {
        let mut connections = if round % 2 == 0 {
            [one.connect("alpha"), other.connect("alpha")]
        } else {
            let at_other = other.connect("alpha");
            [one.connect("alpha"), at_other]
        };
        let [at_one, at_other] = &mut connections;
        let (ended_here, lost) = tokio::select! {
            reason = ended(at_one) => (&one, reason),
            reason = ended(at_other) => (&other, reason),
        };
        assert_eq!(lost, EndReason::Superseded);
        let holder = if std::ptr::eq(ended_here, &one) { &other } else { &one };
        // Both agree, and it stays so.
        within(async || ended_here.fleet.liveness().held_elsewhere(&name("alpha")) == Some(holder.brokers.me())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(holder.fleet.liveness().held_elsewhere(&name("alpha")), None, "round {round}");
        assert_eq!(holder.fleet.liveness().home_status(&name("alpha")), HomeStatus::Ready, "round {round}");
        let left = connections.iter_mut().map(async |connection| quiet(connection).await);
        let left = futures_util::future::join_all(left).await;
        let alive = left.iter().filter(|next| !matches!(next, Some(Next::End(_)))).count();
        assert_eq!(alive, 1, "round {round}");
        drop(connections);
        for broker in [&one, &other] {
            broker.sees("alpha", HomeStatus::Offline).await;
        }
    }
}

// Invariant 6.
#[tokio::test]
async fn a_quarantine_at_one_broker_ends_the_streams_of_all() {
    let (world, one, other) = two().await;
    let (mut alpha, mut beta) = (other.connect("alpha"), one.connect("beta"));
    let since = tokio::time::Instant::now();
    world.quarantine("alpha").await;
    assert_eq!(ended(&mut alpha).await, EndReason::Quarantined);
    assert!(since.elapsed() < Duration::from_secs(1));
    assert!(!matches!(quiet(&mut beta).await, Some(Next::End(_))));
}

#[tokio::test]
async fn an_agent_that_is_evicted_at_one_broker_is_forgotten_by_all() {
    let (world, one, other) = two().await;
    let mut alpha = other.connect("alpha");
    one.sees("alpha", HomeStatus::Ready).await;
    world.evict("alpha").await;
    one.fleet.liveness().forget(&name("alpha"));
    assert_eq!(ended(&mut alpha).await, EndReason::Unknown);
    drop(alpha);
    within(async || other.fleet.liveness().sighting(&name("alpha")).is_none()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (left, _) = Liveness::open(world.store.clone(), Brokers::default()).await.unwrap();
    assert_eq!(left.sighting(&name("alpha")), None, "nobody wrote it again");
}

async fn answers(mut questions: AgentQuestions, reply: Reply) {
    let question = questions.next().await;
    assert_eq!(question.inquiry, Inquiry::Identity("alice".into()));
    questions.answered(&question.id, reply);
    // The stream goes on.
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_agent_of_another_broker_answers_what_ops_ask() {
    let (world, one, other) = two().await;
    let ask = async || one.fleet.ask(&name("alpha"), Inquiry::Identity("alice".into())).await;
    assert!(matches!(ask().await, Err(QuestionError::NotConnected)));
    let _alpha = other.connect("alpha");
    one.sees("alpha", HomeStatus::Ready).await;
    let preview = AccountPreview { outcome: "Somebody.".into(), ..AccountPreview::default() };
    for reply in [Reply::Nothing(NoReply::UnknownUser, "Nobody.".into()), Reply::Account(preview)] {
        let agent = tokio::spawn(answers(other.fleet.questions(name("alpha")), reply.clone()));
        assert_eq!(ask().await.unwrap(), reply);
        agent.abort();
    }
    let left = Table::<StoredQuestion>::new(world.store.clone()).all().await.unwrap();
    assert!(left.is_empty(), "nothing of it is left in the store");
}

#[tokio::test]
async fn agents_are_asked_to_stay_away_only_from_a_broker_that_is_alone() {
    let (_world, one, other) = two().await;
    assert_eq!(one.fleet.retry_after(), Duration::ZERO);
    other.kill();
    one.brokers.is_alone().await;
    assert_eq!(one.fleet.retry_after(), Duration::from_secs(1));
}
