//! The page at an enrolled alpha, asked by its operator, by others, and by pages of others.

use std::os::unix::fs::OpenOptionsExt as _;

use ::http::{Request, StatusCode};
use axum::Router;
use axum::body::Body;
use homeward_proto::v1::{ClientCredentials, KeySetProofMethod, Resource};
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::*;
use crate::application::Application;
use crate::clock;
use crate::resources::applied::{Proved, ProvedKeys};
use crate::resources::standing::Refusal;
use crate::resources::wanted::Versioned;
use crate::test_authority::TestAuthority;

/// Stands in everything that is nobody's business.
const CANARY: &str = "canary-of-the-coal-mine";

/// An enrolled alpha whose agent has a page.
struct Stage {
    folder: tempfile::TempDir,
    standing: Arc<Standing>,
    connected: watch::Sender<bool>,
    wanted: watch::Sender<Wanted>,
    page: Arc<OperatorPage>,
}

impl Stage {
    /// As a relying party that writes into a database, and as a home. Its application is at this address.
    fn set(application: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let identity =
            Arc::new(TestAuthority::new(clock::now()).enrol(folder.path(), "https://127.0.0.1:1".to_owned()));
        for name in ["url", "bind-password"] {
            private(&path(name), &format!("postgres://alpha:{CANARY}@127.0.0.1:1/alpha"));
        }
        let text = format!(
            "public_url = 'https://alpha.example'\ndata_dir = '{}'\nrecipe = 'django-allauth'\n\
             [app]\nurl = 'http://{application}'\n\
             parameters = {{ database_url_file = '{}', manage = '{CANARY}' }}\n\
             [relying_party]\nway = 'database'\nreload = ['/bin/true', '--password', '{CANARY}']\n\
             [home]\nmethods = ['ldap']\n[home.ldap]\nurl = 'ldap://127.0.0.1:1'\n\
             search = {{ base = 'dc=x', filter = '(uid={{username}})', bind_dn = 'cn=x', bind_password_file = '{}' }}\n\
             [operator_page]\nlisten = '127.0.0.1:0'\nhosts = ['alpha.example']",
            path("agent"),
            path("url"),
            path("bind-password"),
        );
        let file = folder.path().join("agent.toml");
        private(&file.display().to_string(), &text);
        let config = Config::load(&file).unwrap();
        let data = PrivateDir::open(&config.data_dir).unwrap();
        let application = Application::new(config.app_url.clone(), &config.public_url).unwrap();
        let standing = Arc::new(Standing::open(data.clone()).unwrap());
        let (connected, wanted) = (watch::Sender::new(true), watch::Sender::default());
        let seen = Seen {
            identity,
            orders: Arc::new(Orders::open(data.clone()).unwrap()),
            standing: standing.clone(),
            wanted: wanted.subscribe(),
            connected: connected.subscribe(),
            data,
            health: Health::new(&config, application).into(),
        };
        let page = Arc::new(OperatorPage::new(&file, &config, seen, clock::now()).unwrap());
        Self { folder, standing, connected, wanted, page }
    }

    /// Credentials and a key set are in effect, and another key set is not.
    fn works(&self) {
        let credentials = ClientCredentials {
            client_id: "alpha-client".to_owned(),
            client_secret: CANARY.to_owned(),
            ..ClientCredentials::default()
        };
        let proved_at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        self.standing
            .change(|applied| {
                applied.use_credentials(&credentials, 1, Proved::Now(proved_at));
                applied.proved_keys = ProvedKeys::new(vec!["kid-1".to_owned()], KeySetProofMethod::Shown);
                applied.homes = vec![("garage".to_owned(), "Greta's <Garage>".to_owned())];
            })
            .unwrap();
        let refusal =
            Refusal { version: 2, reason: "KEY_SET_NOT_SHOWN", detail: "the application names no keys".to_owned() };
        self.standing.refuse(Resource::KeySet, refusal, clock::now());
        let wanted = Wanted {
            credentials: Some(Versioned { version: 1, content: credentials }),
            key_set: Some(Versioned { version: 2, content: "{}".to_owned() }),
            ..Wanted::default()
        };
        self.wanted.send_replace(wanted);
    }

