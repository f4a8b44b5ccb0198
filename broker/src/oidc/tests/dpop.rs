//! DPoP (RFC 9449): proofs, nonces, bound tokens, and everything that only looks like a proof.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair,
};
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::grants::CodeBinding;
use crate::oidc::tests::refresh::text;
use crate::oidc::tests::world::{Answer, Browser, CALLBACK, CHALLENGE, ISSUER, VERIFIER, World};

/// A client's key for proofs.
pub(super) enum DpopKey {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static str),
}

impl DpopKey {
    pub(super) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Rsa(_, alg) => alg,
        }
    }

    pub(super) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::P256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)})
            }
            Self::Ed25519(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())}),
            Self::Rsa(key, _) => {
                let public = key.public_key();
                let n = text(public.modulus().big_endian_without_leading_zero());
                json!({"kty": "RSA", "n": n, "e": text(public.exponent().big_endian_without_leading_zero())})
            }
        }
    }

    pub(super) fn jkt(&self) -> String {
        // serde_json keeps members in lexicographic order, as RFC 7638 3 wants them.
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.jwk().to_string().as_bytes()))
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        self.sign_text(&format!("{}.{}", encoded(header), encoded(claims)))
    }

    fn sign_text(&self, text: &str) -> String {
        let random = SystemRandom::new();
        let signature = match self {
            Self::P256(key) => key.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(text.as_bytes()).as_ref().to_vec(),
            Self::Rsa(key, alg) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let padding = if *alg == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(padding, &random, text.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": self.alg(), "jwk": self.jwk()})
    }

    pub(super) fn proof(&self, world: &World, method: &str, path: &str, more: &Value) -> String {
        self.sign(&self.header(), &self.claims(world, method, path, more))
    }

    fn claims(&self, world: &World, method: &str, path: &str, more: &Value) -> Value {
        let mut claims = json!({
            "jti": uuid::Uuid::new_v4(),
            "htm": method,
            "htu": format!("{ISSUER}{path}"),
            "iat": world.time.now(),
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    }
}

impl World {
    pub(super) async fn send_form(&self, path: &str, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(form.into()).unwrap()).await
    }

    /// What the broker tells a client whose proof has no nonce.
    pub(super) async fn nonce(&self) -> String {
        let proof = DpopKey::p256().proof(self, "POST", "/token", &json!({}));
        let form = [("grant_type", "authorization_code"), ("client_id", "x")];
        let answer = self.send_form("/token", &form, &[("dpop", &proof)]).await;
        answer.assert_token_error(400, "use_dpop_nonce");
        answer.header("dpop-nonce").to_owned()
    }

    /// beta redeems a code with this proof.
    async fn redeem_with(&self, code: &str, proofs: &[&str]) -> Answer {
        let basic = self.basic("beta");
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let mut headers = vec![("authorization", basic.as_str())];
        headers.extend(proofs.iter().map(|proof| ("dpop", *proof)));
        self.send_form("/token", &form, &headers).await
    }

    /// Tokens of beta's that are bound to this key.
    async fn bound_tokens(&self, key: &DpopKey) -> Value {
        let code = self.sign_in(&mut Browser::default(), &[]).await;
        let proof = key.proof(self, "POST", "/token", &json!({"nonce": self.nonce().await}));
        let answer = self.redeem_with(&code, &[&proof]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    async fn userinfo_with(&self, authorization: &str, proof: Option<&str>) -> Answer {
        let mut request = Request::get("/userinfo").header("authorization", authorization);
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(super) async fn token_with_proof(&self, assertion: &str, form: &[(&str, &str)], proof: &str) -> Answer {
        let mut form = form.to_vec();
        form.push(("client_assertion_type", super::assertions::TYPE));
        form.push(("client_assertion", assertion));
        self.send_form("/token", &form, &[("dpop", proof)]).await
    }
}

fn ath(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
}

#[tokio::test]
async fn tokens_are_bound_to_the_key_that_was_shown() {
    let world = World::new().await;
    let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let keys = [
        DpopKey::p256(),
        DpopKey::Ed25519(Ed25519KeyPair::generate().unwrap()),
        DpopKey::Rsa(rsa(), "RS256"),
        DpopKey::Rsa(rsa(), "PS256"),
    ];
    for key in keys {
        let tokens = world.bound_tokens(&key).await;
        assert_eq!(tokens["token_type"], "DPoP");
        let token = text(&tokens, "access_token");
        let nonce = world.nonce().await;
        let proof = key.proof(&world, "GET", "/userinfo", &json!({"ath": ath(&token), "nonce": nonce}));
        let answer = world.userinfo_with(&format!("DPoP {token}"), Some(&proof)).await;
        assert_eq!(answer.status, 200, "{} {}", key.alg(), answer.text());
        assert!(!answer.header("dpop-nonce").is_empty());
        let basic = world.basic("beta");
        let known = world.send_form("/introspect", &[("token", &token)], &[("authorization", &basic)]).await.json();
        assert_eq!((&known["token_type"], &known["cnf"]), (&json!("DPoP"), &json!({"jkt": key.jkt()})));
    }
}

#[tokio::test]
async fn a_bound_token_is_worth_nothing_without_its_key() {
    let world = World::new().await;
    let (own, stolen) = (DpopKey::p256(), DpopKey::p256());
    let token = text(&world.bound_tokens(&own).await, "access_token");
    let nonce = world.nonce().await;
    let proof = |key: &DpopKey, more: Value| {
        let mut claims = json!({"ath": ath(&token), "nonce": nonce});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key.proof(&world, "GET", "/userinfo", &claims)
    };
    let (as_bearer, as_bound) = (format!("Bearer {token}"), format!("DPoP {token}"));
    let good = proof(&own, json!({}));
    for (authorization, sent, error) in [
        (&as_bearer, None, "invalid_token"),
        (&as_bearer, Some(proof(&own, json!({}))), "invalid_token"),
        (&as_bound, None, "invalid_token"),
        (&as_bound, Some(proof(&stolen, json!({}))), "invalid_token"),
        (&as_bound, Some(proof(&own, json!({"ath": ath("other")}))), "invalid_dpop_proof"),
        (&as_bound, Some(proof(&own, json!({"ath": null}))), "invalid_dpop_proof"),
        (&as_bound, Some(proof(&own, json!({"htm": "POST"}))), "invalid_dpop_proof"),
        (&as_bound, Some(proof(&own, json!({"htu": format!("{ISSUER}/token")}))), "invalid_dpop_proof"),
        (&as_bound, Some(proof(&own, json!({"nonce": null}))), "use_dpop_nonce"),
        (&as_bound, Some(good.clone()), ""),
        (&as_bound, Some(good), "invalid_dpop_proof"),
    ] {
        let answer = world.userinfo_with(authorization, sent.as_deref()).await;
        if error.is_empty() {
            assert_eq!(answer.status, 200, "{}", answer.text());
            continue;
        }
        let challenge = answer.header("www-authenticate");
        assert_eq!(answer.status, 401, "{authorization} {error}");
        assert!(challenge.starts_with("DPoP ") && challenge.contains(&format!("error=\"{error}\"")), "{challenge}");
        assert!(challenge.contains("algs=\"ES256 EdDSA PS256 RS256\""), "{challenge}");
    }
    // Nor does a proof make more of a token that is bound to nothing.
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let free = text(&world.redeem(&code, &[]).await.json(), "access_token");
    let sent = own.proof(&world, "GET", "/userinfo", &json!({"ath": ath(&free), "nonce": nonce}));
    assert_eq!(world.userinfo_with(&format!("DPoP {free}"), Some(&sent)).await.status, 401);
    assert_eq!(world.userinfo_with(&format!("Bearer {free}"), None).await.status, 200);
}

#[tokio::test]
async fn a_proof_without_a_nonce_of_ours_is_sent_back_once() {
    let world = World::new().await;
    let key = DpopKey::p256();
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let answer = world.redeem_with(&code, &[&key.proof(&world, "POST", "/token", &json!({}))]).await;
    answer.assert_token_error(400, "use_dpop_nonce");
    let nonce = answer.header("dpop-nonce").to_owned();
    for bad in ["x", &nonce[1..], &format!("{nonce}A"), world.secret("beta"), &code] {
        let proof = key.proof(&world, "POST", "/token", &json!({"nonce": bad}));
        world.redeem_with(&code, &[&proof]).await.assert_token_error(400, "use_dpop_nonce");
    }
    world.pass(299);
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let proof = key.proof(&world, "POST", "/token", &json!({"nonce": nonce}));
    let answer = world.redeem_with(&code, &[&proof]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // On success the next one.
    let next = answer.header("dpop-nonce").to_owned();
    assert!(!next.is_empty() && next != nonce);
    world.pass(1);
    let late = key.proof(&world, "POST", "/token", &json!({"nonce": nonce}));
    world.redeem_with(&code, &[&late]).await.assert_token_error(400, "use_dpop_nonce");
}

// A client that is sent back for a nonce comes again with the same assertion.
#[tokio::test]
async fn being_sent_back_uses_nothing_up() {
    let world = World::new().await;
    let signer = super::assertions::ClientSigner::new();
    world.use_keys(super::assertions::key(&signer, 1), None).await;
    let (key, code) = (DpopKey::p256(), world.sign_in(&mut Browser::default(), &[]).await);
    let assertion = signer.sign(&world.assertion_claims(&json!({})));
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let answer = world.token_with_proof(&assertion, &form, &key.proof(&world, "POST", "/token", &json!({}))).await;
    answer.assert_token_error(400, "use_dpop_nonce");
    let proof = key.proof(&world, "POST", "/token", &json!({"nonce": answer.header("dpop-nonce")}));
    assert_eq!(world.token_with_proof(&assertion, &form, &proof).await.status, 200);
}

#[tokio::test]
async fn a_proof_is_used_once() {
    let world = World::new().await;
    let key = DpopKey::p256();
    let proof = key.proof(&world, "POST", "/token", &json!({"nonce": world.nonce().await}));
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    assert_eq!(world.redeem_with(&code, &[&proof]).await.status, 200);
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.redeem_with(&code, &[&proof]).await.assert_token_error(400, "invalid_dpop_proof");
    world.pass(119);
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.redeem_with(&code, &[&proof]).await.assert_token_error(400, "invalid_dpop_proof");
}

#[tokio::test]
async fn clients_that_must_be_bound_get_no_other_token() {
    let world = World::new().await;
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().policy.require_dpop = true).await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_dpop_proof");
    let key = DpopKey::p256();
    let proof = key.proof(&world, "POST", "/token", &json!({"nonce": world.nonce().await}));
    assert_eq!(world.redeem_with(&code, &[&proof]).await.json()["token_type"], "DPoP");
}

// RFC 9449 10
#[tokio::test]
async fn a_code_that_names_a_key_is_redeemed_with_that_key() {
    use secrecy::ExposeSecret as _;
    let world = World::new().await;
    let (own, other) = (DpopKey::p256(), DpopKey::p256());
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let grant = world.grants.open_code(&code).unwrap().grant;
    let code_challenge = Some(CHALLENGE.parse().unwrap());
    let binding = CodeBinding { redirect_uri: CALLBACK.into(), code_challenge, dpop_jkt: Some(own.jkt()) };
    let code = world.grants.issue_code(grant, binding, world.time.now()).unwrap().expose_secret().to_owned();
    let nonce = world.nonce().await;
    let proof = |key: &DpopKey| key.proof(&world, "POST", "/token", &json!({"nonce": nonce}));
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    world.redeem_with(&code, &[&proof(&other)]).await.assert_token_error(400, "invalid_grant");
    assert_eq!(world.redeem_with(&code, &[&proof(&own)]).await.status, 200);
}

// RFC 9449 10.1
#[tokio::test]
async fn a_request_that_is_pushed_with_a_proof_is_for_that_key() {
    let world = World::new().await;
    let (own, other) = (DpopKey::p256(), DpopKey::p256());
    let (basic, nonce) = (world.basic("beta"), world.nonce().await);
    let push = async |key: &DpopKey, jkt: &str, nonce: &str| {
        let proof = key.proof(&world, "POST", "/par", &json!({"nonce": nonce}));
        let form = world.request(&[("dpop_jkt", jkt)]);
        let request = Request::post("/par").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.header("authorization", &basic).header("dpop", proof);
        world.send(request.body(form.into()).unwrap()).await
    };
    let sent_back = push(&own, "", "x").await;
    sent_back.assert_token_error(400, "use_dpop_nonce");
    assert!(!sent_back.header("dpop-nonce").is_empty());
    push(&own, &other.jkt(), &nonce).await.assert_token_error(400, "invalid_dpop_proof");
    assert_eq!(push(&own, &own.jkt(), &nonce).await.status, 201);
    let pushed = push(&own, "", &nonce).await.json();
    let mut browser = Browser::default();
    let query = [("client_id", world.client_id("beta")), ("request_uri", text(&pushed, "request_uri"))];
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let portal = browser.get(&world, &format!("/authorize?{query}")).await.location();
    let code = browser.get(&world, &world.vouch(&portal).await).await.parameter("code").unwrap();
    let proof = |key: &DpopKey| key.proof(&world, "POST", "/token", &json!({"nonce": nonce}));
    world.redeem_with(&code, &[]).await.assert_token_error(400, "invalid_grant");
    world.redeem_with(&code, &[&proof(&other)]).await.assert_token_error(400, "invalid_grant");
    assert_eq!(world.redeem_with(&code, &[&proof(&own)]).await.status, 200);
}

// J3, T6
#[tokio::test]
async fn what_only_looks_like_a_proof_is_refused() {
    let world = World::new().await;
    let (key, other) = (DpopKey::p256(), DpopKey::p256());
    let nonce = world.nonce().await;
    let claims = || key.claims(&world, "POST", "/token", &json!({"nonce": nonce}));
    let with = |change: Value| {
        let mut header = key.header();
        header.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        key.sign(&header, &claims())
    };
    let in_jwk = |change: Value| {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        with(json!({"jwk": jwk}))
    };
    let good = with(json!({}));
    let (unsigned, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = unsigned.split_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let der = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let der = URL_SAFE_NO_PAD.encode(der.sign(&SystemRandom::new(), unsigned.as_bytes()).unwrap());
    let weak = DpopKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), "RS256");
    let twice = |json: String| {
        let text = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(json));
        key.sign_text(&text)
    };
    let jwk = key.jwk().to_string();
    let hostile = [
        with(json!({"alg": "none"})),
        with(json!({"alg": "None"})),
        with(json!({"alg": "nOnE"})),
        with(json!({"alg": "HS256"})),
        with(json!({"alg": "RS256"})),
        with(json!({"alg": "ES384"})),
        with(json!({"alg": ["ES256"]})),
        with(json!({"alg": null})),
        with(json!({"typ": "JWT"})),
        with(json!({"typ": "at+jwt"})),
        with(json!({"typ": null})),
        with(json!({"typ": "DPOP+JWT"})),
        with(json!({"crit": ["b64"], "b64": false})),
        with(json!({"b64": false})),
        with(json!({"crit": ["x"], "x": 1})),
        with(json!({"jwk": null})),
        with(json!({"jwk": other.jwk()})),
        with(json!({"jwk": {"kty": "oct", "k": "AAAA"}})),
        with(json!({"jwk": null, "jku": "https://evil.example/jwks", "kid": "1"})),
        in_jwk(json!({"d": "AAAA"})),
        in_jwk(json!({"k": "AAAA"})),
        in_jwk(json!({"crv": "P-384"})),
        in_jwk(json!({"kty": "OKP"})),
        in_jwk(json!({"x": key.jwk()["y"]})),
        in_jwk(json!({"x": format!("{}=", key.jwk()["x"].as_str().unwrap())})),
        in_jwk(json!({"x": URL_SAFE_NO_PAD.encode([0; 33])})),
        in_jwk(json!({"x": URL_SAFE_NO_PAD.encode([0; 32]), "y": URL_SAFE_NO_PAD.encode([0; 32])})),
        // A member twice: one that is judged and one that is used.
        twice(format!(r#"{{"typ":"dpop+jwt","alg":"none","alg":"ES256","jwk":{jwk}}}"#)),
        twice(format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{{}},"jwk":{jwk}}}"#)),
        twice(format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#, jwk.replacen('{', r#"{"kty":"EC","#, 1))),
        format!("{unsigned}."),
        unsigned.to_owned(),
        format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(&raw[..63])),
        format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode([&raw[..], &[0]].concat())),
        format!("{unsigned}.{der}"),
        format!("{unsigned}.{}", order_times(&raw)),
        format!("{good}="),
        format!("{good}.{payload}.{signature}"),
        format!("{header}..{payload}.{signature}.x"),
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("{}")),
        key.sign(&key.header(), &json!({})),
        key.sign(&key.header(), &json!([])),
        weak.sign(&json!({"typ": "dpop+jwt", "alg": "PS256", "jwk": weak.jwk()}), &claims()),
        short_rsa(&world, &nonce),
        "x".repeat(9000),
        "..".to_owned(),
        "x".to_owned(),
    ];
    for (index, proof) in hostile.iter().enumerate() {
        let answer = world.redeem_with("x", &[proof]).await;
        assert_eq!(answer.status, 400, "{index}: {proof}");
        assert_eq!(answer.json()["error"], "invalid_dpop_proof", "{index}: {proof}");
    }
    world.redeem_with("x", &[&good, &good]).await.assert_token_error(400, "invalid_dpop_proof");
    world.redeem_with("x", &[&good]).await.assert_token_error(400, "invalid_grant");
}

/// r and s plus the order of P-256, where 32 bytes have room for that: the same numbers to a careless verifier.
fn order_times(signature: &[u8]) -> String {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (r, _) = signature.split_at(32);
    URL_SAFE_NO_PAD.encode([r, &ORDER].concat())
}

/// 1024 bits, as nobody should have any more: what it signs need not even be right.
fn short_rsa(world: &World, nonce: &str) -> String {
    let jwk = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xc5; 128]), "e": "AQAB"});
    let key = DpopKey::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), "RS256");
    let claims = key.claims(world, "POST", "/token", &json!({"nonce": nonce}));
    key.sign(&json!({"typ": "dpop+jwt", "alg": "RS256", "jwk": jwk}), &claims)
}
