//! What is in effect as soon as it is on disk: the trust bundle (never an older one), the home directory, and a renewal
//! order, whose moment is drawn here and whose renewal `renewal` carries out.

use std::sync::Arc;
use std::time::Duration;

use homeward_certs::bundle::BundleError;
use homeward_certs::pin::SpkiPin;
use homeward_proto::v1::{HomeEntry, RenewalOrder, Resource, TrustBundle};
use thiserror::Error;

use crate::disk::DiskError;
use crate::identity::{Identity, IdentityError};
use crate::renewal::order::Orders;
use crate::resources::standing::{Refusal, Standing};
use crate::resources::wanted::{Versioned, Wanted};
use crate::{clock, random};

/// Settles what can be settled at once.
#[derive(Debug)]
pub(crate) struct Settling {
    /// Whose trust bundle it is.
    pub(crate) identity: Arc<Identity>,
    /// Where renewal orders go.
    pub(crate) orders: Arc<Orders>,
    /// Where it is written down.
    pub(crate) standing: Arc<Standing>,
}

/// Why the old one stays.
#[derive(Debug, Error)]
enum NotTaken {
    #[error("the trust bundle cannot be used ({0}); the old one stays")]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the renewal order names no CA; the broker's version may be too new for this agent")]
    Order,
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl NotTaken {
    fn reason(&self) -> &'static str {
        match self {
            Self::Bundle(_) => "TRUST_BUNDLE_UNUSABLE",
            Self::Order => "RENEWAL_ORDER_MALFORMED",
            Self::Identity(_) | Self::Disk(_) => "WRITE_FAILED",
        }
    }
}

impl Settling {
    /// Takes what has changed.
    pub(super) fn settle(&self, wanted: &Wanted) {
        self.take(Resource::TrustBundle, wanted.trust_bundle.as_ref(), |bundle| self.take_bundle(bundle));
        self.take(Resource::Homes, wanted.homes.as_ref(), |homes| Ok(self.take_homes(homes)?));
        self.take(Resource::RenewalOrder, wanted.renewal_order.as_ref(), |order| self.take_order(order));
        if let Err(error) = self.let_go(wanted) {
            tracing::error!(%error, "what the broker took back could not be forgotten");
        }
    }

    /// Writes down the revision once all of it is in effect.
    pub(super) fn complete(&self, wanted: &Wanted) {
        let applied = self.standing.applied();
        if applied.revision != wanted.revision && wanted.is_met_by(&applied.versions) {
            let now = clock::now();
            match self.standing.change(|applied| applied.complete(wanted.revision, now)) {
                Ok(()) => tracing::info!(revision = wanted.revision, "the instance uses the revision"),
                Err(error) => tracing::error!(%error, "the revision that is in effect could not be written down"),
            }
        }
    }

    fn take<T>(
        &self,
        resource: Resource,
        wanted: Option<&Versioned<T>>,
        take: impl FnOnce(&T) -> Result<(), NotTaken>,
    ) {
        let Some(Versioned { version, content }) = wanted else { return };
        let version = *version;
        if self.standing.applied().versions.of(resource) == Some(version) {
            return;
        }
        let in_effect = || Ok(self.standing.change(|applied| applied.versions.set(resource, Some(version)))?);
        if let Err(error) = take(content).and_then(|()| in_effect()) {
            let refusal = Refusal { version, reason: error.reason(), detail: error.to_string() };
            self.standing.refuse(resource, refusal, clock::now());
        }
    }

    fn take_bundle(&self, bundle: &TrustBundle) -> Result<(), NotTaken> {
        let bundle = homeward_certs::bundle::TrustBundle::new(bundle.version, bundle.certificates.clone())?;
        Ok(self.identity.trust(bundle)?)
    }

    fn take_homes(&self, homes: &[HomeEntry]) -> Result<(), DiskError> {
        let lines = homes.iter().map(|home| (home.name.clone(), home.display_name.clone())).collect();
        self.standing.change(|applied| applied.homes = lines)
    }

    fn take_order(&self, order: &RenewalOrder) -> Result<(), NotTaken> {
        let pin: [u8; 32] = order.authority_pin.as_slice().try_into().map_err(|_| NotTaken::Order)?;
        let within = order.within_duration.and_then(|within| Duration::try_from(within).ok()).unwrap_or_default();
        Ok(self.orders.take(SpkiPin::from_bytes(pin), within, clock::now(), random::fraction())?)
    }

    /// What the agent should no longer have.
    fn let_go(&self, wanted: &Wanted) -> Result<(), DiskError> {
        if wanted.taken_back.contains(&Resource::RenewalOrder) {
            self.orders.withdraw()?;
        }
        self.standing.change(|applied| {
            wanted.taken_back.iter().for_each(|resource| applied.versions.set(*resource, None));
            if wanted.taken_back.contains(&Resource::Homes) {
                applied.homes = Vec::new();
            }
        })
    }
}
