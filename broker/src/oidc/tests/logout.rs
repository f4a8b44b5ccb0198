//! The end of sessions as browsers and strangers meet it.

use axum::body::Body;
use http::Request;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use url::Url;

use super::world::{Answer, Browser, CALLBACK, ISSUER, NOW, World, claims};
use crate::registry::{ConsentPolicy, LogoutAddresses};
use crate::sessions::{LogoutState, Message};

const BACK: &str = "https://beta.example/signed-out?from=homeward";

/// alice at beta, which has registered where to go afterwards; gives her ID token.
async fn signed_in(world: &World, browser: &mut Browser) -> String {
    let logout = LogoutAddresses { post_logout: vec![BACK.to_owned()], ..LogoutAddresses::default() };
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().logout = logout).await;
    let code = world.sign_in(browser, &[]).await;
    world.redeem(&code, &[]).await.json()["id_token"].as_str().unwrap().to_owned()
}

async fn logout(world: &World, browser: &mut Browser, parameters: &[(&str, &str)]) -> Answer {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    browser.get(world, &format!("/logout?{query}")).await
}

async fn is_signed_in(world: &World, browser: &mut Browser) -> bool {
    world.authorize(browser, &[("prompt", "none")]).await.parameter("code").is_some()
}

fn hidden(page: &str, name: &str) -> Option<String> {
    let field = page.split(&format!("name=\"{name}\" value=\"")).nth(1)?;
    Some(field.split('"').next()?.replace("&#38;", "&").replace("&#x2F;", "/"))
}

fn assert_question(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.headers.get("location").is_none() && answer.headers.get("refresh").is_none());
    assert!(answer.text().contains("Do you want to sign out?"), "{}", answer.text());
}

// S8, C7
#[tokio::test]
async fn a_fitting_hint_ends_the_session_and_all_that_came_of_it() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let hint = signed_in(&world, &mut browser).await;
    let code = world.authorize(&mut browser, &[("prompt", "none")]).await.parameter("code").unwrap();
    let other = world.authorize(&mut browser, &[("prompt", "none")]).await.parameter("code").unwrap();
    let token = world.redeem(&other, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(world.userinfo(&token).await.status, 200);
    // The token is old by now, and the user is still meant.
    world.pass(3600);
    assert!(is_signed_in(&world, &mut browser).await);
    let state = "a b&c=d\"><script>";
    let parameters = [
        ("id_token_hint", hint.as_str()),
        ("post_logout_redirect_uri", BACK),
        ("state", state),
        ("ui_locales", "de fr"),
    ];
    let answer = logout(&world, &mut browser, &parameters).await;
    let back = Url::parse(&answer.location()).unwrap();
    assert!(answer.location().starts_with(&format!("{BACK}&state=")), "{back}");
    assert_eq!(back.query_pairs().find(|(name, _)| name == "state").unwrap().1, state);
    assert!(answer.header("set-cookie").contains("__Host-homeward-session=;"));
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    assert!(!is_signed_in(&world, &mut browser).await);
    assert_eq!(world.redeem(&code, &[]).await.json()["error"], "invalid_grant");
    assert_eq!(world.userinfo(&token).await.status, 401);
    // beta's agent and the home's are told.
    let told = world.sessions.outbox().page(None, 10).await.unwrap();
    let sid = claims(&hint)["sid"].clone();
    assert!(told.iter().any(|(_, one)| matches!(&one.message, Message::Agent(e) if json!(e.session) == sid)));
    assert!(told.iter().any(|(_, one)| one.message == Message::Home { home_user_id: "17".into() }));
    assert_eq!(told.len(), 2);
}

