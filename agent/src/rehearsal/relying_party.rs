//! The application as relying party: what shows its credentials, how it begins a login, and which keys it holds.

use secrecy::SecretString;

use super::act::{Act, shortened};
use crate::application::Application;
use crate::apply::render::{Credential, Credentials};
use crate::apply::way::Way;
use crate::config::Config;
use crate::conversation::Conversation;
use crate::doctor::finding::Verdict;
use crate::doctor::login::{self, Expected};
use crate::recipe::key_set::{KeySet, KeySetProof};
use crate::recipe::path::PathTemplate;
use crate::recipe::probe::Probe;
use crate::recipe::relying_party::{ClientAuthMethod, Proof, RelyingParty};
use crate::recipe::step::Step;

/// The client that the agent has written, as far as it is no secret.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    /// OAuth client id.
    pub(super) client_id: Option<String>,
    /// Issuer.
    pub(super) issuer: Option<String>,
}

/// Tries what can be tried without changing anything.
pub(super) async fn rehearse(config: &Config, application: &Application, client: &Client) -> Vec<Act> {
    let Some(recipe) = config.relying_party.as_ref().and(config.recipe.relying_party.as_ref()) else {
        return Vec::new();
    };
    let mut acts = plan(config, recipe, application, client).await;
    for proof in &recipe.proof.0 {
        acts.push(prove(proof, application, client).await);
    }
    if let Some(probe) = &recipe.probe {
        let issuer = client.issuer.clone();
        let expected = issuer.and_then(|issuer| Expected::of(config, issuer, client.client_id.clone()));
        acts.extend(begin_login(probe, application, expected.as_ref()).await);
    }
    acts.push(match &recipe.key_set {
        Some(key_set) => keys(key_set, application).await,
        None => {
            Act::note("key_set", Verdict::Ok, "nothing shows which keys it knows: new ones wait until caches expire")
        }
    });
    acts
}

/// What the configured way would touch for a new secret. The one that is in use lies in the application only.
async fn plan(config: &Config, recipe: &RelyingParty, application: &Application, client: &Client) -> Vec<Act> {
    let Some(role) = &config.relying_party else { return Vec::new() };
    let Some(chosen) = recipe.way(role.way.as_deref()) else { return Vec::new() };
    let part = format!("way {}", chosen.name);
    let unknown = || SecretString::from("a secret that is not known here");
    let credentials = Credentials {
        issuer: client.issuer.clone().unwrap_or_else(|| "https://login.example".to_owned()),
        client_id: client.client_id.clone().unwrap_or_else(|| "not-enrolled".to_owned()),
        secret_version: 0,
        credential: match recipe.client_auth_method {
            ClientAuthMethod::ClientSecretBasic
            | ClientAuthMethod::ClientSecretPost
            | ClientAuthMethod::ClientSecretJwt => Credential::Secret(unknown()),
            ClientAuthMethod::PrivateKeyJwt => Credential::PrivateKey { pem: unknown(), jwk: unknown() },
            ClientAuthMethod::Tls => Credential::Certificate,
        },
    };
    match Way::of(recipe, role).plan(application, &credentials).await {
        Err(error) => vec![Act::note(&part, Verdict::Error, error.to_string())],
        Ok(plan) if plan.is_empty() => vec![Act::note(&part, Verdict::Ok, "everything is in place")],
        Ok(plan) => {
            let touched = plan.describe().into_iter();
            touched.map(|change| Act::note(&part, Verdict::Ok, format!("a new secret would {change}"))).collect()
        }
    }
}

async fn prove(proof: &Proof, application: &Application, client: &Client) -> Act {
    const PART: &str = "proof";
    let known = [("issuer", client.issuer.as_deref()), ("client_id", client.client_id.as_deref())];
    let values: Vec<(&str, &str)> = known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let answer = match Conversation::begin(application, None).take(&proof.request, &values).await {
        Ok(answer) => answer,
        Err(error) => return Act::failed(PART, &proof.request, &error),
    };
    let found = proof.pointer.select(&answer.body);
    let wanted = proof.equals.render(&values);
    let (verdict, meaning) = if found.contains(&&wanted) {
        (Verdict::Ok, format!("{} is what it must be: the application uses these credentials", proof.pointer))
    } else if found.is_empty() {
        (Verdict::Error, format!("there is nothing at {}", proof.pointer))
    } else if values.len() < 2 {
        (
            Verdict::Warning,
            format!("{} values at {}; no credentials have arrived to compare them with", found.len(), proof.pointer),
        )
    } else {
        let shown: Vec<String> = found.iter().take(3).map(|value| shortened(value)).collect();
        (Verdict::Error, format!("{} is {}, not {}", proof.pointer, shown.join(", "), shortened(&wanted)))
    };
    Act::answered(PART, &proof.request, answer.status, verdict, meaning)
}

async fn begin_login(probe: &Probe, application: &Application, expected: Option<&Expected>) -> Vec<Act> {
    const PART: &str = "probe";
    let mut conversation = Conversation::begin(application, None);
    let mut acts = Vec::new();
    for (position, step) in probe.steps.iter().enumerate() {
        let answer = match conversation.take(step, &[]).await {
            Ok(answer) => answer,
            Err(error) => {
                acts.push(Act::failed(PART, step, &error));
                return acts;
            }
        };
        let is_last = position + 1 == probe.steps.len();
        match expected.filter(|_| is_last) {
            Some(expected) => {
                let wrong = login::judge(answer.status, answer.location.as_deref(), expected);
                if wrong.is_empty() {
                    let meaning = "leads to the broker, and back to a registered address";
                    acts.push(Act::answered(PART, step, answer.status, Verdict::Ok, meaning));
                }
                acts.extend(
                    wrong.into_iter().map(|one| Act::answered(PART, step, answer.status, one.verdict, one.sentence)),
                );
            }
            None if is_last => {
                let meaning = "no credentials have arrived to judge it by";
                acts.push(Act::answered(PART, step, answer.status, Verdict::Warning, meaning));
            }
            None => acts.push(Act::answered(PART, step, answer.status, Verdict::Ok, "goes on with the next")),
        }
    }
    acts
}

async fn keys(key_set: &KeySet, application: &Application) -> Act {
    const PART: &str = "key_set";
    match (key_set.proof, &key_set.path, &key_set.pointer) {
        (KeySetProof::NoCache, ..) => {
            Act::note(PART, Verdict::Ok, "the application keeps no keys: no new one can be unknown to it")
        }
        (KeySetProof::Shown, Some(path), Some(pointer)) => {
            let step = Step::get(PathTemplate::from(path));
            match Conversation::begin(application, None).take(&step, &[]).await {
                Ok(answer) => {
                    let count = pointer.select(&answer.body).len();
                    let verdict = if count > 0 { Verdict::Ok } else { Verdict::Warning };
                    let meaning = format!("the application names {count} keys at {pointer}");
                    Act::answered(PART, &step, answer.status, verdict, meaning)
                }
                Err(error) => Act::failed(PART, &step, &error),
            }
        }
        (KeySetProof::Warmed | KeySetProof::Shown, ..) => {
            let meaning =
                format!("{} requests would make the application fetch the keys; not tried", key_set.warm.len());
            Act::note(PART, Verdict::Ok, meaning)
        }
    }
}
