//! `homeward-broker console`.

use clap::Subcommand;
use homeward_proto::v1;
use serde_json::{Value, json};

use crate::cli::admin::{connect, refusal};
use crate::cli::output::{Output, Row, print_line, time};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a link that lets one browser into the web console, once, within ten minutes.
    Code,
    /// Who is signed in to the web console.
    #[command(subcommand)]
    Session(SessionCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// List who is signed in to the web console.
    List,
    /// Sign a browser out of the web console.
    End {
        /// Id of its session, as `console session list` shows it.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Code => {
            let made = admin.create_console_code(v1::CreateConsoleCodeRequest {}).await;
            let made = made.map_err(|status| refusal(&status))?.into_inner();
            let until = time(made.expire_time.as_ref());
            match output {
                Output::Json => print_line(&json!({ "url": made.url, "expire_time": until })),
                Output::Table => {
                    print_line(&format_args!("Open this in a browser until {until}. It works once:"));
                    print_line(&made.url);
                }
            }
        }
        Command::Session(SessionCommand::List) => {
            let listed = admin.list_console_sessions(v1::ListConsoleSessionsRequest {}).await;
            output.list(&listed.map_err(|status| refusal(&status))?.into_inner().console_sessions);
        }
        Command::Session(SessionCommand::End { id }) => {
            let request = v1::EndConsoleSessionRequest { id: id.clone() };
            admin.end_console_session(request).await.map_err(|status| refusal(&status))?;
            output.say(&format!("Session {id} of the web console is over."), &json!({ "id": id }));
        }
    }
    Ok(())
}

impl Row for v1::ConsoleSession {
    const COLUMNS: &'static [&'static str] = &["ID", "WHO", "SINCE", "USED", "UNTIL"];

    fn cells(&self) -> Vec<String> {
        let times = [&self.begin_time, &self.use_time, &self.expire_time].map(|at| time(at.as_ref()));
        [self.id.clone(), self.who.clone()].into_iter().chain(times).collect()
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "who": self.who,
            "actor": self.actor,
            "begin_time": time(self.begin_time.as_ref()),
            "use_time": time(self.use_time.as_ref()),
            "expire_time": time(self.expire_time.as_ref()),
        })
    }
}
