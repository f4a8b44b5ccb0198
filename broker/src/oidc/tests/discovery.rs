//! What the broker says of itself.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::oidc::tests::world::{Answer, ISSUER, World};

async fn get(world: &World, path: &str) -> Answer {
    world.send(Request::get(path).body(Body::empty()).unwrap()).await
}

// J8; oidcc-discovery-endpoint-verification, RFC 8414 3.
#[tokio::test]
async fn openid_and_oauth_read_the_same_document() {
    let world = World::new().await;
    let openid = get(&world, "/.well-known/openid-configuration").await;
    let oauth = get(&world, "/.well-known/oauth-authorization-server").await;
    assert_eq!((openid.status.as_u16(), openid.header("content-type")), (200, "application/json"));
    assert_eq!((openid.text(), openid.header("etag")), (oauth.text(), oauth.header("etag")));
    for wrong in ["/.well-known/oauth-authorization-server/x", "/x/.well-known/openid-configuration"] {
        assert_eq!(get(&world, wrong).await.status, 404, "{wrong}");
    }
}

#[tokio::test]
async fn endpoints_are_below_the_issuer_and_their_aliases_on_the_agents_port() {
    let world = World::new().await;
    let metadata = get(&world, "/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["issuer"], ISSUER);
    let members = metadata.as_object().unwrap().iter();
    let endpoints: Vec<_> = members.filter(|(name, _)| name.ends_with("_endpoint") || *name == "jwks_uri").collect();
    assert_eq!(endpoints.len(), 10);
    for (name, address) in endpoints {
        assert!(address.as_str().unwrap().starts_with(&format!("{ISSUER}/")), "{name}");
    }
    let aliases = metadata["mtls_endpoint_aliases"].as_object().unwrap();
    assert_eq!(aliases.len(), 6);
    for (name, address) in aliases {
        let path = metadata[name].as_str().unwrap().strip_prefix(ISSUER).unwrap();
        assert_eq!(address, &json!(format!("{ISSUER}:8443{path}")), "{name}");
    }
}

#[tokio::test]
async fn no_algorithm_is_offered_that_is_not_safe() {
    let world = World::new().await;
    let metadata = get(&world, "/.well-known/openid-configuration").await.json();
    let values = |name: &str| metadata[name].as_array().unwrap().clone();
    let asymmetric = ["RS256", "PS256", "ES256", "EdDSA"].map(Value::from).to_vec();
    assert_eq!(values("id_token_signing_alg_values_supported"), ["RS256", "ES256"]);
    assert_eq!(values("userinfo_signing_alg_values_supported"), ["RS256", "ES256"]);
    assert_eq!(values("dpop_signing_alg_values_supported"), asymmetric);
    assert_eq!(
        values("request_object_signing_alg_values_supported"),
        [asymmetric.clone(), vec!["none".into()]].concat()
    );
    let assertions = [asymmetric, vec!["HS256".into()]].concat();
    for endpoint in ["token", "introspection", "revocation"] {
        assert_eq!(values(&format!("{endpoint}_endpoint_auth_signing_alg_values_supported")), assertions);
    }
    assert_eq!(values("response_types_supported"), ["code"]);
    assert_eq!(values("code_challenge_methods_supported"), ["S256"]);
    assert!(!values("grant_types_supported").iter().any(|kind| kind == "implicit" || kind == "password"));
    assert!(!values("introspection_endpoint_auth_methods_supported").contains(&json!("none")));
}
