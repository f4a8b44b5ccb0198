//! One try to get a certificate, from its beginning in the record to what came of it there.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use instant_acme::{Account, AccountCredentials};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::audit::{Event, Kind};
use crate::secret::{Purpose, SecretError};
use crate::storage::StoreError;
use crate::storage::table::Table;
use crate::tls::acme::order::{self, OrderError};
use crate::tls::acme::record::{ACCOUNT, Begun, ORDER, StoredAcme, StoredCertificate};
use crate::tls::acme::{ANSWER, Acme, PAUSE, chain, served};

impl Acme {
    /// One try. Whatever comes of it is in the record afterwards; only the store's own failure comes back.
    pub(super) async fn order(&self) -> Result<(), StoreError> {
        let Some(begun) = self.begin().await? else { return Ok(()) };
        info!(host = self.host, ca = %self.settings.directory, "a certificate is ordered");
        let ordered = self.attempt().await;
        let cleared = self.challenges.clear().await;
        match ordered {
            Ok(got) => {
                let now = self.foundations.clock.now();
                keep(&self.table, |known| known.got(got.clone(), &begun, now)).await?;
                let obtained = Event::new(Kind::PublicCertificateObtained).object(got.host);
                self.foundations.audit.note(obtained.detail(got.not_after.to_string()));
            }
            Err(error) => {
                let (gives_up, reason) = (error.gives_up_account(), chain(&error));
                keep(&self.table, |known| known.failed(reason.clone(), gives_up, &begun)).await?;
            }
        }
        self.read().await?;
        cleared
    }

    /// Writes down that a try begins, unless it is not time any more: another broker was faster.
    async fn begin(&self) -> Result<Option<Begun>, StoreError> {
        let (now, directory) = (self.foundations.clock.now(), self.settings.directory.as_str());
        let begun = Mutex::new(None);
        let tried = |known: Option<StoredAcme>| {
            let known = known.unwrap_or_default();
            if self.due_at(&known, now) > now {
                return Err(NotNow::Later);
            }
            let tried = known.tried(directory, now);
            *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Begun::of(&tried, now));
            Ok(tried)
        };
        let written = self.table.update(StoredAcme::ID, tried).await;
        match written {
            Ok(_) => self.read().await.map(|()| begun.into_inner().unwrap_or_else(PoisonError::into_inner)),
            Err(NotNow::Later) => self.read().await.map(|()| None),
            Err(NotNow::Store(error)) => Err(error),
        }
    }

    async fn attempt(&self) -> Result<StoredCertificate, OrderError> {
        let account = self.account().await?;
        let ordered = in_time(ORDER, order::order(&account, &self.host, &self.challenges)).await?;
        let got = served(&ordered.chain, &ordered.private_key)?;
        Ok(StoredCertificate {
            host: self.host.clone(),
            directory: self.settings.directory.to_string(),
            private_key: self.foundations.sealing.seal(Purpose::ServerKey, &ordered.private_key)?,
            chain: ordered.chain,
            not_before: got.not_before(),
            not_after: got.not_after(),
        })
    }

    /// The account at the CA: a new one is kept before anything is done with it.
    async fn account(&self) -> Result<Account, OrderError> {
        let (known, sealing) = (self.known().clone(), &self.foundations.sealing);
        if let Some(sealed) = &known.account {
            let credentials = sealing.open(Purpose::AcmeAccount, sealed).map_err(OrderError::Account)?;
            let credentials = serde_json::from_slice::<AccountCredentials>(&credentials);
            let credentials = credentials.map_err(|_| OrderError::Account(SecretError::NotSealedForThis))?;
            // A contact is told in what is left of that time.
            let account = in_time(ACCOUNT - ANSWER, order::known(&self.foundations.outbound, credentials)).await?;
            if known.contact != self.settings.contact {
                self.tell_contact(&account).await?;
            }
            return Ok(account);
        }
        let (account, credentials) =
            in_time(ACCOUNT, order::register(&self.foundations.outbound, &self.settings)).await?;
        let text = Zeroizing::new(serde_json::to_vec(&credentials).map_err(instant_acme::Error::from)?);
        let sealed = sealing.seal(Purpose::AcmeAccount, &text)?;
        let contact = &self.settings.contact;
        let put = |known| StoredAcme { account: Some(sealed.clone()), contact: contact.clone(), ..known };
        keep(&self.table, put).await?;
        info!(account = account.id(), "there is an account at the CA now");
        Ok(account)
    }

    /// Where the CA does not take it there is a certificate all the same, and the next order tells it again.
    async fn tell_contact(&self, account: &Account) -> Result<(), StoreError> {
        let contact = &self.settings.contact;
        match tokio::time::timeout(ANSWER, order::tell_contact(account, contact)).await {
            Ok(Ok(())) => keep(&self.table, |known| StoredAcme { contact: contact.clone(), ..known }).await,
            Ok(Err(error)) => {
                warn!(error = chain(&error), "the CA does not take the contact of [tls.acme]");
                Ok(())
            }
            Err(_) => {
                warn!("the CA does not answer who tells it the contact of [tls.acme]");
                Ok(())
            }
        }
    }
}

/// Writes down what cannot be had again, however long the store is away: a CA counts certificates and accounts.
async fn keep(table: &Table<StoredAcme>, change: impl Fn(StoredAcme) -> StoredAcme) -> Result<(), StoreError> {
    let mut told = false;
    loop {
        let put = |known: Option<StoredAcme>| Ok::<_, StoreError>(change(known.unwrap_or_default()));
        match table.update(StoredAcme::ID, put).await {
            Ok(_) => return Ok(()),
            Err(error @ StoreError::Corrupt(_)) => return Err(error),
            Err(error) if !std::mem::replace(&mut told, true) => {
                warn!(%error, "what came of asking the CA cannot be kept yet; trying again until it is");
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn in_time<T>(within: Duration, asked: impl Future<Output = Result<T, OrderError>>) -> Result<T, OrderError> {
    tokio::time::timeout(within, asked).await.unwrap_or(Err(OrderError::TimedOut))
}

/// Why a try does not begin.
enum NotNow {
    Later,
    Store(StoreError),
}

impl From<StoreError> for NotNow {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::storage::failing::{FailingStore, Fate};
    use crate::storage::sled::SledStore;

    #[tokio::test]
    async fn what_the_ca_gave_is_kept_however_long_the_store_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(folder.path()).unwrap());
        let (tries, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counted = tries.clone();
        let away = move || match counted.fetch_add(1, Ordering::Relaxed) {
            0..2 => Fate::FailsBefore,
            // Made, and not answered: once more is the same.
            2 => Fate::FailsBehind,
            _ => Fate::Passes,
        };
        let table = Table::<StoredAcme>::new(FailingStore::new(store, away));
        let change = |known: StoredAcme| {
            seen.fetch_add(1, Ordering::Relaxed);
            StoredAcme { failure: Some("the CA is away".to_owned()), ..known }
        };
        keep(&table, change).await.unwrap();
        let kept = table.get(StoredAcme::ID).await.unwrap().unwrap().record;
        assert_eq!(kept.failure.as_deref(), Some("the CA is away"));
        assert_eq!((tries.load(Ordering::Relaxed), seen.load(Ordering::Relaxed)), (4, 4));
    }
}
