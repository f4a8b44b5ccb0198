//! Logins at homes without agent, with providers that do as they should, and others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use crate::oidc::tests::traces::Steps;
use crate::oidc::tests::world::{Answer, Browser, CALLBACK, NOW, World, claims};
use crate::registry::tests::upstream;
use crate::registry::{OauthDialect, Upstream, UpstreamProtocol};
use crate::storage::{Expect, Store as _};
use crate::upstream::tests::signer::Signer;

const BROKER: &str = "http://127.0.0.1:1";

/// What a provider does.
struct Manner {
    signer: Signer,
    published: Vec<Value>,
    /// Laid over the claims of the next ID token.
    id_token: Value,
    /// In place of the ID token.
    instead: Option<String>,
    userinfo: Value,
    metadata: Value,
    nonce: String,
    /// Paths that answer 500.
    broken: Vec<&'static str>,
    /// What was asked, by path; with the body of the last request to each.
    seen: HashMap<String, (usize, String, HeaderMap)>,
}

/// An OpenID provider, and an OAuth server, on loopback.
#[derive(Clone)]
struct Provider {
    issuer: String,
    manner: Arc<Mutex<Manner>>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}/o/", listener.local_addr().unwrap());
        let signer = Signer::new("ES256", "1");
        let manner = Manner {
            published: vec![signer.jwk()],
            signer,
            id_token: json!({}),
            instead: None,
            userinfo: json!({"sub": "u1", "preferred_username": "alice", "email": "alice@id.example"}),
            metadata: json!({}),
            nonce: String::new(),
            broken: Vec::new(),
            seen: HashMap::new(),
        };
        let provider = Self { issuer, manner: Arc::new(Mutex::new(manner)) };
        let router = Router::new()
            .route("/o/.well-known/openid-configuration", get(Self::discovery))
            .fallback(any(Self::answer))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().unwrap());
    }

    fn asked(&self, path: &str) -> usize {
        self.manner.lock().unwrap().seen.get(path).map_or(0, |seen| seen.0)
    }

    fn last(&self, path: &str) -> (String, HeaderMap) {
        let seen = &self.manner.lock().unwrap().seen[path];
        (seen.1.clone(), seen.2.clone())
    }

    async fn discovery(State(provider): State<Self>) -> Response {
        let mut manner = provider.manner.lock().unwrap();
        manner.seen.entry("discovery".to_owned()).or_default().0 += 1;
        if manner.broken.contains(&"discovery") {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let at = |path: &str| format!("{}{path}", provider.issuer);
        let mut document = json!({
            "issuer": provider.issuer, "authorization_endpoint": at("authorize"), "token_endpoint": at("token"),
            "userinfo_endpoint": at("userinfo"), "jwks_uri": at("jwks"), "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
            "authorization_response_iss_parameter_supported": true,
        });
        document.as_object_mut().unwrap().extend(manner.metadata.as_object().unwrap().clone());
        json_answer(&document)
    }

    async fn answer(State(provider): State<Self>, _: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
        let mut manner = provider.manner.lock().unwrap();
        let path = uri.path().trim_start_matches("/o/").to_owned();
        let seen = manner.seen.entry(path.clone()).or_default();
        *seen = (seen.0 + 1, String::from_utf8(body.to_vec()).unwrap(), headers);
        if manner.broken.contains(&path.as_str()) {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        match path.as_str() {
            "jwks" => json_answer(&json!({"keys": manner.published})),
            "token" => json_answer(&provider.tokens(&manner)),
            "userinfo" | "user" => json_answer(&manner.userinfo),
            "user/emails" => json_answer(&json!([
                {"email": "old@id.example", "primary": false, "verified": true},
                {"email": "octo@id.example", "primary": true, "verified": true},
            ])),
            "userAccessToken" => json_answer(&json!({"accessToken": "at", "expireIn": 7200})),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn tokens(&self, manner: &Manner) -> Value {
        let mut claims = json!({
            "iss": self.issuer, "aud": "homeward", "sub": "u1", "nonce": manner.nonce, "auth_time": NOW.as_secs(),
            "exp": NOW.as_secs() + 300, "iat": NOW.as_secs(), "name": "Alice Archer", "address": [],
        });
        claims.as_object_mut().unwrap().extend(manner.id_token.as_object().unwrap().clone());
        let id_token = manner.instead.clone().unwrap_or_else(|| manner.signer.sign(&claims));
        json!({"access_token": "at", "token_type": "Bearer", "id_token": id_token})
    }
}

fn json_answer(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

impl World {
    /// A federation where beta accepts alpha and the users of this provider.
    async fn with_home(provider: &Provider, change: impl FnOnce(&mut Upstream)) -> Self {
        let world = Self::with(BROKER, Vec::new()).await;
        let mut staff = upstream("staff", &provider.issuer, &world.sealing);
        change(&mut staff);
        let write = world.registry.upstreams.put("staff", &staff, Expect::Any).unwrap();
        world.registry.reached(world.store.commit(vec![write]).await.unwrap()).await.unwrap();
        world.allow("beta", "staff").await;
        world
    }

    /// Beta's user chooses this home; gives the provider's authorization request.
    async fn choose(&self, browser: &mut Browser, replaced: &[(&str, &str)]) -> Answer {
        let picker = self.authorize(browser, replaced).await;
        let text = picker.text();
        let begin = text.find("name=\"transaction\" value=\"").unwrap() + 26;
        let transaction = text[begin..].split('"').next().unwrap().to_owned();
        browser.post(self, "/login/home", &[("transaction", &transaction), ("home", "staff")]).await
    }

    /// The same, and what the provider is told with it.
    async fn depart(
        &self,
        browser: &mut Browser,
        provider: &Provider,
        replaced: &[(&str, &str)],
    ) -> HashMap<String, String> {
        let request = Url::parse(&self.choose(browser, replaced).await.location()).unwrap();
        assert!(request.as_str().starts_with(&format!("{}authorize?", provider.issuer)), "{request}");
        let asked: HashMap<String, String> = request.query_pairs().into_owned().collect();
        provider.change(|manner| manner.nonce = asked.get("nonce").cloned().unwrap_or_default());
        asked
    }

    /// A whole login: what the relying party is told.
    async fn log_in(&self, browser: &mut Browser, provider: &Provider, replaced: &[(&str, &str)]) -> Answer {
        let asked = self.depart(browser, provider, replaced).await;
        let back = browser.get(self, &arrival(&asked["state"], provider)).await;
        browser.get(self, back.location().strip_prefix(BROKER).unwrap()).await
    }
}

fn arrival(state: &str, provider: &Provider) -> String {
    let form = [("code", "c-1"), ("state", state), ("iss", &provider.issuer)];
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    format!("/upstream/staff/callback?{query}")
}

fn no_code(answer: &Answer, status: u16) {
    answer.assert_page(status);
    assert!(!answer.text().contains("code=") && !answer.text().contains("u1"));
}

#[tokio::test]
async fn a_user_of_a_provider_is_logged_in() {
    let provider = Provider::start().await;
    let groups = |staff: &mut Upstream| drop(staff.fields.insert("groups".into(), "/groups".into()));
    let world = World::with_home(&provider, groups).await;
    let browser = &mut Browser::default();
    let asked = world.depart(browser, &provider, &[("login_hint", "alice"), ("max_age", "60")]).await;
    assert_eq!(asked["redirect_uri"], format!("{BROKER}/upstream/staff/callback"));
    assert_eq!((asked["scope"].as_str(), asked["response_type"].as_str()), ("openid profile email", "code"));
    assert_eq!((asked["login_hint"].as_str(), asked["max_age"].as_str()), ("alice", "60"));
    assert_eq!((asked["code_challenge_method"].as_str(), asked["code_challenge"].len()), ("S256", 43));
    let back = browser.get(&world, &arrival(&asked["state"], &provider)).await;
    let answer = browser.get(&world, back.location().strip_prefix(BROKER).unwrap()).await;
    assert!(answer.location().starts_with(CALLBACK), "{}", answer.location());
    let (form, headers) = provider.last("token");
    assert!(form.contains("code_verifier=") && form.contains("grant_type=authorization_code"), "{form}");
    assert!(headers[AUTHORIZATION].to_str().unwrap().starts_with("Basic ") && !form.contains("s3cret"));
    let tokens = world.redeem(&answer.parameter("code").unwrap(), &[]).await.json();
    let told = claims(tokens["id_token"].as_str().unwrap());
    assert!(told["sub"] != "u1" && told["name"] == "Alice Archer", "{told}");
    assert_eq!(told["auth_time"], NOW.as_secs());
    assert!(!tokens.to_string().contains("\"at\""), "no token of the provider is handed on");
    // The session lives on: no provider is asked for the next login.
    let (before, again) = (provider.asked("token"), world.authorize(browser, &[]).await);
    assert!(again.parameter("code").is_some() && provider.asked("token") == before);
    // The provider hears nothing of the end, and the user is told so.
    assert!(browser.get(&world, "/account").await.text().contains("At staff accounts you stay signed in"));
    assert!(browser.get(&world, "/logout").await.text().contains("At staff accounts you stay signed in"));
}

#[tokio::test]
async fn the_way_over_a_provider_is_in_the_trace_of_the_login() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let (steps, _guard) = Steps::listen();
    let answer = world.log_in(&mut Browser::default(), &provider, &[]).await;
    assert!(answer.parameter("code").is_some());
    let way = [
        "the broker decides",
        "the user has chosen a home",
        "back from an identity provider",
        "back from the home",
        "login: done",
    ];
    assert_eq!(steps.of_one_login(), way);
}

#[tokio::test]
async fn what_a_relying_party_demands_goes_to_the_provider_and_is_judged() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let asked = world.depart(&mut Browser::default(), &provider, &[("prompt", "login"), ("acr_values", "2 1")]).await;
    assert_eq!(
        (asked["prompt"].as_str(), asked["max_age"].as_str(), asked["acr_values"].as_str()),
        ("login", "0", "2 1")
    );
    // B16: a time that is too old, or none at all, is no login; the class is the provider's word and not raised.
    for auth_time in [json!(NOW.as_secs() - 100), Value::Null] {
        provider.change(|manner| manner.id_token = json!({"auth_time": auth_time}));
        let answer = world.log_in(&mut Browser::default(), &provider, &[("max_age", "60")]).await;
        assert_eq!(answer.parameter("error").as_deref(), Some("login_required"));
    }
    provider.change(|manner| manner.id_token = json!({"acr": "1"}));
    let wanted = r#"{"id_token":{"acr":{"essential":true,"values":["2"]}}}"#;
    let answer = world.log_in(&mut Browser::default(), &provider, &[("claims", wanted)]).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("unmet_authentication_requirements"));
}

// B1, B2, B22, B23
#[tokio::test]
async fn an_answer_belongs_to_one_login_of_one_browser_at_one_home() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let (one, other) = (&mut Browser::default(), &mut Browser::default());
    let asked = world.depart(one, &provider, &[]).await;
    let elsewhere = world.depart(other, &provider, &[]).await;
    let mut nobody = Browser::default();
    no_code(&nobody.get(&world, &arrival(&asked["state"], &provider)).await, 400);
    no_code(&other.get(&world, &arrival(&asked["state"], &provider)).await, 400);
    no_code(&one.get(&world, &arrival(&elsewhere["state"], &provider)).await, 400);
    let forged = format!("{}.{}", asked["state"].split('.').next().unwrap(), "A".repeat(43));
    for state in ["", "x", forged.as_str()] {
        no_code(&one.get(&world, &arrival(state, &provider)).await, 400);
    }
    for path in ["/upstream/alpha/callback", "/upstream/nobody/callback", "/upstream/STAFF/callback"] {
        let at = arrival(&asked["state"], &provider).replace("/upstream/staff/callback", path);
        no_code(&one.get(&world, &at).await, 400);
    }
    // RFC 9207: another issuer, and none where one was promised, before anything is sent anywhere.
    let good = arrival(&asked["state"], &provider);
    let (without, _) = good.split_once("&iss=").unwrap();
    no_code(&one.get(&world, without).await, 403);
    no_code(&one.get(&world, &format!("{without}&iss=https%3A%2F%2Fevil.example")).await, 403);
    assert_eq!(provider.asked("token"), 0);
    // Several tabs: each has its own.
    let second = world.depart(one, &provider, &[]).await;
    let kept = one.cookies.clone();
    assert!(one.get(&world, &arrival(&second["state"], &provider)).await.location().contains("/login/return"));
    provider.change(|manner| manner.nonce = asked["nonce"].clone());
    assert!(one.get(&world, &good).await.location().contains("/login/return"));
    // Used: the cookie is gone, and with a copy of it the provider is not asked again.
    no_code(&one.get(&world, &good).await, 400);
    let before = provider.asked("token");
    no_code(&Browser { cookies: kept }.get(&world, &good).await, 400);
    assert_eq!(provider.asked("token"), before);
    // A look is no use.
    let head = http::Request::head(arrival(&elsewhere["state"], &provider));
    assert_eq!(other.send(&world, head, axum::body::Body::empty()).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

// B5, B6
#[tokio::test]
async fn a_word_that_breaks_a_rule_is_a_page_and_nobody_is_signed_in() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let stranger = Signer::new("ES256", "1");
    type Change = Box<dyn FnOnce(&mut Manner)>;
    let changes: Vec<(&str, Change)> = vec![
        ("nonce", Box::new(|manner| manner.id_token = json!({"nonce": "replayed"}))),
        ("issuer", Box::new(|manner| manner.id_token = json!({"iss": "https://evil.example"}))),
        ("audience", Box::new(|manner| manner.id_token = json!({"aud": ["homeward", "evil"]}))),
        ("old", Box::new(|manner| manner.id_token = json!({"iat": NOW.as_secs() - 604_800}))),
        ("no subject", Box::new(|manner| manner.id_token = json!({"sub": null}))),
        ("another's userinfo", Box::new(|manner| manner.userinfo = json!({"sub": "u2"}))),
        ("nobody's userinfo", Box::new(|manner| manner.userinfo = json!({"email": "a@b.example"}))),
        ("none", Box::new(|manner| manner.instead = Some("e30.e30.".to_owned()))),
        ("another's key", Box::new(move |manner| manner.signer = stranger)),
    ];
    for (case, change) in changes {
        let browser = &mut Browser::default();
        let asked = world.depart(browser, &provider, &[]).await;
        let (id_token, userinfo) = (json!({}), json!({"sub": "u1"}));
        provider.change(|manner| (manner.id_token, manner.userinfo, manner.instead) = (id_token, userinfo, None));
        provider.change(change);
        let answer = browser.get(&world, &arrival(&asked["state"], &provider)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{case}");
        no_code(&answer, 403);
        assert!(browser.session().is_none(), "{case}");
    }
}

// B14
#[tokio::test]
async fn a_key_that_is_new_is_fetched_once_also_if_it_keeps_its_name() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    assert!(world.log_in(&mut Browser::default(), &provider, &[]).await.parameter("code").is_some());
    let before = provider.asked("jwks");
    // As Casdoor does it: another certificate under the old name.
    let again = Signer::new("ES256", "1");
    provider.change(|manner| (manner.published, manner.signer) = (vec![again.jwk()], again));
    assert!(world.log_in(&mut Browser::default(), &provider, &[]).await.parameter("code").is_some());
    assert_eq!(provider.asked("jwks"), before + 1);
    // A stranger's key is looked for as well, and not again for ten seconds.
    let published = provider.manner.lock().unwrap().published.clone();
    for _ in 0..3 {
        let browser = &mut Browser::default();
        let asked = world.depart(browser, &provider, &[]).await;
        provider.change(|manner| manner.signer = Signer::new("ES256", "1"));
        no_code(&browser.get(&world, &arrival(&asked["state"], &provider)).await, 403);
    }
    assert!(published == provider.manner.lock().unwrap().published && provider.asked("jwks") == before + 1);
}

// B15
#[tokio::test]
async fn errors_of_the_provider_are_refusals_without_its_words() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    for (error, told) in [
        ("access_denied", "access_denied"),
        ("login_required", "login_required"),
        ("interaction_required", "login_required"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("<script>\r\nX: y", "temporarily_unavailable"),
    ] {
        let browser = &mut Browser::default();
        let asked = world.depart(browser, &provider, &[]).await;
        let form = [
            ("error", error),
            ("error_description", "<script>alert(1)</script>\r\nSet-Cookie: x=y"),
            ("state", &asked["state"]),
            ("iss", &provider.issuer),
        ];
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let back = browser.get(&world, &format!("/upstream/staff/callback?{query}")).await;
        let answer = browser.get(&world, back.location().strip_prefix(BROKER).unwrap()).await;
        assert_eq!(answer.parameter("error").as_deref(), Some(told), "{error}");
        assert!(!answer.location().contains("alert") && !answer.location().contains("Cookie"));
    }
    assert_eq!(provider.asked("token"), 0);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_no_way_in_and_is_asked_seldom() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    provider.change(|manner| manner.broken = vec!["discovery"]);
    for _ in 0..5 {
        let answer = world.choose(&mut Browser::default(), &[]).await;
        assert!(answer.text().contains("Cannot log anybody in right now"), "{}", answer.text());
    }
    assert_eq!(provider.asked("discovery"), 1);
    provider.change(|manner| manner.broken = vec!["token"]);
    world.pass(11);
    world.registry.reachability.works(world.registry.snapshot().upstream(&"staff".parse().unwrap()).unwrap());
    let answer = world.log_in(&mut Browser::default(), &provider, &[]).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("temporarily_unavailable"));
}

