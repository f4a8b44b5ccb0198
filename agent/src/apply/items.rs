//! Settings behind an administrative HTTP API that takes whole items: all are read, those that must change are sent back
//! with everything else that they had. An item that is not there is a mistake, and never made up: a partial one would
//! overwrite its other members.

use serde_json::Value;
use thiserror::Error;

use crate::application::{Application, ApplicationError};
use crate::conversation::Conversation;
use crate::recipe::way::Items;

/// Items as they are, and as they will be.
pub(crate) struct ItemsEdit {
    pub(super) old: Vec<Value>,
    new: Vec<Value>,
    names: Vec<String>,
}

/// Why items are not written. No value of an item is in it.
#[derive(Debug, Error)]
pub(crate) enum ItemsError {
    /// No answer.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// It said no.
    #[error(
        "the application answers {path} with status {status} and does not accept the request; check the token in [app.parameters] and the application's version"
    )]
    NotAccepted {
        /// Where it was asked.
        path: String,
        /// Its answer.
        status: u16,
    },
    /// Another version of the application.
    #[error("the application has no setting {0:?}; check its version")]
    NoItem(String),
    /// It said yes and did not do it.
    #[error("the application accepted the settings and still shows others; check its log")]
    NotTaken,
}

impl Items {
    /// The items that must change, and how.
    pub(crate) async fn plan(
        &self,
        application: &Application,
        values: &[(&str, &str)],
    ) -> Result<ItemsEdit, ItemsError> {
        let mut conversation = Conversation::begin(application, None);
        let answer = conversation.take(&self.read, &[]).await?;
        if !self.accepted.holds(answer.status, &answer.body) {
            return Err(ItemsError::NotAccepted { path: self.read.path.to_string(), status: answer.status });
        }
        let found = self.pointer.select(&answer.body);
        let items: Vec<&Value> = found.into_iter().flat_map(|found| found.as_array().into_iter().flatten()).collect();
        let mut edit = ItemsEdit { old: Vec::new(), new: Vec::new(), names: Vec::new() };
        for (name, content) in &self.set {
            let item = items.iter().find(|item| item.get(&self.key).and_then(Value::as_str) == Some(name));
            let item = item.filter(|item| item.get(&self.value).is_some());
            let item = *item.ok_or_else(|| ItemsError::NoItem(name.clone()))?;
            let wanted = content.render(values);
            if item.get(&self.value) != Some(&wanted) {
                let mut new = item.clone();
                new[&self.value] = wanted;
                edit.old.push(item.clone());
                edit.new.push(new);
                edit.names.push(name.clone());
            }
        }
        Ok(edit)
    }

    /// Sends the changed items.
    pub(crate) async fn put(&self, application: &Application, edit: &ItemsEdit) -> Result<(), ItemsError> {
        self.send(application, &edit.new).await
    }

    /// Sends items as they were.
    pub(crate) async fn undo(&self, application: &Application, old: &[Value]) -> Result<(), ItemsError> {
        self.send(application, old).await
    }

    async fn send(&self, application: &Application, items: &[Value]) -> Result<(), ItemsError> {
        let mut conversation = Conversation::begin(application, None);
        let answer = conversation.deliver(&self.write, Value::Array(items.to_vec())).await?;
        if self.accepted.holds(answer.status, &answer.body) {
            return Ok(());
        }
        Err(ItemsError::NotAccepted { path: self.write.path.to_string(), status: answer.status })
    }
}

impl ItemsEdit {
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty()
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        format!("set {} by the application's API", self.names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::extract::State;
    use axum::http::HeaderMap;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::PublicUrl;
    use crate::parameters::Parameters;
    use crate::recipe::way::{Target, Way};

    const WAY: &str = "name = 'admin_api'\ndescription = ''\n[items]\npointer = '/data'\nkey = 'key'\nvalue = 'value'\n\
        read = { method = 'GET', path = '/list', query = { group = '7' }, headers = { Authorization = '${token}' } }\n\
        write = { method = 'POST', path = '/save', headers = { Authorization = '${token}' } }\n\
        accepted = { status = 200, pointer = '/code', equals = 200 }\n\
        set = { sso_login_enabled = 'true', sso_client_secret = '${client_secret}' }";

    type Settings = Arc<Mutex<Value>>;

    async fn list(State(settings): State<Settings>, headers: HeaderMap) -> Json<Value> {
        if headers["authorization"] != "admin" {
            return Json(json!({"code": 401}));
        }
        Json(json!({"code": 200, "data": *settings.lock().unwrap()}))
    }

    async fn save(State(settings): State<Settings>, headers: HeaderMap, Json(items): Json<Value>) -> Json<Value> {
        assert_eq!(headers["authorization"], "admin");
        for item in items.as_array().unwrap() {
            let mut settings = settings.lock().unwrap();
            let mut there = settings.as_array_mut().unwrap().iter_mut();
            *there.find(|there| there["key"] == item["key"]).unwrap() = item.clone();
        }
        Json(json!({"code": 200}))
    }

    async fn start(token: &str) -> (Application, Settings, Items) {
        let item =
            |key: &str, value: &str| json!({"key": key, "value": value, "type": "string", "group": 7, "flag": 1});
        let settings = json!([item("sso_login_enabled", "false"), item("sso_client_secret", "${old}"), item("x", "y")]);
        let settings = Arc::new(Mutex::new(settings));
        let routes = Router::new().route("/list", get(list)).route("/save", post(save)).with_state(settings.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let public_url = PublicUrl::try_from("https://beta.example".parse::<url::Url>().unwrap()).unwrap();
        let given = [("token".to_owned(), token.to_owned())].into();
        let application = Application::new(url, &public_url).unwrap();
        let application = application.with_parameters(Parameters::new(&given, &given));
        let Way { target: Target::Items(items), .. } = toml::from_str(WAY).unwrap() else { panic!("no items") };
        (application, settings, *items)
    }

    #[tokio::test]
    async fn items_are_sent_back_whole_and_can_be_as_they_were() {
        let (application, settings, items) = start("admin").await;
        let before = settings.lock().unwrap().clone();
        let values = [("client_secret", "s3cret")];
        let edit = items.plan(&application, &values).await.unwrap();
        assert_eq!(edit.describe(), "set sso_client_secret, sso_login_enabled by the application's API");
        items.put(&application, &edit).await.unwrap();
        let mut expected = before.clone();
        expected[0]["value"] = "true".into();
        expected[1]["value"] = "s3cret".into();
        assert_eq!(*settings.lock().unwrap(), expected);
        assert!(items.plan(&application, &values).await.unwrap().is_empty());
        // A value of somebody's that looks like a placeholder is none.
        items.undo(&application, &edit.old).await.unwrap();
        assert_eq!(*settings.lock().unwrap(), before);
    }

    #[tokio::test]
    async fn a_setting_that_is_not_there_is_never_made_up() {
        let (application, settings, items) = start("admin").await;
        settings.lock().unwrap().as_array_mut().unwrap().remove(0);
        let error = items.plan(&application, &[]).await.err().unwrap();
        assert!(matches!(error, ItemsError::NoItem(name) if name == "sso_login_enabled"));
    }

    #[tokio::test]
    async fn a_wrong_token_is_told_and_not_quoted() {
        let (application, _, items) = start("canary").await;
        let error = items.plan(&application, &[]).await.err().unwrap();
        assert!(matches!(error, ItemsError::NotAccepted { .. }) && !format!("{error} {error:?}").contains("canary"));
    }
}
