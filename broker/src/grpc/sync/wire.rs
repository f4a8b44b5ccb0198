//! What agents and the fleet say to each other, as the contract writes it. What an agent writes is cut to the lengths
//! that the contract allows before anything else sees it.

use std::time::Duration;

use homeward_proto::v1;
use homeward_proto::v1::sync_request::Message as Said;
use homeward_proto::v1::sync_response::Message as Answer;
use tonic::Status;

use crate::enrolment::EnrolmentError;
use crate::fleet::{
    AccountMatch, AccountPreview, Acknowledgement, Contents, CredentialSecret, Credentials, EndReason, Hello, Inquiry,
    KnownKeys, Nack, NoReply, Question, RenewalOrder, Reply, Report, SharedState, Update, Word,
};
use crate::grpc::login::asserted;
use crate::grpc::status::{self, Reason};
use crate::grpc::wire_bundle;
use crate::registry::{KeySetProof, Resource, is_seen};
use crate::sessions::{Message, Outcome, SessionOrder};

/// Most resources that one message may name: there are five.
const MAX_RESOURCES: usize = 16;

/// Most matches and problems of a preview, and the length of each text in it.
const MAX_MATCHES: usize = 16;
const MAX_SENTENCE: usize = 256;

/// How an agent introduces itself.
pub(super) fn hello(hello: v1::Hello) -> Hello {
    Hello {
        applied_revision: hello.applied_revision,
        agent_version: clean(&hello.agent_version, 64),
        report: report(hello.state),
        resources: resources(&hello.resources),
        proof: hello.key_set_proof.and_then(known_keys),
    }
}

/// What an agent says after its Hello; nothing if this broker does not know the word.
pub(super) fn word(said: Said) -> Option<Word> {
    match said {
        Said::Hello(_) | Said::SessionsEnded(_) | Said::Answer(_) => None,
        Said::Ack(ack) => {
            let named = ack.resources.len();
            let resources = resources(&ack.resources);
            // What names only resources that are not known here must not be taken for an acknowledgement of all.
            (named == 0 || !resources.is_empty()).then(|| {
                let proof = ack.key_set_proof.and_then(known_keys);
                Word::Ack(Acknowledgement { revision: ack.revision, resources, proof })
            })
        }
        Said::Nack(nack) => {
            let named = nack.resource.is_some();
            let resource = nack.resource.and_then(|version| resources(&[version]).pop());
            (!named || resource.is_some()).then(|| {
                Word::Nack(Nack {
                    revision: nack.revision,
                    resource,
                    reason: clean(&nack.reason, 63),
                    detail: clean(&nack.detail, 512),
                })
            })
        }
        Said::Heartbeat(heartbeat) => Some(Word::Heartbeat(report(heartbeat.state))),
    }
}

/// What an agent is sent.
pub(super) fn update(update: Update, retry_spread: Duration) -> v1::SyncResponse {
    let mut message = v1::Snapshot {
        revision: update.revision,
        client_credentials: update.credentials.map(client_credentials),
        retry_spread_duration: prost_types::Duration::try_from(retry_spread).ok(),
        versions: update.versions.iter().map(|(resource, version)| resource_version(*resource, *version)).collect(),
        ..v1::Snapshot::default()
    };
    for (resource, _) in &update.versions {
        bring(&mut message, *resource, &update.shared);
    }
    let homes = update.homes.into_iter();
    message.homes = homes.map(|home| v1::HomeEntry { name: home.name, display_name: home.display_name }).collect();
    answer(match update.contents {
        Contents::Everything => Answer::Snapshot(message),
        Contents::Changes(removed) => Answer::Delta(v1::Delta {
            changes: Some(message),
            removed: removed.into_iter().map(|resource| wire_resource(resource).into()).collect(),
        }),
    })
}

/// What an agent is to end.
pub(super) fn order(order: SessionOrder) -> v1::SyncResponse {
    let user = match order.message {
        Message::Agent(entered) | Message::Back(entered) => {
            v1::end_sessions::User::RelyingPartyUser(v1::RelyingPartyUser {
                subject: entered.subject.to_string(),
                session_id: entered.session.to_string(),
                username: entered.username,
            })
        }
        Message::Home { home_user_id } => v1::end_sessions::User::HomeUserId(home_user_id),
    };
    answer(Answer::EndSessions(v1::EndSessions { id: order.id.to_string(), user: Some(user) }))
}

