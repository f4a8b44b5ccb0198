//! Logins at a provider, and everything that must not become one.

use serde_json::json;

use super::*;
use crate::clock;
use crate::test_provider::{TestProvider, new_key};

async fn world() -> (TestProvider, Provider) {
    let op = TestProvider::start().await;
    let provider = Provider::new(Wire::new(None).unwrap(), op.registration());
    (op, provider)
}

async fn log_in(op: &TestProvider, provider: &Provider, demand: &Demand) -> Result<SignedIn, ProviderError> {
    let (address, pending) = provider.begin(demand, clock::now()).await?;
    let query = op.log_in(&address);
    provider.finish(&pending, Answer::parse(&query).unwrap(), clock::now()).await
}

#[tokio::test]
async fn a_login_brings_claims_and_userinfo() {
    let (op, provider) = world().await;
    op.script.lock().unwrap().claims = json!({"acr": "gold", "aud": ["beta"], "azp": "beta"});
    let signed_in = log_in(&op, &provider, &Demand::default()).await.unwrap();
    assert_eq!((signed_in.subject.as_str(), &signed_in.claims["acr"]), ("alice-1", &json!("gold")));
    let userinfo = provider.userinfo(&signed_in).await.unwrap().unwrap();
    assert_eq!(userinfo["preferred_username"], "alice@alpha");
    let redeemed = op.script.lock().unwrap().redeemed.join("\n");
    // beta:s3cret
    assert!(redeemed.starts_with("Basic YmV0YTpzM2NyZXQ= ") && redeemed.contains("code_verifier="), "{redeemed}");
}

#[tokio::test]
async fn what_is_demanded_is_asked() {
    let (_op, provider) = world().await;
    let now = clock::now();
    let demand = Demand {
        silent: true,
        min_auth_time: Some(now - time::Duration::seconds(60)),
        login_hint: "alice".to_owned(),
        acr_values: vec!["gold".to_owned()],
        ui_locales: "de en".to_owned(),
    };
    let (address, _) = provider.begin(&demand, now).await.unwrap();
    let query = address.query().unwrap();
    for part in
        ["prompt=none", "max_age=60", "login_hint=alice", "acr_values=gold", "ui_locales=de+en", "scope=openid+profile"]
    {
        assert!(query.contains(part), "{part}: {query}");
    }
    let fresh = Demand { min_auth_time: Some(now), ..Demand::default() };
    let (address, _) = provider.begin(&fresh, now).await.unwrap();
    assert!(address.query().unwrap().contains("prompt=login"));
}

#[tokio::test]
async fn an_id_token_with_one_fault_is_none() {
    let (op, provider) = world().await;
    let now = clock::now().unix_timestamp();
    for claims in [
        json!({"iss": "https://other.example"}),
        json!({"iss": null}),
        json!({"aud": "other"}),
        json!({"aud": null}),
        json!({"aud": ["beta", "other"]}),
        json!({"azp": "other"}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": "x".repeat(256)}),
        json!({"sub": 7}),
        json!({"exp": now - 120}),
        json!({"iat": now + 3600}),
        json!({"iat": now - 7 * 86400}),
        json!({"nonce": null}),
        json!({"nonce": "other"}),
        json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
    ] {
        op.script.lock().unwrap().claims = claims.clone();
        assert!(log_in(&op, &provider, &Demand::default()).await.is_err(), "{claims}");
    }
    op.script.lock().unwrap().claims = json!({});
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256", "kid": "one"}),
        json!({"alg": "RS256", "kid": "one"}),
        json!({"alg": "ES256", "kid": "other"}),
        json!({"alg": "ES256", "kid": "one", "crit": ["x"]}),
    ] {
        op.script.lock().unwrap().header = header.clone();
        assert!(log_in(&op, &provider, &Demand::default()).await.is_err(), "{header}");
    }
    op.script.lock().unwrap().header = json!({"alg": "ES256", "kid": "one"});
    log_in(&op, &provider, &Demand::default()).await.unwrap();
    op.script.lock().unwrap().userinfo = Some(json!({"sub": "bob-2"}));
    let signed_in = log_in(&op, &provider, &Demand::default()).await.unwrap();
    assert!(matches!(provider.userinfo(&signed_in).await, Err(ProviderError::OtherSubject)));
}

