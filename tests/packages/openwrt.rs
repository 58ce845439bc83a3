//! The configuration of mosquitto in UCI becomes one of the broker.

use std::process::Command;

use brooklet::config::file;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The configuration that a shell makes, with `uci` as a function that shows a file.
fn made(shell: &[&str]) -> String {
    let script = "uci() { [ \"$*\" = '-q show mosquitto' ] && cat tests/packages/mosquitto.uci; }; \
                  . packages/openwrt/files/uci.sh; brooklet_from_uci mosquitto";
    let output = Command::new(shell[0]).args(&shell[1..]).args(["-c", script]).current_dir(ROOT).output();
    let output = output.expect("the shell can be started");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn the_options_of_mosquitto_are_taken_as_they_are() {
    let expected = include_str!("mosquitto.conf");
    let made = made(&["sh"]);
    assert_eq!(made, expected, "{made}");
}

/// Every option becomes a keyword that there is, so none is misspelt.
#[test]
fn every_keyword_is_known() {
    let script = include_str!("../../packages/openwrt/files/uci.sh");
    let begin = script.split("\n\t\t}").next().expect("the tables come first");
    let tables = begin.split("table[").skip(1);
    let rows = tables.flat_map(|table| table.split('"').skip(3).step_by(2)).flat_map(str::split_whitespace);
    let mut count = 0;
    for row in rows {
        let (option, keyword) = row.split_once(':').unwrap_or((row, row));
        let keyword = if keyword == option { option.split('/').next().unwrap_or(option) } else { keyword };
        count += 1;
        if keyword == "no_remote_access" {
            continue;
        }
        let (_, findings) = file::parse(format!("{keyword} x\n").as_bytes(), "uci");
        assert!(findings.is_empty(), "{keyword}: {findings:?}");
    }
    assert!(count > 80, "{count} options");
}

#[cfg(all(feature = "bridge", feature = "persistence", feature = "websocket"))]
#[test]
fn the_broker_accepts_what_is_made() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packages/mosquitto.conf");
    let given = file::CommandLine { host_name: Some("host".to_owned()), ..file::CommandLine::default() };
    let outcome = file::load(Some(path), &given);
    assert!(outcome.settings.is_some() && outcome.errors.is_empty(), "{:?}", outcome.errors);
}
