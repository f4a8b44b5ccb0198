//! What becomes of a provider's words about a user.

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::registry::Upstream;
use crate::registry::tests::upstream;
use crate::secret::SealingKeys;
use crate::upstream::UserRule;
use crate::upstream::person::{Denial, Proof, denial, identity, merged};

fn home(fields: &[(&str, &str)], required: &[(&str, &str)]) -> Upstream {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let sealing = SealingKeys::new_for_test();
    let staff = upstream("staff", "https://id.example", &sealing);
    Upstream { fields: pairs(fields), required: pairs(required), ..staff }
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

// B17
#[test]
fn nothing_is_taken_that_is_not_named() {
    let claims = json!({
        "sub": "u1", "preferred_username": "alice", "name": "Alice", "email": "alice@id.example", "email_verified": true,
        "groups": ["admins"], "roles": ["root"], "is_superuser": true, "amr": ["mfa"], "auth_time": 9, "acr": "9",
        "homeward_name": "root@alpha", "cnf": {"jkt": "x"}, "locale": "de",
    });
    let who = identity(&home(&[], &[]), &claims, None, Proof::default()).unwrap();
    assert_eq!((who.home_user_id.as_str(), who.username.as_str()), ("u1", "alice"));
    assert!(who.groups.is_empty() && who.amr.is_empty() && who.auth_time.is_none() && who.acr.is_none());
    assert_eq!(who.attributes.into_iter().collect::<Vec<_>>(), [("locale".to_owned(), "de".to_owned())]);
    let mapped = identity(&home(&[("groups", "/roles")], &[]), &claims, None, Proof::default()).unwrap();
    assert_eq!(mapped.groups, ["root"]);
}

#[test]
fn what_providers_write_in_their_own_way_is_read() {
    // Casdoor: an address that is a list, and text where others have nothing.
    let casdoor =
        json!({"sub": "u1", "name": "alice", "address": [], "phone": "", "groups": ["org/a", 7], "email": ""});
    let who = identity(&home(&[("groups", "/groups")], &[]), &casdoor, None, Proof::default()).unwrap();
    assert_eq!((who.groups, who.email_verified, who.username.as_str()), (vec!["org/a".to_owned()], false, "u1"));
    // GitHub: numbers, and another name for the name.
    let github = home(&[("home_user_id", "/id"), ("username", "/login")], &[]);
    let who =
        identity(&github, &json!({"id": 583_231, "login": "octocat", "name": null}), None, Proof::default()).unwrap();
    assert_eq!((who.home_user_id.as_str(), who.username.as_str(), who.name.as_str()), ("583231", "octocat", ""));
    // Truth as text, and an address of its parts.
    let text = json!({"sub": "u1", "email": "a@b.example", "email_verified": "true", "address": {"locality": "Ulm"}});
    let who = identity(&home(&[], &[]), &text, None, Proof::default()).unwrap();
    assert!(who.email_verified && who.attributes["address.locality"] == "Ulm");
    assert_eq!(who.username, "a@b.example", "without a user name, an address is one");
    let lines = json!({"sub": "u1", "address": {"formatted": "A 1\r\n89073 Ulm"}, "picture": "x".repeat(4000)});
    let who = identity(&home(&[], &[]), &lines, None, Proof::default()).unwrap();
    assert_eq!(who.attributes.into_iter().collect::<Vec<_>>(), [("address.formatted".into(), "A 1, 89073 Ulm".into())]);
    let typed = json!({"sub": "u1", "email": "admin@b.example"});
    let who = identity(&home(&[], &[]), &typed, None, Proof::default()).unwrap();
    assert_eq!((who.username.as_str(), who.email.as_str()), ("u1", "admin@b.example"), "unless nobody verified it");
    for nobody in [json!({}), json!({"sub": ""}), json!({"sub": null}), json!({"sub": ["u1"]}), json!({"sub": -1})] {
        let refused = identity(&home(&[], &[]), &nobody, None, Proof::default());
        assert_eq!(refused.err(), Some(UserRule::NoKey), "{nobody}");
    }
}

// B7, B10
#[test]
fn users_of_two_tenants_are_two_users_and_nothing_is_cut() {
    let claims = json!({"sub": "u1"});
    let of = |tenant| identity(&home(&[], &[]), &claims, tenant, Proof::default()).unwrap().home_user_id;
    assert_ne!(of(Some("t-1")), of(Some("t-2")));
    assert_ne!(of(Some("t-1")), of(None));
    for bad in ["x".repeat(65_536), "u1\0".to_owned(), "u1\r\n".to_owned()] {
        let who = identity(&home(&[], &[]), &json!({"sub": bad}), None, Proof::default()).unwrap();
        assert_eq!(who.home_user_id, bad, "whole");
        assert!(who.verify(Timestamp::from_secs(1_800_000_000)).is_err(), "and then refused");
    }
}

#[test]
fn administrators_of_casdoor_are_never_let_in() {
    let home = home(&[], &[]);
    for claims in [
        json!({"sub": "u1", "owner": "built-in"}),
        json!({"sub": "u1", "owner": "app-built-in"}),
        json!({"sub": "u1", "owner": "acme", "signupApplication": "app-built-in"}),
        json!({"sub": "built-in/admin"}),
    ] {
        assert_eq!(denial(&home, &claims), Some(Denial::BuiltIn), "{claims}");
    }
    assert_eq!(denial(&home, &json!({"sub": "u1", "owner": "acme"})), None);
}

#[test]
fn what_ops_demand_must_be_there() {
    let home = home(&[], &[("/owner", "acme"), ("/groups", "staff"), ("/active", "true")]);
    let good = json!({"sub": "u1", "owner": "acme", "groups": ["x", "staff"], "active": true});
    assert_eq!(denial(&home, &good), None);
    for (name, value) in [
        ("owner", json!("acme2")),
        ("owner", json!("ACME")),
        ("owner", Value::Null),
        ("groups", json!(["staff2"])),
        ("groups", json!({"staff": true})),
        ("active", json!(false)),
        ("active", json!(1)),
    ] {
        let mut bad = good.clone();
        bad[name] = value.clone();
        assert_eq!(denial(&home, &bad), Some(Denial::Demand(format!("/{name}"))), "{value}");
    }
}

// B6
#[test]
fn userinfo_says_nothing_that_only_the_token_may_say() {
    let token = json!({"sub": "u1", "iss": "a", "amr": ["pwd"], "name": "old"});
    let userinfo = json!({"sub": "u2", "iss": "b", "amr": ["mfa"], "acr": "9", "tid": "t", "name": "new", "x": 1});
    let claims = merged(members(&token), members(&userinfo));
    assert_eq!(claims, json!({"sub": "u1", "iss": "a", "amr": ["pwd"], "name": "new", "x": 1}));
}

#[test]
fn an_address_is_verified_by_who_says_the_address() {
    let both = |token: Value, userinfo: Value| {
        let claims = merged(members(&token), members(&userinfo));
        (claims["email"].clone(), claims.get("email_verified").cloned(), claims.get("phone_number_verified").cloned())
    };
    let token = json!({"email": "old@b.example", "email_verified": true, "phone_number_verified": true});
    let victim = json!({"email": "victim@b.example", "phone_number": "+1"});
    assert_eq!(both(token.clone(), victim), (json!("victim@b.example"), None, None));
    let verified = json!({"email": "new@b.example", "email_verified": true});
    assert_eq!(both(token.clone(), verified).1, Some(json!(true)));
    let unsaid = json!({"email": "typed@b.example", "phone_number": "+1"});
    let late = json!({"email_verified": true, "phone_number_verified": true});
    assert_eq!(both(unsaid, late), (json!("typed@b.example"), None, None));
    assert_eq!(both(token, json!({})).1, Some(json!(true)));
    // What ops take in place of the standard claim is not what `email_verified` is about.
    let claims =
        json!({"sub": "u1", "email": "a@b.example", "email_verified": true, "upn": "victim@b.example", "ok": true});
    let verified =
        |fields: &[(&str, &str)]| identity(&home(fields, &[]), &claims, None, Proof::default()).unwrap().email_verified;
    assert!(verified(&[]) && !verified(&[("email", "/upn")]));
    assert!(verified(&[("email", "/upn"), ("email_verified", "/ok")]));
}
