//! The portal over HTTP, between a browser, the application and a broker that knows a few tickets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::StatusCode;
use ::http::header::{CONTENT_SECURITY_POLICY, LOCATION, SET_COOKIE};
use homeward_proto::v1::login_service_server::{LoginService, LoginServiceServer};
use homeward_proto::v1::{
    CompleteTicketRequest, CompleteTicketResponse, OpenTicketRequest, OpenTicketResponse, ReportUserRequest,
    ReportUserResponse, UserEvent,
};
use reqwest::Response as Page;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response, Status};

use super::Alpha;
use crate::application::Application;
use crate::clock;
use crate::config::Config;
use crate::config::raw::RawConfig;
use crate::connection::Broker;
use crate::disk::{self, PrivateDir};
use crate::home::accounts::AccountWatch;
use crate::home::directory::Directory;
use crate::home::watch::Watch;
use crate::home::{Outcome, Portal, Watches, http, listener};
use crate::recipe::Recipe;
use crate::test_authority::TestAuthority;

/// A broker that knows the tickets `any`, `fresh` (as of now) and `silent`.
#[derive(Clone, Default)]
struct Tickets {
    completed: Arc<Mutex<Vec<Outcome>>>,
    reported: Arc<Mutex<Vec<ReportUserRequest>>>,
    /// How many reports are refused before one is heard.
    deaf: Arc<Mutex<u32>>,
}

#[tonic::async_trait]
impl LoginService for Tickets {
    async fn open_ticket(&self, request: Request<OpenTicketRequest>) -> Result<Response<OpenTicketResponse>, Status> {
        let ticket = request.into_inner().ticket;
        if !["any", "fresh", "silent"].contains(&ticket.as_str()) {
            return Err(Status::not_found("no such ticket"));
        }
        Ok(Response::new(OpenTicketResponse {
            relying_party: "beta".to_owned(),
            relying_party_display_name: "Beta <b>".to_owned(),
            min_auth_time: (ticket == "fresh").then(|| clock::timestamp(clock::now())),
            silent: ticket == "silent",
            ..Default::default()
        }))
    }

    async fn report_user(&self, request: Request<ReportUserRequest>) -> Result<Response<ReportUserResponse>, Status> {
        let mut deaf = self.deaf.lock().unwrap();
        if *deaf > 0 {
            *deaf -= 1;
            return Err(Status::unavailable("not now"));
        }
        self.reported.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ReportUserResponse { sessions_ended: 1 }))
    }

    async fn complete_ticket(
        &self,
        request: Request<CompleteTicketRequest>,
    ) -> Result<Response<CompleteTicketResponse>, Status> {
        self.completed.lock().unwrap().extend(request.into_inner().outcome);
        Ok(Response::new(CompleteTicketResponse { return_url: "https://login.example/resume?handle=h".to_owned() }))
    }
}

/// Everything that a browser at alpha meets.
pub(super) struct World {
    alpha: Option<Alpha>,
    tickets: Tickets,
    pub(super) portal: String,
    pub(super) browser: reqwest::Client,
    pub(super) directory: Arc<Directory>,
    _data: tempfile::TempDir,
}

impl World {
    /// In front of a site with django-allauth.
    pub(super) async fn start(methods: &str) -> Self {
        Self::with(methods, "").await
    }

    /// With more in the recipe.
    async fn with(methods: &str, more: &str) -> Self {
        let alpha = Alpha::start().await;
        let url = alpha.url.clone();
        let home = format!("methods = {methods}\nwatch_every = 1");
        let recipe = format!("{}\n{more}", Recipe::embedded_text("django-allauth").unwrap());
        Self { alpha: Some(alpha), ..Box::pin(Self::of(&url, &recipe, &home)).await }
    }

    /// In front of the application at `url`.
    pub(super) async fn of(url: &str, recipe: &str, home: &str) -> Self {
        Self::in_time(url, recipe, home, http::REQUEST_TIMEOUT).await
    }

