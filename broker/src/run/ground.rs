//! What every flow and every surface stands on, opened from the store up.

use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::tables::SEALED;
use super::{Listeners, RunError};
use crate::audit::{Audit, Event, Kind};
use crate::authority::Authority;
use crate::brokers::{self, Brokers, StoredBroker};
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Config, Current, Federation, InForce};
use crate::keys::KeySet;
use crate::outbound::{self, Outbound};
use crate::registry::{Liveness, Registry, SubjectKey};
use crate::secret::{self, KeyEncryptionKeys, KeyTurn, SealingKeys, TurnFoundations};
use crate::storage::address::StoreAddress;
use crate::storage::measured::Measured;
use crate::storage::schema::{self, Step, StepPage};
use crate::storage::{Store, StoreError};
use crate::telemetry::Telemetry;
use crate::tls::acme::AcmeFoundations;
use crate::tls::{self, PublicTls};

/// The ground. Copies are the same.
#[derive(Clone)]
pub(super) struct Ground {
    /// Where everything is written.
    pub(super) store: Arc<dyn Store>,
    /// Seals keys, secrets, codes and tokens.
    pub(super) sealing: Arc<SealingKeys>,
    /// The keys that seal, on the move.
    pub(super) key_turn: KeyTurn,
    /// Where decisions are noted.
    pub(super) audit: Audit,
    /// What the brokers agree on.
    pub(super) settings: InForce,
    /// The same, as this broker started with it.
    pub(super) federation: Federation,
    /// What tokens are signed with.
    pub(super) keys: KeySet,
    /// The CA.
    pub(super) authority: Arc<Authority>,
    /// What subjects are made with.
    pub(super) subjects: SubjectKey,
    /// Who is who.
    pub(super) registry: Registry,
    /// This one and the others.
    pub(super) brokers: Brokers,
    /// What agents have said, and when they were last seen.
    pub(super) liveness: Liveness,
    /// The way to applications.
    pub(super) outbound: Outbound,
    /// The certificate of the public address.
    pub(super) public_tls: PublicTls,
    /// Where it is counted who calls what.
    pub(super) telemetry: Telemetry,
    /// The time.
    pub(super) clock: Clock,
}

impl Ground {
    /// Opens it. The future keeps all of it as others change it, and must be run.
    ///
    /// # Errors
    /// When there is something that this broker may not, or cannot, start with.
    pub(super) async fn open(
        config: &Config,
        store: Arc<dyn Store>,
        listeners: &Listeners,
        clock: Clock,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), RunError> {
        let (store, telemetry) = open_store(config, store).await?;
        let keks = KeyEncryptionKeys::load(config.kek.clone()).await?;
        secret::adopt(&store, &keks, SEALED, clock.now()).await?;
        let (sealing, follow_sealing) = SealingKeys::load(&store, keks.clone(), &brokers::host_name()).await?;
        // Whoever cannot open the store changes nothing in it, and is nobody's company.
        let audit = Audit::open(&store, &config.audit, &brokers::host_name(), clock.clone()).await?;
        audit.note(Event::new(Kind::BrokerStarted).object(env!("CARGO_PKG_VERSION")));
        let (settings, changed, follow_settings) =
            config::agree(&store, &config.named, &brokers::host_name(), clock.clone()).await?;
        if let Some(changes) = changed {
            audit.note(Event::new(Kind::SettingsChanged).detail(changes));
        }
        let (federation, kept) = (settings.federation(), settings.clone());
        let kept = Current::of(move || kept.longest_sealed());
        let turn = TurnFoundations {
            store: store.clone(),
            sealing: sealing.clone(),
            keks: keks.clone(),
            tables: SEALED,
            kept,
        };
        let key_turn = KeyTurn::new(turn);
        let (keys, keep_keys_fresh) = KeySet::open(store.clone(), sealing.clone()).await?;
        let (authority, follow_authority) =
            Authority::open(&store, &sealing, &federation.trust_domain, federation.agent_host(), clock.clone()).await?;
        let subjects = SubjectKey::load(&store, &sealing).await?;
        let (registry, keep_registry_fresh) = Registry::open_with_console(store.clone(), &federation.issuer).await?;
        let (brokers, stay) = meet(config, &store, about(listeners, &keks, clock.now())).await?;
        let (liveness, keep_reports) = Liveness::open(store.clone(), brokers.clone()).await?;
        let client_trusting = |roots| {
            let (issuer, private_networks) = (federation.issuer.clone(), federation.private_networks.clone());
            Outbound::new(outbound::Settings { issuer, private_networks, roots }, registry.clone(), clock.clone())
        };
        let outbound = client_trusting(outbound::roots("outbound.ca_file", config.outbound_ca_file.as_deref())?)?;
        let certificate = config.https.as_ref().map(|https| &https.certificate);
        let asking = AcmeFoundations {
            store: store.clone(),
            sealing: sealing.clone(),
            outbound: client_trusting(tls::roots_of(certificate)?)?,
            on_duty: brokers.duty(),
            audit: audit.clone(),
            clock: clock.clone(),
        };
        let (public_tls, follow_certificate) = PublicTls::open(certificate, &federation.issuer, asking).await?;
        let ground = Self {
            store,
            sealing,
            key_turn,
            audit,
            settings,
            federation,
            keys,
            authority,
            subjects,
            registry,
            brokers,
            liveness,
            outbound,
            public_tls,
            telemetry,
            clock,
        };
        let (this, remark) = (ground.clone(), ground.remark());
        // Boxed: many loops make a large future.
        let keep = Box::pin(async move {
            tokio::join!(
                follow_sealing,
                follow_settings,
                this.settings.on_change(|_| this.brokers.set_remark(remark.now())),
                this.public_tls.on_change(|_| this.brokers.set_remark(remark.now())),
                follow_certificate,
                this.key_turn.forget_retired(this.clock.clone()),
                keep_registry_fresh,
                keep_reports,
                keep_keys_fresh,
                follow_authority,
                stay
            );
        });
        Ok((ground, keep))
    }

