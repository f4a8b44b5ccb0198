//! Text in pictures: no browser breaks or cuts it, so that is done here, by an estimate of how wide it is that is rather too
//! large.

use crate::clock::Timestamp;

/// What stands for what was cut off.
const CUT: &str = "…";

/// The text without what XML 1.0 forbids (2.2), and without what turns the direction of the text around it.
pub(super) fn clean(text: &str) -> String {
    let fit = |letter: char| match letter {
        '\t' | '\n' | '\r' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
        letter => letter,
    };
    text.chars().map(fit).collect()
}

/// How text is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letters {
    /// Pixels.
    size: i32,
    bold: bool,
}

impl Letters {
    /// Names.
    pub(super) const NAME: Self = Self { size: 14, bold: true };
    /// What wants to be seen.
    pub(super) const STRONG: Self = Self { size: 12, bold: true };
    /// Everything else.
    pub(super) const PLAIN: Self = Self { size: 12, bold: false };
    #[cfg(test)]
    pub(super) const HEAD: Self = Self { size: 15, bold: true };

    /// As much of the text as is no wider than so many pixels.
    pub(super) fn fit(self, text: &str, width: i32) -> String {
        let text = clean(text);
        if self.width_of(&text) <= width {
            return text;
        }
        let mut fitting = String::new();
        for letter in text.chars() {
            fitting.push(letter);
            if self.width_of(&fitting) + self.width_of(CUT) > width {
                fitting.pop();
                break;
            }
        }
        format!("{}{CUT}", fitting.trim_end())
    }

    /// How wide a text is at the most, in pixels.
    pub(super) fn width_of(self, text: &str) -> i32 {
        let hundredths: i32 = text.chars().map(hundredths_of_em).sum();
        let plain = hundredths * self.size / 100;
        if self.bold { plain * 112 / 100 + 1 } else { plain + 1 }
    }
}

/// By the widest of the fonts that systems have for their own surface.
fn hundredths_of_em(letter: char) -> i32 {
    match letter {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 37,
        'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '-' | '/' | '"' => 46,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 105,
        'A'..='Z' | '&' | '#' | '+' | '=' | '<' | '>' | '~' => 82,
        ' '..='~' => 65,
        '\u{80}'..='\u{24f}' => 90,
        '\u{2e80}'..='\u{ffff}' => 105,
        _ => 150,
    }
}

/// A moment as people read it: `2026-11-22 08:00`, in UTC.
pub(super) fn moment(at: Timestamp) -> String {
    at.to_string().chars().take(16).map(|letter| if letter == 'T' { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_its_room_and_says_so() {
        assert_eq!(Letters::NAME.fit("beta", 100), "beta");
        assert_eq!(Letters::PLAIN.fit("工厂工厂工厂工厂工厂", 60), "工厂工…");
        for text in ["W".repeat(90), "a-very-long-name-of-an-instance".into()] {
            let cut = Letters::STRONG.fit(&text, 100);
            let begin = cut.strip_suffix('…').unwrap();
            assert!(text.starts_with(begin) && begin.len() > 5 && Letters::STRONG.width_of(&cut) <= 100, "{cut}");
        }
    }

    #[test]
    fn nothing_that_xml_forbids_and_no_turned_direction_is_left() {
        assert_eq!(clean("a\u{0}b\nc\u{202e}d"), "a\u{fffd}b c\u{fffd}d");
    }

    #[test]
    fn moments_are_read_in_minutes() {
        assert_eq!(moment(Timestamp::from_secs(1_763_798_460)), "2025-11-22 08:01");
    }
}