// S8
#[tokio::test]
async fn a_hint_that_we_did_not_make_is_no_reason_for_anything() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let hint = signed_in(&world, &mut browser).await;
    let parts: Vec<&str> = hint.split('.').collect();
    let forged = |header: Value| {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header.to_string());
        format!("{encoded}.{}.", parts[1])
    };
    let kid = jsonwebtoken::decode_header(&hint).unwrap().kid.unwrap();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(kid.clone());
    let with_public_key = EncodingKey::from_secret(world.keys.current().jwks());
    let keys = world.keys.current();
    let signer = keys.published(&kid).unwrap();
    let mut foreign = claims(&hint);
    foreign["iss"] = json!("https://evil.example");
    let access_token = signer.sign_typed("at+jwt", &claims(&hint)).unwrap();
    let logout_token = signer.sign_typed("logout+jwt", &claims(&hint)).unwrap();
    for (bad, why) in [
        ("x".to_owned(), "rubbish"),
        (forged(json!({"alg": "none"})), "alg none"),
        (forged(json!({"alg": "nOnE", "kid": kid})), "alg none in another spelling"),
        (jsonwebtoken::encode(&header, &claims(&hint), &with_public_key).unwrap(), "HS256 with the public key"),
        (format!("{}.{}.{}", parts[0], parts[1], "AAAA"), "another signature"),
        (signer.sign(&foreign).unwrap(), "another issuer"),
        (access_token, "an access token"),
        (logout_token, "a logout token"),
        ("a".repeat(13_000), "too long"),
    ] {
        let parameters = [("id_token_hint", bad.as_str()), ("post_logout_redirect_uri", BACK), ("state", "x")];
        let answer = logout(&world, &mut browser, &parameters).await;
        assert_question(&answer);
        assert_eq!(hidden(answer.text(), "post_logout_redirect_uri"), None, "{why}");
        assert!(is_signed_in(&world, &mut browser).await, "{why}");
    }
    // Nor may another client use it.
    let delta = world.client_id("delta");
    let parameters = [("id_token_hint", hint.as_str()), ("client_id", &delta), ("post_logout_redirect_uri", BACK)];
    assert_question(&logout(&world, &mut browser, &parameters).await);
    // Somebody else's hint is answered by the question too, and leads back where its client wants.
    let mut other = Browser::default();
    let portal = world.authorize(&mut other, &[]).await.location();
    let bob = crate::registry::AssertedIdentity { home_user_id: "18".into(), ..super::world::alice(NOW) };
    other.get(&world, &world.vouch_for(&portal, bob).await).await;
    let parameters = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK)];
    let question = logout(&world, &mut other, &parameters).await;
    assert_question(&question);
    assert_eq!(hidden(question.text(), "post_logout_redirect_uri").as_deref(), Some(BACK));
}

// S8, S10
#[tokio::test]
async fn addresses_that_are_not_registered_as_they_are_written_are_never_gone_to() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let hint = signed_in(&world, &mut browser).await;
    let added = format!("{BACK}&foo=bar");
    for address in [
        "https://evil.example/",
        added.as_str(),
        "https://beta.example/signed-out",
        "https://BETA.example/signed-out?from=homeward",
        "https://beta.example/signed-out?from=homeward#x",
        "https://beta.example:443/signed-out?from=homeward",
        "javascript:alert(1)",
        CALLBACK,
    ] {
        let parameters = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", address), ("state", "x")];
        let answer = logout(&world, &mut Browser::default(), &parameters).await;
        assert_eq!((answer.status.as_u16(), answer.headers.get("location")), (200, None), "{address}");
        assert!(answer.headers.get("refresh").is_none() && !answer.text().contains("href=\"http"), "{}", answer.text());
        assert!(!answer.text().contains("evil") && !answer.text().contains("javascript"));
    }
    let twice = format!("/logout?id_token_hint={hint}&state=1&state=2");
    browser.get(&world, &twice).await.assert_page(400);
    assert!(is_signed_in(&world, &mut browser).await);
}

