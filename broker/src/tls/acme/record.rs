//! What is kept of a CA that the broker asks for certificates, and when it is asked next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::secret::{HoldsSealed, Purpose, Sealed};
use crate::storage::table::Record;

/// The pause after the first failure; three times as long after each further one, up to the longest. Five tries in the first
/// hour are as many as public CAs let fail.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// An order takes no longer than this, what the account needs before it no longer than that, and no other broker begins a
/// try until this one can only be over.
pub(super) const ORDER: Duration = Duration::from_secs(300);
pub(super) const ACCOUNT: Duration = Duration::from_secs(120);

/// Account and certificate, for all brokers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoredAcme {
    /// Whose the account is.
    pub(super) directory: String,
    /// The account's name and key, as the library writes them, sealed for [`Purpose::AcmeAccount`].
    pub(super) account: Option<Sealed>,
    /// Where the CA was told that it reaches who has the account.
    #[serde(default)]
    pub(super) contact: Vec<String>,
    /// What was got last.
    pub(super) certificate: Option<StoredCertificate>,
    /// Tries since then: counted when they begin, so that one that never ends counts, too.
    pub(super) tries: u32,
    /// No try begins before this.
    pub(super) not_before: Option<Timestamp>,
    /// Why the last one failed.
    pub(super) failure: Option<String>,
    /// Ops do not want to wait for the time of renewal.
    #[serde(default)]
    pub(super) wanted: bool,
}

/// A certificate from the CA.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredCertificate {
    /// Whose it is.
    pub(super) host: String,
    /// Of the CA that it is from: after a change that is another one than the one that is asked now.
    pub(super) directory: String,
    /// Leaf first, as PEM.
    pub(super) chain: String,
    /// PKCS#8 (DER), sealed for [`Purpose::ServerKey`].
    pub(super) private_key: Sealed,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Record for StoredAcme {
    const TABLE: &'static str = "acme";
}

impl HoldsSealed for StoredAcme {
    fn sealed(&mut self) -> Vec<(Purpose, &mut Sealed)> {
        let account = self.account.as_mut().map(|account| (Purpose::AcmeAccount, account));
        let key = self.certificate.as_mut().map(|got| (Purpose::ServerKey, &mut got.private_key));
        account.into_iter().chain(key).collect()
    }
}

impl StoredAcme {
    /// There is one public address.
    pub(super) const ID: &'static str = "public";

    /// When a certificate is to be asked for: when there is none for this host from this CA, when ops want it, and otherwise
    /// after two thirds of the life of the one there is; never before the pause after a try has passed. A pause that is
    /// longer than any is of a clock that was wrong, and none.
    pub(super) fn due_at(&self, host: &str, directory: &str, now: Timestamp) -> Timestamp {
        let held = self.certificate.as_ref().filter(|held| held.host == host && held.directory == directory);
        let due = held.filter(|_| !self.wanted).map_or(Timestamp::from_secs(0), StoredCertificate::renew_at);
        let earliest = self.not_before.filter(|earliest| *earliest <= now + LONGEST_PAUSE);
        earliest.map_or(due, |earliest| earliest.max(due))
    }

    /// A try that begins now. Until it can only be over, no other one begins.
    pub(super) fn tried(self, directory: &str, now: Timestamp) -> Self {
        let not_before = Some(now + pause(self.tries).max(ACCOUNT + ORDER));
        let account = self.account.filter(|_| self.directory == directory);
        let directory = directory.to_owned();
        Self { directory, account, tries: self.tries.saturating_add(1), not_before, ..self }
    }

    /// That try, which is as it was when it began, brought this. Where another broker has put a younger one, that stays.
    ///
    /// What is to be renewed on arrival is shown, and no success: the next try is as far away as after a failure. It would
    /// come out the same, and a public CA counts what it gives.
    pub(super) fn got(self, certificate: StoredCertificate, begun: &Begun, now: Timestamp) -> Self {
        let is_younger = |held: &StoredCertificate| {
            (&held.host, &held.directory) == (&certificate.host, &certificate.directory)
                && held.not_before > certificate.not_before
        };
        if self.certificate.as_ref().is_some_and(is_younger) {
            return self;
        }
        if certificate.renew_at() > now {
            let certificate = Some(certificate);
            return Self { certificate, tries: 0, not_before: None, failure: None, wanted: false, ..self };
        }
        let (from, until) = (certificate.not_before, certificate.not_after);
        let failure = format!(
            "what it gave, good from {from} until {until}, would have to be renewed at once: is this machine's clock right?"
        );
        let (not_before, tries) = (Some(begun.next_at()), begun.tries);
        Self { certificate: Some(certificate), tries, not_before, failure: Some(failure), wanted: false, ..self }
    }

