//! From a join token to an identity:
//!
//! 1. make the instance key, the recovery key (with private_key_jwt, also the application's) and the request id, and keep
//!    them on disk **before** the first byte is sent: a crash or a lost answer is followed by the same request, which the
//!    broker answers the same;
//! 2. dial the broker and judge it by the token's pins: whoever else is there gets nothing;
//! 3. prove to know the token's secret, over both keys and the broker's certificate of this very connection; the secret
//!    itself stays here;
//! 4. check that the answer certifies our key and our name, and keep it;
//! 5. say [`confirm`](EnrolmentServiceClient::confirm) with the new certificate, so that the operator sees it work.

pub mod error;

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::TrustBundle;
use homeward_certs::csr::InstanceKey;
use homeward_certs::join_token::{JoinToken, JoinTokenId};
use homeward_certs::pin::SpkiPin;
use homeward_certs::proof::{EnrolmentTranscript, ProofKey};
use homeward_certs::recovery::RecoveryKey;
use homeward_certs::tls::enrolment_config;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use homeward_proto::v1::{
    AccountKey, ClientAuthMethod, ConfirmRequest, EnrolRequest, EnrolResponse, InstanceProfile, SigningAlgorithm,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tonic::Status;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::error::{EnrolmentError, judge};
use crate::apply::client_key::ClientKeys;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::connection::{Address, Broker, DialError};
use crate::contact::LastContact;
use crate::disk::PrivateDir;
use crate::identity::{Certificate, Identity, Record, SecretBytes};
use crate::recipe::{AppPath, relying_party};
use crate::resources::applied::Applied;
use crate::{clock, random, refusal};

/// What is kept of an enrolment that is under way.
const FILE: &str = "enrolment.json";
/// How long a broker that is down is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// For one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A clock that is further off than this is worth a word.
const TOLERATED_SKEW: Duration = Duration::from_secs(60);

/// Whether an identity that is there already may be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays: enrolling again is an error.
    Keep,
    /// The new one takes its place.
    Replace,
}

/// How an enrolment ended.
#[derive(Debug)]
pub struct Enrolled {
    /// Who the instance is now.
    pub identity: Identity,
    /// How far this machine's clock is from the broker's (positive: ahead), if that is worth a word.
    pub clock_skew: Option<time::Duration>,
}

/// What is kept while an enrolment is under way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    token_id: String,
    request_id: Uuid,
    key: SecretBytes,
    recovery_key: SecretBytes,
}

/// Enrols the instance. `progress` is told what is waited for.
pub async fn enrol(
    config: &Config,
    token: &JoinToken,
    existing: Existing,
    progress: impl Fn(&str),
) -> Result<Enrolled, EnrolmentError> {
    let data = PrivateDir::open(&config.data_dir)?;
    // An agent that runs with the old identity must not meet the new one half way.
    let _lock = data.lock()?;
    let pending = data.load::<Pending>(FILE)?.filter(|pending| pending.token_id == token.id.to_string());
    if let Some(identity) = Identity::load(data.clone())? {
        match (&pending, existing) {
            // Interrupted between certificate and confirmation.
            (Some(_), _) if identity.key_pin() == pending.as_ref().and_then(Pending::key_pin) => {
                return finish(&data, identity, None).await;
            }
            (_, Existing::Keep) => return Err(EnrolmentError::AlreadyEnrolled(identity.instance())),
            (_, Existing::Replace) => {}
        }
    }
    let pending = match pending {
        Some(pending) => pending,
        None => Pending::begin(&data, token.id)?,
    };
    let answer = ask_patiently(config, token, &pending, progress).await?;
    let now = clock::now();
    let skew = answer.server_time.as_ref().and_then(clock::from_timestamp).map(|server| now - server);
    let record = accept(token, &pending, answer, now)?;
    Applied::forget(&data)?;
    LastContact::forget(&data)?;
    ClientKeys::open(data.clone()).enrolled()?;
    let identity = Identity::store(data.clone(), record)?;
    finish(&data, identity, skew.filter(|skew| skew.unsigned_abs() > TOLERATED_SKEW)).await
}

async fn finish(
    data: &PrivateDir,
    identity: Identity,
    clock_skew: Option<time::Duration>,
) -> Result<Enrolled, EnrolmentError> {
    let identity = Arc::new(identity);
    let channel = Broker::new(identity.clone())?.connect().await?;
    let confirm = async { EnrolmentServiceClient::new(channel).confirm(ConfirmRequest {}).await };
    match tokio::time::timeout(CALL_TIMEOUT, confirm).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => return Err(EnrolmentError::NotConfirmed(status.message().to_owned())),
        Err(_) => return Err(EnrolmentError::NotConfirmed("no answer".to_owned())),
    }
    data.remove(FILE)?;
    let identity = Arc::into_inner(identity).ok_or(EnrolmentError::Incomplete)?;
    Ok(Enrolled { identity, clock_skew })
}

