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

/// Account and certificate, for all brokers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoredAcme {
    /// Whose the account is.
    pub(super) directory: String,
    /// The account's name and key, as the library writes them, sealed for [`Purpose::AcmeAccount`].
    pub(super) account: Option<Sealed>,
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
    /// after two thirds of the life of the one there is; never before the pause after a try has passed.
    pub(super) fn due_at(&self, host: &str, directory: &str) -> Timestamp {
        let held = self.certificate.as_ref().filter(|held| held.host == host && held.directory == directory);
        let due = held.filter(|_| !self.wanted).map_or(Timestamp::from_secs(0), StoredCertificate::renew_at);
        self.not_before.map_or(due, |earliest| earliest.max(due))
    }

    /// A try that begins now.
    pub(super) fn tried(self, directory: &str, now: Timestamp) -> Self {
        let pause = FIRST_PAUSE.saturating_mul(3_u32.saturating_pow(self.tries)).min(LONGEST_PAUSE);
        let account = self.account.filter(|_| self.directory == directory);
        let (directory, not_before) = (directory.to_owned(), Some(now + pause));
        Self { directory, account, tries: self.tries.saturating_add(1), not_before, ..self }
    }

    /// It brought this.
    pub(super) fn got(self, certificate: StoredCertificate) -> Self {
        let certificate = Some(certificate);
        Self { certificate, tries: 0, not_before: None, failure: None, wanted: false, ..self }
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

    fn due(stored: &StoredAcme) -> i64 {
        stored.due_at("login.example.org", CA).as_secs()
    }

    #[test]
    fn it_is_renewed_at_two_thirds_of_its_life_or_when_it_is_not_the_right_one() {
        let stored = StoredAcme::default();
        assert_eq!(due(&stored), 0, "there is none");
        let stored = stored.got(certificate(900, 1800));
        assert_eq!(due(&stored), 1500);
        assert_eq!(stored.due_at("login.example.com", CA).as_secs(), 0, "the address is another one");
        assert_eq!(stored.due_at("login.example.org", "https://other.example").as_secs(), 0, "the CA is another one");
        assert_eq!(due(&stored.wanted()), 0, "ops want it");
    }

    #[test]
    fn after_a_change_of_ca_a_failure_does_not_make_the_old_certificate_the_new_ones() {
        let (other, host) = ("https://other.example", "login.example.org");
        let stored = StoredAcme::default().got(certificate(900, 1800));
        let stored = stored.tried(other, Timestamp::from_secs(1000));
        assert_eq!(stored.due_at(host, other).as_secs(), 1060, "after the pause, not at the old one's renewal");
    }

    #[test]
    fn a_ca_is_not_hammered_whatever_happens() {
        let mut stored = StoredAcme::default();
        let (mut now, mut tries) = (0, Vec::new());
        while now < 86_400 {
            tries.push(now);
            // Not even a broker that dies in each try is faster.
            stored = stored.tried(CA, Timestamp::from_secs(now));
            now = due(&stored);
        }
        assert_eq!(tries[..6], [0, 60, 240, 780, 2400, 7260], "five tries in the first hour");
        assert!(tries.len() < 12, "{tries:?}");
        assert_eq!(due(&stored.clone().wanted()), 0, "ops need not wait");
        assert_eq!(due(&stored.got(certificate(0, 900))), 600, "what worked is forgotten");
    }

    #[test]
    fn the_account_at_one_ca_is_none_at_another() {
        let account = SealingKeys::new_for_test().seal(Purpose::AcmeAccount, b"").ok();
        let stored = StoredAcme { directory: CA.to_owned(), account, ..StoredAcme::default() };
        let now = Timestamp::from_secs(0);
        assert!(stored.clone().tried(CA, now).account.is_some());
        assert!(stored.tried("https://other.example", now).account.is_none());
    }
}
