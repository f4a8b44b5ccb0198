//! Homes without agent: made, changed and removed by ops.

use std::collections::BTreeMap;

use super::*;
use crate::config::Issuer;
use crate::registry::UpstreamProtocol;

fn order(name: &str, display_name: &str) -> UpstreamOrder {
    UpstreamOrder {
        name: name.parse().unwrap(),
        display_name: display_name.to_owned(),
        protocol: UpstreamProtocol::OpenId { issuer: "https://id.example".into(), discovery_url: None },
        client_id: "homeward".into(),
        client_secret: Some("s3cret".into()),
        scopes: Vec::new(),
        fields: BTreeMap::new(),
        required: BTreeMap::new(),
    }
}

impl World {
    async fn put(&self, order: UpstreamOrder) -> Result<crate::registry::Upstream, EnrolmentError> {
        let broker = Issuer::parse("https://login.example").unwrap();
        let wanted = self.enrolment.judge_upstream(order, &broker, self.now()).await?;
        self.enrolment.put_upstream(wanted, self.now()).await
    }
}

#[tokio::test]
async fn a_home_without_agent_is_accepted_like_an_instance() {
    let world = World::new().await;
    world.enrol("beta").await;
    world.put(order("staff", "Staff accounts")).await.unwrap();
    let (beta, staff): (InstanceName, InstanceName) = ("beta".parse().unwrap(), "staff".parse().unwrap());
    let edge = |home: &InstanceName| {
        TrustEdge::new(TrustEdgeId { relying_party: beta.clone(), home: home.clone() }, START).unwrap()
    };
    world.registry.allow_trust(edge(&staff)).await.unwrap();
    let snapshot = world.registry.snapshot();
    assert_eq!(snapshot.homes_for(&beta)[0].display_name, "Staff accounts");
    assert!(snapshot.vouching(&beta, &staff, snapshot.home_id(&staff).unwrap()).is_some());
    assert!(snapshot.vouching(&beta, &staff, InstanceId::generate()).is_none());

    world.enrolment.remove_upstream(&staff).await.unwrap();
    let snapshot = world.registry.snapshot();
    assert!(snapshot.homes_for(&beta).is_empty() && snapshot.edge(&beta, &staff).is_none());
    assert!(matches!(
        world.registry.allow_trust(edge(&staff)).await,
        Err(crate::registry::TrustError::UnknownInstance(_))
    ));
    assert!(matches!(world.enrolment.remove_upstream(&staff).await, Err(EnrolmentError::UpstreamUnknown(_))));
}

// B13
#[tokio::test]
async fn a_home_that_is_made_anew_has_other_users() {
    let world = World::new().await;
    let first = world.put(order("staff", "")).await.unwrap();
    // The secret stays where none is given, and so do the users.
    let changed = UpstreamOrder { client_secret: None, scopes: vec!["email".into()], ..order("staff", "Staff") };
    let changed = world.put(changed).await.unwrap();
    assert_eq!((changed.id, &changed.client_secret), (first.id, &first.client_secret));
    let other = UpstreamOrder { client_id: "other".into(), ..order("staff", "Staff") };
    assert_eq!(world.put(other).await.unwrap().id, first.id);
    let elsewhere = UpstreamProtocol::OpenId { issuer: "https://id2.example".into(), discovery_url: None };
    let moved = world.put(UpstreamOrder { protocol: elsewhere, ..order("staff", "Staff") }).await.unwrap();
    assert_ne!(moved.id, first.id);
    world.enrolment.remove_upstream(&moved.name).await.unwrap();
    assert_ne!(world.put(order("staff", "Staff")).await.unwrap().id, first.id);
    let without = UpstreamOrder { client_secret: None, ..order("others", "") };
    assert!(matches!(world.put(without).await, Err(EnrolmentError::UpstreamSecretMissing)));
}

