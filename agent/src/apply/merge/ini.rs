//! Sections of `key = value` lines. Keys are compared without regard to case, as Python's configparser does.

use serde_json::{Map, Value};

use super::Unwritable;

/// A line, and what follows it as a continuation.
enum Line<'a> {
    Section(&'a str),
    /// Key, value with continuations, and how many lines it has.
    Entry(&'a str, String, usize),
    Other,
}

pub(super) fn read(text: &str) -> Result<Value, Unwritable> {
    let mut document = Map::new();
    let mut section = String::new();
    for (_, line) in parse(text)? {
        match line {
            Line::Section(name) => {
                section = name.to_owned();
                document.entry(name).or_insert_with(|| Value::Object(Map::new()));
            }
            Line::Entry(key, value, _) => {
                let members = document.entry(section.clone()).or_insert_with(|| Value::Object(Map::new()));
                members[key.to_lowercase()] = value.into();
            }
            Line::Other => {}
        }
    }
    Ok(Value::Object(document))
}

/// The wishes in this format's own terms: keys in lower case, values as texts.
pub(super) fn normal(content: &Value) -> Result<Value, Unwritable> {
    let mut normal = Map::new();
    for (section, keys) in content.as_object().into_iter().flatten() {
        let mut members = Map::new();
        for (key, value) in keys.as_object().into_iter().flatten() {
            members.insert(key.to_lowercase(), text(value)?.into());
        }
        normal.insert(section.clone(), Value::Object(members));
    }
    Ok(Value::Object(normal))
}

/// The text with the sections of `wanted`.
pub(super) fn write(source: &str, wanted: &Value) -> Result<String, Unwritable> {
    let lines: Vec<&str> = source.split_inclusive('\n').collect();
    let parsed = parse(source)?;
    let mut pending = wanted.as_object().cloned().unwrap_or_default();
    let (mut written, mut section) = (String::new(), String::new());
    // Before the blank lines that set the next section off.
    let finish = |written: &mut String, keys: Option<Value>| {
        let kept = written.trim_end().len();
        let gap = written.split_off(kept);
        for (key, value) in keys.iter().filter_map(Value::as_object).flatten() {
            let end = if written.is_empty() || written.ends_with('\n') { "" } else { "\n" };
            written.push_str(&format!("{end}{key} = {}", value.as_str().unwrap_or_default()));
        }
        let gap = if gap.is_empty() { "\n" } else { &gap };
        written.push_str(if written.is_empty() { "" } else { gap });
    };
    for (at, line) in parsed {
        match line {
            Line::Section(name) => {
                if !section.is_empty() {
                    finish(&mut written, pending.remove(&section));
                }
                section = name.to_owned();
                written.push_str(lines[at]);
            }
            Line::Entry(key, value, count) => {
                let keys = pending.get_mut(&section).and_then(Value::as_object_mut);
                match keys.and_then(|keys| keys.remove(&key.to_lowercase())) {
                    Some(new) if new.as_str() == Some(&value) => written.push_str(&lines[at..at + count].concat()),
                    Some(new) => written.push_str(&replaced(lines[at], new.as_str().unwrap_or_default())),
                    None => {}
                }
            }
            Line::Other => written.push_str(lines[at]),
        }
    }
    if !section.is_empty() {
        finish(&mut written, pending.remove(&section));
    }
    for (section, keys) in pending {
        let gap = if written.is_empty() { "" } else { "\n" };
        written.push_str(&format!("{gap}[{section}]\n"));
        finish(&mut written, Some(keys));
    }
    Ok(written)
}

/// The line with another value; what stands before it stays.
fn replaced(line: &str, value: &str) -> String {
    let at = line.find(['=', ':']).map_or(line.len(), |at| at + 1);
    let spaces: String = line[at..].chars().take_while(|c| *c == ' ' || *c == '\t').collect();
    format!("{}{spaces}{value}\n", &line[..at])
}

fn text(value: &Value) -> Result<String, Unwritable> {
    let text = match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    // A line break would end the value, and spaces around it are nobody's.
    if text.chars().any(char::is_control) || text.trim() != text { Err(Unwritable::Character) } else { Ok(text) }
}

fn parse(text: &str) -> Result<Vec<(usize, Line<'_>)>, Unwritable> {
    let mut parsed: Vec<(usize, Line<'_>)> = Vec::new();
    let mut in_section = false;
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let comment = trimmed.is_empty() || trimmed.starts_with(['#', ';']);
        let continues = !comment && line.starts_with([' ', '\t']);
        let section = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let line = match (section, trimmed.split_once(['=', ':'])) {
            _ if comment => Line::Other,
            _ if continues && let Some((first, Line::Entry(_, value, count))) = parsed.last_mut() => {
                // Comments between would be lost with the value.
                if *first + *count != at {
                    return Err(Unwritable::Unparsable { line: at + 1 });
                }
                value.push('\n');
                value.push_str(trimmed);
                *count += 1;
                continue;
            }
            (Some(section), _) => {
                in_section = true;
                Line::Section(section)
            }
            (None, Some((key, value))) if in_section => Line::Entry(key.trim(), value.trim().to_owned(), 1),
            (None, _) => return Err(Unwritable::Unparsable { line: at + 1 }),
        };
        parsed.push((at, line));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_lines_that_change_do() {
        let text = "; mine\n[web]\nPort = 80 ; no comment\nhosts = a\n  b\n\n# about logins\n[auth]\nSecret=old\n";
        let document = read(text).unwrap();
        assert_eq!(document["web"], json!({"port": "80 ; no comment", "hosts": "a\nb"}));
        let mut wanted = document;
        wanted["auth"]["secret"] = "n#w=%$\"'".into();
        wanted["web"]["name"] = "x".into();
        wanted["new"] = json!({"k": "v"});
        let written = write(text, &wanted).unwrap();
        let expected = "; mine\n[web]\nPort = 80 ; no comment\nhosts = a\n  b\n\n# about logins\nname = x\n[auth]\nSecret=n#w=%$\"'\n\n[new]\nk = v\n";
        assert_eq!(written, expected);
        assert_eq!(read(&written).unwrap(), wanted);
        assert_eq!(write(&written, &wanted).unwrap(), written);
    }

    #[test]
    fn a_value_that_would_end_early_is_refused() {
        for bad in ["a\nb", " a", "a ", "a\tb"] {
            assert!(normal(&json!({"s": {"k": bad}})).is_err(), "{bad:?}");
        }
        assert_eq!(normal(&json!({"s": {"K": 1}})).unwrap(), json!({"s": {"k": "1"}}));
    }
}
