//! Client authentication: each client by its one method, at every endpoint, and nobody too often.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::oidc::PeerCertificate;
use crate::oidc::tests::assertions::{ClientSigner, TYPE, key};
use crate::oidc::tests::dpop::DpopKey;
use crate::oidc::tests::refresh::text;
use crate::oidc::tests::world::{Answer, Browser, CALLBACK, ISSUER, VERIFIER, World};
use crate::registry::{ClientAuthMethod, ClientCredential, ClientKeys, GrantType, SecurityProfile};

const METHODS: [ClientAuthMethod; 6] = [
    ClientAuthMethod::ClientSecretBasic,
    ClientAuthMethod::ClientSecretPost,
    ClientAuthMethod::ClientSecretJwt,
    ClientAuthMethod::PrivateKeyJwt,
    ClientAuthMethod::TlsClientAuth,
    ClientAuthMethod::None,
];

/// The endpoints where clients speak for themselves, and a form that each would understand.
const ENDPOINTS: [(&str, &str); 3] =
    [("/token", "grant_type=refresh_token&refresh_token=x"), ("/introspect", "token=x"), ("/revoke", "token=x")];

impl World {
    /// beta authenticates like this from now on; it has a key if that needs one.
    async fn use_method(&self, method: ClientAuthMethod, signer: &ClientSigner) {
        let secret = ClientCredential::Secret(self.first_secret("beta").clone());
        self.change("beta", |beta| {
            let party = beta.relying_party.as_mut().unwrap();
            party.auth_method = method;
            party.credential = match method {
                ClientAuthMethod::ClientSecretBasic
                | ClientAuthMethod::ClientSecretPost
                | ClientAuthMethod::ClientSecretJwt => secret,
                ClientAuthMethod::PrivateKeyJwt => key(signer, 1),
                ClientAuthMethod::TlsClientAuth | ClientAuthMethod::None => ClientCredential::Nothing,
            };
        })
        .await;
    }

    fn secret_assertion(&self, algorithm: Algorithm, secret: &str, changed: &Value) -> String {
        let claims = self.assertion_claims(changed);
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    /// beta's request, authenticated by a method.
    async fn send_by(&self, method: ClientAuthMethod, signer: &ClientSigner, endpoint: (&str, &str)) -> Answer {
        let (beta, (path, mut form)) = (self.client_id("beta"), (endpoint.0, endpoint.1.to_owned()));
        let mut request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let assertion = |assertion: String| format!("&client_assertion_type={TYPE}&client_assertion={assertion}");
        match method {
            ClientAuthMethod::ClientSecretBasic => request = request.header(AUTHORIZATION, self.basic("beta")),
            ClientAuthMethod::ClientSecretPost => {
                form += &format!("&client_id={beta}&client_secret={}", self.secret("beta"));
            }
            ClientAuthMethod::ClientSecretJwt => {
                form += &assertion(self.secret_assertion(Algorithm::HS256, self.secret("beta"), &json!({})));
            }
            ClientAuthMethod::PrivateKeyJwt => {
                form += &assertion(signer.sign(&self.assertion_claims(&json!({}))));
            }
            ClientAuthMethod::TlsClientAuth => {
                form += &format!("&client_id={beta}");
                request = request.extension(PeerCertificate::new("beta".parse().unwrap(), b"beta's"));
            }
            ClientAuthMethod::None => form += &format!("&client_id={beta}"),
        }
        self.send(request.body(form.into()).unwrap()).await
    }
}

/// Whether the client was let in, whatever came of its request.
fn is_known(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        200 => true,
        400 => {
            assert_eq!(answer.json()["error"], "invalid_grant", "{}", answer.text());
            true
        }
        401 => {
            assert_eq!(answer.json()["error"], "invalid_client", "{}", answer.text());
            false
        }
        other => panic!("{other} {}", answer.text()),
    }
}

