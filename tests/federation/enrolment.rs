//! Enrolment and the channel behind it, with a good applicant and with bad ones. The ids in comments are those of the
//! threat notes: E steps of the protocol, M lines of the agent channel.

use std::time::Duration;

use homeward_certs::csr::{CsrPublicKey, InstanceKey};
use homeward_certs::identity::PeerIdentity;
use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::login_service_client::LoginServiceClient;
use homeward_proto::v1::sync_request::Message as Said;
use homeward_proto::v1::sync_response::Message as Answer;
use homeward_proto::v1::sync_service_client::SyncServiceClient;
use http::uri::PathAndQuery;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;
use world::applicant::{reason, reason_of};
use world::{Applicant, Federation};

async fn enrol(federation: &Federation, name: &str) -> (Applicant, v1::EnrolResponse) {
    let applicant = Applicant::new(&federation.token(name, &[]).await.unwrap()).unwrap();
    let answer = applicant.enrol().await.unwrap();
    (applicant, answer)
}

async fn confirm(channel: Channel) -> Result<String, Status> {
    let answer = EnrolmentServiceClient::new(channel).confirm(v1::ConfirmRequest {}).await?;
    Ok(answer.into_inner().instance)
}

/// A stream that said Hello; keep the sender, or it ends.
async fn sync(channel: Channel) -> Result<(mpsc::Sender<v1::SyncRequest>, Streaming<v1::SyncResponse>), Status> {
    let (sender, receiver) = mpsc::channel(4);
    let hello = v1::SyncRequest { message: Some(Said::Hello(v1::Hello::default())) };
    sender.send(hello).await.unwrap();
    let stream = SyncServiceClient::new(channel).sync(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((sender, stream))
}

async fn state_of(federation: &Federation, name: &str) -> String {
    let shown = federation.ops_json(&["instance", "show", name]).await.unwrap();
    shown["state"].as_str().unwrap().to_owned()
}

/// E1–E8.
#[tokio::test]
async fn a_token_becomes_a_certificate_and_the_first_use_confirms_it() {
    let federation = Federation::start().await.unwrap();
    let (applicant, answer) = enrol(&federation, "alpha").await;
    let leaf = &answer.certificate_chain[0];
    let identity = PeerIdentity::of_leaf(leaf, applicant.trust_domain()).unwrap();
    assert_eq!(identity, PeerIdentity::Instance("alpha".parse().unwrap()));
    assert_eq!(answer.generation, 1);
    assert_eq!(state_of(&federation, "alpha").await, "claimed");
    let channel = applicant.connect_enrolled(&answer).await.unwrap();
    assert_eq!(confirm(channel.clone()).await.unwrap(), "alpha");
    assert_eq!(state_of(&federation, "alpha").await, "confirmed");

    let (_sender, mut stream) = sync(channel).await.unwrap();
    let Some(Answer::Snapshot(snapshot)) = stream.message().await.unwrap().unwrap().message else { panic!("snapshot") };
    let credentials = snapshot.client_credentials.unwrap();
    assert_eq!(credentials.issuer, federation.issuer().unwrap());
    assert_eq!(credentials.client_secret.len(), 43);
    assert!(!snapshot.key_set.is_empty());
}

/// Retry, M13: a lost answer is fetched again with the same keys, also from a broker that was killed in between.
#[tokio::test]
async fn a_lost_answer_is_given_again_to_the_same_key() {
    let mut federation = Federation::start().await.unwrap();
    let (applicant, first) = enrol(&federation, "alpha").await;
    let second = applicant.enrol().await.unwrap();
    assert_eq!(first.certificate_chain, second.certificate_chain);
    federation.kill_broker().await.unwrap();
    federation.serve().await.unwrap();
    let third = applicant.enrol().await.unwrap();
    assert_eq!(first.certificate_chain[0], third.certificate_chain[0]);
    confirm(applicant.connect_enrolled(&third).await.unwrap()).await.unwrap();
    let used_up = applicant.enrol().await.unwrap_err();
    assert_eq!(reason_of(&used_up), "FailedPrecondition/TOKEN_USED_UP");
}

/// Reuse: whoever comes second is refused, and the name is cut off: one of the two is a thief.
#[tokio::test]
async fn a_second_key_is_refused_and_quarantines_the_instance_at_once() {
    let federation = Federation::start().await.unwrap();
    let text = federation.token("alpha", &[]).await.unwrap();
    let (good, thief) = (Applicant::new(&text).unwrap(), Applicant::new(&text).unwrap());
    let answer = good.enrol().await.unwrap();
    let channel = good.connect_enrolled(&answer).await.unwrap();
    let (_sender, mut stream) = sync(channel.clone()).await.unwrap();
    assert!(stream.message().await.unwrap().is_some());

    assert_eq!(reason_of(&thief.enrol().await.unwrap_err()), "PermissionDenied/TOKEN_REUSED");

    // The live stream ends within a second, and every further call is refused.
    let ended = tokio::time::timeout(Duration::from_secs(1), stream.message()).await.expect("it goes on");
    assert_eq!(reason(&ended.unwrap_err()), "PermissionDenied/INSTANCE_QUARANTINED");
    assert_eq!(reason(&confirm(channel).await.unwrap_err()), "PermissionDenied/INSTANCE_QUARANTINED");
    assert_eq!(state_of(&federation, "alpha").await, "quarantined");
    assert!(federation.broker.as_ref().unwrap().log().contains("SECURITY: a join token was used by two agents"));

    // Ops act: a token that replaces the identity ends it.
    let replacement = Applicant::new(&federation.token("alpha", &["--replace"]).await.unwrap()).unwrap();
    let answer = replacement.enrol().await.unwrap();
    confirm(replacement.connect_enrolled(&answer).await.unwrap()).await.unwrap();
    assert_eq!(state_of(&federation, "alpha").await, "confirmed");
}

/// M11: one success under any concurrency.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_keys_at_once_exactly_one_gets_a_certificate() {
    let federation = Federation::start().await.unwrap();
    let text = federation.token("alpha", &[]).await.unwrap();
    let racers = (0..8).map(|_| {
        let applicant = Applicant::new(&text).unwrap();
        tokio::spawn(async move { applicant.enrol().await.map(drop).map_err(|error| reason_of(&error)) })
    });
    let mut results = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        results.push(racer.await.unwrap());
    }
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let refused = results.iter().filter_map(|result| result.as_ref().err());
    assert!(refused.clone().all(|reason| reason == "PermissionDenied/TOKEN_REUSED"), "{results:?}");
}

