//! The lives of identities at a real broker: cut off, let in again, removed, cloned, lost in sleep. The ids in comments are
//! the numbered steps of the enrolment notes.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::{BundleStatement, TrustBundle};
use homeward_certs::csr::InstanceKey;
use homeward_certs::pin::SpkiPin;
use homeward_certs::proof::{RecoveryTranscript, RenewalTranscript};
use homeward_certs::tls::{LiveBundle, recovery_config, unverified_config_for_bundle_statements};
use homeward_proto::v1;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::sync_request::Message as Said;
use homeward_proto::v1::sync_service_client::SyncServiceClient;
use rustls::time_provider::DefaultTimeProvider;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use uuid::Uuid;
use world::applicant::{connect, reason};
use world::{Applicant, Federation};

/// An agent by hand: what it has of its identity.
struct Agent {
    applicant: Arc<Applicant>,
    bundle: v1::TrustBundle,
    generation: u64,
    channel: Channel,
}

impl Agent {
    async fn enrol(federation: &Federation, name: &str) -> Self {
        let applicant = Applicant::new(&federation.token(name, &[]).await.unwrap()).unwrap();
        let answer = applicant.enrol().await.unwrap();
        let channel = applicant.connect_enrolled(&answer).await.unwrap();
        let applicant = Arc::new(applicant);
        let agent = Self { applicant, bundle: answer.trust_bundle.unwrap(), generation: answer.generation, channel };
        agent.call().await.unwrap();
        agent
    }

    async fn call(&self) -> Result<(), Status> {
        EnrolmentServiceClient::new(self.channel.clone()).confirm(v1::ConfirmRequest {}).await.map(drop)
    }

    /// A stream that has got its first state; keep the sender, or it ends.
    async fn sync(&self) -> (mpsc::Sender<v1::SyncRequest>, Streaming<v1::SyncResponse>) {
        let (sender, receiver) = mpsc::channel(4);
        let hello = v1::SyncRequest { message: Some(Said::Hello(v1::Hello::default())) };
        sender.send(hello).await.unwrap();
        let client = &mut SyncServiceClient::new(self.channel.clone());
        let mut stream = client.sync(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        (sender, stream)
    }

    async fn renew(&self, key: &InstanceKey) -> Result<v1::RenewResponse, Status> {
        let request_id = Uuid::new_v4();
        let transcript = RenewalTranscript::new(request_id.as_bytes(), &key.pin(), self.generation);
        let request = v1::RenewRequest {
            request_id: request_id.to_string(),
            csr: key.csr().unwrap(),
            generation: self.generation,
            recovery_signature: self.applicant.recovery.sign(transcript.as_bytes()),
        };
        Ok(EnrolmentServiceClient::new(self.channel.clone()).renew(request).await?.into_inner())
    }

    /// Over a connection without a certificate, under the bundle that was kept.
    async fn recover(&self, key: &InstanceKey) -> Result<v1::RecoverResponse, Status> {
        let bundle = TrustBundle::new(self.bundle.version, self.bundle.certificates.clone()).unwrap();
        let domain = self.applicant.trust_domain().clone();
        let tls = recovery_config(LiveBundle::new(&bundle).unwrap(), domain, Arc::new(DefaultTimeProvider)).unwrap();
        let mut client = EnrolmentServiceClient::new(connect(&self.applicant.token.agent_url, tls).await.unwrap().0);
        let begin = v1::BeginRecoveryRequest { instance: self.applicant.token.instance.to_string() };
        let challenge = client.begin_recovery(begin).await?.into_inner().challenge;
        let request_id = Uuid::new_v4();
        let transcript = RecoveryTranscript::new(&challenge, request_id.as_bytes(), &key.pin(), self.generation);
        let request = v1::RecoverRequest {
            challenge,
            request_id: request_id.to_string(),
            csr: key.csr().unwrap(),
            generation: self.generation,
            recovery_signature: self.applicant.recovery.sign(transcript.as_bytes()),
        };
        Ok(client.recover(request).await?.into_inner())
    }

    async fn connect(&self, key: &InstanceKey, chain: Vec<Vec<u8>>) -> anyhow::Result<Channel> {
        self.applicant.connect_with(key, chain, self.bundle.clone()).await
    }
}

/// How a live stream ended, within a second.
async fn ended(stream: &mut Streaming<v1::SyncResponse>) -> String {
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return "without a reason".to_owned(),
                Err(status) => return reason(&status),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), end).await.unwrap_or_else(|_| "not at all".to_owned())
}

