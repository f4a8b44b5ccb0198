//! Relying parties without agent and clients: what ops do with them, and how the contract writes them.

use std::time::Duration;

use homeward_proto::v1;
use secrecy::ExposeSecret as _;
use tonic::Status;

use crate::audit::{Event, Kind};
use crate::enrolment::RegistrationOrder;
use crate::grpc::admin::page::page;
use crate::grpc::admin::{Service, name};
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::keys::SigningAlgorithm;
use crate::registry::{
    AccountKey, Client, ClientPolicyChange, GrantType, Registration, SecurityProfile, Snapshot, SubjectType,
};

/// How long an initial access token lives if nobody says otherwise.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

const NO_PROFILE: &str = "none";
const FAPI2: &str = "fapi2";
const PUBLIC: &str = "public";
const PAIRWISE: &str = "pairwise";

impl Service {
    pub(super) async fn open(
        &self,
        request: v1::OpenRegistrationRequest,
    ) -> Result<v1::OpenRegistrationResponse, Status> {
        let lifetime = request.lifetime_duration.map(Duration::try_from).transpose();
        let lifetime = lifetime.map_err(|_| status::refused(Reason::FieldInvalid("lifetime_duration")))?;
        let order = RegistrationOrder {
            name: name(&request.relying_party)?,
            lifetime: lifetime.unwrap_or(LIFETIME),
            clients: request.clients.max(1),
        };
        let opened = self.enrolment.open_registration(order, self.clock.now()).await;
        let (token, opened) = opened.map_err(|error| status::enrolment(&error))?;
        Ok(v1::OpenRegistrationResponse {
            registration: Some(registration(&opened, &self.registry.snapshot())),
            initial_access_token: token.expose_secret().to_owned(),
            registration_endpoint: self.issuer.address("/register"),
        })
    }

    pub(super) fn registrations(&self, request: &v1::ListRegistrationsRequest) -> v1::ListRegistrationsResponse {
        let snapshot = self.registry.snapshot();
        let shown = snapshot.registrations().map(|one| (one.name.to_string(), registration(one, &snapshot)));
        let mut all: Vec<_> = shown.collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (registrations, next_page_token) = page(all, request.page_size, &request.page_token);
        v1::ListRegistrationsResponse { registrations, next_page_token }
    }

    pub(super) async fn close(
        &self,
        request: &v1::CloseRegistrationRequest,
    ) -> Result<v1::CloseRegistrationResponse, Status> {
        let closed = self.enrolment.close_registration(&name(&request.relying_party)?).await;
        let closed = closed.map_err(|error| status::enrolment(&error))?;
        Ok(v1::CloseRegistrationResponse { clients_removed: u32::try_from(closed.clients).unwrap_or(u32::MAX) })
    }

    pub(super) fn clients(&self, request: &v1::ListClientsRequest) -> v1::ListClientsResponse {
        let snapshot = self.registry.snapshot();
        // The console's is the broker's own: nobody manages it.
        let own = snapshot.console().map(|console| &console.relying_party.client_id);
        let managed = snapshot.clients().filter(|client| Some(&client.relying_party.client_id) != own);
        let shown = managed.map(client);
        let mut all: Vec<_> = shown.map(|client| (client.client_id.clone(), client)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (clients, next_page_token) = page(all, request.page_size, &request.page_token);
        v1::ListClientsResponse { clients, next_page_token }
    }

    pub(super) async fn change_client(
        &self,
        request: v1::SetClientPolicyRequest,
    ) -> Result<v1::SetClientPolicyResponse, Status> {
        let change = change(request.policy.unwrap_or_default())?;
        let changed = self.registry.set_client_policy(&request.client, &change).await;
        let id = changed.map_err(|error| status::client_policy(&error))?;
        self.audit.note(Event::new(Kind::ClientPolicyChanged).client(&id));
        let snapshot = self.registry.snapshot();
        let found = snapshot.client_named(id.as_str()).map_err(|error| status::client_policy(&error))?;
        Ok(v1::SetClientPolicyResponse { client: Some(client(found)) })
    }
}

/// A relying party without agent, and how many clients it has.
fn registration(registration: &Registration, snapshot: &Snapshot) -> v1::Registration {
    let clients = snapshot.clients().filter(|client| !client.enrolled && *client.name == registration.name).count();
    v1::Registration {
        relying_party: registration.name.to_string(),
        create_time: Some(wire_time(registration.opened_at)),
        expire_time: Some(wire_time(registration.expires_at)),
        clients_left: registration.clients_left,
        clients: u32::try_from(clients).unwrap_or(u32::MAX),
    }
}

/// A client.
fn client(client: Client<'_>) -> v1::Client {
    let (party, policy) = (client.relying_party, &client.relying_party.policy);
    let grant_types: Vec<&str> = policy.grant_types.iter().map(|kind| kind.as_str()).collect();
    let policy = v1::ClientPolicy {
        profile: Some(if policy.is_fapi2() { FAPI2 } else { NO_PROFILE }.to_owned()),
        require_par: Some(policy.require_par),
        require_pkce: Some(party.pkce_required),
        require_dpop: Some(policy.require_dpop),
        grant_types: Some(grant_types.join(",")),
        subject_type: Some(if policy.subject_type == SubjectType::Public { PUBLIC } else { PAIRWISE }.to_owned()),
        id_token_alg: Some(party.id_token_alg.as_str().to_owned()),
        claims_in_id_token: Some(policy.claims_in_id_token),
        account_key: Some(policy.account_key.as_str().to_owned()),
    };
    v1::Client {
        client_id: party.client_id.to_string(),
        relying_party: client.name.to_string(),
        display_name: client.display_name.to_owned(),
        auth_method: party.auth_method.as_str().to_owned(),
        enrolled: client.enrolled,
        policy: Some(policy),
    }
}

/// What ops want to change.
fn change(wanted: v1::ClientPolicy) -> Result<ClientPolicyChange, Status> {
    let invalid = |field| status::refused(Reason::FieldInvalid(field));
    let profile = wanted.profile.map(|profile| match profile.as_str() {
        NO_PROFILE => Ok(SecurityProfile::Plain),
        FAPI2 => Ok(SecurityProfile::Fapi2),
        _ => Err(invalid("profile")),
    });
    let grant_types = wanted.grant_types.map(|named| {
        let named = named.split(',').map(str::trim).filter(|name| !name.is_empty());
        named.map(GrantType::named).collect::<Option<Vec<_>>>().ok_or_else(|| invalid("grant_types"))
    });
    let pairwise = wanted.subject_type.map(|kind| match kind.as_str() {
        PUBLIC => Ok(false),
        PAIRWISE => Ok(true),
        _ => Err(invalid("subject_type")),
    });
    let account_key = wanted.account_key.map(|key| AccountKey::named(&key).ok_or_else(|| invalid("account_key")));
    let id_token_alg = wanted.id_token_alg.map(|alg| {
        let known = [SigningAlgorithm::Rs256, SigningAlgorithm::Es256].into_iter().find(|known| known.as_str() == alg);
        known.ok_or_else(|| invalid("id_token_alg"))
    });
    Ok(ClientPolicyChange {
        profile: profile.transpose()?,
        require_par: wanted.require_par,
        require_pkce: wanted.require_pkce,
        require_dpop: wanted.require_dpop,
        grant_types: grant_types.transpose()?,
        pairwise: pairwise.transpose()?,
        id_token_alg: id_token_alg.transpose()?,
        claims_in_id_token: wanted.claims_in_id_token,
        account_key: account_key.transpose()?,
    })
}
