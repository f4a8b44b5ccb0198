//! What is released of whom to whom, and what is not.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::registry::claims::{Asked, Claims, ClaimsParameter, ClaimsRequest, Person};
use crate::registry::{
    AccountKey, AssertedIdentity, ClientPolicy, GroupMap, ReleaseTerms, Subject, TrustEdge, TrustEdgeId,
    VerifiedIdentity,
};

const SUB: &str = "s-u_b3456789abcdef";

fn alice(change: impl FnOnce(&mut AssertedIdentity)) -> VerifiedIdentity {
    let mut identity = AssertedIdentity {
        home_user_id: "1".into(),
        username: "alice".into(),
        name: "Alice Archer".into(),
        given_name: "Alice".into(),
        family_name: String::new(),
        email: "alice@alpha.example".into(),
        email_verified: true,
        groups: vec!["staff".into()],
        auth_time: None,
        amr: Vec::new(),
        acr: None,
        attributes: std::collections::BTreeMap::new(),
        name_is_held: false,
    };
    change(&mut identity);
    identity.verify(Timestamp::from_secs(0)).unwrap()
}

fn edge() -> TrustEdge {
    let id = TrustEdgeId { relying_party: "beta".parse().unwrap(), home: "alpha".parse().unwrap() };
    TrustEdge {
        email_domains: vec!["alpha.example".parse().unwrap()],
        groups: GroupMap::of(["staff=staff".parse().unwrap()]).unwrap(),
        ..TrustEdge::new(id, Timestamp::from_secs(0)).unwrap()
    }
}

/// What goes to userinfo, and what into the ID token of a client that reads it as OpenID Connect says.
fn released(identity: &VerifiedIdentity, scope: &str, claims: &ClaimsRequest) -> (Value, Value) {
    let subject: Subject = serde_json::from_value(json!(SUB)).unwrap();
    let (person, scopes) = (Person { identity, subject: &subject }, scope.parse().unwrap());
    let asked = Asked { scopes: &scopes, claims };
    let policy = ClientPolicy { claims_in_id_token: false, ..ClientPolicy::default() };
    let terms = ReleaseTerms { edge: &edge(), policy: &policy };
    let userinfo = Claims::for_userinfo(person, terms, asked);
    let id_token = Claims::for_id_token(person, terms, asked);
    (serde_json::to_value(userinfo).unwrap(), serde_json::to_value(id_token).unwrap())
}

fn userinfo(scope: &str, change: impl FnOnce(&mut AssertedIdentity)) -> Value {
    released(&alice(change), scope, &ClaimsRequest::default()).0
}

#[test]
fn scopes_decide_what_is_released() {
    for (scope, claims) in [
        ("openid", json!({"sub": SUB})),
        ("openid offline_access", json!({"sub": SUB})),
        ("openid groups", json!({"sub": SUB, "groups": ["staff"]})),
        ("email openid", json!({"sub": SUB, "email": "alice@alpha.example", "email_verified": true})),
        (
            "openid profile address phone x",
            json!({"sub": SUB, "preferred_username": "alice@alpha", "homeward_name": "alice@alpha",
                "name": "Alice Archer", "given_name": "Alice", "groups": ["staff"]}),
        ),
    ] {
        assert_eq!(userinfo(scope, |_| {}), claims, "{scope}");
    }
}

#[test]
fn what_a_home_knows_further_has_its_scope_and_its_form() {
    let more = |identity: &mut AssertedIdentity| {
        let attributes = [
            ("nickname", "al"),
            ("birthdate", "1990-02-29"),
            ("updated_at", "1700000000"),
            ("locale", "en-GB"),
            ("website", "https://alice.example/"),
            ("picture", "javascript:alert(1)"),
            ("phone_number", "+44 20 7946 0000"),
            ("address.country", "UK"),
            ("address.locality", "London"),
            ("address.planet", "Earth"),
            ("is_admin", "true"),
            ("sub", "somebody else"),
            ("iss", "https://evil.example"),
        ];
        identity.attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    };
    let sub = SUB;
    assert_eq!(
        userinfo("openid phone", more),
        json!({"sub": sub, "phone_number": "+44 20 7946 0000", "phone_number_verified": false})
    );
    assert_eq!(
        userinfo("openid address", more),
        json!({"sub": sub, "address": {"country": "UK", "locality": "London"}})
    );
    let profile = userinfo("openid profile", more);
    assert_eq!((&profile["nickname"], &profile["birthdate"]), (&json!("al"), &json!("1990-02-29")));
    assert_eq!((&profile["updated_at"], &profile["locale"]), (&json!(1_700_000_000), &json!("en-GB")));
    assert_eq!(profile["website"], "https://alice.example/");
    for never in ["picture", "is_admin", "iss", "phone_number", "address", "email"] {
        assert!(profile.get(never).is_none(), "{never}");
    }
    let said = |name: &'static str, value: &'static str| {
        move |identity: &mut AssertedIdentity| {
            identity.attributes.insert("phone_number".into(), "+1".into());
            identity.attributes.insert(name.into(), value.into());
        }
    };
    assert_eq!(userinfo("openid phone", said("phone_number_verified", "true"))["phone_number_verified"], true);
    assert_eq!(userinfo("openid phone", said("phone_number_verified", "yes"))["phone_number_verified"], false);
    for (name, bad) in [("updated_at", "yesterday"), ("updated_at", "-1"), ("birthdate", "1.2.1990")] {
        assert!(userinfo("openid profile", said(name, bad)).get(name).is_none(), "{bad}");
    }
}

