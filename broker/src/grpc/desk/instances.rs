//! Instances and join tokens.

use std::time::Duration;

use homeward_proto::v1;

use crate::clock::Timestamp;
use crate::grpc::desk::{Seat, lower, refusal};
use crate::web::console::{FreshToken, InstanceRow, InstanceSheet, Refusal, TokenOrder, TokenRow};

/// How long a certificate lives if the settings do not say.
const USUAL_LIFETIME: u64 = 86_400;

impl Seat {
    /// All instances.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn instances(&self) -> Result<Vec<InstanceRow>, Refusal> {
        let late = self.late_after().await?;
        Ok(self.all_instances().await?.iter().map(|instance| self.instance_row(instance, late)).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn instance(&self, name: String) -> Result<InstanceSheet, Refusal> {
        let late = self.late_after().await?;
        let mut client = self.client.clone();
        let found = client.get_instance(self.ask(v1::GetInstanceRequest { name })).await;
        let instance = found.map_err(|status| refusal(&status))?.into_inner().instance.unwrap_or_default();
        let row = self.instance_row(&instance, late);
        Ok(InstanceSheet { row, facts: facts(&instance), trust_problems: instance.trust_problems })
    }

    /// All join tokens, the newest first.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, Refusal> {
        let listed = all_pages!(self, list_join_tokens, ListJoinTokensRequest, join_tokens);
        let rows = listed.into_iter().map(|token| TokenRow {
            state: lower(token.state().as_str_name(), "JOIN_TOKEN_STATE_"),
            usable: token.state() == v1::JoinTokenState::Issued,
            expires: self.moment(token.expire_time.as_ref()),
            id: token.id,
            instance: token.instance,
            creator: token.creator,
            note: token.note,
        });
        Ok(rows.collect())
    }

    pub(super) async fn create_token(&self, order: &TokenOrder) -> Result<FreshToken, Refusal> {
        let lifetime = prost_types::Duration { seconds: i64::from(order.minutes) * 60, nanos: 0 };
        let request = v1::CreateJoinTokenRequest {
            instance: order.instance.clone(),
            lifetime_duration: Some(lifetime),
            note: order.note.clone(),
            replace: order.replace,
        };
        let created = self.client.clone().create_join_token(self.ask(request)).await;
        let created = created.map_err(|status| refusal(&status))?.into_inner();
        let token = created.join_token.unwrap_or_default();
        let expires = self.moment(token.expire_time.as_ref());
        Ok(FreshToken { text: created.text, instance: token.instance, replace: order.replace, expires })
    }

    pub(super) async fn all_instances(&self) -> Result<Vec<v1::Instance>, Refusal> {
        Ok(all_pages!(self, list_instances, ListInstancesRequest, instances))
    }

    pub(super) async fn settings(&self) -> Result<Vec<v1::Setting>, Refusal> {
        let listed = self.client.clone().list_settings(self.ask(v1::ListSettingsRequest {})).await;
        Ok(listed.map_err(|status| refusal(&status))?.into_inner().settings)
    }

    /// A certificate that ends before this was to be renewed long ago: that is done at half its life.
    pub(super) async fn late_after(&self) -> Result<Timestamp, Refusal> {
        let settings = self.settings().await?;
        let lifetime = settings.iter().find(|setting| setting.name == "lifetimes.instance_certificate");
        let lifetime = lifetime.and_then(|setting| setting.value_json.parse::<u64>().ok()).unwrap_or(USUAL_LIFETIME);
        Ok(self.now + Duration::from_secs(lifetime / 4))
    }

    pub(super) fn instance_row(&self, instance: &v1::Instance, late: Timestamp) -> InstanceRow {
        let roles = [(!instance.client_id.is_empty(), "relying party"), (!instance.portal_url.is_empty(), "home")];
        let roles: Vec<&str> = roles.into_iter().filter(|(has, _)| *has).map(|(_, role)| role).collect();
        // What an agent should have is known when it has connected.
        let revision = match (instance.applied_revision, instance.wanted_revision) {
            (_, 0) => "unknown".to_owned(),
            (applied, wanted) if applied == wanted => applied.to_string(),
            (applied, wanted) => format!("{applied} of {wanted}"),
        };
        let ends = instance.certificate_expire_time.as_ref().map(|time| Timestamp::from_secs(time.seconds));
        let problem = Some(&instance.quarantine_reason).filter(|reason| !reason.is_empty());
        InstanceRow {
            name: instance.name.clone(),
            display_name: instance.display_name.clone(),
            state: lower(instance.state().as_str_name(), "INSTANCE_STATE_"),
            active: instance.state() == v1::InstanceState::Confirmed,
            roles: roles.join(", "),
            online: instance.online,
            seen: self.moment(instance.last_seen_time.as_ref()),
            version: instance.agent_version.clone(),
            certificate: self.moment(instance.certificate_expire_time.as_ref()),
            certificate_late: ends.is_some_and(|ends| ends < late),
            revision,
            problem: problem.unwrap_or(&instance.problem).clone(),
        }
    }
}

fn facts(instance: &v1::Instance) -> Vec<(&'static str, String)> {
    let policy = instance.policy.clone().unwrap_or_default();
    let time = |time: Option<&prost_types::Timestamp>| {
        time.map(|time| Timestamp::from_secs(time.seconds).to_string()).unwrap_or_default()
    };
    let or_nothing = |number: u64| if number == 0 { String::new() } else { number.to_string() };
    let facts = [
        ("Address", instance.public_url.clone()),
        ("Enrolled", time(instance.enrol_time.as_ref())),
        ("Certificate", format!("number {}", instance.certificate_generation)),
        ("Certificate ends", time(instance.certificate_expire_time.as_ref())),
        ("Client id", instance.client_id.clone()),
        ("Callbacks", instance.redirect_uris.join(" ")),
        ("Portal", instance.portal_url.clone()),
        ("Finds accounts by", instance.account_key.clone()),
        ("May come back by its recovery key", policy.recovery),
        ("Signing keys that it has acknowledged", instance.acknowledged_key_ids.join(" ")),
        ("Trust bundle that it uses", or_nothing(instance.trust_bundle_version)),
        ("Client secret that it uses", or_nothing(instance.secret_version)),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}
