//! The manual pages and completions have every flag and every keyword that the code knows.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{self, Command};

use brooklet::config::command_line::parse;
use brooklet::config::file::keywords::keywords;

use help::{Flag, Help, Program, Takes, flags};

#[path = "../../examples/pages/completions.rs"]
mod completions;
#[path = "../../examples/pages/help.rs"]
mod help;
#[path = "../../examples/pages/manual.rs"]
mod manual;

/// The text of a generated file.
fn text(name: &str) -> String {
    let program = Program::read();
    let mut files = manual::pages(&program).into_iter().chain(completions::all(&program));
    files.find(|(file, _)| file == name).unwrap_or_else(|| panic!("there is no {name}")).1
}

#[test]
fn flags_are_read_from_the_help() {
    let text = "    -c, --config-file FILE\n                        read this\n        --to DIRECTORY  into\n                        \
                here\n    -h, --help          print this\n    -x                  do\n";
    let flag = |short: &str, long: &str, value: &str, help: &str| {
        let [short, long, value] =
            [short, long, value].map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()));
        Flag { short, long, value, help: help.to_owned() }
    };
    let expected = [
        flag("-c", "--config-file", "FILE", "read this"),
        flag("", "--to", "DIRECTORY", "into here"),
        flag("-h", "--help", "", "print this"),
        flag("-x", "", "", "do"),
    ];
    assert_eq!(flags(text), expected);
}