/// B1.
#[tokio::test]
async fn ops_cut_an_instance_off_within_a_second_and_let_it_in_again() {
    let federation = Federation::start().await.unwrap();
    let alpha = Agent::enrol(&federation, "alpha").await;
    let (_sender, mut stream) = alpha.sync().await;
    let said = federation.ops(&["instance", "quarantine", "alpha", "--reason", "a strange log"]).await.unwrap();
    assert!(said.contains("alpha is quarantined: a strange log"), "{said}");
    assert_eq!(ended(&mut stream).await, "PermissionDenied/INSTANCE_QUARANTINED");
    assert_eq!(reason(&alpha.call().await.unwrap_err()), "PermissionDenied/INSTANCE_QUARANTINED");
    let shown = federation.ops_json(&["instance", "show", "alpha"]).await.unwrap();
    assert_eq!((&shown["state"], &shown["quarantine_reason"]), (&"quarantined".into(), &"a strange log".into()));

    federation.ops(&["instance", "release", "alpha"]).await.unwrap();
    alpha.call().await.unwrap();
    let refused = federation.ops(&["instance", "release", "alpha"]).await.unwrap_err().to_string();
    assert!(refused.contains("is not quarantined"), "{refused}");
}

/// B1.
#[tokio::test]
async fn an_evicted_instance_is_gone_with_its_edges_and_its_name_is_free() {
    let federation = Federation::start().await.unwrap();
    let alpha = Agent::enrol(&federation, "alpha").await;
    Agent::enrol(&federation, "beta").await;
    federation.allow("beta", "alpha", &[]).await.unwrap();
    let before = federation.ops_json(&["instance", "show", "alpha"]).await.unwrap();
    let (_sender, mut stream) = alpha.sync().await;

    let refused = federation.ops(&["instance", "evict", "alpha"]).await.unwrap_err().to_string();
    assert!(refused.contains("its client and 1 trust edge(s)") && refused.contains("--yes"), "{refused}");
    alpha.call().await.unwrap();

    let said = federation.ops(&["instance", "evict", "alpha", "--yes"]).await.unwrap();
    assert!(said.contains("1 trust edge(s)"), "{said}");
    assert_eq!(ended(&mut stream).await, "Unauthenticated/AGENT_UNKNOWN");
    assert_eq!(reason(&alpha.call().await.unwrap_err()), "Unauthenticated/AGENT_UNKNOWN");
    assert_eq!(federation.ops_json(&["trust", "list"]).await.unwrap(), serde_json::json!([]));
    assert!(federation.ops(&["instance", "show", "alpha"]).await.is_err());

    Agent::enrol(&federation, "alpha").await;
    let after = federation.ops_json(&["instance", "show", "alpha"]).await.unwrap();
    assert_ne!(after["client_id"], before["client_id"]);
}

/// N2: a machine was copied. The copy's certificate is behind, and its generation gives both away.
#[tokio::test]
async fn an_older_generation_cuts_both_machines_off_within_a_second() {
    let federation = Federation::with_settings("[lifetimes]\ninstance_certificate = 20").await.unwrap();
    let copy = Agent::enrol(&federation, "alpha").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let key = InstanceKey::generate().unwrap();
    let renewed = copy.renew(&key).await.unwrap();
    assert_eq!(renewed.generation, 2);
    let channel = copy.connect(&key, renewed.certificate_chain).await.unwrap();
    let (applicant, bundle) = (copy.applicant.clone(), copy.bundle.clone());
    let machine = Agent { applicant, bundle, generation: renewed.generation, channel };
    let (_sender, mut stream) = machine.sync().await;

    assert_eq!(reason(&copy.call().await.unwrap_err()), "Unauthenticated/CERTIFICATE_REPLACED");
    let alarm = copy.recover(&InstanceKey::generate().unwrap()).await.unwrap_err();
    assert_eq!(reason(&alarm), "PermissionDenied/GENERATION_MISMATCH");
    assert_eq!(ended(&mut stream).await, "PermissionDenied/INSTANCE_QUARANTINED");
    assert!(federation.broker.as_ref().unwrap().log().contains("SECURITY: two machines have this instance's keys"));
    let alarms = federation.ops_json(&["audit", "list", "--kind", "clone_alarm", "--instance", "alpha"]).await.unwrap();
    assert_eq!(alarms.as_array().unwrap().len(), 1, "{alarms}");

    let shown = federation.ops_json(&["instance", "show", "alpha"]).await.unwrap();
    assert!(shown["quarantine_reason"].as_str().unwrap().contains("certificate 1 after certificate 2"), "{shown}");
    let refused = federation.ops(&["instance", "release", "alpha"]).await.unwrap_err().to_string();
    assert!(refused.contains("token create --instance alpha --replace"), "{refused}");
}

