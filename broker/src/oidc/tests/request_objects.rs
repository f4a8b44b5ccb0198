//! Request objects (RFC 9101, OpenID Connect Core 6): what counts, and everything that only looks like one.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::oidc::tests::assertions::TYPE;
use crate::oidc::tests::world::{Answer, Browser, CALLBACK, CHALLENGE, ISSUER, NOW, World, ticket};
use crate::registry::{ClientAuthMethod, ClientCredential, ClientKeys, SecurityProfile};

/// A client's key, in its registered set.
pub(super) struct ObjectSigner(EcdsaKeyPair);

impl ObjectSigner {
    pub(super) async fn of_beta(world: &World) -> Self {
        let signer = Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        let set = json!({"keys": [signer.jwk()]});
        let keys = Some(ClientKeys::Inline(set));
        world.change("beta", |beta| beta.relying_party.as_mut().unwrap().keys = keys).await;
        signer
    }

    /// What authenticates beta by this key.
    pub(super) fn assertion(&self, world: &World) -> String {
        let assertion = self.sign(&json!({"alg": "ES256"}), &world.assertion_claims(&json!({})));
        let pairs = [("client_assertion_type", TYPE), ("client_assertion", assertion.as_str())];
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": "1", "x": text(x), "y": text(y)})
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl World {
    /// beta is a FAPI 2.0 client from now on.
    pub(super) async fn use_fapi2(&self) {
        self.change("beta", |beta| {
            let party = beta.relying_party.as_mut().unwrap();
            (party.auth_method, party.credential) = (ClientAuthMethod::PrivateKeyJwt, ClientCredential::Nothing);
            party.policy.profile = SecurityProfile::Fapi2;
        })
        .await;
    }
}

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn es256() -> Value {
    json!({"alg": "ES256", "kid": "1", "typ": "oauth-authz-req+jwt"})
}

/// beta's request as an object, with some members replaced; null counts as absent.
pub(super) fn object(world: &World, changed: &Value) -> Value {
    let beta = world.client_id("beta");
    let mut claims = json!({
        "iss": beta, "aud": ISSUER, "exp": NOW.as_secs() + 60, "client_id": beta, "redirect_uri": CALLBACK,
        "response_type": "code", "scope": "openid", "state": "inner", "nonce": "n",
        "code_challenge": CHALLENGE, "code_challenge_method": "S256",
    });
    claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    claims
}

async fn ask(world: &World, request: &str) -> Answer {
    world.authorize(&mut Browser::default(), &[("request", request)]).await
}

async fn back(world: &World, outer: &[(&str, &str)]) -> Answer {
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, outer).await.location();
    browser.get(world, &world.vouch(&portal).await).await
}

// A4
#[tokio::test]
async fn only_what_is_signed_counts() {
    let world = World::new().await;
    let signer = ObjectSigner::of_beta(&world).await;
    let claims = json!({"max_age": 100, "login_hint": "al", "claims": {"id_token": {"acr": {"value": "2"}}}});
    let request = signer.sign(&es256(), &object(&world, &claims));
    // Another callback, scope, state and prompt outside, where anybody could have put them.
    let outer = [
        ("request", request.as_str()),
        ("redirect_uri", "https://evil.example/"),
        ("scope", "openid email groups"),
        ("prompt", "none"),
        ("max_age", "abc"),
    ];
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &outer).await.location();
    let opened = world.login.open_ticket(&"alpha".parse().unwrap(), &ticket(&portal), NOW).unwrap();
    assert!(!opened.silent && opened.min_auth_time.is_some());
    assert_eq!((opened.login_hint.as_deref(), opened.acr_values), (Some("al"), vec!["2".to_owned()]));
    let back = browser.get(&world, &world.vouch(&portal).await).await;
    assert!(back.location().starts_with(CALLBACK));
    assert_eq!(back.parameter("state").as_deref(), Some("inner"));
    let tokens = world.redeem(&back.parameter("code").unwrap(), &[]).await.json();
    assert_eq!(tokens["scope"], "openid");
    // A parameter that is missing inside is missing.
    let request = signer.sign(&es256(), &object(&world, &json!({"scope": null})));
    let answer = ask(&world, &request).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("invalid_scope"));
    assert_eq!(answer.parameter("state").as_deref(), Some("inner"));
    // Nobody is sent to a callback that the object does not name.
    let request = signer.sign(&es256(), &object(&world, &json!({"redirect_uri": null})));
    ask(&world, &request).await.assert_page(400);
    let request = signer.sign(&es256(), &object(&world, &json!({"redirect_uri": "https://evil.example/"})));
    ask(&world, &request).await.assert_page(400);
}

