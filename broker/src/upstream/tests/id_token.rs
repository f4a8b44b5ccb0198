//! ID tokens, one mutation each.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::CoreJwsSigningAlgorithm as Jws;
use serde_json::{Value, json};

use super::signer::Signer;
use crate::clock::Timestamp;
use crate::upstream::IdTokenRule as Rule;
use crate::upstream::id_token::{Expected, Vouched, judge};
use crate::upstream::jws::Keys;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://id.example/o/homeward/";

const ALL: [Jws; 7] = [
    Jws::RsaSsaPkcs1V15Sha256,
    Jws::RsaSsaPssSha512,
    Jws::EcdsaP256Sha256,
    Jws::EcdsaP384Sha384,
    Jws::EcdsaP521Sha512,
    Jws::EdDsa,
    Jws::HmacSha256,
];

fn expected() -> Expected<'static> {
    Expected { issuer: ISSUER, client_id: "homeward", nonce: "n-1", access_token: "at", algorithms: &ALL }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "homeward", "sub": "u1", "exp": NOW + 300, "iat": NOW - 2, "nonce": "n-1"})
}

fn keys(signers: &[&Signer]) -> Keys {
    let jwks: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    Keys::read(json!({"keys": jwks}).to_string().as_bytes()).unwrap()
}

fn judged(token: &str, signer: &Signer) -> Result<Vouched, Rule> {
    judge(token, &expected(), &keys(&[signer]), Timestamp::from_secs(NOW))
}

fn at_hash(access_token: &str) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, access_token.as_bytes()).as_ref()[..16])
}

#[test]
fn a_token_that_keeps_all_rules_is_taken_by_every_algorithm() {
    for alg in ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"] {
        let signer = Signer::new(alg, "1");
        let vouched = judged(&signer.sign(&claims()), &signer).unwrap_or_else(|rule| panic!("{alg}: {rule}"));
        assert_eq!((vouched.subject.as_str(), vouched.issuer.as_str()), ("u1", ISSUER));
        let mut altered = signer.sign(&claims()).into_bytes();
        let middle = altered.len() - 20;
        altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
        assert_eq!(judged(std::str::from_utf8(&altered).unwrap(), &signer).err(), Some(Rule::Signature), "{alg}");
    }
}

// B5
#[test]
fn each_broken_rule_refuses_the_token() {
    let signer = Signer::new("ES256", "1");
    let cases: Vec<(&str, Value, Rule)> = vec![
        ("iss", json!("https://id.example/o/homeward"), Rule::Issuer),
        ("iss", json!("https://ID.example/o/homeward/"), Rule::Issuer),
        ("iss", json!("http://id.example/o/homeward/"), Rule::Issuer),
        ("iss", Value::Null, Rule::Issuer),
        ("aud", Value::Null, Rule::Audience),
        ("aud", json!([]), Rule::Audience),
        ("aud", json!("Homeward"), Rule::Audience),
        ("aud", json!(["homeward", "stranger"]), Rule::Audience),
        ("aud", json!({"homeward": true}), Rule::Audience),
        ("azp", json!("stranger"), Rule::Audience),
        ("azp", json!(["homeward"]), Rule::Audience),
        ("sub", Value::Null, Rule::Subject),
        ("sub", json!(""), Rule::Subject),
        ("sub", json!(17), Rule::Subject),
        ("sub", json!(["u1"]), Rule::Subject),
        ("sub", json!("x".repeat(256)), Rule::Subject),
        ("sub", json!("ü1"), Rule::Subject),
        ("exp", json!(NOW - 60), Rule::Expired),
        ("exp", Value::Null, Rule::Expired),
        ("exp", json!("soon"), Rule::ClaimType),
        ("exp", json!(1e300), Rule::ClaimType),
        ("exp", json!(-1), Rule::ClaimType),
        ("iat", json!(NOW + 61), Rule::IssuedAt),
        ("iat", json!(NOW - 604_800), Rule::IssuedAt),
        ("iat", Value::Null, Rule::IssuedAt),
        ("nbf", json!(NOW + 61), Rule::IssuedAt),
        ("nonce", Value::Null, Rule::Nonce),
        ("nonce", json!(""), Rule::Nonce),
        ("nonce", json!("n-2"), Rule::Nonce),
        ("nonce", json!(["n-1"]), Rule::ClaimType),
        ("at_hash", json!(at_hash("another")), Rule::AccessTokenHash),
        ("auth_time", json!("yesterday"), Rule::ClaimType),
        ("acr", json!(1), Rule::ClaimType),
        ("amr", json!("pwd"), Rule::ClaimType),
    ];
    for (name, value, rule) in cases {
        let mut claims = claims();
        claims[name] = value.clone();
        assert_eq!(judged(&signer.sign(&claims), &signer).err(), Some(rule), "{name}: {value}");
    }
    let mut good = claims();
    for (name, value) in [("at_hash", json!(at_hash("at"))), ("azp", json!("homeward")), ("aud", json!(["homeward"]))] {
        good[name] = value;
    }
    good["acr"] = json!("2");
    good["amr"] = json!(["pwd", "otp"]);
    good["auth_time"] = json!(NOW - 9);
    let vouched = judged(&signer.sign(&good), &signer).unwrap();
    assert_eq!(vouched.auth_time, Some(Timestamp::from_secs(NOW - 9)));
    assert_eq!((vouched.acr.as_deref(), vouched.amr.len()), (Some("2"), 2));
}

