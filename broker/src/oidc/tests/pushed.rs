//! Pushed authorization requests (RFC 9126).

use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::json;

use crate::login::LoginFailure;
use crate::oidc::tests::dpop::DpopKey;
use crate::oidc::tests::request_objects::{ObjectSigner, object};
use crate::oidc::tests::session::hidden;
use crate::oidc::tests::world::{Answer, Browser, CALLBACK, World};
use crate::registry::{ClientAuthMethod, ClientCredential};

impl World {
    pub(super) async fn push(&self, authorization: Option<&str>, form: &str) -> Answer {
        let mut request = Request::post("/par").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(request.body(form.to_owned().into()).unwrap()).await
    }

    /// Pushes beta's request, with some parameters replaced; gives where a browser goes with it.
    async fn pushed(&self, replaced: &[(&str, &str)]) -> String {
        let answer = self.push(Some(&self.basic("beta")), &self.request(replaced)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let uri = answer.json()["request_uri"].as_str().unwrap().to_owned();
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &self.client_id("beta"))
            .append_pair("request_uri", &uri)
            .finish();
        format!("/authorize?{query}")
    }
}

#[tokio::test]
async fn a_pushed_request_is_all_that_counts_and_is_used_up_by_its_answer() {
    let world = World::new().await;
    let answer = world.push(Some(&world.basic("beta")), &world.request(&[])).await;
    assert_eq!((answer.status.as_u16(), answer.json()["expires_in"].clone()), (201, json!(60)));
    assert_eq!(answer.header("cache-control"), "no-store");
    let address = world.pushed(&[("scope", "openid")]).await;
    let mut browser = Browser::default();
    // Loading it, twice even, uses nothing up; what stands beside it does not count.
    browser.get(&world, &address).await.location();
    let beside = format!("{address}&scope=openid+email&state=evil&redirect_uri=https://evil.example&prompt=none");
    let portal = browser.get(&world, &beside).await.location();
    let back = browser.get(&world, &world.vouch(&portal).await).await;
    assert!(back.location().starts_with(CALLBACK));
    assert_eq!(back.parameter("state").as_deref(), Some("state"));
    let tokens = world.redeem(&back.parameter("code").unwrap(), &[]).await.json();
    assert_eq!(tokens["scope"], "openid");
    browser.get(&world, &address).await.assert_page(400);
}

#[tokio::test]
async fn of_two_logins_by_one_pushed_request_one_gets_a_code() {
    let world = World::new().await;
    let address = world.pushed(&[]).await;
    let (mut one, mut two) = (Browser::default(), Browser::default());
    let first = one.get(&world, &address).await.location();
    let second = two.get(&world, &address).await.location();
    let (first, second) = (world.vouch(&first).await, world.vouch(&second).await);
    assert!(two.get(&world, &second).await.parameter("code").is_some());
    one.get(&world, &first).await.assert_page(400);
    assert!(one.session().is_none(), "nothing of it was written");
}

