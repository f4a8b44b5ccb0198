//! What stands in code on a page is typed by readers: commands are known to the programs, configurations are accepted by them,
//! JSON is JSON. What the tutorial says is done from its first block to its last by tests/tutorial/test_tutorial.py.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _};
use homeward_agent::recipe::Recipe;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::{assert_tidy, relative, root};

/// Code on a page: where, in which language (`inline` within a sentence), and what.
struct Code {
    place: String,
    language: String,
    text: String,
}

#[test]
fn commands_on_the_pages_are_those_of_the_programs() {
    let mut commands = 0;
    let wrong = code().into_iter().flat_map(|code| {
        let found = found_commands(&code);
        commands += found.len();
        let wrong = found.into_iter().filter_map(|command| match command {
            Ok(words) => Some(format!("{}: {}: {}", code.place, words.join(" "), refusal(&words, &code)?)),
            Err(line) => Some(format!("{}: {line}: no shell reads this: a quote is open", code.place)),
        });
        wrong.collect::<Vec<_>>()
    });
    assert_tidy(&wrong.collect::<Vec<_>>());
    assert!(commands > 100, "only {commands} commands on all pages: are they read?");
}

#[test]
fn configurations_on_the_pages_are_accepted_by_the_programs() {
    let blocks: Vec<Code> = code().into_iter().filter(|code| code.language == "toml").collect();
    assert!(blocks.len() > 15, "only {} configurations on all pages", blocks.len());
    let wrong = blocks.iter().filter_map(|code| Some(format!("{}: {}", code.place, mistake(&code.text)?)));
    assert_tidy(&wrong.collect::<Vec<_>>());
}

#[test]
fn json_on_the_pages_is_json() {
    let blocks = code().into_iter().filter(|code| code.language == "json");
    let wrong = blocks.filter_map(|code| {
        let error = serde_json::from_str::<serde_json::Value>(&code.text).err()?;
        Some(format!("{}: {error}", code.place))
    });
    assert_tidy(&wrong.collect::<Vec<_>>());
}

fn code() -> Vec<Code> {
    let mut pages = super::book::pages();
    pages.extend(["README.md", "SECURITY.md"].map(|page| root().join(page)));
    let readme = |file: &PathBuf| file.ends_with("README.md") || file.ends_with("README.Debian");
    pages.extend(super::files(&root().join("deploy")).into_iter().filter(readme));
    // What is made of the programs' own words says nothing about them.
    pages.retain(|page| !relative(page).starts_with("docs/reference/commands-broker.md"));
    pages.retain(|page| !relative(page).starts_with("docs/reference/commands-agent.md"));
    pages.iter().flat_map(|page| code_of(page)).collect()
}

fn code_of(page: &Path) -> Vec<Code> {
    let text = std::fs::read_to_string(page).expect("a page that can be read");
    let name = relative(page).display().to_string();
    let mut found: Vec<Code> = Vec::new();
    let mut within = false;
    for (event, range) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
        let place = || format!("{name}:{}", text[..range.start].lines().count() + 1);
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                within = true;
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                found.push(Code { place: place(), language, text: String::new() });
            }
            Event::End(TagEnd::CodeBlock) => within = false,
            Event::Text(part) if within => found.last_mut().expect("a block").text.push_str(&part),
            Event::Code(part) => {
                found.push(Code { place: place(), language: "inline".to_owned(), text: part.into_string() });
            }
            _ => {}
        }
    }
    found
}

fn programs() -> [Command; 2] {
    [homeward_broker::cli::command(), homeward_agent::cli::Command::command()]
}

/// What takes the names of our programs as those of units, packages or users.
const OTHERS: [&str; 11] =
    ["systemctl", "journalctl", "apt", "apt-get", "dpkg", "adduser", "usermod", "chown", "install", "man", "cargo"];

/// Every command of ours in a piece of code, in words and without what a shell does with it; or the line that no shell reads.
/// In a sentence the name of the program may be left out.
fn found_commands(code: &Code) -> Vec<Result<Vec<String>, String>> {
    if !["", "sh", "inline"].contains(&code.language.as_str()) {
        return Vec::new();
    }
    let joined = code.text.replace("\\\n", " ").replace("\\|", "|");
    let lines = joined.lines().map(|line| line.trim().trim_start_matches("$ "));
    lines.flat_map(|line| commands_of(line, code.language == "inline")).collect()
}

