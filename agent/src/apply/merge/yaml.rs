//! YAML, by its lines: only the blocks of what changes are written anew, so comments stay, and values of others that YAML
//! 1.1 and 1.2 read differently (`yes`, `012`) stay as they are written. What this cannot follow (tabs, flow mappings over
//! several lines, anchors that are referred to) it gives up, and the caller compares the result with what is wanted.

use serde_json::{Map, Value};

use super::Unwritable;

/// A member or an element, with all its lines.
struct Block<'a> {
    /// The member's name; of an element none.
    name: Option<String>,
    lines: Vec<&'a str>,
}

pub(super) fn read(text: &str) -> Result<Value, Unwritable> {
    serde_saphyr::from_str(text).map_err(|error| Unwritable::Unparsable {
        line: error.location().map_or(1, |at| usize::try_from(at.line()).unwrap_or(1)),
    })
}

/// The text with `wanted` in it; `old` is what it says now. Empty members of `old` may be null.
pub(super) fn write(text: &str, old: &Value, wanted: &Value) -> Result<String, Unwritable> {
    if old.is_null() {
        // Nothing, or comments only.
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return Ok(format!("{text}{gap}{}", print_members(wanted.as_object().ok_or(Unwritable::OtherThanWanted)?, 0)));
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    edit(&lines, 0, old, wanted).ok_or(Unwritable::OtherThanWanted)
}

/// The lines of a mapping or a sequence whose members or elements begin at `indent`; `None` if they are not what they
/// seem.
fn edit(lines: &[&str], indent: usize, old: &Value, wanted: &Value) -> Option<String> {
    match (old, wanted) {
        (Value::Object(old), Value::Object(wanted)) => edit_members(lines, indent, old, wanted),
        (Value::Array(old), Value::Array(wanted)) if wanted.len() >= old.len() => {
            let (head, blocks) = blocks(lines, indent, is_element)?;
            if blocks.len() != old.len() {
                return None;
            }
            let mut written = head;
            for ((block, old), wanted) in blocks.iter().zip(old).zip(wanted) {
                let (own, trailing) = split_trailing(&block.lines);
                let kept = own.concat();
                written += &if old == wanted { kept } else { print_element(wanted, indent) };
                written += &trailing.concat();
            }
            let new: String = wanted.iter().skip(old.len()).map(|element| print_element(element, indent)).collect();
            Some(insert_before_gap(written, &new))
        }
        _ => None,
    }
}

fn edit_members(
    lines: &[&str],
    indent: usize,
    old: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> Option<String> {
    let (head, blocks) = blocks(lines, indent, is_member)?;
    let names: Vec<&str> = blocks.iter().filter_map(|block| block.name.as_deref()).collect();
    if names.len() != old.len() || names.iter().any(|name| !old.contains_key(*name)) {
        return None;
    }
    let mut written = head;
    for block in &blocks {
        let name = block.name.as_deref()?;
        let (own, trailing) = split_trailing(&block.lines);
        match (old.get(name)?, wanted.get(name)) {
            (_, None) => {}
            (old, Some(wanted)) if old == wanted => written += &own.concat(),
            (old, Some(wanted)) => {
                let edited = edit_inside(own, indent, old, wanted);
                written += &edited.unwrap_or_else(|| print_member(name, wanted, indent));
            }
        }
        written += &trailing.concat();
    }
    let new: String = wanted
        .iter()
        .filter(|(name, _)| !old.contains_key(*name))
        .map(|(name, value)| print_member(name, value, indent))
        .collect();
    Some(insert_before_gap(written, &new))
}

/// A member's block whose value is on lines of its own, with only what changes in there written anew.
fn edit_inside(lines: &[&str], indent: usize, old: &Value, wanted: &Value) -> Option<String> {
    let (first, rest) = lines.split_first()?;
    let (_, after) = member(first.trim())?;
    let inner = rest.iter().find(|line| !is_gap(line)).map(|line| indent_of(line))?;
    let on_own_lines = after.is_empty() || after.starts_with('#');
    let deeper = inner > indent || (inner == indent && old.is_array());
    if !on_own_lines || !deeper {
        return None;
    }
    Some(format!("{first}{}", edit(rest, inner, old, wanted)?))
}

/// The lines before the first block, and the blocks.
fn blocks<'a>(
    lines: &[&'a str],
    indent: usize,
    begins: impl Fn(&str) -> Option<Option<String>>,
) -> Option<(String, Vec<Block<'a>>)> {
    let (mut head, mut blocks) = (String::new(), Vec::<Block<'a>>::new());
    for line in lines {
        let begun = if !is_gap(line) && indent_of(line) == indent { begins(line.trim()) } else { None };
        match (begun, blocks.last_mut()) {
            (Some(name), _) => blocks.push(Block { name, lines: vec![line] }),
            (None, Some(block)) => block.lines.push(line),
            (None, None) if is_gap(line) || line.trim_end() == "---" => head.push_str(line),
            (None, None) => return None,
        }
    }
    Some((head, blocks))
}

fn is_member(line: &str) -> Option<Option<String>> {
    member(line).map(|(name, _)| Some(name))
}

fn is_element(line: &str) -> Option<Option<String>> {
    (line == "-" || line.starts_with("- ")).then_some(None)
}

/// The name before the colon, and what stands after it.
fn member(line: &str) -> Option<(String, &str)> {
    if line.starts_with(['-', '}', ']', '#', '?', '%', '{', '[']) {
        return None;
    }
    let (name, rest) = match line.chars().next()? {
        quote @ ('"' | '\'') => {
            let end = line[1..].find(quote)? + 1;
            (&line[1..end], line[end + 1..].strip_prefix(':')?)
        }
        _ => line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")))?,
    };
    Some((name.trim_end().to_owned(), rest.trim()))
}

/// Blank lines and comments at the end of a block are about what follows it.
fn split_trailing<'a, 'l>(lines: &'l [&'a str]) -> (&'l [&'a str], &'l [&'a str]) {
    let own = lines.iter().rposition(|line| !is_gap(line)).map_or(lines.len(), |last| last + 1);
    lines.split_at(own)
}

