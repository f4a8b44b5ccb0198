//! A page as far as a login needs one: its forms, its heading, and what it says in alarm.
//!
//! It may be anybody's: it is read by the rules of WHATWG, as browsers do, and nothing of it is run or fetched.

use html5gum::emitters::default::{DefaultEmitter, StartTag, Token};
use html5gum::{HtmlString, Tokenizer};

/// Longest text that is kept of a heading, an alarm or a button.
const LONGEST: usize = 300;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// In order.
    pub(super) forms: Vec<Form>,
    /// The first heading.
    pub(super) heading: String,
    /// What has the role of an alert.
    pub(super) alert: String,
}

/// A form.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// Where it goes, as it is written.
    pub(super) action: String,
    /// Whether it is sent in a body.
    pub(super) is_post: bool,
    /// Its inputs.
    pub(super) fields: Vec<Field>,
    /// What it is sent with.
    pub(super) buttons: Vec<Button>,
}

/// An input.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// What is in it.
    pub(super) value: String,
    /// Whether nobody sees it.
    pub(super) is_hidden: bool,
}

/// A button.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Button {
    /// Its name.
    pub(super) name: String,
    /// What it sends.
    pub(super) value: String,
    /// Whether nobody can press it.
    pub(super) is_disabled: bool,
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Heading,
    Alert,
}

impl Page {
    /// Reads it; what cannot be read is not there.
    pub(super) fn read(html: &str) -> Self {
        let mut emitter = DefaultEmitter::default();
        // Scripts and styles are text, whatever is in them.
        emitter.naively_switch_states(true);
        let mut page = Self::default();
        let (mut in_form, mut open) = (false, None);
        for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
            match token {
                Token::StartTag(tag) => {
                    if let Some(place) = page.place_of(&tag).filter(|_| open.is_none()) {
                        open = Some((place, text(&tag.name)));
                    }
                    page.take(&tag, &mut in_form);
                }
                Token::EndTag(tag) => {
                    let name = text(&tag.name);
                    in_form &= name != "form";
                    open = open.filter(|(_, opened)| *opened != name);
                }
                Token::String(written) => page.write(open.as_ref().map(|(place, _)| *place), &text(&written)),
                Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
            }
        }
        page
    }

    /// The form that is sent to this address by POST, and has all of these inputs or buttons.
    pub(super) fn form(&self, names: &[&str], goes_there: impl Fn(&str) -> bool) -> Option<&Form> {
        self.forms
            .iter()
            .find(|form| form.is_post && goes_there(&form.action) && names.iter().all(|name| form.has(name)))
    }

    fn place_of(&self, tag: &StartTag<()>) -> Option<Place> {
        if attribute(tag, "role").as_deref() == Some("alert") && self.alert.is_empty() {
            return Some(Place::Alert);
        }
        (text(&tag.name) == "h1" && self.heading.is_empty()).then_some(Place::Heading)
    }

    fn take(&mut self, tag: &StartTag<()>, in_form: &mut bool) {
        let of = |name| attribute(tag, name).unwrap_or_default();
        let name = text(&tag.name);
        if name == "form" && !*in_form {
            *in_form = true;
            let is_post = of("method").eq_ignore_ascii_case("post");
            self.forms.push(Form { action: of("action"), is_post, ..Form::default() });
        }
        let Some(form) = self.forms.last_mut().filter(|_| *in_form) else { return };
        match name.as_str() {
            "input" => form.fields.push(Field {
                name: of("name"),
                value: of("value"),
                is_hidden: of("type").eq_ignore_ascii_case("hidden"),
            }),
            "button" => form.buttons.push(Button {
                name: of("name"),
                value: of("value"),
                is_disabled: attribute(tag, "disabled").is_some(),
            }),
            _ => {}
        }
    }

    fn write(&mut self, place: Option<Place>, text: &str) {
        let kept = match place {
            Some(Place::Heading) => &mut self.heading,
            Some(Place::Alert) => &mut self.alert,
            None => return,
        };
        let room = LONGEST.saturating_sub(kept.chars().count());
        kept.extend(text.chars().filter(|c| !c.is_control()).take(room));
    }
}

impl Form {
    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name) || self.buttons.iter().any(|button| button.name == name)
    }

    /// The value of the only hidden input of that name.
    pub(super) fn hidden(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|field| field.is_hidden && field.name == name);
        let value = found.next()?;
        found.next().is_none().then_some(value.value.as_str())
    }

    /// All hidden inputs.
    pub(super) fn all_hidden(&self) -> Vec<(&str, &str)> {
        let hidden = self.fields.iter().filter(|field| field.is_hidden);
        hidden.map(|field| (field.name.as_str(), field.value.as_str())).collect()
    }

    /// What can be pressed, or could be.
    pub(super) fn buttons(&self, name: &str) -> impl Iterator<Item = &Button> {
        self.buttons.iter().filter(move |button| button.name == name)
    }
}

impl std::fmt::Debug for Form {
    /// Tickets, tokens and codes are in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        f.debug_struct("Form").field("fields", &names).field("buttons", &self.buttons).finish_non_exhaustive()
    }
}

fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    tag.attributes.get(name.as_bytes()).map(|value| text(value))
}

fn text(bytes: &HtmlString) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_browsers_read_them() {
        let page = Page::read(
            "<!doctype html><h1>Where is\n your account?</h1><script>'<form method=post action=/evil>'</script>\
             <!-- <form method=post action=/comment><input name=x> -->\
             <FORM Method='POST' action=/login/home?a=1&amp;b=2><input type=hidden name=transaction value=\"a&quot;b\">\
             <p role=alert>No <b>way</b>.</p><button name=home value=alpha>Alpha</button>\
             <button name=home value=gamma disabled>Gamma</button></form><input name=outside><h1>Other</h1>",
        );
        assert_eq!((page.heading.as_str(), page.alert.as_str()), ("Where is your account?", "No way."));
        let form = page.form(&["transaction", "home"], |action| action == "/login/home?a=1&b=2").unwrap();
        assert_eq!((page.forms.len(), form.fields.len(), form.hidden("transaction")), (1, 1, Some("a\"b")));
        let buttons: Vec<_> = form.buttons("home").map(|button| (button.value.as_str(), button.is_disabled)).collect();
        assert_eq!(buttons, [("alpha", false), ("gamma", true)]);
        assert!(!format!("{page:?}").contains("a\"b"), "{page:?}");
    }

    #[test]
    fn what_is_there_twice_is_not_there_and_nothing_is_too_long() {
        let page = Page::read(&format!(
            "<h1>{}</h1><form method=post><input type=hidden name=t value=1><input type=hidden name=t value=2>",
            "x".repeat(10_000)
        ));
        assert_eq!((page.heading.len(), page.forms[0].hidden("t")), (LONGEST, None));
        assert!(page.form(&["t"], |action| action == "/").is_none());
        for odd in ["", "<", "<form", "<form method=post", "\u{0}<form/><form><input", "<h1 role=alert>"] {
            Page::read(odd);
        }
    }
}