// B24
#[tokio::test]
async fn names_are_one_space_and_none_looks_like_another() {
    let world = World::new().await;
    world.enrol("beta").await;
    let _token = world.token("gamma", false).await;
    let registration = RegistrationOrder { name: "shop".parse().unwrap(), lifetime: HOUR, clients: 1 };
    world.enrolment.open_registration(registration, world.now()).await.unwrap();
    assert!(matches!(world.put(order("beta", "x")).await, Err(EnrolmentError::NameEnrolled(_))));
    assert!(matches!(world.put(order("shop", "x")).await, Err(EnrolmentError::NameRegistered(_))));
    assert!(matches!(world.put(order("gamma", "x")).await, Err(EnrolmentError::NameExpected(_))));
    let shown = world.instance("beta").display_name.clone();
    for twin in [shown.to_uppercase(), shown.replace('e', "е"), format!(" {shown}!")] {
        assert!(matches!(world.put(order("staff", &twin)).await, Err(EnrolmentError::NameLooksAlike(_))), "{twin}");
    }

    world.put(order("staff", "delta.example")).await.unwrap();
    let (instance, creator, note) = ("staff".parse().unwrap(), String::new(), String::new());
    let order_of_token = JoinTokenOrder { instance, lifetime: HOUR, replace: true, creator, note };
    let made = world.enrolment.create_token(order_of_token, world.now()).await;
    assert!(matches!(made, Err(EnrolmentError::NameOfUpstream(_))));
    let open = |name: &str| RegistrationOrder { name: name.parse().unwrap(), lifetime: HOUR, clients: 1 };
    let opened = world.enrolment.open_registration(open("staff"), world.now()).await;
    assert!(matches!(opened, Err(EnrolmentError::NameOfUpstream(_))));
    let alike = world.enrolment.open_registration(open("s-taff"), world.now()).await;
    assert!(matches!(alike, Err(EnrolmentError::NameLooksAlike(_))));
    world.put(order("other", "Zeta site")).await.unwrap();
    let token = world.token("zeta-site", false).await;
    assert!(matches!(world.join(&token).await, Err(EnrolmentError::NameLooksAlike(_))));
}

#[tokio::test]
async fn a_stored_secret_goes_to_nobody_else() {
    let world = World::new().await;
    world.put(order("staff", "")).await.unwrap();
    let without = || UpstreamOrder { client_secret: None, ..order("staff", "") };
    let at = |issuer: &str, discovery_url: Option<&str>| UpstreamProtocol::OpenId {
        issuer: issuer.into(),
        discovery_url: discovery_url.map(Into::into),
    };
    for changed in [
        UpstreamOrder { protocol: at("https://evil.example", None), ..without() },
        UpstreamOrder { protocol: at("https://id.example", Some("https://evil.example/d")), ..without() },
        UpstreamOrder { client_id: "other".into(), ..without() },
    ] {
        assert!(matches!(world.put(changed).await, Err(EnrolmentError::UpstreamSecretMissing)));
    }
    world.put(without()).await.unwrap();
}

#[tokio::test]
async fn a_home_that_is_accepted_gets_no_other_users() {
    let world = World::new().await;
    world.enrol("beta").await;
    world.put(order("staff", "")).await.unwrap();
    let id = TrustEdgeId { relying_party: "beta".parse().unwrap(), home: "staff".parse().unwrap() };
    world.registry.allow_trust(TrustEdge::new(id.clone(), START).unwrap()).await.unwrap();
    let elsewhere = UpstreamProtocol::OpenId { issuer: "https://id2.example".into(), discovery_url: None };
    let moved = || UpstreamOrder { protocol: elsewhere.clone(), ..order("staff", "") };
    assert!(matches!(world.put(moved()).await, Err(EnrolmentError::UpstreamTrusted(_))));
    world.put(order("staff", "Staff accounts")).await.unwrap();
    world.registry.deny_trust(&id).await.unwrap();
    world.put(moved()).await.unwrap();
}
