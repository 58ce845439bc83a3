//! The body of the fuzz target for the command line. It takes any text as arguments, and panics if an error has more
//! than one line, or if invalid options are accepted.

use super::{Command, PORTS_MAXIMUM, parse};

/// Each line of the text is an argument.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let arguments: Vec<String> = text.split('\n').map(str::to_owned).collect();
    match parse(&arguments) {
        Err(error) => {
            assert!(!error.is_empty() && !error.contains(['\n', '\r']), "{error:?}");
        }
        Ok(Command::Print(text)) => assert!(!text.is_empty()),
        Ok(Command::Run { given, .. } | Command::Test { given, .. }) => {
            assert!(given.ports.len() <= PORTS_MAXIMUM, "{given:?}");
            let mut fixed: Vec<u16> = given.ports.into_iter().filter(|&port| port != 0).collect();
            let given = fixed.len();
            fixed.sort_unstable();
            fixed.dedup();
            assert_eq!(fixed.len(), given, "ports are unique");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::base::fuzzing::try_out;

    #[test]
    fn any_arguments_are_accepted_or_reported() {
        try_out("options", 400, super::check);
    }
}
