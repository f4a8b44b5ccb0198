//! `NAME=value` lines, as shells, systemd and docker compose read them. They agree on less than they seem to: values are
//! written in single quotes, where nothing has a meaning, and JSON escapes whatever one of them might see one in.

use serde_json::{Map, Value};

use super::Unwritable;
use super::document::Wishes;
use super::json::{self, Layout};

/// A variable in the text.
struct Variable {
    name: String,
    value: String,
    /// Where its value is, quotes included.
    begin: usize,
    end: usize,
    quoted: Quoted,
}

/// How a value was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoted {
    Not,
    Yes,
}

/// The variables as members; one that is to hold an object or a list is read as JSON.
pub(super) fn read(text: &str, wishes: &Wishes<'_>) -> Result<Value, Unwritable> {
    let mut members = Map::new();
    for variable in variables(text)? {
        let structured =
            wishes.content.get(&variable.name).is_some_and(|wanted| wanted.is_object() || wanted.is_array());
        let line = line_at(text, variable.begin);
        let value = match structured && !variable.value.trim().is_empty() {
            true => serde_json::from_str(&variable.value).map_err(|_| Unwritable::Unparsable { line })?,
            false if structured => Value::Null,
            false => variable.value.into(),
        };
        members.insert(variable.name, value);
    }
    Ok(Value::Object(members))
}

/// The wishes in this format's own terms: what is no structure is a text.
pub(super) fn normal(content: Value) -> Value {
    let Value::Object(members) = content else { return content };
    let text = |value: Value| match value {
        Value::Bool(_) | Value::Number(_) => value.to_string().into(),
        value => value,
    };
    Value::Object(members.into_iter().map(|(name, value)| (name, text(value))).collect())
}

/// The text with the members of `wanted`.
pub(super) fn write(text: &str, old: &Value, wanted: &Value) -> Result<String, Unwritable> {
    let Value::Object(wanted) = wanted else { return Err(Unwritable::OtherThanWanted) };
    let variables = variables(text)?;
    let mut written = text.to_owned();
    // From the end, so that places before stay where they are. Of a name that is there twice the last one counts.
    let mut seen = Vec::new();
    for variable in variables.iter().rev() {
        let counts = !seen.contains(&&variable.name);
        seen.push(&variable.name);
        match wanted.get(&variable.name) {
            None => remove_line(&mut written, variable),
            Some(value) if counts && old.get(&variable.name) != Some(value) => {
                let value = print(value, variable)?;
                written.replace_range(variable.begin..variable.end, &value);
            }
            Some(_) => {}
        }
    }
    for (name, value) in wanted.iter().filter(|(name, _)| !seen.contains(name)) {
        if !is_name(name) {
            return Err(Unwritable::Name(name.clone()));
        }
        if !written.is_empty() && !written.ends_with('\n') {
            written.push('\n');
        }
        written.push_str(&format!("{name}={}\n", quote(&plain(value, "")?)));
    }
    Ok(written)
}

fn remove_line(text: &mut String, variable: &Variable) {
    let begin = text[..variable.begin].rfind('\n').map_or(0, |at| at + 1);
    let end = text[variable.end..].find('\n').map_or(text.len(), |at| variable.end + at + 1);
    text.replace_range(begin..end, "");
}

fn print(value: &Value, old: &Variable) -> Result<String, Unwritable> {
    let value = plain(value, &old.value)?;
    // `docker run --env-file` takes quotes for part of the value, so an unquoted one stays so where nobody, and no shell
    // that sources the file, could see more in it than a text.
    Ok(if old.quoted == Quoted::Not && is_plain(&value) { value } else { quoted(&value) })
}

/// The value as it is to be read.
fn plain(value: &Value, old: &str) -> Result<String, Unwritable> {
    match value {
        Value::String(text) if text.contains('\0') => Err(Unwritable::Character),
        Value::String(text) => Ok(text.clone()),
        Value::Object(_) | Value::Array(_) => {
            // What JSON can escape, nobody else can take for something else: quotes, variables, escapes.
            let text = json::write(old, value, Layout::Line)?.replace("\\\\", "\\u005c").replace("\\\"", "\\u0022");
            Ok(text.replace('\'', "\\u0027").replace('$', "\\u0024").replace(['\n', '\r'], " "))
        }
        Value::Null => Ok(String::new()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
    }
}

fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,+=%".contains(c);
    !value.is_empty() && value.chars().all(plain)
}

fn quote(value: &str) -> String {
    if is_plain(value) { value.to_owned() } else { quoted(value) }
}

fn quoted(value: &str) -> String {
    if !value.contains('\'') {
        return format!("'{value}'");
    }
    let escaped: String =
        value.chars().flat_map(|c| "\"\\$`".contains(c).then_some('\\').into_iter().chain([c])).collect();
    format!("\"{escaped}\"")
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(plain)
}

fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// All variables, in the order of the text.
fn variables(text: &str) -> Result<Vec<Variable>, Unwritable> {
    let mut variables = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let line = &text[at..line_end];
        let trimmed = line.trim_start();
        let assignment = trimmed.strip_prefix("export ").unwrap_or(trimmed).trim_start();
        let next = match assignment.split_once('=') {
            _ if trimmed.is_empty() || trimmed.starts_with(['#', ';']) => line_end,
            Some((name, _)) if is_name(name.trim_end()) => {
                let begin = line_end - assignment.len() + name.len() + 1;
                let variable = value_at(text, begin).ok_or(Unwritable::Unparsable { line: line_at(text, begin) })?;
                let end = variable.end;
                variables.push(Variable { name: name.trim_end().to_owned(), ..variable });
                text[end..].find('\n').map_or(text.len(), |rest| end + rest)
            }
            _ => return Err(Unwritable::Unparsable { line: line_at(text, at) }),
        };
        at = next + 1;
    }
    Ok(variables)
}

/// `None` if a quote does not end.
fn value_at(text: &str, begin: usize) -> Option<Variable> {
    let line_end = text[begin..].find('\n').map_or(text.len(), |end| begin + end);
    let begin = begin + text[begin..line_end].len() - text[begin..line_end].trim_start_matches([' ', '\t']).len();
    let rest = &text[begin..];
    let (value, length, quoted) = match rest.chars().next() {
        Some('\'') => {
            let end = rest[1..].find('\'')?;
            (rest[1..=end].to_owned(), end + 2, Quoted::Yes)
        }
        Some('"') => {
            let (value, length) = double_quoted(rest)?;
            (value, length, Quoted::Yes)
        }
        _ => {
            let line = &text[begin..line_end];
            let value = line.split(" #").next().unwrap_or_default().trim_end();
            (value.to_owned(), value.len(), Quoted::Not)
        }
    };
    Some(Variable { name: String::new(), value, begin, end: begin + length, quoted })
}

fn double_quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, at + 1)),
            '\\' => match characters.next()?.1 {
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}