fn commands_of(line: &str, inline: bool) -> Vec<Result<Vec<String>, String>> {
    let short = inline && programs().iter().any(|program| begins_with_command(program, line));
    if !short && !programs().iter().any(|program| line.contains(program.get_name())) {
        return Vec::new();
    }
    let Some(words) = shlex::split(line) else { return vec![Err(line.to_owned())] };
    let mut found = Vec::new();
    for words in words.split_inclusive(|word| ends_command(word)) {
        let own: Vec<String> = words.iter().map_while(|word| own_word(word)).collect();
        if short && found.is_empty() {
            found.push(Ok(own));
            continue;
        }
        // What another shell is given to run.
        found.extend(own.iter().filter(|word| word.contains(' ')).flat_map(|word| commands_of(word, false)));
        found.extend(begin_of_ours(&own).map(|begin| Ok(own[begin..].to_vec())));
    }
    found
}

/// Where in a command of the shell ours begins: behind `until`, `sudo`, `runuser -u … --` and the like.
fn begin_of_ours(words: &[String]) -> Option<usize> {
    let command = words.iter().find(|word| *word != "sudo" && !word.contains('='))?;
    let ours = |word: &str| programs().iter().any(|program| word == program.get_name());
    let begin = words.iter().enumerate().position(|(at, word)| {
        let name = at.checked_sub(1).is_some_and(|at| words[at].starts_with('-') && words[at] != "--");
        ours(word) && !name && at + 1 < words.len()
    });
    begin.filter(|_| !OTHERS.contains(&command.as_str()))
}

fn ends_command(word: &str) -> bool {
    ["|", "&&", "&", "||"].contains(&word) || word.ends_with(';')
}

/// A word as the program gets it; nothing where the shell's own begins, or what a page leaves out.
fn own_word(word: &str) -> Option<String> {
    let shells = ["|", "&&", "&", "||", ";", "<", "2>", "2>&1"].contains(&word) || word.starts_with(['>', '…']);
    let word = word.trim_start_matches("$(").trim_end_matches([',', ';', ')']);
    let program = ["/usr/bin/", "target/release/", "./"].iter().find_map(|folder| word.strip_prefix(folder));
    (!shells).then(|| program.unwrap_or(word).to_owned())
}

/// `token create …`: a command of the program and one of that.
fn begins_with_command(program: &Command, line: &str) -> bool {
    let mut words = line.split_whitespace();
    let command = words.next().and_then(|word| program.find_subcommand(word));
    let (Some(command), Some(next)) = (command, words.next()) else { return false };
    command.find_subcommand(next).is_some() || (next.starts_with("--") && !command.has_subcommands())
}

/// Why no program of ours takes this command line.
fn refusal(words: &[String], code: &Code) -> Option<String> {
    let named = programs().into_iter().filter(|program| words[0] == program.get_name()).count() == 1;
    let mut refusals = Vec::new();
    for program in programs() {
        let name = program.get_name().to_owned();
        if named && words[0] != name {
            continue;
        }
        let words = if named { words.to_vec() } else { [&[name][..], words].concat() };
        let Err(error) = program.try_get_matches_from(words) else { return None };
        let tolerated = match error.kind() {
            // A name in capitals stands for what the reader puts there.
            ErrorKind::ValueValidation | ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
            // A sentence speaks of a command without saying all that it takes.
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => code.language == "inline",
            ErrorKind::InvalidValue => code.language == "inline",
            _ => false,
        };
        if tolerated {
            return None;
        }
        refusals.push(error.to_string().lines().next().unwrap_or_default().to_owned());
    }
    Some(refusals.join("; "))
}

