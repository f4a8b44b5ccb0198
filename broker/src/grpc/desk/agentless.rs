//! Homes and relying parties without agent, and clients.

use std::time::Duration;

use homeward_proto::v1;
use homeward_proto::v1::upstream::Protocol;

use crate::clock::Timestamp;
use crate::grpc::desk::{Seat, refusal};
use crate::web::console::{
    AgentlessSheet, ClientRow, FreshRegistration, Refusal, RegistrationOrder, RegistrationRow, UpstreamRow,
};

impl Seat {
    /// All of them.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn agentless(&self) -> Result<AgentlessSheet, Refusal> {
        let clients = all_pages!(self, list_clients, ListClientsRequest, clients);
        Ok(AgentlessSheet {
            homes: self.upstreams().await?.into_iter().map(|upstream| self.upstream_row(upstream)).collect(),
            relying_parties: self.registrations().await?.into_iter().map(|one| self.registration_row(one)).collect(),
            clients: clients.into_iter().map(client_row).collect(),
        })
    }

    pub(super) async fn upstreams(&self) -> Result<Vec<v1::Upstream>, Refusal> {
        Ok(all_pages!(self, list_upstreams, ListUpstreamsRequest, upstreams))
    }

    pub(super) async fn registrations(&self) -> Result<Vec<v1::Registration>, Refusal> {
        Ok(all_pages!(self, list_registrations, ListRegistrationsRequest, registrations))
    }

    pub(super) async fn open_registration(&self, order: &RegistrationOrder) -> Result<FreshRegistration, Refusal> {
        let lifetime = prost_types::Duration::try_from(Duration::from_secs(u64::from(order.minutes) * 60)).ok();
        let request = v1::OpenRegistrationRequest {
            relying_party: order.name.clone(),
            lifetime_duration: lifetime,
            clients: order.clients,
        };
        let opened = self.client.clone().open_registration(self.ask(request)).await;
        let opened = opened.map_err(|status| refusal(&status))?.into_inner();
        let registration = opened.registration.unwrap_or_default();
        Ok(FreshRegistration {
            until: self.moment(registration.expire_time.as_ref()),
            name: registration.relying_party,
            token: opened.initial_access_token,
            endpoint: opened.registration_endpoint,
            clients: registration.clients_left,
        })
    }

    fn upstream_row(&self, upstream: v1::Upstream) -> UpstreamRow {
        UpstreamRow {
            changed: self.moment(upstream.update_time.as_ref()),
            provider: match upstream.protocol {
                Some(Protocol::Openid(openid)) => openid.issuer,
                Some(Protocol::Oauth(oauth)) => oauth.authorization_url,
                None => String::new(),
            },
            name: upstream.name,
            display_name: upstream.display_name,
            client_id: upstream.client_id,
            problem: upstream.problem,
            setup: upstream.setup_url,
        }
    }

    fn registration_row(&self, one: v1::Registration) -> RegistrationRow {
        let ends = one.expire_time.as_ref().map(|time| Timestamp::from_secs(time.seconds));
        RegistrationRow {
            open: one.clients_left > 0 && ends.is_some_and(|ends| self.now < ends),
            until: self.moment(one.expire_time.as_ref()),
            opened: self.moment(one.create_time.as_ref()),
            name: one.relying_party,
            clients: one.clients,
            left: one.clients_left,
        }
    }
}

fn client_row(client: v1::Client) -> ClientRow {
    let policy = client.policy.unwrap_or_default();
    let is = |wanted: Option<bool>| wanted.unwrap_or_default();
    let demands = [
        (policy.profile.as_deref() == Some("fapi2"), "FAPI 2.0"),
        (is(policy.require_par), "push its requests"),
        (is(policy.require_pkce), "use PKCE"),
        (is(policy.require_dpop), "bind its tokens by DPoP"),
        (policy.subject_type.as_deref() == Some("pairwise"), "know users by subjects of its own"),
    ];
    let demands: Vec<&str> = demands.into_iter().filter(|(is, _)| *is).map(|(_, words)| words).collect();
    ClientRow {
        id: client.client_id,
        relying_party: client.relying_party,
        display_name: client.display_name,
        auth_method: client.auth_method,
        enrolled: client.enrolled,
        must: demands.join(", "),
        may: policy.grant_types.unwrap_or_default().replace(',', ", "),
    }
}
