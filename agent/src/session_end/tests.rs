//! Orders, from the queue to the answer.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::net::TcpListener;

use super::*;
use crate::clock;
use crate::config::raw::RawConfig;
use crate::connection::Broker;
use crate::test_authority::TestAuthority;

/// What the application was asked to do.
type Asked = Arc<Mutex<Vec<Value>>>;

/// An ender for a recipe with these lines, its orders, and what its application is asked.
struct World {
    queue: Queue,
    asked: Asked,
    folder: tempfile::TempDir,
}

impl World {
    /// `parameters` are those of agent.toml; `$D` in both is the folder.
    async fn start(of_party: &str, of_home: &str, parameters: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let asked = Asked::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/end", post(end)).with_state(asked.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let directory = folder.path().display().to_string();
        let recipe = format!(
            "name = 'a'\ntitle = 'A'\ndescription = ''\nparameters = {{ where = 'a folder', database_url_file = 'a file' }}\n[relying_party]\n\
             callback_paths = ['/cb']\nclient_auth_method = 'client_secret_post'\nid_token_alg = 'ES256'\npkce = true\n\
             {of_party}\n[home]\nlogin = {{ path = '/', next_parameter = 'next' }}\n\
             who_am_i = [{{ name = 'me', path = '/me' }}]\nidentity = {{ home_user_id = 'me:/id', username = 'me:/n' }}\n\
             {of_home}\n"
        );
        let mut file = std::fs::File::create_new(folder.path().join("recipe.toml")).unwrap();
        file.write_all(recipe.replace("$D", &directory).as_bytes()).unwrap();
        let text = format!(
            "public_url = 'https://alpha.example'\ndata_dir = '$D/agent'\nrecipe_file = '$D/recipe.toml'\n[app]\n\
             url = '{url}'\nparameters = {{ {parameters} }}\n[relying_party]\ncredentials_dir = '$D/credentials'\n\
             [home]\nmethods = ['session']\n"
        );
        let raw: RawConfig = toml::from_str(&text.replace("$D", &directory)).unwrap();
        let config = Config::try_from(raw).unwrap();
        let application = Application::new(config.app_url.clone(), &config.public_url).unwrap();
        let application = application.with_parameters(config.parameters.clone());
        let authority = TestAuthority::new(clock::now());
        let identity = Arc::new(authority.enrol(&folder.path().join("identity"), "https://127.0.0.1:1".to_owned()));
        let watch = Watch::new(&config, application.clone(), Broker::new(identity).unwrap());
        let (queue, orders) = queue();
        tokio::spawn(SessionEnder::new(&config, application, watch).run(orders));
        Self { queue, asked, folder }
    }

    async fn order(&self, user: User) -> SessionsEnded {
        let (answers, mut answered) = mpsc::channel(1);
        self.queue.take(EndSessions { id: "one".to_owned(), user: Some(user) }, &answers);
        answered.recv().await.unwrap()
    }
}

async fn end(State(asked): State<Asked>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    let status = if body["of"] == "refused" { StatusCode::FORBIDDEN } else { StatusCode::OK };
    asked.lock().unwrap().push(body);
    (status, Json(json!({"ended": 2})))
}

fn alice(subject: &str) -> User {
    User::RelyingPartyUser(RelyingPartyUser {
        subject: subject.to_owned(),
        session_id: "s".to_owned(),
        username: "alice".to_owned(),
    })
}

const STEPS: &str = "[relying_party.session_end]\nsteps = [{ method = 'POST', path = '/end', json = { of = '${subject}', \
                     session = '${session_id}' } }]\nsessions = '/ended'";

#[tokio::test]
async fn requests_end_sessions_and_say_how_many() {
    let world = World::start(STEPS, "", "").await;
    let ended = world.order(alice("sub-1")).await;
    assert_eq!((ended.outcome(), ended.sessions, ended.id.as_str()), (SessionsEndedOutcome::Ended, 2, "one"));
    assert_eq!(*world.asked.lock().unwrap(), [json!({"of": "sub-1", "session": "s"})]);
    let refused = world.order(alice("refused")).await;
    assert_eq!((refused.outcome(), refused.sessions), (SessionsEndedOutcome::Failed, 0));
    assert!(refused.detail.contains("/end") && refused.detail.contains("403"), "{}", refused.detail);
}

#[tokio::test]
async fn nobody_is_logged_out_by_a_name_that_the_application_was_not_told() {
    let steps =
        "[relying_party.session_end]\nsteps = [{ method = 'POST', path = '/end', json = { of = '${username}' } }]";
    let world = World::start(steps, "", "").await;
    let User::RelyingPartyUser(alice) = alice("sub-1") else { panic!() };
    let nameless = User::RelyingPartyUser(RelyingPartyUser { username: String::new(), ..alice.clone() });
    assert_eq!(world.order(nameless).await.outcome(), SessionsEndedOutcome::Failed);
    assert!(world.asked.lock().unwrap().is_empty());
    assert_eq!(world.order(User::RelyingPartyUser(alice)).await.outcome(), SessionsEndedOutcome::Ended);
}

