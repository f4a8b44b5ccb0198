//! JWTs as Project Wycheproof and its friends write them, at every place that takes one: client assertions, ID token
//! hints, access tokens. (Proofs are in `dpop.rs`.) Nothing is fetched for any of them: the broker of these tests reaches
//! nobody, and would take seconds to find out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::oidc::tests::assertions::{ClientSigner, key};
use crate::oidc::tests::refresh::text;
use crate::oidc::tests::world::{Browser, World};

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// A good JWT with another header, and its old signature.
fn with_header(jwt: &str, change: &Value) -> String {
    let (header, rest) = jwt.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    format!("{}.{rest}", encoded(&header))
}

/// What can be made of a good JWT without its key.
fn mutations(jwt: &str) -> Vec<String> {
    let (unsigned, signature) = jwt.rsplit_once('.').unwrap();
    let (header, claims) = unsigned.split_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let signed = |bytes: &[u8]| format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(bytes));
    let mut flipped = raw.clone();
    flipped[0] ^= 1;
    let mut forged: Vec<String> = vec![
        unsigned.to_owned(),
        format!("{unsigned}."),
        signed(&[0; 64]),
        signed(&[0; 256]),
        signed(&[&ORDER[..], &ORDER[..]].concat()),
        signed(&raw[..raw.len() - 1]),
        signed(&[&raw[..], &[0]].concat()),
        signed(&[&[0], &raw[..]].concat()),
        signed(&flipped),
        // r = s = 1 in DER, and as fixed 32 bytes.
        signed(&[0x30, 6, 2, 1, 1, 2, 1, 1]),
        signed(&[[0; 31].as_slice(), &[1], &[0; 31], &[1]].concat()),
        format!("{jwt}="),
        format!("{jwt}."),
        format!(".{jwt}"),
        format!("{header}.{claims}.{signature}.{signature}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}.{}.{signature}", encoded(&json!({}))),
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("null")),
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode([0xff, 0xfe])),
        format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode("{")),
        format!("{header} .{claims}.{signature}"),
        jwt.replace('.', ","),
        // Deep, and a PBES2 count that would take minutes (J4).
        format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode("[".repeat(2000))),
        format!("{}.x.x.x.x", encoded(&json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 1_000_000_000}))),
    ];
    let public = json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"});
    forged.extend(
        [
            json!({"alg": "none"}),
            json!({"alg": "None"}),
            json!({"alg": "NONE"}),
            json!({"alg": "nOnE"}),
            json!({"alg": ""}),
            json!({"alg": null}),
            json!({"alg": 0}),
            json!({"alg": "HS256"}),
            json!({"alg": "ES384"}),
            json!({"alg": "ES256K"}),
            json!({"alg": "RS1"}),
            json!({"jwk": public}),
            json!({"jku": "https://evil.example/jwks", "kid": "evil"}),
            json!({"x5u": "https://evil.example/x.pem"}),
            json!({"x5c": ["AAAA"]}),
            json!({"kid": "../../../../dev/null"}),
            json!({"kid": "' UNION SELECT 'key"}),
            json!({"kid": ["a"]}),
            json!({"crit": ["exp"]}),
            json!({"crit": []}),
            json!({"b64": false, "crit": ["b64"]}),
        ]
        .iter()
        .map(|change| with_header(jwt, change)),
    );
    forged
}

