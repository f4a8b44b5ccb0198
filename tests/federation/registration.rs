//! Relying parties without agent, as ops let them in and an application finds them.

use reqwest::StatusCode;
use serde_json::{Value, json};
use world::Federation;

async fn register(federation: &Federation, token: &str, metadata: &Value) -> (StatusCode, Value) {
    let address = format!("{}/register", federation.issuer().unwrap());
    let request = reqwest::Client::new().post(address).bearer_auth(token).json(metadata);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test]
async fn ops_open_a_relying_party_without_agent_and_close_it() {
    let mut federation = Federation::start().await.unwrap();
    let opened = federation.ops_json(&["registration", "open", "shop", "--clients", "2"]).await.unwrap();
    assert_eq!((&opened["relying_party"], &opened["clients_left"]), (&json!("shop"), &json!(2)));
    assert_eq!(opened["registration_endpoint"], format!("{}/register", federation.issuer().unwrap()));
    let token = opened["initial_access_token"].as_str().unwrap();
    let metadata = json!({"redirect_uris": ["http://shop.localhost:8081/cb"], "client_name": "Shop"});
    let (status, client) = register(&federation, token, &metadata).await;
    assert_eq!(status, StatusCode::CREATED, "{client}");
    let id = client["client_id"].as_str().unwrap();
    let listed = federation.ops_json(&["client", "list"]).await.unwrap();
    assert_eq!((&listed[0]["client_id"], &listed[0]["enrolled"]), (&json!(id), &json!(false)));
    let policy = ["client", "policy", "shop", "--require-par", "--require-pkce=true", "--subject-type", "pairwise"];
    let changed = federation.ops_json(&policy).await.unwrap();
    assert_eq!((&changed["require_par"], &changed["require_pkce"]), (&json!(true), &json!(true)));
    assert_eq!(changed["subject_type"], "pairwise");
    let grants = ["client", "policy", id, "--grant-types", "authorization_code,refresh_token"];
    let changed = federation.ops_json(&grants).await.unwrap();
    assert_eq!(changed["grant_types"], json!(["authorization_code", "refresh_token"]));
    // All of it is there after the broker was killed.
    federation.kill_broker().await.unwrap();
    federation.serve().await.unwrap();
    let own = client["registration_client_uri"].as_str().unwrap();
    let own_token = client["registration_access_token"].as_str().unwrap();
    let read = reqwest::Client::new().get(own).bearer_auth(own_token).send().await.unwrap();
    let read: Value = read.json().await.unwrap();
    assert_eq!((&read["client_id"], &read["client_secret"]), (&json!(id), &client["client_secret"]));
    assert_eq!(read["require_pushed_authorization_requests"], true);
    let listed = federation.ops_json(&["registration", "list"]).await.unwrap();
    assert_eq!((&listed[0]["clients"], &listed[0]["clients_left"]), (&json!(1), &json!(1)));
    let closed = federation.ops_json(&["registration", "close", "shop"]).await.unwrap();
    assert_eq!(closed["clients_removed"], 1);
    assert_eq!(register(&federation, token, &metadata).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(federation.ops(&["client", "list"]).await.unwrap().trim(), "(none)");
}

#[tokio::test]
async fn refusals_say_what_to_do_next() {
    let federation = Federation::start().await.unwrap();
    federation.token("alpha", &[]).await.unwrap();
    federation.ops(&["registration", "open", "shop"]).await.unwrap();
    for (arguments, sentence) in [
        (&["registration", "open", "alpha"][..], "a join token for alpha can still be used"),
        (&["registration", "open", "Shop"], "1 to 63 characters"),
        (&["registration", "open", "x", "--clients", "1001"], "from 1 to 1000 clients"),
        (&["registration", "open", "x", "--lifetime", "1s"], "from 1 minute to 30 days"),
        (&["registration", "close", "nobody"], "see `registration list`"),
        (&["token", "create", "--instance", "shop"], "`homeward-broker registration close shop` first"),
        (&["client", "policy", "nobody", "--require-par"], "see `client list`"),
        (&["client", "policy", "shop"], "--require-par"),
        (&["client", "policy", "nobody", "--grant-types", "implicit"], "grant_types cannot be read"),
    ] {
        let refused = federation.ops(arguments).await.unwrap_err().to_string();
        assert!(refused.contains(sentence), "{arguments:?}: {refused}");
    }
}

/// E2: neither token of a registration, nor the secret that comes of it, is in the log.
#[tokio::test]
async fn the_log_has_no_secret_of_a_registration() {
    let federation = Federation::start().await.unwrap();
    let opened = federation.ops_json(&["registration", "open", "shop"]).await.unwrap();
    let token = opened["initial_access_token"].as_str().unwrap();
    let metadata = json!({"redirect_uris": ["http://shop.localhost:8081/cb"]});
    let (_, client) = register(&federation, token, &metadata).await;
    let log = federation.broker.as_ref().unwrap().log();
    assert!(log.contains("client registered"));
    for secret in
        [token, client["client_secret"].as_str().unwrap(), client["registration_access_token"].as_str().unwrap()]
    {
        assert!(!log.contains(secret));
    }
}
