//! JSON, changed where it must be: the order of members, the spaces and the numbers of others stay as they are written.

use serde::de::{Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Unwritable;

/// How the text of new values looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Over several lines.
    Lines,
    /// In one.
    Line,
}

pub(super) fn read(text: &str) -> Result<Value, Unwritable> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|error| Unwritable::Unparsable { line: error.line() })
}

/// The text with `wanted` in it.
pub(super) fn write(text: &str, wanted: &Value, layout: Layout) -> Result<String, Unwritable> {
    let old = read(text)?;
    let setting = Setting { layout, indent: "" };
    if old.is_null() {
        let end = if layout == Layout::Lines { "\n" } else { "" };
        return Ok(print(wanted, setting) + end);
    }
    edit(text, wanted, setting).ok_or(Unwritable::OtherThanWanted)
}

/// How new text is set.
#[derive(Clone, Copy)]
struct Setting<'a> {
    layout: Layout,
    /// The spaces before the line that it stands in.
    indent: &'a str,
}

/// `None` if a member is there twice: nobody knows which one counts.
fn edit(text: &str, wanted: &Value, setting: Setting<'_>) -> Option<String> {
    let old: Value = serde_json::from_str(text).ok()?;
    match (&old, wanted) {
        (old, wanted) if old == wanted => Some(text.to_owned()),
        (Value::Object(_), Value::Object(wanted)) => {
            let members = members(text)?;
            let new = wanted.iter().filter(|(name, _)| !members.iter().any(|(old, _)| old == *name));
            let new = new.map(|(name, value)| (Some(name.as_str()), value)).collect();
            let old: Vec<_> = members.iter().map(|(name, raw)| (*raw, wanted.get(name))).collect();
            Some(assemble(text, edit_parts(text, &old, setting)?, new, setting))
        }
        (Value::Array(old), Value::Array(wanted)) if wanted.len() >= old.len() => {
            let new = wanted.iter().skip(old.len()).map(|value| (None, value)).collect();
            let old: Vec<_> = elements(text)?.into_iter().zip(wanted.iter().map(Some)).collect();
            Some(assemble(text, edit_parts(text, &old, setting)?, new, setting))
        }
        (_, wanted) => Some(print(wanted, setting)),
    }
}

/// The parts of an object or array that stay, each with what stands before it; a part without a value goes.
fn edit_parts(text: &str, parts: &[(&RawValue, Option<&Value>)], setting: Setting<'_>) -> Option<Vec<String>> {
    let mut begin = text.find(['{', '['])? + 1;
    let mut edited = Vec::new();
    for (raw, wanted) in parts {
        // The raw value is a slice of the text.
        let at = raw.get().as_ptr().addr() - text.as_ptr().addr();
        let end = at + raw.get().len();
        if let Some(wanted) = wanted {
            let indent = text.get(..at)?.rsplit_once('\n').map_or(setting.indent, |(_, line)| spaces(line));
            let before = text.get(begin..at)?;
            edited.push(format!("{before}{}", edit(raw.get(), wanted, Setting { indent, ..setting })?));
        }
        begin = text.get(end..)?.find(',').map_or(text.len(), |comma| end + comma + 1);
    }
    Some(edited)
}

/// The object or array with these parts, and new ones set off as the first one is.
fn assemble(text: &str, mut parts: Vec<String>, new: Vec<(Option<&str>, &Value)>, setting: Setting<'_>) -> String {
    let open = text.find(['{', '[']).unwrap_or_default();
    let close = text.rfind(['}', ']']).unwrap_or(text.len());
    let own_lines = setting.layout == Layout::Lines;
    let before = match parts.first() {
        Some(first) => spaces(first).to_owned(),
        None if own_lines => format!("\n{}  ", setting.indent),
        None => String::new(),
    };
    let inner = text.get(open + 1..close).unwrap_or_default();
    let before_close = match inner.rsplit(|c: char| !c.is_whitespace()).next() {
        _ if parts.is_empty() && own_lines => format!("\n{}", setting.indent),
        rest => rest.unwrap_or_default().to_owned(),
    };
    let indent = before.rsplit_once('\n').map(|(_, indent)| indent);
    let layout = if indent.is_some() { setting.layout } else { Layout::Line };
    let of_new = Setting { layout, indent: indent.unwrap_or(setting.indent) };
    parts.extend(new.into_iter().map(|(name, value)| {
        let name = name.map(|name| format!("{}: ", Value::from(name))).unwrap_or_default();
        format!("{before}{name}{}", print(value, of_new))
    }));
    let (head, tail) = (text.get(..=open).unwrap_or_default(), text.get(close..).unwrap_or_default());
    format!("{head}{}{before_close}{tail}", parts.join(","))
}

fn spaces(text: &str) -> &str {
    &text[..text.len() - text.trim_start().len()]
}

fn print(value: &Value, setting: Setting<'_>) -> String {
    match setting.layout {
        Layout::Lines => format!("{value:#}").replace('\n', &format!("\n{}", setting.indent)),
        Layout::Line => value.to_string(),
    }
}

/// The members in the order of the text; `None` if one is there twice.
fn members(text: &str) -> Option<Vec<(String, &RawValue)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members: Self::Value = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                if members.iter().any(|(other, _)| *other == name) {
                    return Err(A::Error::custom("a member is there twice"));
                }
                members.push((name, value));
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Members).ok()
}

fn elements(text: &str) -> Option<Vec<&RawValue>> {
    struct Elements;
    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = list.next_element()? {
                elements.push(element);
            }
            Ok(elements)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_seq(Elements).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changes_is_written_anew() {
        let text =
            "{\n    \"z\": 1.50,\n    \"p\": {\"b\": 1,   \"a\": [1, 2]},\n\n    \"gone\": 0,\n    \"last\": {}\n}\n";
        let wanted = json!({"z": 1.5, "p": {"b": 1, "a": [1, 2, 3], "new": {"x": 1}}, "last": {"y": 2}, "q": [1]});
        let written = write(text, &wanted, Layout::Lines).unwrap();
        let expected = "{\n    \"z\": 1.50,\n    \"p\": {\"b\": 1,   \"a\": [1, 2,3],\"new\": {\"x\":1}},\n    \"last\": {\n      \"y\": 2\n    },\n    \"q\": [\n      1\n    ]\n}\n";
        assert_eq!(written, expected);
        assert_eq!(read(&written).unwrap(), wanted);
        assert_eq!(write(&written, &wanted, Layout::Lines).unwrap(), written);
    }

    #[test]
    fn an_empty_file_gets_a_document() {
        assert_eq!(write("", &json!({"a": 1}), Layout::Lines).unwrap(), "{\n  \"a\": 1\n}\n");
        assert_eq!(write("{}", &json!({"a": {"b": 1}}), Layout::Line).unwrap(), "{\"a\": {\"b\":1}}");
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        assert!(write("{\"a\": 1, \"a\": 2}", &json!({"a": 3}), Layout::Lines).is_err());
        assert!(matches!(read("{\n\"a\": \n}"), Err(Unwritable::Unparsable { line: 3 })));
    }
}
