//! The proof that the *running* application uses the new credentials: its own answer names them.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::render::Credentials;
use crate::application::{Application, ApplicationError};
use crate::conversation::Conversation;
use crate::recipe::relying_party::Proof;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);
/// How many right answers in a row count: for a moment after a reload, old workers still answer some requests.
const RIGHT_ANSWERS: u32 = 2;

/// What the application shows instead.
#[derive(Debug, Error)]
pub(crate) enum ProofFailure {
    /// It answered, and not so.
    #[error(
        "the application answers {path} with status {status}, but does not show the new client id there; check that it reads the agent's files and that the reload command makes it read them again"
    )]
    NotShown {
        /// Where it was asked.
        path: String,
        /// What it answered.
        status: u16,
    },
    /// It came not back.
    #[error("the application does not answer since it was reloaded: {0}")]
    Gone(#[source] ApplicationError),
}

/// Whether the application answers at all.
pub(crate) async fn reach(application: &Application, proof: &Proof) -> Result<(), ApplicationError> {
    Conversation::begin(application, None).take(&proof.request, &[]).await.map(|_| ())
}

/// Asks until the answer is right, or patience ends.
pub(crate) async fn prove(
    patience: Duration,
    application: &Application,
    proof: &Proof,
    credentials: &Credentials,
) -> Result<(), ProofFailure> {
    let values = [("issuer", credentials.issuer.as_str()), ("client_id", credentials.client_id.as_str())];
    let wanted = proof.equals.render(&values);
    let mut right = 0;
    let mut last = None;
    let asked = tokio::time::timeout(patience, async {
        while right < RIGHT_ANSWERS {
            let failure = ask_once(application, proof, &wanted).await.err();
            right = if failure.is_none() { right + 1 } else { 0 };
            last = failure.or(last.take());
            if right < RIGHT_ANSWERS {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    match (asked.await, last) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(failure)) => Err(failure),
        (Err(_), None) => Err(ProofFailure::NotShown { path: proof.request.path.to_string(), status: 0 }),
    }
}

async fn ask_once(application: &Application, proof: &Proof, wanted: &Value) -> Result<(), ProofFailure> {
    let mut conversation = Conversation::begin(application, None);
    let answer = conversation.take(&proof.request, &[]).await.map_err(ProofFailure::Gone)?;
    if answer.status == 200 && proof.pointer.select(&answer.body).contains(&wanted) {
        return Ok(());
    }
    Err(ProofFailure::NotShown { path: proof.request.path.to_string(), status: answer.status })
}