// B5
#[test]
fn a_member_that_stands_there_twice_refuses_the_token() {
    let signer = Signer::new("ES256", "1");
    let header = json!({"alg": "ES256", "kid": "1"});
    let text = claims().to_string();
    assert!(judged(&signer.sign_with(&header, &text), &signer).is_ok());
    let twice = text.replacen('{', "{\"sub\":\"admin\",", 1);
    assert_eq!(judged(&signer.sign_with(&header, &twice), &signer).err(), Some(Rule::Unreadable));
    for rubbish in ["[]", "null", "{", "\"x\""] {
        assert_eq!(judged(&signer.sign_with(&header, rubbish), &signer).err(), Some(Rule::Unreadable), "{rubbish}");
    }
    for rubbish in ["", "a", "a.b", "a.b.c", "..", "e30.e30.e30.e30"] {
        assert!(judged(rubbish, &signer).is_err(), "{rubbish}");
    }
}

// B5
#[test]
fn no_algorithm_counts_but_those_that_the_provider_offers_and_anybody_can_check() {
    let (signer, rsa) = (Signer::new("ES256", "1"), Signer::new("RS256", "1"));
    let text = claims().to_string();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let none = format!("{}.{}.", encode("{\"alg\":\"none\"}"), encode(&text));
    assert_eq!(judged(&none, &signer).err(), Some(Rule::Algorithm));
    // A public key as the secret of a MAC (RFC 8725 3.1).
    let signed = format!("{}.{}", encode("{\"alg\":\"HS256\",\"kid\":\"1\"}"), encode(&text));
    let public = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes()), signed.as_bytes());
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
    assert_eq!(judged(&forged, &rsa).err(), Some(Rule::Algorithm));
    for alg in [json!("RS1"), json!("es256"), json!(null), json!(["ES256"])] {
        let header = json!({"alg": alg, "kid": "1"});
        assert_eq!(judged(&signer.sign_with(&header, &text), &signer).err(), Some(Rule::Algorithm), "{alg}");
    }
    // Right, but nothing that this provider said it signs by.
    let only = Expected { algorithms: &[Jws::RsaSsaPkcs1V15Sha256], ..expected() };
    let now = Timestamp::from_secs(NOW);
    let refused = judge(&signer.sign(&claims()), &only, &keys(&[&signer]), now);
    assert_eq!(refused.err(), Some(Rule::Algorithm));
}