/// What is wrong with a configuration: of the broker, of an agent, or a recipe. A piece of one is put into a whole one.
fn mistake(text: &str) -> Option<String> {
    // What the reader puts there.
    let text = &text.replace('…', "example");
    let table: toml::Table = match toml::from_str(text) {
        Ok(table) => table,
        Err(error) => return Some(error.to_string()),
    };
    let has = |keys: &[&str]| keys.iter().any(|key| table.contains_key(*key));
    if has(&["callback_paths", "title"]) {
        return Recipe::parse(text).err().map(|error| error.to_string());
    }
    let of_broker =
        ["store", "trust_domain", "agent_url", "key_encryption_key_file", "previous_key_encryption_key_file"];
    let sections = ["etcd", "pkcs11", "listen", "lifetimes", "rotation", "audit", "outbound"];
    let broker = has(&of_broker) || has(&sections);
    let lacks = |key: &str, line: &str| if table.contains_key(key) { String::new() } else { format!("{line}\n") };
    let whole = match broker {
        true => {
            lacks("public_url", "public_url = \"https://login.example.org\"")
                + &lacks("agent_url", "agent_url = \"https://login.example.org:8443\"")
                + &lacks("trust_domain", "trust_domain = \"example.org\"")
                + &lacks("data_dir", "data_dir = \"/var/lib/homeward-broker\"")
                + text
        }
        false => {
            lacks("public_url", "public_url = \"https://alpha.example.org\"")
                + &lacks("data_dir", "data_dir = \"/var/lib/homeward-agent\"")
                + &(if has(&["recipe_file"]) { String::new() } else { lacks("recipe", "recipe = \"django-allauth\"") })
                + text
                + "\n"
                + &lacks("app", "[app]\nurl = \"http://127.0.0.1:8000\"")
                + &(if has(&["home", "relying_party", "gate"]) { String::new() } else { "[home]\n".to_owned() })
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), &whole);
    if broker {
        return homeward_broker::config::Config::load(&file).err().map(|error| error.to_string());
    }
    homeward_agent::config::Config::load(&file).err().map(|error| error.to_string())
}

fn written(folder: &Path, text: &str) -> PathBuf {
    let mut file = tempfile::NamedTempFile::new_in(folder).expect("a file");
    file.write_all(text.as_bytes()).expect("room");
    file.keep().expect("a file that stays").1
}

#[test]
fn a_wrong_command_is_seen() {
    let code = |language: &str, text: &str| Code {
        place: String::new(),
        language: language.to_owned(),
        text: text.to_owned(),
    };
    let refused = |code: Code| {
        let wrong =
            |command: &Result<Vec<String>, String>| command.as_ref().map_or(true, |it| refusal(it, &code).is_some());
        found_commands(&code).iter().filter(|command| wrong(command)).count()
    };
    assert_eq!(refused(code("sh", "homeward-broker --config b.toml token create --instance beta\n")), 0);
    assert_eq!(refused(code("", "homeward-broker token create --instanze beta   # no such flag\n")), 1);
    assert_eq!(refused(code("", "homeward-broker \\\n  tokens list\n")), 1);
    assert_eq!(refused(code("inline", "token create --replace")), 0);
    assert_eq!(refused(code("inline", "trust allow --everything")), 1);
    assert_eq!(refused(code("inline", "homeward-agent enrol --replace --token-file -")), 0);
    // Wherever in the line it stands.
    assert_eq!(refused(code("sh", "until homeward-broker helthcheck 2> /dev/null; do sleep 1; done")), 1);
    assert_eq!(refused(code("sh", "for n in a b; do homeward-broker instance lst | grep -q x; done")), 1);
    assert_eq!(refused(code("sh", "echo token | homeward-agent enrol --tokn-file -")), 1);
    assert_eq!(refused(code("", "runuser -u homeward-broker -- homeward-broker inti")), 1);
    assert_eq!(refused(code("", "systemd-run --pipe -p User=homeward-broker homeward-broker kek roll > out")), 1);
    assert_eq!(refused(code("", "sudo sh -c 'cd /srv && homeward-agent rnu'")), 1);
    assert_eq!(refused(code("sh", "homeward-broker token create --note 'open")), 1);
    assert_eq!(refused(code("", "sudo systemctl restart homeward-broker homeward-agent")), 0);
    assert_eq!(refused(code("sh", "homeward-broker init && homeward-broker serve > out 2> log &")), 0);
    assert!(mistake("store = \"nowhere:\"").is_some() && mistake("[lifetimes]\nsession = 3600").is_none());
    assert!(mistake("recipe = \"alist\"\n[relying_party]\nnothing = 1").is_some());
}
