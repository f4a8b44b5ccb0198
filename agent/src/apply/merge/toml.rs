//! TOML, by toml_edit: comments, order and spaces stay.

use serde_json::Value;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike};

use super::Unwritable;

pub(super) fn read(text: &str) -> Result<Value, Unwritable> {
    let unparsable = |error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        Unwritable::Unparsable { line: text.get(..at).unwrap_or_default().matches('\n').count() + 1 }
    };
    toml::from_str(text).map_err(|error| unparsable(&error))
}

/// The text with `wanted` in it; `old` is what it says now.
pub(super) fn write(text: &str, old: &Value, wanted: &Value) -> Result<String, Unwritable> {
    let mut document: DocumentMut = text.parse().map_err(|_| Unwritable::OtherThanWanted)?;
    edit_table(document.as_table_mut(), old, wanted)?;
    Ok(document.to_string())
}

fn edit_table(table: &mut dyn TableLike, old: &Value, wanted: &Value) -> Result<(), Unwritable> {
    let (Value::Object(old), Value::Object(wanted)) = (old, wanted) else { return Err(Unwritable::OtherThanWanted) };
    for name in old.keys().filter(|name| !wanted.contains_key(*name)) {
        table.remove(name);
    }
    for (name, wanted) in wanted {
        match (table.get_mut(name), old.get(name)) {
            (Some(_), Some(old)) if old == wanted => {}
            (Some(item), Some(old)) => edit(item, old, wanted)?,
            _ => {
                table.insert(name, item(wanted)?);
            }
        }
    }
    Ok(())
}

fn edit(at: &mut Item, old: &Value, wanted: &Value) -> Result<(), Unwritable> {
    if wanted.is_object()
        && let Some(table) = at.as_table_like_mut()
    {
        return edit_table(table, old, wanted);
    }
    let (Value::Array(old), Value::Array(new)) = (old, wanted) else {
        let decor = at.as_value().map(|value| value.decor().clone());
        *at = item(wanted)?;
        if let (Some(value), Some(decor)) = (at.as_value_mut(), decor) {
            *value.decor_mut() = decor;
        }
        return Ok(());
    };
    if let Some(tables) = at.as_array_of_tables_mut().filter(|_| new.len() >= old.len()) {
        for (index, wanted) in new.iter().enumerate() {
            match (tables.get_mut(index), old.get(index)) {
                (Some(table), Some(old)) => edit_table(table, old, wanted)?,
                _ => tables.push(table(wanted)?),
            }
        }
        return Ok(());
    }
    if let Some(array) = at.as_array_mut().filter(|_| new.len() >= old.len()) {
        for (index, wanted) in new.iter().enumerate() {
            match old.get(index) {
                Some(old) if old == wanted => {}
                Some(_) => {
                    array.replace(index, value(wanted)?);
                }
                None => array.push(value(wanted)?),
            }
        }
        return Ok(());
    }
    *at = item(wanted)?;
    Ok(())
}

/// Objects become tables of their own, as people write them.
fn item(wanted: &Value) -> Result<Item, Unwritable> {
    match wanted {
        Value::Object(_) => Ok(Item::Table(table(wanted)?)),
        Value::Array(elements) if !elements.is_empty() && elements.iter().all(Value::is_object) => {
            let mut tables = ArrayOfTables::new();
            for element in elements {
                tables.push(table(element)?);
            }
            Ok(Item::ArrayOfTables(tables))
        }
        wanted => Ok(Item::Value(value(wanted)?)),
    }
}

fn table(wanted: &Value) -> Result<Table, Unwritable> {
    let mut table = Table::new();
    for (name, wanted) in wanted.as_object().into_iter().flatten() {
        table.insert(name, item(wanted)?);
    }
    Ok(table)
}

fn value(wanted: &Value) -> Result<toml_edit::Value, Unwritable> {
    Ok(match wanted {
        // TOML has no null.
        Value::Null => return Err(Unwritable::OtherThanWanted),
        Value::Bool(bool) => (*bool).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.into(),
            (None, Some(float)) => float.into(),
            (None, None) => return Err(Unwritable::OtherThanWanted),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(elements) => {
            let mut array = Array::new();
            for element in elements {
                array.push(value(element)?);
            }
            array.into()
        }
        Value::Object(members) => {
            let mut inline = InlineTable::new();
            for (name, member) in members {
                inline.insert(name, value(member)?);
            }
            inline.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_and_order_stay() {
        let text = "# mine\nz = 1 # one\n\n[p] # two\nb = [1,\n  2]\n\n[[p.apps]]\nid = 'other'\n\n[last]\ngone = 1\nkept = 'x'\n";
        let old = read(text).unwrap();
        let mut wanted = old.clone();
        wanted["z"] = json!(2);
        wanted["p"]["apps"].as_array_mut().unwrap().push(json!({"id": "homeward", "s": {"u": "v"}}));
        wanted["last"].as_object_mut().unwrap().remove("gone");
        let written = write(text, &old, &wanted).unwrap();
        assert_eq!(read(&written).unwrap(), wanted);
        for kept in
            ["# mine\nz = 2 # one\n", "[p] # two\nb = [1,\n  2]\n", "[[p.apps]]\nid = 'other'\n", "kept = 'x'\n"]
        {
            assert!(written.contains(kept), "{kept:?} in {written}");
        }
        assert!(matches!(read("a = 1\nb = = 2"), Err(Unwritable::Unparsable { line: 2 })));
    }
}