// B3
#[tokio::test]
async fn a_provider_whose_document_names_another_issuer_is_no_home() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let other = provider.issuer.trim_end_matches('/').to_owned();
    provider.change(|manner| manner.metadata = json!({"issuer": other}));
    let answer = world.choose(&mut Browser::default(), &[]).await;
    assert!(answer.text().contains("Cannot log anybody in right now"));
    let staff = world.registry.snapshot().upstream(&"staff".parse().unwrap()).unwrap().clone();
    let problem = world.registry.reachability.problem(&staff).unwrap();
    assert!(problem.contains(&format!("the issuer is {other}:")), "{problem}");
}

#[tokio::test]
async fn a_posted_answer_comes_again_with_its_cookies() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let browser = &mut Browser::default();
    let asked = world.depart(browser, &provider, &[]).await;
    let good = arrival(&asked["state"], &provider);
    let (path, form) = good.split_once('?').unwrap();
    let again = Browser::default().post_text(&world, path, form).await.location();
    assert_eq!(again, format!("{BROKER}{good}"));
    assert!(browser.get(&world, again.strip_prefix(BROKER).unwrap()).await.location().contains("/login/return"));
}

// B12, B26
#[tokio::test]
async fn a_home_that_was_removed_or_is_not_accepted_any_more_vouches_for_nobody() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let browser = &mut Browser::default();
    let asked = world.depart(browser, &provider, &[]).await;
    world.deny("beta", "staff").await;
    no_code(&browser.get(&world, &arrival(&asked["state"], &provider)).await, 403);
    world.allow("beta", "staff").await;
    let asked = world.depart(browser, &provider, &[]).await;
    let removed = world.registry.upstreams.delete("staff", Expect::Any);
    world.registry.reached(world.store.commit(vec![removed]).await.unwrap()).await.unwrap();
    no_code(&browser.get(&world, &arrival(&asked["state"], &provider)).await, 400);
    assert_eq!(provider.asked("token"), 0);
}

