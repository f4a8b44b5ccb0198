//! `homeward-broker healthcheck`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cli::admin::{channel, refusal};
use crate::config::Config;

/// A broker that does not answer in this time is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let ask = async {
        let mut health = HealthClient::new(channel(config).await?);
        let request = HealthCheckRequest { service: String::new() };
        let answer = health.check(request).await.map_err(|status| refusal(&status))?.into_inner();
        if answer.status() != ServingStatus::Serving {
            bail!("the broker says that it is not serving");
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, ask).await.context("the broker did not answer within 5 seconds")?
}
