//! Ends a user's sessions at this application, because the user has logged out elsewhere and the broker orders it.
//!
//! Orders come over the Sync stream, wait in a short queue, and are carried out one at a time in a task of their own:
//! nothing that the stream brings waits for an application that is slow at this. Each is answered over the stream that it
//! came by. When that one has broken, the answer is of no use to anybody: the broker orders again on the next stream, and
//! so an order whose stream is gone is not carried out at all. Twice does no harm, and a full queue is a failure that
//! the broker comes back from.

mod means;

use std::sync::Arc;

use homeward_proto::v1::end_sessions::User;
use homeward_proto::v1::{EndSessions, RelyingPartyUser, SessionsEnded, SessionsEndedOutcome};
use tokio::sync::mpsc;

use self::means::{EndingError, Means};
use crate::application::Application;
use crate::clock;
use crate::config::Config;
use crate::gate::ended::{EndedSessions, Which};
use crate::home::watch::Watch;
use crate::recipe::relying_party::Gate;

/// How many orders may wait.
const BACKLOG: usize = 64;
/// Longest detail of a failure that the contract allows, in characters.
const LONGEST_DETAIL: usize = 256;

/// An order, and who waits for the answer.
#[derive(Debug)]
pub(crate) struct Order {
    order: EndSessions,
    answers: mpsc::Sender<SessionsEnded>,
}

/// The way to the one who carries orders out.
#[derive(Debug, Clone)]
pub(crate) struct Queue(mpsc::Sender<Order>);

/// Carries orders out.
#[derive(Debug)]
pub(crate) struct SessionEnder {
    at_relying_party: Means,
    at_home: Means,
    at_gate: Option<Arc<EndedSessions>>,
    applications_have_sessions: bool,
    application: Application,
    watch: Arc<Watch>,
}

/// A queue, and its other end.
pub(crate) fn queue() -> (Queue, mpsc::Receiver<Order>) {
    let (sender, orders) = mpsc::channel(BACKLOG);
    (Queue(sender), orders)
}

impl Queue {
    /// Takes an order, or says at once that it is not taken.
    pub(crate) fn take(&self, order: EndSessions, answers: &mpsc::Sender<SessionsEnded>) {
        let queued = self.0.try_send(Order { order, answers: answers.clone() });
        if let Err(mpsc::error::TrySendError::Full(refused) | mpsc::error::TrySendError::Closed(refused)) = queued {
            let detail = "too many orders wait for this application; it ends sessions slowly".to_owned();
            let outcome = SessionsEndedOutcome::Failed.into();
            let answer = SessionsEnded { id: refused.order.id, outcome, detail, sessions: 0 };
            // A stream that does not take this either hears the order again anyway.
            let _ = refused.answers.try_send(answer);
        }
    }
}

impl SessionEnder {
    /// By what the recipe says for the roles that are configured.
    pub(crate) fn new(config: &Config, application: Application, watch: Arc<Watch>) -> Self {
        let party = config.relying_party.as_ref().and(config.recipe.relying_party.as_ref());
        let home = config.home.as_ref().and(config.recipe.home.as_ref());
        let means = |role, recipe| Means::of(role, recipe, &config.parameters);
        Self {
            at_relying_party: means("relying_party", party.and_then(|role| role.session_end.as_ref())),
            at_home: means("home", home.and_then(|role| role.session_end.as_ref())),
            at_gate: None,
            applications_have_sessions: config.gate.as_ref().is_some_and(|gate| gate.speaks == Gate::SimpleSso),
            application,
            watch,
        }
    }

    /// And the agent's own, where that is the relying party.
    pub(crate) fn with_gate(self, at_gate: Option<Arc<EndedSessions>>) -> Self {
        Self { at_gate, ..self }
    }

    /// Carries out what comes until nothing can come any more.
    pub(crate) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(Order { order, answers }) = orders.recv().await {
            if answers.is_closed() {
                continue;
            }
            let answer = self.carry_out(order).await;
            let _ = answers.send(answer).await;
        }
    }

    async fn carry_out(&self, order: EndSessions) -> SessionsEnded {
        let (role, ended) = match &order.user {
            Some(User::RelyingPartyUser(RelyingPartyUser { subject, session_id, username })) => {
                let mut whose = vec![("subject", subject.as_str()), ("session_id", session_id)];
                // An application that is told no name is asked to end nobody's sessions by one.
                if !username.is_empty() {
                    whose.push(("username", username));
                }
                let at_gate = self.end_at_gate(subject, session_id);
                let at_application = self.at_relying_party.end(&self.application, &whose).await;
                ("relying_party", at_gate.and_then(|at_gate| Ok(at_application?.or(at_gate))))
            }
            Some(User::HomeUserId(home_user_id)) => {
                // The broker knows of this logout: that the session is gone is no news, and must not end the next one.
                self.watch.forget_user(home_user_id);
                ("home", self.at_home.end(&self.application, &[("home_user_id", home_user_id)]).await)
            }
            // A newer broker may name users otherwise.
            None => ("none", Ok(None)),
        };
        let (outcome, sessions, detail) = match ended {
            Ok(Some(sessions)) => (SessionsEndedOutcome::Ended, sessions, String::new()),
            Ok(None) => (SessionsEndedOutcome::NotSupported, 0, String::new()),
            Err(error) => (SessionsEndedOutcome::Failed, 0, error.to_string().chars().take(LONGEST_DETAIL).collect()),
        };
        tracing::info!(
            order = order.id,
            role,
            ?outcome,
            sessions,
            detail,
            "the broker ordered to end a user's sessions"
        );
        SessionsEnded { id: order.id, outcome: outcome.into(), sessions, detail }
    }
}

impl SessionEnder {
    /// Where nginx asks the agent about each request, the application has no other sessions than the gate's. Clients of
    /// django-simple-sso have their own, which only the recipe can end.
    fn end_at_gate(&self, subject: &str, session_id: &str) -> Result<Option<u32>, EndingError> {
        let Some(ended) = &self.at_gate else { return Ok(None) };
        let subject = subject.to_owned();
        let which = if session_id.is_empty() {
            Which::Subject(subject)
        } else {
            Which::BrokerSession { subject, session: session_id.to_owned() }
        };
        ended.end(which, clock::now())?;
        Ok((!self.applications_have_sessions).then_some(0))
    }
}

#[cfg(test)]
mod tests;
