//! Just enough of a Rust reader to hold the rules of `tidy.rs`: it blanks comments, literals and test modules, cuts the
//! rest into tokens, and finds the paths, items and functions in them. No syntax tree, so it builds in a second.

use std::path::{Path, PathBuf};

/// A Rust file below the root of the repository.
pub(crate) struct Source {
    /// Relative to the root of the repository.
    pub(crate) path: PathBuf,
    tokens: Vec<Token>,
}

/// A path as written, groups expanded: `use a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

/// Something that a file declares: `mod`, `struct`, `enum`, `trait` or `type`, and its name.
#[derive(Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) line: usize,
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// A function with a body.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) lines: usize,
}

/// A text between quotes.
#[derive(Debug, PartialEq)]
pub(crate) struct Literal {
    pub(crate) line: usize,
    /// What stands before it in code, back to the last semicolon or brace, without spaces and other literals.
    pub(crate) before: String,
    /// As the compiler reads it.
    pub(crate) text: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

impl Source {
    /// Reads what a file says outside its `#[cfg(test)]` modules.
    pub(crate) fn parse(path: impl AsRef<Path>, text: &str) -> Self {
        let tokens = without_test_modules(tokens(&blanked(text)));
        Self { path: path.as_ref().to_owned(), tokens }
    }

    /// Every path of two or more segments; `self` and `super` are resolved into `crate`.
    pub(crate) fn paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut inline: Vec<(String, usize)> = Vec::new();
        let mut depth = 0;
        let mut at = 0;
        while at < self.tokens.len() {
            match self.text(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.retain(|(_, opened_at)| *opened_at < depth + 1);
                }
                "mod" if self.text(at + 2) == "{" => inline.push((self.text(at + 1).to_owned(), depth + 1)),
                _ => {}
            }
            let starts_path = self.tokens[at].is_word() && self.text(at + 1) == "::";
            if !starts_path {
                at += 1;
                continue;
            }
            let mut written = Vec::new();
            at = self.path_tree(at, &[], &mut written);
            let module: Vec<String> =
                module_of(&self.path).into_iter().chain(inline.iter().map(|(name, _)| name.clone())).collect();
            found.extend(
                written.into_iter().map(|named| Named { segments: resolved(&module, named.segments), ..named }),
            );
        }
        found
    }

    /// Every declared module and type.
    pub(crate) fn items(&self) -> Vec<Item> {
        let kinds = ["mod", "struct", "enum", "trait", "type"];
        let declared =
            self.tokens.windows(2).filter(|pair| kinds.contains(&pair[0].text.as_str()) && pair[1].is_word());
        declared
            .map(|pair| Item { line: pair[0].line, kind: pair[0].text.clone(), name: pair[1].text.clone() })
            .collect()
    }

    /// Every function with a body, and how long it is.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let starts = (0..self.tokens.len()).filter(|&at| self.text(at) == "fn" && !self.text(at + 1).starts_with('('));
        starts
            .filter_map(|at| {
                let line = self.tokens[at].line;
                // A `;` outside of brackets first: a declaration without body, as in a trait.
                let open = (at..self.tokens.len()).find(|&i| self.text(i) == "{" || self.ends_declaration(at, i))?;
                let close = (self.text(open) == "{").then(|| closing(&self.tokens, open)).flatten()?;
                let lines = self.tokens[close].line - line + 1;
                Some(Function { line, name: self.text(at + 1).to_owned(), lines })
            })
            .collect()
    }

    fn ends_declaration(&self, start: usize, at: usize) -> bool {
        let brackets = |open: &str| self.tokens[start..at].iter().filter(|token| token.text == open).count();
        self.text(at) == ";" && brackets("[") == brackets("]")
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// Reads the path tree that starts at `at` and returns where it ends.
    fn path_tree(&self, mut at: usize, prefix: &[String], found: &mut Vec<Named>) -> usize {
        let line = self.tokens[at].line;
        let mut segments = prefix.to_vec();
        loop {
            if self.text(at) == "{" {
                at += 1;
                while !matches!(self.text(at), "}" | "") {
                    at = if self.text(at) == "," { at + 1 } else { self.path_tree(at, &segments, found) };
                }
                return at + 1;
            }
            if self.tokens.get(at).is_some_and(|token| token.is_word() || token.text == "*") {
                segments.push(self.text(at).to_owned());
                at += 1;
            }
            // `as name` belongs to the tree; `::<` starts generic arguments, which are paths of their own.
            if self.text(at) == "as" && !prefix.is_empty() {
                at += 2;
            }
            let next = self.text(at + 1);
            if self.text(at) != "::" || next == "<" || next.is_empty() {
                found.push(Named { line, segments });
                let stuck = at < self.tokens.len() && !matches!(self.text(at), "," | "}") && !prefix.is_empty();
                return if stuck || self.text(at) == "::" { at + 1 } else { at };
            }
            at += 1;
        }
    }
}

