//! `homeward-broker session`.

use std::time::Duration;

use anyhow::bail;
use clap::{ArgGroup, Subcommand, ValueEnum};
use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use homeward_proto::v1::end_sessions_request::Which;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row, time};
use crate::config::Config;

/// How often it is looked who has confirmed.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List who is signed in, and what was entered.
    List {
        /// Only of this user.
        #[arg(long, value_name = "USER@HOME", value_parser = user_at_home)]
        user: Option<String>,
    },
    /// End sessions everywhere, and say who has confirmed it. Exit code 1 if somebody could not be told.
    #[command(group = ArgGroup::new("which").required(true))]
    End {
        /// All sessions of this user, those at home, and access that would outlive them.
        #[arg(long, group = "which", value_name = "USER@HOME", value_parser = user_at_home)]
        user: Option<String>,
        /// This one.
        #[arg(long, group = "which", value_name = "ID")]
        session: Option<String>,
        /// How many seconds to wait for confirmations.
        #[arg(long, default_value_t = 10, value_name = "SECONDS")]
        wait: u64,
    },
    /// How many logins came to their end and how many did not, at all brokers: for the last two days at the most.
    Stats {
        /// How many hours back.
        #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=48))]
        hours: u32,
        /// What one line is of.
        #[arg(long, value_enum, default_value_t = Per::Hour)]
        per: Per,
    },
    /// List logouts on their way to applications, the newest first.
    Logouts {
        /// Only those that were given up.
        #[arg(long)]
        dead: bool,
    },
    /// Try a logout that was given up once more.
    Retry {
        /// Its id.
        id: String,
    },
}

/// What one line of the statistics is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Per {
    /// An hour by the clock, in UTC.
    Hour,
    /// Five minutes.
    #[value(name = "5m")]
    FiveMinutes,
}

