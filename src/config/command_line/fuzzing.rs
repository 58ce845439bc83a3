//! The body of the fuzz target for the command line: any text as its arguments.
//! It panics if an error is more than a line, or if something is accepted that can not be served.

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
            assert_eq!(fixed.len(), given, "a port is served once");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::base::fuzzing::try_out;

    #[test]
    fn any_arguments_are_taken_or_complained_about() {
        try_out("options", 400, super::check);
    }
}
