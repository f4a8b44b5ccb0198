//! `homeward-broker token`.

use std::time::Duration;

use clap::Subcommand;
use homeward_proto::v1;
use serde_json::json;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row, print_line, time};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a join token: it enrols one instance, once. Its text is printed now and never again.
    Create {
        /// Name of the instance: 1 to 63 of a-z, 0-9 and -.
        #[arg(long)]
        instance: String,
        /// How long it works, for example 30m, 2h or 1d: from a minute to a day.
        #[arg(long, default_value = "30m", value_parser = duration)]
        lifetime: Duration,
        /// What it is for; shown by `token list`.
        #[arg(long, default_value = "")]
        note: String,
        /// Give an enrolled instance a new identity: its old certificate stops working when the token is used, and a
        /// quarantine ends.
        #[arg(long)]
        replace: bool,
    },
    /// List join tokens, newest first.
    List,
    /// Make a join token useless.
    Revoke {
        /// Its id, as `token list` shows it.
        id: String,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Create { instance, lifetime, note, replace } => {
            let lifetime_duration = Some(prost_types::Duration::try_from(lifetime)?);
            let request = v1::CreateJoinTokenRequest { instance, lifetime_duration, note, replace };
            let created = admin.create_join_token(request).await.map_err(|status| refusal(&status))?.into_inner();
            show((&created.text, replace), &created.join_token.unwrap_or_default(), output);
        }
        Command::List => {
            let all = all_pages(async |page_token| {
                let request = v1::ListJoinTokensRequest { page_size: 0, page_token };
                let page = admin.clone().list_join_tokens(request).await?.into_inner();
                Ok((page.join_tokens, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
        Command::Revoke { id } => {
            let request = v1::RevokeJoinTokenRequest { id };
            let revoked = admin.revoke_join_token(request).await.map_err(|status| refusal(&status))?.into_inner();
            let token = revoked.join_token.unwrap_or_default();
            output.say(&format!("Join token {} is revoked.", token.id), &token.json());
        }
    }
    Ok(())
}

fn show((text, replace): (&str, bool), token: &v1::JoinToken, output: Output) {
    match output {
        Output::Json => {
            let mut shown = token.json();
            shown["text"] = json!(text);
            print_line(&shown);
        }
        Output::Table => {
            print_line(&format_args!(
                "Join token {} for {}, until {}.",
                token.id,
                token.instance,
                time(token.expire_time.as_ref())
            ));
            let enrol = if replace { "enrol --replace" } else { "enrol" };
            print_line(&format_args!(
                "Give it to the operator, who runs `homeward-agent {enrol} --token-file -`, pastes it and ends with Ctrl-D:"
            ));
            print_line(&text);
        }
    }
}

/// Reads `90s`, `30m`, `2h` or `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err("a number and s, m, h or d, for example 30m".into()),
    };
    let number = text.get(..text.len() - 1).and_then(|number| number.parse::<u64>().ok());
    let secs = number.and_then(|number| number.checked_mul(unit));
    secs.map(Duration::from_secs).ok_or_else(|| "a number and s, m, h or d, for example 30m".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "s", "30", "-1m", "1w", "1.5h", "99999999999999999999h", "18446744073709551615h", "3é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
