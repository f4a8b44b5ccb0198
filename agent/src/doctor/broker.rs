//! The broker, as agents reach it: whether it is there, whether it is the right one, and what time it has.
//!
//! No certificate is shown. Beside an agent that renews its own at this very moment, the old one would look like a copy
//! of the instance in use elsewhere, and the broker would quarantine it.

use homeward_proto::v1::ListTrustBundlesRequest;
use homeward_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tonic::metadata::MetadataMap;

use super::configuration::sentence;
use super::finding::Finding;
use crate::clock;
use crate::config::Config;
use crate::connection::{Broker, DialError};
use crate::identity::Identity;
use crate::recipe::relying_party::Gate;

/// How far this machine's clock may be from the broker's: tokens are good for minutes, certificates for a day. The signed
/// requests of django-simple-sso are good for five seconds.
pub(super) fn tolerated_skew(config: &Config) -> time::Duration {
    let gate = config.relying_party.as_ref().and(config.recipe.relying_party.as_ref()).and_then(|role| role.gate);
    time::Duration::seconds(if gate == Some(Gate::SimpleSso) { 5 } else { 60 })
}

/// Asks for nothing but the public trust bundles, and reads the time at which the answer was sent.
pub(super) async fn check(broker: &Broker, identity: &Identity, tolerated: time::Duration) -> Vec<Finding> {
    const ABOUT: &str = "broker";
    let channel = match broker.connect_without_certificate().await {
        Ok(channel) => channel,
        Err(error) => return vec![unreachable(&error, identity)],
    };
    let request = ListTrustBundlesRequest { from_version: identity.bundle_version() };
    let asked_at = clock::now();
    let answer = EnrolmentServiceClient::new(channel).list_trust_bundles(request).await;
    let answered_at = clock::now();
    match &answer {
        Ok(answer) => {
            let there = Finding::ok(ABOUT, format!("It answers at {}, and it is the right one.", identity.agent_url()));
            vec![there, clock_difference(answer.metadata(), (asked_at, answered_at), tolerated)]
        }
        Err(status) => {
            let sentence =
                format!("It answers at {}, but not as a broker: {}.", identity.agent_url(), status.message());
            vec![Finding::error(ABOUT, sentence, "ask ops whether the broker is well: homeward-broker healthcheck")]
        }
    }
}

pub(super) fn unreachable(error: &DialError, identity: &Identity) -> Finding {
    let remedy = match error {
        DialError::Clock { .. } => "set this machine's clock: timedatectl set-ntp true".to_owned(),
        DialError::UnknownAuthority { .. } => {
            "start the agent, which follows the broker to its new CA; else: homeward-agent rebootstrap --pin PIN, with the pin of homeward-broker ca show".to_owned()
        }
        _ => format!(
            "let this machine reach {} directly, without a proxy that ends TLS; ask ops whether the broker runs",
            identity.agent_url()
        ),
    };
    Finding::error("broker", sentence(&error.to_string()), remedy)
}

fn clock_difference(
    metadata: &MetadataMap,
    (asked_at, answered_at): (OffsetDateTime, OffsetDateTime),
    tolerated: time::Duration,
) -> Finding {
    let date = metadata.get("date").and_then(|date| date.to_str().ok());
    match date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok()) {
        Some(broker) => judge(broker, (asked_at, answered_at), tolerated),
        None => {
            let remedy = "compare by hand: date -u here and on the broker's machine";
            Finding::warning("clock", "The broker did not say what time it has.", remedy)
        }
    }
}

/// How far apart the clocks are. The broker wrote down whole seconds, rounded down, at some moment between the two.
pub(super) fn judge(
    broker: OffsetDateTime,
    (asked_at, answered_at): (OffsetDateTime, OffsetDateTime),
    tolerated: time::Duration,
) -> Finding {
    let latest_there = broker + time::Duration::SECOND;
    let difference = if broker > answered_at {
        broker - answered_at
    } else if latest_there < asked_at {
        asked_at - latest_there
    } else {
        time::Duration::ZERO
    };
    let side = if broker > answered_at { "behind" } else { "ahead of" };
    let seconds = difference.whole_seconds();
    if difference <= tolerated {
        let sentence = if seconds == 0 {
            "This machine's clock and the broker's agree.".to_owned()
        } else {
            format!("This machine's clock is {seconds} s {side} the broker's, which does no harm.")
        };
        return Finding::ok("clock", sentence);
    }
    let sentence = format!(
        "This machine's clock is {seconds} s {side} the broker's; more than {} s make logins fail.",
        tolerated.whole_seconds()
    );
    Finding::warning("clock", sentence, "set both machines' clocks: timedatectl set-ntp true")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn clocks_are_compared_as_exactly_as_a_date_allows() {
        let broker = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let ms = time::Duration::milliseconds;
        let limit = time::Duration::seconds(5);
        for (asked, answered, verdict, says) in [
            (ms(0), ms(900), Verdict::Ok, "agree"),
            (ms(-300), ms(20), Verdict::Ok, "agree"),
            (ms(3_000), ms(3_100), Verdict::Ok, "2 s ahead of"),
            (ms(-4_100), ms(-4_000), Verdict::Ok, "4 s behind"),
            (ms(9_000), ms(9_100), Verdict::Warning, "8 s ahead of"),
            (ms(-100_000), ms(-99_000), Verdict::Warning, "99 s behind"),
        ] {
            let finding = judge(broker, (broker + asked, broker + answered), limit);
            assert!(finding.verdict == verdict && finding.sentence.contains(says), "{finding:?}");
        }
    }
}