#[test]
fn the_help_is_read_in_full() {
    let program = Program::read();
    let names: Vec<&str> = program.subcommands.iter().map(|help| help.name.as_str()).collect();
    for name in ["passwd", "acl", "import"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for flag in &program.broker.flags {
        for name in flag.names() {
            let value = if flag.takes() == Takes::Nothing { "" } else { " 16M" };
            let line = format!("{name}{value}");
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            // A flag that is not known, or whose value is missing or surplus, is an error of getopts.
            let error = parse(&words).err().unwrap_or_default();
            assert!(!error.contains("option:") && !error.contains("Argument"), "{line}: {error}");
        }
    }
}

#[test]
fn every_flag_is_in_its_page_and_in_the_completions() {
    let program = Program::read();
    let page = |help: &Help| match help.name.as_str() {
        "" => "brooklet.1".to_owned(),
        name => format!("brooklet-{name}.1"),
    };
    let [bash, zsh, fish] = ["brooklet.bash", "_brooklet", "brooklet.fish"].map(text);
    for help in program.subcommands.iter().chain([&program.broker]) {
        assert!(!help.flags.is_empty() && !help.usage.is_empty(), "{}", help.name);
        let page = text(&page(help));
        for name in help.flags.iter().flat_map(Flag::names) {
            assert!(page.contains(&format!("\\fB{}\\fR", name.replace('-', "\\-"))), "{name}: {page}");
            assert!(bash.contains(name) && zsh.contains(&format!("){name}[")), "{name}");
            let (kind, bare) = name.strip_prefix("--").map_or(("-s", &name[1..]), |bare| ("-l", bare));
            assert!(fish.contains(&format!(" {kind} {bare} ")), "{name}");
        }
    }
}

#[test]
fn every_keyword_is_in_the_page() {
    let page = text("brooklet.conf.5");
    for keyword in keywords() {
        assert!(page.contains(&format!(".TP\n.B {}\n", keyword.name)), "{}", keyword.name);
    }
}

/// A line that starts with a dot or a quote is a macro of roff, so all such lines are ours.
#[test]
fn no_text_is_taken_for_a_macro() {
    const MACROS: [&str; 8] = [".TH", ".SH", ".TP", ".PP", ".B", ".BR", ".I", ".br"];
    for (name, text) in manual::pages(&Program::read()) {
        for line in text.lines().filter(|line| line.starts_with(['.', '\''])) {
            let word = line.split(' ').next().unwrap_or_default();
            assert!(MACROS.contains(&word), "{name}: {line}");
        }
    }
}

/// What bash proposes for the last of these words.
fn proposed(line: &str) -> Vec<String> {
    let script = "eval \"$1\"; COMP_WORDS=($2); [ \"${2% }\" = \"$2\" ] || COMP_WORDS+=(''); \
                  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _brooklet; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output =
        Command::new("bash").args(["-c", script, "bash"]).arg(text("brooklet.bash")).arg(line).output();
    let output = output.expect("bash can be started");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_flags_subcommands_and_files() {
    assert_eq!(proposed("brooklet --test-c"), ["--test-config"]);
    assert_eq!(proposed("brooklet pas"), ["passwd"]);
    assert_eq!(proposed("brooklet passwd --cr"), ["--create"]);
    assert_eq!(proposed("brooklet -c Cargo.to"), ["Cargo.toml"]);
    assert_eq!(proposed("brooklet import --to sr"), ["src"]);
    assert_eq!(proposed("brooklet acl Cargo.to"), ["Cargo.toml"]);
    assert_eq!(proposed("brooklet --memory-limit "), [""]);
}

/// Whether a shell is there. If not, its test says so.
fn is_installed(shell: &str) -> bool {
    let is_there =
        Command::new(shell).args(["-c", "true"]).output().is_ok_and(|output| output.status.success());
    if !is_there {
        // Unlike what is printed, this is not captured.
        let said = "is not installed, so its completions are not tried";
        let _ = writeln!(io::stderr(), "SKIPPED: {shell} {said}");
    }
    is_there
}

/// A line with its last word begun, and what a shell proposes for that word.
const PROPOSALS: [(&str, &[&str]); 6] = [
    ("brooklet --test-c", &["--test-config"]),
    ("brooklet pas", &["passwd"]),
    ("brooklet passwd --cr", &["--create"]),
    ("brooklet -c Cargo.to", &["Cargo.toml"]),
    ("brooklet import --to sr", &["src"]),
    ("brooklet acl Cargo.to", &["Cargo.toml"]),
];

/// A directory with the completions, which is removed afterwards.
#[expect(clippy::disallowed_methods, reason = "a test may write files")]
fn with_completions(shell: &str, test: impl FnOnce(&Path)) {
    let directory = std::env::temp_dir().join(format!("brooklet-completions-{shell}-{}", process::id()));
    fs::create_dir_all(&directory).expect("a directory can be made");
    for (name, text) in completions::all(&Program::read()) {
        fs::write(directory.join(name), text).expect("a file can be written");
    }
    test(&directory);
    fs::remove_dir_all(&directory).expect("it can be removed");
}

#[test]
fn fish_completes_flags_subcommands_and_files() {
    if !is_installed("fish") {
        return;
    }
    with_completions("fish", |directory| {
        for (line, expected) in PROPOSALS {
            let mut fish = Command::new("fish");
            fish.args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"]);
            let output = fish.arg(directory.join("brooklet.fish")).arg(line).output();
            let output = output.expect("fish can be started");
            assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            let told = String::from_utf8_lossy(&output.stdout);
            let words = told.lines().filter_map(|line| line.split('\t').next());
            let found: Vec<&str> = words.map(|word| word.trim_end_matches('/')).collect();
            // It also proposes longer names that contain what is begun.
            assert_eq!(found.first(), expected.first(), "{line}: {told}");
        }
    });
}

#[test]
fn zsh_completes_flags_subcommands_and_files() {
    if !is_installed("zsh") {
        return;
    }
    with_completions("zsh", |directory| {
        for (number, (line, expected)) in PROPOSALS.into_iter().enumerate() {
            let found = directory.join(format!("found-{number}"));
            let mut zsh = Command::new("zsh");
            zsh.args(["-f", "tests/packages/propose.zsh"]).arg(directory).arg(line).arg(&found);
            let output = zsh.output().expect("zsh can be started");
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            let told = fs::read_to_string(&found).unwrap_or_default();
            let mut words: Vec<&str> = told.lines().filter(|word| !word.is_empty()).collect();
            words.dedup();
            assert_eq!(words, expected, "{line}");
        }
    });
}