// A4, A5
#[tokio::test]
async fn hostile_objects_are_refused() {
    let world = World::new().await;
    let signer = ObjectSigner::of_beta(&world).await;
    let stranger = ObjectSigner(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
    let delta = world.client_id("delta");
    let now = NOW.as_secs();
    for claims in [
        json!({"iss": delta}),
        json!({"iss": [world.client_id("beta")]}),
        json!({"client_id": delta}),
        json!({"sub": world.client_id("beta")}),
        json!({"aud": "https://evil.example"}),
        json!({"aud": format!("{ISSUER}/")}),
        json!({"aud": [ISSUER, "https://evil.example"]}),
        json!({"aud": []}),
        json!({"exp": now}),
        json!({"exp": "never"}),
        json!({"nbf": now + 31}),
        json!({"iat": now + 3600}),
        json!({"request": "e30.e30."}),
        json!({"request_uri": "https://beta.example/r"}),
        json!({"response_type": "token"}),
        json!({"resource": [1]}),
        json!({"claims": [1]}),
    ] {
        ask(&world, &signer.sign(&es256(), &object(&world, &claims))).await.assert_redirect("invalid_request_object");
    }
    let good = object(&world, &json!({}));
    for header in [
        json!({"alg": "ES256", "crit": ["x"]}),
        json!({"alg": "ES256", "typ": "logout+jwt"}),
        json!({"alg": "ES256", "typ": "at+jwt"}),
        json!({"alg": "ES256", "kid": "another"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"alg": "None"}),
        json!({"alg": "nOnE"}),
        json!({"alg": ""}),
        json!({}),
        json!({"alg": "ES256", "kid": "../../dev/null", "jku": "https://evil.example/jwks"}),
    ] {
        ask(&world, &signer.sign(&header, &good)).await.assert_redirect("invalid_request_object");
    }
    let signed = signer.sign(&es256(), &good);
    let embedded = json!({"alg": "ES256", "jwk": stranger.jwk()});
    for text in [
        stranger.sign(&es256(), &good),
        stranger.sign(&embedded, &good),
        signed[..signed.len() - 2].to_owned(),
        format!("{}.", signed.rsplit_once('.').unwrap().0),
        format!("{signed}.{signed}"),
        // Five parts: an encrypted one, or bare JSON inside.
        "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d".to_owned(),
        good.to_string(),
        "..".to_owned(),
        "x".repeat(8000),
    ] {
        ask(&world, &text).await.assert_redirect("invalid_request_object");
    }
    let long = signer.sign(&es256(), &object(&world, &json!({"state": "x".repeat(20_000)})));
    let form = world.request(&[("request", &long)]);
    Browser::default().post_text(&world, "/authorize", &form).await.assert_redirect("invalid_request_object");
    ask(&world, &signed).await.location();
}

#[tokio::test]
async fn a_client_signs_by_the_algorithm_that_it_registered() {
    let world = World::new().await;
    let signer = ObjectSigner::of_beta(&world).await;
    let pair = Ed25519KeyPair::generate().unwrap();
    let point = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let set = json!({"keys": [signer.jwk(), {"kty": "OKP", "crv": "Ed25519", "kid": "2", "x": point}]});
    let keys = Some(ClientKeys::Inline(set));
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().keys = keys).await;
    let claims = object(&world, &json!({}));
    let text = format!("{}.{}", encoded(&json!({"alg": "EdDSA"})), encoded(&claims));
    let edwards = format!("{text}.{}", URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes())));
    let elliptic = signer.sign(&es256(), &claims);
    ask(&world, &edwards).await.location();
    ask(&world, &elliptic).await.location();
    world.change_policy(|policy| policy.request_object_alg = Some("EdDSA".into())).await;
    assert!(ask(&world, &edwards).await.parameter("error").is_none());
    ask(&world, &elliptic).await.assert_redirect("invalid_request_object");
}