// B5
#[test]
fn which_key_it_was_is_never_guessed() {
    let (one, two) = (Signer::new("ES256", "1"), Signer::new("ES256", "2"));
    let now = Timestamp::from_secs(NOW);
    let both = keys(&[&one, &two]);
    let sign = |header: Value| one.sign_with(&header, &claims().to_string());
    let judged_by = |keys: &Keys, header| judge(&sign(header), &expected(), keys, now).map(drop);
    assert_eq!(judged_by(&both, json!({"alg": "ES256", "kid": "1"})), Ok(()));
    assert_eq!(judged_by(&both, json!({"alg": "ES256", "kid": "3"})), Err(Rule::Key));
    assert_eq!(judged_by(&both, json!({"alg": "ES256", "kid": "2"})), Err(Rule::Signature));
    assert_eq!(judged_by(&both, json!({"alg": "ES256", "kid": 1})), Err(Rule::Key));
    assert_eq!(judged_by(&both, json!({"alg": "ES256"})), Err(Rule::Key));
    assert_eq!(judged_by(&keys(&[&one]), json!({"alg": "ES256"})), Ok(()), "where there is one, it needs no name");
    assert_eq!(judged_by(&both, json!({"alg": "ES256", "kid": "1", "crit": ["b64"], "b64": false})), Err(Rule::Type));
    assert_eq!(judged_by(&both, json!({"alg": "ES256", "kid": "1", "typ": "at+jwt"})), Err(Rule::Type));
    assert_eq!(judged_by(&both, json!({"alg": "ES256", "kid": "1", "typ": "logout+jwt"})), Err(Rule::Type));
    // A key that came with the token, or lies where the token says.
    let header = json!({"alg": "ES256", "kid": "9", "jwk": one.jwk(), "jku": "https://evil.example/"});
    assert_eq!(judged_by(&both, header), Err(Rule::Key));

    let with = |name: &str, value: Value| {
        let mut jwk = one.jwk();
        jwk[name] = value;
        Keys::read(json!({"keys": [jwk, two.jwk()]}).to_string().as_bytes()).unwrap()
    };
    assert_eq!(judged_by(&with("use", json!("enc")), json!({"alg": "ES256", "kid": "1"})), Err(Rule::Key));
    assert_eq!(judged_by(&with("alg", json!("ES384")), json!({"alg": "ES256", "kid": "1"})), Err(Rule::Key));
}

#[test]
fn a_set_without_a_key_that_signs_is_none() {
    let mut short = Signer::new("RS256", "1").jwk();
    short["n"] = URL_SAFE_NO_PAD.encode([0xc1; 128]).into();
    for keys in [json!([]), json!([short]), json!([{"kty": "oct", "k": "AAAA", "use": "enc"}]), json!("x"), json!([1])]
    {
        assert!(Keys::read(json!({"keys": keys}).to_string().as_bytes()).is_none(), "{keys}");
    }
    assert!(Keys::read(b"<html>").is_none());
}

#[test]
fn a_provider_for_many_tenants_speaks_for_the_one_that_the_token_names() {
    const TEMPLATE: &str = "https://login.example/{tenantid}/v2.0";
    let signer = Signer::new("RS256", "1");
    let judged = |tid: Value, iss: &str| {
        let mut claims = claims();
        (claims["tid"], claims["iss"]) = (tid, json!(iss));
        let expected = Expected { issuer: TEMPLATE, ..expected() };
        judge(&signer.sign(&claims), &expected, &keys(&[&signer]), Timestamp::from_secs(NOW))
    };
    let good = judged(json!("t-1"), "https://login.example/t-1/v2.0").unwrap();
    assert_eq!((good.tenant.as_deref(), good.issuer.as_str()), (Some("t-1"), "https://login.example/t-1/v2.0"));
    for (tid, iss) in [
        (json!("t-1"), "https://login.example/t-2/v2.0"),
        (json!("t-1"), TEMPLATE),
        (json!("{tenantid}"), TEMPLATE),
        (json!(""), "https://login.example//v2.0"),
        (json!("t/../x"), "https://login.example/t/../x/v2.0"),
        (Value::Null, "https://login.example/t-1/v2.0"),
        (json!(["t-1"]), "https://login.example/t-1/v2.0"),
    ] {
        assert_eq!(judged(tid.clone(), iss).err(), Some(Rule::Issuer), "{tid} {iss}");
    }
}
