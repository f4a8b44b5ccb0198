//! What a browser gets from the portal.

use super::decision::Note;
use crate::recipe::password::CodeKind;

/// What the browser gets.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It goes on.
    Redirect(String),
    /// It leaves for a provider, and is to be known when it comes back.
    Leave(String),
    /// A form for name and password.
    Form(FormPage),
    /// A form for a code.
    Code(CodePage),
    /// What to do, and a way to give up.
    Explanation(ExplanationPage),
}

/// The form.
#[derive(Debug)]
pub(crate) struct FormPage {
    /// Where the user logs in, for the heading.
    pub(crate) relying_party: String,
    /// What the name field begins with.
    pub(crate) username: String,
    /// What went wrong before.
    pub(crate) note: Option<Note>,
    /// The application's own login page, if that is another way.
    pub(crate) application_login: Option<String>,
    /// Against forged forms.
    pub(crate) form_token: String,
}

/// The form for a code.
#[derive(Debug)]
pub(crate) struct CodePage {
    /// Where the user logs in.
    pub(crate) relying_party: String,
    /// As whom.
    pub(crate) username: String,
    /// What codes are made of.
    pub(crate) kind: CodeKind,
    /// What went wrong before.
    pub(crate) note: Option<Note>,
    /// Against forged forms.
    pub(crate) form_token: String,
}

/// Why there is no way on.
#[derive(Debug)]
pub(crate) struct ExplanationPage {
    /// Where the user logs in.
    pub(crate) relying_party: String,
    /// Why.
    pub(crate) note: Note,
    /// The application's own login page.
    pub(crate) application_login: Option<String>,
    /// The application itself, if there is something to be done there first.
    pub(crate) application: Option<String>,
    /// Against forged forms.
    pub(crate) form_token: String,
}
