//! Answers to relying parties: how they travel, what they carry, and what a request can demand of them.

use std::collections::BTreeMap;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::grants::{CodeContents, Grant};
use crate::login::LoginFailure;
use crate::oidc::tests::world::{Answer, Browser, ISSUER, NOW, World, alice, claims, ticket};
use crate::registry::{ClientAuthMethod, GrantType, Scope};

const FORM_POST: (&str, &str) = ("response_mode", "form_post");

impl World {
    fn code(&self, back: &Answer) -> CodeContents {
        self.sealing
            .open_value(crate::secret::Purpose::Code, back.parameter("code").unwrap().strip_prefix("hwc_").unwrap())
            .unwrap()
    }

    async fn id_token(&self, code: &str) -> Value {
        claims(self.redeem(code, &[]).await.json()["id_token"].as_str().unwrap())
    }
}

/// The hidden fields of a form_post page.
fn fields(page: &Answer) -> BTreeMap<String, String> {
    let inputs = page.text().split("<input type=\"hidden\" name=\"").skip(1);
    let field = |input: &str| {
        let (name, rest) = input.split_once("\" value=\"").unwrap();
        (name.to_owned(), rest.split_once("\">").unwrap().0.to_owned())
    };
    inputs.map(field).collect()
}

// A10, A11, S7
#[tokio::test]
async fn an_answer_may_travel_in_a_form() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let hostile = "\"'><script>alert(1)</script>&";
    let portal = world.authorize(&mut browser, &[FORM_POST, ("state", hostile)]).await.location();
    let page = browser.get(&world, &world.vouch(&portal).await).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("action=\"https://beta.example/cb?method=get\""), "{}", page.text());
    let fields = fields(&page);
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["code", "iss", "state"]);
    assert_eq!(fields["iss"], ISSUER);
    assert_eq!(fields["state"], "&#34;&#39;&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#38;");
    assert_eq!(world.redeem(&fields["code"], &[]).await.status, 200);
    let policy = page.header("content-security-policy");
    let script = "script-src 'sha256-";
    assert!(policy.contains(script) && policy.contains("form-action https://beta.example;"), "{policy}");
    assert!(!policy.contains("unsafe") && page.header("cache-control") == "no-store");
    assert_eq!(page.text().matches("<script>").count(), 1);
    assert!(page.text().contains("<script>document.forms[0].submit()</script>"));
    assert!(page.text().contains("type=\"submit\""), "works without scripts");
    assert!(page.headers.get_all("set-cookie").iter().count() == 1, "the session begins");
}

#[tokio::test]
async fn errors_travel_in_a_form_too() {
    let world = World::new().await;
    let silent = world.authorize(&mut Browser::default(), &[FORM_POST, ("prompt", "none")]).await;
    let said = fields(&silent);
    assert_eq!((said["error"].as_str(), said["state"].as_str()), ("login_required", "state"));
    assert_eq!(said["iss"], ISSUER);
    let wrong = world.authorize(&mut Browser::default(), &[FORM_POST, ("scope", "profile"), ("state", "")]).await;
    let said = fields(&wrong);
    assert_eq!((said["error"].as_str(), said.get("state"), said.get("code")), ("invalid_scope", None, None));
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[FORM_POST]).await.location();
    let back = browser.get(&world, &world.fail(&portal, LoginFailure::Cancelled).await).await;
    assert_eq!(fields(&back)["error"], "access_denied");
}

#[tokio::test]
async fn a_link_that_is_only_looked_at_does_nothing() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let back = world.vouch(&portal).await;
    for path in [back.as_str(), &format!("/authorize?{}", world.request(&[])), "/login/consent?question=x"] {
        let head = browser.send(&world, Request::head(path), Body::empty()).await;
        assert_eq!(head.status, 405, "{path}");
        assert!(head.headers.get("set-cookie").is_none() && head.headers.get("location").is_none());
    }
    assert!(browser.get(&world, &back).await.parameter("code").is_some());
}

