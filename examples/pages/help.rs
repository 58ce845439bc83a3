//! Reads the text of `--help`.

use brooklet::config::command_line::{Command, parse, subcommand};

/// The program: what it is without a subcommand, and its subcommands.
pub struct Program {
    pub broker: Help,
    pub subcommands: Vec<Help>,
}

/// The help of the program or of one of its subcommands.
pub struct Help {
    /// The subcommand, or an empty text.
    pub name: String,
    /// What it does, in a few words.
    pub purpose: String,
    /// The ways to call it, without `Usage:`.
    pub usage: Vec<String>,
    /// What it does, if it is a subcommand.
    pub description: String,
    pub flags: Vec<Flag>,
}

/// A flag.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    pub short: Option<String>,
    pub long: Option<String>,
    /// The name of its value, if it has one.
    pub value: Option<String>,
    pub help: String,
}

impl Program {
    pub fn read() -> Self {
        let Ok(Command::Print(text)) = parse(&["--help".to_owned()]) else { panic!("--help prints") };
        let mut broker = Help::parse("", "MQTT broker for small machines", &text);
        // Other lines of the usage name the subcommands: `brooklet NAME ...   PURPOSE`.
        let (others, own): (Vec<String>, Vec<String>) =
            broker.usage.into_iter().partition(|line| line.contains("..."));
        broker.usage = own;
        let subcommands = others.iter().map(|line| {
            let (call, purpose) = line.split_once("...").expect("these lines have dots");
            let name = call.split_whitespace().nth(1).expect("the name is after that of the program");
            let finished = subcommand(&[name.to_owned(), "--help".to_owned()]).expect("it is a subcommand");
            Help::parse(name, purpose.trim(), &finished.output)
        });
        Self { subcommands: subcommands.collect(), broker }
    }
}

impl Help {
    pub fn parse(name: &str, purpose: &str, text: &str) -> Self {
        let (before, options) = text.split_once("Options:\n").expect("there are options");
        let (_, usage) = before.split_once("Usage:").expect("there is a usage");
        let (usage, description) = usage.split_once("\n\n").unwrap_or((usage, ""));
        Self {
            name: name.to_owned(),
            purpose: purpose.to_owned(),
            usage: usage.lines().map(|line| line.trim().to_owned()).collect(),
            description: description.trim().to_owned(),
            flags: flags(options),
        }
    }
}

/// The flags in the lines below `Options:`.
pub fn flags(text: &str) -> Vec<Flag> {
    let mut flags: Vec<Flag> = Vec::new();
    for line in text.lines() {
        let inner = line.trim_start();
        if inner.starts_with('-') {
            flags.push(flag(inner));
        } else if let Some(flag) = flags.last_mut().filter(|_| !inner.is_empty()) {
            flag.help = format!("{} {inner}", flag.help).trim().to_owned();
        }
    }
    flags
}

/// The flag in a line such as `-c, --config-file FILE   read this file`.
fn flag(line: &str) -> Flag {
    let (names, help) = line.split_once("  ").unwrap_or((line, ""));
    let mut flag = Flag { short: None, long: None, value: None, help: help.trim().to_owned() };
    for word in names.split([' ', ',']).filter(|word| !word.is_empty()) {
        if word.starts_with("--") {
            flag.long = Some(word.to_owned());
        } else if word.starts_with('-') {
            flag.short = Some(word.to_owned());
        } else {
            flag.value = Some(word.to_owned());
        }
    }
    flag
}

impl Flag {
    /// Its names: the short one first.
    pub fn names(&self) -> Vec<&str> {
        [&self.short, &self.long].into_iter().flatten().map(String::as_str).collect()
    }

    pub fn takes(&self) -> Takes {
        match self.value.as_deref() {
            None => Takes::Nothing,
            Some("FILE" | "CONFIG") => Takes::File,
            Some("DIRECTORY") => Takes::Directory,
            Some(_) => Takes::Word,
        }
    }
}

/// What the value of a flag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    File,
    Directory,
    Word,
}
