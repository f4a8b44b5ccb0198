//! The device flow. The device is of beta, its user alice of alpha.

use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::login::LoginFailure;
use crate::oidc::tests::traces::Steps;
use crate::oidc::tests::world::{Answer, Browser, ISSUER, World, claims};
use crate::registry::{ClientAuthMethod, GrantType};

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn world() -> World {
    let world = World::new().await;
    world.grant_type("beta", GrantType::DeviceCode).await;
    world.grant_type("alpha", GrantType::DeviceCode).await;
    world
}

async fn ask_with(world: &World, authorization: Option<&str>, form: &str) -> Answer {
    let mut request = Request::post("/device_authorization").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    world.send(request.body(form.to_owned().into()).unwrap()).await
}

/// Device code and user code.
async fn ask(world: &World) -> (String, String) {
    let answer = ask_with(world, Some(&world.basic("beta")), "scope=openid+profile").await.json();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("device_code"), text("user_code"))
}

async fn poll(world: &World, code: &str) -> Answer {
    poll_by(world, "beta", code).await
}

async fn poll_by(world: &World, client: &str, code: &str) -> Answer {
    world.token(Some(&world.basic(client)), &format!("grant_type={DEVICE_CODE}&device_code={code}")).await
}

/// The hidden field of the form that this browser is shown.
async fn form(world: &World, browser: &mut Browser) -> String {
    let page = browser.get(world, "/device").await;
    page.text().split("name=\"form\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

async fn enter(world: &World, browser: &mut Browser, user_code: &str) -> Answer {
    let form = form(world, browser).await;
    browser.post(world, "/device", &[("form", &form), ("user_code", user_code)]).await
}

/// alice enters the code and logs in; gives the address of the question that she is asked.
async fn log_in(world: &World, browser: &mut Browser, user_code: &str) -> String {
    let portal = enter(world, browser, user_code).await.location();
    let back = if portal.starts_with(ISSUER) {
        portal
    } else {
        browser.get(world, &world.vouch(&portal).await).await.location()
    };
    let question = back.strip_prefix(ISSUER).unwrap().to_owned();
    assert!(question.starts_with("/login/consent?question="), "{question}");
    question
}

async fn say(world: &World, browser: &mut Browser, question: &str, answer: &str) -> Answer {
    let question = question.strip_prefix("/login/consent?question=").unwrap();
    browser.post(world, "/login/consent", &[("question", question), (answer, "1")]).await
}

async fn approve(world: &World, user_code: &str, browser: &mut Browser) {
    let question = log_in(world, browser, user_code).await;
    let end = say(world, browser, &question, "agree").await;
    assert_eq!(end.location(), format!("{ISSUER}/device/connected"));
}

#[tokio::test]
async fn a_device_gets_codes() {
    let world = world().await;
    let answer = ask_with(&world, Some(&world.basic("beta")), "scope=openid").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    let told = answer.json();
    let user_code = told["user_code"].as_str().unwrap();
    assert!(told["device_code"].as_str().unwrap().starts_with("hwd_"));
    assert_eq!((&told["expires_in"], &told["interval"]), (&json!(600), &json!(5)));
    assert_eq!(told["verification_uri"], format!("{ISSUER}/device"));
    assert_eq!(told["verification_uri_complete"], format!("{ISSUER}/device?user_code={user_code}"));
}

#[tokio::test]
async fn who_may_not_ask_is_refused() {
    let world = world().await;
    let beta = world.basic("beta");
    let (wrong, gamma) = (beta.replace("Basic ", "Basic AAAA"), world.basic("gamma"));
    ask_with(&world, None, "scope=openid").await.assert_token_error(401, "invalid_client");
    ask_with(&world, Some(&wrong), "scope=openid").await.assert_token_error(401, "invalid_client");
    ask_with(&world, Some(&gamma), "scope=openid").await.assert_token_error(400, "unauthorized_client");
    ask_with(&world, Some(&beta), "scope=profile").await.assert_token_error(400, "invalid_scope");
    ask_with(&world, Some(&beta), "scope=openid&scope=openid").await.assert_token_error(400, "invalid_request");
    ask_with(&world, Some(&beta), "resource=https://alpha.example").await.assert_token_error(400, "invalid_target");
    let json = Request::post("/device_authorization").header(CONTENT_TYPE, "application/json");
    world.send(json.body("{}".into()).unwrap()).await.assert_token_error(400, "invalid_request");
    let get = Request::get("/device_authorization").body("".into()).unwrap();
    assert_eq!(world.send(get).await.status.as_u16(), 405);
}

#[tokio::test]
async fn a_device_that_waits_is_told_so_and_slowed_down() {
    let world = world().await;
    let (code, _) = ask(&world).await;
    poll(&world, &code).await.assert_token_error(400, "authorization_pending");
    world.pass(4);
    poll(&world, &code).await.assert_token_error(400, "slow_down");
    world.pass(9);
    poll(&world, &code).await.assert_token_error(400, "slow_down");
    world.pass(15);
    poll(&world, &code).await.assert_token_error(400, "authorization_pending");
    world.pass(600);
    poll(&world, &code).await.assert_token_error(400, "expired_token");
}

#[tokio::test]
async fn what_a_device_gets_is_in_the_trace_of_the_login_in_another_browser() {
    let world = world().await;
    let (steps, _guard) = Steps::listen();
    let (code, user_code) = ask(&world).await;
    poll(&world, &code).await.assert_token_error(400, "authorization_pending");
    approve(&world, &user_code, &mut Browser::default()).await;
    assert_eq!(poll(&world, &code).await.status, 200);
    let told = steps.of_one_login();
    assert_eq!(told.first().map(String::as_str), Some("the broker decides"), "{told:?}");
    assert_eq!(told[told.len() - 2..], ["login: done", "the device redeems its code"], "{told:?}");
}

#[tokio::test]
async fn what_its_user_agreed_to_a_device_gets_once() {
    let world = world().await;
    let (code, user_code) = ask(&world).await;
    poll(&world, &code).await.assert_token_error(400, "authorization_pending");
    let mut browser = Browser::default();
    approve(&world, &user_code, &mut browser).await;
    let answer = poll(&world, &code).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"), "{}", answer.text());
    let tokens = answer.json();
    let id_token = claims(tokens["id_token"].as_str().unwrap());
    assert_eq!(
        (&id_token["aud"], &id_token["preferred_username"]),
        (&json!(world.client_id("beta")), &json!("alice@alpha"))
    );
    assert_eq!(id_token["sid"], browser.session().unwrap().split_once('.').unwrap().0);
    let token = tokens["access_token"].as_str().unwrap();
    assert_eq!(world.userinfo(token).await.status.as_u16(), 200);
    // Who comes again holds a copy of the code: neither of the two goes on.
    poll(&world, &code).await.assert_token_error(400, "invalid_grant");
    assert_eq!(world.userinfo(token).await.status.as_u16(), 401);
    // And nobody enters the code again.
    assert_eq!(enter(&world, &mut browser, &user_code).await.status.as_u16(), 400);
}

#[tokio::test]
async fn of_many_polls_at_once_one_gets_the_tokens() {
    let world = world().await;
    let (code, user_code) = ask(&world).await;
    approve(&world, &user_code, &mut Browser::default()).await;
    let poll = || poll(&world, &code);
    let answers: [Answer; 4] = tokio::join!(poll(), poll(), poll(), poll()).into();
    assert_eq!(answers.iter().filter(|answer| answer.status.is_success()).count(), 1);
}

#[tokio::test]
async fn another_client_gets_nothing_and_spoils_nothing() {
    let world = world().await;
    let (code, user_code) = ask(&world).await;
    for _ in 0..3 {
        poll_by(&world, "alpha", &code).await.assert_token_error(400, "invalid_grant");
    }
    poll(&world, &code).await.assert_token_error(400, "authorization_pending");
    approve(&world, &user_code, &mut Browser::default()).await;
    poll_by(&world, "alpha", &code).await.assert_token_error(400, "invalid_grant");
    assert_eq!(poll(&world, &code).await.status.as_u16(), 200);
    for unknown in ["hwd_x", "x", &code[..code.len() - 1], &user_code] {
        poll(&world, unknown).await.assert_token_error(400, "invalid_grant");
    }
    poll(&world, "").await.assert_token_error(400, "invalid_request");
}

/// RFC 8628 5.4: also who is signed in, and whom nobody else would ask, says that he began this himself.
#[tokio::test]
async fn the_user_is_always_asked() {
    let world = world().await;
    let mut browser = Browser::default();
    world.sign_in(&mut browser, &[]).await;
    for _ in 0..2 {
        let (code, user_code) = ask(&world).await;
        let answer = enter(&world, &mut browser, &user_code).await;
        let question = answer.location().strip_prefix(ISSUER).unwrap().to_owned();
        let page = browser.get(&world, &question).await;
        for shown in
            ["&#60;beta&#62; &#38; co", "beta.example", "Alice Archer", "on a device that you have in front of you"]
        {
            assert!(page.text().contains(shown), "{shown}: {}", page.text());
        }
        poll(&world, &code).await.assert_token_error(400, "authorization_pending");
        say(&world, &mut browser, &question, "agree").await.location();
        assert_eq!(poll(&world, &code).await.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_user_answers_once() {
    let world = world().await;
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    let (code, user_code) = ask(&world).await;
    let question = log_in(&world, &mut browser, &user_code).await;
    let late = log_in(&world, &mut other, &user_code).await;
    // S2: the question is for the browser that was asked.
    say(&world, &mut other, &question, "agree").await.assert_page(403);
    let end = say(&world, &mut browser, &question, "refuse").await;
    assert_eq!(end.location(), format!("{ISSUER}/device/refused"));
    for (browser, question) in [(&mut other, &late), (&mut browser, &question)] {
        say(&world, browser, question, "agree").await.assert_page(400);
    }
    poll(&world, &code).await.assert_token_error(400, "access_denied");
    assert_eq!(enter(&world, &mut browser, &user_code).await.status.as_u16(), 400);
}

/// A login that fails turns nobody away; a user who gives up does.
#[tokio::test]
async fn a_failed_login_is_no_refusal() {
    let world = world().await;
    let mut browser = Browser::default();
    let (code, user_code) = ask(&world).await;
    for (failure, error) in
        [(LoginFailure::Unavailable, "authorization_pending"), (LoginFailure::Cancelled, "access_denied")]
    {
        let portal = enter(&world, &mut browser, &user_code).await.location();
        let end = browser.get(&world, &world.fail(&portal, failure).await).await;
        assert_eq!(end.location(), format!("{ISSUER}/device/refused"));
        poll(&world, &code).await.assert_token_error(400, error);
    }
    let page = browser.get(&world, "/device/refused").await;
    assert!(page.text().contains("was not connected"));
}

/// What the user reads first may be older than the answer.
#[tokio::test]
async fn a_late_answer_is_told_so() {
    let world = world().await;
    let mut browser = Browser::default();
    let (code, user_code) = ask(&world).await;
    world.pass(590);
    let question = log_in(&world, &mut browser, &user_code).await;
    world.pass(10);
    say(&world, &mut browser, &question, "agree").await.assert_page(400);
    poll(&world, &code).await.assert_token_error(400, "expired_token");
}

/// C7: what the user agreed to ends with what it came of.
#[tokio::test]
async fn an_agreement_outlives_neither_session_nor_trust_nor_time() {
    for (end, error) in [("session", "invalid_grant"), ("trust", "invalid_grant"), ("time", "expired_token")] {
        let world = world().await;
        let (code, user_code) = ask(&world).await;
        let mut browser = Browser::default();
        approve(&world, &user_code, &mut browser).await;
        match end {
            "session" => world.end_session(browser.session().unwrap().split_once('.').unwrap().0).await,
            "trust" => world.deny("beta", "alpha").await,
            _ => world.pass(600),
        }
        poll(&world, &code).await.assert_token_error(400, error);
    }
}

/// A link fills the field in; nothing but a code ever stands in it.
#[tokio::test]
async fn the_page_shows_codes_only_and_sends_nothing_by_itself() {
    let world = world().await;
    let page = Browser::default().get(&world, "/device?user_code=wdjbmjht").await;
    assert!(page.text().contains("value=\"WDJB-MJHT\""), "{}", page.text());
    assert!(!page.text().contains("<script") && !page.text().contains("http-equiv"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
    for hostile in ["%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "WDJB-MJH", "%ff", "x&user_code=y"] {
        let page = Browser::default().get(&world, &format!("/device?user_code={hostile}")).await;
        assert_eq!(page.status.as_u16(), 200);
        assert!(page.text().contains("name=\"user_code\" value=\"\""), "{}", page.text());
    }
}

#[tokio::test]
async fn a_code_takes_its_user_to_a_login() {
    let world = world().await;
    let (_, user_code) = ask(&world).await;
    let mut browser = Browser::default();
    let typed = user_code.replace('-', " ").to_lowercase();
    let answer = enter(&world, &mut browser, &typed).await;
    assert!(answer.location().starts_with("https://alpha.example/"), "{}", answer.location());
    // Another code is known to nobody.
    let answer = enter(&world, &mut browser, "BBBB-BBBB").await;
    assert_eq!(answer.status.as_u16(), 400);
    assert!(answer.text().contains("No device waits for this code") && answer.text().contains("BBBB-BBBB"));
}

/// S3: nobody sends the form but who was shown it in this browser.
#[tokio::test]
async fn a_form_from_elsewhere_is_refused() {
    let world = world().await;
    let (_, user_code) = ask(&world).await;
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    let (own, foreign) = (form(&world, &mut browser).await, form(&world, &mut other).await);
    for fields in [
        &[("user_code", user_code.as_str())][..],
        &[("user_code", &user_code), ("form", &foreign)],
        &[("user_code", &user_code), ("form", "x")],
    ] {
        browser.post(&world, "/device", fields).await.assert_page(403);
    }
    let without_cookie = Browser::default().post(&world, "/device", &[("user_code", &user_code), ("form", &own)]).await;
    without_cookie.assert_page(403);
}

/// RFC 8628 5.1.
#[tokio::test]
async fn guessing_codes_is_slowed_down() {
    let world = world().await;
    let (_, user_code) = ask(&world).await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(enter(&world, &mut Browser::default(), "BBBB-BBBB").await.status.as_u16());
    }
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");
    let mut last = 400;
    for _ in 0..40 {
        last = enter(&world, &mut Browser::default(), "BBBB-BBBB").await.status.as_u16();
    }
    assert_eq!(last, 429);
    enter(&world, &mut Browser::default(), &user_code).await.assert_page(429);
}

/// A public client is known by its id alone; PKCE it has no use for: no browser carries its code.
#[tokio::test]
async fn a_public_client_gets_tokens_of_its_user() {
    let world = world().await;
    world.change("beta", |beta| beta.relying_party.as_mut().unwrap().auth_method = ClientAuthMethod::None).await;
    let beta = world.client_id("beta");
    ask_with(&world, None, "scope=openid").await.assert_token_error(401, "invalid_client");
    let answer = ask_with(&world, None, &format!("client_id={beta}&scope=openid+offline_access")).await.json();
    let (code, user_code) = (answer["device_code"].as_str().unwrap(), answer["user_code"].as_str().unwrap());
    approve(&world, user_code, &mut Browser::default()).await;
    let form = format!("grant_type={DEVICE_CODE}&device_code={code}&client_id={beta}");
    let tokens = world.token(None, &form).await.json();
    assert!(tokens["refresh_token"].as_str().unwrap().starts_with("hwr_"), "{tokens}");
    let refresh = format!(
        "grant_type=refresh_token&refresh_token={}&client_id={beta}",
        tokens["refresh_token"].as_str().unwrap()
    );
    assert_eq!(world.token(None, &refresh).await.status.as_u16(), 200);
}