// S3, S6, S8
#[tokio::test]
async fn who_cannot_show_a_hint_has_the_user_asked() {
    let world = World::new().await;
    let mut browser = Browser::default();
    signed_in(&world, &mut browser).await;
    let beta = world.client_id("beta");
    for parameters in [&[][..], &[("state", "x")], &[("logout_hint", "alice")], &[("client_id", "nobody")]] {
        let question = logout(&world, &mut browser, parameters).await;
        assert_question(&question);
        assert!(question.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(question.header("x-frame-options"), "DENY");
        assert!(!question.text().contains("<script"));
    }
    let parameters = [("client_id", beta.as_str()), ("post_logout_redirect_uri", BACK), ("state", "s\"<")];
    let question = logout(&world, &mut browser, &parameters).await;
    assert_question(&question);
    assert!(question.text().contains("&#60;beta&#62; &#38; co</strong> asks to sign you out"));
    assert!(question.header("content-security-policy").contains("form-action 'self' https://beta.example;"));
    let token = hidden(question.text(), "form_token").unwrap();
    // Another page's form, another session's form, no form at all.
    let mut thief = Browser::default();
    world.sign_in(&mut thief, &[]).await;
    let foreign = logout(&world, &mut thief, &[]).await;
    let foreign = hidden(foreign.text(), "form_token").unwrap();
    for form in [vec![], vec![("form_token", "x")], vec![("form_token", foreign.as_str())]] {
        browser.post(&world, "/logout/confirmed", &form).await.assert_page(403);
        assert!(is_signed_in(&world, &mut browser).await);
    }
    let form =
        [("form_token", token.as_str()), ("client_id", &beta), ("post_logout_redirect_uri", BACK), ("state", "s\"<")];
    let answer = browser.post(&world, "/logout/confirmed", &form).await;
    assert!(answer.location().starts_with(&format!("{BACK}&state=s")), "{}", answer.location());
    assert!(!is_signed_in(&world, &mut browser).await);
    let answer = browser.post(&world, "/logout/confirmed", &form).await;
    assert!(answer.status == 200 && answer.text().contains("You are signed out"));
}

#[tokio::test]
async fn who_is_not_signed_in_is_sent_back_all_the_same() {
    let world = World::new().await;
    let hint = signed_in(&world, &mut Browser::default()).await;
    let beta = world.client_id("beta");
    let with_hint = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK)];
    assert_eq!(logout(&world, &mut Browser::default(), &with_hint).await.location(), BACK);
    // Without one it takes a click.
    let without = [("client_id", beta.as_str()), ("post_logout_redirect_uri", BACK)];
    let page = logout(&world, &mut Browser::default(), &without).await;
    assert_eq!((page.status.as_u16(), page.headers.get("refresh")), (200, None));
    assert!(page.text().contains("Continue"), "{}", page.text());
    let page = logout(&world, &mut Browser::default(), &[]).await;
    assert!(page.status == 200 && page.text().contains("You are signed out"));
}

#[tokio::test]
async fn a_posted_request_works_from_another_site_and_a_head_does_nothing() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let hint = signed_in(&world, &mut browser).await;
    let form = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK)];
    // The cookie stays behind when another site posts; the GET brings it along.
    let posted = Browser::default().post(&world, "/logout", &form).await.location();
    assert!(posted.starts_with(&format!("{ISSUER}/logout?id_token_hint=")), "{posted}");
    let head = Request::head(posted.strip_prefix(ISSUER).unwrap());
    assert_eq!(browser.send(&world, head, Body::empty()).await.status, 405);
    assert!(is_signed_in(&world, &mut browser).await);
    assert_eq!(browser.get(&world, posted.strip_prefix(ISSUER).unwrap()).await.location(), BACK);
    assert!(!is_signed_in(&world, &mut browser).await);
    // From a page of the same site everything comes at once.
    let hint = signed_in(&world, &mut browser).await;
    let form = [("id_token_hint", hint.as_str()), ("post_logout_redirect_uri", BACK)];
    assert_eq!(browser.post(&world, "/logout", &form).await.location(), BACK);
}

