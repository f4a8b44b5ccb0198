//! Refresh tokens: one use each, bound to their client, and ended with what they rest on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Lifetimes;
use crate::grants::{CodeBinding, Grant};
use crate::oidc::tests::world::{Answer, Browser, CALLBACK, CHALLENGE, World, alice, claims};
use crate::registry::{ClientAuthMethod, GrantType, GroupMap, SecurityProfile, UserId};

/// As the world has them.
const IDLE: Duration = Duration::from_secs(30 * 86_400);
const ABSOLUTE: Duration = Duration::from_secs(90 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

impl World {
    /// A code of beta's for a grant of alice's, changed as a test needs it.
    pub(super) async fn code_for(&self, change: impl FnOnce(&mut Grant)) -> String {
        use secrecy::ExposeSecret as _;
        let code = self.sign_in(&mut Browser::default(), &[]).await;
        let mut grant = self.grants.open_code(&code).unwrap().grant;
        change(&mut grant);
        let code_challenge = Some(CHALLENGE.parse().unwrap());
        let binding = CodeBinding { redirect_uri: CALLBACK.into(), code_challenge, dpop_jkt: None };
        self.grants.issue_code(grant, binding, self.time.now()).unwrap().expose_secret().to_owned()
    }

    /// A code for a grant that outlives its session.
    pub(super) async fn offline_code(&self) -> String {
        self.code_for(|grant| grant.scopes = "openid profile email offline_access".parse().unwrap()).await
    }

    /// The tokens of such a grant.
    pub(super) async fn offline_tokens(&self) -> Value {
        let answer = self.redeem(&self.offline_code().await, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub(super) async fn refresh(&self, token: &str, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        form.extend(more);
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.token(Some(&self.basic("beta")), &form).await
    }

    async fn refreshed(&self, token: &str) -> String {
        let answer = self.refresh(token, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        text(&answer.json(), "refresh_token")
    }
}

pub(super) fn text(tokens: &Value, name: &str) -> String {
    tokens[name].as_str().unwrap_or_else(|| panic!("no {name}: {tokens}")).to_owned()
}

/// It travels in an address.
#[tokio::test]
async fn a_code_is_short_whoever_the_user_is() {
    let world = World::new().await;
    world.change_edge("beta", "alpha", |edge| edge.groups = GroupMap::everything()).await;
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[("scope", "openid groups offline_access")]).await.location();
    let mut identity = alice(world.time.now());
    identity.groups = (0..128).map(|n| format!("{n:0>255}")).collect();
    let back = browser.get(&world, &world.vouch_for(&portal, identity).await).await;
    let code = back.parameter("code").unwrap();
    assert!(code.len() < 1024, "{}", code.len());
    let tokens = world.redeem(&code, &[]).await.json();
    let refreshed = world.refresh(&text(&tokens, "refresh_token"), &[]).await.json();
    assert_eq!(claims(&text(&refreshed, "id_token"))["groups"].as_array().unwrap().len(), 128);
}

#[tokio::test]
async fn a_login_that_ends_with_its_session_has_no_refresh_token() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    assert!(world.redeem(&code, &[]).await.json().get("refresh_token").is_none());
    world
        .change("beta", |beta| {
            let policy = &mut beta.relying_party.as_mut().unwrap().policy;
            policy.grant_types = [GrantType::AuthorizationCode].into();
        })
        .await;
    assert!(world.offline_tokens().await.get("refresh_token").is_none());
    world.refresh("x", &[]).await.assert_token_error(400, "unauthorized_client");
}

#[tokio::test]
async fn tokens_are_renewed_for_the_same_user_and_login() {
    let world = World::new().await;
    let first = world.offline_tokens().await;
    assert!(text(&first, "refresh_token").starts_with("hwr_"));
    world.pass(300);
    let second = world.refresh(&text(&first, "refresh_token"), &[]).await.json();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_ne!(first["access_token"], second["access_token"]);
    let (old, new) = (claims(&text(&first, "id_token")), claims(&text(&second, "id_token")));
    // OpenID Connect Core 12.2.
    for same in ["iss", "sub", "aud", "auth_time", "amr"] {
        assert_eq!(old[same], new[same], "{same}");
    }
    assert!(old["nonce"] == "nonce" && new.get("nonce").is_none());
    assert_eq!(new["iat"], json!(world.time.now()));
    assert_eq!(world.userinfo(&text(&second, "access_token")).await.status, 200);
}

// T9
#[tokio::test]
async fn a_token_that_was_used_ends_all_of_its_family() {
    let world = World::new().await;
    let first = world.offline_tokens().await;
    let second = world.refresh(&text(&first, "refresh_token"), &[]).await.json();
    let third = world.refresh(&text(&second, "refresh_token"), &[]).await.json();
    assert_eq!(world.userinfo(&text(&first, "access_token")).await.status, 200);
    world.refresh(&text(&first, "refresh_token"), &[]).await.assert_token_error(400, "invalid_grant");
    for tokens in [&first, &second, &third] {
        world.refresh(&text(tokens, "refresh_token"), &[]).await.assert_token_error(400, "invalid_grant");
        assert_eq!(world.userinfo(&text(tokens, "access_token")).await.status, 401);
    }
}

// T9
#[tokio::test]
async fn anothers_refresh_token_is_refused_and_nothing_happens() {
    let world = World::new().await;
    let token = text(&world.offline_tokens().await, "refresh_token");
    let (delta, secret) = (world.client_id("delta"), world.secret("delta"));
    let form = format!("grant_type=refresh_token&client_id={delta}&client_secret={secret}&refresh_token={token}");
    let next = world.refreshed(&token).await;
    // Not even when it was used before.
    world.token(None, &form).await.assert_token_error(400, "invalid_grant");
    world.refreshed(&next).await;
}

// T9: what was granted, or less.
#[tokio::test]
async fn a_scope_is_narrowed_and_never_widened() {
    let world = World::new().await;
    let token = text(&world.offline_tokens().await, "refresh_token");
    for wider in ["openid groups", "openid profile email phone", "rubbish"] {
        world.refresh(&token, &[("scope", wider)]).await.assert_token_error(400, "invalid_scope");
    }
    let narrow = world.refresh(&token, &[("scope", "email openid")]).await.json();
    assert_eq!(narrow["scope"], "openid email");
    let userinfo = world.userinfo(&text(&narrow, "access_token")).await.json();
    assert!(userinfo.get("email").is_some() && userinfo.get("name").is_none());
    // The refresh token stands for all that was granted (RFC 6749 6).
    let wide = world.refresh(&text(&narrow, "refresh_token"), &[]).await.json();
    assert_eq!(wide["scope"], "openid profile email offline_access");
    let nobody = world.refresh(&text(&wide, "refresh_token"), &[("scope", "email")]).await.json();
    assert!(nobody.get("id_token").is_none());
    let refused = world.userinfo(&text(&nobody, "access_token")).await;
    assert!(refused.status == 403 && refused.header("www-authenticate").contains("insufficient_scope"));
}

// T10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_uses_at_once_one_succeeds() {
    let world = Arc::new(World::new().await);
    let token = text(&world.offline_tokens().await, "refresh_token");
    let tries = (0..12).map(|_| {
        let (world, token) = (world.clone(), token.clone());
        tokio::spawn(async move { world.refresh(&token, &[]).await.status.as_u16() })
    });
    let mut succeeded = 0;
    for attempt in tries.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            200 => succeeded += 1,
            status => assert_eq!(status, 400),
        }
    }
    assert_eq!(succeeded, 1);
}