#[test]
fn what_is_asked_for_one_by_one_goes_where_it_was_asked_for() {
    let claims = ClaimsParameter::read(
        r#"{"id_token": {"email": null, "sub": null, "is_admin": null}, "userinfo": {"name": {"essential": true}}}"#,
    );
    let (userinfo, id_token) = released(&alice(|_| {}), "openid", &claims.unwrap().request);
    assert_eq!(userinfo, json!({"sub": SUB, "name": "Alice Archer"}));
    assert_eq!(id_token, json!({"sub": SUB, "email": "alice@alpha.example"}));
}

#[test]
fn scopes_reach_the_id_token_only_where_the_policy_says_so() {
    let identity = alice(|_| {});
    assert_eq!(released(&identity, "openid email", &ClaimsRequest::default()).1, json!({"sub": SUB}));
    let subject: Subject = serde_json::from_value(json!(SUB)).unwrap();
    let person = Person { identity: &identity, subject: &subject };
    let scopes = "openid email".parse().unwrap();
    let asked = Asked { scopes: &scopes, claims: &ClaimsRequest::default() };
    let terms = ReleaseTerms { edge: &edge(), policy: &ClientPolicy::default() };
    let all = Claims::for_id_token(person, terms, asked);
    assert_eq!(
        serde_json::to_value(&all).unwrap(),
        json!({"sub": SUB, "email": "alice@alpha.example", "email_verified": true})
    );
    assert_eq!(all.released().map(|(name, _)| name).collect::<Vec<_>>(), ["email", "email_verified"]);
}

#[test]
fn an_address_is_verified_only_by_the_authority_for_its_domain() {
    let verified = |email: &str, verified: bool| {
        userinfo("openid email", |i| (i.email, i.email_verified) = (email.into(), verified))["email_verified"].clone()
    };
    assert_eq!(verified("alice@alpha.example", true), true);
    assert_eq!(verified("alice@alpha.example", false), false);
    assert_eq!(verified("alice@beta.example", true), false);
    assert!(userinfo("openid email", |i| i.email.clear()).get("email_verified").is_none());
}

#[test]
fn federation_names_never_collide() {
    let name = |username: &str| userinfo("openid profile", |i| i.username = username.into())["homeward_name"].clone();
    assert_eq!(name("a_b"), "a_b@alpha");
    assert_eq!(name("a b"), "a_b+s-u_b3456789@alpha");
    assert_eq!(name("alice@beta"), "alice_beta+s-u_b3456789@alpha");
    assert_eq!(name("a+b"), "a_b+s-u_b3456789@alpha");
}

/// What an application that goes by this is told under these terms.
fn told(key: AccountKey, template: &str, change: impl FnOnce(&mut AssertedIdentity)) -> Value {
    let subject: Subject = serde_json::from_value(json!(SUB)).unwrap();
    let identity = alice(change);
    let policy = ClientPolicy { account_key: key, ..ClientPolicy::default() };
    let edge = TrustEdge { username_template: template.parse().unwrap(), ..edge() };
    let terms = ReleaseTerms { edge: &edge, policy: &policy };
    let scopes = "openid profile email".parse().unwrap();
    let asked = Asked { scopes: &scopes, claims: &ClaimsRequest::default() };
    serde_json::to_value(Claims::for_userinfo(Person { identity: &identity, subject: &subject }, terms, asked)).unwrap()
}

#[test]
fn who_finds_accounts_by_email_is_told_only_what_an_authority_has_verified() {
    let email = |key, email: &str, verified| {
        let claims = told(key, "{username}", |i| (i.email, i.email_verified) = (email.into(), verified));
        (claims["email"].as_str().map(str::to_owned), claims["email_verified"].as_bool())
    };
    let own = "alice@alpha.example";
    let foreign = "admin@beta.example";
    assert_eq!(email(AccountKey::Email, own, true), (Some(own.to_owned()), Some(true)));
    assert_eq!(email(AccountKey::Email, own, false), (None, None));
    assert_eq!(email(AccountKey::Email, foreign, true), (None, None));
    assert_eq!(email(AccountKey::Subject, foreign, true), (Some(foreign.to_owned()), Some(false)));
}

#[test]
fn who_finds_accounts_by_name_is_told_no_name_made_of_a_foreign_address() {
    let name = |key, email: &str| told(key, "{email}", |i| i.email = email.into())["preferred_username"].clone();
    assert_eq!(name(AccountKey::Username, "alice@alpha.example"), "alice@alpha.example");
    assert_eq!(name(AccountKey::Username, "admin@beta.example"), Value::Null);
    assert_eq!(name(AccountKey::Subject, "admin@beta.example"), "admin@beta.example");
}

#[test]
fn who_finds_accounts_by_name_is_told_none_that_is_made_of_a_part_of_somebody_elses_address() {
    let name = |key, email: &str, verified| {
        let said = |i: &mut AssertedIdentity| (i.email, i.email_verified) = (email.into(), verified);
        told(key, "{local_part}_{home}", said)["preferred_username"].clone()
    };
    assert_eq!(name(AccountKey::Username, "alice@alpha.example", true), "alice_alpha");
    assert_eq!(name(AccountKey::Username, "alice@alpha.example", false), Value::Null);
    assert_eq!(name(AccountKey::Username, "alice@evil.example", true), Value::Null);
    assert_eq!(name(AccountKey::Subject, "alice@evil.example", false), "alice_alpha");
}

#[test]
fn who_finds_accounts_by_name_is_told_none_on_an_edge_that_does_not_keep_names_apart() {
    let name = |key, template| told(key, template, |_| {})["preferred_username"].clone();
    assert_eq!(name(AccountKey::Username, "{username}"), Value::Null);
    assert_eq!(name(AccountKey::Username, "{username}@{home}"), "alice@alpha");
    assert_eq!(name(AccountKey::Subject, "{username}"), "alice");
}