/// What became of an order; nothing if this broker does not know the word.
pub(super) fn sessions_ended(said: v1::SessionsEnded) -> Option<(String, Outcome)> {
    let outcome = match said.outcome() {
        v1::SessionsEndedOutcome::Unspecified => return None,
        v1::SessionsEndedOutcome::Ended => Outcome::Told(format!("{} session(s) ended", said.sessions)),
        v1::SessionsEndedOutcome::NotSupported => Outcome::NotSupported,
        v1::SessionsEndedOutcome::Failed => Outcome::Failed(clean(&said.detail, 256)),
    };
    Some((said.id, outcome))
}

/// What an agent is asked.
pub(super) fn question(question: Question) -> v1::SyncResponse {
    let about = match question.inquiry {
        Inquiry::Identity(username) => v1::question::About::Identity(v1::PreviewIdentity { username }),
        Inquiry::Account(claims) => v1::question::About::Account(v1::PreviewAccount { claims }),
    };
    answer(Answer::Question(v1::Question { id: question.id, about: Some(about) }))
}

/// What an agent answers; nothing if this broker does not know the word.
pub(super) fn reply(answer: v1::Answer) -> Option<(String, Reply)> {
    let reply = match answer.outcome? {
        v1::answer::Outcome::Identity(identity) => Reply::Identity(Box::new(asserted(identity))),
        v1::answer::Outcome::Account(preview) => Reply::Account(account(&preview)),
        v1::answer::Outcome::None(none) => Reply::Nothing(no_reply(none.reason()), clean(&none.detail, MAX_SENTENCE)),
    };
    Some((answer.id, reply))
}

fn account(preview: &v1::AccountPreview) -> AccountPreview {
    let found = preview.matches.iter().take(MAX_MATCHES).map(|found| AccountMatch {
        claim: clean(&found.claim, MAX_SENTENCE),
        value: clean(&found.value, MAX_SENTENCE),
        account: clean(&found.account, MAX_SENTENCE),
    });
    AccountPreview {
        matches: found.collect(),
        outcome: clean(&preview.outcome, MAX_SENTENCE),
        problems: preview.problems.iter().take(MAX_MATCHES).map(|text| clean(text, MAX_SENTENCE)).collect(),
    }
}

fn no_reply(reason: v1::NoAnswerReason) -> NoReply {
    match reason {
        v1::NoAnswerReason::NotSupported => NoReply::NotSupported,
        v1::NoAnswerReason::UnknownUser => NoReply::UnknownUser,
        v1::NoAnswerReason::Unspecified | v1::NoAnswerReason::Failed => NoReply::Failed,
    }
}

/// The broker ends all streams; their agents may come back to one after so long.
pub(super) fn drain(retry_after: Duration) -> v1::SyncResponse {
    let retry_after_duration = prost_types::Duration::try_from(retry_after).ok();
    answer(Answer::Drain(v1::Drain { retry_after_duration }))
}

/// Why a stream ends.
pub(super) fn ended(reason: EndReason) -> Status {
    match reason {
        EndReason::Quarantined => status::enrolment(&EnrolmentError::Quarantined),
        EndReason::Unknown => status::enrolment(&EnrolmentError::AgentUnknown),
        EndReason::Superseded => status::refused(Reason::StreamSuperseded),
    }
}

/// Puts a shared resource into a message.
fn bring(message: &mut v1::Snapshot, resource: Resource, shared: &SharedState) {
    match resource {
        Resource::KeySet => {
            message.key_set = shared.key_set.clone();
            message.key_set_max_age_duration = prost_types::Duration::try_from(shared.key_set_max_age).ok();
        }
        Resource::TrustBundle => message.trust_bundle = Some(wire_bundle(&shared.bundle)),
        Resource::RenewalOrder => message.renewal_order = shared.renewal.map(renewal_order),
        Resource::ClientCredentials | Resource::Homes => {}
    }
}

fn client_credentials(credentials: Credentials) -> v1::ClientCredentials {
    let (client_secret, private_key) = match credentials.secret {
        CredentialSecret::Text(secret) => (secret.to_string(), false),
        CredentialSecret::OwnKey => (String::new(), true),
    };
    v1::ClientCredentials {
        issuer: credentials.issuer,
        client_id: credentials.client_id.to_string(),
        client_secret,
        secret_version: credentials.version,
        private_key,
    }
}