    /// What is not as it should be. Strangers are told that there is something, and ops what it is.
    fn remark(&self) -> Current<Option<String>> {
        let (for_all, tls) = (self.remark_for_all(), self.public_tls.clone());
        Current::of(move || joined([for_all.now(), tls.remark()]))
    }

    /// What strangers are told of it.
    pub(super) fn public_remark(&self) -> Current<Option<String>> {
        let (for_all, tls) = (self.remark_for_all(), self.public_tls.clone());
        Current::of(move || joined([for_all.now(), tls.public_remark()]))
    }

    /// What is not as it should be with the settings and the signing keys.
    fn remark_for_all(&self) -> Current<Option<String>> {
        let (settings, keys) = (self.settings.clone(), self.keys.clone());
        Current::of(move || joined([settings.restart_needed(), keys.remark()]))
    }
}

fn joined(remarks: [Option<String>; 2]) -> Option<String> {
    remarks.into_iter().flatten().reduce(|a, b| format!("{a}; {b}"))
}

/// Opens the store, as of this program's version, and counts from now on what it does.
async fn open_store(config: &Config, store: Arc<dyn Store>) -> Result<(Arc<dyn Store>, Telemetry), RunError> {
    schema::open(&store, &upgrade()).await?;
    let store = match config.store {
        // Nobody else opens it.
        StoreAddress::Sled(_) => store,
        StoreAddress::Etcd { .. } => schema::hold(store).await?,
    };
    let telemetry = Telemetry::new()?;
    let store: Arc<dyn Store> = Measured::new(store, telemetry.clone());
    Ok((store, telemetry))
}

/// What brings an older store to this program's version. Version 2 has the federation's settings, which every start writes,
/// and this record. Version 3 has edges that lack a consent, and links of users: an older broker would let users in by the
/// ones, and write records back without what it does not know of the others.
fn upgrade() -> [Step<'static>; 2] {
    [2, 3].map(|to| Step::new(to, |_| Box::pin(async { Ok(StepPage::default()) })))
}

/// What this broker says of itself.
fn about(listeners: &Listeners, keks: &KeyEncryptionKeys, now: Timestamp) -> StoredBroker {
    let at = |listener: &TcpListener| listener.local_addr().map_or_else(|_| String::new(), |at| at.to_string());
    let mut own = StoredBroker::new(&brokers::host_name(), now);
    own.addresses = (listeners.public.addresses(), at(&listeners.grpc));
    own.keys = (keks.current.id().to_string(), keks.previous.as_ref().map(|kek| kek.id().to_string()));
    own
}

/// Joins the other brokers of the store, if there can be any.
async fn meet(
    config: &Config,
    store: &Arc<dyn Store>,
    own: StoredBroker,
) -> Result<(Brokers, Pin<Box<dyn Future<Output = ()> + Send>>), StoreError> {
    match config.store {
        StoreAddress::Sled(_) => Ok((Brokers::alone(own), Box::pin(std::future::ready(())))),
        StoreAddress::Etcd { .. } => {
            let (brokers, stay) = Brokers::join(store.clone(), own, brokers::Pace::USUAL).await?;
            Ok((brokers, Box::pin(stay)))
        }
    }
}