#[tokio::test]
async fn users_whom_ops_did_not_mean_are_refused() {
    let provider = Provider::start().await;
    let demand = |staff: &mut Upstream| drop(staff.required.insert("/owner".into(), "acme".into()));
    let world = World::with_home(&provider, demand).await;
    for (owner, code) in [("acme", true), ("other", false), ("built-in", false)] {
        provider.change(|manner| manner.userinfo = json!({"sub": "u1", "owner": owner}));
        if code {
            let answer = world.log_in(&mut Browser::default(), &provider, &[]).await;
            assert!(answer.parameter("code").is_some(), "{owner}");
            continue;
        }
        // Whoever sees it is told; the application alone would say that the login was cancelled.
        let browser = &mut Browser::default();
        let asked = world.depart(browser, &provider, &[]).await;
        no_code(&browser.get(&world, &arrival(&asked["state"], &provider)).await, 403);
    }
}

#[tokio::test]
async fn servers_that_only_speak_oauth_say_who_it_is_in_their_own_way() {
    let provider = Provider::start().await;
    provider.change(|manner| manner.userinfo = json!({"id": 7, "login": "octocat", "unionId": "un-1", "nick": "Octo"}));
    let at = |path: &str| format!("{}{path}", provider.issuer);
    for (dialect, token, key, name) in [
        (OauthDialect::Github, "token", "/id", "/login"),
        (OauthDialect::Plain, "token", "/id", "/login"),
        (OauthDialect::Dingtalk, "userAccessToken", "/unionId", "/nick"),
    ] {
        let protocol = UpstreamProtocol::Oauth {
            authorization_url: at("authorize"),
            token_url: at(token),
            user_url: at("user"),
            dialect,
        };
        let world = World::with_home(&provider, |staff| {
            staff.protocol = protocol;
            staff.fields = [("home_user_id", key), ("username", name)].map(|(a, b)| (a.into(), b.into())).into();
        })
        .await;
        let browser = &mut Browser::default();
        let asked = world.depart(browser, &provider, &[]).await;
        assert_eq!(asked["scope"], "profile email");
        let answer = arrival(&asked["state"], &provider).replace("?code=", "?authCode=");
        let answer = if dialect == OauthDialect::Dingtalk { answer } else { answer.replace("authCode", "code") };
        let back = browser.get(&world, &answer).await;
        let answer = browser.get(&world, back.location().strip_prefix(BROKER).unwrap()).await;
        let tokens = world.redeem(&answer.parameter("code").unwrap(), &[]).await.json();
        let told = claims(tokens["id_token"].as_str().unwrap());
        assert!(told["preferred_username"].as_str().unwrap().to_lowercase().starts_with("octo"), "{told}");
        assert!(told.get("auth_time").is_none_or(Value::is_null), "nothing is made up");
        assert_eq!(told.get("email").and_then(Value::as_str).is_some(), dialect == OauthDialect::Github);
        let (_, headers) = provider.last("user");
        let own = headers.get("x-acs-dingtalk-access-token").is_some();
        assert_eq!((own, headers.get(AUTHORIZATION).is_some()), (dialect == OauthDialect::Dingtalk, !own));
    }
}

