//! Handshakes between an agent's and a broker's TLS configuration, in memory: who gets through, and who does not.
//! The ids in comments are those of the threat notes.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homeward_certs::authority::{CertificateAuthority, IssuedLeaf, Validity};
use homeward_certs::bundle::TrustBundle;
use homeward_certs::csr::{CsrPublicKey, InstanceKey};
use homeward_certs::identity::TrustDomain;
use homeward_certs::pin::SpkiPin;
use homeward_certs::tls::{
    LiveBundle, LiveIdentity, PeerError, broker_config, enrolment_config, instance_config, recovery_config,
    unverified_config_for_bundle_statements,
};
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::ServerSessionMemoryCache;
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection};

const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct At(Duration);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0))
    }
}

/// A federation at a moment: its CA, and what was made by it.
struct Realm {
    ca: CertificateAuthority,
}

impl Realm {
    fn new() -> Self {
        let ca = CertificateAuthority::generate(domain(), SystemTime::UNIX_EPOCH + NOW, 1000 * HOUR).unwrap();
        Self { ca }
    }

    fn bundle(&self) -> TrustBundle {
        TrustBundle::new(1, vec![self.ca.certificate().to_vec()]).unwrap()
    }

    fn pins(&self) -> Vec<SpkiPin> {
        self.bundle().pins()
    }

    fn instance(&self, key: &InstanceKey, name: &str) -> IssuedLeaf {
        let key = CsrPublicKey::from_csr(&key.csr().unwrap()).unwrap();
        self.ca.issue_instance(&name.parse().unwrap(), &key, validity()).unwrap()
    }

    fn broker_identity(&self) -> Arc<LiveIdentity> {
        let key = InstanceKey::generate().unwrap();
        let leaf = self.ca.issue_broker(&key, None, validity()).unwrap();
        let chain = vec![leaf.certificate, self.ca.certificate().to_vec()];
        LiveIdentity::new(chain, &key.to_private_key()).unwrap()
    }

    fn instance_identity(&self) -> Arc<LiveIdentity> {
        let key = InstanceKey::generate().unwrap();
        let leaf = self.instance(&key, "alpha").certificate;
        LiveIdentity::new(vec![leaf, self.ca.certificate().to_vec()], &key.to_private_key()).unwrap()
    }

    fn broker(&self, now: Duration) -> ServerConfig {
        self.broker_showing(self.broker_identity(), now)
    }

    fn broker_showing(&self, identity: Arc<LiveIdentity>, now: Duration) -> ServerConfig {
        broker_config(identity, LiveBundle::new(&self.bundle()).unwrap(), domain(), Arc::new(At(now))).unwrap()
    }

    fn agent(&self, identity: Arc<LiveIdentity>, now: Duration) -> ClientConfig {
        instance_config(identity, LiveBundle::new(&self.bundle()).unwrap(), domain(), Arc::new(At(now))).unwrap()
    }
}

fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn validity() -> Validity {
    Validity { now: SystemTime::UNIX_EPOCH + NOW, lifetime: HOUR }
}

/// What came of a handshake.
#[derive(Debug)]
struct Outcome {
    client: Result<(), Error>,
    server: Result<(), Error>,
    client_leaf: Option<Vec<u8>>,
    resumed: bool,
}

impl Outcome {
    fn succeeded(&self) -> bool {
        self.client.is_ok() && self.server.is_ok()
    }

    fn alert(&self) -> Option<AlertDescription> {
        match self.client {
            Err(Error::AlertReceived(alert)) => Some(alert),
            _ => None,
        }
    }
}

fn handshake(client: ClientConfig, server: ServerConfig) -> Outcome {
    let name = ServerName::try_from("broker.example").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut client_result, mut server_result) = (Ok(()), Ok(()));
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server_result = server_result.and(server.process_new_packets().map(drop));
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client_result = client_result.and(client.process_new_packets().map(drop));
    }
    if client.is_handshaking() {
        client_result = client_result.and(Err(Error::HandshakeNotComplete));
    }
    let client_leaf = server.peer_certificates().map(|chain| chain[0].to_vec());
    let resumed = server.handshake_kind() == Some(HandshakeKind::Resumed);
    Outcome { client: client_result, server: server_result, client_leaf, resumed }
}