    /// The same, with so much time for a request.
    pub(super) async fn in_time(url: &str, recipe: &str, home: &str, time: Duration) -> Self {
        let tickets = Tickets::default();
        let data = tempfile::tempdir().unwrap();
        let authority = TestAuthority::new(clock::now());
        let (agent_url, incoming) = authority.listen().await;
        let server = tonic::transport::Server::builder().add_service(LoginServiceServer::new(tickets.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        let identity = Arc::new(authority.enrol(data.path(), agent_url));
        let recipe_file = data.path().join("recipe.toml");
        disk::replace_private(&recipe_file, recipe.as_bytes()).unwrap();
        let text = format!(
            "public_url = 'https://alpha.example'\ndata_dir = '{}'\nrecipe_file = '{}'\n[app]\nurl = '{url}'\n[home]\n{home}",
            data.path().display(),
            recipe_file.display(),
        );
        let config = Config::try_from(toml::from_str::<RawConfig>(&text).unwrap()).unwrap();
        let application = Application::new(config.app_url.clone(), &config.public_url).unwrap();
        let broker = Broker::new(identity.clone()).unwrap();
        let sessions = Watch::new(&config, application.clone(), broker.clone());
        tokio::spawn(sessions.clone().run());
        let directory = Arc::new(Directory::new(&config, &application).unwrap().unwrap());
        let private = PrivateDir::open(&data.path().join("own")).unwrap();
        let accounts = AccountWatch::open(&config, private, broker.clone(), Some(directory.clone())).unwrap();
        tokio::spawn(accounts.clone().run());
        let who = (Some(directory.clone()), Watches { sessions, accounts });
        let portal = Portal::new(&config, &identity, broker, application, who).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = http::router_in_time(portal, &config.portal.path, time);
        tokio::spawn(async move { listener::serve(listener, router, &[], std::future::pending()).await });
        let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { alpha: None, tickets, portal: address, browser, directory, _data: data }
    }

    async fn get(&self, path: &str, cookies: &str) -> Page {
        self.browser.get(format!("{}{path}", self.portal)).header("cookie", cookies).send().await.unwrap()
    }

    pub(super) async fn post(&self, path: &str, cookies: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.browser.post(format!("{}{path}", self.portal)).header("cookie", cookies);
        request.form(fields).send().await.unwrap()
    }

    /// Opens the form: the browser's cookie, and the form's token.
    pub(super) async fn open_form(&self, ticket: &str) -> (String, String) {
        let page = self.get(&format!("/homeward/login?ticket={ticket}"), "").await;
        let cookie = page.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        assert!(
            cookie.starts_with("__Host-homeward-portal=") && cookie.contains("Secure") && cookie.contains("HttpOnly")
        );
        let text = page.text().await.unwrap();
        let token = text.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        (cookie.split(';').next().unwrap().to_owned(), token.to_owned())
    }

    /// Who is reported next, within a few seconds.
    async fn reported(&self) -> Option<String> {
        let (home_user_id, event) = self.heard().await?;
        assert_eq!(event, UserEvent::LoggedOut);
        Some(home_user_id)
    }

    /// What the broker hears next, within a few seconds.
    pub(super) async fn heard(&self) -> Option<(String, UserEvent)> {
        for _ in 0..60 {
            let reported = self.tickets.reported.lock().unwrap().pop();
            if let Some(report) = reported {
                return Some((report.home_user_id.clone(), report.event()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    fn alpha(&self) -> &Alpha {
        self.alpha.as_ref().unwrap()
    }

    fn sign_out(&self, session: &str) {
        self.alpha().site.sessions.lock().unwrap().remove(session);
    }

    pub(super) fn completed(&self) -> Vec<Outcome> {
        self.tickets.completed.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn who_is_signed_in_at_the_application_goes_straight_back_to_the_broker() {
    let world = World::start("['session']").await;
    world.alpha().sign_in("good", json!([{"method": "password", "at": 1000.0}]));
    let page = world.get("/homeward/login?ticket=any", "sessionid=good").await;
    assert_eq!(
        (page.status(), &page.headers()[LOCATION]),
        (StatusCode::SEE_OTHER, &"https://login.example/resume?handle=h".parse().unwrap())
    );
    assert!(page.headers().get(SET_COOKIE).is_none(), "nothing of the application's reaches the browser");
    let [Outcome::Identity(alice)] = &world.completed()[..] else { panic!("no identity") };
    assert_eq!((alice.home_user_id.as_str(), alice.auth_time.unwrap().seconds), ("1", 1000));
}

#[tokio::test]
async fn who_signs_out_at_the_application_is_reported_until_the_broker_has_heard() {
    let world = World::start("['session']").await;
    *world.tickets.deaf.lock().unwrap() = 1;
    world.alpha().sign_in("good", json!([{"method": "password", "at": 1000.0}]));
    world.get("/homeward/login?ticket=any", "sessionid=good").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(world.tickets.reported.lock().unwrap().is_empty(), "still signed in");
    world.sign_out("good");
    assert_eq!(world.reported().await.as_deref(), Some("1"));
    assert_eq!(world.reported().await, None, "once");
}

#[tokio::test]
async fn a_logout_is_reported_before_the_next_login_and_does_not_end_it() {
    let world = World::start("['session']").await;
    world.alpha().sign_in("first", json!([{"method": "password", "at": 1000.0}]));
    world.get("/homeward/login?ticket=any", "sessionid=first").await;
    world.sign_out("first");
    world.alpha().sign_in("second", json!([{"method": "password", "at": 2000.0}]));
    let page = world.get("/homeward/login?ticket=any", "sessionid=second").await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    assert_eq!(world.tickets.reported.lock().unwrap().pop().unwrap().home_user_id, "1", "before the answer");
    assert_eq!(world.reported().await, None, "the second session lives");
}

#[tokio::test]
async fn who_is_not_goes_to_the_applications_login_page_once() {
    let world = World::start("['session']").await;
    let page = world.get("/homeward/login?ticket=any", "").await;
    let login = "https://alpha.example/accounts/login/?next=%2Fhomeward%2Flogin%3Fticket%3Dany%26back%3D1";
    assert_eq!((page.status(), page.headers()[LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, login));
    let page = world.get("/homeward/login?ticket=any&back=1", "").await;
    assert_eq!(page.status(), StatusCode::OK, "a site that sends the browser straight back makes no loop");
    let text = page.text().await.unwrap();
    assert!(text.contains("You are not signed in here") && text.contains("Beta &#60;b&#62;"), "{text}");
    // A session that is too old goes to the page that asks again.
    world.alpha().sign_in("old", json!([{"method": "password", "at": 1000.0}]));
    let page = world.get("/homeward/login?ticket=fresh", "sessionid=old").await;
    assert!(
        page.headers()[LOCATION].to_str().unwrap().starts_with("https://alpha.example/accounts/reauthenticate/?next=")
    );
}

#[tokio::test]
async fn the_form_checks_a_password_with_the_application() {
    let world = World::start("['password']").await;
    let (cookie, token) = world.open_form("fresh").await;
    let form =
        |password| [("ticket", "fresh"), ("form_token", token.as_str()), ("username", "alice"), ("password", password)];
    let page = world.post("/homeward/login", &cookie, &form("wrong")).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.text().await.unwrap().contains("User name or password is wrong."));
    assert!(world.completed().is_empty());
    let page = world.post("/homeward/login", &cookie, &form("right")).await;
    assert_eq!(
        (page.status(), page.headers()[LOCATION].to_str().unwrap()),
        (StatusCode::SEE_OTHER, "https://login.example/resume?handle=h")
    );
    let [Outcome::Identity(alice)] = &world.completed()[..] else { panic!("no identity") };
    assert_eq!(alice.username, "alice");
    let now: i64 = clock::now().unix_timestamp();
    assert!(now - alice.auth_time.unwrap().seconds < 60, "the password was judged just now");
}

#[tokio::test]
async fn a_form_of_another_browser_or_ticket_is_refused() {
    let world = World::start("['password']").await;
    let (cookie, token) = world.open_form("any").await;
    let (other, _) = world.open_form("any").await;
    for (cookies, ticket, token) in
        [("", "any", &*token), (&*other, "any", &*token), (&*cookie, "fresh", &*token), (&*cookie, "any", "")]
    {
        let fields = [("ticket", ticket), ("form_token", token), ("username", "alice"), ("password", "right")];
        assert_eq!(world.post("/homeward/login", cookies, &fields).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(world.post("/homeward/cancel", cookies, &fields).await.status(), StatusCode::FORBIDDEN);
    }
    assert!(world.completed().is_empty());
}

#[tokio::test]
async fn tries_are_counted_before_the_application_hears_of_them() {
    let world = World::start("['password']").await;
    let (cookie, token) = world.open_form("any").await;
    let fields = [("ticket", "any"), ("form_token", token.as_str()), ("username", "alice"), ("password", "wrong")];
    let mut last = StatusCode::OK;
    for _ in 0..11 {
        last = world.post("/homeward/login", &cookie, &fields).await.status();
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn giving_up_and_silent_logins_use_the_ticket_up() {
    let world = World::start("['session', 'password']").await;
    let page = world.get("/homeward/login?ticket=silent", "").await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    let (cookie, token) = world.open_form("any&back=1").await;
    let page = world.post("/homeward/cancel", &cookie, &[("ticket", "any"), ("form_token", &token)]).await;
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    use homeward_proto::v1::LoginFailure::{Cancelled, LoginRequired};
    assert_eq!(world.completed(), [Outcome::Failure(LoginRequired.into()), Outcome::Failure(Cancelled.into())]);
}

#[tokio::test]
async fn strangers_get_fixed_sentences_and_strict_headers() {
    let world = World::start("['password']").await;
    let huge = "x".repeat(20_000);
    for (page, status) in [
        (world.get("/homeward/login", "").await, 400),
        (world.get("/homeward/login?ticket=any&ticket=any", "").await, 400),
        (world.get("/homeward/login?ticket=<script>", "").await, 400),
        (world.get("/homeward/login?ticket=used-up", "").await, 410),
        (world.get("/homeward/nothing", "").await, 404),
        (world.get("/", "").await, 404),
        (world.get("/homeward/cancel", "").await, 405),
        (world.browser.head(format!("{}/homeward/login?ticket=any", world.portal)).send().await.unwrap(), 405),
        (world.browser.put(format!("{}/homeward/login", world.portal)).send().await.unwrap(), 405),
        (world.post("/homeward/login", "", &[("ticket", &huge)]).await, 413),
        (world.browser.post(format!("{}/homeward/login", world.portal)).body("{}").send().await.unwrap(), 400),
    ] {
        assert_eq!(page.status().as_u16(), status);
        let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
        assert!(page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors 'none'"));
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!((header("cache-control").as_str(), header("referrer-policy").as_str()), ("no-store", "no-referrer"));
        assert!(!page.text().await.unwrap().contains("<script"));
    }
    let style = world.get("/homeward/style.css", "").await;
    assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");
}

#[tokio::test]
async fn who_has_yet_to_set_up_a_second_factor_is_told_so_and_vouched_for_by_nobody() {
    // The site answers that address with 404: as InvenTree with 401, it lets nobody on.
    let enforced = "[[home.who_am_i]]\nname = 'auth'\npath = '/auth/'\notherwise = 'second_factor_missing'";
    for methods in ["['session']", "['password', 'session']"] {
        let world = World::with(methods, enforced).await;
        world.alpha().sign_in("good", json!([{"method": "password", "at": 1000.0}]));
        let page = world.get("/homeward/login?ticket=any", "sessionid=good").await.text().await.unwrap();
        assert!(page.contains("set up a second factor") && page.contains("href=\"https://alpha.example/\""), "{page}");
        assert!(world.completed().is_empty());
    }
    let world = World::with("['password']", enforced).await;
    let (cookie, token) = world.open_form("any").await;
    let form = [("ticket", "any"), ("form_token", token.as_str()), ("username", "alice"), ("password", "right")];
    let page = world.post("/homeward/login", &cookie, &form).await.text().await.unwrap();
    assert!(page.contains("set up a second factor") && world.completed().is_empty(), "{page}");
    assert!(world.alpha().site.sessions.lock().unwrap().is_empty(), "the session that checked the password is ended");
}

/// A browser that keeps its connection is not answered by what the agent had configured before.
#[tokio::test]
async fn a_connection_that_is_kept_ends_with_the_configuration_that_it_was_made_under() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move { drop(ended.await) };
    let router = http::router(None, "/homeward/");
    let serving = tokio::spawn(async move { listener::serve(listener, router, &[], shutdown).await });
    let mut kept = TcpStream::connect(address).await.unwrap();
    let ask = b"GET /homeward/style.css HTTP/1.1\r\nhost: alpha.example\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut kept, ask).await.unwrap();
    let mut first = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut kept, &mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(end);
    let mut rest = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut kept, &mut rest);
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap().unwrap();
    serving.await.unwrap().unwrap();
}