    async fn opened(&self) -> String {
        let (status, _, text) = self.asked(Request::get("/")).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        text
    }

    async fn asked(&self, request: ::http::request::Builder) -> (StatusCode, ::http::HeaderMap, String) {
        self.sent(request, "").await
    }

    /// With `Host` as the operator types it, unless the request has one.
    async fn sent(&self, request: ::http::request::Builder, body: &str) -> (StatusCode, ::http::HeaderMap, String) {
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.headers_mut().entry("host").or_insert("127.0.0.1:9446".parse().unwrap());
        let response = http::router(self.page.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    fn form(&self) -> String {
        format!("form_token={}", self.page.door.token())
    }
}

fn private(path: &str, text: &str) {
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// An application that answers nothing until it may.
async fn slow_application() -> (String, watch::Sender<bool>) {
    let (may, wait) = watch::channel(false);
    let routes = Router::new().fallback(move || {
        let mut wait = wait.clone();
        async move {
            let _ = wait.wait_for(|may| *may).await;
            "{}"
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (address, may)
}

#[tokio::test]
async fn it_shows_what_is_in_effect_where_and_since_when() {
    let stage = Stage::set("127.0.0.1:1");
    let before = stage.opened().await;
    assert!(before.contains("has received no client credentials yet") && before.contains("has not looked"), "{before}");
    stage.works();
    stage.connected.send_replace(false);
    let page = stage.opened().await;
    for said in [
        "<h1>alpha</h1>",
        "https://alpha.example",
        "https://login.example",
        "alpha-client",
        "2023-11-14 22:13:20 UTC",
        "kid-1",
        "the application names them",
        "garage (Greta&#39;s &#60;Garage&#62;)",
        "The application names no keys. KEY_SET_NOT_SHOWN",
        "There is no connection to the broker",
        "The application does not answer.",
        "table socialaccount_socialapp of the database that database_url_file names",
        "bind-password",
        "/bin/true (and 2 more)",
        "homeward-agent status",
    ] {
        assert!(page.contains(said), "{said} is not in {page}");
    }
    assert!(
        !before.contains("http-equiv") && !page.contains("http-equiv"),
        "it opens itself again only for the doctor"
    );
}

#[tokio::test]
async fn no_secret_is_on_it() {
    let stage = Stage::set("127.0.0.1:1");
    stage.works();
    let secrets: Vec<String> = ["identity.json"]
        .iter()
        .flat_map(|name| {
            let text = std::fs::read_to_string(stage.folder.path().join("agent").join(name)).unwrap();
            let words = text.split('"').filter(|word| word.len() > 60).map(str::to_owned);
            words.collect::<Vec<_>>()
        })
        .chain([CANARY.to_owned()])
        .collect();
    assert!(secrets.len() > 3, "keys and certificates are in the file");
    let (status, _, _) = stage.sent(Request::post("/doctor"), &stage.form()).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    stage.page.examination.wait(Duration::from_secs(60)).await;
    let page = stage.opened().await;
    assert!(page.contains("Looked at"), "{page}");
    for secret in secrets {
        assert!(!page.contains(&secret), "{secret} is in {page}");
    }
}

#[tokio::test]
async fn pages_of_others_reach_nothing() {
    let stage = Stage::set("127.0.0.1:1");
    let evil = [
        Request::get("/").header("host", "evil.example:9446"),
        Request::get("/style.css").header("host", "evil.example"),
        Request::get("/").header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "no-cors"),
        Request::get("/").header("sec-fetch-site", "same-site").header("sec-fetch-mode", "cors"),
        Request::post("/doctor").header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "navigate"),
        Request::post("/doctor").header("origin", "http://127.0.0.1:3000"),
    ];
    for request in evil {
        let shown = format!("{request:?}");
        let (status, headers, text) = stage.sent(request, &stage.form()).await;
        assert!(matches!(status.as_u16(), 403 | 421) && !text.contains("alpha"), "{shown}: {status} {text}");
        assert!(headers.contains_key("content-security-policy") && headers["x-frame-options"] == "DENY", "{headers:?}");
    }
    for forged in ["", "form_token=", "form_token=x", "other=1"] {
        let (status, _, text) = stage.sent(Request::post("/doctor"), forged).await;
        assert!(status == StatusCode::FORBIDDEN && text.contains("This page is out of date"), "{forged}: {text}");
    }
    assert!(stage.page.examination.state().under_way.is_none() && stage.page.examination.state().last.is_none());
}

#[tokio::test]
async fn it_is_kept_nowhere_framed_nowhere_and_links_to_itself_only() {
    let stage = Stage::set("127.0.0.1:1");
    let proxied = Request::get("/").header("host", "alpha.example").header("sec-fetch-site", "none");
    let (status, headers, page) = stage.asked(proxied).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'")
            && policy.contains("frame-ancestors 'none'")
            && policy.contains("form-action 'self'")
    );
    for absolute in ["href=\"/", "action=\"/", "src=", "<script", "style=\"", "http-equiv"] {
        assert!(!page.contains(absolute), "{absolute} is in {page}");
    }
    let (_, headers, _) = stage.asked(Request::get("/doctor")).await;
    assert_eq!(headers["location"], "./#doctor");
    let (status, _, style) = stage.asked(Request::get("/style.css")).await;
    assert!(status == StatusCode::OK && style.contains("prefers-color-scheme: dark"));
    for path in ["/x", "/doctor/", "/homeward/login"] {
        let (status, _, text) = stage.asked(Request::get(path)).await;
        assert!(status == StatusCode::NOT_FOUND && text.contains("There is no such page"), "{path}");
    }
}

#[tokio::test]
async fn a_file_that_hangs_holds_up_the_doctor_and_nothing_else() {
    let stage = Stage::set("127.0.0.1:1");
    let file = stage.folder.path().join("agent.toml");
    std::fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
    stage.page.examination.begin(clock::now());
    stage.page.examination.wait(Duration::from_millis(100)).await;
    assert!(stage.opened().await.contains("The doctor looks, since"));
    // So that its thread ends.
    drop(std::fs::OpenOptions::new().write(true).open(&file).unwrap());
}

#[tokio::test]
async fn the_doctor_looks_once_for_all_who_ask_meanwhile() {
    let (application, may) = slow_application().await;
    let stage = Stage::set(&application);
    let first = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
    stage.page.examination.begin(first);
    stage.page.examination.begin(clock::now());
    let looks = stage.opened().await;
    assert!(
        looks.contains("http-equiv=\"refresh\" content=\"5; url=./\"") && looks.contains("The doctor looks, since"),
        "{looks}"
    );
    assert!(!looks.contains("<form"), "who is there need not be sent for");
    may.send_replace(true);
    stage.page.examination.wait(Duration::from_secs(60)).await;
    let found = stage.page.examination.state();
    assert!(found.under_way.is_none());
    let last = found.last.unwrap();
    assert_eq!(last.of, first, "the second one got the findings of the first");
    assert!(last.all.iter().any(|finding| finding.about == "identity"));
    let page = stage.opened().await;
    assert!(page.contains("2023-11-14 22:13:20 UTC") && page.contains("This is alpha of example.org."), "{page}");
    stage.page.examination.begin(clock::now());
    stage.page.examination.wait(Duration::from_secs(60)).await;
    assert!(stage.page.examination.state().last.unwrap().of > first, "and he comes again");
}