#[test]
fn an_enrolled_agent_and_its_broker_find_each_other() {
    let realm = Realm::new();
    let outcome = handshake(realm.agent(realm.instance_identity(), NOW), realm.broker(NOW));
    assert!(outcome.succeeded(), "{outcome:?}");
    assert!(outcome.client_leaf.is_some());
}

/// M14: a second connection is judged as the first was. Neither side needs the other for that.
#[test]
fn no_session_is_resumed() {
    let realm = Realm::new();
    let (agent, broker) = (realm.agent(realm.instance_identity(), NOW), realm.broker(NOW));
    let (mut keen_agent, mut keen_broker) = (agent.clone(), broker.clone());
    keen_agent.resumption = Resumption::default();
    keen_broker.send_tls13_tickets = 2;
    keen_broker.session_storage = ServerSessionMemoryCache::new(16);
    let second = |agent: &ClientConfig, broker: &ServerConfig| {
        assert!(handshake(agent.clone(), broker.clone()).succeeded());
        let outcome = handshake(agent.clone(), broker.clone());
        assert!(outcome.succeeded(), "{outcome:?}");
        outcome
    };
    assert!(!second(&keen_agent, &broker).resumed, "the broker lets nobody resume");
    assert!(!second(&agent, &keen_broker).resumed, "an agent resumes nothing");
    assert!(second(&keen_agent, &keen_broker).resumed, "or this test would see nothing");
}

/// M23: HTTP/2 for agents, HTTP/1.1 for applications, TLS 1.3 for both, and nothing else.
#[test]
fn no_other_protocol_is_spoken() {
    let realm = Realm::new();
    for (protocol, good) in [("h2", true), ("http/1.1", true), ("http/1.0", false), ("h3", false), ("spdy/1", false)] {
        let mut client = realm.agent(realm.instance_identity(), NOW);
        client.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let outcome = handshake(client, realm.broker(NOW));
        assert_eq!(outcome.succeeded(), good, "{protocol} {outcome:?}");
    }
}

/// What speaks only TLS 1.2 offers no version that is spoken here.
#[test]
fn tls_1_2_is_refused() {
    let realm = Realm::new();
    let mut server = ServerConnection::new(Arc::new(realm.broker(NOW))).unwrap();
    // A ClientHello without extensions: record, handshake, version, random, no session, one suite
    // (ECDHE-ECDSA-AES128-GCM-SHA256), no compression.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    server.read_tls(&mut hello.as_slice()).unwrap();
    let refused = server.process_new_packets().unwrap_err();
    assert!(matches!(refused, Error::PeerIncompatible(_)), "{refused:?}");
}

