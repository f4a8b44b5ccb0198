//! A Prometheus that watches, and its `promtool`.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::federation::free_port;
use crate::process::run;

/// How long something that should be seen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server. It is killed when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    url: String,
    folder: TempDir,
}

impl Prometheus {
    /// Watches these, each with its job, and evaluates these rules all the time.
    ///
    /// # Errors
    /// When it does not start; when there is no `prometheus`.
    #[expect(clippy::disallowed_methods, reason = "throw-away files; killed on drop, whatever runtime that happens in")]
    pub async fn watching(targets: &[(&str, String)], rules: &str) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("homeward-prometheus-")?;
        let jobs = targets.iter().map(|(job, _)| *job).collect::<BTreeSet<_>>().into_iter();
        let jobs = jobs.map(|job| {
            let of_job: Vec<_> = targets.iter().filter(|(of, _)| *of == job).map(|(_, at)| at).collect();
            format!("  - job_name: {job}\n    static_configs: [{{ targets: {of_job:?} }}]\n")
        });
        // A broker whose store is away answers after two seconds, one whose store is slow after six.
        let config = format!(
            "global: {{ scrape_interval: 6s, scrape_timeout: 6s, evaluation_interval: 500ms }}\n\
             rule_files: [rules.yml]\nscrape_configs:\n{}",
            jobs.collect::<String>()
        );
        std::fs::write(folder.path().join("rules.yml"), rules)?;
        std::fs::write(folder.path().join("prometheus.yml"), config)?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let log = File::create(folder.path().join("log"))?;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={listen}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("prometheus")?;
        let server = Self { process, url: format!("http://{listen}"), folder };
        server.wait("it answers", async || server.get("/-/ready", &[]).await.is_ok()).await?;
        Ok(server)
    }

    /// The alerts that fire.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn firing(&self) -> anyhow::Result<BTreeSet<String>> {
        let answer: Value = serde_json::from_str(&self.get("/api/v1/alerts", &[]).await?)?;
        let alerts = answer["data"]["alerts"].as_array().context("alerts")?.iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        Ok(firing.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect())
    }

    /// Waits until all of these fire.
    ///
    /// # Errors
    /// When one does not.
    pub async fn fires(&self, alerts: &[&str]) -> anyhow::Result<()> {
        let fire = async || self.firing().await.is_ok_and(|firing| alerts.iter().all(|alert| firing.contains(*alert)));
        self.wait(&format!("{alerts:?} fire"), fire).await
    }

    /// How many series an expression has now.
    ///
    /// # Errors
    /// When it is none.
    pub async fn series(&self, expression: &str) -> anyhow::Result<usize> {
        let answer: Value = serde_json::from_str(&self.get("/api/v1/query", &[("query", expression)]).await?)?;
        Ok(answer["data"]["result"].as_array().with_context(|| format!("{expression}: {answer}"))?.len())
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<String> {
        let answer = reqwest::Client::new().get(format!("{}{path}", self.url)).query(query).send().await?;
        if !answer.status().is_success() {
            bail!("{path} {query:?}: {}", answer.text().await?);
        }
        Ok(answer.text().await?)
    }

    async fn wait(&self, what: &str, so: impl AsyncFn() -> bool) -> anyhow::Result<()> {
        let wait = async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            bail!("waited in vain until {what}; firing: {:?}; {log}", self.firing().await);
        }
        Ok(())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Asks promtool.
///
/// # Errors
/// What it found wrong.
pub async fn promtool(arguments: &[&str], input: Option<&str>) -> anyhow::Result<()> {
    let asked = run(Path::new("promtool"), arguments, input).await?;
    if !asked.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&asked.stdout), String::from_utf8_lossy(&asked.stderr));
    }
    Ok(())
}