// T2: all 36 pairs, at every endpoint.
#[tokio::test]
async fn a_client_authenticates_by_the_method_that_it_registered_and_by_no_other() {
    let world = World::new().await;
    let signer = ClientSigner::new();
    for registered in METHODS {
        world.use_method(registered, &signer).await;
        for sent in METHODS {
            for endpoint in ENDPOINTS {
                let answer = world.send_by(sent, &signer, endpoint).await;
                // A certificate on the connection of a public client is neither here nor there.
                let public = registered == ClientAuthMethod::None && sent == ClientAuthMethod::TlsClientAuth;
                let expected = (sent == registered || public)
                    && !(registered == ClientAuthMethod::None && endpoint.0 == "/introspect");
                assert_eq!(is_known(&answer), expected, "{registered:?} {sent:?} {} {}", endpoint.0, answer.text());
                let basic = answer.status == 401 && sent == ClientAuthMethod::ClientSecretBasic;
                assert_eq!(answer.header("www-authenticate").starts_with("Basic"), basic);
            }
            world.pass(60);
        }
    }
}

// T1, T3
#[tokio::test]
async fn every_endpoint_asks_who_it_is_in_the_same_way() {
    let world = World::new().await;
    let (beta, delta) = (world.client_id("beta"), world.client_id("delta"));
    let (basic, secret) = (world.basic("beta"), world.secret("beta"));
    let wrong = format!("Basic {}", STANDARD.encode(format!("{beta}:wrong")));
    for (path, form) in ENDPOINTS {
        let send = async |authorization: Option<&str>, more: &str| {
            let mut request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            if let Some(authorization) = authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            world.send(request.body(format!("{form}{more}").into()).unwrap()).await
        };
        send(None, "").await.assert_token_error(401, "invalid_client");
        send(None, &format!("&client_id={beta}")).await.assert_token_error(401, "invalid_client");
        send(None, &format!("&client_id={beta}&client_assertion_type={TYPE}"))
            .await
            .assert_token_error(401, "invalid_client");
        send(Some(&wrong), "").await.assert_token_error(401, "invalid_client");
        send(Some("Bearer x"), "").await.assert_token_error(401, "invalid_client");
        send(Some(&basic), &format!("&client_secret={secret}")).await.assert_token_error(400, "invalid_request");
        send(Some(&basic), &format!("&client_id={delta}")).await.assert_token_error(401, "invalid_client");
        send(Some(&basic), "&token_type_hint=a&token_type_hint=b&grant_type=x")
            .await
            .assert_token_error(400, "invalid_request");
        let in_query = Request::post(format!("{path}?client_id={beta}&client_secret={secret}"));
        let in_query = in_query.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        world.send(in_query.body(form.into()).unwrap()).await.assert_token_error(400, "invalid_request");
        let json = Request::post(path).header(CONTENT_TYPE, "application/json").header(AUTHORIZATION, &basic);
        world.send(json.body("{}".into()).unwrap()).await.assert_token_error(400, "invalid_request");
        world.send(Request::get(path).body(Body::empty()).unwrap()).await.assert_page(405);
        assert!(is_known(&send(Some(&basic), "").await));
        world.pass(60);
    }
}

#[tokio::test]
async fn a_secret_signs_assertions() {
    let world = World::new().await;
    let signer = ClientSigner::new();
    world.use_method(ClientAuthMethod::ClientSecretJwt, &signer).await;
    let secret = world.secret("beta").to_owned();
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let good = world.secret_assertion(algorithm, &secret, &json!({}));
        world.assert_with(&good, &[]).await.assert_token_error(400, "invalid_grant");
        world.assert_with(&good, &[]).await.assert_token_error(401, "invalid_client");
        for other in ["", "x", world.secret("delta")] {
            let forged = world.secret_assertion(algorithm, other, &json!({}));
            world.assert_with(&forged, &[]).await.assert_token_error(401, "invalid_client");
        }
    }
    let policy = |alg: &'static str| {
        world.change("beta", move |beta| {
            beta.relying_party.as_mut().unwrap().policy.assertion_alg = Some(alg.to_owned());
        })
    };
    policy("HS512").await;
    let assertion = |algorithm| world.secret_assertion(algorithm, &secret, &json!({}));
    world.assert_with(&assertion(Algorithm::HS256), &[]).await.assert_token_error(401, "invalid_client");
    world.assert_with(&assertion(Algorithm::HS512), &[]).await.assert_token_error(400, "invalid_grant");
}

