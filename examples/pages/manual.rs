//! The manual pages, in the macros of man(7).

use std::fmt::Write as _;

use brooklet::config::file::keywords::{Keyword, Standing, keywords};

use super::help::{Flag, Help, Program};

/// The pages by their file names.
pub fn pages(program: &Program) -> Vec<(String, String)> {
    let mut pages =
        vec![("brooklet.1".to_owned(), broker(program)), ("brooklet.conf.5".to_owned(), configuration())];
    for help in &program.subcommands {
        pages.push((format!("brooklet-{}.1", help.name), subcommand(help)));
    }
    pages
}

fn broker(program: &Program) -> String {
    let mut page = head("brooklet", "1", &program.broker.purpose);
    page += &synopsis(&program.broker);
    for help in &program.subcommands {
        let _ = writeln!(page, ".br\n.B brooklet {}\n\\&...", help.name);
    }
    page += ".SH DESCRIPTION\n";
    page += &paragraph(
        "Brooklet is a broker for MQTT 3.1, 3.1.1 and 5.0. It reads configuration files of mosquitto. Without one, it \
         serves clients of this machine on port 1883. It stays in the foreground and logs to standard error.",
    );
    page += &options(&program.broker);
    page += ".SH SUBCOMMANDS\n";
    for help in &program.subcommands {
        let _ = writeln!(page, ".TP\n.BR brooklet\\-{} (1)\n{}", help.name, escaped(&help.purpose));
    }
    page += ".SH SIGNALS\n";
    for (signal, effect) in [
        ("HUP", "reads the configuration and everything that it names again, all or nothing"),
        ("USR2", "writes the subscriptions to the log"),
        ("RTMIN", "opens the log files again, after they were moved"),
        ("INT, TERM", "ends the broker: it publishes Wills, tells 5.0 clients the reason, and exits with 0"),
    ] {
        let _ = writeln!(page, ".TP\n.B {signal}\n{}", escaped(effect));
    }
    page += ".SH EXIT STATUS\n";
    page += &paragraph(
        "0 after a signal to end, 1 if something could not be opened or has failed, 3 if the command line or the \
         configuration is invalid.",
    );
    page += ".SH SEE ALSO\n.BR brooklet.conf (5)";
    for help in &program.subcommands {
        let _ = write!(page, ",\n.BR brooklet\\-{} (1)", help.name);
    }
    page + "\n"
}

fn subcommand(help: &Help) -> String {
    let mut page = head(&format!("brooklet-{}", help.name), "1", &help.purpose);
    page += &synopsis(help);
    page += ".SH DESCRIPTION\n";
    page += &help.description.split("\n\n").map(paragraph).collect::<Vec<_>>().join(".PP\n");
    page += &options(help);
    page + ".SH SEE ALSO\n.BR brooklet (1),\n.BR brooklet.conf (5)\n"
}

/// The page about the configuration: the keywords, under what they are.
fn configuration() -> String {
    let mut page = head("brooklet.conf", "5", "configuration of brooklet");
    page += ".SH DESCRIPTION\n";
    page += &paragraph(
        "The format is that of mosquitto.conf: one statement per line, which is a keyword, a space and a value. A line \
         that starts with # is a comment. Statements after `listener` apply to that listener, and those after \
         `connection` to that bridge. `brooklet -c FILE --test-config` checks a file and everything that it names.",
    );
    for (heading, standing, what) in [
        ("KEYWORDS THAT WORK AS IN MOSQUITTO", Standing::Works, ""),
        ("KEYWORDS THAT DIFFER FROM MOSQUITTO", Standing::Differs, "They work, with these differences."),
        ("KEYWORDS THAT ARE IGNORED", Standing::Ignored, "They have no effect; a warning names them."),
        ("KEYWORDS THAT ARE NOT SUPPORTED", Standing::NotYet, "They are errors."),
    ] {
        let _ = writeln!(page, ".SH {heading}\n{what}");
        keywords().filter(|keyword| keyword.standing() == standing).for_each(|keyword| page += &row(keyword));
    }
    page + ".SH FILES\n.TP\n.I /etc/brooklet/brooklet.conf\nthe configuration of the packaged service\n\
            .SH SEE ALSO\n.BR brooklet (1)\n"
}

fn row(keyword: &Keyword) -> String {
    let default = keyword.default().filter(|default| !default.is_empty());
    let default = default.map(|default| format!("Default: {default}."));
    let said: Vec<String> =
        default.into_iter().chain(Some(keyword.note.to_owned())).filter(|text| !text.is_empty()).collect();
    format!(".TP\n.B {}\n{}\n", escaped(keyword.name), escaped(&said.join(" ")))
}

fn head(name: &str, section: &str, purpose: &str) -> String {
    let title = escaped(&name.to_uppercase());
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH {title} {section} \"\" \"brooklet {version}\" \"Brooklet\"\n.SH NAME\n{} \\- {}\n",
        escaped(name),
        escaped(purpose)
    )
}

fn synopsis(help: &Help) -> String {
    let calls: Vec<String> = help.usage.iter().map(|call| escaped(call) + "\n").collect();
    format!(".SH SYNOPSIS\n{}", calls.join(".br\n"))
}

fn options(help: &Help) -> String {
    let mut text = ".SH OPTIONS\n".to_owned();
    for flag in &help.flags {
        let _ = writeln!(text, ".TP\n{}\n{}", names(flag), escaped(&flag.help));
    }
    text
}

fn names(flag: &Flag) -> String {
    let names: Vec<String> = flag.names().iter().map(|name| format!("\\fB{}\\fR", escaped(name))).collect();
    let value = flag.value.as_ref().map(|value| format!(" \\fI{value}\\fR"));
    names.join(", ") + &value.unwrap_or_default()
}

fn paragraph(text: &str) -> String {
    text.lines().map(|line| escaped(line) + "\n").collect()
}

/// A text in which nothing is a macro. What is in backticks becomes bold.
fn escaped(text: &str) -> String {
    let mut text = text.replace('\\', "\\e").replace('-', "\\-");
    while let Some((before, (marked, after))) =
        text.split_once('`').and_then(|(before, rest)| Some((before, rest.split_once('`')?)))
    {
        text = format!("{before}\\fB{marked}\\fR{after}");
    }
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