/// Applications know the broker by its host name, agents by its SPIFFE id: a leaf has both.
#[test]
fn a_broker_that_names_its_host_is_known_to_agents_and_applications() {
    let realm = Realm::new();
    let key = InstanceKey::generate().unwrap();
    for (host, good) in [("broker.example", true), ("other.example", false)] {
        let host = ServerName::try_from(host).unwrap();
        let leaf = realm.ca.issue_broker(&key, Some(&host), validity()).unwrap().certificate;
        let chain = vec![leaf, realm.ca.certificate().to_vec()];
        let identity = || LiveIdentity::new(chain.clone(), &key.to_private_key()).unwrap();
        let agent = handshake(realm.agent(realm.instance_identity(), NOW), realm.broker_showing(identity(), NOW));
        assert!(agent.succeeded(), "{agent:?}");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(realm.ca.certificate().to_vec().into()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let application = ClientConfig::builder_with_details(provider, Arc::new(At(NOW)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let outcome = handshake(application, realm.broker_showing(identity(), NOW));
        assert_eq!(outcome.succeeded(), good, "{outcome:?}");
    }
}

#[test]
fn an_agent_without_certificate_enrols_under_the_pin() {
    let realm = Realm::new();
    let agent = enrolment_config(realm.pins(), domain(), Arc::new(At(NOW))).unwrap();
    let outcome = handshake(agent, realm.broker(NOW));
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.client_leaf, None);
}

/// E1: nothing secret is said to a broker that is not the pinned one.
#[test]
fn a_broker_of_another_ca_is_not_the_pinned_one() {
    let (realm, other) = (Realm::new(), Realm::new());
    let agent = enrolment_config(realm.pins(), domain(), Arc::new(At(NOW))).unwrap();
    let outcome = handshake(agent, other.broker(NOW));
    assert_eq!(PeerError::within(outcome.client.as_ref().unwrap_err()), Some(&PeerError::NotPinned));
}

/// E1: the pinned CA's certificate is public; sending it along makes nobody its broker.
#[test]
fn a_chain_that_only_carries_the_pinned_ca_is_refused() {
    let (realm, thief) = (Realm::new(), Realm::new());
    let key = InstanceKey::generate().unwrap();
    let leaf = thief.ca.issue_broker(&key, None, validity()).unwrap().certificate;
    let chain = vec![leaf, realm.ca.certificate().to_vec()];
    let identity = LiveIdentity::new(chain, &key.to_private_key()).unwrap();
    let agent = enrolment_config(realm.pins(), domain(), Arc::new(At(NOW))).unwrap();
    let outcome = handshake(agent, thief.broker_showing(identity, NOW));
    assert!(matches!(outcome.client, Err(Error::InvalidCertificate(_))), "{outcome:?}");
}

/// M4, M24: an instance's certificate does not make a broker.
#[test]
fn an_instance_cannot_play_the_broker() {
    let realm = Realm::new();
    let broker = realm.broker_showing(realm.instance_identity(), NOW);
    let enrolling = enrolment_config(realm.pins(), domain(), Arc::new(At(NOW))).unwrap();
    for agent in [realm.agent(realm.instance_identity(), NOW), enrolling] {
        let outcome = handshake(agent, broker.clone());
        assert!(matches!(outcome.client, Err(Error::InvalidCertificate(_))), "{outcome:?}");
    }
}

/// M4: the broker's certificate does not make an agent.
#[test]
fn a_server_certificate_is_no_client_certificate() {
    let realm = Realm::new();
    let outcome = handshake(realm.agent(realm.broker_identity(), NOW), realm.broker(NOW));
    assert!(outcome.server.is_err(), "{outcome:?}");
}

/// M3.
#[test]
fn an_agent_of_another_ca_is_refused() {
    let (realm, other) = (Realm::new(), Realm::new());
    let outcome = handshake(realm.agent(other.instance_identity(), NOW), realm.broker(NOW));
    assert!(outcome.server.is_err(), "{outcome:?}");
    assert!(
        matches!(outcome.alert(), Some(AlertDescription::UnknownCA | AlertDescription::DecryptError)),
        "{outcome:?}"
    );
}

/// M2, and the wrong clock on either side.
#[test]
fn certificates_count_in_their_time_only() {
    let realm = Realm::new();
    let minute = Duration::from_secs(60);
    for (now, good) in
        [(NOW - 2 * minute, false), (NOW - minute / 2, true), (NOW + HOUR - minute, true), (NOW + HOUR + minute, false)]
    {
        let broker = realm.broker(NOW);
        let judged_by_agent = handshake(realm.agent(realm.instance_identity(), now), broker);
        assert_eq!(judged_by_agent.succeeded(), good, "agent at {now:?}: {judged_by_agent:?}");
        let judged_by_broker = handshake(realm.agent(realm.instance_identity(), NOW), realm.broker(now));
        assert_eq!(judged_by_broker.succeeded(), good, "broker at {now:?}: {judged_by_broker:?}");
    }
}

/// M5: a leaf signs nothing.
#[test]
fn an_agent_cannot_issue_certificates() {
    let realm = Realm::new();
    let parent = InstanceKey::generate().unwrap();
    let leaf = realm.instance(&parent, "alpha").certificate;
    // What a CA would do with the same key, over a leaf that is no CA.
    let forged = CertificateAuthority::load(domain(), leaf.clone(), &parent.to_pkcs8()).unwrap();
    let key = InstanceKey::generate().unwrap();
    let request = CsrPublicKey::from_csr(&key.csr().unwrap()).unwrap();
    let child = forged.issue_instance(&"beta".parse().unwrap(), &request, validity()).unwrap().certificate;
    let chain = vec![child, leaf, realm.ca.certificate().to_vec()];
    let identity = LiveIdentity::new(chain, &key.to_private_key()).unwrap();
    let outcome = handshake(realm.agent(identity, NOW), realm.broker(NOW));
    assert!(outcome.server.is_err(), "{outcome:?}");
}

/// A new certificate shows in the next handshake, without a new configuration.
#[test]
fn a_swapped_identity_and_bundle_count_from_the_next_handshake_on() {
    let (old, new) = (Realm::new(), Realm::new());
    let identity = old.instance_identity();
    let bundle = LiveBundle::new(&old.bundle()).unwrap();
    let agent = instance_config(identity.clone(), bundle.clone(), domain(), Arc::new(At(NOW))).unwrap();
    assert!(handshake(agent.clone(), old.broker(NOW)).succeeded());
    assert!(!handshake(agent.clone(), new.broker(NOW)).succeeded());
    let key = InstanceKey::generate().unwrap();
    let leaf = new.instance(&key, "alpha").certificate;
    identity.swap(vec![leaf.clone()], &key.to_private_key()).unwrap();
    bundle.swap(&new.bundle()).unwrap();
    let outcome = handshake(agent, new.broker(NOW));
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.client_leaf, Some(leaf));
}

/// N3: an agent whose certificate has expired judges the broker by the bundle that it kept, and shows nothing.
#[test]
fn an_agent_without_certificate_recovers_under_its_bundle() {
    let (realm, other) = (Realm::new(), Realm::new());
    let agent = || {
        let bundle = LiveBundle::new(&realm.bundle()).unwrap();
        recovery_config(bundle, domain(), Arc::new(At(NOW))).unwrap()
    };
    let outcome = handshake(agent(), realm.broker(NOW));
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.client_leaf, None);
    assert!(!handshake(agent(), other.broker(NOW)).succeeded());
    assert!(!handshake(agent(), realm.broker_showing(realm.instance_identity(), NOW)).succeeded());
}