/// M11, E4: unknown, revoked, altered and foreign tokens get one and the same answer.
#[tokio::test]
async fn bad_tokens_look_alike_to_strangers() {
    let federation = Federation::start().await.unwrap();
    let text = federation.token("alpha", &[]).await.unwrap();
    let other = federation.token("beta", &[]).await.unwrap();
    let mut answers = Vec::new();

    let mut unknown = Applicant::new(&text).unwrap();
    unknown.token.id = [7; 8].into();
    answers.push(unknown.enrol().await.unwrap_err());

    let mut altered = Applicant::new(&text).unwrap();
    altered.token.secret = secrecy::SecretBox::new(Box::new([7; 32]));
    answers.push(altered.enrol().await.unwrap_err());

    let mut foreign = Applicant::new(&text).unwrap();
    foreign.token.secret = Applicant::new(&other).unwrap().token.secret;
    answers.push(foreign.enrol().await.unwrap_err());

    let revoked = Applicant::new(&other).unwrap();
    federation.ops(&["token", "revoke", &revoked.token.id.to_string()]).await.unwrap();
    answers.push(revoked.enrol().await.unwrap_err());

    for answer in &answers {
        let status = answer.downcast_ref::<Status>().unwrap();
        assert_eq!(
            (reason(status), status.message()),
            ("Unauthenticated/TOKEN_INVALID".into(), "the join token is not valid")
        );
    }
    // None of that used the token up.
    Applicant::new(&text).unwrap().enrol().await.unwrap();
}

