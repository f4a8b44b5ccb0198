//! The broker's signing keys as the application sees them, next to what the broker publishes at this moment.
//!
//! Which keys an application holds, few say. Where its recipe has a place at which it does, they are compared; elsewhere the
//! doctor tells what the agent has acknowledged and how that was known, and that nobody can see more: a login that
//! succeeds shows more (`--canary`).
//!
//! The first key of an algorithm in the broker's key set is the one that signs; others are pending, or retired.

use serde_json::Value;

use super::finding::Finding;
use super::issuer::named;
use super::{Enrolled, Patient};
use crate::application::Question;
use crate::recipe::key_set::KeySetProof;
use crate::resources::applied::ProvedKeys;
use crate::resources::words;

const ABOUT: &str = "keys";

/// What the broker publishes.
struct Published {
    /// The one that signs this application's ID tokens.
    active: String,
    /// All others.
    others: Vec<String>,
}

/// Asks the application, if it says somewhere.
pub(super) async fn check(patient: &Patient<'_>, published: Option<Value>) -> Option<Finding> {
    let role = patient.config.relying_party.as_ref().and(patient.config.recipe.relying_party.as_ref())?;
    let Enrolled { applied, .. } = patient.enrolled.as_ref()?;
    applied.client_id.as_ref()?;
    let published = Published::of(&published?, named(role.id_token_alg))?;
    let proved = &applied.proved_keys;
    let shown = role.key_set.as_ref().filter(|key_set| key_set.proof == KeySetProof::Shown);
    let Some((path, pointer)) = shown.and_then(|key_set| key_set.path.as_ref().zip(key_set.pointer.as_ref())) else {
        let keeps_none = role.key_set.as_ref().is_some_and(|key_set| key_set.proof == KeySetProof::NoCache);
        return Some(by_record(&published, proved, keeps_none));
    };
    // That it does not answer is said elsewhere.
    let answer = patient.application.ask(Question::get(path)).await.ok()?;
    let held: Vec<&str> = pointer.select(&answer.body).into_iter().filter_map(Value::as_str).collect();
    if answer.status != 200 {
        let sentence = format!("Which keys the application holds cannot be seen: {path} answers {}.", answer.status);
        return Some(Finding::warning(ABOUT, sentence, "homeward-agent recipe test shows the request and its answer"));
    }
    Some(by_sight(&published, proved, &held))
}

/// By what the application says that it holds.
fn by_sight(published: &Published, proved: &ProvedKeys, held: &[&str]) -> Finding {
    let Published { active, others } = published;
    if held.is_empty() {
        let sentence = "The application holds no keys of the broker yet: it fetches them when somebody logs in.";
        let remedy = "log in once, or run the doctor with --canary, and see that it holds them then";
        return Finding::warning(ABOUT, sentence, remedy);
    }
    if !held.contains(&active.as_str()) {
        let sentence =
            format!("The broker signs with the key {active}, which is not among those that the application holds.");
        let remedy = "restart the application, and see that it can fetch the broker's key set (issuer, above); until then its logins fail";
        return Finding::error(ABOUT, sentence, remedy);
    }
    // What was there once and is no more has been retired since.
    let missing = others.iter().filter(|kid| !held.contains(&kid.as_str()) && !proved.key_ids.contains(kid));
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    if missing.is_empty() {
        return Finding::ok(ABOUT, format!("The application holds the key that signs, {active}, and those to come."));
    }
    let sentence =
        format!("The application does not hold the key {} yet, which is to sign one day.", missing.join(", "));
    let remedy = "if it stays so, the rotation waits for this instance: look at the agent's log for why the application does not fetch it (homeward-broker keys list)";
    Finding::warning(ABOUT, sentence, remedy)
}

/// By what the agent has told the broker, and how it knew.
fn by_record(published: &Published, proved: &ProvedKeys, keeps_none: bool) -> Finding {
    let active = &published.active;
    if !proved.key_ids.contains(active) {
        let sentence = format!(
            "The agent has not seen yet that the application verifies with {active}, which the broker publishes to sign with."
        );
        let remedy = "start the agent and look at its log: if the application does not have that key its logins fail, unless ops have the broker wait for what the agent has acknowledged (instance policy --signing-key acknowledged)";
        return Finding::warning(ABOUT, sentence, remedy);
    }
    if keeps_none {
        let sentence = "The application keeps no keys, by its recipe, so none can be missing; what it fetches at a login cannot be seen from here.";
        return Finding::ok(ABOUT, sentence);
    }
    let how = words(&proved.method, "KEY_SET_PROOF_METHOD_");
    let sentence = format!(
        "Which keys the application holds cannot be seen. The agent has acknowledged {active}, which signs ({how})."
    );
    Finding::ok(ABOUT, sentence)
}

impl Published {
    fn of(document: &Value, alg: &str) -> Option<Self> {
        let keys = document["keys"].as_array()?.iter().filter(|key| key["alg"] == alg);
        let mut ids = keys.filter_map(|key| key["kid"].as_str()).map(str::to_owned);
        Some(Self { active: ids.next()?, others: ids.collect() })
    }
}

#[cfg(test)]
mod tests {
    use homeward_proto::v1::KeySetProofMethod;
    use serde_json::json;

    use super::super::finding::Verdict;
    use super::*;

    fn published() -> Published {
        let key = |kid: &str, alg: &str| json!({ "kid": kid, "alg": alg });
        let keys = [key("r1", "RS256"), key("e1", "ES256"), key("e2", "ES256"), key("e0", "ES256")];
        Published::of(&json!({ "keys": keys }), "ES256").unwrap()
    }

    fn proved(ids: &[&str], method: KeySetProofMethod) -> ProvedKeys {
        ProvedKeys::new(ids.iter().map(|id| (*id).to_owned()).collect(), method)
    }

    #[test]
    fn the_key_that_signs_must_be_held_and_the_next_one_soon() {
        let earlier = proved(&["r1", "e0", "e1"], KeySetProofMethod::Shown);
        for (held, verdict, says) in [
            (&["r1", "e1", "e2"][..], Verdict::Ok, "e1"),
            (&["e1", "e0", "foreign"], Verdict::Warning, "e2"),
            (&["r1", "e2", "e0"], Verdict::Error, "e1"),
            (&["foreign"], Verdict::Error, "e1"),
            (&[], Verdict::Warning, "no keys"),
        ] {
            let finding = by_sight(&published(), &earlier, held);
            assert!(finding.verdict == verdict && finding.sentence.contains(says), "{held:?}: {finding:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_said() {
        let (warmed, none) = (proved(&["e1"], KeySetProofMethod::Warmed), ProvedKeys::default());
        let finding = by_record(&published(), &warmed, false);
        assert!(finding.verdict == Verdict::Ok && finding.sentence.contains("cannot be seen"), "{finding:?}");
        assert!(finding.sentence.contains("warmed"), "{finding:?}");
        let unseen = by_record(&published(), &none, true);
        assert!(unseen.verdict == Verdict::Warning && unseen.remedy.unwrap().contains("its logins fail"));
        assert!(by_record(&published(), &warmed, true).sentence.contains("keeps no keys"));
        assert!(Published::of(&json!({ "keys": [] }), "ES256").is_none());
        assert!(Published::of(&json!("x"), "ES256").is_none());
    }
}
