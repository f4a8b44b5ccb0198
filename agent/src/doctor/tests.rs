//! The doctor at instances that are well, and at some that are not.

use std::net::SocketAddr;
use std::path::Path;

use axum::routing::get;
use axum::{Extension, Router, middleware};
use http::{HeaderMap, HeaderValue, Request};
use tokio::net::TcpListener;

use super::finding::Verdict;
use super::*;
use crate::clock;
use crate::config::PortalConfig;
use crate::home::http::Peer;
use crate::home::listener as portal_pages;
use crate::reachability::{self, ReachabilityKey};
use crate::test_authority::TestAuthority;

/// What a reverse proxy does to a request.
type Proxy = fn(&mut HeaderMap);

/// As the README says it.
fn good_proxy(headers: &mut HeaderMap) {
    headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9"));
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
}

/// An instance whose application, reverse proxy and agent are this test.
struct Stage {
    folder: tempfile::TempDir,
    portal: PortalConfig,
    key: ReachabilityKey,
}

impl Stage {
    /// An enrolled alpha with an agent that runs.
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = TestAuthority::new(clock::now()).enrol(folder.path(), "https://127.0.0.1:1".to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let portal = PortalConfig {
            listen: listener.local_addr().unwrap(),
            path: "/homeward/".to_owned(),
            trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
        };
        let key = identity.reachability_key();
        let pages = reachability::routes(&portal, key.clone());
        tokio::spawn(portal_pages::serve(listener, pages, &[], std::future::pending()));
        Self { folder, portal, key }
    }

    /// The findings about public address and portal, with a reverse proxy like this before application and agent.
    async fn look(&self, key: Option<&ReachabilityKey>, proxy: Proxy) -> Vec<Finding> {
        let application = Router::new().route("/_allauth/browser/v1/auth/session", get(|| async { "{}" }));
        let mut site = application.clone();
        if let Some(key) = key {
            let portal = reachability::routes(&self.portal, key.clone());
            let peer = Peer("127.0.0.1".parse().unwrap());
            site = site.merge(portal.layer(Extension(peer)).layer(middleware::map_request(
                move |mut request: Request<axum::body::Body>| async move {
                    proxy(request.headers_mut());
                    request
                },
            )));
        }
        let (site, application) = (serve(site).await, serve(application).await);
        let file = self.folder.path().join("agent.toml");
        let text = format!(
            "public_url = 'http://{site}'\ndata_dir = '{}'\nrecipe = 'django-allauth'\n[app]\nurl = 'http://{application}'\n\
             [home]\n[portal]\nlisten = '{}'",
            self.folder.path().join("agent").display(),
            self.portal.listen
        );
        std::io::Write::write_all(&mut std::fs::File::create_new(&file).unwrap(), text.as_bytes()).unwrap();
        let config = Config::load(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let (loaded, _) = identity::check(&config.data_dir, clock::now());
        public_address::check(&Patient::new(&config, loaded).unwrap()).await
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

fn worst<'a>(findings: &'a [Finding], about: &str) -> &'a Finding {
    let found = findings.iter().filter(|finding| finding.about == about);
    found.max_by_key(|finding| finding.verdict).unwrap_or_else(|| panic!("nothing about {about}: {findings:#?}"))
}

#[tokio::test]
async fn a_proxy_as_the_readme_has_it_is_well() {
    let stage = Stage::set().await;
    let findings = stage.look(Some(&stage.key), good_proxy).await;
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Ok), "{findings:#?}");
    assert!(worst(&findings, "agent").sentence.contains("runs"));
    assert!(worst(&findings, "X-Forwarded-For").sentence.contains("203.0.113.9"));
}

#[tokio::test]
async fn a_proxy_that_hides_or_invents_visitors_is_found_out() {
    let stage = Stage::set().await;
    let cases: [(Proxy, &str, Verdict); 5] = [
        (|headers| drop(headers.remove("x-forwarded-for")), "X-Forwarded-For", Verdict::Warning),
        // What the visitor claims stays the last word.
        (|_| {}, "X-Forwarded-For", Verdict::Error),
        (
            |headers| {
                headers.append("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
            },
            "X-Forwarded-For",
            Verdict::Ok,
        ),
        (
            |headers| drop(headers.insert("x-forwarded-proto", HeaderValue::from_static("https"))),
            "X-Forwarded-Proto",
            Verdict::Warning,
        ),
        (|headers| drop(headers.remove("cookie")), "cookies", Verdict::Error),
    ];
    for (proxy, about, verdict) in cases {
        let findings = stage.look(Some(&stage.key), proxy).await;
        let finding = worst(&findings, about);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(verdict == Verdict::Ok || finding.remedy.is_some());
    }
}

#[tokio::test]
async fn a_portal_that_is_somebody_elses_is_no_portal() {
    let stage = Stage::set().await;
    let nowhere = stage.look(None, good_proxy).await;
    let finding = worst(&nowhere, "portal");
    assert!(finding.verdict == Verdict::Error && finding.remedy.as_ref().unwrap().contains("location /homeward/"));
    let other = stage.look(Some(&ReachabilityKey::derive(b"beta")), good_proxy).await;
    assert!(worst(&other, "portal").sentence.contains("another instance's agent"));
}

#[tokio::test]
async fn it_does_not_look_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        "public_url = 'http://127.0.0.1:9'\ndata_dir = '{}'\nrecipe = 'django-allauth'\n[app]\nurl = 'http://{}'\n[home]",
        folder.path().join("agent").display(),
        silent.local_addr().unwrap()
    );
    let config = Config::try_from(toml::from_str::<crate::config::raw::RawConfig>(&text).unwrap()).unwrap();
    let (patient, mut findings) = (Patient::new(&config, None).unwrap(), Vec::new());
    look_for(Duration::from_millis(300), &patient, &|_| {}, &mut findings).await;
    let last = findings.last().unwrap();
    assert!(last.about == "doctor" && last.verdict == Verdict::Error, "{findings:?}");
}

#[tokio::test]
async fn a_configuration_that_does_not_load_is_the_only_finding() {
    let findings =
        Box::pin(examine(Path::new("/nonexistent/agent.toml"), None, Asks::Operator, clock::now(), &|_| {})).await;
    assert_eq!(findings.len(), 1);
    assert!(findings[0].verdict == Verdict::Error && findings[0].sentence.contains("/nonexistent/agent.toml"));
}
