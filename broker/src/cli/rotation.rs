//! `homeward-broker rotation`: the one screen on what is turning, and the plan of what will.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Subcommand;
use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::cli::admin::{connect, refusal};
use crate::cli::output::{Output, Row, time};
use crate::config::Config;

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);

/// Laggards that the screen names; JSON has them all.
const NAMED: usize = 15;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What is turning: phase, gate, who has acknowledged, who has not, since when and why, and what happens next.
    Status {
        /// Only this: keys/RS256, keys/ES256, secret/INSTANCE or ca; then also one that ended long ago.
        subject: Option<String>,
        /// Show it again every second until nothing turns any more.
        #[arg(long)]
        watch: bool,
    },
    /// What will happen by itself, and when. Nothing else happens by itself.
    Plan {
        /// How many days to look ahead.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Let a rotation that has paused wait anew for those it waits for.
    Resume {
        /// keys/RS256, keys/ES256, secret/INSTANCE or ca.
        subject: String,
        /// Go on without those who have not acknowledged. Their names are printed.
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Status { subject, watch } => {
            let request = v1::GetRotationStatusRequest { subject: subject.unwrap_or_default() };
            if watch { follow(admin, request, output).await? } else { show(&look(&mut admin, &request).await?, output) }
        }
        Command::Plan { days } => {
            let seconds = i64::from(days) * 86_400;
            let horizon_duration = Some(prost_types::Duration { seconds, nanos: 0 });
            let request = v1::GetRotationPlanRequest { horizon_duration };
            let plan = admin.get_rotation_plan(request).await.map_err(|status| refusal(&status))?.into_inner();
            output.list(&plan.moves);
        }
        Command::Resume { subject, force } => {
            let request = v1::ResumeRotationRequest { subject, force };
            let resumed = admin.resume_rotation(request).await.map_err(|status| refusal(&status))?.into_inner();
            show(&[resumed.rotation.unwrap_or_default()], output);
        }
    }
    Ok(())
}

/// Begins to turn something and shows it.
///
/// # Errors
/// The broker's refusal.
pub(super) async fn begin(
    admin: &mut AdminServiceClient<Channel>,
    order: v1::BeginRotationRequest,
    output: Output,
) -> anyhow::Result<()> {
    let begun = admin.begin_rotation(order).await.map_err(|status| refusal(&status))?.into_inner();
    show(&begun.rotations, output);
    Ok(())
}

/// Takes something back and shows it.
///
/// # Errors
/// The broker's refusal.
pub(super) async fn roll_back(
    admin: &mut AdminServiceClient<Channel>,
    subject: String,
    output: Output,
) -> anyhow::Result<()> {
    let request = v1::RollBackRotationRequest { subject };
    let back = admin.roll_back_rotation(request).await.map_err(|status| refusal(&status))?.into_inner();
    show(&[back.rotation.unwrap_or_default()], output);
    Ok(())
}

async fn look(
    admin: &mut AdminServiceClient<Channel>,
    request: &v1::GetRotationStatusRequest,
) -> anyhow::Result<Vec<v1::Rotation>> {
    let status = admin.get_rotation_status(request.clone()).await.map_err(|status| refusal(&status))?;
    Ok(status.into_inner().rotations)
}