#[tokio::test]
async fn a_refusal_uses_a_pushed_request_up_as_well() {
    let world = World::new().await;
    let silent = world.pushed(&[("prompt", "none")]).await;
    let mut browser = Browser::default();
    browser.get(&world, &silent).await.assert_redirect("login_required");
    browser.get(&world, &silent).await.assert_page(400);
    let failed = world.pushed(&[]).await;
    let portal = browser.get(&world, &failed).await.location();
    browser.get(&world, &world.fail(&portal, LoginFailure::Denied).await).await.assert_redirect("access_denied");
    browser.get(&world, &failed).await.assert_page(400);
    world.allow("beta", "gamma").await;
    let cancelled = world.pushed(&[]).await;
    let page = browser.get(&world, &cancelled).await;
    let form = [("transaction", hidden(page.text())), ("cancel", "1".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.post(&world, "/login/home", &form).await.assert_redirect("access_denied");
    browser.post(&world, "/login/home", &form).await.assert_page(400);
}

#[tokio::test]
async fn a_pushed_request_is_its_clients_and_lasts_a_minute() {
    let world = World::new().await;
    let address = world.pushed(&[]).await;
    let (beta, delta) = (world.client_id("beta"), world.client_id("delta"));
    let mut browser = Browser::default();
    browser.get(&world, &address.replace(&beta, &delta)).await.assert_page(400);
    browser.get(&world, &address.replace(&beta, "nobody")).await.assert_page(400);
    browser.get(&world, &address[..address.len() - 1]).await.assert_page(400);
    world.pass(59);
    let portal = browser.get(&world, &address).await.location();
    world.pass(1);
    browser.get(&world, &address).await.assert_page(400);
    // The login that it began goes on as long as any.
    world.pass(500);
    assert!(browser.get(&world, &world.vouch(&portal).await).await.parameter("code").is_some());
    let address = world.pushed(&[]).await;
    world.quarantine("beta").await;
    browser.get(&world, &address).await.assert_page(400);
}

#[tokio::test]
async fn who_pushes_is_authenticated_and_checked_as_at_the_authorization_endpoint() {
    let world = World::new().await;
    let basic = world.basic("beta");
    world.push(None, &world.request(&[])).await.assert_token_error(401, "invalid_client");
    world.push(Some("Basic YTpi"), &world.request(&[])).await.assert_token_error(401, "invalid_client");
    world.push(Some(&world.basic("delta")), &world.request(&[])).await.assert_token_error(401, "invalid_client");
    for (name, value, error) in [
        ("redirect_uri", "https://evil.example/", "invalid_request"),
        ("redirect_uri", "", "invalid_request"),
        ("request_uri", "urn:ietf:params:oauth:request_uri:x", "invalid_request"),
        ("request_uri", "https://beta.example/r", "invalid_request"),
        ("request", "e30.e30.", "invalid_request_object"),
        ("response_type", "token", "unsupported_response_type"),
        ("scope", "email", "invalid_scope"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("resource", "https://nobody.example", "invalid_target"),
        ("claims", "[]", "invalid_request"),
    ] {
        world.push(Some(&basic), &world.request(&[(name, value)])).await.assert_token_error(400, error);
    }
    let twice = format!("{}&nonce=2", world.request(&[]));
    world.push(Some(&basic), &twice).await.assert_token_error(400, "invalid_request");
    let json = Request::post("/par").header(CONTENT_TYPE, "application/json").body("{}".to_owned().into()).unwrap();
    world.send(json).await.assert_token_error(400, "invalid_request");
    let query = Request::post(format!("/par?{}", world.request(&[]))).body("".to_owned().into()).unwrap();
    world.send(query).await.assert_token_error(400, "invalid_request");
    assert_eq!(world.send(Request::get("/par").body("".to_owned().into()).unwrap()).await.status, 405);
}

#[tokio::test]
async fn a_client_that_must_push_is_heard_nowhere_else() {
    let world = World::new().await;
    world.change_policy(|policy| policy.require_par = true).await;
    world.authorize(&mut Browser::default(), &[]).await.assert_redirect("invalid_request");
    Browser::default().get(&world, &world.pushed(&[]).await).await.location();
    world.change_policy(|policy| policy.require_par = false).await;
    let signer = ObjectSigner::of_beta(&world).await;
    world.use_fapi2().await;
    world.authorize(&mut Browser::default(), &[]).await.assert_redirect("invalid_request");
    let push = async |request: String| world.push(None, &format!("{request}&{}", signer.assertion(&world))).await;
    let bare = [("code_challenge", ""), ("code_challenge_method", "")];
    push(world.request(&bare)).await.assert_token_error(400, "invalid_request");
    assert_eq!(push(world.request(&[])).await.status, 201);
}

#[tokio::test]
async fn a_request_object_may_be_pushed() {
    let world = World::new().await;
    let signer = ObjectSigner::of_beta(&world).await;
    let request = signer.sign(&json!({"alg": "ES256"}), &object(&world, &json!({})));
    let address = world.pushed(&[("request", &request), ("state", "outer")]).await;
    let mut browser = Browser::default();
    let portal = browser.get(&world, &address).await.location();
    let back = browser.get(&world, &world.vouch(&portal).await).await;
    assert_eq!(back.parameter("state").as_deref(), Some("inner"));
}

#[tokio::test]
async fn the_store_keeps_a_request_under_nothing_that_anybody_could_use() {
    let world = World::new().await;
    let address = world.pushed(&[]).await;
    let secret = address.rsplit_once("%3A").unwrap().1;
    let page = crate::storage::Page { prefix: "pushed_request/".into(), after: None, limit: 10 };
    let all = crate::storage::Store::list(world.store.as_ref(), page).await.unwrap();
    assert_eq!(all.len(), 1);
    for (key, value) in all {
        assert!(!key.as_str().contains(secret) && !String::from_utf8_lossy(&value.value).contains(secret));
    }
    world.pass(60 + 600 + 60);
    let swept = crate::storage::expiry::sweep(world.store.as_ref(), "pushed_request", world.time.now()).await.unwrap();
    assert_eq!(swept, 1);
}

// RFC 9449 10.1
#[tokio::test]
async fn a_proof_at_the_push_binds_the_code() {
    let world = World::new().await;
    let (key, other) = (DpopKey::p256(), DpopKey::p256());
    let push = async |proof: String, jkt: &str| {
        let basic = world.basic("beta");
        let request = world.request(&[("dpop_jkt", jkt)]);
        let form: Vec<(String, String)> = form_urlencoded::parse(request.as_bytes()).into_owned().collect();
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        world.send_form("/par", &form, &[("authorization", &basic), ("dpop", &proof)]).await
    };
    let without_nonce = push(key.proof(&world, "POST", "/par", &json!({})), "").await;
    without_nonce.assert_token_error(400, "use_dpop_nonce");
    let nonce = json!({"nonce": without_nonce.header("dpop-nonce")});
    let proof = |path| key.proof(&world, "POST", path, &nonce);
    push(proof("/token"), "").await.assert_token_error(400, "invalid_dpop_proof");
    push(proof("/par"), &other.jkt()).await.assert_token_error(400, "invalid_dpop_proof");
    let pushed = push(proof("/par"), "").await;
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &world.client_id("beta"))
        .append_pair("request_uri", pushed.json()["request_uri"].as_str().unwrap())
        .finish();
    let mut browser = Browser::default();
    let portal = browser.get(&world, &format!("/authorize?{query}")).await.location();
    let code = browser.get(&world, &world.vouch(&portal).await).await.parameter("code").unwrap();
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
}

#[tokio::test]
async fn strangers_cannot_fill_the_store_in_the_name_of_a_public_client() {
    let world = World::new().await;
    world
        .change("beta", |beta| {
            let party = beta.relying_party.as_mut().unwrap();
            (party.auth_method, party.credential) = (ClientAuthMethod::None, ClientCredential::Nothing);
        })
        .await;
    let request = world.request(&[]);
    let mut last = world.push(None, &request).await;
    assert_eq!(last.status, 201, "{}", last.text());
    for _ in 0..200 {
        last = world.push(None, &request).await;
        if last.status == 429 {
            break;
        }
    }
    last.assert_token_error(429, "temporarily_unavailable");
}
