//! Relying parties without agent: opened, opened again and closed by ops.

use crate::registry::{GrantType, RegisteredClient, RelyingParty};
use crate::secret::SecretHash;

use super::*;

fn order(name: &str) -> RegistrationOrder {
    RegistrationOrder { name: name.parse().unwrap(), lifetime: HOUR, clients: 2 }
}

impl World {
    async fn open(&self, name: &str) -> Result<String, EnrolmentError> {
        let (token, _) = self.enrolment.open_registration(order(name), self.now()).await?;
        Ok(token.expose_secret().to_owned())
    }

    /// A client that was registered by this token.
    async fn register(&self, name: &str, token: &str) -> Result<ClientId, crate::registry::RegistrationError> {
        let name: InstanceName = name.parse().unwrap();
        let client_id = ClientId::generate(&name);
        let relying_party: RelyingParty = serde_json::from_value(serde_json::json!({
            "client_id": client_id, "secret": null, "redirect_uris": [], "auth_method": "none",
            "id_token_alg": "RS256", "pkce_required": true,
        }))
        .unwrap();
        let client = RegisteredClient {
            name,
            display_name: String::new(),
            public_url: String::new(),
            relying_party,
            registration_token: SecretHash::of("hwm_x"),
            metadata: serde_json::Value::Null,
            registered_at: self.now(),
            word_of_ops: Default::default(),
        };
        self.registry.add_client(&client, token, self.now()).await?;
        Ok(client_id)
    }
}

#[tokio::test]
async fn an_opened_relying_party_has_a_token_that_is_not_kept() {
    let world = World::new().await;
    let token = world.open("shop").await.unwrap();
    assert!(token.starts_with("hwi_") && token.len() == 47);
    let snapshot = world.registry.snapshot();
    let stored = snapshot.registration(&"shop".parse().unwrap()).unwrap();
    assert!(stored.admits(&token, world.now()) && !format!("{stored:?}").contains(&token[4..]));
    assert!(!stored.admits("hwi_x", world.now()) && !stored.admits(&token, world.now() + HOUR));
}

#[tokio::test]
async fn opened_again_it_has_another_token_and_keeps_its_clients() {
    let world = World::new().await;
    let old = world.open("shop").await.unwrap();
    let client = world.register("shop", &old).await.unwrap();
    let new = world.open("shop").await.unwrap();
    assert!(world.register("shop", &old).await.is_err());
    assert!(world.register("other", &new).await.is_err());
    world.register("shop", &new).await.unwrap();
    assert!(world.registry.snapshot().registered(client.as_str()).is_some());
}

#[tokio::test]
async fn a_name_is_an_instances_or_a_relying_partys_without_agent() {
    let world = World::new().await;
    world.enrol("alpha").await;
    assert_eq!(refused(world.open("alpha").await), "NameEnrolled(InstanceName(\"alpha\"))");
    let token = world.token("beta", false).await;
    assert_eq!(refused(world.open("beta").await), "NameExpected(InstanceName(\"beta\"))");
    world.enrolment.revoke_token(token.id).await.unwrap();
    world.open("beta").await.unwrap();
    let (instance, lifetime) = ("beta".parse().unwrap(), HOUR);
    let order = JoinTokenOrder { instance, lifetime, replace: true, creator: String::new(), note: String::new() };
    let refusal = world.enrolment.create_token(order, world.now()).await;
    assert_eq!(refused(refusal), "NameRegistered(InstanceName(\"beta\"))");
    // A token that has expired keeps no name.
    world.token("gamma", false).await;
    world.time.advance(HOUR);
    world.open("gamma").await.unwrap();
}

#[tokio::test]
async fn an_enrolment_in_the_same_moment_loses() {
    let world = World::new().await;
    let token = world.token("beta", false).await;
    let registration = crate::registry::Registration {
        name: "beta".parse().unwrap(),
        initial_token: SecretHash::of("hwi_x"),
        expires_at: world.now() + HOUR,
        clients_left: 1,
        opened_at: world.now(),
    };
    // As if it had been opened between the check and the commit.
    let write = world.registry.registrations.put("beta", &registration, Expect::Absent).unwrap();
    world.registry.registrations.commit(vec![write]).await.unwrap();
    assert!(refused(world.join(&token).await).starts_with("NameRegistered"));
    assert!(world.registry.instances.get("beta").await.unwrap().is_none());
}

