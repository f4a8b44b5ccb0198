//! `homeward-broker tls`.

use clap::Subcommand;
use homeward_proto::v1;
use serde_json::json;

use crate::cli::admin::{connect, refusal};
use crate::cli::output::{Output, time};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the certificate that browsers are shown, until when it is good, and when and why it is or was not renewed.
    Show,
    /// Have the CA asked for a new certificate now, also in the pause after a failure; or the files looked at.
    Renew,
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Show => {
            let request = v1::GetPublicCertificateRequest {};
            let shown = admin.get_public_certificate(request).await.map_err(|status| refusal(&status))?.into_inner();
            if shown.source.is_empty() && output == Output::Table {
                output.say("This broker speaks plain HTTP: whoever stands before it has the certificate.", &json!({}));
                return Ok(());
            }
            output.show(&json!({
                "source": shown.source,
                "host": shown.host,
                "valid_for_host": shown.valid_for_host,
                "begin_time": time(shown.begin_time.as_ref()),
                "expire_time": time(shown.expire_time.as_ref()),
                "directory": shown.directory,
                "next_order_time": time(shown.next_order_time.as_ref()),
                "failed_tries": shown.failed_tries,
                "failure": shown.failure,
                "remark": shown.remark,
            }));
        }
        Command::Renew => {
            let request = v1::RenewPublicCertificateRequest {};
            admin.renew_public_certificate(request).await.map_err(|status| refusal(&status))?;
            output.say("It is under way: see `homeward-broker tls show`.", &json!({ "begun": true }));
        }
    }
    Ok(())
}