impl Pending {
    fn begin(data: &PrivateDir, token: JoinTokenId) -> Result<Self, EnrolmentError> {
        let recovery_key = Zeroizing::new(RecoveryKey::generate()?.to_pkcs8().to_vec());
        let pending = Self {
            token_id: token.to_string(),
            request_id: Uuid::new_v4(),
            key: SecretBytes(InstanceKey::generate()?.to_pkcs8()),
            recovery_key: SecretBytes(recovery_key),
        };
        data.store(FILE, &pending)?;
        Ok(pending)
    }

    fn key_pin(&self) -> Option<SpkiPin> {
        InstanceKey::from_pkcs8(&self.key.0).ok().map(|key| key.pin())
    }
}

/// Waits for a broker that is down or busy; everything else ends it.
async fn ask_patiently(
    config: &Config,
    token: &JoinToken,
    pending: &Pending,
    progress: impl Fn(&str),
) -> Result<EnrolResponse, EnrolmentError> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    let mut waited = Duration::ZERO;
    loop {
        let error = match ask(config, token, pending).await {
            Ok(answer) => return Ok(answer),
            Err(Attempt::Dial(error)) if error.is_temporary() => EnrolmentError::from(error),
            Err(Attempt::Refused(status)) if refusal::is_temporary(&status) => judge(&status, token),
            Err(Attempt::Dial(error)) => return Err(error.into()),
            Err(Attempt::Refused(status)) => return Err(judge(&status, token)),
            Err(Attempt::Failed(error)) => return Err(error),
        };
        let pause = backoff.next(random::fraction());
        if waited + pause > PATIENCE {
            return Err(error);
        }
        progress(&format!("{error}; trying again in {:.0} s", pause.as_secs_f64().ceil()));
        tokio::time::sleep(pause).await;
        waited += pause;
    }
}

/// How one attempt failed.
enum Attempt {
    Dial(DialError),
    Refused(Status),
    Failed(EnrolmentError),
}

impl<E: Into<EnrolmentError>> From<E> for Attempt {
    fn from(error: E) -> Self {
        match error.into() {
            EnrolmentError::Dial(error) => Self::Dial(error),
            error => Self::Failed(error),
        }
    }
}

async fn ask(config: &Config, token: &JoinToken, pending: &Pending) -> Result<EnrolResponse, Attempt> {
    let clock = Arc::new(rustls::time_provider::DefaultTimeProvider);
    let tls = enrolment_config(token.pins.clone(), token.trust_domain.clone(), clock).map_err(DialError::from)?;
    let address = Address::parse(&token.agent_url)?;
    let stream = address.dial(Arc::new(tls)).await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let leaf = leaf.and_then(|leaf| SpkiPin::of_certificate(leaf)).ok_or(EnrolmentError::Incomplete)?;
    let mut request = request(config, token, pending, &leaf)?;
    if let Some(profile) = &mut request.profile
        && profile.client_auth_method() == ClientAuthMethod::PrivateKeyJwt
    {
        let keys = ClientKeys::open(PrivateDir::open(&config.data_dir)?);
        profile.client_key = keys.for_enrolment()?.public_jwk().to_string().into_bytes();
    }
    let channel = address.channel(stream).await?;
    let call = async { EnrolmentServiceClient::new(channel).enrol(request).await };
    let timed_out = |_| Attempt::Refused(Status::deadline_exceeded("no answer"));
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(timed_out)?;
    answer.map(tonic::Response::into_inner).map_err(Attempt::Refused)
}

fn request(
    config: &Config,
    token: &JoinToken,
    pending: &Pending,
    broker_leaf: &SpkiPin,
) -> Result<EnrolRequest, EnrolmentError> {
    let key = InstanceKey::from_pkcs8(&pending.key.0)?;
    let recovery = RecoveryKey::from_pkcs8(&pending.recovery_key.0)?;
    let transcript =
        EnrolmentTranscript::new(&key.pin(), &recovery.public(), broker_leaf, pending.request_id.as_bytes());
    Ok(EnrolRequest {
        token_id: token.id.as_bytes().to_vec(),
        request_id: pending.request_id.to_string(),
        csr: key.csr()?,
        recovery_key: recovery.public().as_bytes().to_vec(),
        proof: ProofKey::derive(&token.secret)?.prove(&transcript),
        recovery_signature: recovery.sign(transcript.as_bytes()),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        profile: Some(profile(config)),
    })
}