/// E3: the proof is bound to the connection's leaf, the keys and the request; M9: nothing of a request but its key counts.
#[tokio::test]
async fn everything_is_checked_before_the_token_is_consumed() {
    let federation = Federation::start().await.unwrap();
    let applicant = Applicant::new(&federation.token("alpha", &[]).await.unwrap()).unwrap();
    let (channel, leaf) = applicant.connect().await.unwrap();
    let mut client = EnrolmentServiceClient::new(channel);
    let good = applicant.request(&leaf).unwrap();
    let foreign_leaf = applicant.request(&homeward_certs::pin::SpkiPin::of_spki(b"a machine in the middle")).unwrap();
    let other_key = InstanceKey::generate().unwrap().csr().unwrap();
    let profile = good.profile.clone().unwrap();
    let stolen_callback =
        v1::InstanceProfile { redirect_uris: vec!["https://beta.example/callback".into()], ..profile.clone() };
    let mut broken_csr = good.csr.clone();
    *broken_csr.last_mut().unwrap() ^= 1;

    let table = [
        ("Unauthenticated/TOKEN_INVALID", foreign_leaf),
        ("Unauthenticated/TOKEN_INVALID", v1::EnrolRequest { csr: other_key, ..good.clone() }),
        ("Unauthenticated/TOKEN_INVALID", v1::EnrolRequest { recovery_key: vec![1; 32], ..good.clone() }),
        ("Unauthenticated/TOKEN_INVALID", v1::EnrolRequest { request_id: Uuid::new_v4().into(), ..good.clone() }),
        ("Unauthenticated/TOKEN_INVALID", v1::EnrolRequest { csr: broken_csr, ..good.clone() }),
        (
            "InvalidArgument/RECOVERY_SIGNATURE_INVALID",
            v1::EnrolRequest { recovery_signature: vec![1; 64], ..good.clone() },
        ),
        ("InvalidArgument/FIELD_INVALID", v1::EnrolRequest { request_id: "1".into(), ..good.clone() }),
        ("InvalidArgument/FIELD_INVALID", v1::EnrolRequest { token_id: vec![1; 7], ..good.clone() }),
        ("InvalidArgument/FIELD_INVALID", v1::EnrolRequest { profile: None, ..good.clone() }),
        ("InvalidArgument/PROFILE_INVALID", v1::EnrolRequest { profile: Some(stolen_callback), ..good.clone() }),
    ];
    for (number, (expected, request)) in table.into_iter().enumerate() {
        // One a second from one address, after the first ten.
        if number == 9 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let refused = client.enrol(request).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "row {number}");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = client.enrol(good).await.unwrap().into_inner();
    assert_eq!(CsrPublicKey::from_csr(&applicant.key.csr().unwrap()).unwrap().pin(), applicant.key.pin());
    confirm(applicant.connect_enrolled(&answer).await.unwrap()).await.unwrap();
}

/// M12.
#[tokio::test]
async fn guessing_is_slowed_down() {
    let federation = Federation::start().await.unwrap();
    let applicant = Applicant::new(&federation.token("alpha", &[]).await.unwrap()).unwrap();
    let (channel, leaf) = applicant.connect().await.unwrap();
    let mut client = EnrolmentServiceClient::new(channel);
    let mut answers = Vec::new();
    for _ in 0..30 {
        let guess = v1::EnrolRequest { proof: vec![0; 32], ..applicant.request(&leaf).unwrap() };
        answers.push(reason(&client.enrol(guess).await.unwrap_err()));
    }
    assert!(answers[..10].iter().all(|answer| answer == "Unauthenticated/TOKEN_INVALID"), "{answers:?}");
    let limited = answers.iter().filter(|answer| *answer == "ResourceExhausted/RATE_LIMITED").count();
    assert!(limited >= 15, "{answers:?}");
}

