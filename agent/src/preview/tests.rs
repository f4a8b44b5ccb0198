//! What is answered of a user, and that it is answered.

use std::io::Write as _;

use homeward_proto::v1::AccountPreview;
use serde_json::json;

use super::*;
use crate::config::raw::RawConfig;
use crate::database::Database;

const RECIPE: &str = r"
    name = 'rows'
    title = 'Rows'
    description = ''
    parameters = { db = 'where it is' }

    [relying_party]
    callback_paths = ['/cb']
    client_auth_method = 'client_secret_basic'
    id_token_alg = 'RS256'
    pkce = true

    [[relying_party.accounts]]
    claim = 'sub'
    rows = { database = '${db}', query = 'SELECT username FROM users WHERE sub = ?' }
    found = 'signs in to {account}'

    [[relying_party.accounts]]
    claim = 'email'
    rows = { database = '${db}', query = 'SELECT username FROM users WHERE email = ?' }
    found = 'is refused: {account} has {value}'

    [relying_party.account_made]
    outcome = 'makes the account {preferred_username}'
    taken = 'puts a number behind {preferred_username}'
    needs = ['email']

    [home]
    login = { path = '/', next_parameter = 'next' }
    who_am_i = [{ name = 'me', path = '/me' }]
    identity = { home_user_id = 'me:/id', username = 'me:/n' }

    [home.directory]
    rows = { database = '${db}', query = 'SELECT id AS home_user_id, username, email FROM users WHERE username = ?' }
";

/// An application with two users, and who answers for it.
struct Site {
    questions: Questions,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn start() -> Self {
        Self::paced(Duration::ZERO).await
    }

    async fn paced(pace: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, recipe) = (folder.path().join("site.sqlite3"), folder.path().join("rows.toml"));
        std::fs::File::create_new(&path).unwrap();
        std::fs::File::create_new(&recipe).unwrap().write_all(RECIPE.as_bytes()).unwrap();
        let url = format!("sqlite://{}", path.display());
        let statements = [
            "CREATE TABLE users (id INTEGER PRIMARY KEY, sub TEXT, username TEXT, email TEXT)",
            "INSERT INTO users VALUES (1, 's1', 'alice', 'alice@alpha.example'), (2, '', 'admin', 'admin@beta.example')",
        ];
        Database::open(&url).await.unwrap().execute_all(&statements.map(str::to_owned), &[]).await.unwrap();
        let text = format!(
            "public_url = 'https://beta.example'\ndata_dir = '{data}'\nrecipe_file = '{recipe}'\n\
             [app]\nurl = 'http://127.0.0.1:1'\nparameters = {{ db = '{url}' }}\n\
             [relying_party]\ncredentials_dir = '{data}'\n[home]\nmethods = ['session']\n",
            data = folder.path().join("agent").display(),
            recipe = recipe.display(),
        );
        let config = Config::try_from(toml::from_str::<RawConfig>(&text).unwrap()).unwrap();
        let application = Application::new(config.app_url.clone(), &config.public_url).unwrap();
        let application = application.with_parameters(config.parameters.clone());
        let directory = Directory::new(&config, &application).unwrap().map(Arc::new);
        let (questions, asked) = queue();
        tokio::spawn(Preview::new(&config, application, directory).paced(pace).run(asked));
        Self { questions, _folder: folder }
    }

    async fn asks(&self, about: About) -> Outcome {
        let (answers, mut answered) = mpsc::channel(1);
        self.questions.take(Question { id: "q".to_owned(), about: Some(about) }, &answers);
        let answer = answered.recv().await.unwrap();
        assert_eq!(answer.id, "q");
        answer.outcome.unwrap()
    }

    async fn makes_of(&self, claims: Value) -> AccountPreview {
        let claims = claims.to_string().into_bytes();
        match self.asks(About::Account(PreviewAccount { claims })).await {
            Outcome::Account(preview) => preview,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_application_is_asked_in_its_own_order() {
    let site = Site::start().await;
    let known = site.makes_of(json!({"sub": "s1", "email": "admin@beta.example"})).await;
    assert_eq!((known.outcome.as_str(), known.matches.len()), ("signs in to alice", 1));
    let taken = site.makes_of(json!({"sub": "s2", "email": "admin@beta.example"})).await;
    assert_eq!(taken.outcome, "is refused: admin has admin@beta.example");
    let found: Vec<_> = taken.matches.iter().map(|found| (found.claim.as_str(), found.account.as_str())).collect();
    assert_eq!(found, [("sub", ""), ("email", "admin")]);
    let new = site.makes_of(json!({"sub": "s2", "email": "b@x.example", "preferred_username": "b@alpha"})).await;
    assert_eq!(new.outcome, "makes the account b@alpha");
    assert_eq!(new.problems, ["if the name is taken there, it puts a number behind b@alpha"]);
    let without = site.makes_of(json!({"sub": "s2", "preferred_username": "{account}"})).await;
    assert_eq!(without.outcome, "refuses the login");
    assert!(without.problems[0].contains("needs email"), "{:?}", without.problems);
    assert!(without.problems[1].ends_with("behind {account}"), "what a user is called is no placeholder");
}

#[tokio::test]
async fn a_home_says_what_it_knows_without_a_login() {
    let site = Site::start().await;
    let asked = |username: &str| About::Identity(PreviewIdentity { username: username.to_owned() });
    match site.asks(asked("alice")).await {
        Outcome::Identity(alice) => {
            assert_eq!((alice.home_user_id.as_str(), alice.email.as_str()), ("1", "alice@alpha.example"));
            assert_eq!(alice.auth_time, None, "nobody has logged in");
        }
        other => panic!("{other:?}"),
    }
    let Outcome::None(nobody) = site.asks(asked("nobody")).await else { panic!("somebody") };
    assert_eq!(nobody.reason(), NoAnswerReason::UnknownUser);
    let rubbish = site.asks(About::Account(PreviewAccount { claims: b"[]".to_vec() })).await;
    assert!(matches!(rubbish, Outcome::None(none) if none.reason() == NoAnswerReason::Failed));
}

#[tokio::test]
async fn nobody_lists_users_by_asking() {
    let site = Site::paced(Duration::from_millis(200)).await;
    let begun = Instant::now();
    for _ in 0..3 {
        site.asks(About::Identity(PreviewIdentity { username: "alice".to_owned() })).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[test]
fn who_is_asked_about_is_told() {
    let claims = br#"{"sub": "s1", "homeward_name": "alice@alpha", "email": "alice@alpha.example"}"#.to_vec();
    assert_eq!(name(Some(&About::Account(PreviewAccount { claims }))), "alice@alpha");
    assert_eq!(name(Some(&About::Identity(PreviewIdentity { username: "bob".to_owned() }))), "bob");
}
