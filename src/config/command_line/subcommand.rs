//! The subcommands, which the first argument selects.

use super::acl;
#[cfg(feature = "persistence")]
use super::import;
#[cfg(feature = "passwords")]
use super::passwd;
use crate::settings::ConfigError;

/// The result of a subcommand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// The text for standard output.
    pub output: String,
    /// What the operator should look into, for standard error.
    pub warnings: Vec<ConfigError>,
    /// The text for standard error, without a line feed at its end; empty if there was no error.
    pub error: String,
    /// The exit code.
    pub code: u8,
}

/// An option or an argument is invalid.
const EXIT_INVALID: u8 = 3;

/// The result for invalid arguments.
pub(super) fn failed(error: &str) -> Finished {
    Finished { error: error.to_owned(), code: EXIT_INVALID, ..Finished::default() }
}

/// Runs the subcommand that the first argument names; `None` if it names none, so the broker is to be run.
pub fn subcommand(arguments: &[String]) -> Option<Finished> {
    let (name, arguments) = arguments.split_first()?;
    match name.as_str() {
        "acl" => Some(acl::run(arguments)),
        #[cfg(feature = "persistence")]
        "import" => Some(import::run(arguments)),
        #[cfg(not(feature = "persistence"))]
        "import" => Some(failed(
            "this binary does not support persistence, expected one built with the feature `persistence`",
        )),
        #[cfg(feature = "passwords")]
        "passwd" => Some(passwd::run(arguments)),
        #[cfg(not(feature = "passwords"))]
        "passwd" => Some(failed(
            "this binary does not support hashed passwords, expected one built with the feature `passwords`",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests are about files")]

    use super::*;

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
        let file = path.display();
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
            let finished = run(&format!("acl {file} {line}"));
            assert_eq!(finished, Finished { output, code, ..Finished::default() }, "{line}");
        }
        for (line, word) in [
            ("--client c read", "expected FILE"),
            ("read a", "expected FILE"),
            ("--client c eat a", "'eat'"),
            ("--client c write +", "'+'"),
            ("--client c read a#", "'a#'"),
        ] {
            let finished = run(&format!("acl {file} {line}"));
            assert!(finished.code == 3 && finished.error.contains(word), "{line}: {finished:?}");
        }
        std::fs::write(&path, "\u{feff}topic open\n").unwrap();
        let finished = run(&format!("acl {file} --client c read open"));
        assert!(finished.output.starts_with("allowed by") && finished.code == 0, "{finished:?}");
        let warnings: Vec<String> = finished.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [format!("{file}:1:1: a byte order mark, which mosquitto would not skip, is skipped")]
        );
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(run(&format!("acl {file} --client c read a")).error.contains(":1:1: unknown keyword"));
        std::fs::remove_file(&path).unwrap();
        assert!(run(&format!("acl {file} --client c read a")).error.contains("cannot be read"));
        assert!(run("acl --help").output.contains("brooklet acl"));
        assert_eq!(subcommand(&["-v".to_owned()]), None);
    }
}