// A3
#[tokio::test]
async fn an_unsigned_object_counts_only_for_a_client_that_registered_none() {
    let world = World::new().await;
    let unsigned = |claims: &Value| format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(claims));
    let text = unsigned(&object(&world, &json!({})));
    ask(&world, &text).await.assert_redirect("request_not_supported");
    world.change_policy(|policy| policy.request_object_alg = Some("none".into())).await;
    // It is no better than the address: what it does not say is read there, what it says wins.
    let outer = [("request", text.as_str()), ("scope", "openid email"), ("state", "outer"), ("max_age", "5")];
    assert_eq!(back(&world, &outer).await.parameter("state").as_deref(), Some("inner"));
    ask(&world, &format!("{text}AAAA")).await.assert_redirect("invalid_request_object");
    let foreign = unsigned(&object(&world, &json!({"client_id": world.client_id("delta")})));
    ask(&world, &foreign).await.assert_redirect("invalid_request_object");
    let signer = ObjectSigner::of_beta(&world).await;
    let signed = signer.sign(&es256(), &object(&world, &json!({})));
    ask(&world, &signed).await.assert_redirect("invalid_request_object");
    world.change_policy(|policy| policy.require_signed_request = true).await;
    ask(&world, &text).await.assert_redirect("request_not_supported");
    world.authorize(&mut Browser::default(), &[]).await.assert_redirect("invalid_request");
}

// A6
#[tokio::test]
async fn nothing_is_fetched_that_is_not_registered() {
    let world = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let local = format!("https://127.0.0.1:{}/r", listener.local_addr().unwrap().port());
    let ask = async |address: &str| world.authorize(&mut Browser::default(), &[("request_uri", address)]).await;
    for address in [&local, "file:///etc/passwd", "http://169.254.169.254/", "https://beta.example/r"] {
        ask(address).await.assert_redirect("request_uri_not_supported");
    }
    let registered = vec!["https://beta.example/r#old".to_owned(), local.clone()];
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().request_uris = registered).await;
    let long = format!("https://beta.example/r#{}", "x".repeat(512));
    for address in ["https://beta.example/r?x=1", "https://beta.example/", "urn:x", &long] {
        ask(address).await.assert_redirect("invalid_request_uri");
    }
    // Registered, but inside.
    ask(&local).await.assert_redirect("invalid_request_uri");
    assert!(listener.accept().is_err(), "the broker has asked an address of its own machine");
    let both = [("request_uri", local.as_str()), ("request", "e30.e30.")];
    world.authorize(&mut Browser::default(), &both).await.assert_redirect("invalid_request");
    let unknown = "urn:ietf:params:oauth:request_uri:unknown";
    ask(unknown).await.assert_page(400);
}

#[tokio::test]
async fn a_fapi2_clients_object_says_all_that_it_must() {
    let world = World::new().await;
    let signer = ObjectSigner::of_beta(&world).await;
    world.use_fapi2().await;
    let now = NOW.as_secs();
    let push = async |claims: Value| {
        let request = signer.sign(&es256(), &object(&world, &claims));
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("request", &request).finish();
        world.push(None, &format!("{form}&{}", signer.assertion(&world))).await
    };
    for claims in [
        json!({}),
        json!({"nbf": now, "iss": null}),
        json!({"nbf": now, "aud": null}),
        json!({"nbf": now, "exp": null}),
        json!({"nbf": now - 3601}),
        json!({"nbf": now, "exp": now + 3601}),
    ] {
        push(claims).await.assert_token_error(400, "invalid_request_object");
    }
    push(json!({"nbf": now, "code_challenge": null, "code_challenge_method": null}))
        .await
        .assert_token_error(400, "invalid_request");
    assert_eq!(push(json!({"nbf": now})).await.status, 201);
}
