//! Tables of what a record is before and after.

use std::path::Path;

use super::*;
use crate::registry::RecoveryPolicy;
use crate::registry::tests::instance;

const MADE: Timestamp = Timestamp::from_secs(1_800_000_000);
const NOW: Timestamp = Timestamp::from_secs(1_800_086_400);

/// Left behind, each for the reason that the module tells; and what is nobody's beyond its own broker.
const LEFT_BEHIND: [&str; 28] = [
    "acme",
    "acme_challenge",
    "agent_report",
    "broker",
    "consent",
    "console_code",
    "console_session",
    "copy",
    "device_code",
    "device_user_code",
    "duty",
    "grant",
    "join_token",
    "link",
    "link_spent",
    "login",
    "login_count",
    "logout",
    "logout_due",
    "probe",
    "pushed_request",
    "question",
    "rotation",
    "schema",
    "session",
    "signing_key",
    "user_grant",
    "user_session",
];

fn judged(entries: Vec<(Key, Vec<u8>)>, release: &str, sealing: &SealingKeys) -> Result<Restored, RestoreError> {
    let release = if release.is_empty() { Release::Nobody } else { release.parse().unwrap() };
    let terms = Terms { now: NOW, made_at: MADE, release: &release, sealing };
    restore(entries.into_iter().collect(), &terms)
}

fn entry<T: Record>(id: &str, record: &T) -> (Key, Vec<u8>) {
    (Key::new(T::TABLE, id), encode(record).unwrap())
}

fn enrolled(name: &str, state: InstanceState, sealing: &SealingKeys) -> (Key, Vec<u8>) {
    let secret = ClientSecret::generate(sealing, 7).unwrap();
    let enrolled = instance(name, &secret);
    let pending_certificate = Some(enrolled.certificate.clone());
    entry(name, &Instance { state, pending_certificate, recovery: RecoveryPolicy::Times(2), ..enrolled })
}

fn quarantined(cause: QuarantineCause) -> InstanceState {
    InstanceState::Quarantined { reason: "a reason".to_owned(), since: MADE, cause }
}

fn found(restored: &Restored, name: &str) -> Instance {
    decode(&restored.entries[&Key::new(Instance::TABLE, name)]).unwrap()
}

#[test]
fn who_may_log_users_in_after_a_restore_is_said_by_ops_and_never_by_the_backup() {
    let sealing = SealingKeys::new_for_test();
    let claimed = InstanceState::Claimed { join_token: "0".to_owned() };
    for (state, release, expected) in [
        (InstanceState::Confirmed, "", "restored"),
        (InstanceState::Confirmed, "beta", "restored"),
        (InstanceState::Confirmed, "alpha", "confirmed"),
        (InstanceState::Confirmed, "beta,alpha", "confirmed"),
        (InstanceState::Confirmed, "all", "confirmed"),
        (claimed.clone(), "", "restored"),
        (claimed, "alpha", "confirmed"),
        (quarantined(QuarantineCause::Ops), "alpha", "ops"),
        (quarantined(QuarantineCause::Alarm), "all", "alarm"),
        (quarantined(QuarantineCause::Restored), "all", "restored"),
    ] {
        let entries = vec![
            enrolled("alpha", state.clone(), &sealing),
            enrolled("beta", quarantined(QuarantineCause::Ops), &sealing),
        ];
        let restored = judged(entries, release, &sealing).unwrap();
        let alpha = found(&restored, "alpha");
        let became = match alpha.state {
            InstanceState::Confirmed => "confirmed",
            InstanceState::Claimed { .. } => "claimed",
            InstanceState::Quarantined { cause: QuarantineCause::Ops, .. } => "ops",
            InstanceState::Quarantined { cause: QuarantineCause::Alarm, .. } => "alarm",
            InstanceState::Quarantined { cause: QuarantineCause::Restored, .. } => "restored",
        };
        assert_eq!(became, expected, "{state:?} {release}");
        assert_eq!((alpha.restored_at, alpha.pending_certificate), (Some(NOW), None));
        assert_eq!(alpha.recovery, RecoveryPolicy::Times(2));
    }
    let refused = judged(vec![enrolled("alpha", InstanceState::Confirmed, &sealing)], "alpha,gamma", &sealing);
    assert!(matches!(refused, Err(RestoreError::Unknown(name)) if name.as_str() == "gamma"));
}

