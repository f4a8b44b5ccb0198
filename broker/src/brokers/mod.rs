//! The brokers of one store: who lives, and which of them does what one does for all.
//!
//! Every broker has a record under its own id and writes it anew with each heartbeat. For the others it lives for as long
//! as it does that: one whose record stays the same for more than [`Pace::missed`] heartbeats *of the one who judges* is
//! gone. Nobody compares clocks, and while the store does not answer nobody ages, because nobody's heart beats. A broker
//! that stops deletes its record, and is gone at once.
//!
//! What need not be done twice (sweeping, posting logouts, moving rotations) is done by the broker that has the duty. It is
//! taken by compare-and-swap when nobody who lives has it. It saves work and no more: whatever is done under it is safe
//! when two brokers do it for a moment.
//!
//! A broker on the embedded store is [alone](Brokers::alone): it writes nothing, and the duty is its own.

mod presence;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::clock::Timestamp;
use crate::storage::table::{Stored, Table, decode};
use crate::storage::{Expect, Store, StoreError, Watch, WatchEvent};

pub use record::{BrokerId, StoredBroker};

use presence::{Change, Presence};
use record::StoredDuty;

/// How fast brokers notice that another is gone.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// So many may be missed.
    pub missed: u32,
}

impl Pace {
    /// A broker that was killed is gone after 15 to 20 seconds.
    pub const USUAL: Self = Self { heartbeat: Duration::from_secs(5), missed: 3 };
}

/// The brokers of this store.
#[derive(Clone, Debug)]
pub struct Brokers(Arc<Known>);

#[derive(Debug)]
struct Known {
    me: BrokerId,
    own: Mutex<StoredBroker>,
    /// Without them, this broker is alone.
    tables: Option<Tables>,
    pace: Pace,
    others: Mutex<Presence>,
    /// The others that live.
    living: watch::Sender<Arc<BTreeMap<BrokerId, StoredBroker>>>,
    holder: watch::Sender<Option<BrokerId>>,
    on_duty: watch::Sender<bool>,
    cut_off: watch::Sender<bool>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Tables {
    brokers: Table<StoredBroker>,
    duties: Table<StoredDuty>,
}

impl Default for Brokers {
    fn default() -> Self {
        Self::alone(StoredBroker::new("", Timestamp::from_secs(0)))
    }
}

impl Brokers {
    /// Of a store that nobody else can open.
    pub fn alone(own: StoredBroker) -> Self {
        Self::new(own, None, Pace::USUAL)
    }

    /// Whether nobody else can open the store.
    pub fn are_alone(&self) -> bool {
        self.0.tables.is_none()
    }

    /// Joins the brokers of a store. The future gives signs of life and listens to those of others; it must be run.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn join(
        store: Arc<dyn Store>,
        own: StoredBroker,
        pace: Pace,
    ) -> Result<(Self, impl Future<Output = ()> + Send), StoreError> {
        let tables = Tables { brokers: Table::new(store.clone()), duties: Table::new(store) };
        // Begun before the tables are read, so that no change falls between.
        let (signs, duties) = (tables.brokers.watch().await?, tables.duties.watch().await?);
        let brokers = Self::new(own, Some(tables), pace);
        let Some(tables) = &brokers.0.tables else { return Err(StoreError::Conflict) };
        brokers.give_sign(tables, 0).await?;
        brokers.read(tables).await?;
        brokers.look_after_duty(tables).await;
        let others = brokers.0.living.borrow().len();
        info!(broker = %brokers.0.me, others, "this broker has joined those of its store");
        Ok((brokers.clone(), brokers.follow(signs, duties)))
    }

    fn new(own: StoredBroker, tables: Option<Tables>, pace: Pace) -> Self {
        let (me, alone) = (BrokerId::generate(), tables.is_none());
        Self(Arc::new(Known {
            me,
            own: Mutex::new(own),
            tables,
            pace,
            others: Mutex::default(),
            living: watch::Sender::default(),
            holder: watch::Sender::new(alone.then_some(me)),
            on_duty: watch::Sender::new(alone),
            cut_off: watch::Sender::new(false),
            stopping: AtomicBool::new(false),
        }))
    }

    /// This broker.
    pub fn me(&self) -> BrokerId {
        self.0.me
    }

    /// Whether a broker runs, as far as this one can know.
    pub fn lives(&self, broker: BrokerId) -> bool {
        broker == self.0.me || self.0.living.borrow().contains_key(&broker)
    }

    /// Whether other brokers run.
    pub fn has_company(&self) -> bool {
        !self.0.living.borrow().is_empty()
    }

    /// Wakes whenever another broker has come or gone.
    pub fn changes(&self) -> watch::Receiver<Arc<BTreeMap<BrokerId, StoredBroker>>> {
        self.0.living.subscribe()
    }

