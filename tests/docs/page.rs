//! A page as the test reads it: the files that it tells its reader to write, and the commands that it shows.
//!
//! | on the page | what it is |
//! |---|---|
//! | a block after a paragraph that ends with `` `NAME`: `` | a file of this name |
//! | a block in the language `sh` | commands that have to succeed; what they print is not compared |
//! | a block in the language `console` | commands after `$ `, and what all of them print |
//! | a block in the language `text` | neither |
//!
//! A comment before a block of commands says that it is run in another terminal, which stays open while the page goes on
//! (`<!-- another terminal -->`), or that it is not run, and why (`<!-- not run: REASON -->`).

const OTHER_TERMINAL: &str = "<!-- another terminal -->";
const NOT_RUN: &str = "<!-- not run: ";

/// A part of a page that is not prose.
#[derive(Debug, PartialEq)]
pub struct Block {
    /// The line of the page on which it begins, from 1 on.
    pub line: usize,
    pub content: Content,
}

#[derive(Debug, PartialEq)]
pub enum Content {
    File {
        name: String,
        text: String,
    },
    Commands {
        commands: Vec<Command>,
        is_in_other_terminal: bool,
    },
    /// Commands that are not run, for this reason.
    NotRun(String),
    Text,
}

/// A command with what it prints, which is only known of a block in the language `console`.
#[derive(Debug, PartialEq)]
pub struct Command {
    pub text: String,
    pub output: Option<Vec<String>>,
}

/// Returns the blocks of a page, or what is wrong with one.
pub fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let fence = line.trim_start();
        let Some(language) = fence.strip_prefix("```") else {
            before = if line.trim().is_empty() { before } else { line };
            continue;
        };
        let indent = line.len() - fence.len();
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let body: Vec<&str> = inside.map(|line| line.get(indent..).unwrap_or_default()).collect();
        let content =
            content(language, before, &body).map_err(|what| format!("line {}: {what}", index + 1))?;
        blocks.push(Block { line: index + 1, content });
        before = "";
    }
    Ok(blocks)
}

fn content(language: &str, before: &str, body: &[&str]) -> Result<Content, String> {
    if let Some(reason) = before.strip_prefix(NOT_RUN) {
        return Ok(Content::NotRun(reason.trim_end_matches(" -->").to_owned()));
    }
    let is_in_other_terminal = before == OTHER_TERMINAL;
    match language {
        "sh" => Ok(Content::Commands { commands: commands(body), is_in_other_terminal }),
        "console" => Ok(Content::Commands { commands: dialogue(body)?, is_in_other_terminal }),
        "text" => Ok(Content::Text),
        _ => {
            let name = before.strip_suffix("`:").and_then(|rest| rest.rsplit('`').next());
            let name = name.filter(|name| !name.starts_with('/') && !name.contains(".."));
            let name = name
                .ok_or("neither `sh`, `console` nor `text`, and no name of a file of the page before it")?;
            Ok(Content::File { name: name.to_owned(), text: body.join("\n") + "\n" })
        }
    }
}

/// Splits a script into commands: a line that ends with a backslash continues on the next.
fn commands(body: &[&str]) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut text = String::new();
    for line in body.iter().filter(|line| !line.trim().is_empty()) {
        text.push_str(line);
        if line.ends_with('\\') {
            text.push('\n');
        } else {
            commands.push(Command { text: std::mem::take(&mut text), output: None });
        }
    }
    commands
}

/// Splits what a terminal shows into commands and what each is followed by.
fn dialogue(body: &[&str]) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    for line in body {
        let last = commands.last_mut();
        if let Some(text) = line.strip_prefix("$ ") {
            commands.push(Command { text: text.to_owned(), output: Some(vec![]) });
        } else if let Some(unfinished) = last.filter(|command| command.text.ends_with('\\')) {
            unfinished.text.push('\n');
            unfinished.text.push_str(line);
        } else {
            let output = commands.last_mut().and_then(|command| command.output.as_mut());
            output.ok_or("output before the first command")?.push((*line).to_owned());
        }
    }
    Ok(commands)
}

/// Whether these lines were printed. A line `...` stands for any lines, and `...` in a line for any text; a number of
/// five digits or more stands for any such number, since moments and ports of clients differ.
pub fn is_as_expected(expected: &[String], printed: &[&str]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return printed.is_empty() };
    if first == "..." {
        return (0..=printed.len()).any(|skipped| is_as_expected(rest, &printed[skipped..]));
    }
    let Some((line, others)) = printed.split_first() else { return false };
    is_line(&without_numbers(first), &without_numbers(line)) && is_as_expected(rest, others)
}

fn is_line(expected: &str, line: &str) -> bool {
    let Some((start, end)) = expected.split_once("...") else { return expected == line };
    line.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
}

/// Replaces long numbers by `#`.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    let mut digits = String::new();
    for sign in line.chars().chain(['\n']) {
        if sign.is_ascii_digit() {
            digits.push(sign);
            continue;
        }
        text.push_str(if digits.len() < 5 { &digits } else { "#" });
        digits.clear();
        text.push(sign);
    }
    text.pop();
    text
}

#[test]
fn blocks_are_read_with_what_is_before_them() {
    let page = "# A\n\nThese are `a` and `b`:\n\n```\nx\n\ny\n```\n\n- In a list.\n  ```sh\n  one \\\n    two # three\n\n  four\n  ```\n\
                <!-- another terminal -->\n```console\n$ five\nsix\n$ seven\n```\n<!-- not run: it is late -->\n```sh\n8\n```\n\
                ```text\nnine\n```\n";
    let read = blocks(page).expect("it is a page");
    let command = |text: &str, output: Option<&[&str]>| Command {
        text: text.to_owned(),
        output: output.map(|lines| lines.iter().map(ToString::to_string).collect()),
    };
    let script = vec![command("one \\\n  two # three", None), command("four", None)];
    let shown = vec![command("five", Some(&["six"])), command("seven", Some(&[]))];
    let expected = [
        (5, Content::File { name: "b".to_owned(), text: "x\n\ny\n".to_owned() }),
        (12, Content::Commands { commands: script, is_in_other_terminal: false }),
        (19, Content::Commands { commands: shown, is_in_other_terminal: true }),
        (25, Content::NotRun("it is late".to_owned())),
        (28, Content::Text),
    ];
    assert_eq!(read, expected.map(|(line, content)| Block { line, content }));
}

#[test]
fn a_block_of_no_kind_is_found() {
    for page in [
        "A.\n```\nx\n```\n",
        "`/a`:\n```\nx\n```\n",
        "`a`:\n```\nx\n```\n```\ny\n```\n",
        "```console\nx\n```\n",
    ] {
        assert!(blocks(page).is_err(), "{page}");
    }
}

#[test]
fn what_is_printed_is_compared_without_what_differs_each_time() {
    let is_said = |expected: &str, printed: &str| {
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        is_as_expected(&expected, &printed.lines().collect::<Vec<_>>())
    };
    assert!(is_said("1795408155: from 127.0.0.1:56846 (k60)", "1795400000: from 127.0.0.1:50000 (k60)"));
    assert!(!is_said("1795408155: from 127.0.0.1:56846 (k60)", "1795400000: from 127.0.0.1:50000 (k61)"));
    assert!(is_said("a\n...\nd", "a\nb\nc\nd") && is_said("a\n...", "a") && is_said("a...c", "abbc"));
    assert!(
        !is_said("a\n...\nd", "a\nb") && !is_said("a", "a\nb") && !is_said("a\nb", "a") && !is_said("", "a")
    );
}
