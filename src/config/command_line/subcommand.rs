//! The subcommands, which the first argument selects.

use super::acl;
use super::finished::{Finished, failed};
#[cfg(feature = "passwords")]
use super::passwd;
use super::usage;
#[cfg(feature = "persistence")]
use super::{import, migrate};
use crate::base::escape::Escaped;

/// A subcommand.
pub(super) struct Subcommand {
    pub(super) name: &'static str,
    /// What it does, for the help.
    pub(super) what: &'static str,
    run: fn(&[String]) -> Finished,
    /// Whether this binary was built with it.
    pub(super) is_there: bool,
}

/// All subcommands but `help`, in the order of the help.
pub(super) const SUBCOMMANDS: [Subcommand; 4] = [
    Subcommand {
        name: "passwd",
        what: "manage the users in a password file",
        #[cfg(feature = "passwords")]
        run: passwd::run,
        #[cfg(not(feature = "passwords"))]
        run: |_| {
            failed(
                "this binary does not support hashed passwords, expected one built with the feature `passwords`",
            )
        },
        is_there: cfg!(feature = "passwords"),
    },
    Subcommand { name: "acl", what: "show what access rules allow", run: acl::run, is_there: true },
    Subcommand {
        name: "import",
        what: "import the database of mosquitto",
        #[cfg(feature = "persistence")]
        run: import::run,
        #[cfg(not(feature = "persistence"))]
        run: lacks_persistence,
        is_there: cfg!(feature = "persistence"),
    },
    Subcommand {
        name: "migrate",
        what: "take over the configuration and the database of mosquitto",
        #[cfg(feature = "persistence")]
        run: migrate::run,
        #[cfg(not(feature = "persistence"))]
        run: lacks_persistence,
        is_there: cfg!(feature = "persistence"),
    },
];

#[cfg(not(feature = "persistence"))]
fn lacks_persistence(_arguments: &[String]) -> Finished {
    failed("this binary does not support persistence, expected one built with the feature `persistence`")
}

/// The subcommands that this binary has, as a list in words.
pub(super) fn names() -> String {
    let mut names: Vec<_> =
        SUBCOMMANDS.iter().filter(|command| command.is_there).map(|command| command.name).collect();
    names.push("help");
    let last = names.pop().unwrap_or_default();
    match names.is_empty() {
        true => last.to_owned(),
        false => format!("{} or {last}", names.join(", ")),
    }
}

/// Runs the subcommand that the first argument names; `None` if it names none, so the broker is to be run.
pub fn subcommand(arguments: &[String]) -> Option<Finished> {
    let (name, arguments) = arguments.split_first()?;
    if name == "help" {
        return Some(help(arguments));
    }
    SUBCOMMANDS.iter().find(|command| command.name == name).map(|command| (command.run)(arguments))
}

/// `brooklet help [COMMAND]`: the same as `--help` of the broker or of a subcommand.
fn help(arguments: &[String]) -> Finished {
    match arguments {
        [] => Finished { output: usage(), ..Finished::default() },
        [name] if name == "help" => Finished { output: usage(), ..Finished::default() },
        [name] => match SUBCOMMANDS.iter().find(|command| command.name == name) {
            Some(command) => (command.run)(&["--help".to_owned()]),
            None => failed(&format!("unknown command '{}', expected {}", Escaped(name), names())),
        },
        _ => failed("too many arguments, expected brooklet help [COMMAND]"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests are about files")]

    use super::*;
    use crate::config::command_line::finished::EXIT_INVALID;

    fn run(line: &str) -> Finished {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        subcommand(&arguments).expect("a subcommand")
    }

    #[test]
    fn decisions_are_explained_with_lines() {
        let path = std::env::temp_dir().join(format!("brooklet-acl-{}", std::process::id()));
        std::fs::write(
            &path,
            "topic open\nuser ann\n  topic read maxqos 1 a/#\ntopic deny a/x\npattern write %c\n",
        )
        .unwrap();
        let file = path.file_name().unwrap().display();
        for (line, output, code) in [
            ("--client c read open", format!("allowed by {file}:1\n    topic open\n"), 0),
            (
                "--user ann --client c read a/1",
                format!("allowed at QoS 1 and less by {file}:3\n    topic read maxqos 1 a/#\n"),
                0,
            ),
            ("--user ann --client c read a/x", format!("denied by {file}:4\n    topic deny a/x\n"), 1),
            ("--user ann --client c read #", format!("allowed in part by {file}\n"), 0),
            ("--user ann --client c write a/1", format!("no rule of {file} allows it\n"), 1),
            ("--user bob --client c write c", format!("allowed by {file}:5\n    pattern write %c\n"), 0),
            ("--client c write $SYS/x", "denied: only the broker may publish below $SYS\n".to_owned(), 1),
        ] {
            let finished = run(&format!("acl {} {line}", path.display()));
            assert_eq!(finished, Finished { output, code, ..Finished::default() }, "{line}");
        }
        for (line, word) in [
            ("--client c read", "expected FILE"),
            ("read a", "expected FILE"),
            ("--client c eat a", "'eat'"),
            ("--client c write +", "'+'"),
            ("--client c read a#", "'a#'"),
        ] {
            let finished = run(&format!("acl {} {line}", path.display()));
            assert!(finished.code == 3 && finished.error.contains(word), "{line}: {finished:?}");
        }
        std::fs::write(&path, "\u{feff}topic open\n").unwrap();
        let finished = run(&format!("acl {} --client c read open", path.display()));
        assert!(finished.output.starts_with("allowed by") && finished.code == 0, "{finished:?}");
        let warnings: Vec<String> = finished.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [format!(
                "{}:1:1: a byte order mark, which mosquitto would not skip, is skipped",
                path.display()
            )]
        );
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(
            run(&format!("acl {} --client c read a", path.display())).error.contains(":1:1: unknown keyword")
        );
        std::fs::remove_file(&path).unwrap();
        assert!(run(&format!("acl {} --client c read a", path.display())).error.contains("cannot be read"));
        assert!(run("acl --help").output.contains("brooklet acl"));
        assert_eq!(run("help acl"), run("acl --help"));
        assert_eq!(subcommand(&["-v".to_owned()]), None);
    }

    #[test]
    fn help_is_about_the_broker_or_a_subcommand() {
        assert_eq!((run("help").output, run("help help").output), (usage(), usage()));
        for Subcommand { name, what, is_there, .. } in SUBCOMMANDS {
            let help = run(&format!("help {name}"));
            assert_eq!(help, run(&format!("{name} --help")));
            assert_eq!(help.output.contains(&format!("Usage: brooklet {name} ")), is_there, "{help:?}");
            // What the binary does not have is not offered.
            assert_eq!(usage().contains(what), is_there);
            assert_eq!(names().contains(name), is_there);
        }
        for line in ["help psswd", "help acl passwd"] {
            assert_eq!(run(line).code, EXIT_INVALID, "{line}");
        }
        let error = run("help a\nb").error;
        assert!(error.contains("'a\\u{a}b', expected ") && error.ends_with(" or help"), "{error}");
    }
}
