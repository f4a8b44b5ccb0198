//! The page of a command line: every command, with its options, as the program itself knows them.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::head;

/// Every command of a program.
pub(crate) fn page(mut program: Command) -> String {
    program.build();
    let name = program.get_name().to_owned();
    let mut text = head(&format!("Commands of {name}"), "the program's own command line");
    let _ = writeln!(
        text,
        "{}\n\nExit code 0 is done, 1 refused with one sentence on standard error, 2 a wrong command line. \
         `{name} man --to FOLDER` writes the same as a manual, `{name} completion bash` what a shell completes by.\n\n\
         Every command takes:\n",
        about(&program)
    );
    table(&mut text, program.get_arguments().filter(|argument| argument.is_global_set()));
    for command in commands(&program) {
        describe(&mut text, command);
    }
    text
}

fn commands(of: &Command) -> impl Iterator<Item = &Command> {
    of.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn describe(text: &mut String, command: &Command) {
    let path = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let level = "#".repeat(path.split(' ').count());
    let _ = writeln!(text, "\n{level} {path}\n\n{}", about(command));
    let own = |argument: &&Arg| !argument.is_global_set() && !argument.is_hide_set();
    let known = |argument: &&Arg| !["help", "version"].contains(&argument.get_id().as_str());
    if commands(command).next().is_none() {
        let usage = command.clone().render_usage().to_string();
        let _ = writeln!(text, "\n    {}", usage.trim_start_matches("Usage: "));
    }
    if command.get_arguments().filter(own).any(|argument| known(&argument)) {
        text.push('\n');
        table(text, command.get_arguments().filter(own).filter(known));
    }
    for command in commands(command) {
        describe(text, command);
    }
}

fn table<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    text.push_str("| | |\n|---|---|\n");
    for argument in arguments {
        let spelling = spelling(argument).replace('|', "\\|");
        let _ = writeln!(text, "| `{spelling}` | {} |", cell(&meaning(argument)));
    }
}

fn spelling(argument: &Arg) -> String {
    let value = argument.get_action().takes_values().then(|| {
        let names = argument.get_value_names().unwrap_or_default();
        names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ")
    });
    let flag = argument.get_long().map(|long| format!("--{long}"));
    flag.into_iter().chain(value.filter(|value| !value.is_empty())).collect::<Vec<_>>().join(" ")
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let values = argument.get_possible_values();
    let values: Vec<&str> = values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
    let takes_values = argument.get_action().takes_values();
    let values = match values.is_empty() || !takes_values {
        true => String::new(),
        false => format!(" One of `{}`.", values.join("`, `")),
    };
    let default: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = default.join(" ");
    let default = match default.is_empty() || !takes_values {
        true => String::new(),
        false => format!(" Default: `{default}`."),
    };
    let required = if argument.is_required_set() { " Required." } else { "" };
    let stop = if help.is_empty() || help.ends_with('.') { "" } else { "." };
    format!("{help}{stop}{values}{default}{required}")
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    escaped(about.trim())
}

/// One line of a table.
fn cell(text: &str) -> String {
    escaped(&text.split_whitespace().collect::<Vec<_>>().join(" ")).replace('|', "\\|")
}

fn escaped(text: &str) -> String {
    // What stands in code stays as it is.
    let parts = text.split('`').enumerate();
    let kept = parts.map(|(index, part)| if index % 2 == 0 { part.replace('<', "&lt;") } else { part.to_owned() });
    kept.collect::<Vec<_>>().join("`")
}
