//! Keys, secrets and the CA: until when they are good, what turns, who holds it up, and what comes next.

use std::collections::BTreeMap;

use homeward_telemetry::metrics::{Picture, number};

use crate::metrics::{Sources, moment};
use crate::rotation::{Phase, RotationError, RotationSubject};
use crate::telemetry::definitions;

/// What can turn, and the phases in which it waits. All secrets are one: there are as many as instances.
const SUBJECTS: [(&str, &[Phase]); 4] = [
    ("keys/RS256", &[Phase::Published, Phase::Active]),
    ("keys/ES256", &[Phase::Published, Phase::Active]),
    ("secret", &[Phase::Offered]),
    ("ca", &[Phase::Prepared, Phase::ClientsActivated, Phase::ServersActivated, Phase::RollingBack]),
];

pub(super) fn look(sources: &Sources, picture: &mut Picture) {
    let authorities = sources.stand_on.authority.state().authorities();
    let ends = authorities.iter().flat_map(|ca| {
        let signs = [("instances", ca.signs_instances), ("brokers", ca.signs_brokers)];
        signs.into_iter().filter(|(_, signs)| *signs).map(|(whom, _)| ([whom], moment(ca.expires_at)))
    });
    picture.each(&definitions::CA_EXPIRY, ends);
    picture.one(&definitions::LEAF_EXPIRY, moment(sources.stand_on.authority.leaf_expires_at()));
    let mut keys: BTreeMap<_, u64> = BTreeMap::new();
    for algorithm in ["ES256", "RS256"] {
        keys.extend(["active", "pending", "retired"].map(|state| ((algorithm, state), 0)));
    }
    for (algorithm, state) in sources.keys.current().states() {
        *keys.entry((algorithm.as_str(), state)).or_default() += 1;
    }
    let keys = keys.into_iter().map(|((algorithm, state), count)| ([algorithm, state], number(count)));
    picture.each(&definitions::SIGNING_KEYS, keys);
    picture.whether(&definitions::SIGNING_KEYS_FIT, sources.keys.is_fit());
    of_public_address(sources, picture);
}

/// Nothing where others speak TLS for the broker.
fn of_public_address(sources: &Sources, picture: &mut Picture) {
    let tls = &sources.stand_on.tls;
    if let Some(served) = tls.served() {
        picture.one(&definitions::PUBLIC_ISSUED, moment(served.not_before()));
        picture.one(&definitions::PUBLIC_EXPIRY, moment(served.not_after()));
    }
    if let Some(acme) = tls.acme() {
        picture.one(&definitions::ACME_TRIES, number(acme.status().tries.into()));
    }
}

/// What turns now, and what will: everything or nothing, by whoever does not wait for the end.
pub(super) async fn rotations(sources: &Sources, picture: &mut Picture) -> Result<(), RotationError> {
    let (rotations, now) = (&sources.stand_on.rotations, sources.stand_on.clock.now());
    let all = rotations.status(None, now).await?;
    let plan = rotations.plan_with(&all, now).await?;
    let zero = || SUBJECTS.map(|(subject, _)| (subject, 0_u64)).into_iter().collect::<BTreeMap<_, _>>();
    let phases =
        SUBJECTS.iter().flat_map(|(subject, phases)| phases.iter().map(|phase| ((*subject, phase.as_str()), 0)));
    let (mut running, mut waiting, mut paused) = (phases.collect::<BTreeMap<_, u64>>(), zero(), zero());
    for status in &all {
        let Some(gate) = &status.gate else { continue };
        let subject = kind(&status.rotation.subject);
        *running.entry((subject, status.rotation.phase.as_str())).or_default() += 1;
        *waiting.entry(subject).or_default() += gate.laggards().len() as u64;
        *paused.entry(subject).or_default() += u64::from(status.rotation.paused.is_some());
    }
    let running = running.into_iter();
    let running =
        running.map(|((subject, phase), count)| ([subject.to_owned(), phase.replace(' ', "_")], number(count)));
    picture.each(&definitions::ROTATIONS, running);
    let counted =
        |counts: BTreeMap<&'static str, u64>| counts.into_iter().map(|(subject, count)| ([subject], number(count)));
    picture.each(&definitions::ROTATION_WAITING, counted(waiting));
    picture.each(&definitions::ROTATION_PAUSED, counted(paused));
    // In order of time: the first of each kind is the next.
    let mut next = BTreeMap::new();
    for planned in plan {
        next.entry(kind(&planned.subject)).or_insert(planned.at);
    }
    picture.each(&definitions::ROTATION_NEXT, next.into_iter().map(|(subject, at)| ([subject], moment(at))));
    Ok(())
}

fn kind(subject: &RotationSubject) -> &'static str {
    match subject {
        RotationSubject::Keys(algorithm) if algorithm.as_str() == "ES256" => "keys/ES256",
        RotationSubject::Keys(_) => "keys/RS256",
        RotationSubject::Secret(_) => "secret",
        RotationSubject::Authority => "ca",
    }
}
