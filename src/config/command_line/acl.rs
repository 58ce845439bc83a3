//! `brooklet acl`: shows what the rules in a file allow a client to do with a topic, and which line decides.

use std::path::PathBuf;

use getopts::Options as Parser;

use super::finished::{Finished, failed, options};
use crate::auth::access_control::read_file;
use crate::auth::acl::{Access, Acl, Ruling, Subject};
use crate::base::escape::Escaped;
use crate::protocol::topic::{TopicFilter, TopicName};

const USAGE: &str = "\
Usage: brooklet acl FILE [--user NAME] --client IDENTIFIER read|write TOPIC

Shows whether the access rules in FILE allow an access, and which line decides. Exits with 0 if it is allowed, fully or
in part, and with 1 if not. The topic of `read` may be a filter: then this shows what a subscription to it would be
granted. Without --user, the client has no User Name.";

/// The rules deny the access.
const EXIT_DENIED: u8 = 1;

pub(super) fn run(arguments: &[String]) -> Finished {
    let mut parser = Parser::new();
    parser.optopt("", "user", "the User Name", "NAME");
    parser.optopt("", "client", "the Client Identifier", "IDENTIFIER");
    parser.optflag("h", "help", "print this help and exit");
    let matches = match options("acl", USAGE, &parser, arguments) {
        Ok(matches) => matches,
        Err(finished) => return finished,
    };
    let (user, client) = (matches.opt_str("user"), matches.opt_str("client"));
    let ([file, access, topic], Some(client)) = (matches.free.as_slice(), client) else {
        return failed(
            "expected FILE, --client IDENTIFIER, read or write, and TOPIC. Try brooklet acl --help.",
        );
    };
    let subject = Subject { client_identifier: &client, user_name: user.as_deref() };
    match ruling(file, &subject, access, topic) {
        Ok(finished) => finished,
        Err(error) => failed(&error),
    }
}

fn ruling(file: &str, subject: &Subject<'_>, access: &str, topic: &str) -> Result<Finished, String> {
    let bytes = read_file(&PathBuf::from(file).into(), "acl_file").map_err(|error| error.to_string())?;
    let acl = Acl::parse(file, &bytes)
        .map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let wrong = |error| format!("'{}' is not a valid topic: {error}", Escaped(topic));
    let ruling = match access {
        "read" => match TopicName::new(topic) {
            Ok(name) => acl.decide(subject, Access::Read, name),
            Err(_) => acl.decide_filter(subject, TopicFilter::new(topic).map_err(wrong)?),
        },
        "write" => {
            let name = TopicName::new(topic).map_err(wrong)?;
            if name.is_about_the_broker() {
                let output = "denied: only the broker may publish below $SYS\n".to_owned();
                return Ok(Finished { output, code: EXIT_DENIED, ..Finished::default() });
            }
            acl.decide(subject, Access::Write, name)
        }
        other => return Err(format!("unknown access '{}', expected read or write", Escaped(other))),
    };
    let line = match ruling {
        Ruling::Allowed { line, .. } | Ruling::Denied { line: Some(line) } | Ruling::Unused { line, .. } => {
            Some(line)
        }
        Ruling::InPart { .. } | Ruling::Denied { line: None } => None,
    };
    let mut output = format!("{}\n", acl.explain(ruling));
    if let Some(text) = line.and_then(|line| text_of(&bytes, line)) {
        output += &format!("    {}\n", Escaped(&text));
    }
    let code = if matches!(ruling, Ruling::Denied { .. } | Ruling::Unused { .. }) { EXIT_DENIED } else { 0 };
    Ok(Finished { output, warnings: acl.warnings().to_vec(), error: String::new(), code })
}

/// A line of a file, numbered from 1.
fn text_of(bytes: &[u8], line: u32) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    let line = bytes.split(|&byte| byte == b'\n').nth(index)?;
    Some(String::from_utf8_lossy(line).trim().to_owned())
}