// A16
#[tokio::test]
async fn an_essential_class_is_met_by_the_home_or_not_at_all() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let essential = ("claims", r#"{"id_token":{"acr":{"essential":true,"values":["gold","silver"]}}}"#);
    let with_class = |acr: Option<&str>| {
        let mut identity = alice(NOW);
        identity.acr = acr.map(str::to_owned);
        identity
    };
    for unmet in [None, Some("bronze")] {
        let portal = world.authorize(&mut browser, &[essential]).await.location();
        let opened = world.login.open_ticket(&"alpha".parse().unwrap(), &ticket(&portal), NOW).unwrap();
        assert_eq!(opened.acr_values, ["gold", "silver"]);
        let back = world.vouch_for(&portal, with_class(unmet)).await;
        browser.get(&world, &back).await.assert_redirect("unmet_authentication_requirements");
        assert!(browser.session().is_none());
    }
    let portal = world.authorize(&mut browser, &[]).await.location();
    browser.get(&world, &world.vouch_for(&portal, with_class(Some("bronze"))).await).await.location();
    // The session is not enough, and no form is shown for it silently.
    world.authorize(&mut browser, &[essential, ("prompt", "none")]).await.assert_redirect("login_required");
    let portal = world.authorize(&mut browser, &[essential]).await.location();
    let back = browser.get(&world, &world.vouch_for(&portal, with_class(Some("silver"))).await).await;
    assert_eq!(world.id_token(&back.parameter("code").unwrap()).await["acr"], "silver");
    assert!(world.authorize(&mut browser, &[essential, ("prompt", "none")]).await.parameter("code").is_some());
}

#[tokio::test]
async fn wishes_are_told_to_the_home_and_never_refused() {
    let world = World::new().await;
    world.change_policy(|policy| policy.default_acr_values = vec!["default".into()]).await;
    let opened = async |replaced: &[(&str, &str)]| {
        let portal = world.authorize(&mut Browser::default(), replaced).await.location();
        world.login.open_ticket(&"alpha".parse().unwrap(), &ticket(&portal), NOW).unwrap()
    };
    let asked =
        opened(&[("acr_values", "2 1"), ("ui_locales", "de-CH fr"), ("claims_locales", "<>"), ("display", "wap")]);
    let asked = asked.await;
    assert_eq!((asked.acr_values, asked.ui_locales.as_deref()), (vec!["2".into(), "1".into()], Some("de-CH fr")));
    let silent = opened(&[("ui_locales", "\"><script>")]).await;
    assert_eq!((silent.acr_values, silent.ui_locales), (vec!["default".to_owned()], None));
}

#[tokio::test]
async fn a_default_max_age_is_demanded() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    world.change_policy(|policy| policy.default_max_age = Some(100)).await;
    world.pass(101);
    world.authorize(&mut browser, &[("prompt", "none")]).await.assert_redirect("login_required");
    assert!(world.authorize(&mut browser, &[("prompt", "none"), ("max_age", "200")]).await.parameter("code").is_some());
    let code = world.sign_in(&mut browser, &[]).await;
    assert_eq!(world.id_token(&code).await["auth_time"], NOW.as_secs() + 101);
}

// A16
#[tokio::test]
async fn a_subject_that_is_asked_for_is_the_only_one_that_will_do() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let code = world.sign_in(&mut browser, &[]).await;
    let sub = world.id_token(&code).await["sub"].as_str().unwrap().to_owned();
    let asking = |sub: &str| json!({"id_token": {"sub": {"value": sub}}}).to_string();
    let silent = |claims: &str| [("prompt", "none".to_owned()), ("claims", claims.to_owned())];
    for (claims, good) in [(asking(&sub), true), (asking("somebody"), false)] {
        let request = silent(&claims);
        let request: Vec<(&str, &str)> = request.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = world.authorize(&mut browser, &request).await;
        if good { assert!(answer.parameter("code").is_some()) } else { answer.assert_redirect("login_required") }
    }
    let other = asking("somebody");
    let portal = world.authorize(&mut browser, &[("claims", &other)]).await.location();
    browser.get(&world, &world.vouch(&portal).await).await.assert_redirect("login_required");
}

#[tokio::test]
async fn claims_go_where_they_were_asked_for_and_nowhere_else() {
    let world = World::new().await;
    world.change_policy(|policy| policy.claims_in_id_token = false).await;
    let asked = r#"{"id_token":{"email":null},"userinfo":{"name":{"essential":true},"is_admin":null}}"#;
    let request = [("scope", "openid phone"), ("claims", asked)];
    let code = world.sign_in(&mut Browser::default(), &request).await;
    let tokens = world.redeem(&code, &[]).await.json();
    let id_token = claims(tokens["id_token"].as_str().unwrap());
    assert_eq!(id_token["email"], "alice@alpha.example");
    let userinfo = world.userinfo(tokens["access_token"].as_str().unwrap()).await.json();
    assert_eq!(userinfo, json!({"sub": id_token["sub"], "name": "Alice Archer"}));
    for never in ["name", "groups", "preferred_username", "phone_number", "is_admin", "email_verified"] {
        assert!(id_token.get(never).is_none(), "{never}");
    }
}

