//! How lines with a verdict are laid out: a word in its colour, what it is about, and a text that is broken between words.

use std::io::IsTerminal as _;

use super::print;
use crate::doctor::finding::Verdict;

/// How wide all of it is.
const WIDTH: usize = 110;
/// For the word.
const WORD: usize = 8;
/// For what it is about.
const ABOUT: usize = 25;

/// Prints such lines.
pub(super) struct Layout {
    colours: bool,
}

impl Layout {
    /// Colours are for eyes: a file or a program gets none.
    pub(super) fn for_terminal() -> Self {
        Self { colours: std::io::stdout().is_terminal() }
    }

    /// One line where all is well, and below it what to do where it is not.
    pub(super) fn print(&self, verdict: Verdict, about: &str, sentence: &str, remedy: Option<&str>) {
        let (begin, end) = self.colour(verdict);
        let word = format!("{:<WORD$}", verdict.word());
        let margin = " ".repeat(WORD + ABOUT);
        let mut lines = wrapped(sentence, WIDTH - margin.len()).into_iter();
        let first = lines.next().unwrap_or_default();
        print(format_args!("{begin}{word}{end}{about:<width$} {first}", width = ABOUT - 1));
        for line in lines {
            print(format_args!("{margin}{line}"));
        }
        let remedy = remedy.map(|remedy| wrapped(remedy, WIDTH - margin.len() - 2)).unwrap_or_default();
        for (position, line) in remedy.iter().enumerate() {
            let arrow = if position == 0 { "→" } else { " " };
            print(format_args!("{margin}{arrow} {line}"));
        }
    }

    fn colour(&self, verdict: Verdict) -> (&'static str, &'static str) {
        match (self.colours, verdict) {
            (false, _) => ("", ""),
            (true, Verdict::Ok) => ("\x1b[32m", "\x1b[0m"),
            (true, Verdict::Warning) => ("\x1b[33m", "\x1b[0m"),
            (true, Verdict::Error) => ("\x1b[31m", "\x1b[0m"),
        }
    }
}

/// In lines of at most this many characters, as far as words allow. A command is still one when it is copied: only spaces
/// become ends of lines.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("homeward-agent recipe", 5), ["homeward-agent", "recipe"]);
        assert!(wrapped("", 5).is_empty());
    }
}
