//! What a document must come to: what is in it already, without what must go, with what must be there. The same for all
//! formats; how little of the text changes for it is each format's own.

use serde_json::{Map, Value};

use crate::recipe::pointer::Place;
use crate::recipe::way::MergedFile;

/// A recipe's wishes for one file, with the credentials in them.
pub(crate) struct Wishes<'a> {
    pub(crate) recipe: &'a MergedFile,
    /// [`MergedFile::content`] without holes.
    pub(crate) content: Value,
}

/// What it comes to.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) document: Value,
    /// Why something was taken out.
    pub(super) removed: Vec<String>,
}

impl Wishes<'_> {
    /// Merges. The same wishes on the outcome change nothing any more.
    pub(super) fn apply(&self, mut document: Value) -> Outcome {
        if document.is_null() {
            document = Value::Object(Map::new());
        }
        let mut removed = Vec::new();
        for removal in &self.recipe.remove {
            if take_out(&mut document, removal.at.members()) {
                removed.push(format!("{} was taken out: {}", removal.at, removal.why));
            }
        }
        self.merge(&mut document, &self.content, &mut Vec::new());
        Outcome { document, removed }
    }

    fn merge(&self, at: &mut Value, wanted: &Value, place: &mut Vec<String>) {
        match (at, wanted) {
            (Value::Object(members), Value::Object(wanted)) => {
                for (name, wanted) in wanted {
                    place.push(name.clone());
                    self.merge(members.entry(name.clone()).or_insert(Value::Null), wanted, place);
                    place.pop();
                }
            }
            (Value::Array(elements), Value::Array(wanted)) => self.merge_list(elements, wanted, place),
            (Value::String(list), Value::String(wanted)) if self.is_comma_list(place) => unite(list, wanted),
            (at, wanted) => *at = wanted.clone(),
        }
    }

    fn merge_list(&self, elements: &mut Vec<Value>, wanted: &[Value], place: &mut Vec<String>) {
        let key = self.recipe.lists.iter().find(|(list, _)| list.members() == place.as_slice()).map(|(_, key)| key);
        if key.is_none() && wanted.iter().any(|element| element.is_object() || element.is_array()) {
            // Nothing tells its elements apart, so the list is the recipe's alone.
            *elements = wanted.to_vec();
            return;
        }
        for wanted in wanted {
            let named = |element: &Value| {
                key.and_then(|key| Some((element.get(key)?, wanted.get(key)?))).is_some_and(|(a, b)| a == b)
            };
            let same = |element: &Value| element == wanted || named(element);
            match elements.iter().position(same) {
                Some(index) => self.merge(&mut elements[index], wanted, place),
                None => elements.push(wanted.clone()),
            }
        }
    }

    fn is_comma_list(&self, place: &[String]) -> bool {
        self.recipe.comma_lists.iter().any(|list: &Place| list.members() == place)
    }
}

/// What has become empty by it goes too: an empty object in its place may break the application just as well.
fn take_out(document: &mut Value, members: &[String]) -> bool {
    let Some((first, rest)) = members.split_first() else { return false };
    let Some(object) = document.as_object_mut() else { return false };
    if rest.is_empty() {
        return object.remove(first).is_some();
    }
    let Some(member) = object.get_mut(first) else { return false };
    let taken = take_out(member, rest);
    if taken && member.as_object().is_some_and(Map::is_empty) {
        object.remove(first);
    }
    taken
}

fn unite(list: &mut String, wanted: &str) {
    for wanted in wanted.split(',').map(str::trim) {
        if !list.split(',').any(|element| element.trim() == wanted) {
            if !list.trim().is_empty() {
                list.push(',');
            }
            list.push_str(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(rest: &str) -> MergedFile {
        toml::from_str(&format!("file = '${{config_file}}'\nformat = 'json'\ncontent = {{}}\n{rest}")).unwrap()
    }

    #[test]
    fn what_others_wrote_stays() {
        let recipe = file("lists = { '/p/APPS' = 'id' }\ncomma_lists = ['/c']");
        let content = json!({"b": ["openid"], "c": "openid", "p": {"APPS": [{"id": "homeward", "secret": "new"}]}});
        let wishes = Wishes { recipe: &recipe, content };
        let before = json!({
            "b": ["google"], "c": "google, github", "debug": true,
            "p": {"APPS": [{"id": "other", "secret": "x"}, {"id": "homeward", "secret": "old", "hidden": true}], "PKCE": true},
        });
        let after = wishes.apply(before);
        assert_eq!(
            after.document,
            json!({
                "b": ["google", "openid"], "c": "google, github,openid", "debug": true,
                "p": {"APPS": [{"id": "other", "secret": "x"}, {"id": "homeward", "secret": "new", "hidden": true}], "PKCE": true},
            })
        );
        let again = wishes.apply(after.document.clone());
        assert_eq!(again, after, "the second time nothing is left to do");
        assert_eq!(wishes.apply(Value::Null).document, wishes.content);
    }

    #[test]
    fn what_is_known_to_break_is_taken_out_and_told() {
        let recipe = file("remove = [{ at = '/p/server_url', why = 'it answers 500' }, { at = '/q/a', why = 'too' }]");
        let wishes = Wishes { recipe: &recipe, content: json!({"x": 1}) };
        let outcome = wishes.apply(json!({"p": {"server_url": "https://old", "id": 1}, "q": {"a": 1}}));
        assert_eq!(outcome.document, json!({"p": {"id": 1}, "x": 1}));
        assert_eq!(outcome.removed.len(), 2);
        assert!(outcome.removed[0].contains("/p/server_url") && outcome.removed[0].contains("it answers 500"));
        assert!(wishes.apply(outcome.document).removed.is_empty());
    }

    #[test]
    fn a_list_whose_elements_nothing_tells_apart_is_the_recipes() {
        let recipe = file("");
        let wishes = Wishes { recipe: &recipe, content: json!({"l": [{"a": 1}]}) };
        assert_eq!(wishes.apply(json!({"l": [{"b": 2}]})).document, json!({"l": [{"a": 1}]}));
    }
}