/// Which home is meant is never guessed.
fn user_at_home(text: &str) -> Result<String, &'static str> {
    if text.contains('@') { Ok(text.to_owned()) } else { Err("write the user as name@home, for example alice@alpha") }
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::List { user } => {
            let user = user.unwrap_or_default();
            let all = all_pages(async |page_token| {
                let request = v1::ListSessionsRequest { user: user.clone(), page_size: 0, page_token };
                let page = admin.clone().list_sessions(request).await?.into_inner();
                Ok((page.sessions, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
        Command::End { user, session, wait } => {
            let which = user.map(Which::User).or(session.map(Which::SessionId));
            end(&mut admin, which, Duration::from_secs(wait), output).await?;
        }
        Command::Stats { hours, per } => {
            let counted = admin.get_login_counts(v1::GetLoginCountsRequest {}).await;
            let counted = counted.map_err(|status| refusal(&status))?.into_inner();
            output.list(&within(counted.counts, hours, per));
        }
        Command::Logouts { dead } => {
            let all = all_pages(async |page_token| {
                let request = v1::ListLogoutsRequest { ids: Vec::new(), dead, page_size: 0, page_token };
                let page = admin.clone().list_logouts(request).await?.into_inner();
                Ok((page.logouts, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
        Command::Retry { id } => {
            let request = v1::RetryLogoutRequest { id };
            let again = admin.retry_logout(request).await.map_err(|status| refusal(&status))?.into_inner();
            output.show(&again.logout.unwrap_or_default().json());
        }
    }
    Ok(())
}

/// So many hours of the counts, which end with those of now, summed up to lines.
fn within(counts: Vec<v1::LoginCount>, hours: u32, per: Per) -> Vec<v1::LoginCount> {
    let secs = |count: &v1::LoginCount| count.begin_time.map_or(0, |time| time.seconds);
    let length = if per == Per::Hour { 3600 } else { 1 };
    let newest = counts.last().map_or(0, secs);
    // The hour that is not over counts as one of them.
    let from = (newest.div_euclid(3600) - i64::from(hours) + 1) * 3600;
    let mut lines: Vec<v1::LoginCount> = Vec::new();
    for count in counts.into_iter().filter(|count| secs(count) >= from) {
        let begin = secs(&count) - secs(&count).rem_euclid(length);
        match lines.last_mut().filter(|line| secs(line) == begin) {
            Some(line) => {
                line.logins = line.logins.saturating_add(count.logins);
                line.failures = line.failures.saturating_add(count.failures);
            }
            None => {
                let begin_time = Some(prost_types::Timestamp { seconds: begin, nanos: 0 });
                lines.push(v1::LoginCount { begin_time, ..count });
            }
        }
    }
    lines
}

async fn end(
    admin: &mut AdminServiceClient<Channel>,
    which: Option<Which>,
    wait: Duration,
    output: Output,
) -> anyhow::Result<()> {
    let until = Instant::now() + wait;
    let request = v1::EndSessionsRequest { which };
    let ended = admin.end_sessions(request).await.map_err(|status| refusal(&status))?.into_inner();
    let (sessions, grants) = (ended.sessions_ended, ended.grants_ended);
    let logouts = settled(admin, ended.logouts, until).await?;
    match output {
        Output::Json => {
            let logouts = Value::from_iter(logouts.iter().map(Row::json));
            output.show(&json!({"sessions_ended": sessions, "grants_ended": grants, "logouts": logouts}));
        }
        Output::Table => {
            let sentence = format!("{sessions} session(s) ended, and {grants} grant(s) that would have outlived them.");
            output.say(&sentence, &Value::Null);
            if !logouts.is_empty() {
                output.list(&logouts);
            }
        }
    }
    let untold = logouts.iter().filter(|logout| logout.state() != v1::LogoutState::Confirmed);
    let untold: Vec<&str> = untold.map(|logout| logout.target.as_str()).collect();
    if !untold.is_empty() {
        bail!(
            "not confirmed by {}: `homeward-broker session logouts` says why, and what becomes of it",
            untold.join(", ")
        );
    }
    Ok(())
}

/// The logouts when none is on its way any more, or the time is up.
async fn settled(
    admin: &mut AdminServiceClient<Channel>,
    mut logouts: Vec<v1::Logout>,
    until: Instant,
) -> anyhow::Result<Vec<v1::Logout>> {
    let pending = |logouts: &[v1::Logout]| logouts.iter().any(|one| one.state() == v1::LogoutState::Pending);
    while pending(&logouts) && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        for batch in logouts.chunks_mut(BATCH) {
            let ids = batch.iter().map(|logout| logout.id.clone()).collect();
            let request = v1::ListLogoutsRequest { ids, ..v1::ListLogoutsRequest::default() };
            let now = admin.list_logouts(request).await.map_err(|status| refusal(&status))?.into_inner().logouts;
            for logout in batch {
                if let Some(found) = now.iter().find(|found| found.id == logout.id) {
                    logout.clone_from(found);
                }
            }
        }
    }
    Ok(logouts)
}

/// Logouts that are asked for at once.
const BATCH: usize = 500;

impl Row for v1::Session {
    const COLUMNS: &'static [&'static str] = &["ID", "USER", "SINCE", "USED", "ENDS", "ENTERED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.user.clone(),
            time(self.begin_time.as_ref()),
            time(self.last_login_time.as_ref()),
            time(self.expire_time.as_ref()),
            self.relying_parties.join(", "),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "user": self.user,
            "home": self.home,
            "begin_time": time(self.begin_time.as_ref()),
            "last_login_time": time(self.last_login_time.as_ref()),
            "expire_time": time(self.expire_time.as_ref()),
            "relying_parties": self.relying_parties,
        })
    }
}

impl Row for v1::LoginCount {
    const COLUMNS: &'static [&'static str] = &["FROM", "LOGINS", "FAILURES"];

    fn cells(&self) -> Vec<String> {
        vec![time(self.begin_time.as_ref()), self.logins.to_string(), self.failures.to_string()]
    }

    fn json(&self) -> Value {
        json!({
            "begin_time": time(self.begin_time.as_ref()),
            "logins": self.logins,
            "failures": self.failures,
        })
    }
}

impl Row for v1::Logout {
    const COLUMNS: &'static [&'static str] = &["ID", "TOLD", "USER", "CHANNEL", "STATE", "SINCE", "TRIES", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.target.clone(),
            self.user.clone(),
            channel(self).to_owned(),
            state(self),
            time(self.state_time.as_ref()),
            self.attempts.to_string(),
            self.detail.clone(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "target": self.target,
            "user": self.user,
            "channel": channel(self),
            "state": state(self),
            "attempts": self.attempts,
            "detail": self.detail,
            "create_time": time(self.create_time.as_ref()),
            "state_time": time(self.state_time.as_ref()),
        })
    }
}

fn channel(logout: &v1::Logout) -> &'static str {
    match logout.channel() {
        v1::LogoutChannel::Unspecified => "",
        v1::LogoutChannel::Back => "back channel",
        v1::LogoutChannel::Agent => "agent",
        v1::LogoutChannel::Home => "home",
    }
}

fn state(logout: &v1::Logout) -> String {
    logout.state().as_str_name().trim_start_matches("LOGOUT_STATE_").to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_hours_by_the_clock_and_sum_up_to_what_was_counted() {
        let count = |seconds| v1::LoginCount {
            begin_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            logins: 2,
            failures: 1,
        };
        // It is 8:05, and two days are known.
        let all: Vec<v1::LoginCount> = (0..576).map(|nth| count(1_800_000_300 + nth * 300)).collect();
        let newest = 1_800_000_300 + 575 * 300;
        let lines = within(all.clone(), 3, Per::Hour);
        let begins: Vec<i64> = lines.iter().map(|line| line.begin_time.unwrap().seconds).collect();
        let hour = newest / 3600 * 3600;
        assert_eq!(begins, [hour - 7200, hour - 3600, hour]);
        assert_eq!((lines[0].logins, lines[0].failures), (24, 12));
        assert_eq!(within(all.clone(), 1, Per::FiveMinutes).len() as i64, (newest - hour) / 300 + 1);
        let sum: u32 = within(all, 48, Per::Hour).iter().map(|line| line.logins).sum();
        assert!((1128..=1152).contains(&sum), "{sum}");
    }
}
