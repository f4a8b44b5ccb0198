//! What every request meets.

use axum::body::Body;
use http::Request;

use crate::oidc::tests::world::{Browser, World};

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

// S6
#[tokio::test]
async fn every_answer_is_protected() {
    let world = World::new().await;
    let pages = [
        world.send(get("/nothing")).await,
        world.send(get("/authorize")).await,
        world.send(get("/token")).await,
        world.send(get("/login/return?handle=x")).await,
        world.authorize(&mut Browser::default(), &[("prompt", "select_account")]).await,
        world.authorize(&mut Browser::default(), &[]).await,
    ];
    for answer in pages {
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script"));
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(answer.header("strict-transport-security").starts_with("max-age="));
        assert!(answer.headers.get("access-control-allow-origin").is_none());
    }
}

#[tokio::test]
async fn a_login_may_run_in_a_window_that_another_site_has_opened_and_nothing_else() {
    let world = World::new().await;
    for answer in [
        world.send(get("/authorize")).await,
        world.send(get("/login/return?handle=x")).await,
        world.authorize(&mut Browser::default(), &[("prompt", "select_account")]).await,
        world.authorize(&mut Browser::default(), &[]).await,
    ] {
        assert_eq!(answer.header("cross-origin-opener-policy"), "unsafe-none", "{}", answer.status);
    }
    for path in ["/nothing", "/account", "/device", "/logout", "/jwks"] {
        assert_eq!(world.send(get(path)).await.header("cross-origin-opener-policy"), "same-origin", "{path}");
    }
}

// S10
#[tokio::test]
async fn error_pages_reflect_nothing() {
    let world = World::new().await;
    let evil = "<script>alert(1)</script>";
    for name in ["client_id", "redirect_uri", "state", "ui_locales", "error_description", "next"] {
        let replaced = [("client_id", "nobody"), (name, evil)];
        let page = world.authorize(&mut Browser::default(), &replaced).await;
        page.assert_page(400);
        assert!(!page.text().contains("alert"));
    }
}

#[tokio::test]
async fn unknown_addresses_and_methods_get_pages() {
    let world = World::new().await;
    world.send(get("/nothing")).await.assert_page(404);
    let post = world.send(Request::post("/jwks").body(Body::empty()).unwrap()).await;
    post.assert_page(405);
    assert_eq!(post.header("allow"), "GET,HEAD");
    let head = Request::head("/.well-known/openid-configuration").body(Body::empty()).unwrap();
    assert_eq!(world.send(head).await.status, 200);
}

// H1, H3
#[tokio::test]
async fn ambiguous_and_oversized_requests_are_refused() {
    let world = World::new().await;
    let two_hosts = Request::get("/jwks").header("host", "login.example").header("host", "evil");
    world.send(two_hosts.body(Body::empty()).unwrap()).await.assert_page(400);
    world.send(get(&format!("/authorize?x={}", "a".repeat(17_000)))).await.assert_page(414);
    let form = || Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
    let large = form().header("content-length", "70000").body("x".repeat(70_000).into()).unwrap();
    world.send(large).await.assert_page(413);
    let unannounced = form().body("x".repeat(70_000).into()).unwrap();
    assert_eq!(world.send(unannounced).await.status, 413);
    let many: String = (0..2000).map(|n| format!("p{n}=1&")).collect();
    world.send(get(&format!("/authorize?{many}"))).await.assert_page(400);
}

// H6
#[tokio::test]
async fn tricks_with_paths_reach_nothing() {
    let world = World::new().await;
    for path in ["//token", "/token/.", "/token/", "/%74oken", "/token;x", "/token%2f", "/./userinfo", "/USERINFO"] {
        world.send(get(path)).await.assert_page(404);
    }
    let overridden = Request::get("/token").header("x-http-method-override", "POST");
    world.send(overridden.body(Body::empty()).unwrap()).await.assert_page(405);
}

// H7
#[tokio::test]
async fn no_other_origin_may_read_tokens_or_claims() {
    let world = World::new().await;
    for (method, path) in [("POST", "/token"), ("GET", "/userinfo"), ("OPTIONS", "/token"), ("OPTIONS", "/authorize")] {
        let request = Request::builder().method(method).uri(path).header("origin", "https://evil");
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{method} {path}");
    }
}

#[tokio::test]
async fn health_is_there_for_whoever_asks() {
    let world = World::new().await;
    assert_eq!(world.send(get("/healthz")).await.text(), "ok\n");
    assert_eq!(world.send(get("/readyz")).await.status, 200);
}

#[tokio::test]
async fn the_stylesheet_is_where_pages_say() {
    let world = World::new().await;
    let page = world.send(get("/nothing")).await;
    let (_, rest) = page.text().split_once("rel=\"stylesheet\" href=\"").unwrap();
    let style = world.send(get(rest.split('"').next().unwrap())).await;
    assert_eq!((style.status.as_u16(), style.header("content-type")), (200, "text/css; charset=utf-8"));
    assert!(style.header("cache-control").contains("immutable"));
}