// T9: idle and absolute.
#[tokio::test]
async fn refresh_tokens_end_when_they_are_not_used_and_at_last_in_any_case() {
    let world = World::new().await;
    let unused = text(&world.offline_tokens().await, "refresh_token");
    let mut used = text(&world.offline_tokens().await, "refresh_token");
    let step = IDLE.as_secs() - 1;
    world.pass(step);
    used = world.refreshed(&used).await;
    world.pass(1);
    world.refresh(&unused, &[]).await.assert_token_error(400, "invalid_grant");
    world.pass(step - 1);
    used = world.refreshed(&used).await;
    world.pass(step);
    used = world.refreshed(&used).await;
    world.pass(ABSOLUTE.as_secs() - 3 * step - 1);
    used = world.refreshed(&used).await;
    world.pass(1);
    world.refresh(&used, &[]).await.assert_token_error(400, "invalid_grant");
}

/// What else knows of a grant, and ends it when its user leaves, is kept for as long as it could last when it began.
#[tokio::test]
async fn a_lifetime_that_is_made_longer_is_for_what_begins_later() {
    let world = World::new().await;
    let mut token = text(&world.offline_tokens().await, "refresh_token");
    let longer =
        Lifetimes { refresh_token: ABSOLUTE * 2, session: DAY * 2, session_idle: DAY * 2, ..*world.lifetimes.borrow() };
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    world.lifetimes.send_replace(longer);
    let silent = [("prompt", "none")];
    for _ in 0..6 {
        world.pass(7199);
        assert!(world.authorize(&mut browser, &silent).await.parameter("code").is_some());
    }
    world.pass(6);
    world.authorize(&mut browser, &silent).await.assert_redirect("login_required");
    let mut later = text(&world.offline_tokens().await, "refresh_token");
    let step = IDLE.as_secs() - 1;
    for _ in 0..3 {
        token = world.refreshed(&token).await;
        later = world.refreshed(&later).await;
        world.pass(step);
    }
    world.refresh(&token, &[]).await.assert_token_error(400, "invalid_grant");
    world.refreshed(&later).await;
}