    /// Whether this broker does what one does for all.
    pub fn duty(&self) -> watch::Receiver<bool> {
        self.0.on_duty.subscribe()
    }

    /// Whether the others take it that this broker is gone, because it does not reach the store: nobody should rely on what
    /// it knows, least of all an agent that could be with one of them.
    pub fn cut_off(&self) -> watch::Receiver<bool> {
        self.0.cut_off.subscribe()
    }

    /// Who does it.
    pub fn on_duty(&self) -> Option<BrokerId> {
        *self.0.holder.borrow()
    }

    /// All brokers that live, this one among them.
    pub fn all(&self) -> BTreeMap<BrokerId, StoredBroker> {
        let mut all = BTreeMap::clone(&self.0.living.borrow());
        all.insert(self.0.me, self.own().clone());
        all
    }

    /// What ops are to do about this broker: the others hear it with its next sign of life.
    pub fn set_remark(&self, remark: Option<String>) {
        self.own().remark = remark;
    }

    fn own(&self) -> MutexGuard<'_, StoredBroker> {
        // Nothing panics while it is held.
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets another broker have the duty, because this one is about to stop.
    pub async fn give_up_duty(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        let Some(tables) = &self.0.tables else { return };
        self.0.on_duty.send_replace(false);
        let given_up = async {
            let held = tables.duties.get(StoredDuty::ALL).await?;
            let Some(held) = held.filter(|held| held.record.broker == self.0.me) else { return Ok(()) };
            let write = tables.duties.delete(StoredDuty::ALL, Expect::Version(held.version));
            tables.duties.commit(vec![write]).await.map(drop)
        };
        if let Err::<(), StoreError>(error) = given_up.await {
            warn!(%error, "the duty could not be given up; another broker takes it when this one is gone");
        }
    }

    /// Says that this broker is gone: the last that it does, when nobody follows the store for it any more.
    pub async fn leave(&self) {
        self.give_up_duty().await;
        let Some(tables) = &self.0.tables else { return };
        let write = tables.brokers.delete(&self.0.me.to_string(), Expect::Any);
        if let Err(error) = tables.brokers.commit(vec![write]).await {
            warn!(%error, "the other brokers could not be told; they will notice");
        }
    }

    async fn follow(self, mut signs: Watch, mut duties: Watch) {
        let Some(tables) = &self.0.tables else { return };
        let (mut beat, mut unheard) = (0, 0);
        let mut heart = tokio::time::interval(self.0.pace.heartbeat);
        // A process that was held up has not slept through the others' heartbeats: it beats once, and listens.
        heart.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        heart.reset();
        loop {
            tokio::select! {
                // What was said in the meantime is heard before anybody ages.
                biased;
                event = signs.next() => match event {
                    Some(WatchEvent::Changed { key, value, .. }) => self.hear(key.id(), value.as_deref()),
                    Some(WatchEvent::Reload) => self.reload(tables).await,
                    None => return,
                },
                event = duties.next() => match event {
                    Some(WatchEvent::Changed { value, .. }) => self.note_holder(value.and_then(|it| decode(&it).ok())),
                    Some(WatchEvent::Reload) => self.reload(tables).await,
                    None => return,
                },
                _ = heart.tick() => {
                    beat += 1;
                    unheard = if self.beat(tables, beat).await { 0 } else { unheard + 1 };
                    let gone = unheard > self.0.pace.missed;
                    self.0.cut_off.send_if_modified(|known| {
                        let cut_off = gone && self.has_company();
                        std::mem::replace(known, cut_off) != cut_off
                    });
                    if gone {
                        // The others take it that this one is gone.
                        self.0.on_duty.send_if_modified(std::mem::take);
                        continue;
                    }
                }
            }
            self.look_after_duty(tables).await;
        }
    }

    /// Gives a sign of life, and with it everybody else is a heartbeat older. Says whether it was given.
    async fn beat(&self, tables: &Tables, beat: u64) -> bool {
        if let Err(error) = self.give_sign(tables, beat).await {
            warn!(%error, "no sign of life could be given to the other brokers; trying again");
            return false;
        }
        self.age(tables).await;
        true
    }

    async fn give_sign(&self, tables: &Tables, beat: u64) -> Result<(), StoreError> {
        let own = StoredBroker { beat, ..self.own().clone() };
        let write = tables.brokers.put(&self.0.me.to_string(), &own, Expect::Any)?;
        tables.brokers.commit(vec![write]).await.map(drop)
    }

