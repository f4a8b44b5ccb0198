use std::time::Duration;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use homeward_broker::storage::Expect;
use tokio::time::Instant;
use world::Etcd;
use crate::place::open;
use crate::words::write;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate() {
    for three in [false, true] {
        let etcd = if three { Etcd::three().await.unwrap() } else { Etcd::one().await.unwrap() };
        let store = open(&etcd.address("homeward")).await;
        let value = "x".repeat(500);
        for (tasks, seconds) in [(1, 3), (16, 5), (64, 5), (256, 5)] {
            let done = Arc::new(AtomicU64::new(0));
            let begun = Instant::now();
            let workers: Vec<_> = (0..tasks).map(|t| {
                let (store, done, value) = (store.clone(), done.clone(), value.clone());
                tokio::spawn(async move {
                    let mut n = 0;
                    while begun.elapsed() < Duration::from_secs(seconds) {
                        store.commit(vec![write(&format!("code/{three}-{tasks}-{t}-{n}"), Expect::Absent, Some(&value))]).await.unwrap();
                        n += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            }).collect();
            for w in workers { w.await.unwrap(); }
            println!("three={three} tasks={tasks}: {:.0}/s", done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64());
        }
        // raw puts
        for tasks in [1_u64, 16, 64] {
            let done = Arc::new(AtomicU64::new(0));
            let begun = Instant::now();
            let url = etcd.address("x").trim_start_matches("etcd:").split(',').next().unwrap().trim_end_matches("/x").to_owned();
            let client = etcd_client::Client::connect([url], None).await.unwrap();
            let workers: Vec<_> = (0..tasks).map(|t| {
                let (client, done, value) = (client.clone(), done.clone(), value.clone());
                tokio::spawn(async move {
                    let mut kv = client.kv_client();
                    let mut n = 0;
                    while begun.elapsed() < Duration::from_secs(4) {
                        kv.put(format!("raw/{tasks}-{t}-{n}"), value.clone(), None).await.unwrap();
                        n += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            }).collect();
            for w in workers { w.await.unwrap(); }
            println!("three={three} raw put tasks={tasks}: {:.0}/s", done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64());
            let done = Arc::new(AtomicU64::new(0));
            let begun = Instant::now();
            let workers: Vec<_> = (0..tasks).map(|t| {
                let (client, done, value) = (client.clone(), done.clone(), value.clone());
                tokio::spawn(async move {
                    let mut kv = client.kv_client();
                    let mut n = 0;
                    while begun.elapsed() < Duration::from_secs(4) {
                        let key = format!("txn/{tasks}-{t}-{n}");
                        let txn = etcd_client::Txn::new().when([etcd_client::Compare::version(key.clone(), etcd_client::CompareOp::Equal, 0)]).and_then([etcd_client::TxnOp::put(key, value.clone(), None)]);
                        kv.txn(txn).await.unwrap();
                        n += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            }).collect();
            for w in workers { w.await.unwrap(); }
            println!("three={three} raw create tasks={tasks}: {:.0}/s", done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64());
        }
    }
}
