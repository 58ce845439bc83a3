//! Runs every command of README.md and of the pages in docs/ as it is printed, in a fresh directory and a network of its
//! own for each page, and compares what is printed with the page. [`page`] says how a page is read.

mod cluster;
mod commands;
mod page;
mod shell;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;

use page::{Block, Command, Content, blocks};
use shell::{Program, Shell};

/// How many blocks of all pages together may be marked as not run.
const NOT_RUN_MAXIMUM: usize = 10;

/// The pages by their names, in order.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join("docs")).expect("there are pages");
    let names =
        entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("it is text"));
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    names.push("README.md".to_owned());
    names.sort();
    let read = |name: String| {
        let text = fs::read_to_string(root.join(&name)).expect("it is a page");
        (name, text)
    };
    names.into_iter().map(read).collect()
}

#[test]
fn few_commands_are_not_run() {
    let mut not_run = Vec::new();
    for (name, text) in pages() {
        for block in blocks(&text).unwrap_or_else(|what| panic!("{name}: {what}")) {
            if let Content::NotRun(reason) = block.content {
                not_run.push(format!("{name}:{}: {reason}", block.line));
            }
        }
    }
    println!("not run, {} of at most {NOT_RUN_MAXIMUM}:\n{}", not_run.len(), not_run.join("\n"));
    assert!(not_run.len() <= NOT_RUN_MAXIMUM, "{}", not_run.join("\n"));
}

#[test]
fn commands_of_the_repository_name_what_there_is() {
    let wrong: Vec<String> = pages()
        .iter()
        .flat_map(|(name, text)| commands::wrong(text).into_iter().map(move |what| format!("{name}: {what}")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_flag_is_on_the_page_about_them() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_brooklet")).arg("--help").output();
    let help = String::from_utf8(help.expect("it can be run").stdout).expect("it is text");
    let flags = help.split([' ', ',', '\n']).filter(|word| word.starts_with('-') && word.len() > 1);
    let flags: BTreeSet<&str> = flags.map(|flag| flag.trim_end_matches(['.', ';', ')'])).collect();
    assert!(flags.contains("--config-file") && flags.contains("-c"), "the flags are read: {flags:?}");
    let pages = pages();
    let (_, page) = pages.iter().find(|(name, _)| name == "docs/configure.md").expect("it is there");
    let missing: Vec<_> = flags.iter().filter(|flag| !page.contains(&format!("`{flag}"))).collect();
    assert!(missing.is_empty(), "docs/configure.md should name {missing:?}");
}

#[test]
fn pages_work_as_printed() {
    let missing = shell::missing();
    assert!(missing.is_empty(), "the pages cannot be run without {}", missing.join(", "));
    let program = Program::copy();
    let run = |(name, text): &(String, String)| {
        let blocks = blocks(text).map_err(|what| format!(" {what}"));
        blocks.and_then(|blocks| run_page(name, &blocks, &program)).err().map(|what| format!("{name}:{what}"))
    };
    let pages = pages();
    let wrong: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = pages.iter().map(|page| scope.spawn(move || run(page))).collect();
        running.into_iter().filter_map(|page| page.join().expect("it does not panic")).collect()
    });
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n\n"));
}

/// Runs the commands of a page in order, up to the first that fails.
fn run_page(name: &str, blocks: &[Block], program: &Program) -> Result<(), String> {
    let mut shell = Shell::start(name, program).map_err(|what| format!(" no network of its own: {what}"))?;
    let mut terminals = Vec::new();
    for Block { line, content } in blocks {
        let place = |what: String| format!("{line}: {what}");
        match content {
            Content::File { name, text } => shell.write(name, text),
            Content::Commands { commands, is_in_other_terminal: false } => {
                run_block(&mut shell, commands).map_err(place)?;
            }
            Content::Commands { commands, is_in_other_terminal: true } => {
                let texts: Vec<&str> = commands.iter().map(|command| &*command.text).collect();
                terminals.push((line, shell.open_terminal(&texts).map_err(place)?, commands));
            }
            Content::NotRun(_) | Content::Text => {}
        }
    }
    for (line, number, commands) in terminals {
        if let Some(expected) = output_of(commands) {
            shell.compare_terminal(number, &expected).map_err(|what| format!("{line}: {what}"))?;
        }
    }
    Ok(())
}

/// Runs the commands of a block. One that prints something may fail, since that is compared.
fn run_block(shell: &mut Shell, commands: &[Command]) -> Result<(), String> {
    for Command { text, output } in commands {
        let place = |what: String| format!("{text}\n{what}");
        let status = shell.run(text).map_err(place)?;
        if status != 0 && output.as_ref().is_none_or(Vec::is_empty) {
            return Err(place(format!("status {status}, printed was:\n{}", shell.printed())));
        }
        match output {
            Some(expected) => shell.compare(expected).map_err(place)?,
            None => shell.skip(),
        }
    }
    Ok(())
}

/// What all of these commands print, if the page shows it.
fn output_of(commands: &[Command]) -> Option<Vec<String>> {
    let outputs: Option<Vec<&Vec<String>>> = commands.iter().map(|command| command.output.as_ref()).collect();
    outputs.map(|outputs| outputs.into_iter().flatten().cloned().collect())
}
