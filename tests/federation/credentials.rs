//! Client credentials over the wire: probes, and keys of applications that authenticate by `private_key_jwt`.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use homeward_proto::v1;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::sync_request::Message as Said;
use homeward_proto::v1::sync_response::Message as Answer;
use homeward_proto::v1::sync_service_client::SyncServiceClient;
use serde_json::{Value, json};
use tonic::Status;
use tonic::transport::Channel;
use world::applicant::reason;
use world::{Applicant, Federation};

/// Enrols with another profile than the usual one.
async fn enrol(
    federation: &Federation,
    name: &str,
    change: impl FnOnce(&mut v1::InstanceProfile),
) -> Result<Channel, Status> {
    let applicant = Applicant::new(&federation.token(name, &[]).await.unwrap()).unwrap();
    let (channel, leaf) = applicant.connect().await.unwrap();
    let mut request = applicant.request(&leaf).unwrap();
    change(request.profile.as_mut().unwrap());
    let answer = EnrolmentServiceClient::new(channel).enrol(request).await?.into_inner();
    Ok(applicant.connect_enrolled(&answer).await.unwrap())
}

/// What the agent is to put into its application.
async fn credentials(channel: &Channel) -> v1::ClientCredentials {
    let hello = v1::SyncRequest { message: Some(Said::Hello(v1::Hello::default())) };
    // The stream stays open until the first answer is there.
    let said = tokio_stream::StreamExt::chain(tokio_stream::once(hello), tokio_stream::pending());
    let mut stream = SyncServiceClient::new(channel.clone()).sync(said).await.unwrap().into_inner();
    let Some(Answer::Snapshot(snapshot)) = stream.message().await.unwrap().unwrap().message else { panic!("snapshot") };
    snapshot.client_credentials.unwrap()
}

/// What the application does with a code at the end of a login.
async fn present(credentials: &v1::ClientCredentials, secret: &str, code: &str) -> (u16, String) {
    let form =
        [("grant_type", "authorization_code"), ("redirect_uri", "https://alpha.example/callback"), ("code", code)];
    let request = reqwest::Client::new().post(format!("{}/token", credentials.issuer)).form(&form);
    let answer = request.basic_auth(&credentials.client_id, Some(secret)).send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["error"].as_str().unwrap_or_default().to_owned())
}

async fn create(channel: &Channel) -> Result<String, Status> {
    let created = SyncServiceClient::new(channel.clone()).create_probe(v1::CreateProbeRequest {}).await?;
    Ok(created.into_inner().code)
}

async fn outcome(channel: &Channel, code: &str) -> Result<(v1::ProbeOutcome, u64), Status> {
    let request = v1::GetProbeRequest { code: code.to_owned() };
    let answer = SyncServiceClient::new(channel.clone()).get_probe(request).await?.into_inner();
    Ok((answer.outcome(), answer.secret_version))
}

/// K: what an agent learns of its application, and of no other.
#[tokio::test]
async fn a_probe_tells_its_agent_how_the_application_authenticates() {
    let federation = Federation::start().await.unwrap();
    let alpha = enrol(&federation, "alpha", |_| {}).await.unwrap();
    let other = |profile: &mut v1::InstanceProfile| profile.redirect_uris.clear();
    let home = enrol(&federation, "home", other).await.unwrap();
    let credentials = credentials(&alpha).await;
    let (right, wrong) = (create(&alpha).await.unwrap(), create(&alpha).await.unwrap());
    assert_eq!(outcome(&alpha, &right).await.unwrap(), (v1::ProbeOutcome::Waiting, 0));
    let answer = present(&credentials, &credentials.client_secret, &right).await;
    assert_eq!(answer, (400, "invalid_grant".to_owned()));
    assert_eq!(present(&credentials, "wrong", &wrong).await, (401, "invalid_client".to_owned()));
    assert_eq!(outcome(&alpha, &right).await.unwrap(), (v1::ProbeOutcome::Authenticated, credentials.secret_version));
    assert_eq!(outcome(&alpha, &wrong).await.unwrap(), (v1::ProbeOutcome::WrongSecret, 0));

    assert_eq!(reason(&outcome(&home, &right).await.unwrap_err()), "NotFound/PROBE_UNKNOWN");
    assert_eq!(reason(&outcome(&alpha, "x").await.unwrap_err()), "InvalidArgument/FIELD_INVALID");
    assert_eq!(reason(&create(&home).await.unwrap_err()), "FailedPrecondition/NO_RELYING_PARTY");
    for _ in 0..4 {
        create(&alpha).await.unwrap();
    }
    assert_eq!(reason(&create(&alpha).await.unwrap_err()), "ResourceExhausted/RATE_LIMITED");
}

fn public_jwk() -> Vec<u8> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let point = key.public_key().as_ref();
    json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])}).to_string().into_bytes()
}

async fn register(channel: &Channel, secret_version: u64, jwk: &[u8]) -> Result<(), String> {
    let request = v1::RegisterClientKeyRequest { secret_version, jwk: jwk.to_vec() };
    let registered = SyncServiceClient::new(channel.clone()).register_client_key(request).await;
    registered.map(drop).map_err(|status| reason(&status))
}

#[tokio::test]
async fn an_application_with_a_key_of_its_own_enrols_and_turns_it() {
    let federation = Federation::start().await.unwrap();
    let by_key = v1::ClientAuthMethod::PrivateKeyJwt.into();
    for (jwk, refusal) in [
        (Vec::new(), "InvalidArgument/PROFILE_INVALID"),
        (br#"{"kty":"EC","crv":"P-256","x":"","y":"","d":"x"}"#.to_vec(), "InvalidArgument/FIELD_INVALID"),
        (br#"{"kty":"oct","k":"x"}"#.to_vec(), "InvalidArgument/FIELD_INVALID"),
    ] {
        let change = |profile: &mut v1::InstanceProfile| {
            (profile.client_auth_method, profile.client_key) = (by_key, jwk);
        };
        let refused = enrol(&federation, "alpha", change).await.unwrap_err();
        assert_eq!(reason(&refused), refusal);
    }
    let (first, second) = (public_jwk(), public_jwk());
    let change = |profile: &mut v1::InstanceProfile| {
        (profile.client_auth_method, profile.client_key) = (by_key, first.clone());
    };
    let alpha = enrol(&federation, "alpha", change).await.unwrap();
    let before = credentials(&alpha).await;
    assert_eq!((before.client_secret.as_str(), before.secret_version), ("", 1));
    register(&alpha, 1, &first).await.unwrap();
    assert_eq!(register(&alpha, 2, &second).await, Err("FailedPrecondition/CLIENT_KEY_NOT_WANTED".into()));

    federation.ops(&["secret", "rotate", "--instance", "alpha"]).await.unwrap();
    let wanted = credentials(&alpha).await.secret_version;
    assert!(wanted > before.secret_version);
    assert_eq!(register(&alpha, wanted, &first).await, Err("FailedPrecondition/CLIENT_KEY_NOT_NEW".into()));
    assert_eq!(register(&alpha, wanted, b"{}").await, Err("InvalidArgument/FIELD_INVALID".into()));
    register(&alpha, wanted, &second).await.unwrap();
    register(&alpha, wanted, &second).await.unwrap();
    assert_eq!(register(&alpha, wanted, &public_jwk()).await, Err("FailedPrecondition/CLIENT_KEY_NOT_WANTED".into()));
}
