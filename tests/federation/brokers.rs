//! Two brokers on one store, each in a runtime of its own that can be killed, with real agents and a browser. Everybody
//! comes by one name: behind it a way leads to the one broker, to the other, or to both in turn.

#![expect(clippy::disallowed_methods, reason = "throw-away files in a folder of the test")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homeward_broker::clock::Clock;
use homeward_broker::config::Config;
use homeward_broker::storage::Store;
use homeward_broker::storage::address::StoreAddress;
use homeward_broker::storage::sled::SledStore;
use homeward_broker::web::listener::PublicListeners;
use homeward_broker::{Listeners, run};
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use world::{Browser, Federation, InstanceOptions};

use crate::town::{ALICE, Town, user};

/// How long what comes about by itself may take; a broker that was killed is gone after twenty seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// A broker in this process.
struct Broker {
    http: SocketAddr,
    grpc: SocketAddr,
    /// For its command line.
    config: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
    shutdown: CancellationToken,
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Broker {
    async fn start(federation: &Federation, store: Arc<dyn Store>, name: &str) -> Self {
        let folder = federation.world.folder();
        let socket = folder.join(format!("{name}.sock"));
        let text = std::fs::read_to_string(&federation.config).unwrap();
        let config = folder.join(format!("{name}.toml"));
        std::fs::write(&config, format!("admin_socket = {socket:?}\n{text}")).unwrap();
        let mut settings = Config::load(&config).unwrap();
        // It is not alone with this store.
        settings.store = "etcd:http://127.0.0.1:1".parse::<StoreAddress>().unwrap();
        settings.audit.dir = folder.join(format!("audit-{name}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (announce, announced) = tokio::sync::oneshot::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        runtime.spawn(async move {
            let listeners = Listeners {
                public: PublicListeners::http(TcpListener::bind("127.0.0.1:0").await.unwrap()),
                grpc: TcpListener::bind("127.0.0.1:0").await.unwrap(),
                admin: UnixListener::bind(&socket).unwrap(),
                metrics: None,
            };
            let at =
                (listeners.public.http.as_ref().unwrap().local_addr().unwrap(), listeners.grpc.local_addr().unwrap());
            let ready = move || announce.send(at).unwrap();
            Box::pin(run(settings, store, listeners, Clock::system(), ready, stop)).await.unwrap();
            end.send(()).unwrap();
        });
        let (http, grpc) = announced.await.unwrap();
        Self { http, grpc, config, runtime: Some(runtime), shutdown, ended }
    }

    /// All at once and without goodbye.
    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// As SIGTERM does.
    async fn stop(&mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, &mut self.ended).await.unwrap().unwrap();
        self.kill();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A name that stands for brokers.
#[derive(Clone, Default)]
struct Way {
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    turns: Arc<AtomicUsize>,
    cut: Arc<Mutex<CancellationToken>>,
}

impl Way {
    async fn open(port: u16) -> Self {
        let way = Self::default();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        tokio::spawn(way.clone().carry(listener));
        way
    }

    async fn carry(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            let targets = self.targets.lock().unwrap().clone();
            let first = self.turns.fetch_add(1, Ordering::Relaxed);
            let cut = self.cut.lock().unwrap().clone();
            connections.spawn(async move {
                for turn in 0..targets.len() {
                    if let Ok(mut to) = TcpStream::connect(targets[(first + turn) % targets.len()]).await {
                        let carried = copy_bidirectional(&mut from, &mut to);
                        cut.run_until_cancelled(carried).await;
                        return;
                    }
                }
            });
        }
    }

    /// From now on to these; all connections break.
    fn leads_to(&self, targets: &[SocketAddr]) {
        *self.targets.lock().unwrap() = targets.to_vec();
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }
}

struct Two {
    town: Town,
    one: Broker,
    other: Broker,
    agents: Way,
}

impl Two {
    /// alpha's agent is connected to the one, beta's to the other, and browsers and applications come to both in turn.
    async fn start() -> Self {
        let mut federation = Federation::founded("").await.unwrap();
        let settings = Config::load(&federation.config).unwrap();
        let (browsers, agents) =
            (Way::open(settings.http.unwrap().port()).await, Way::open(settings.grpc.port()).await);
        let StoreAddress::Sled(folder) = settings.store else { panic!("an embedded store") };
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&folder).unwrap());
        let one = Broker::start(&federation, store.clone(), "one").await;
        let other = Broker::start(&federation, store, "other").await;
        browsers.leads_to(&[one.http, other.http]);
        federation.config.clone_from(&one.config);
        agents.leads_to(&[one.grpc]);
        let home = InstanceOptions { accounts: vec![ALICE], relying_party: false, methods: vec!["session"] };
        let alpha = federation.instance("alpha", home).await.unwrap();
        // Its token is made at the one, and it enrols at the other, as it does all else.
        *agents.targets.lock().unwrap() = vec![other.grpc];
        let party = InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
        let beta = federation.instance("beta", party).await.unwrap();
        federation.allow("beta", "alpha", &["alpha.example"]).await.unwrap();
        federation.in_sync("beta").await.unwrap();
        Self { town: Town { federation, alpha, beta }, one, other, agents }
    }

    async fn brokers(&self) -> Vec<Value> {
        let listed = self.town.federation.ops_json(&["broker", "list"]).await.unwrap();
        listed.as_array().unwrap().clone()
    }

    async fn log_in(&self) {
        let mut browser = Browser::new();
        let signed_in = user(&self.town.sign_in(&mut browser).await);
        assert_eq!(signed_in["preferred_username"], "alice@alpha");
    }

    /// All agents are connected to the only broker that is left, which has the duty.
    async fn settles_at_other(&mut self) {
        self.town.federation.config.clone_from(&self.other.config);
        let settled = async {
            loop {
                let brokers = self.brokers().await;
                if brokers.len() == 1 && brokers[0]["agents"] == 2 && brokers[0]["on_duty"] == true {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            panic!("{:?}", self.brokers().await);
        }
        for name in ["alpha", "beta"] {
            self.town.federation.in_sync(name).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_browsers_use_two_brokers_as_one_and_move_when_one_drains() {
    let mut two = Two::start().await;
    let brokers = two.brokers().await;
    assert_eq!(brokers.len(), 2, "{brokers:?}");
    assert!(brokers.iter().all(|broker| broker["agents"] == 1), "{brokers:?}");
    assert_eq!(brokers.iter().filter(|broker| broker["on_duty"] == true).count(), 1, "{brokers:?}");
    for _ in 0..3 {
        two.log_in().await;
    }
    // alpha's agent is the one's, and asked through the other, whom ops ask.
    two.town.federation.config.clone_from(&two.other.config);
    let explained = two.town.federation.ops(&["trust", "explain", "--relying-party", "beta", "--user", "alice@alpha"]);
    let explained = explained.await.unwrap_or_else(|refused| refused.to_string());
    assert!(!explained.contains("not connected"), "{explained}");
    // The one drains: its agent goes over.
    two.agents.targets.lock().unwrap().clone_from(&vec![two.one.grpc, two.other.grpc]);
    two.one.stop().await;
    two.settles_at_other().await;
    two.log_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_broker_is_killed_the_other_takes_its_agents_and_its_duty() {
    let mut two = Two::start().await;
    two.agents.targets.lock().unwrap().clone_from(&vec![two.one.grpc, two.other.grpc]);
    two.one.kill();
    two.settles_at_other().await;
    two.log_in().await;
    // Quarantine at the one that is left, and everything else, goes on.
    two.town.federation.ops(&["instance", "quarantine", "alpha", "--reason", "test"]).await.unwrap();
    let page = Browser::new().open(&two.town.start()).await.unwrap();
    assert!(!two.town.is_at(&page, &two.town.alpha), "{}", page.url);
}