/// N3: with real certificates that really expire.
#[tokio::test]
async fn an_expired_identity_comes_back_by_its_recovery_key() {
    let federation = Federation::with_settings("[lifetimes]\ninstance_certificate = 10").await.unwrap();
    let mut alpha = Agent::enrol(&federation, "alpha").await;
    let early = alpha.recover(&InstanceKey::generate().unwrap()).await.unwrap_err();
    assert_eq!(reason(&early), "FailedPrecondition/CERTIFICATE_STILL_GOOD");

    let key = InstanceKey::generate().unwrap();
    let recovered = loop {
        match alpha.recover(&key).await {
            Ok(recovered) => break recovered,
            Err(status) if reason(&status) == "FailedPrecondition/CERTIFICATE_STILL_GOOD" => {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(status) => panic!("{status:?}"),
        }
    };
    assert_eq!((recovered.generation, recovered.server_time.is_some()), (2, true));
    alpha.channel = alpha.connect(&key, recovered.certificate_chain).await.unwrap();
    alpha.call().await.unwrap();
    let shown = federation.ops_json(&["instance", "show", "alpha"]).await.unwrap();
    assert_eq!((&shown["recovery_policy"], &shown["certificate_generation"]), (&"2".into(), &2.into()));

    let unknown = v1::BeginRecoveryRequest { instance: "nobody".into() };
    let (stranger, _) = alpha.applicant.connect().await.unwrap();
    let mut client = EnrolmentServiceClient::new(stranger);
    assert!(!client.begin_recovery(unknown).await.unwrap().into_inner().challenge.is_empty());
    let set = ["instance", "policy", "alpha", "--recovery", "off", "--signing-key", "acknowledged"];
    let shown = federation.ops_json(&set).await.unwrap();
    assert_eq!((&shown["recovery_policy"], &shown["signing_key_choice"]), (&"off".into(), &"acknowledged".into()));
    assert!(federation.ops(&["instance", "policy", "alpha"]).await.is_err());
    assert!(federation.ops(&["instance", "policy", "alpha", "--recovery", "sometimes"]).await.is_err());
}

/// N4: whoever has an old bundle finds the newest over a connection that proves nothing.
#[tokio::test]
async fn bundle_statements_lead_a_sleeper_to_the_ca_of_today() {
    let federation = Federation::start().await.unwrap();
    let alpha = Agent::enrol(&federation, "alpha").await;
    let before = federation.ops_json(&["ca", "show"]).await.unwrap();
    assert_eq!((&before["trust_bundle_version"], &before["certificates"][0]["instances"]), (&1.into(), &1.into()));
    federation.ops(&["ca", "rotate"]).await.unwrap();

    let domain = alpha.applicant.trust_domain().clone();
    let tls = unverified_config_for_bundle_statements(domain, Arc::new(DefaultTimeProvider)).unwrap();
    let mut client = EnrolmentServiceClient::new(connect(&alpha.applicant.token.agent_url, tls).await.unwrap().0);
    let mut held = TrustBundle::new(alpha.bundle.version, alpha.bundle.certificates.clone()).unwrap();
    while held.version < 2 {
        let request = v1::ListTrustBundlesRequest { from_version: held.version };
        let listed = client.list_trust_bundles(request).await.unwrap().into_inner().statements;
        let statements: Vec<BundleStatement> = listed.into_iter().map(statement).collect();
        held = held.follow(&statements).unwrap();
    }
    let shown = federation.ops_json(&["ca", "show"]).await.unwrap();
    assert_eq!(shown["trust_bundle_version"], held.version);
    let pins: Vec<String> = held.pins().iter().map(ToString::to_string).collect();
    let certificates = shown["certificates"].as_array().unwrap();
    assert!(certificates.iter().all(|shown| pins.iter().any(|pin| *pin == shown["pin"])), "{shown} {pins:?}");
    assert_eq!(certificates.len(), pins.len());
}

fn statement(stated: v1::TrustBundleStatement) -> BundleStatement {
    let bundle = stated.trust_bundle.unwrap();
    BundleStatement {
        bundle: TrustBundle::new(bundle.version, bundle.certificates).unwrap(),
        signer: SpkiPin::from_bytes(stated.signer_pin.as_slice().try_into().unwrap()),
        signature: stated.signature,
    }
}
