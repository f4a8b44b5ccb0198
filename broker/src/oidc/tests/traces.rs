//! Which steps of a login are told to whoever takes traces, and of which login they are.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex};

use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::oidc::tests::world::{Browser, World};
use crate::registry::ConsentPolicy;

/// Spans of logins, as they begin on this thread.
#[derive(Clone, Default)]
pub(super) struct Steps(Arc<Mutex<Vec<Step>>>);

#[derive(Clone, Default)]
struct Step {
    name: String,
    transaction: String,
    outcome: Option<String>,
}

impl Visit for Step {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.name" => self.name = value.to_owned(),
            "outcome" => self.outcome = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "transaction" {
            self.transaction = format!("{value:?}");
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Steps {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().target() == "homeward::login" {
            let mut step = Step::default();
            attributes.record(&mut step);
            self.0.lock().unwrap().push(step);
        }
    }
}

/// Somebody else who listens, to nothing, for as long as the tests run: while there is one listener only, `tracing` asks
/// the thread that comes to a span first whether anybody wants it, and believes that for all threads.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

impl Steps {
    /// As long as the guard is there.
    pub(super) fn listen() -> (Self, DefaultGuard) {
        LazyLock::force(&SECOND);
        let steps = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(steps.clone()));
        (steps, guard)
    }

    /// Those of one login, in order, with what the whole came to; nothing is left.
    pub(super) fn of_one_login(&self) -> Vec<String> {
        let steps = std::mem::take(&mut *self.0.lock().unwrap());
        let logins: BTreeSet<_> = steps.iter().map(|step| step.transaction.clone()).collect();
        assert_eq!(logins.len(), 1, "{logins:?}");
        assert!(logins.iter().all(|login| login.len() == 22), "{logins:?}");
        let named = |step: Step| step.outcome.map_or(step.name.clone(), |outcome| format!("{}: {outcome}", step.name));
        steps.into_iter().map(named).collect()
    }
}

#[tokio::test]
async fn consent_and_the_redeemed_code_are_steps_of_the_login() {
    let world = World::new().await;
    world.change_edge("beta", "alpha", |edge| edge.consent = ConsentPolicy::Always).await;
    let (steps, _guard) = Steps::listen();
    let mut browser = Browser::default();
    let portal = world.authorize(&mut browser, &[]).await.location();
    let back = browser.get(&world, &world.vouch(&portal).await).await.location();
    let address = back.strip_prefix("https://login.example").unwrap();
    assert_eq!(browser.get(&world, address).await.status, 200);
    let sealed = address.strip_prefix("/login/consent?question=").unwrap();
    let answered = browser.post(&world, "/login/consent", &[("question", sealed), ("agree", "1")]).await;
    let code = answered.parameter("code").unwrap();
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
    let whole = [
        "the broker decides",
        "back from the home",
        "the user is asked for consent",
        "the user has answered",
        "login: done",
        "the application redeems the code",
    ];
    assert_eq!(steps.of_one_login(), whole);
    // A replay is of that login, too. What was never a code of ours is of none.
    world.redeem(&code, &[]).await.assert_token_error(400, "invalid_grant");
    world.redeem("hwc_made-up", &[]).await.assert_token_error(400, "invalid_grant");
    assert_eq!(steps.of_one_login(), ["the application redeems the code"]);
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_with_the_reason_that_the_application_gets() {
    let world = World::new().await;
    let (steps, _guard) = Steps::listen();
    world.authorize(&mut Browser::default(), &[("prompt", "none")]).await.assert_redirect("login_required");
    assert_eq!(steps.of_one_login(), ["the broker decides", "login: login_required"]);
}