/// N4: what is signed by itself may come over a connection that proves nothing.
#[test]
fn bundle_statements_may_come_from_anybody() {
    let other = Realm::new();
    let agent = unverified_config_for_bundle_statements(domain(), Arc::new(At(NOW))).unwrap();
    let outcome = handshake(agent, other.broker(NOW));
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.client_leaf, None);
}

/// While the CA turns, leaves of either are good under the bundle of both.
#[test]
fn a_bundle_of_two_authorities_accepts_leaves_of_either() {
    let (old, next) = (Realm::new(), Realm::new());
    let both = || {
        let certificates = vec![old.ca.certificate().to_vec(), next.ca.certificate().to_vec()];
        LiveBundle::new(&TrustBundle::new(2, certificates).unwrap()).unwrap()
    };
    for (agent, broker) in [(&old, &next), (&next, &old), (&next, &next)] {
        let agent = instance_config(agent.instance_identity(), both(), domain(), Arc::new(At(NOW))).unwrap();
        let broker = broker_config(broker.broker_identity(), both(), domain(), Arc::new(At(NOW))).unwrap();
        let outcome = handshake(agent, broker);
        assert!(outcome.succeeded(), "{outcome:?}");
    }
}

/// A key that is not the certificate's is refused before it is used.
#[test]
fn a_foreign_key_is_not_swapped_in() {
    let realm = Realm::new();
    let leaf = realm.instance(&InstanceKey::generate().unwrap(), "alpha").certificate;
    let foreign = InstanceKey::generate().unwrap().to_private_key();
    assert!(realm.instance_identity().swap(vec![leaf], &foreign).is_err());
}