    /// That try, which is as it was when it began, brought nothing, for this reason. What others did meanwhile counts more.
    pub(super) fn failed(self, reason: String, gives_up_account: bool, begun: &Begun) -> Self {
        let chain = |held: &StoredCertificate| held.chain.clone();
        if self.tries != begun.tries || self.certificate.as_ref().map(chain) != begun.chain {
            return self;
        }
        let account = self.account.filter(|_| !gives_up_account);
        // Whoever wants one now has taken the pause away.
        let not_before = self.not_before.map(|_| begun.next_at());
        Self { account, not_before, failure: Some(reason), ..self }
    }

    /// Ops do not want to wait, neither for the time of renewal nor for the pause after a failure.
    pub(super) fn wanted(self) -> Self {
        Self { wanted: true, not_before: None, ..self }
    }
}

impl StoredCertificate {
    fn renew_at(&self) -> Timestamp {
        self.not_before + self.not_after.since(self.not_before) / 3 * 2
    }
}

/// A try, as it was when it began.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    at: Timestamp,
    /// It among them.
    tries: u32,
    /// The certificate that there was.
    chain: Option<String>,
}

impl Begun {
    /// With which this was written down.
    pub(super) fn of(record: &StoredAcme, at: Timestamp) -> Self {
        Self { at, tries: record.tries, chain: record.certificate.as_ref().map(|held| held.chain.clone()) }
    }

    /// When the next one begins if nothing comes of this one.
    fn next_at(&self) -> Timestamp {
        self.at + pause(self.tries.saturating_sub(1))
    }
}

/// After a try before which there were so many.
fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(3_u32.saturating_pow(tries)).min(LONGEST_PAUSE)
}

/// What answers a CA's question (RFC 8737), whichever broker it asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredChallenge {
    /// SHA-256 of the key authorization, as base64url.
    pub(super) digest: String,
    pub(super) expires_at: Timestamp,
}

impl Record for StoredChallenge {
    const TABLE: &'static str = "acme_challenge";

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SealingKeys;

    const CA: &str = "https://ca.example/dir";

    fn certificate(from: i64, until: i64) -> StoredCertificate {
        StoredCertificate {
            host: "login.example.org".to_owned(),
            directory: CA.to_owned(),
            chain: String::new(),
            private_key: SealingKeys::new_for_test().seal(Purpose::ServerKey, b"").unwrap(),
            not_before: Timestamp::from_secs(from),
            not_after: Timestamp::from_secs(until),
        }
    }

    const HOST: &str = "login.example.org";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn due(stored: &StoredAcme) -> i64 {
        due_of(stored, HOST, CA)
    }

    fn due_of(stored: &StoredAcme, host: &str, directory: &str) -> i64 {
        stored.due_at(host, directory, at(1000)).as_secs()
    }

    /// A try that begins then.
    fn begin(stored: StoredAcme, directory: &str, now: i64) -> (StoredAcme, Begun) {
        let stored = stored.tried(directory, at(now));
        let begun = Begun::of(&stored, at(now));
        (stored, begun)
    }

    fn get(stored: StoredAcme, certificate: StoredCertificate, now: i64) -> StoredAcme {
        let (stored, begun) = begin(stored, CA, now);
        stored.got(certificate, &begun, at(now))
    }

    fn fail(stored: StoredAcme, directory: &str, now: i64) -> StoredAcme {
        let (stored, begun) = begin(stored, directory, now);
        stored.failed("the CA is away".to_owned(), false, &begun)
    }

    #[test]
    fn it_is_renewed_at_two_thirds_of_its_life_or_when_it_is_not_the_right_one() {
        let stored = StoredAcme::default();
        assert_eq!(due(&stored), 0, "there is none");
        let stored = get(stored, certificate(900, 1800), 1000);
        assert_eq!(due(&stored), 1500);
        assert_eq!(due_of(&stored, "login.example.com", CA), 0, "the address is another one");
        assert_eq!(due_of(&stored, HOST, "https://other.example"), 0, "the CA is another one");
        assert_eq!(due(&stored.wanted()), 0, "ops want it");
    }