/// Looks again and again: in place on a terminal, else whenever something has changed.
async fn follow(
    mut admin: AdminServiceClient<Channel>,
    request: v1::GetRotationStatusRequest,
    output: Output,
) -> anyhow::Result<()> {
    let in_place = std::io::stdout().is_terminal() && output == Output::Table;
    let mut shown = None;
    loop {
        let rotations = look(&mut admin, &request).await?;
        let turning = rotations.iter().any(turns);
        if in_place {
            // Home, and whatever is below it cleared (ECMA-48 CUP and ED).
            write!(std::io::stdout(), "\x1b[H\x1b[2J")?;
            show(&rotations, output);
        } else if shown.as_ref() != Some(&rotations) {
            show(&rotations, output);
            shown = Some(rotations);
        }
        if !turning {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn turns(rotation: &v1::Rotation) -> bool {
    matches!(rotation.state(), v1::RotationState::Running | v1::RotationState::Paused)
}

fn show(rotations: &[v1::Rotation], output: Output) {
    match output {
        Output::Json => output.show(&Value::from_iter(rotations.iter().map(to_json))),
        Output::Table if rotations.is_empty() => {
            output.say("Nothing is turning. `homeward-broker rotation plan` shows what will.", &Value::Null);
        }
        Output::Table => {
            let screens: Vec<String> = rotations.iter().map(screen).collect();
            output.say(&screens.join("\n\n"), &Value::Null);
        }
    }
}

/// One rotation for people.
fn screen(rotation: &v1::Rotation) -> String {
    let mut lines = vec![format!("{:<16} {}", rotation.subject, state(rotation).to_uppercase())];
    let mut line = |head: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {head:<14} {text}"));
        }
    };
    let phases =
        rotation.phases.iter().map(|phase| if *phase == rotation.phase { format!("[{phase}]") } else { phase.clone() });
    let phases: Vec<String> = phases.collect();
    // A rotation that is taken back has left the row of phases.
    let phase = if rotation.phases.contains(&rotation.phase) { phases.join(" → ") } else { rotation.phase.clone() };
    line("phase", phase);
    line("began", format!("{} by {}", time(rotation.begin_time.as_ref()), rotation.creator));
    line("in this phase", format!("since {}", time(rotation.phase_time.as_ref())));
    if turns(rotation) {
        line("gate", rotation.gate.clone());
        if rotation.participants > 0 {
            line("acknowledged", bar(rotation.acknowledged, rotation.participants));
        }
        line("deadline", time(rotation.deadline_time.as_ref()));
    }
    line("why", rotation.reason.clone());
    line("next", rotation.next_step.clone());
    for (index, laggard) in rotation.laggards.iter().take(NAMED).enumerate() {
        let head = if index == 0 { "waits for" } else { "" };
        let presence = if laggard.online { "online" } else { "offline" };
        let (seen, since) = (time(laggard.last_seen_time.as_ref()), time(laggard.waiting_since_time.as_ref()));
        let seen = if seen.is_empty() { "never seen".to_owned() } else { format!("last seen {seen}") };
        let text = format!("{} ({presence}, {seen}, waited for since {since}): {}", laggard.instance, laggard.reason);
        line(head, text);
    }
    let unnamed = rotation.laggards.len().saturating_sub(NAMED);
    if unnamed > 0 {
        line("", format!("and {unnamed} more: --output json names them"));
    }
    lines.join("\n")
}

/// `[########----] 8 of 12`.
fn bar(done: u32, all: u32) -> String {
    const WIDTH: u64 = 30;
    let full = usize::try_from(u64::from(done) * WIDTH / u64::from(all.max(1))).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(full);
    format!("[{}{}] {done} of {all}", "#".repeat(full), "-".repeat(empty))
}

fn state(rotation: &v1::Rotation) -> String {
    rotation.state().as_str_name().trim_start_matches("ROTATION_STATE_").to_lowercase().replace('_', " ")
}

fn to_json(rotation: &v1::Rotation) -> Value {
    let laggards = rotation.laggards.iter().map(|laggard| {
        json!({
            "instance": laggard.instance,
            "online": laggard.online,
            "last_seen_time": time(laggard.last_seen_time.as_ref()),
            "waiting_since_time": time(laggard.waiting_since_time.as_ref()),
            "reason": laggard.reason,
        })
    });
    json!({
        "subject": rotation.subject,
        "state": state(rotation),
        "phase": rotation.phase,
        "phases": rotation.phases,
        "gate": rotation.gate,
        "acknowledged": rotation.acknowledged,
        "participants": rotation.participants,
        "laggards": Value::from_iter(laggards),
        "begin_time": time(rotation.begin_time.as_ref()),
        "phase_time": time(rotation.phase_time.as_ref()),
        "deadline_time": time(rotation.deadline_time.as_ref()),
        "creator": rotation.creator,
        "reason": rotation.reason,
        "next_step": rotation.next_step,
    })
}

impl Row for v1::PlannedMove {
    const COLUMNS: &'static [&'static str] = &["NOT BEFORE", "SUBJECT", "WHAT HAPPENS", "ONLY WHEN"];

    fn cells(&self) -> Vec<String> {
        vec![time(self.time.as_ref()), self.subject.clone(), self.r#move.clone(), self.gate.clone()]
    }

    fn json(&self) -> Value {
        json!({
            "time": time(self.time.as_ref()),
            "subject": self.subject,
            "move": self.r#move,
            "gate": self.gate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_says_who_holds_it_up_and_what_to_do() {
        let laggard = v1::Laggard {
            instance: "beta".into(),
            online: true,
            last_seen_time: Some(prost_types::Timestamp { seconds: 60, nanos: 0 }),
            waiting_since_time: Some(prost_types::Timestamp { seconds: 30, nanos: 0 }),
            reason: "refused: PROOF_FAILED: the application does not answer".into(),
        };
        let rotation = v1::Rotation {
            subject: "keys/RS256".into(),
            phase: "published".into(),
            phases: vec!["published".into(), "active".into(), "done".into()],
            state: v1::RotationState::Paused.into(),
            gate: "every relying party proves it".into(),
            acknowledged: 2,
            participants: 3,
            laggards: vec![laggard],
            creator: "uid=0".into(),
            reason: "not acknowledged in time: beta".into(),
            next_step: "Mend beta.".into(),
            ..v1::Rotation::default()
        };
        let screen = screen(&rotation);
        for part in
            ["PAUSED", "[published] → active", "####################----------] 2 of 3", "beta (online", "Mend beta"]
        {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
    }
}