#[tokio::test]
async fn a_login_that_is_too_old_or_of_unknown_age_is_refused() {
    let (op, provider) = world().await;
    let demand = Demand { min_auth_time: Some(clock::now() - time::Duration::minutes(5)), ..Demand::default() };
    log_in(&op, &provider, &demand).await.unwrap();
    for (claims, unknown) in [(json!({"auth_time": 1_000_000_000}), false), (json!({"auth_time": null}), true)] {
        op.script.lock().unwrap().claims = claims;
        let refused = log_in(&op, &provider, &demand).await.unwrap_err();
        let expected = match refused {
            ProviderError::IdToken(IdTokenRefused::NoAuthTime) => unknown,
            ProviderError::IdToken(IdTokenRefused::TooOld) => !unknown,
            _ => false,
        };
        assert!(expected, "{refused}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_none() {
    let (op, provider) = world().await;
    let now = clock::now();
    let (address, pending) = provider.begin(&Demand::default(), now).await.unwrap();
    let query = op.log_in(&address);
    let finish = async |query: &str, now| provider.finish(&pending, Answer::parse(query).unwrap(), now).await.err();
    let other = finish(&query.replace("state=", "state=x"), now).await;
    assert!(matches!(other, Some(ProviderError::NotAsked)));
    let late = finish(&query, now + time::Duration::minutes(31)).await;
    assert!(matches!(late, Some(ProviderError::NotAsked)));
    let mixed = finish(&format!("{query}&iss=https%3A%2F%2Fevil.example"), now).await;
    assert!(matches!(mixed, Some(ProviderError::MixUp(Some(_)))));
    let denied = finish(&query.replace("code=c-1", "error=access_denied"), now).await;
    assert!(matches!(denied, Some(ProviderError::Refused(code)) if code.is_denial()));
    assert!(op.script.lock().unwrap().redeemed.is_empty(), "no code has gone anywhere");
    let ours =
        format!("{query}&iss={}", url::form_urlencoded::byte_serialize(op.issuer.as_bytes()).collect::<String>());
    assert!(finish(&ours, now).await.is_none());
}

#[tokio::test]
async fn a_provider_that_names_itself_must_do_so() {
    let (op, provider) = world().await;
    op.script.lock().unwrap().metadata = json!({"authorization_response_iss_parameter_supported": true});
    let refused = log_in(&op, &provider, &Demand::default()).await.unwrap_err();
    assert!(matches!(refused, ProviderError::MixUp(None)), "{refused}");
}

#[tokio::test]
async fn metadata_of_another_issuer_or_with_unsafe_endpoints_are_not_used() {
    for metadata in [
        json!({"issuer": "https://other.example"}),
        json!({"token_endpoint": "http://other.example/token"}),
        json!({"jwks_uri": null}),
    ] {
        let (op, provider) = world().await;
        op.script.lock().unwrap().metadata = metadata.clone();
        let refused = provider.begin(&Demand::default(), clock::now()).await.unwrap_err();
        assert!(matches!(refused, ProviderError::Metadata(_)), "{metadata}");
    }
}

#[tokio::test]
async fn keys_are_fetched_anew_but_not_at_once() {
    let (op, provider) = world().await;
    log_in(&op, &provider, &Demand::default()).await.unwrap();
    op.script.lock().unwrap().key = new_key();
    // The name stays; the key is another one. Within ten seconds nobody fetches again.
    let refused = log_in(&op, &provider, &Demand::default()).await.unwrap_err();
    assert!(matches!(refused, ProviderError::IdToken(IdTokenRefused::Signature(_))), "{refused}");
    assert_eq!(op.script.lock().unwrap().keys_fetched, 1);
}

#[test]
fn answers_have_each_parameter_once() {
    assert!(
        Answer::parse("state=s&code=c").is_some() && Answer::parse("state=s&error=e&error_description=x").is_some()
    );
    for bad in ["", "code=c", "state=s", "state=s&state=t&code=c", "state=s&code=c&code=d", "state=s&code=c&error=e"] {
        assert!(Answer::parse(bad).is_none(), "{bad}");
    }
    assert_eq!(ErrorCode::from("<script>\r\n").to_string(), "unknown_error");
}
