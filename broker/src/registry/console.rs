//! The web console as a relying party: of the broker itself, and therefore in no table.
//!
//! Ops allow a trust edge `console accepts alpha` as they allow any other. Whom its group map gives the group `ops` by name
//! is let in; `*=*` gives it to nobody, because a home's own groups are called what its users please.

use homeward_certs::identity::InstanceName;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::config::Issuer;
use crate::keys::SigningAlgorithm;
use crate::registry::{
    Client, ClientAuthMethod, ClientCredential, ClientId, ClientPages, ClientPolicy, ClientPolicyChange, GrantType,
    GroupMapping, InstanceId, LogoutAddresses, RegisteredClient, RelyingParty, SigningKeyChoice, Snapshot, TrustEdge,
    VerifiedIdentity,
};
use crate::secret::SecretHash;

/// Its name, which nobody else gets.
pub const CONSOLE: &str = "console";

/// Its client id.
const CLIENT_ID: &str = "homeward-console";

/// The group that lets a user in.
const OPS: &str = "ops";

/// Where the browser comes back from its login, below the issuer.
pub const CONSOLE_RETURN: &str = "/console/return";

/// The client that the console is, below this issuer. A name that cannot be made is none that anybody could have.
pub(super) fn client_below(issuer: &Issuer) -> Option<RegisteredClient> {
    let name: InstanceName = CONSOLE.parse().ok()?;
    let policy = ClientPolicy { grant_types: [GrantType::AuthorizationCode].into(), ..ClientPolicy::default() };
    Some(RegisteredClient {
        name,
        display_name: "Homeward console".to_owned(),
        public_url: issuer.as_str().trim_end_matches('/').to_owned(),
        relying_party: RelyingParty {
            client_id: ClientId::of_key(CLIENT_ID),
            credential: ClientCredential::Nothing,
            next_credential: None,
            last_credential_version: 0,
            credential_at: None,
            signing_key_choice: SigningKeyChoice::default(),
            redirect_uris: vec![issuer.address(CONSOLE_RETURN)],
            // Its code is redeemed within the broker; the verifier ties it to the browser that asked for it.
            auth_method: ClientAuthMethod::None,
            id_token_alg: SigningAlgorithm::Rs256,
            pkce_required: true,
            policy,
            logout: LogoutAddresses::default(),
            keys: None,
            request_uris: Vec::new(),
            pages: ClientPages::default(),
        },
        // No text has an empty hash: nobody changes it by RFC 7592.
        registration_token: SecretHash::of_nothing(),
        metadata: Value::Null,
        registered_at: Timestamp::from_secs(0),
        word_of_ops: ClientPolicyChange::default(),
    })
}

impl Snapshot {
    /// The console, unless an instance or a relying party without agent had its name before there was one: what was
    /// allowed to that lets nobody in here.
    pub fn console(&self) -> Option<Client<'_>> {
        let own = self.own_client()?;
        let taken = self.instance(&own.name).is_some() || self.registration(&own.name).is_some();
        (!taken).then(|| Client::of_registered(own))
    }

    /// Whether a user of this very installation is one of ops now: it may vouch to the console, and the edge makes one of him.
    pub fn makes_ops(&self, home: &InstanceName, home_id: InstanceId, identity: &VerifiedIdentity) -> bool {
        let edge = self.console().and_then(|console| self.vouching(console.name, home, home_id));
        edge.is_some_and(|(_, edge)| edge.makes_ops(identity))
    }
}

impl TrustEdge {
    /// Whether the edge makes a user one of ops, if it is one of the console.
    fn makes_ops(&self, identity: &VerifiedIdentity) -> bool {
        self.groups.mappings().any(|mapping| match mapping {
            GroupMapping::Named { home, relying_party } => relying_party == OPS && identity.groups.contains(&home),
            GroupMapping::Others => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{AssertedIdentity, GroupMap, TrustEdgeId};

    fn edge(groups: &[&str]) -> TrustEdge {
        let id = TrustEdgeId { relying_party: CONSOLE.parse().unwrap(), home: "alpha".parse().unwrap() };
        let groups = GroupMap::of(groups.iter().map(|line| line.parse().unwrap())).unwrap();
        TrustEdge { groups, ..TrustEdge::new(id, Timestamp::from_secs(0)).unwrap() }
    }

    fn member_of(groups: &[&str]) -> VerifiedIdentity {
        let asserted = AssertedIdentity {
            home_user_id: "1".into(),
            username: "alice".into(),
            name: String::new(),
            given_name: String::new(),
            family_name: String::new(),
            email: String::new(),
            email_verified: false,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            auth_time: None,
            amr: Vec::new(),
            acr: None,
            attributes: std::collections::BTreeMap::default(),
            name_is_held: false,
        };
        asserted.verify(Timestamp::from_secs(0)).unwrap()
    }

    #[test]
    fn only_a_group_that_the_edge_names_makes_ops() {
        for (map, groups, expected) in [
            (&["admins=ops"][..], &["admins"][..], true),
            (&["admins=ops", "*=*"], &["staff", "admins"], true),
            (&["admins=ops"], &["staff"], false),
            (&["admins=ops"], &["ops"], false),
            // What a home calls its groups is its users' choice.
            (&["*=*"], &["ops"], false),
            (&["admins=staff"], &["admins"], false),
            (&[], &["ops", "admins"], false),
        ] {
            assert_eq!(edge(map).makes_ops(&member_of(groups)), expected, "{map:?} {groups:?}");
        }
        let first_release = TrustEdge { groups: GroupMap::everything(), ..edge(&[]) };
        assert!(!first_release.makes_ops(&member_of(&["ops"])));
    }
}