#[tokio::test]
async fn the_setup_page_says_what_to_paste_where_and_nothing_else() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let browser = &mut Browser::default();
    for name in crate::upstream::Preset::names() {
        let page = browser.get(&world, &format!("/upstream/staff/setup?provider={name}")).await;
        let text = page.text();
        assert_eq!(page.status, StatusCode::OK);
        assert!(
            text.contains(&format!("{BROKER}/upstream/staff/callback")) && text.contains(&format!("--preset {name} "))
        );
        assert!(!text.contains("s3cret") && !text.contains(&provider.issuer) && !text.contains("staff accounts"));
    }
    // Whether there is such a home is nobody's business.
    let known = browser.get(&world, "/upstream/staff/setup").await.text().replace("staff", "x");
    assert_eq!(browser.get(&world, "/upstream/nobody/setup").await.text().replace("nobody", "x"), known);
    browser.get(&world, "/upstream/staff/setup?provider=evil").await.assert_page(404);
    browser.get(&world, "/upstream/%3Cb%3E/setup").await.assert_page(404);
}

#[tokio::test]
async fn a_browser_does_not_drown_in_logins_that_it_never_finished() {
    let provider = Provider::start().await;
    let world = World::with_home(&provider, |_| {}).await;
    let browser = &mut Browser::default();
    for _ in 0..20 {
        world.choose(browser, &[]).await;
        browser.cookies.retain(|_, value| !value.is_empty());
        let waiting = browser.cookies.keys().filter(|name| name.starts_with("__Host-homeward-upstream-")).count();
        assert!(waiting <= 6, "{waiting}");
    }
    let large = "x".repeat(2000);
    let answer = world.choose(&mut Browser::default(), &[("state", &large), ("nonce", &large)]).await;
    answer.assert_page(400);
}
