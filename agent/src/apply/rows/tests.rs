//! Rows in an SQLite file that looks like a Django site's. With `DATABASES_UNDER_TEST` (addresses with commas between
//! them) the same in other databases.

#![expect(clippy::disallowed_methods, reason = "the files of others are written as others write them")]

use std::os::unix::fs::PermissionsExt as _;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::*;
use crate::recipe::way::{Target, Way};

const TABLES: [&str; 5] = [
    "DROP TABLE IF EXISTS hw_link",
    "DROP TABLE IF EXISTS hw_app",
    "CREATE TABLE hw_app (id $SERIAL, provider VARCHAR(30) NOT NULL, name VARCHAR(40) NOT NULL, \
     secret VARCHAR(191) NOT NULL, settings $JSON NOT NULL, active $BOOL NOT NULL, weight INTEGER)",
    "CREATE TABLE hw_link (id $SERIAL, app_id INTEGER NOT NULL REFERENCES hw_app (id), site_id INTEGER NOT NULL)",
    "INSERT INTO hw_app (provider, name, secret, settings, active) VALUES ('other', 'x', 'y', '{}', $TRUE)",
];

const WAY: &str = "name = 'database'\ndescription = ''\n[[rows]]\ndatabase = '${database_url}'\ntable = 'hw_app'\n\
    key = { provider = 'homeward' }\nlink = { table = 'hw_link', row = 'app_id', set = { site_id = '${site_id}' } }\n\
    set = { name = 'Homeward', secret = '${client_secret}', settings = { scope = ['openid'], url = '${issuer}' }, \
    active = true, weight = 7 }";

struct World {
    _folder: tempfile::TempDir,
    url: String,
    parameters: Parameters,
    rows: Rows,
}