/// The module that a file is: `broker/src/login/begin.rs` is `login::begin`.
pub(crate) fn module_of(path: &Path) -> Vec<String> {
    let text = path.with_extension("").to_string_lossy().into_owned();
    let below_src = text.split_once("src/").map_or(text.as_str(), |(_, rest)| rest);
    let mut module: Vec<String> = below_src.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

fn resolved(module: &[String], segments: Vec<String>) -> Vec<String> {
    let ups = segments.iter().take_while(|segment| *segment == "super").count();
    let skip = if segments[0] == "self" { 1 } else { ups };
    if skip == 0 {
        return segments;
    }
    let base = &module[..module.len().saturating_sub(ups)];
    let absolute = ["crate".to_owned()].into_iter().chain(base.iter().cloned());
    absolute.chain(segments.into_iter().skip(skip)).collect()
}

/// The text with comments and the insides of literals replaced by spaces; lines stay where they are.
fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at).unwrap_or(at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Every text between quotes outside of the `#[cfg(test)]` module at a file's foot.
pub(crate) fn literals(text: &str) -> Vec<Literal> {
    let shipped = text.split_once("#[cfg(test)]").map_or(text, |(shipped, _)| shipped);
    let chars: Vec<char> = shipped.chars().collect();
    let (mut at, mut line, mut before) = (0, 1, String::new());
    let mut found = Vec::new();
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at).unwrap_or(at);
        if chars[at] == '"' && end > at + 1 {
            let text = unescaped(&chars[at + 1..end - 1].iter().collect::<String>());
            found.push(Literal { line, before: before.clone(), text });
        }
        let passed = &chars[at..end.max(at + 1)];
        line += passed.iter().filter(|&&c| c == '\n').count();
        match chars[at] {
            ';' | '{' | '}' => before.clear(),
            c if end == at && !c.is_whitespace() => before.push(c),
            _ => {}
        }
        at = end.max(at + 1);
    }
    found
}

/// Lines that go on are one.
fn unescaped(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let joined = lines.fold(first, |text, line| text + line.trim_start());
    joined.replace("\\\"", "\"").replace("\\n", " ").replace("\\\\", "\\")
}

fn literal_or_comment_end(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let after_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => Some(at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => Some(at + block_comment_length(rest)),
        ['"', ..] => Some(at + quoted_length(rest, '"')),
        ['r', '"' | '#', ..] if !after_word => raw_string_length(&rest[1..]).map(|length| at + 1 + length),
        ['b', 'r', '"' | '#', ..] if !after_word => raw_string_length(&rest[2..]).map(|length| at + 2 + length),
        // 'a' is a character, 'a is a lifetime.
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => Some(at + quoted_length(rest, '\'')),
        _ => None,
    }
}

fn block_comment_length(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_length(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string_length(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().take_while(|&&c| c == '#').count();
    if rest.get(hashes) != Some(&'"') {
        // r#type is a raw identifier.
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let inside = &rest[hashes + 1..];
    let length = inside.windows(close.len()).position(|window| window == close).unwrap_or(inside.len());
    Some((hashes + 1 + length + close.len()).min(rest.len()))
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                length => length,
            };
            found.push(Token { line: index + 1, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    found
}

fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn without_test_modules(mut tokens: Vec<Token>) -> Vec<Token> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let is_marker = |window: &[Token]| window.iter().map(|token| token.text.as_str()).eq(marker);
    while let Some(start) = tokens.windows(marker.len()).position(is_marker) {
        let body = (start..tokens.len()).find(|&at| matches!(tokens[at].text.as_str(), "{" | ";"));
        let end = body.and_then(|at| if tokens[at].text == ";" { Some(at) } else { closing(&tokens, at) });
        tokens.drain(start..=end.unwrap_or(tokens.len() - 1));
    }
    tokens
}
