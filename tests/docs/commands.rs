//! Commands that build or test the repository take too long to be run: what they name has to exist.

use std::path::Path;
use std::process::Command;

/// Returns what is wrong with the commands `make` and `cargo` in a text, in its prose as well as in its examples.
pub fn wrong(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let spans = joined.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " "));
    let lines = joined.lines().map(|line| line.trim_start().trim_start_matches("$ ").to_owned());
    let commands = spans.chain(lines).filter(|line| line.starts_with("make ") || line.starts_with("cargo "));
    commands
        .filter(|command| !is_known(command))
        .map(|command| format!("`{command}` names nothing"))
        .collect()
}

fn is_known(command: &str) -> bool {
    let command = command.split(" #").next().unwrap_or_default().trim();
    match command.strip_prefix("make ") {
        Some(arguments) => is_target(arguments),
        None => are_tests(command),
    }
}

/// Whether `make` would have something to do, and knows all of it.
fn is_target(arguments: &str) -> bool {
    let mut make = Command::new("bash");
    make.args(["-c", &format!("make --dry-run {arguments}")]).current_dir(env!("CARGO_MANIFEST_DIR"));
    make.output().is_ok_and(|output| output.status.success())
}

/// Whether the tests and benchmarks that a command names exist.
fn are_tests(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    let named = |flag: &str| {
        let pairs = words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].to_owned());
        pairs.collect::<Vec<_>>()
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_test = |name: &String| {
        let places = [format!("tests/{name}.rs"), format!("tests/{name}/main.rs")];
        places.iter().any(|place| root.join(place).exists())
    };
    let is_bench = |name: &String| {
        let places = [format!("tests/bench/{name}.rs"), format!("tests/bench/{name}/main.rs")];
        places.iter().any(|place| root.join(place).exists())
    };
    named("--test").iter().all(is_test) && named("--bench").iter().all(is_bench)
}

#[test]
fn a_command_that_names_nothing_is_found() {
    let text = "Use `make size`, `make\nsize` or `make nothing`.\n```sh\nmake size    # sizes\n$ make \\\n    wrong\n\
                cargo test --test docs\ncargo test --test doc\ncargo bench --bench trie\n```\n`cargo bench --bench tree`\n";
    let found = wrong(text);
    assert_eq!(found.len(), 4, "{found:?}");
}
