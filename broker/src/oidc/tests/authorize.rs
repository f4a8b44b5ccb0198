//! Redirect URIs, authorization requests, PKCE.

use http::Request;

use crate::oidc::tests::world::{Browser, CALLBACK, CHALLENGE, ISSUER, World};

// R1
#[tokio::test]
async fn every_other_spelling_of_a_callback_is_a_page() {
    let world = World::new().await;
    for bad in [
        "https://beta.example/cb",
        "https://beta.example/cb?method=get&x=1",
        "https://beta.example/cb?method=GET",
        "https://beta.example/CB?method=get",
        "https://BETA.example/cb?method=get",
        "HTTPS://beta.example/cb?method=get",
        "http://beta.example/cb?method=get",
        "https://beta.example:443/cb?method=get",
        "https://beta.example/./cb?method=get",
        "https://beta.example/x/../cb?method=get",
        "https://beta.example//cb?method=get",
        "https://beta.example/%63b?method=get",
        "https://beta.example/cb?method=get#x",
        "https://beta.example/cb/?method=get",
        "https://user@beta.example/cb?method=get",
        "https://beta.example.evil/cb?method=get",
        "https://beta.example@evil/cb?method=get",
        "https://evil/cb?method=get",
        "https://bet\u{430}.example/cb?method=get",
        " https://beta.example/cb?method=get",
        "https://beta.example/cb?method=get ",
        "https://beta.example/cb?method=get\0",
        "//beta.example/cb?method=get",
        "javascript:alert(1)",
        "https://delta.example/two",
    ] {
        world.authorize(&mut Browser::default(), &[("redirect_uri", bad)]).await.assert_page(400);
    }
}

// R2
#[tokio::test]
async fn a_request_without_callback_is_a_page() {
    let world = World::new().await;
    world.authorize(&mut Browser::default(), &[("redirect_uri", "")]).await.assert_page(400);
}

// R7
#[tokio::test]
async fn unknown_and_disabled_clients_get_the_same_page() {
    let world = World::new().await;
    let body = |answer: crate::oidc::tests::world::Answer| {
        answer.assert_page(400);
        answer.text().replace(answer.header("x-request-id"), "")
    };
    let unknown = body(world.authorize(&mut Browser::default(), &[("client_id", "nobody")]).await);
    let missing = body(world.authorize(&mut Browser::default(), &[("client_id", "")]).await);
    let malformed = body(world.authorize(&mut Browser::default(), &[("client_id", "<b>\u{fffd}")]).await);
    world.quarantine("beta").await;
    let disabled = body(world.authorize(&mut Browser::default(), &[]).await);
    assert!(unknown == missing && unknown == disabled && unknown == malformed);
}

// R5, R8
#[tokio::test]
async fn an_answer_keeps_the_callbacks_own_query_and_has_no_fragment() {
    let world = World::new().await;
    let answer = world.authorize(&mut Browser::default(), &[("prompt", "none")]).await;
    answer.assert_redirect("login_required");
    assert!(answer.location().starts_with(&format!("{CALLBACK}&error=")) && !answer.location().contains('#'));
}