/// What the broker registers. Fixed from here on.
pub(crate) fn profile(config: &Config) -> InstanceProfile {
    let origin = config.public_url.origin();
    let role = config.relying_party.as_ref().and(config.recipe.relying_party.as_ref());
    let callbacks = role.map(|role| role.callback_paths.as_slice()).unwrap_or_default();
    let auth_method = match role.map(|role| role.client_auth_method) {
        Some(relying_party::ClientAuthMethod::ClientSecretBasic) => ClientAuthMethod::Basic,
        Some(relying_party::ClientAuthMethod::ClientSecretPost) => ClientAuthMethod::Post,
        Some(relying_party::ClientAuthMethod::ClientSecretJwt) => ClientAuthMethod::SecretJwt,
        Some(relying_party::ClientAuthMethod::PrivateKeyJwt) => ClientAuthMethod::PrivateKeyJwt,
        Some(relying_party::ClientAuthMethod::Tls) => ClientAuthMethod::Tls,
        None => ClientAuthMethod::Unspecified,
    };
    let algorithm = match role.map(|role| role.id_token_alg) {
        Some(relying_party::IdTokenAlg::Rs256) => SigningAlgorithm::Rs256,
        Some(relying_party::IdTokenAlg::Es256) => SigningAlgorithm::Es256,
        None => SigningAlgorithm::Unspecified,
    };
    let account_key = match role.map(|role| role.account_key) {
        Some(relying_party::AccountKey::Subject) => AccountKey::Subject,
        Some(relying_party::AccountKey::Email) => AccountKey::Email,
        Some(relying_party::AccountKey::Username) => AccountKey::Username,
        None => AccountKey::Unspecified,
    };
    let address = |path: &AppPath| format!("{origin}{path}");
    let of_gate = config.gate.as_ref().map(|_| config.gate_callback_url());
    let optional = |path: Option<&AppPath>| path.map(address).unwrap_or_default();
    let after_logout = role.map(|role| role.post_logout_paths.as_slice()).unwrap_or_default();
    InstanceProfile {
        display_name: config.display_name.clone(),
        redirect_uris: callbacks.iter().map(|callback| format!("{origin}{callback}")).chain(of_gate).collect(),
        portal_url: if config.home.is_some() { config.portal_url() } else { String::new() },
        client_auth_method: auth_method.into(),
        id_token_alg: algorithm.into(),
        pkce: role.is_some_and(|role| role.pkce),
        client_key: Vec::new(),
        backchannel_logout_uri: optional(role.and_then(|role| role.backchannel_logout_path.as_ref())),
        frontchannel_logout_uri: optional(role.and_then(|role| role.frontchannel_logout_path.as_ref())),
        post_logout_redirect_uris: after_logout.iter().map(address).collect(),
        initiate_login_uri: optional(role.and_then(|role| role.initiate_login_path.as_ref())),
        account_key: account_key.into(),
        public_url: origin,
    }
}

fn accept(
    token: &JoinToken,
    pending: &Pending,
    answer: EnrolResponse,
    now: OffsetDateTime,
) -> Result<Record, EnrolmentError> {
    let key = InstanceKey::from_pkcs8(&pending.key.0)?;
    let bundle = answer.trust_bundle.ok_or(EnrolmentError::Incomplete)?;
    let name = (&token.instance, &token.trust_domain);
    Ok(Record {
        instance: token.instance.clone(),
        trust_domain: token.trust_domain.clone(),
        agent_url: token.agent_url.clone(),
        issuer: answer.issuer,
        recovery_key: pending.recovery_key.clone(),
        certificate: Certificate::accept(answer.certificate_chain, answer.generation, &key, name, now)?,
        bundle: TrustBundle::new(bundle.version, bundle.certificates)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::RawConfig;
    use crate::disk;

    #[test]
    fn keys_and_request_id_are_on_disk_before_anything_is_sent() {
        let parent = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(&parent.path().join("data")).unwrap();
        let begun = Pending::begin(&data, [7; 8].into()).unwrap();
        let kept: Pending = data.load(FILE).unwrap().unwrap();
        assert_eq!(kept.request_id, begun.request_id);
        assert_eq!(kept.key_pin(), begun.key_pin());
        assert!(kept.key_pin().is_some());
        assert!(!format!("{kept:?}").contains("MI"), "keys are never printed");
    }

    #[test]
    fn the_profile_says_what_configuration_and_recipe_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/agent.toml");
        let config = Config::load(std::path::Path::new(path)).unwrap();
        let profile = profile(&config);
        assert_eq!(profile.public_url, "https://alpha.example.org");
        assert_eq!(profile.redirect_uris, ["https://alpha.example.org/accounts/oidc/homeward/login/callback/"]);
        assert_eq!(profile.portal_url, "https://alpha.example.org/homeward/login");
        assert!(profile.pkce);
        assert_eq!(profile.backchannel_logout_uri, "", "django-allauth has none");
    }

    #[test]
    fn addresses_for_logouts_are_below_the_public_url() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("site.toml");
        disk::replace_private(&recipe, include_bytes!("../../../tests/world/site.toml")).unwrap();
        let text = format!(
            "public_url = 'https://beta.example'\ndata_dir = '/var/lib/agent'\nrecipe_file = '{}'\n\
             [app]\nurl = 'http://127.0.0.1:1'\n[relying_party]\ncredentials_dir = '/var/lib/credentials'\n",
            recipe.display()
        );
        let profile = profile(&Config::try_from(toml::from_str::<RawConfig>(&text).unwrap()).unwrap());
        assert_eq!(profile.backchannel_logout_uri, "https://beta.example/backchannel-logout");
        assert_eq!(profile.frontchannel_logout_uri, "https://beta.example/frontchannel-logout");
        assert_eq!(profile.post_logout_redirect_uris, ["https://beta.example/signed-out"]);
        assert_eq!(profile.initiate_login_uri, "https://beta.example/initiate-login");
    }
}