/// M1, M21, M22.
#[tokio::test]
async fn strangers_and_agents_reach_only_what_is_theirs() {
    let federation = Federation::start().await.unwrap();
    let (applicant, answer) = enrol(&federation, "alpha").await;
    let (stranger, _) = applicant.connect().await.unwrap();
    let agent = applicant.connect_enrolled(&answer).await.unwrap();

    let missing = "Unauthenticated/CERTIFICATE_MISSING";
    assert_eq!(reason(&confirm(stranger.clone()).await.unwrap_err()), missing);
    assert_eq!(reason(&sync(stranger.clone()).await.unwrap_err()), missing);
    let open = v1::OpenTicketRequest { ticket: "x".into() };
    assert_eq!(reason(&LoginServiceClient::new(stranger.clone()).open_ticket(open).await.unwrap_err()), missing);
    let renew = EnrolmentServiceClient::new(stranger.clone()).renew(v1::RenewRequest::default()).await;
    assert_eq!(reason(&renew.unwrap_err()), missing);

    for channel in [stranger.clone(), agent.clone()] {
        let list = AdminServiceClient::new(channel).list_instances(v1::ListInstancesRequest::default()).await;
        assert_eq!(reason(&list.unwrap_err()), "PermissionDenied/ROLE_MISSING");
    }
    for path in [
        "/homeward.v1.SyncService//Sync",
        "/homeward.v2.SyncService/Sync",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let mut client = tonic::client::Grpc::new(agent.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<v1::ConfirmRequest, v1::ConfirmResponse>::default();
        let request = tonic::Request::new(v1::ConfirmRequest {});
        let refused = client.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{path}");
    }
}

/// M17.
#[tokio::test]
async fn an_oversized_message_is_refused_and_the_connection_lives_on() {
    let federation = Federation::start().await.unwrap();
    let applicant = Applicant::new(&federation.token("alpha", &[]).await.unwrap()).unwrap();
    let (channel, leaf) = applicant.connect().await.unwrap();
    let mut client = EnrolmentServiceClient::new(channel);
    let good = applicant.request(&leaf).unwrap();
    let refused = client.enrol(v1::EnrolRequest { csr: vec![0; 70_000], ..good.clone() }).await.unwrap_err();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    let many = v1::InstanceProfile {
        redirect_uris: vec!["https://alpha.example/".into(); 9],
        ..good.profile.clone().unwrap()
    };
    let refused = client.enrol(v1::EnrolRequest { profile: Some(many), ..good.clone() }).await.unwrap_err();
    assert_eq!(reason(&refused), "InvalidArgument/PROFILE_INVALID");
    client.enrol(good).await.unwrap();
}

/// M19: who never finishes what he asks is answered by the broker's own clock: a stream that does not begin, and a call.
#[tokio::test]
async fn a_call_without_deadline_ends_all_the_same() {
    let federation = Federation::start().await.unwrap();
    let (applicant, answer) = enrol(&federation, "alpha").await;
    let channel = applicant.connect_enrolled(&answer).await.unwrap();
    let begun = Instant::now();
    let mut stream = SyncServiceClient::new(channel.clone());
    let mut call = tonic::client::Grpc::new(channel.clone());
    call.ready().await.unwrap();
    let unfinished = tokio_stream::pending::<v1::ConfirmRequest>();
    let path = PathAndQuery::from_static("/homeward.v1.EnrolmentService/Confirm");
    let codec = tonic_prost::ProstCodec::<v1::ConfirmRequest, v1::ConfirmResponse>::default();
    let unfinished = tonic::Request::new(unfinished);
    let (no_hello, no_end) = tokio::join!(
        async { (stream.sync(tokio_stream::pending()).await.map(drop), begun.elapsed().as_secs()) },
        async { (call.client_streaming(unfinished, path, codec).await.map(drop), begun.elapsed().as_secs()) },
    );
    assert!((10..14).contains(&no_hello.1) && (30..34).contains(&no_end.1), "{no_hello:?} {no_end:?}");
    assert_eq!(reason(&no_hello.0.unwrap_err()), "InvalidArgument/HELLO_MISSING");
    assert_eq!(no_end.0.unwrap_err().message(), "Timeout expired");
    assert_eq!(confirm(channel).await.unwrap(), "alpha", "the connection lives on");
}

/// A stream begins with Hello, and a newer stream of the same agent ends the older.
#[tokio::test]
async fn of_an_agents_streams_the_newest_lives() {
    let federation = Federation::start().await.unwrap();
    let (applicant, answer) = enrol(&federation, "alpha").await;
    let channel = applicant.connect_enrolled(&answer).await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    sender
        .send(v1::SyncRequest { message: Some(Said::Ack(v1::Ack { revision: 1, ..v1::Ack::default() })) })
        .await
        .unwrap();
    let refused = SyncServiceClient::new(channel.clone()).sync(ReceiverStream::new(receiver)).await.unwrap_err();
    assert_eq!(reason(&refused), "InvalidArgument/HELLO_MISSING");

    let (_first, mut older) = sync(channel.clone()).await.unwrap();
    older.message().await.unwrap().unwrap();
    let (_second, mut newer) = sync(channel).await.unwrap();
    newer.message().await.unwrap().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(2), older.message()).await.unwrap().unwrap_err();
    assert_eq!(reason(&ended), "Aborted/STREAM_SUPERSEDED");
    let shown = federation.ops_json(&["instance", "show", "alpha"]).await.unwrap();
    assert_eq!(shown["online"], true);
}

