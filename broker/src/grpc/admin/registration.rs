//! Relying parties without agent and clients, as the contract writes them.

use homeward_proto::v1;
use tonic::Status;

use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::keys::SigningAlgorithm;
use crate::registry::{Client, ClientPolicyChange, GrantType, Registration, SecurityProfile, Snapshot, SubjectType};

/// A relying party without agent, and how many clients it has.
pub(super) fn registration(registration: &Registration, snapshot: &Snapshot) -> v1::Registration {
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
pub(super) fn client(client: Client<'_>) -> v1::Client {
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

const NO_PROFILE: &str = "none";
const FAPI2: &str = "fapi2";
const PUBLIC: &str = "public";
const PAIRWISE: &str = "pairwise";

/// What ops want to change.
pub(super) fn change(wanted: v1::ClientPolicy) -> Result<ClientPolicyChange, Status> {
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
    })
}
