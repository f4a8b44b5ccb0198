//! Homes without agent: what ops do with them, and how the contract writes them.

use homeward_proto::v1;
use homeward_proto::v1::upstream::Protocol;
use tonic::Status;

use crate::enrolment::UpstreamOrder;
use crate::grpc::admin::page::page;
use crate::grpc::admin::{Service, name};
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_time;
use crate::registry::{OauthDialect, Upstream, UpstreamProtocol};

impl Service {
    pub(super) async fn put(&self, request: v1::PutUpstreamRequest) -> Result<v1::PutUpstreamResponse, Status> {
        let (order, now) = (order(request.upstream.unwrap_or_default())?, self.clock.now());
        let wanted = self.enrolment.judge_upstream(order, &self.issuer, now).await;
        let wanted = wanted.map_err(|error| status::enrolment(&error))?;
        if request.check {
            self.upstreams.check(&wanted, now).await.map_err(|error| status::upstream(&error))?;
        }
        if request.validate_only {
            return Ok(v1::PutUpstreamResponse { upstream: Some(self.upstream(&wanted)) });
        }
        let put = self.enrolment.put_upstream(wanted, now).await.map_err(|error| status::enrolment(&error))?;
        Ok(v1::PutUpstreamResponse { upstream: Some(self.upstream(&put)) })
    }

    pub(super) fn list_of_upstreams(&self, request: &v1::ListUpstreamsRequest) -> v1::ListUpstreamsResponse {
        let snapshot = self.registry.snapshot();
        let shown = snapshot.upstreams().map(|upstream| (upstream.name.to_string(), self.upstream(upstream)));
        let mut all: Vec<_> = shown.collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let (upstreams, next_page_token) = page(all, request.page_size, &request.page_token);
        v1::ListUpstreamsResponse { upstreams, next_page_token }
    }

    /// A home without agent, and what is wrong with it.
    fn upstream(&self, upstream: &Upstream) -> v1::Upstream {
        v1::Upstream {
            name: upstream.name.to_string(),
            display_name: upstream.display_name.clone(),
            protocol: Some(protocol(&upstream.protocol)),
            client_id: upstream.client_id.clone(),
            client_secret: String::new(),
            scopes: upstream.scopes.clone(),
            fields: upstream.fields.clone().into_iter().collect(),
            required: upstream.required.clone().into_iter().collect(),
            callback_url: upstream.callback(&self.issuer),
            setup_url: self.issuer.address(&format!("/upstream/{}/setup", upstream.name)),
            problem: self.registry.reachability.problem(upstream).unwrap_or_default(),
            update_time: Some(wire_time(upstream.updated_at)),
        }
    }
}

fn protocol(protocol: &UpstreamProtocol) -> Protocol {
    match protocol.clone() {
        UpstreamProtocol::OpenId { issuer, discovery_url } => {
            Protocol::Openid(v1::OpenIdUpstream { issuer, discovery_url: discovery_url.unwrap_or_default() })
        }
        UpstreamProtocol::Oauth { authorization_url, token_url, user_url, dialect } => {
            let dialect = dialect.as_str().to_owned();
            Protocol::Oauth(v1::OauthUpstream { authorization_url, token_url, user_url, dialect })
        }
    }
}

/// What ops want.
fn order(wanted: v1::Upstream) -> Result<UpstreamOrder, Status> {
    let invalid = |field| status::refused(Reason::FieldInvalid(field));
    let protocol = match wanted.protocol.ok_or_else(|| invalid("protocol"))? {
        Protocol::Openid(openid) => UpstreamProtocol::OpenId {
            issuer: openid.issuer,
            discovery_url: Some(openid.discovery_url).filter(|url| !url.is_empty()),
        },
        Protocol::Oauth(oauth) => UpstreamProtocol::Oauth {
            authorization_url: oauth.authorization_url,
            token_url: oauth.token_url,
            user_url: oauth.user_url,
            dialect: OauthDialect::named(&oauth.dialect).ok_or_else(|| invalid("dialect"))?,
        },
    };
    Ok(UpstreamOrder {
        name: name(&wanted.name)?,
        display_name: wanted.display_name,
        protocol,
        client_id: wanted.client_id,
        client_secret: Some(wanted.client_secret).filter(|secret| !secret.is_empty()).map(Into::into),
        scopes: wanted.scopes,
        fields: wanted.fields.into_iter().collect(),
        required: wanted.required.into_iter().collect(),
    })
}