impl World {
    async fn at(url: Option<&str>, way: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sqlite3");
        let url = match url {
            Some(url) => url.to_owned(),
            None => {
                SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
                format!("sqlite://{}", path.display())
            }
        };
        let file = folder.path().join("url");
        std::fs::write(&file, &url).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let declared = ["database_url_file", "site_id"].map(|name| (name.to_owned(), String::new()));
        let given = [("database_url_file", file.to_str().unwrap()), ("site_id", "1")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let Way { target: Target::Rows(rows), .. } = toml::from_str(way).unwrap() else { panic!("no rows") };
        let world = Self {
            _folder: folder,
            url,
            parameters: Parameters::new(&declared.into(), &given.into()),
            rows: Rows(rows),
        };
        world.execute(&TABLES.map(|statement| world.dialect(statement))).await;
        world
    }

    fn dialect(&self, statement: &str) -> String {
        let [serial, json, boolean, yes] = match self.url.split(':').next().unwrap() {
            "sqlite" => ["INTEGER PRIMARY KEY", "TEXT", "BOOL", "1"],
            "postgres" => ["SERIAL PRIMARY KEY", "JSONB", "BOOLEAN", "true"],
            _ => ["INTEGER AUTO_INCREMENT PRIMARY KEY", "JSON", "BOOL", "1"],
        };
        let statement = statement.replace("$SERIAL", serial).replace("$JSON", json);
        statement.replace("$BOOL", boolean).replace("$TRUE", yes)
    }

    async fn execute(&self, statements: &[String]) {
        Database::open(&self.url).await.unwrap().execute_all(statements, &[]).await.unwrap();
    }

    /// The client's rows with the sites that they are linked to.
    async fn apps(&self) -> Vec<BTreeMap<String, Value>> {
        let query = "SELECT a.name, a.secret, a.settings, a.active, a.weight, l.site_id FROM hw_app a \
                     LEFT JOIN hw_link l ON l.app_id = a.id WHERE a.provider = ?";
        Database::open(&self.url).await.unwrap().rows(query, &["homeward"]).await.unwrap()
    }

    async fn plan(&self, secret: &str) -> Vec<RowEdit> {
        let values = [("client_secret", secret), ("issuer", "https://login.example"), ("site_id", "1")];
        self.rows.plan(&self.parameters, &values).await.unwrap()
    }

    async fn put(&self, edits: &[RowEdit]) -> Result<(), RowsError> {
        self.rows.put(&self.parameters, edits).await
    }

    async fn undo(&self, edits: &[RowEdit]) -> Result<(), RowsError> {
        // By way of the file that it is kept in.
        let edits: Vec<RowEdit> = serde_json::from_str(&serde_json::to_string(edits).unwrap()).unwrap();
        self.rows.undo(&self.parameters, &edits).await
    }
}

/// Made, changed, changed back, deleted: the same everywhere.
async fn a_row_comes_changes_and_goes(world: &World) {
    let hostile = "it's \"1\"; -- ${x} \\ é\n?";
    let made = world.plan(hostile).await;
    world.put(&made).await.unwrap();
    let apps = world.apps().await;
    assert_eq!(apps.len(), 1);
    assert_eq!((&apps[0]["secret"], &apps[0]["site_id"], &apps[0]["weight"]), (&hostile.into(), &1.into(), &7.into()));
    let settings = &apps[0]["settings"];
    let settings = settings.as_str().map_or_else(|| settings.clone(), |text| serde_json::from_str(text).unwrap());
    assert_eq!(settings, serde_json::json!({"scope": ["openid"], "url": "https://login.example"}));
    assert!(world.plan(hostile).await.is_empty(), "the second time nothing is left to do");

    let changed = world.plan("two").await;
    world.put(&changed).await.unwrap();
    assert_eq!(world.apps().await[0]["secret"], "two");
    world.undo(&changed).await.unwrap();
    assert_eq!(world.apps().await, apps);
    world.undo(&made).await.unwrap();
    assert!(world.apps().await.is_empty());
    world.undo(&made).await.unwrap();
}

#[tokio::test]
async fn a_row_comes_changes_and_goes_in_sqlite() {
    a_row_comes_changes_and_goes(&World::at(None, WAY).await).await;
}

#[tokio::test]
async fn a_row_comes_changes_and_goes_in_other_databases() {
    for url in std::env::var("DATABASES_UNDER_TEST").unwrap_or_default().split(',').filter(|url| !url.is_empty()) {
        a_row_comes_changes_and_goes(&World::at(Some(url), WAY).await).await;
    }
}

#[tokio::test]
async fn a_missing_link_alone_is_made() {
    let world = World::at(None, WAY).await;
    world.put(&world.plan("s").await).await.unwrap();
    world.execute(&["DELETE FROM hw_link".to_owned()]).await;
    let edits = world.plan("s").await;
    assert_eq!(edits.len(), 1);
    world.put(&edits).await.unwrap();
    assert_eq!(world.apps().await[0]["site_id"], 1);
}

#[tokio::test]
async fn two_rows_for_one_client_are_refused() {
    let world = World::at(None, WAY).await;
    let twin = "INSERT INTO hw_app (provider, name, secret, settings, active) VALUES ('homeward', 'x', 'y', '{}', 1)";
    world.execute(&[twin.to_owned(), twin.to_owned()]).await;
    let error = world.rows.plan(&world.parameters, &[]).await.err().unwrap();
    assert!(matches!(error, RowsError::Several { count: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_row_that_the_recipe_does_not_make_must_be_there() {
    let world = World::at(None, &WAY.replace("link =", "create = false\nlink =")).await;
    assert!(matches!(world.rows.plan(&world.parameters, &[]).await, Err(RowsError::NoRow(table)) if table == "hw_app"));
}

#[tokio::test]
async fn a_row_that_somebody_changes_meanwhile_is_left_alone() {
    let world = World::at(None, WAY).await;
    world.put(&world.plan("one").await).await.unwrap();
    let edits = world.plan("two").await;
    world.execute(&["UPDATE hw_app SET secret = 'mine' WHERE provider = 'homeward'".to_owned()]).await;
    assert!(matches!(world.put(&edits).await, Err(RowsError::ChangedMeanwhile(_))));
    assert!(matches!(world.undo(&edits).await, Err(RowsError::ChangedMeanwhile(_))));
    assert_eq!(world.apps().await[0]["secret"], "mine");
}