#[tokio::test]
async fn a_resource_is_at_an_instance_whose_api_the_client_may_call() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    let ask = async |browser: &mut Browser, resource: &str| world.authorize(browser, &[("resource", resource)]).await;
    ask(&mut browser, "https://alpha.example/api").await.assert_redirect("invalid_target");
    world.change_edge("beta", "alpha", |edge| edge.api_access = true).await;
    for bad in [
        "https://gamma.example",
        "https://alpha.example.evil/",
        "https://alpha.example/#x",
        "https://alpha.example:8443/",
        "http://alpha.example/",
        "https://user@alpha.example/",
        "//alpha.example/",
        "alpha",
        "urn:alpha",
    ] {
        ask(&mut browser, bad).await.assert_redirect("invalid_target");
    }
    let two = format!("{}&resource=https://alpha.example/api&resource=https://alpha.example", world.request(&[]));
    let back = browser.get(&world, &format!("/authorize?{two}")).await;
    assert_eq!(world.code(&back).grant.resources, ["https://alpha.example/api", "https://alpha.example"]);
    let many = format!("{}{}", world.request(&[]), "&resource=https://alpha.example/".repeat(9));
    browser.get(&world, &format!("/authorize?{many}")).await.assert_redirect("invalid_target");
}

#[tokio::test]
async fn a_grant_outlives_its_session_only_if_that_was_asked_for_and_is_allowed() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    let offline = [("scope", "openid offline_access")];
    let lasts = |grant: &Grant| grant.scopes.has(Scope::OfflineAccess);
    assert!(!lasts(&world.code(&world.authorize(&mut browser, &[]).await).grant));
    assert!(lasts(&world.code(&world.authorize(&mut browser, &offline).await).grant));
    world.change_policy(|policy| policy.grant_types = [GrantType::AuthorizationCode].into()).await;
    let grant = world.code(&world.authorize(&mut browser, &offline).await).grant;
    assert!(!lasts(&grant) && grant.scopes.to_string() == "openid");
    world.change_policy(|policy| policy.grant_types.clear()).await;
    world.authorize(&mut browser, &offline).await.assert_redirect("unauthorized_client");
}

#[tokio::test]
async fn a_code_is_bound_to_the_key_that_the_request_names() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    let jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let back = world.authorize(&mut browser, &[("dpop_jkt", jkt)]).await;
    // Nobody has shown that he has the key.
    world.redeem(&back.parameter("code").unwrap(), &[]).await.assert_token_error(400, "invalid_grant");
}

// P1
#[tokio::test]
async fn a_public_client_sends_a_challenge() {
    let world = World::new().await;
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().auth_method = ClientAuthMethod::None).await;
    let bare = [("code_challenge", ""), ("code_challenge_method", "")];
    world.authorize(&mut Browser::default(), &bare).await.assert_redirect("invalid_request");
    world.authorize(&mut Browser::default(), &[]).await.location();
}

// R3
#[tokio::test]
async fn a_native_client_takes_the_port_that_is_free() {
    let world = World::new().await;
    world.open_registration(1).await;
    let members = json!({"redirect_uris": ["http://127.0.0.1/cb", "http://[::1]:8080/cb"], "application_type": "native",
        "token_endpoint_auth_method": "none"});
    let client = world.registered(&members).await["client_id"].as_str().unwrap().to_owned();
    let ask = async |uri: &str| {
        let request = [("client_id", client.as_str()), ("redirect_uri", uri), ("prompt", "none")];
        world.authorize(&mut Browser::default(), &request).await
    };
    for good in ["http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", "http://[::1]:8080/cb"] {
        let answer = ask(good).await;
        assert!(answer.location().starts_with(&format!("{good}?error=login_required")), "{}", answer.location());
    }
    for bad in [
        "http://127.0.0.1:49152/other",
        "http://127.0.0.1.evil:80/cb",
        "http://127.1:80/cb",
        "http://localhost:80/cb",
        "https://127.0.0.1:80/cb",
        "http://[::1]:8081/cb",
        "http://127.0.0.1:99999/cb",
    ] {
        ask(bad).await.assert_page(400);
    }
    // An instance is where it is.
    let local = vec!["http://127.0.0.1/cb".to_owned()];
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().redirect_uris = local).await;
    let moved = [("redirect_uri", "http://127.0.0.1:5000/cb")];
    world.authorize(&mut Browser::default(), &moved).await.assert_page(400);
}
