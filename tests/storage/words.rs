//! What tests of a store say again and again.

use std::sync::Arc;

use homeward_broker::storage::{Expect, Key, Page, Store, Version, Write};

pub(crate) fn write(key: &str, expect: Expect, value: Option<&str>) -> Write {
    Write { key: named(key), expect, value: value.map(|value| value.as_bytes().to_vec()) }
}

pub(crate) async fn put(store: &Arc<dyn Store>, key: &str, value: &str) {
    store.commit(vec![write(key, Expect::Any, Some(value))]).await.unwrap();
}

pub(crate) async fn get(store: &Arc<dyn Store>, key: &str) -> Option<String> {
    store.get(&named(key)).await.unwrap().map(|found| String::from_utf8(found.value).unwrap())
}

pub(crate) async fn version(store: &Arc<dyn Store>, key: &str) -> Version {
    store.get(&named(key)).await.unwrap().unwrap().version
}

pub(crate) async fn list(store: &Arc<dyn Store>, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let page = store.list(Page { prefix: prefix.into(), after: after.map(named), limit }).await.unwrap();
    page.into_iter().map(|(key, _)| key.as_str().to_owned()).collect()
}

pub(crate) fn named(key: &str) -> Key {
    let (table, id) = key.split_once('/').unwrap();
    Key::new(table, id)
}