    /// A record changed.
    fn hear(&self, id: &str, value: Option<&[u8]>) {
        let Ok(id) = id.parse::<BrokerId>() else { return };
        if id == self.0.me {
            return;
        }
        let change = match value.map(decode::<StoredBroker>) {
            Some(Ok(record)) => self.others().heard(id, record),
            Some(Err(error)) => {
                warn!(broker = %id, %error, "what another broker says of itself cannot be read");
                return;
            }
            None => self.others().left(id),
        };
        self.tell(change);
    }

    async fn reload(&self, tables: &Tables) {
        if let Err(error) = self.read(tables).await {
            warn!(%error, "the brokers of the store cannot be read; their next signs of life will tell");
        }
    }

    async fn read(&self, tables: &Tables) -> Result<(), StoreError> {
        let mut there = BTreeMap::new();
        for (id, Stored { record, .. }) in tables.brokers.all().await? {
            if let Some(id) = id.parse().ok().filter(|id| *id != self.0.me) {
                there.insert(id, record);
            }
        }
        let change = self.others().are(there);
        self.tell(change);
        self.note_holder(tables.duties.get(StoredDuty::ALL).await?.map(|stored| stored.record));
        Ok(())
    }

    async fn age(&self, tables: &Tables) {
        let change = self.others().age(self.0.pace.missed);
        self.tell(change);
        if !*self.0.on_duty.borrow() {
            return;
        }
        let gone = self.others().gone();
        for (id, beat) in gone {
            if let Err(error) = bury(tables, id, beat).await {
                debug!(broker = %id, %error, "the record of a broker that is gone stays for now");
            }
        }
    }

    fn tell(&self, change: Change) {
        if change == Change::Nothing {
            return;
        }
        let living = self.others().living();
        let before = self.0.living.send_replace(Arc::new(living.clone()));
        for (id, broker) in living.iter().filter(|(id, _)| !before.contains_key(id)) {
            info!(broker = %id, name = broker.name, version = broker.version, "another broker is there");
        }
        for (id, broker) in before.iter().filter(|(id, _)| !living.contains_key(id)) {
            if self.others().vanished(*id) {
                warn!(broker = %id, name = broker.name, "another broker has vanished: it was killed, or does not reach the store");
            } else {
                info!(broker = %id, name = broker.name, "another broker was stopped");
            }
        }
    }

    fn note_holder(&self, duty: Option<StoredDuty>) {
        self.0.holder.send_replace(duty.map(|duty| duty.broker));
    }

    /// Takes the duty if nobody who lives has it, and does not have it any more if somebody else does.
    async fn look_after_duty(&self, tables: &Tables) {
        let stopping = self.0.stopping.load(Ordering::Relaxed);
        let vacant = self.on_duty().is_none_or(|holder| !self.lives(holder));
        if vacant && !stopping {
            match self.take_duty(tables).await {
                Ok(holder) => drop(self.0.holder.send_replace(Some(holder))),
                // A broker that is faster says so in a moment.
                Err(StoreError::Conflict) => {}
                Err(error) => warn!(%error, "the duty of a broker that is gone cannot be taken; trying again"),
            }
        }
        let on_duty = !stopping && self.on_duty() == Some(self.0.me);
        if self.0.on_duty.send_if_modified(|known| std::mem::replace(known, on_duty) != on_duty) {
            let what = if on_duty { "takes over" } else { "gives up" };
            info!("this broker {what} what one broker does for all: sweeping, posting logouts, moving rotations");
        }
    }

    async fn take_duty(&self, tables: &Tables) -> Result<BrokerId, StoreError> {
        let held = tables.duties.get(StoredDuty::ALL).await?;
        let expect = match &held {
            Some(held) if self.lives(held.record.broker) => return Ok(held.record.broker),
            Some(held) => Expect::Version(held.version),
            None => Expect::Absent,
        };
        let write = tables.duties.put(StoredDuty::ALL, &StoredDuty { broker: self.0.me }, expect)?;
        tables.duties.commit(vec![write]).await?;
        Ok(self.0.me)
    }

    fn others(&self) -> MutexGuard<'_, Presence> {
        // Nothing panics while it is held; what is in there is right in any case.
        self.0.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the machine calls itself: for ops, who have several.
pub fn host_name() -> String {
    // Not from /proc, which a hardened unit does not see.
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Deletes the record of a broker that is gone, unless it has given a sign of life after all.
async fn bury(tables: &Tables, id: BrokerId, beat: u64) -> Result<(), StoreError> {
    let stored = tables.brokers.get(&id.to_string()).await?;
    let Some(stored) = stored.filter(|stored| stored.record.beat == beat) else { return Ok(()) };
    let write = tables.brokers.delete(&id.to_string(), Expect::Version(stored.version));
    tables.brokers.commit(vec![write]).await.map(drop)
}