    #[test]
    fn after_a_change_of_ca_a_failure_does_not_make_the_old_certificate_the_new_ones() {
        let other = "https://other.example";
        let stored = get(StoredAcme::default(), certificate(900, 1800), 1000);
        let stored = fail(stored, other, 1000);
        assert_eq!(due_of(&stored, HOST, other), 1060, "after the pause, not at the old one's renewal");
    }

    #[test]
    fn a_ca_is_not_hammered_whatever_happens() {
        type Ending = fn(StoredAcme, &Begun) -> StoredAcme;
        // Nothing comes of any try; each broker dies in its try; what comes is old already.
        let endings: [(&str, Ending); 3] = [
            ("fails", |stored, begun| stored.failed(String::new(), false, begun)),
            ("dies", |stored, _| stored),
            ("old", |stored, begun| {
                stored.got(certificate(begun.at.as_secs() - 700, begun.at.as_secs() + 200), begun, begun.at)
            }),
        ];
        for (name, ending) in endings {
            let (mut stored, mut now, mut tries) = (StoredAcme::default(), 0, Vec::new());
            while now < 86_400 {
                tries.push(now);
                let (tried, begun) = begin(stored, CA, now);
                stored = ending(tried, &begun);
                now = stored.due_at(HOST, CA, at(now)).as_secs();
            }
            let expected = if name == "dies" { [0, 420, 840, 1380, 3000, 7860] } else { [0, 60, 240, 780, 2400, 7260] };
            assert_eq!(tries[..6], expected, "{name}: five tries in the first hour");
            assert!(tries.len() < 12, "{name}: {tries:?}");
            assert_eq!(due(&stored.clone().wanted()), 0, "{name}: ops need not wait");
            let got = get(stored, certificate(90_000, 90_900), 90_000);
            assert_eq!((got.due_at(HOST, CA, at(90_000)).as_secs(), got.tries), (90_600, 0), "{name} is forgotten");
        }
    }

    #[test]
    fn what_is_old_on_arrival_is_kept_and_told() {
        let stored = get(StoredAcme::default(), certificate(100, 1000), 800);
        assert!(stored.certificate.is_some() && !stored.wanted);
        assert!(stored.failure.as_ref().unwrap().contains("is this machine's clock right?"));
        assert_eq!(due(&stored), 860);
    }

    #[test]
    fn the_pause_of_a_clock_that_was_wrong_is_none() {
        let stored = fail(StoredAcme::default(), CA, 500_000);
        assert_eq!(stored.due_at(HOST, CA, at(500_000)).as_secs(), 500_060);
        assert_eq!(due(&stored), 0);
    }

    #[test]
    fn no_other_broker_begins_while_an_order_may_be_under_way() {
        let (stored, begun) = begin(StoredAcme::default(), CA, 1000);
        assert_eq!(due(&stored), 1420);
        // It was over sooner.
        assert_eq!(due(&stored.clone().failed(String::new(), false, &begun)), 1060);
        // And ops did not want to wait for that.
        let wanted = stored.wanted().failed("no".to_owned(), false, &begun);
        assert_eq!((due(&wanted), wanted.failure.as_deref()), (0, Some("no")));
    }

    #[test]
    fn who_comes_late_with_a_failure_or_an_older_certificate_changes_nothing() {
        let (stored, late) = begin(StoredAcme::default(), CA, 1000);
        let stored = get(stored, certificate(1290, 2190), 1300);
        let after = stored.clone().failed("the answer was another broker's".to_owned(), true, &late);
        assert_eq!((after.failure.as_ref(), due(&after)), (None, 1890));
        let after = stored.got(certificate(1000, 1900), &late, at(1310));
        assert_eq!(after.certificate.unwrap().not_before, at(1290));
        // Nor does one whose successor has begun.
        let (stored, late) = begin(StoredAcme::default(), CA, 1000);
        let (stored, _) = begin(stored, CA, 1300);
        assert_eq!(due(&stored.clone().failed("late".to_owned(), false, &late)), due(&stored));
    }

    #[test]
    fn the_account_at_one_ca_is_none_at_another_and_one_that_is_given_up_is_none() {
        let account = SealingKeys::new_for_test().seal(Purpose::AcmeAccount, b"").ok();
        let stored = StoredAcme { directory: CA.to_owned(), account, ..StoredAcme::default() };
        let (tried, begun) = begin(stored.clone(), CA, 0);
        assert!(tried.account.is_some());
        assert!(tried.clone().failed(String::new(), false, &begun).account.is_some());
        assert!(tried.failed(String::new(), true, &begun).account.is_none());
        assert!(stored.tried("https://other.example", at(0)).account.is_none());
    }
}