/// Renewal: a second certificate over a new key; the old one is good until the new one is first used (N1, N2, M15).
#[tokio::test]
async fn a_renewed_certificate_replaces_the_old_one_when_it_is_first_used() {
    // A renewal is refused sooner than a twentieth of the lifetime after the last.
    let federation = Federation::with_settings("[lifetimes]\ninstance_certificate = 20").await.unwrap();
    let (applicant, answer) = enrol(&federation, "alpha").await;
    let old = applicant.connect_enrolled(&answer).await.unwrap();
    confirm(old.clone()).await.unwrap();
    let mut client = EnrolmentServiceClient::new(old.clone());

    let key = InstanceKey::generate().unwrap();
    let request =
        v1::RenewRequest { request_id: Uuid::new_v4().into(), csr: key.csr().unwrap(), ..v1::RenewRequest::default() };
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let same_key = v1::RenewRequest { csr: applicant.key.csr().unwrap(), ..request.clone() };
    assert_eq!(reason(&client.renew(same_key).await.unwrap_err()), "InvalidArgument/KEY_NOT_NEW");
    let renewed = client.renew(request.clone()).await.unwrap().into_inner();
    assert_eq!(renewed.generation, 2);
    // Lost answer: the same request gets the same certificate.
    assert_eq!(client.renew(request).await.unwrap().into_inner().certificate_chain, renewed.certificate_chain);

    confirm(old.clone()).await.unwrap();
    let bundle = renewed.trust_bundle.clone().unwrap();
    let new = applicant.connect_with(&key, renewed.certificate_chain, bundle).await.unwrap();
    confirm(new).await.unwrap();
    assert_eq!(reason(&confirm(old).await.unwrap_err()), "Unauthenticated/CERTIFICATE_REPLACED");
}

/// A name belongs to one instance.
#[tokio::test]
async fn an_enrolled_name_is_taken() {
    let federation = Federation::start().await.unwrap();
    let early = Applicant::new(&federation.token("alpha", &[]).await.unwrap()).unwrap();
    let (applicant, answer) = enrol(&federation, "alpha").await;
    confirm(applicant.connect_enrolled(&answer).await.unwrap()).await.unwrap();
    assert_eq!(reason_of(&early.enrol().await.unwrap_err()), "AlreadyExists/NAME_TAKEN");
    let refused = federation.token("alpha", &[]).await.unwrap_err().to_string();
    assert!(refused.contains("there is an instance alpha already"), "{refused}");
}

/// Who opens connections to the agents' port and says nothing holds up his own network, and no other one.
#[tokio::test]
async fn silent_strangers_keep_no_agent_out() {
    let federation = Federation::start().await.unwrap();
    let token = federation.token("alpha", &[]).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..400 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        silent.push(socket.connect(federation.listener("grpc").unwrap()).await.unwrap());
    }
    let applicant = Applicant::new(&token).unwrap();
    let enrolled = tokio::time::timeout(Duration::from_secs(5), applicant.enrol()).await;
    enrolled.expect("the strangers' handshakes are waited for").unwrap();
}