#[tokio::test]
async fn closing_takes_clients_and_trust_edges_with_it() {
    let world = World::new().await;
    world.enrol("alpha").await;
    let token = world.open("shop").await.unwrap();
    let clients = [world.register("shop", &token).await.unwrap(), world.register("shop", &token).await.unwrap()];
    let id = TrustEdgeId { relying_party: "shop".parse().unwrap(), home: "alpha".parse().unwrap() };
    let edge = TrustEdge::new(id.clone(), world.now()).unwrap();
    world.registry.allow_trust(edge).await.unwrap();
    let closed = world.enrolment.close_registration(&id.relying_party).await.unwrap();
    assert_eq!(closed, Closed { clients: 2 });
    let snapshot = world.registry.snapshot();
    assert!(clients.iter().all(|client| snapshot.client(client.as_str()).is_none()));
    assert!(snapshot.registration(&id.relying_party).is_none() && snapshot.edge(&id.relying_party, &id.home).is_none());
    assert!(world.register("shop", &token).await.is_err());
    let again = world.enrolment.close_registration(&id.relying_party).await;
    assert_eq!(refused(again), "RegistrationUnknown(InstanceName(\"shop\"))");
    // The name is free.
    world.enrol("shop").await;
}

#[tokio::test]
async fn bounds_are_kept() {
    let world = World::new().await;
    for (lifetime, clients) in [(HOUR, 0), (HOUR, 1001), (Duration::from_secs(59), 1), (DAY * 31, 1)] {
        let order = RegistrationOrder { lifetime, clients, ..order("shop") };
        assert_eq!(refused(world.enrolment.open_registration(order, world.now()).await), "RegistrationBounds");
    }
}

#[tokio::test]
async fn policies_are_changed_for_clients_of_both_kinds() {
    use crate::registry::{ClientPolicyChange, ClientPolicyError as E, PolicyConflict, SecurityProfile, SubjectType};
    let world = World::new().await;
    world.enrol("alpha").await;
    let token = world.open("shop").await.unwrap();
    let client = world.register("shop", &token).await.unwrap();
    let set = async |client: &str, change: ClientPolicyChange| world.registry.set_client_policy(client, &change).await;
    let none = ClientPolicyChange::default;
    let id =
        set("alpha", ClientPolicyChange { require_par: Some(true), pairwise: Some(true), ..none() }).await.unwrap();
    let party = world.instance("alpha").relying_party.unwrap();
    assert!(party.policy.require_par && party.client_id == id);
    assert_eq!(party.policy.subject_type, SubjectType::Pairwise { sector: "alpha.example".into() });
    let grants = Some(vec![GrantType::AuthorizationCode]);
    set("shop", ClientPolicyChange { grant_types: grants, ..none() }).await.unwrap();
    let exchange = ClientPolicyChange { grant_types: Some(vec![GrantType::TokenExchange]), ..none() };
    assert!(matches!(set(client.as_str(), exchange).await, Err(E::Conflict(PolicyConflict::PublicClient))));
    let without_pkce = ClientPolicyChange { require_pkce: Some(false), ..none() };
    assert!(matches!(set(client.as_str(), without_pkce).await, Err(E::Conflict(PolicyConflict::PublicClient))));
    let fapi2 = ClientPolicyChange { profile: Some(SecurityProfile::Fapi2), ..none() };
    assert!(matches!(set("shop", fapi2).await, Err(E::Conflict(PolicyConflict::Fapi2))));
    assert!(matches!(
        set("shop", ClientPolicyChange { pairwise: Some(true), ..none() }).await,
        Err(E::Conflict(PolicyConflict::NoSector))
    ));
    world.register("shop", &token).await.unwrap();
    assert!(matches!(set("shop", none()).await, Err(E::Ambiguous)));
    assert!(matches!(set("nobody", none()).await, Err(E::Unknown)));
}