// A1, A2, A3, A12, A15, A17, P1, P2
#[tokio::test]
async fn wrong_requests_are_told_to_the_relying_party() {
    let world = World::new().await;
    let large = "x".repeat(5000);
    for (name, value, error) in [
        ("response_type", "", "invalid_request"),
        ("response_type", "token", "unsupported_response_type"),
        ("response_type", "code id_token", "unsupported_response_type"),
        ("response_type", "rubbish", "unsupported_response_type"),
        ("response_mode", "fragment", "invalid_request"),
        ("response_mode", "query.jwt", "invalid_request"),
        ("display", "hologram", "invalid_request"),
        ("claims", "{", "invalid_request"),
        ("dpop_jkt", "short", "invalid_request"),
        ("resource", "https://alpha.example", "invalid_target"),
        ("request", "eyJhbGciOiJub25lIn0.e30.", "request_not_supported"),
        ("request", "e30.e30.", "invalid_request_object"),
        ("request", "e30.e30.e30.e30.e30", "invalid_request_object"),
        ("request_uri", "http://169.254.169.254/", "request_uri_not_supported"),
        ("registration", "{}", "registration_not_supported"),
        ("scope", "", "invalid_scope"),
        ("scope", "profile", "invalid_scope"),
        ("prompt", "none login", "invalid_request"),
        ("prompt", "create", "invalid_request"),
        ("max_age", "-1", "invalid_request"),
        ("max_age", "1e99", "invalid_request"),
        ("max_age", "abc", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge_method", "", "invalid_request"),
        ("code_challenge_method", "S512", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
        ("login_hint", "a\r\nb", "invalid_request"),
        ("id_token_hint", "e30.e30.", "invalid_request"),
        ("nonce", large.as_str(), "invalid_request"),
    ] {
        world.authorize(&mut Browser::default(), &[(name, value)]).await.assert_redirect(error);
    }
}

// P1
#[tokio::test]
async fn a_client_that_must_send_a_challenge_is_refused_without_one() {
    let world = World::new().await;
    let delta = world.client_id("delta");
    let request = [
        ("client_id", delta.as_str()),
        ("redirect_uri", "https://delta.example/two"),
        ("code_challenge", ""),
        ("code_challenge_method", ""),
    ];
    let answer = world.authorize(&mut Browser::default(), &request).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("invalid_request"));
}

// A7
#[tokio::test]
async fn repeated_parameters_are_refused() {
    let world = World::new().await;
    let mut browser = Browser::default();
    for name in ["client_id", "redirect_uri"] {
        let twice = format!("/authorize?{}&{name}=x", world.request(&[]));
        browser.get(&world, &twice).await.assert_page(400);
    }
    for name in ["nonce", "scope", "prompt", "code_challenge", "max_age", "response_type"] {
        let twice = format!("/authorize?{}&{name}=x&{name}=x", world.request(&[]));
        browser.get(&world, &twice).await.assert_redirect("invalid_request");
    }
    let twice = browser.get(&world, &format!("/authorize?{}&state=x", world.request(&[]))).await;
    assert_eq!(twice.parameter("error").as_deref(), Some("invalid_request"));
    assert_eq!(twice.parameter("state"), None);
}

// A8, A16
#[tokio::test]
async fn unknown_parameters_are_ignored() {
    let world = World::new().await;
    let more = [("extra", "foobar"), ("display", "popup"), ("ui_locales", "se"), ("acr_values", "1 2")];
    let answer = world.authorize(&mut Browser::default(), &more).await;
    assert!(answer.location().starts_with("https://alpha.example/homeward/login?ticket="));
}

// A10, A11
#[tokio::test]
async fn state_and_issuer_are_in_every_answer() {
    let world = World::new().await;
    for state in ["\"'><script>", "é\u{1F600}", "a+b c%20&=#", &"s".repeat(512)] {
        let mut browser = Browser::default();
        let error = world.authorize(&mut browser, &[("state", state), ("scope", "profile")]).await;
        assert_eq!(error.parameter("state").as_deref(), Some(state));
        assert_eq!(error.parameter("iss").as_deref(), Some(ISSUER));
        let portal = world.authorize(&mut browser, &[("state", state)]).await.location();
        let back = browser.get(&world, &world.vouch(&portal).await).await;
        assert_eq!(back.parameter("state").as_deref(), Some(state));
        assert_eq!(back.parameter("iss").as_deref(), Some(ISSUER));
        assert!(back.location().starts_with(&format!("{CALLBACK}&code=")));
    }
    let answer = world.authorize(&mut Browser::default(), &[("state", ""), ("scope", "profile")]).await;
    assert_eq!(answer.parameter("state"), None);
}

// A19
#[tokio::test]
async fn a_request_may_be_posted() {
    let world = World::new().await;
    let mut browser = Browser::default();
    let answer = browser.post_text(&world, "/authorize", &world.request(&[])).await;
    assert!(answer.location().starts_with("https://alpha.example/homeward/login?ticket="));
    assert!(answer.headers.get("access-control-allow-origin").is_none());
    let request = || {
        Request::post("/authorize")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "cross-site")
    };
    let again = browser.send(&world, request(), world.request(&[]).into()).await;
    assert_eq!(again.location(), format!("{ISSUER}/authorize?{}", world.request(&[])));
    let header_injection = browser.send(&world, request(), "a=b\r\nx: y".into()).await;
    assert!(header_injection.headers.get("x").is_none());
    for method in ["PUT", "DELETE", "PATCH"] {
        let request = Request::builder().method(method).uri("/authorize");
        browser.send(&world, request, axum::body::Body::empty()).await.assert_page(405);
    }
}

// A17
#[tokio::test]
async fn five_thousand_scopes_are_no_burden() {
    let world = World::new().await;
    let scope = format!("openid {}", "x ".repeat(4000));
    let answer = world.authorize(&mut Browser::default(), &[("scope", scope.as_str())]).await;
    assert!(answer.location().starts_with("https://alpha.example/"));
    assert!(answer.location().len() < 2500, "unknown scopes are not carried along");
}

#[tokio::test]
async fn a_challenge_is_optional_where_it_is_not_required() {
    let world = World::new().await;
    let answer =
        world.authorize(&mut Browser::default(), &[("code_challenge", ""), ("code_challenge_method", "")]).await;
    assert!(answer.location().starts_with("https://alpha.example/") && !answer.location().contains(CHALLENGE));
}