#[test]
fn no_credential_of_the_backup_is_good_and_the_new_one_has_a_number_that_none_had() {
    let sealing = SealingKeys::new_for_test();
    let (key, value) = enrolled("alpha", InstanceState::Confirmed, &sealing);
    let before = decode::<Instance>(&value).unwrap().relying_party.unwrap();
    let restored = judged(vec![(key, value)], "all", &sealing).unwrap();
    let after = found(&restored, "alpha").relying_party.unwrap();
    assert_eq!(after.client_id, before.client_id);
    let hash = |party: &RelyingParty| party.credential.secret().unwrap().hash.clone();
    assert_ne!(hash(&after), hash(&before));
    assert!(after.next_credential.is_none());
    assert!(after.credential.version() >= 1_800_086_400, "{}", after.credential.version());
    after.credential.secret().unwrap().open(&sealing).unwrap();
}

#[test]
fn what_nobody_can_bring_anything_new_is_left_behind_unless_ops_name_it() {
    let sealing = SealingKeys::new_for_test();
    let registration = Registration {
        name: "shop".parse().unwrap(),
        initial_token: crate::secret::SecretHash::of("x"),
        expires_at: NOW + std::time::Duration::from_secs(60),
        clients_left: 3,
        opened_at: MADE,
    };
    let edge = TrustEdge::new(
        crate::registry::TrustEdgeId { relying_party: "shop".parse().unwrap(), home: "alpha".parse().unwrap() },
        MADE,
    );
    let edge = edge.unwrap();
    let entries = || {
        let alpha = enrolled("alpha", InstanceState::Confirmed, &sealing);
        vec![alpha, entry("shop", &registration), entry(&edge.id.key(), &edge)]
    };
    let key = Key::new(TrustEdge::TABLE, &edge.id.key());
    let left = judged(entries(), "alpha", &sealing).unwrap();
    assert!(!left.entries.contains_key(&Key::new(Registration::TABLE, "shop")) && !left.entries.contains_key(&key));
    let kept = judged(entries(), "alpha,shop", &sealing).unwrap();
    let shop: Registration = decode(&kept.entries[&Key::new(Registration::TABLE, "shop")]).unwrap();
    assert_eq!((shop.clients_left, shop.expires_at), (0, NOW));
    // Another life of the edge: nothing that rests on the one before counts.
    assert_ne!(decode::<TrustEdge>(&kept.entries[&key]).unwrap().epoch, edge.epoch);
}

#[test]
fn only_what_is_meant_to_last_is_taken_over() {
    let sealing = SealingKeys::new_for_test();
    let raw = |key: &str| (Key::parse(key.to_owned()).unwrap(), b"-".to_vec());
    let mut entries: Vec<_> = LEFT_BEHIND.iter().map(|table| raw(&format!("{table}/x"))).collect();
    entries.push(raw("unheard-of/x"));
    entries.extend(KEPT.iter().map(|table| raw(&format!("{table}/x"))));
    entries.push(raw(TURN_OF_THE_CA));
    let restored = judged(entries, "all", &sealing).unwrap();
    let tables: Vec<&str> = restored.entries.keys().map(Key::table).collect();
    let mut expected = [KEPT.as_slice(), &["rotation", "signing_key", "signing_key"]].concat();
    expected.sort_unstable();
    assert_eq!(tables, expected);
}

/// A new table does not pass before somebody has decided what a restore does with it.
#[test]
fn each_table_of_the_broker_is_either_taken_over_or_left_behind() {
    let mut undecided = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for file in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            if file.is_dir() {
                folders.push(file);
            } else if !file.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&file).unwrap();
                let named = text.split("const TABLE: &'static str = \"").skip(1);
                let tables = named.filter_map(|rest| rest.split('"').next()).map(str::to_owned);
                let decided =
                    |table: &str| [KEPT.as_slice(), &JUDGED, &LEFT_BEHIND].iter().any(|list| list.contains(&table));
                undecided.extend(tables.filter(|table| !decided(table)));
            }
        }
    }
    assert_eq!(undecided, [""; 0]);
}