// T10
#[tokio::test]
async fn refresh_tokens_end_with_the_trust_they_rest_on() {
    let world = World::new().await;
    let token = text(&world.offline_tokens().await, "refresh_token");
    world.deny("beta", "alpha").await;
    world.refresh(&token, &[]).await.assert_token_error(400, "invalid_grant");
    // What died with one edge does not come back with another.
    world.allow("beta", "alpha").await;
    world.refresh(&token, &[]).await.assert_token_error(400, "invalid_grant");
    let token = text(&world.offline_tokens().await, "refresh_token");
    world.quarantine("alpha").await;
    world.refresh(&token, &[]).await.assert_token_error(400, "invalid_grant");
    world.change("alpha", |alpha| alpha.state = crate::registry::InstanceState::Confirmed).await;
    // What was refused for that was not used.
    let token = world.refreshed(&token).await;
    world.change("alpha", |alpha| alpha.id = crate::registry::InstanceId::generate()).await;
    world.refresh(&token, &[]).await.assert_token_error(400, "invalid_grant");
    world.quarantine("beta").await;
    world.refresh(&token, &[]).await.assert_token_error(401, "invalid_client");
}

#[tokio::test]
async fn the_grants_of_a_user_are_found_and_ended() {
    let world = World::new().await;
    let code = world.offline_code().await;
    let user: UserId = world.grants.open_code(&code).unwrap().grant.user;
    assert!(world.grants.of_user(&user).await.unwrap().is_empty());
    let first = world.redeem(&code, &[]).await.json();
    let second = world.offline_tokens().await;
    let found = world.grants.of_user(&user).await.unwrap();
    assert_eq!(found.len(), 2);
    for (id, grant) in found {
        assert_eq!(grant.relying_party.as_str(), "beta");
        world.grants.end(&id).await.unwrap();
    }
    assert!(world.grants.of_user(&user).await.unwrap().is_empty());
    for tokens in [first, second] {
        world.refresh(&text(&tokens, "refresh_token"), &[]).await.assert_token_error(400, "invalid_grant");
        assert_eq!(world.userinfo(&text(&tokens, "access_token")).await.status, 401);
    }
}

#[tokio::test]
async fn a_replayed_code_ends_the_refresh_tokens_too() {
    let world = World::new().await;
    let code = world.offline_code().await;
    let token = text(&world.redeem(&code, &[]).await.json(), "refresh_token");
    let token = world.refreshed(&token).await;
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    world.refresh(&token, &[]).await.assert_token_error(400, "invalid_grant");
}

