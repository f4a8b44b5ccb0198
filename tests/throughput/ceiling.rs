//! What the store does alone: the limit that logins are measured against. The embedded store is asked through its own
//! committer, an etcd by create-if-absent transactions of its own client, and then through Homeward's; all with keys that
//! did not exist and values as long as a grant's record.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use homeward_broker::storage::sled::SledStore;
use homeward_broker::storage::{Expect, Key, Store, Write};
use tokio::time::Instant;
use world::Etcd;

use crate::measure::{Load, Row};

/// Length of a value, in bytes.
const VALUE: usize = 500;

/// What a store did.
pub(crate) struct Ceiling {
    store: &'static str,
    commits: u32,
    per_second: f64,
    /// And by Homeward's client of it.
    by_homeward: Option<f64>,
}

/// Measures the store of this run.
///
/// # Errors
/// When it does not do it.
pub(crate) async fn measure(folder: &Path, etcd: Option<&Etcd>, load: Load) -> anyhow::Result<Ceiling> {
    let (store, per_second, by_homeward) = match etcd {
        None => {
            let embedded = SledStore::open(&folder.join("ceiling"))?;
            ("sled, one fsync a group", commits(&embedded, load).await?, None)
        }
        Some(etcd) => {
            let own = transactions(etcd, load).await?;
            ("etcd's own client", own, Some(by_homeward(etcd, load).await?))
        }
    };
    Ok(Ceiling { store, commits: load.connections, per_second, by_homeward })
}

impl Ceiling {
    /// A sentence on each provider whose code flows were measured.
    pub(crate) fn beside(&self, rows: &[Row]) -> String {
        let Self { store, commits, per_second, by_homeward } = self;
        let mut text = format!("The store alone ({store}, {commits} commits at a time): {per_second:.0} a second.");
        if let Some(ours) = by_homeward {
            text += &format!(" Homeward's commits: {ours:.0}, {:.0} % of that.", ours / per_second * 100.0);
        }
        for (name, flows) in rows.iter().filter_map(Row::flows) {
            text += &format!(" Code flows, {name}: {:.0} % of that.", flows / per_second * 100.0);
        }
        text
    }
}

async fn commits(store: &impl Store, load: Load) -> anyhow::Result<f64> {
    rate(load, async |name: String| {
        let write = Write { key: Key::new("ceiling", &name), expect: Expect::Absent, value: Some(vec![b'x'; VALUE]) };
        Ok(store.commit(vec![write]).await.map(drop)?)
    })
    .await
}

#[cfg(feature = "etcd")]
async fn transactions(etcd: &Etcd, load: Load) -> anyhow::Result<f64> {
    use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};
    let member = format!("http://127.0.0.1:{}", etcd.port(0));
    let kv = Client::connect([member], None).await?.kv_client();
    rate(load, async |name: String| {
        let key = format!("ceiling/{name}");
        let absent = Compare::version(key.clone(), CompareOp::Equal, 0);
        let txn = Txn::new().when([absent]).and_then([TxnOp::put(key, vec![b'x'; VALUE], None)]);
        Ok(kv.clone().txn(txn).await.map(drop)?)
    })
    .await
}

#[cfg(feature = "etcd")]
async fn by_homeward(etcd: &Etcd, load: Load) -> anyhow::Result<f64> {
    use homeward_broker::storage::address::EtcdAccess;
    use homeward_broker::storage::etcd::EtcdStore;
    let member = format!("http://127.0.0.1:{}", etcd.port(0)).parse()?;
    let store = EtcdStore::open(&[member], "by-homeward", &EtcdAccess::default()).await?;
    commits(&store, load).await
}

#[cfg(not(feature = "etcd"))]
async fn by_homeward(_etcd: &Etcd, _load: Load) -> anyhow::Result<f64> {
    anyhow::bail!("this program was built without etcd: cargo throughput --features etcd -- --etcd")
}

#[cfg(not(feature = "etcd"))]
async fn transactions(_etcd: &Etcd, _load: Load) -> anyhow::Result<f64> {
    anyhow::bail!("this program was built without etcd: cargo throughput --features etcd -- --etcd")
}

/// How often a second, with so many at a time.
async fn rate(load: Load, once: impl AsyncFn(String) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let end = begun + Duration::from_secs(load.seconds.into());
    let once = &once;
    let loops = (0..load.connections).map(async |number| {
        let mut count: u64 = 0;
        while Instant::now() < end {
            once(format!("{number}-{count}")).await?;
            count += 1;
        }
        anyhow::Ok(count)
    });
    let counts = try_join_all(loops).await?;
    Ok(counts.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
}
