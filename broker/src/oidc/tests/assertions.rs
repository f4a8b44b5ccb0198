//! `private_key_jwt`: assertions of a client, and everything that only looks like one.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::grants::{ProbeCode, ProbeOutcome, Probes};
use crate::oidc::tests::world::{Answer, Browser, CALLBACK, ISSUER, VERIFIER, World};
use crate::registry::{ClientAuthMethod, ClientCredential, ClientKey, ClientKeyError, PublicJwk};

pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An application's key.
pub(super) struct ClientSigner(EcdsaKeyPair);

impl ClientSigner {
    pub(super) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(super) fn jwk(&self) -> PublicJwk {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        PublicJwk::read(json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)}).to_string().as_bytes())
            .unwrap()
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": "ES256"}), claims)
    }

    pub(super) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        self.sign_text(&format!("{}.{}", encoded(header), encoded(claims)))
    }

    pub(super) fn sign_text(&self, text: &str) -> String {
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl World {
    /// beta authenticates by these keys from now on.
    pub(super) async fn use_keys(&self, current: ClientCredential, next: Option<ClientCredential>) {
        self.change("beta", |beta| {
            let relying_party = beta.relying_party.as_mut().unwrap();
            relying_party.auth_method = ClientAuthMethod::PrivateKeyJwt;
            (relying_party.credential, relying_party.next_credential) = (current, next);
        })
        .await;
    }

    pub(super) fn assertion_claims(&self, changed: &Value) -> Value {
        let (beta, exp) = (self.client_id("beta"), self.time.now().as_secs() + 60);
        let jti = uuid::Uuid::new_v4();
        let mut claims = json!({"iss": beta, "sub": beta, "aud": ISSUER, "exp": exp, "jti": jti});
        claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        claims
    }

    pub(super) async fn assert_with(&self, assertion: &str, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("redirect_uri", CALLBACK),
            ("client_assertion_type", TYPE),
            ("client_assertion", assertion),
        ];
        form.extend(more);
        if more.iter().all(|(name, _)| *name != "code") {
            form.push(("code", "x"));
        }
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.token(None, &form).await
    }
}

pub(super) fn key(signer: &ClientSigner, version: u64) -> ClientCredential {
    ClientCredential::Key(ClientKey { jwk: signer.jwk(), version })
}

#[tokio::test]
async fn a_client_logs_its_user_in_with_a_key() {
    let world = World::new().await;
    let signer = ClientSigner::new();
    world.use_keys(key(&signer, 1), None).await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let beta = world.client_id("beta");
    let more = [("code", code.as_str()), ("code_verifier", VERIFIER), ("client_id", &beta)];
    let assertion = signer.sign(&world.assertion_claims(&json!({"aud": format!("{ISSUER}/token")})));
    let answer = world.assert_with(&assertion, &more).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Used once, also by its owner.
    world.assert_with(&assertion, &more).await.assert_token_error(401, "invalid_client");
}

#[tokio::test]
async fn forged_assertions_are_refused() {
    let world = World::new().await;
    let (signer, stranger) = (ClientSigner::new(), ClientSigner::new());
    world.use_keys(key(&signer, 1), None).await;
    let claims = world.assertion_claims(&json!({}));
    let good = signer.sign(&claims);
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let none = signer.sign_with(&json!({"alg": "none"}), &claims);
    // RFC 8725 2.1: the public key as the secret of an HMAC.
    let public = EncodingKey::from_secret(signer.0.public_key().as_ref());
    let hmac = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &public).unwrap();
    let jwk = serde_json::to_value(stranger.jwk()).unwrap();
    let altered = good.replacen(unsigned.split_once('.').unwrap().1, &URL_SAFE_NO_PAD.encode("{}"), 1);
    for forged in [
        none.as_str(),
        &format!("{}.", none.rsplit_once('.').unwrap().0),
        &format!("{unsigned}."),
        unsigned,
        &hmac,
        &altered,
        &stranger.sign(&claims),
        &stranger.sign_with(&json!({"alg": "ES256", "jwk": jwk}), &claims),
        &stranger.sign_with(&json!({"alg": "ES256", "jku": "https://evil.example/", "kid": "1"}), &claims),
        &signer.sign_with(&json!({"alg": "ES256", "crit": ["x"], "x": 1}), &claims),
        &signer.sign_with(&json!({"alg": "ES384"}), &claims),
        &signer.sign_with(&json!({"alg": "RS256"}), &claims),
        &signer.sign(&json!({})),
        &format!("{good}A"),
        &"x".repeat(5000),
        "..",
        "x",
    ] {
        world.assert_with(forged, &[]).await.assert_token_error(401, "invalid_client");
    }
    // None of them has used the real one up.
    world.assert_with(&good, &[]).await.assert_token_error(400, "invalid_grant");
}

#[tokio::test]
async fn assertions_for_others_too_old_or_too_long_are_refused() {
    let world = World::new().await;
    let signer = ClientSigner::new();
    world.use_keys(key(&signer, 1), None).await;
    let now = world.time.now().as_secs();
    let delta = world.client_id("delta");
    for wrong in [
        json!({"aud": "https://evil.example"}),
        json!({"aud": [ISSUER, "https://evil.example"]}),
        json!({"exp": now}),
        json!({"exp": now - 60}),
        json!({"exp": now + 86_400}),
        json!({"exp": null}),
        json!({"iat": now - 3600}),
        json!({"iat": now + 3600}),
        json!({"nbf": now + 3600}),
        json!({"jti": null}),
        json!({"iss": delta}),
        json!({"sub": delta}),
        json!({"iss": delta, "sub": delta}),
    ] {
        let assertion = signer.sign(&world.assertion_claims(&wrong));
        let answer = world.assert_with(&assertion, &[]).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (401, &json!("invalid_client")), "{wrong}");
    }
}