fn insert_before_gap(mut written: String, new: &str) -> String {
    if new.is_empty() {
        return written;
    }
    let kept = written.split_inclusive('\n').collect::<Vec<_>>();
    let own: usize = split_trailing(&kept).0.iter().map(|line| line.len()).sum();
    let gap = written.split_off(own);
    if !written.is_empty() && !written.ends_with('\n') {
        written.push('\n');
    }
    written + new + &gap
}

fn is_gap(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn print_members(members: &Map<String, Value>, indent: usize) -> String {
    members.iter().map(|(name, value)| print_member(name, value, indent)).collect()
}

fn print_member(name: &str, value: &Value, indent: usize) -> String {
    let (spaces, name) = (" ".repeat(indent), print_name(name));
    match value {
        Value::Object(members) if !members.is_empty() => {
            format!("{spaces}{name}:\n{}", print_members(members, indent + 2))
        }
        Value::Array(elements) if !elements.is_empty() => {
            let elements: String = elements.iter().map(|element| print_element(element, indent + 2)).collect();
            format!("{spaces}{name}:\n{elements}")
        }
        plain => format!("{spaces}{name}: {}\n", print_plain(plain)),
    }
}

fn print_element(value: &Value, indent: usize) -> String {
    let spaces = " ".repeat(indent);
    match value {
        Value::Object(members) if !members.is_empty() => {
            // The first member stands behind the dash.
            let members = print_members(members, indent + 2);
            format!("{spaces}- {}", &members[indent + 2..])
        }
        Value::Array(elements) if !elements.is_empty() => format!("{spaces}- {}\n", print_plain(value)),
        plain => format!("{spaces}- {}\n", print_plain(plain)),
    }
}

/// JSON is YAML, in double quotes: neither version takes such a text for anything else. (Lists in lists are in one line.)
fn print_plain(value: &Value) -> String {
    let printable =
        |c: char| !matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    let escape = |c: char| if printable(c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    value.to_string().chars().map(escape).collect()
}

fn print_name(name: &str) -> String {
    const OTHER_THAN_TEXT: [&str; 11] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "inf", "nan"];
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.chars().all(plain) && !OTHER_THAN_TEXT.contains(&name.to_lowercase().as_str()) {
        name.to_owned()
    } else {
        print_plain(&name.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CONFIG: &str = "# InvenTree\ndebug: yes   # on purpose\nport: 012\n\nsocial_backends:\n- a.b\n\n\
        # providers\nsocial_providers:\n  # keep me\n  openid_connect:\n    APPS:\n      - provider_id: other\n\
        \x20       client_id: 0123\n      # ours\n      - provider_id: homeward\n        client_id: old\n    OAUTH: yes\n\
        last: 'x'   # end\n\n# bye\n";

    #[test]
    fn only_the_blocks_that_change_are_written_anew() {
        let old = read(CONFIG).unwrap();
        let mut wanted = old.clone();
        wanted["social_backends"].as_array_mut().unwrap().push("c.d".into());
        wanted["social_providers"]["openid_connect"]["APPS"][1]["client_id"] = "yes".into();
        wanted["social_providers"]["openid_connect"]["PKCE"] = json!(true);
        wanted["email"] = json!({"host": "127.0.0.1", "ports": [25, {"a": []}]});
        let written = write(CONFIG, &old, &wanted).unwrap();
        let expected = "# InvenTree\ndebug: yes   # on purpose\nport: 012\n\nsocial_backends:\n- a.b\n- \"c.d\"\n\n\
            # providers\nsocial_providers:\n  # keep me\n  openid_connect:\n    APPS:\n      - provider_id: other\n\
            \x20       client_id: 0123\n      # ours\n      - client_id: \"yes\"\n        provider_id: \"homeward\"\n    OAUTH: yes\n\
            \x20   PKCE: true\nlast: 'x'   # end\nemail:\n  host: \"127.0.0.1\"\n  ports:\n    - 25\n    - a: []\n\n# bye\n";
        assert_eq!(written, expected);
        assert_eq!(read(&written).unwrap(), wanted);
        assert_eq!(write(&written, &wanted, &wanted).unwrap(), written);
    }

    #[test]
    fn a_member_that_goes_takes_its_block_along() {
        let old = read(CONFIG).unwrap();
        let mut wanted = old.clone();
        wanted.as_object_mut().unwrap().remove("social_providers");
        let written = write(CONFIG, &old, &wanted).unwrap();
        assert_eq!(read(&written).unwrap(), wanted);
        assert!(written.ends_with("# providers\nlast: 'x'   # end\n\n# bye\n"), "{written}");
    }

    #[test]
    fn flow_mappings_are_replaced_whole_and_empty_files_filled() {
        for text in
            ["a: {x: 1, y: [2]}\nb: 2\n", "a: {\n  x: 1, y: [2]\n}\nb: 2", "---\n\"a\":\n  x: 1\n  y:\n  - 2\nb: 2\n"]
        {
            let old = read(text).unwrap();
            let mut wanted = old.clone();
            wanted["a"]["z"] = "n".into();
            let written = write(text, &old, &wanted).unwrap();
            assert_eq!(read(&written).unwrap(), wanted, "{written}");
            assert!(written.contains("b: 2"));
        }
        for text in ["", "# nothing yet", "---\n"] {
            let wanted = json!({"a": {"b": ["c"]}});
            let written = write(text, &read(text).unwrap(), &wanted).unwrap();
            assert_eq!(read(&written).unwrap(), wanted, "{written}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_given_up() {
        let text = "{a: 1, b: 2}\n";
        let old = read(text).unwrap();
        assert!(write(text, &old, &json!({"a": 1, "b": 3})).is_err());
        assert!(read("a: 1\na: 2\n").is_err());
        assert!(matches!(read("a: 1\nb: [\n"), Err(Unwritable::Unparsable { .. })));
    }
}