// T6: keys that the client has registered itself, of every kind.
#[tokio::test]
async fn a_client_signs_with_the_keys_that_it_registered() {
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{Ed25519KeyPair, RsaKeyPair};
    let world = World::new().await;
    let keys = [
        ("ES256", DpopKey::p256()),
        ("EdDSA", DpopKey::Ed25519(Ed25519KeyPair::generate().unwrap())),
        ("RS256", DpopKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), "RS256")),
        ("PS256", DpopKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), "PS256")),
    ];
    let set: Vec<Value> = keys
        .iter()
        .map(|(alg, key)| {
            let mut jwk = key.jwk();
            (jwk["kid"], jwk["alg"]) = (json!(alg), json!(alg));
            jwk
        })
        .collect();
    world
        .change("beta", |beta| {
            let party = beta.relying_party.as_mut().unwrap();
            party.auth_method = ClientAuthMethod::PrivateKeyJwt;
            party.credential = ClientCredential::Nothing;
            party.keys = Some(ClientKeys::Inline(json!({"keys": set})));
        })
        .await;
    for (alg, key) in &keys {
        for (kid, good) in [(json!(alg), true), (Value::Null, true), (json!("other"), false)] {
            let header = json!({"alg": alg, "kid": kid});
            let answer = world.assert_with(&key.sign(&header, &world.assertion_claims(&json!({}))), &[]).await;
            assert_eq!(is_known(&answer), good, "{alg} {kid}");
        }
    }
    // One key for one algorithm (RFC 8725 3.1).
    let other = keys[3].1.sign(&json!({"alg": "RS256"}), &world.assertion_claims(&json!({})));
    world.assert_with(&other, &[]).await.assert_token_error(401, "invalid_client");
}

// FAPI 2.0 Security Profile 5.3.2.1 and 5.4
#[tokio::test]
async fn the_fapi_profile_wants_a_key_a_modern_algorithm_and_the_issuer_alone() {
    let world = World::new().await;
    let signer = ClientSigner::new();
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    for method in METHODS {
        world.use_method(method, &signer).await;
        world.change("beta", |beta| beta.relying_party.as_mut().unwrap().policy.profile = SecurityProfile::Fapi2).await;
        let answer = world.send_by(method, &signer, ("/revoke", "token=x")).await;
        let by_key = matches!(method, ClientAuthMethod::PrivateKeyJwt | ClientAuthMethod::TlsClientAuth);
        assert_eq!(is_known(&answer), by_key, "{method:?}");
    }
    world.use_method(ClientAuthMethod::PrivateKeyJwt, &signer).await;
    for (aud, good) in [
        (json!(ISSUER), true),
        (json!([ISSUER]), false),
        (json!(format!("{ISSUER}/token")), false),
        (json!(format!("{ISSUER}/par")), false),
    ] {
        let assertion = signer.sign(&world.assertion_claims(&json!({"aud": aud})));
        let form = format!("token=x&client_assertion_type={TYPE}&client_assertion={assertion}");
        let request = Request::post("/revoke").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        assert_eq!(is_known(&world.send(request.body(form.into()).unwrap()).await), good, "{aud}");
    }
    // And no token that whoever has it may use.
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let answer = world.assert_with(&signer.sign(&world.assertion_claims(&json!({}))), &form[1..]).await;
    answer.assert_token_error(400, "invalid_dpop_proof");
}