#[tokio::test]
async fn an_assertion_is_used_once_until_it_is_too_old() {
    let world = World::new().await;
    let signer = ClientSigner::new();
    world.use_keys(key(&signer, 1), None).await;
    let claims = world.assertion_claims(&json!({}));
    world.assert_with(&signer.sign(&claims), &[]).await.assert_token_error(400, "invalid_grant");
    // ECDSA signs the same differently each time: what counts is the jti.
    world.assert_with(&signer.sign(&claims), &[]).await.assert_token_error(401, "invalid_client");
    world.pass(59);
    world.assert_with(&signer.sign(&claims), &[]).await.assert_token_error(401, "invalid_client");
    world.pass(1);
    world.assert_with(&signer.sign(&claims), &[]).await.assert_token_error(401, "invalid_client");
    let other = signer.sign(&world.assertion_claims(&json!({})));
    world.assert_with(&other, &[]).await.assert_token_error(400, "invalid_grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_uses_at_once_one_counts() {
    let world = std::sync::Arc::new(World::new().await);
    let signer = ClientSigner::new();
    world.use_keys(key(&signer, 1), None).await;
    let assertion = signer.sign(&world.assertion_claims(&json!({})));
    let uses = (0..8).map(|_| {
        let (world, assertion) = (world.clone(), assertion.clone());
        tokio::spawn(async move { world.assert_with(&assertion, &[]).await.status.as_u16() })
    });
    let mut counted = 0;
    for used in uses.collect::<Vec<_>>() {
        match used.await.unwrap() {
            400 => counted += 1,
            status => assert_eq!(status, 401),
        }
    }
    assert_eq!(counted, 1);
}

#[tokio::test]
async fn an_assertion_goes_with_no_other_method() {
    let world = World::new().await;
    let signer = ClientSigner::new();
    let assertion = || signer.sign(&world.assertion_claims(&json!({})));
    // beta has registered a secret.
    world.assert_with(&assertion(), &[]).await.assert_token_error(401, "invalid_client");
    let secret = world.secret("beta");
    world.assert_with(&assertion(), &[("client_secret", secret)]).await.assert_token_error(400, "invalid_request");
    world.use_keys(key(&signer, 1), None).await;
    let form = "grant_type=authorization_code&code=x&redirect_uri=x";
    world.token(Some(&world.basic("beta")), form).await.assert_token_error(401, "invalid_client");
    let with_both = format!("{form}&client_assertion_type={TYPE}&client_assertion={}", assertion());
    world.token(Some(&world.basic("beta")), &with_both).await.assert_token_error(400, "invalid_request");
    let other_type = format!("{form}&client_assertion_type=x&client_assertion={}", assertion());
    world.token(None, &other_type).await.assert_token_error(401, "invalid_client");
    let delta = world.client_id("delta");
    world.assert_with(&assertion(), &[("client_id", &delta)]).await.assert_token_error(401, "invalid_client");
    world.assert_with(&assertion(), &[]).await.assert_token_error(400, "invalid_grant");
}

#[tokio::test]
async fn a_key_turns_like_a_secret() {
    let world = World::new().await;
    let (old, new) = (ClientSigner::new(), ClientSigner::new());
    let beta = "beta".parse().unwrap();
    world.use_keys(key(&old, 1), Some(ClientCredential::KeyWanted { version: 2 })).await;
    let assert_by = async |signer: &ClientSigner| {
        world.assert_with(&signer.sign(&world.assertion_claims(&json!({}))), &[]).await.status.as_u16()
    };
    assert_eq!((assert_by(&old).await, assert_by(&new).await), (400, 401));
    let register = async |signer: &ClientSigner, version| {
        world.registry.register_client_key(&beta, ClientKey { jwk: signer.jwk(), version }).await
    };
    assert!(matches!(register(&new, 3).await, Err(ClientKeyError::NotWanted(3))));
    assert!(matches!(register(&old, 2).await, Err(ClientKeyError::NotNew)));
    register(&new, 2).await.unwrap();
    register(&new, 2).await.unwrap();
    assert!(matches!(register(&ClientSigner::new(), 2).await, Err(ClientKeyError::NotWanted(2))));
    assert_eq!((assert_by(&old).await, assert_by(&new).await), (400, 400));
    let probes = Probes::new(world.store.clone());
    for (signer, version) in [(&old, 1), (&new, 2)] {
        let code = probes.create(&beta, world.time.now()).await.unwrap().code;
        let assertion = signer.sign(&world.assertion_claims(&json!({})));
        world.assert_with(&assertion, &[("code", code.expose_secret())]).await.assert_token_error(400, "invalid_grant");
        let code = ProbeCode::of(code.expose_secret()).unwrap();
        let outcome = probes.outcome(&beta, &code, world.time.now()).await.unwrap();
        assert_eq!(outcome, ProbeOutcome::Authenticated { version });
    }
    world.use_keys(key(&new, 2), None).await;
    assert_eq!((assert_by(&old).await, assert_by(&new).await), (401, 400));
    register(&new, 2).await.unwrap();
}