#[tokio::test]
async fn front_channel_pages_are_loaded_before_the_browser_goes_on() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let hint = signed_in(&world, &mut browser).await;
    let frame = |party: &mut crate::registry::RelyingParty, with_session| {
        party.logout.frontchannel = Some("https://beta.example/front?x=\"<".to_owned());
        party.logout.frontchannel_session = with_session;
    };
    world.change("beta", |beta| frame(beta.relying_party.as_mut().unwrap(), true)).await;
    let answer = logout(&world, &mut browser, &[("id_token_hint", &hint), ("post_logout_redirect_uri", BACK)]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("refresh"), format!("2;url={BACK}"));
    let policy = answer.header("content-security-policy");
    assert!(
        policy.contains("frame-src https://beta.example;") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    let text = answer.text();
    let source = text.split("src=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    let source = Url::parse(&source).unwrap();
    let sid = claims(&hint)["sid"].as_str().unwrap().to_owned();
    let pairs: Vec<(String, String)> = source.query_pairs().into_owned().skip(1).collect();
    assert_eq!(pairs, [("iss".to_owned(), ISSUER.to_owned()), ("sid".to_owned(), sid)]);
    assert!(text.contains("sandbox=\"allow-same-origin allow-scripts\"") && !text.contains("<script"));
    assert!(text.contains("&#60;beta&#62; &#38; co"));
    world.change("beta", |beta| frame(beta.relying_party.as_mut().unwrap(), false)).await;
    world.sign_in(&mut browser, &[]).await;
    let hint = signed_in_again(&world, &mut browser).await;
    let answer = logout(&world, &mut browser, &[("id_token_hint", &hint)]).await;
    assert!(answer.text().contains("<iframe") && !answer.text().contains("sid="), "{}", answer.text());
    assert!(answer.headers.get("refresh").is_none());
}

async fn signed_in_again(world: &World, browser: &mut Browser) -> String {
    let code = world.sign_in(browser, &[("prompt", "login")]).await;
    world.redeem(&code, &[]).await.json()["id_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_relying_party_that_cannot_be_told_is_named() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let hint = signed_in(&world, &mut browser).await;
    let answer = logout(&world, &mut browser, &[("id_token_hint", &hint)]).await;
    assert!(answer.text().contains("are being told to end your session"), "{}", answer.text());
    let told = world.sessions.outbox().page(None, 10).await.unwrap();
    assert!(told.iter().all(|(_, one)| one.state == LogoutState::Pending));
}

// S1, S3
#[tokio::test]
async fn the_account_page_shows_and_ends_the_users_own_sessions_alone() {
    let world = World::new().await;
    let (mut one, mut two, mut bobs) = (Browser::default(), Browser::default(), Browser::default());
    let page = one.get(&world, "/account").await;
    assert!(page.status == 200 && page.text().contains("Nobody is signed in here"));
    world.sign_in(&mut one, &[]).await;
    world.pass(7000);
    world.sign_in(&mut two, &[]).await;
    let portal = world.authorize(&mut bobs, &[]).await.location();
    let bob = crate::registry::AssertedIdentity { home_user_id: "18".into(), ..super::world::alice(NOW) };
    bobs.get(&world, &world.vouch_for(&portal, bob).await).await;
    let page = two.get(&world, "/account").await;
    let text = page.text();
    assert!(text.contains("Alice Archer") && text.contains("This browser") && text.contains("1 hour ago"), "{text}");
    assert_eq!(text.matches("class=\"session\"").count(), 2);
    assert!(!text.contains("<beta>") && !text.contains("<script"));
    let token = hidden(text, "form_token").unwrap();
    let sid = |browser: &Browser| browser.session().unwrap().split_once('.').unwrap().0.to_owned();
    // Without the form's token, and with somebody else's session.
    let ends = [("session", sid(&one))];
    two.post(&world, "/account", &[("session", &ends[0].1)]).await.assert_page(403);
    let foreign = hidden(bobs.get(&world, "/account").await.text(), "form_token").unwrap();
    two.post(&world, "/account", &[("session", &ends[0].1), ("form_token", &foreign)]).await.assert_page(403);
    let answer = two.post(&world, "/account", &[("session", &sid(&bobs)), ("form_token", &token)]).await;
    assert_eq!(answer.location(), "/account");
    assert!(is_signed_in(&world, &mut bobs).await && is_signed_in(&world, &mut one).await);
    two.post(&world, "/account", &[("end", "all"), ("form_token", &token)]).await.assert_page(400);
    // The other one.
    let answer = two.post(&world, "/account", &[("end", "others"), ("form_token", &token)]).await;
    let told = two.get(&world, &answer.location()).await;
    assert!(told.text().contains("is being told"), "{}", told.text());
    assert!(!is_signed_in(&world, &mut one).await && is_signed_in(&world, &mut two).await);
    let strangers = bobs.get(&world, &answer.location()).await;
    assert!(!strangers.text().contains("is being told"));
    // This one and all.
    let answer = two.post(&world, "/account", &[("end", "everywhere"), ("form_token", &token)]).await;
    assert!(answer.status == 200 && answer.text().contains("You are signed out"));
    assert!(answer.header("set-cookie").contains("Max-Age=0") && !is_signed_in(&world, &mut two).await);
    let told = world.sessions.outbox().page(None, 10).await.unwrap();
    assert_eq!(told.iter().filter(|(_, one)| matches!(one.message, Message::Home { .. })).count(), 1);
    assert!(is_signed_in(&world, &mut bobs).await);
}

#[tokio::test]
async fn what_each_application_was_told_is_shown_by_name_and_stays_though_less_is_asked_for_later() {
    let world = World::new().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[("scope", "openid email")]).await;
    let shown = async |browser: &mut Browser| browser.get(&world, "/account").await.text().to_owned();
    let text = shown(&mut browser).await;
    assert!(text.contains("It was told your email address."), "{text}");
    assert!(text.contains("Ends in ") && !text.contains("alice@alpha.example"), "names, and no values: {text}");
    // By the session, and by another login at home.
    world.authorize(&mut browser, &[("scope", "openid groups")]).await.parameter("code").unwrap();
    assert!(shown(&mut browser).await.contains("It was told your email address, groups."));
    world.sign_in(&mut browser, &[("scope", "openid"), ("prompt", "login")]).await;
    assert!(shown(&mut browser).await.contains("It was told your email address, groups."));

    let mut another = Browser::default();
    world.sign_in(&mut another, &[("scope", "openid")]).await;
    assert!(shown(&mut another).await.contains("It was told that you are the same person each time."));
}

#[tokio::test]
async fn what_an_application_was_allowed_is_shown_and_can_be_taken_back() {
    let world = World::new().await;
    world.allow_with("beta", "alpha", |edge| edge.consent = ConsentPolicy::FirstTime).await;
    let mut browser = Browser::default();
    let scope = [("scope", "openid email offline_access")];
    let portal = world.authorize(&mut browser, &scope).await.location();
    let asked = browser.get(&world, &world.vouch(&portal).await).await;
    let question = browser.get(&world, asked.location().trim_start_matches(ISSUER)).await;
    let sealed = hidden(question.text(), "question").unwrap();
    let agreed = browser.post(&world, "/login/consent", &[("question", &sealed), ("agree", "1")]).await;
    let tokens = world.redeem(&agreed.parameter("code").unwrap(), &[]).await.json();
    let refresh = |token: &Value| format!("grant_type=refresh_token&refresh_token={}", token.as_str().unwrap());
    let basic = world.basic("beta");
    let tokens = world.token(Some(&basic), &refresh(&tokens["refresh_token"])).await.json();
    let page = browser.get(&world, "/account").await;
    assert!(page.text().contains("May know your email address. You agreed just now."), "{}", page.text());
    assert!(page.text().contains("Keeps access when you are signed out."));
    let token = hidden(page.text(), "form_token").unwrap();
    let beta = world.client_id("beta");
    browser.post(&world, "/account", &[("withdraw", &beta)]).await.assert_page(403);
    for stranger in ["nobody", "../session", &world.client_id("delta")] {
        browser.post(&world, "/account", &[("withdraw", stranger), ("form_token", &token)]).await.location();
    }
    assert!(browser.get(&world, "/account").await.text().contains("What applications may know"));
    let answer = browser.post(&world, "/account", &[("withdraw", &beta), ("form_token", &token)]).await;
    assert_eq!(answer.location(), "/account");
    assert!(!browser.get(&world, "/account").await.text().contains("What applications may know"));
    let refused = world.token(Some(&basic), &refresh(&tokens["refresh_token"])).await;
    assert_eq!(refused.json()["error"], "invalid_grant");
    world.authorize(&mut browser, &[("prompt", "none")]).await.assert_redirect("consent_required");
}
