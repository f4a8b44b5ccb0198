//! Discovery documents.

use serde_json::{Value, json};

use crate::config::Issuer;
use crate::registry::Snapshot;
use crate::registry::tests::upstream;
use crate::secret::SealingKeys;
use crate::upstream::MetadataRule as Rule;
use crate::upstream::metadata::{Metadata, address};

const ISSUER: &str = "https://id.example/o/homeward/";

fn document() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://id.example/o/authorize",
        "token_endpoint": "https://tokens.example/o/token",
        "userinfo_endpoint": "https://id.example/o/userinfo",
        "jwks_uri": "https://id.example/o/homeward/jwks",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "HS256", "NEW1"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "own_way"],
        "authorization_response_iss_parameter_supported": true,
    })
}

fn read(document: &Value) -> Result<Metadata, Rule> {
    read_text(&document.to_string())
}

fn read_text(document: &str) -> Result<Metadata, Rule> {
    let home = upstream("staff", ISSUER, &SealingKeys::new_for_test());
    let broker = Issuer::parse("https://login.example").unwrap();
    Metadata::read(document.as_bytes(), &home, ISSUER, &broker, &Snapshot::default())
}

#[test]
fn the_document_is_below_the_issuer_whatever_its_end() {
    let well_known = "https://id.example/o/homeward/.well-known/openid-configuration";
    assert_eq!(address(ISSUER, None), well_known);
    assert_eq!(address("https://id.example/o/homeward", None), well_known);
    assert_eq!(address(ISSUER, Some("https://id.example/x")), "https://id.example/x");
}

#[test]
fn a_document_is_read_as_it_is_meant() {
    let metadata = read(&document()).unwrap();
    assert!(metadata.names_issuer && metadata.secret_in_body);
    assert_eq!(metadata.algorithms.len(), 1, "what is unknown or symmetric is left");
    assert_eq!(metadata.token_endpoint, "https://tokens.example/o/token");
    let mut silent = document();
    silent["token_endpoint_auth_methods_supported"] = Value::Null;
    silent["authorization_response_iss_parameter_supported"] = json!(false);
    let metadata = read(&silent).unwrap();
    assert!(!metadata.names_issuer && !metadata.secret_in_body);
}

// B3, B4
#[test]
fn a_document_that_speaks_for_others_is_refused() {
    for issuer in
        ["https://id.example/o/homeward", "https://ID.example/o/homeward/", "https://id.example:443/o/homeward/"]
    {
        let mut other = document();
        other["issuer"] = issuer.into();
        assert_eq!(read(&other).err(), Some(Rule::Issuer(issuer.to_owned())), "{issuer}");
    }
    for (name, value) in [
        ("token_endpoint", "http://id.example/token"),
        ("token_endpoint", "https://a:b@id.example/token"),
        ("token_endpoint", "https://login.example/token"),
        ("authorization_endpoint", "https://login.example/authorize"),
        ("jwks_uri", "http://id.example/jwks"),
        ("userinfo_endpoint", "https://id.example/userinfo#x"),
    ] {
        let mut bad = document();
        bad[name] = value.into();
        assert!(matches!(read(&bad), Err(Rule::Address(..))), "{name} {value}: {:?}", read(&bad));
    }
    let mut symmetric = document();
    symmetric["id_token_signing_alg_values_supported"] = json!(["HS256", "none"]);
    assert_eq!(read(&symmetric).err(), Some(Rule::Symmetric));
    let mut without = document();
    without["token_endpoint"] = Value::Null;
    assert_eq!(read(&without).err(), Some(Rule::Missing("token_endpoint")));
    for rubbish in ["<html>", "[]", "{}", "null"] {
        assert!(matches!(read_text(rubbish), Err(Rule::Unreadable(_))), "{rubbish}");
    }
}
