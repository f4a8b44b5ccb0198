//! Home method `password`: the application judges name and password, and a code after them, in a conversation of its own:
//! cookies and tokens that live as long as the sign-in, and a session at the application that is ended with it.
//!
//! However a sign-in ends (judged, given up, forgotten for its age, its browser gone in the middle), the application is
//! told: a session that nobody holds the cookie of is still a session.

use std::net::IpAddr;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;

use super::Verdict;
use crate::application::{Application, ApplicationError};
use crate::clock;
use crate::config::home::HomeMethod;
use crate::conversation::Conversation;
use crate::home::decision::Note;
use crate::home::session::{self, After, Recognised};
use crate::home::{PortalError, TypedCredentials, vouching};
use crate::recipe::home::Home;
use crate::recipe::password::{CodeKind, PasswordOutcome};
use crate::recipe::step::Step;

/// Codes that a user may try in one sign-in. An application that counts them locks the account after a few more.
const MOST_CODES: u8 = 3;

/// A sign-in at the application.
pub(crate) struct SignIn {
    /// `None` once the application's session is ended, or about to be.
    conversation: Option<Conversation>,
    recipe: Arc<Home>,
    typed: TypedCredentials,
    codes: u8,
}

impl SignIn {
    /// Tries name and password.
    pub(in crate::home) async fn begin(
        (application, recipe): (&Application, Arc<Home>),
        typed: TypedCredentials,
        source: IpAddr,
    ) -> Result<Verdict, PortalError> {
        let conversation = Some(Conversation::begin(application, Some(source)));
        let mut sign_in = Self { conversation, recipe: recipe.clone(), typed, codes: 0 };
        let steps = recipe.password.as_ref().map(|password| password.steps.as_slice()).unwrap_or_default();
        let outcome = sign_in.take(steps, None).await;
        sign_in.judge(outcome).await
    }

    /// Tries a code, after [`Verdict::CodeNeeded`].
    pub(crate) async fn give_code(mut self: Box<Self>, code: &SecretString) -> Result<Verdict, PortalError> {
        self.codes += 1;
        let recipe = self.recipe.clone();
        let second_factor = recipe.password.as_ref().and_then(|password| password.second_factor.as_ref());
        let steps = second_factor.map(|second_factor| second_factor.steps.as_slice()).unwrap_or_default();
        let outcome = self.take(steps, Some(code)).await;
        self.judge(outcome).await
    }

    /// Whose it is, as far as is known: the name that was typed.
    pub(crate) fn username(&self) -> &str {
        &self.typed.username
    }

    /// Whether a code was wrong before.
    pub(crate) fn was_wrong(&self) -> bool {
        self.codes > 0
    }

    /// What codes are made of.
    pub(crate) fn code_kind(&self) -> CodeKind {
        let second_factor = self.recipe.password.as_ref().and_then(|password| password.second_factor.as_ref());
        second_factor.map(|second_factor| second_factor.code).unwrap_or_default()
    }

    /// One that no application knows of.
    #[cfg(test)]
    pub(in crate::home) fn waiting(username: &str) -> Box<Self> {
        let typed = TypedCredentials { username: username.to_owned(), password: "x".into() };
        Box::new(Self { conversation: None, recipe: Arc::default(), typed, codes: 0 })
    }

    /// Ends the application's session.
    pub(crate) async fn end(mut self) {
        // A task of its own: whoever waits here may be gone before it is done.
        if let Some(ending) = self.sign_out() {
            let _ = ending.await;
        }
    }

    async fn judge(self, outcome: Result<Option<PasswordOutcome>, ApplicationError>) -> Result<Verdict, PortalError> {
        let asks_for_code = self.recipe.password.as_ref().is_some_and(|password| password.second_factor.is_some());
        let verdict = match outcome {
            Ok(Some(PasswordOutcome::SecondFactorNeeded)) if asks_for_code && self.codes == 0 => {
                return Ok(Verdict::CodeNeeded(Box::new(self)));
            }
            Ok(Some(PasswordOutcome::CodeWrong)) if self.codes < MOST_CODES => {
                return Ok(Verdict::CodeNeeded(Box::new(self)));
            }
            Ok(Some(PasswordOutcome::Ok)) => return self.who_am_i().await,
            Ok(Some(outcome)) => Verdict::Refused(outcome.into()),
            Ok(None) => Verdict::Refused(Note::ApplicationDown),
            Err(error) => {
                tracing::warn!(%error, "the application cannot judge a password");
                Verdict::Refused(Note::ApplicationDown)
            }
        };
        self.end().await;
        Ok(verdict)
    }

    /// Takes the steps; `None` if an answer means nothing to the recipe.
    async fn take(
        &mut self,
        steps: &[Step],
        code: Option<&SecretString>,
    ) -> Result<Option<PasswordOutcome>, ApplicationError> {
        let Some(conversation) = &mut self.conversation else { return Ok(None) };
        let mut values =
            vec![("username", self.typed.username.as_str()), ("password", self.typed.password.expose_secret())];
        values.extend(code.map(|code| ("code", code.expose_secret())));
        let mut outcome = None;
        for (position, step) in steps.iter().enumerate() {
            let answer = conversation.take(step, &values).await?;
            let rule = step.outcomes.iter().find(|rule| rule.when.holds(answer.status, &answer.body));
            outcome = rule.map(|rule| rule.outcome);
            match outcome {
                // The last decides; those before it say what they know.
                None if position + 1 < steps.len() => {}
                None => {
                    let (path, status) = (&step.path, answer.status);
                    tracing::error!(%path, status, "the application's answer to a login means nothing to the recipe; check that public_url is the site's own and that its CSRF settings allow it");
                    return Ok(None);
                }
                Some(PasswordOutcome::Ok) => {}
                Some(_) => return Ok(outcome),
            }
        }
        Ok(outcome)
    }

    /// Whom the application has signed in.
    async fn who_am_i(mut self) -> Result<Verdict, PortalError> {
        let recognised = match &mut self.conversation {
            Some(conversation) => session::ask(conversation, &self.recipe, After::SignIn).await,
            None => Recognised::Unavailable,
        };
        let verdict = match recognised {
            Recognised::Somebody(answers) => {
                vouching::identity(&self.recipe, &answers, HomeMethod::Password, clock::now()).map(|mut identity| {
                    let with_code = self.codes > 0 && !identity.amr.iter().any(|method| method == "mfa");
                    identity.amr.extend(with_code.then(|| "mfa".to_owned()));
                    Verdict::Ok(Box::new(identity))
                })
            }
            Recognised::Refused(note) => Ok(Verdict::Refused(note)),
            Recognised::NotAsked | Recognised::Unavailable | Recognised::Nobody => {
                Ok(Verdict::Refused(Note::ApplicationDown))
            }
        };
        self.end().await;
        verdict
    }

    /// Also after a refusal: a half-finished login has a session too.
    fn sign_out(&mut self) -> Option<JoinHandle<()>> {
        let mut conversation = self.conversation.take()?;
        let step = self.recipe.password.as_ref()?.sign_out.clone()?;
        // What it would need, a login that was refused never had: then there is no session either.
        if !conversation.can_take(&step) {
            return None;
        }
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        Some(runtime.spawn(async move {
            if let Err(error) = conversation.take(&step, &[]).await {
                tracing::warn!(%error, "the session that checked a password could not be ended");
            }
        }))
    }
}

impl Drop for SignIn {
    fn drop(&mut self) {
        // The task goes on by itself.
        drop(self.sign_out());
    }
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignIn(…)")
    }
}