#[tokio::test]
async fn a_command_learns_whom_to_end_from_its_environment_only() {
    let line =
        "tr \"\\\\0\" \" \" < /proc/self/cmdline > \"$1/argv\"; env | grep ^HOMEWARD_ | sort > \"$1/env\"; echo 3";
    let home = format!("[home.session_end]\ncommand = ['sh', '-c', '{line}', 'sh', '${{where}}']");
    let world = World::start("", &home, "where = '$D'").await;
    let ended = world.order(User::HomeUserId("canary-7".to_owned())).await;
    assert_eq!((ended.outcome(), ended.sessions), (SessionsEndedOutcome::Ended, 3), "{}", ended.detail);
    let read = |name: &str| std::fs::read_to_string(world.folder.path().join(name)).unwrap();
    assert_eq!(read("env"), "HOMEWARD_HOME_USER_ID=canary-7\n");
    assert!(!read("argv").contains("canary"));
}

#[tokio::test]
async fn a_command_that_fails_says_so_and_a_missing_parameter_is_no_support() {
    let world = World::start("[relying_party.session_end]\ncommand = ['false']", "", "").await;
    let failed = world.order(alice("a")).await;
    assert_eq!(failed.outcome(), SessionsEndedOutcome::Failed);
    assert!(failed.detail.contains("\"false\""), "{}", failed.detail);
    let nobody = world.order(User::HomeUserId("7".to_owned())).await;
    assert_eq!(nobody.outcome(), SessionsEndedOutcome::NotSupported);
    let world = World::start("[relying_party.session_end]\ncommand = ['echo', '${where}']", "", "").await;
    assert_eq!(world.order(alice("a")).await.outcome(), SessionsEndedOutcome::NotSupported);
}

#[tokio::test]
async fn statements_end_sessions_in_the_applications_database() {
    let rows =
        "rows = { database = '${database_url}', execute = ['DELETE FROM s WHERE u = ?', 'DELETE FROM t WHERE u = ?'] }";
    let (party, home) = (format!("[relying_party.session_end]\n{rows}"), format!("[home.session_end]\n{rows}"));
    let world = World::start(&party, &home, "database_url_file = '$D/url'").await;
    let missing = world.order(alice("7")).await;
    assert!(missing.detail.contains("database_url_file"), "{}", missing.detail);
    let path = world.folder.path().join("db.sqlite3");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let tables = "CREATE TABLE s (u INTEGER); CREATE TABLE t (u TEXT); INSERT INTO s VALUES (7), (7), (8), (9);\
                  INSERT INTO t VALUES ('7'), ('9');";
    sqlx::raw_sql(tables).execute(&mut connection).await.unwrap();
    let url = world.folder.path().join("url");
    let mut file = std::fs::File::create_new(url).unwrap();
    file.write_all(format!("sqlite://{}\n", path.display()).as_bytes()).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    for (user, sessions) in [(alice("7"), 3), (User::HomeUserId("9".to_owned()), 2), (alice("7"), 0)] {
        let ended = world.order(user).await;
        assert_eq!((ended.outcome(), ended.sessions), (SessionsEndedOutcome::Ended, sessions), "{}", ended.detail);
    }
    let without = World::start(&party, "", "").await;
    assert_eq!(without.order(alice("7")).await.outcome(), SessionsEndedOutcome::NotSupported);
}

/// One order is under way and so many wait; the one after them is refused at once, and those whose stream is gone are
/// never carried out.
#[tokio::test]
async fn a_full_queue_refuses_and_a_broken_stream_cancels() {
    let world = World::start("[relying_party.session_end]\ncommand = ['sleep', '0.3']", STEPS_AT_HOME, "").await;
    let (answers, mut answered) = mpsc::channel(BACKLOG + 2);
    world.queue.take(EndSessions { id: "slow".to_owned(), user: Some(alice("a")) }, &answers);
    // The ender takes it; from here on orders wait.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (gone, broken) = mpsc::channel(1);
    for _ in 0..BACKLOG {
        world.queue.take(EndSessions { id: "lost".to_owned(), user: Some(User::HomeUserId("7".to_owned())) }, &gone);
    }
    drop(broken);
    world.queue.take(EndSessions { id: "late".to_owned(), user: Some(alice("b")) }, &answers);
    let refused = answered.recv().await.unwrap();
    assert_eq!((refused.id.as_str(), refused.outcome()), ("late", SessionsEndedOutcome::Failed));
    assert_eq!(answered.recv().await.unwrap().id, "slow");
    assert_eq!(world.order(User::HomeUserId("8".to_owned())).await.outcome(), SessionsEndedOutcome::Ended);
    assert_eq!(*world.asked.lock().unwrap(), [json!({"of": "8"})]);
}

const STEPS_AT_HOME: &str =
    "[home.session_end]\nsteps = [{ method = 'POST', path = '/end', json = { of = '${home_user_id}' } }]";