// J3, T6
#[tokio::test]
async fn hostile_client_assertions_authenticate_nobody() {
    let world = World::new().await;
    let (signer, stranger) = (ClientSigner::new(), ClientSigner::new());
    world.use_keys(key(&signer, 1), None).await;
    let claims = world.assertion_claims(&json!({}));
    let good = signer.sign(&claims);
    let mut forged = mutations(&good);
    let jwk = serde_json::to_value(signer.jwk()).unwrap();
    // RFC 8725 2.1: all that is public, as the secret of an HMAC.
    let point = [&URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap()[..], b""].concat();
    for public in [jwk.to_string().into_bytes(), point, Vec::new()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(&public);
            forged.push(jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap());
        }
    }
    let theirs = serde_json::to_value(stranger.jwk()).unwrap();
    forged.extend(
        [
            json!({"alg": "ES256"}),
            json!({"alg": "ES256", "jwk": theirs}),
            json!({"alg": "ES256", "jku": "https://evil.example/jwks"}),
            json!({"alg": "ES256", "x5c": ["AAAA"], "x5u": "https://evil.example/"}),
        ]
        .iter()
        .map(|header| stranger.sign_with(header, &claims)),
    );
    // Really signed, and still not to be taken.
    forged.extend(
        [
            json!({"alg": "ES256", "crit": ["x"], "x": 1}),
            json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
            json!({"alg": "ES256", "b64": true}),
            json!({"alg": "none"}),
            json!({"alg": "PS256"}),
        ]
        .iter()
        .map(|header| signer.sign_with(header, &claims)),
    );
    let twice = |header: &str, claims: &str| {
        signer.sign_text(&format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)))
    };
    let body = claims.to_string();
    let (es256, plain) = (r#"{"alg":"ES256"}"#, body.strip_suffix('}').unwrap());
    forged.push(twice(r#"{"alg":"none","alg":"ES256"}"#, &body));
    forged.push(twice(es256, &format!(r#"{plain},"sub":"{}"}}"#, world.client_id("delta"))));
    forged.push(twice(es256, &format!(r#"{plain},"exp":4102444800}}"#)));
    forged.push(twice(es256, &format!("{body}{body}")));
    for (index, assertion) in forged.iter().enumerate() {
        let answer = world.assert_with(assertion, &[]).await;
        assert_eq!(answer.status, 401, "{index} {assertion} {}", answer.text());
        assert_eq!(answer.json()["error"], "invalid_client", "{index} {assertion}");
        world.pass(u64::from(index % 2 == 0));
    }
    world.pass(60);
    let fresh = signer.sign(&world.assertion_claims(&json!({})));
    world.assert_with(&fresh, &[]).await.assert_token_error(400, "invalid_grant");
}

// J2, J3
#[tokio::test]
async fn hostile_access_tokens_and_hints_are_worth_nothing() {
    const API: &str = "https://beta.example/api";
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    // beta's own API, and beta may call that.
    let code = world.code_for(|grant| grant.resources = vec![API.into()]).await;
    let tokens = world.redeem(&code, &[("resource", API)]).await.json();
    let (access, hint) = (text(&tokens, "access_token"), text(&tokens, "id_token"));
    let inactive = json!({"active": false});
    assert_eq!(world.introspect("beta", &access, "").await.json()["active"], true);
    let reference = super::world::claims(&access)["jti"].clone();
    let header = jsonwebtoken::decode_header(&access).unwrap();
    let keys = world.keys.current();
    let signer = keys.published(header.kid.as_deref().unwrap()).unwrap();
    let mut forged = mutations(&access);
    // What is in it is real, and what is around it is not.
    forged.push(
        jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &json!({"jti": reference}),
            &EncodingKey::from_secret(b""),
        )
        .unwrap(),
    );
    forged.push(signer.sign(&json!({"iss": super::world::ISSUER, "jti": reference})).unwrap());
    forged.push(signer.sign_typed("at+jwt", &json!({"iss": "https://evil.example", "jti": reference})).unwrap());
    forged.push(signer.sign_typed("at+jwt", &json!({"iss": super::world::ISSUER, "jti": "x"})).unwrap());
    for token in forged.iter().filter(|token| token.len() < 60_000) {
        assert_eq!(world.introspect("beta", token, "").await.json(), inactive, "{token}");
        assert_eq!(world.userinfo_or_refusal(token).await, 401, "{token}");
    }
    for hint in mutations(&hint) {
        let silent = [("prompt", "none"), ("id_token_hint", hint.as_str())];
        let answer = world.authorize(&mut browser, &silent).await;
        assert_eq!(answer.parameter("code"), None, "{hint}");
        let error = answer.parameter("error").unwrap();
        assert!(["invalid_request", "login_required"].contains(&error.as_str()), "{hint} {error}");
    }
    assert_eq!(world.introspect("beta", &access, "").await.json()["active"], true);
}

impl World {
    /// What cannot even be a header is refused as well.
    async fn userinfo_or_refusal(&self, token: &str) -> u16 {
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        if printable { self.userinfo(token).await.status.as_u16() } else { 401 }
    }
}