fn renewal_order(order: RenewalOrder) -> v1::RenewalOrder {
    v1::RenewalOrder {
        authority_pin: order.authority_pin.as_bytes().to_vec(),
        within_duration: prost_types::Duration::try_from(order.within).ok(),
    }
}

fn report(state: Option<v1::AgentState>) -> Report {
    let state = state.unwrap_or_default();
    Report { home_ready: state.home_ready, problem: clean(&state.problem, 256) }
}

/// Resources of a newer contract are passed over.
fn resources(versions: &[v1::ResourceVersion]) -> Vec<(Resource, u64)> {
    let known = |version: &v1::ResourceVersion| Some((resource(version.resource())?, version.version));
    versions.iter().take(MAX_RESOURCES).filter_map(known).collect()
}

fn resource(resource: v1::Resource) -> Option<Resource> {
    match resource {
        v1::Resource::Unspecified => None,
        v1::Resource::ClientCredentials => Some(Resource::ClientCredentials),
        v1::Resource::KeySet => Some(Resource::KeySet),
        v1::Resource::TrustBundle => Some(Resource::TrustBundle),
        v1::Resource::Homes => Some(Resource::Homes),
        v1::Resource::RenewalOrder => Some(Resource::RenewalOrder),
    }
}

fn wire_resource(resource: Resource) -> v1::Resource {
    match resource {
        Resource::ClientCredentials => v1::Resource::ClientCredentials,
        Resource::KeySet => v1::Resource::KeySet,
        Resource::TrustBundle => v1::Resource::TrustBundle,
        Resource::Homes => v1::Resource::Homes,
        Resource::RenewalOrder => v1::Resource::RenewalOrder,
    }
}

fn resource_version(resource: Resource, version: u64) -> v1::ResourceVersion {
    v1::ResourceVersion { resource: wire_resource(resource).into(), version }
}

/// A proof by a method that this broker does not know proves nothing to it.
fn known_keys(proof: v1::KeySetProof) -> Option<KnownKeys> {
    let method = match proof.method() {
        v1::KeySetProofMethod::Unspecified => return None,
        v1::KeySetProofMethod::Shown => KeySetProof::Shown,
        v1::KeySetProofMethod::Warmed => KeySetProof::Warmed,
        v1::KeySetProofMethod::NoCache => KeySetProof::NoCache,
        v1::KeySetProofMethod::MaxAge => KeySetProof::MaxAge,
        v1::KeySetProofMethod::NoRelyingParty => KeySetProof::NoRelyingParty,
    };
    Some(KnownKeys { key_ids: proof.key_ids, method })
}

/// An agent's text, fit for logs and terminals: nothing in it steers them, turns text around or hides, and it is not longer
/// than it may be.
fn clean(text: &str, most: usize) -> String {
    text.chars().map(|c| if is_seen(c) { c } else { ' ' }).take(most).collect()
}

fn answer(message: Answer) -> v1::SyncResponse {
    v1::SyncResponse { message: Some(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_writes_steers_no_terminal_and_has_an_end() {
        for (text, cleaned) in [
            ("the file is there", "the file is there"),
            ("größer ≥ 3 ✓", "größer ≥ 3 ✓"),
            ("\u{1b}[2Jgone\r\nroot: all is well\u{9b}1m\0", " [2Jgone  root: all is well 1m "),
            ("access\u{202e}denied\u{2066}\u{200f}\u{61c}", "access denied   "),
            ("a\u{200b}b\u{2028}c\u{feff}d\u{ad}e", "a b c d e"),
        ] {
            assert_eq!(clean(text, 512), cleaned);
        }
        assert_eq!(clean(&"ä".repeat(2000), 64), "ä".repeat(64));
        let said = |text: String| v1::Nack { reason: text.clone(), detail: text, ..v1::Nack::default() };
        let Some(Word::Nack(nack)) = word(Said::Nack(said("\u{202e}\n".repeat(1000)))) else { panic!("no word") };
        assert_eq!((nack.reason, nack.detail), (" ".repeat(63), " ".repeat(512)));
        assert_eq!(hello(v1::Hello { agent_version: "1\n2".into(), ..Default::default() }).agent_version, "1 2");
    }
}