#[tokio::test]
async fn a_certificate_speaks_for_its_own_instance_and_binds_tokens() {
    let world = World::new().await;
    world.use_method(ClientAuthMethod::TlsClientAuth, &ClientSigner::new()).await;
    let beta = world.client_id("beta");
    let send = async |path: &str, form: &[(&str, &str)], certificate: Option<(&str, &[u8])>| {
        let mut form = form.to_vec();
        form.push(("client_id", &beta));
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some((name, der)) = certificate {
            request = request.extension(PeerCertificate::new(name.parse().unwrap(), der));
        }
        world.send(request.body(form.into()).unwrap()).await
    };
    let code = world.offline_code().await;
    let redemption = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    for stranger in [None, Some(("alpha", b"alpha's".as_slice()))] {
        send("/token", &redemption, stranger).await.assert_token_error(401, "invalid_client");
    }
    let own = Some(("beta", b"beta's".as_slice()));
    let tokens = send("/token", &redemption, own).await.json();
    assert_eq!(tokens["token_type"], "Bearer");
    let token = text(&tokens, "access_token");
    let known = send("/introspect", &[("token", &token)], own).await.json();
    let thumbprint = URL_SAFE_NO_PAD.encode(PeerCertificate::new("beta".parse().unwrap(), b"beta's").thumbprint);
    assert_eq!(known["cnf"], json!({"x5t#S256": thumbprint}));
    for (certificate, status) in [(own, 200), (Some(("beta", b"beta's next".as_slice())), 401), (None, 401)] {
        let mut request = Request::get("/userinfo").header(AUTHORIZATION, format!("Bearer {token}"));
        if let Some((name, der)) = certificate {
            request = request.extension(PeerCertificate::new(name.parse().unwrap(), der));
        }
        assert_eq!(world.send(request.body(Body::empty()).unwrap()).await.status, status);
    }
    // The certificate turns, the client stays.
    let refresh = text(&tokens, "refresh_token");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    assert_eq!(send("/token", &refresh, Some(("beta", b"beta's next"))).await.status, 200);
}

#[tokio::test]
async fn clients_that_must_use_their_certificate_get_no_other_token() {
    let world = World::new().await;
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().policy.require_certificate_binding = true).await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_request");
    let proof = DpopKey::p256().proof(&world, "POST", "/token", &json!({"nonce": world.nonce().await}));
    let basic = world.basic("beta");
    let form = [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", CALLBACK)];
    let both = world.send_form("/token", &form, &[("authorization", &basic), ("dpop", &proof)]).await;
    both.assert_token_error(400, "invalid_request");
}

#[tokio::test]
async fn a_client_asks_only_in_the_ways_that_it_may() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world
        .change("beta", |beta| {
            beta.relying_party.as_mut().unwrap().policy.grant_types = [GrantType::RefreshToken].into();
        })
        .await;
    world.redeem(&code, &[]).await.assert_token_error(400, "unauthorized_client");
    world.refresh("x", &[]).await.assert_token_error(400, "invalid_grant");
}

// S12
#[tokio::test]
async fn who_fails_too_often_waits() {
    let world = World::new().await;
    let wrong = format!("Basic {}", STANDARD.encode(format!("{}:wrong", world.client_id("beta"))));
    let form = "grant_type=refresh_token&refresh_token=x";
    for _ in 0..30 {
        world.token(Some(&wrong), form).await.assert_token_error(401, "invalid_client");
    }
    let answer = world.token(Some(&wrong), form).await;
    answer.assert_token_error(429, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    // The right secret gets through, or strangers could lock a client out; other clients are not concerned.
    world.token(Some(&world.basic("beta")), form).await.assert_token_error(400, "invalid_grant");
    let delta = format!("{form}&client_id={}&client_secret={}", world.client_id("delta"), world.secret("delta"));
    world.token(None, &delta).await.assert_token_error(400, "invalid_grant");
    world.pass(1);
    world.token(Some(&world.basic("beta")), form).await.assert_token_error(400, "invalid_grant");
}