// C6, C8
#[tokio::test]
async fn what_only_looks_like_a_refresh_token_is_none() {
    let world = World::new().await;
    let code = world.offline_code().await;
    let tokens = world.redeem(&code, &[]).await.json();
    let (refresh, access) = (text(&tokens, "refresh_token"), text(&tokens, "access_token"));
    for bad in [
        &refresh[..refresh.len() - 1],
        &format!("{refresh}A"),
        &format!("{refresh}="),
        &refresh.to_ascii_lowercase(),
        &access,
        &access.replace("hwa_", "hwr_"),
        &code.replace("hwc_", "hwr_"),
        &text(&tokens, "id_token"),
        "\0",
    ] {
        world.refresh(bad, &[]).await.assert_token_error(400, "invalid_grant");
    }
    world.refresh("", &[]).await.assert_token_error(400, "invalid_request");
    for other in [refresh.clone(), refresh.replace("hwr_", "hwa_")] {
        assert_eq!(world.userinfo(&other).await.status, 401);
        world.redeem(&other.replace("hwr_", "hwc_"), &[]).await.assert_token_error(400, "invalid_grant");
    }
    world.refreshed(&refresh).await;
}

// RFC 9700 2.2.2 does without rotation where the client is known by a key; FAPI 2.0 Security Profile 5.3.2.1 forbids it.
#[tokio::test]
async fn a_client_of_the_fapi_profile_keeps_its_token() {
    let world = World::new().await;
    let signer = super::assertions::ClientSigner::new();
    let token = text(&world.offline_tokens().await, "refresh_token");
    world.use_keys(super::assertions::key(&signer, 1), None).await;
    world
        .change("beta", |beta| {
            beta.relying_party.as_mut().unwrap().policy.profile = SecurityProfile::Fapi2;
        })
        .await;
    let key = super::dpop::DpopKey::p256();
    for _ in 0..3 {
        world.pass(86_400);
        let proof = key.proof(&world, "POST", "/token", &json!({"nonce": world.nonce().await}));
        let assertion = signer.sign(&world.assertion_claims(&json!({})));
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
        let answer = world.token_with_proof(&assertion, &form, &proof).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.json().get("refresh_token").is_none());
        assert_eq!(answer.json()["token_type"], "DPoP");
    }
    // That it is used keeps it alive, and is noted every other day.
    world.pass(IDLE.as_secs() - 2 * 86_400);
    let proof = key.proof(&world, "POST", "/token", &json!({"nonce": world.nonce().await}));
    let assertion = signer.sign(&world.assertion_claims(&json!({})));
    let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    assert_eq!(world.token_with_proof(&assertion, &form, &proof).await.status, 200);
}

#[tokio::test]
async fn a_public_client_keeps_its_key() {
    let world = World::new().await;
    world
        .change("beta", |beta| {
            let party = beta.relying_party.as_mut().unwrap();
            party.auth_method = ClientAuthMethod::None;
            party.credential = crate::registry::ClientCredential::Nothing;
        })
        .await;
    let (own, other) = (super::dpop::DpopKey::p256(), super::dpop::DpopKey::p256());
    let beta = world.client_id("beta");
    let code = world.offline_code().await;
    let nonce = world.nonce().await;
    let send = async |key: &super::dpop::DpopKey, form: &[(&str, &str)]| {
        let proof = key.proof(&world, "POST", "/token", &json!({"nonce": nonce}));
        let mut form = form.to_vec();
        form.push(("client_id", &beta));
        world.send_form("/token", &form, &[("dpop", &proof)]).await
    };
    let verifier = super::world::VERIFIER;
    let redemption = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", verifier),
    ];
    let tokens = send(&own, &redemption).await.json();
    let token = text(&tokens, "refresh_token");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    send(&other, &refresh).await.assert_token_error(400, "invalid_grant");
    let mut unbound = refresh.to_vec();
    unbound.push(("client_id", &beta));
    world.send_form("/token", &unbound, &[]).await.assert_token_error(400, "invalid_grant");
    // Who has stolen it has ended nothing by that.
    let next = text(&send(&own, &refresh).await.json(), "refresh_token");
    send(&other, &refresh).await.assert_token_error(400, "invalid_grant");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", next.as_str())];
    assert_eq!(send(&own, &refresh).await.status, 200);
}
