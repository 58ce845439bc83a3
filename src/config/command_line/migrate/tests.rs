//! Tests of taking over, with the files of a mosquitto in a directory of their own.

#![expect(clippy::disallowed_methods, reason = "the tests are about files")]

#[cfg(all(feature = "bridge", feature = "tls"))]
use std::process::Command;

use super::*;
use crate::config::file::keywords::keywords;

/// A machine with mosquitto, in a directory that is removed when dropped.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("brooklet-migrate-{name}-{}", std::process::id()));
        for directory in ["mosquitto/conf.d", "mosquitto/certs", "db", "brooklet/conf.d"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let machine = Self(root);
        let at = machine.0.display();
        machine.write(
            "mosquitto/mosquitto.conf",
            &format!(
                "# My broker\npid_file {at}/pid\nuser root\npersistence true\npersistence_location {at}/db/\n\
                 log_dest file {at}/mosquitto.log\nacl_file {at}/mosquitto/certs/acl\n\
                 include_dir {at}/mosquitto/conf.d\n"
            ),
        );
        machine.write("mosquitto/conf.d/listener.conf", "listener 18830\nmax_qos 1\n");
        machine.write("mosquitto/certs/acl", "topic read #\n");
        machine.write(
            "brooklet/brooklet.conf",
            &format!(
                "persistence true\npersistence_location {at}/brooklet\ninclude_dir {at}/brooklet/conf.d\n"
            ),
        );
        fs::copy(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/import/retained.db"),
            machine.0.join("db/mosquitto.db"),
        )
        .unwrap();
        machine
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn migrate(&self, flags: &[&str]) -> Finished {
        let [file, to] =
            ["mosquitto/mosquitto.conf", "brooklet"].map(|name| self.0.join(name).display().to_string());
        let words = flags.iter().copied().chain(["--to", &to, &file]);
        run(&words.map(str::to_owned).collect::<Vec<_>>())
    }

    /// A plan in which there is nothing yet.
    fn plan(&self) -> Plan {
        let [theirs, ours] = ["mosquitto", "brooklet"].map(|name| self.0.join(name));
        let (directories, files, remarks) = (Vec::new(), Vec::new(), Vec::new());
        Plan { theirs, ours, directories, files, remarks, room: TOTAL_MAXIMUM }
    }

    /// All files with their contents, but for the store.
    fn files(&self, directory: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut pending = vec![self.0.join(directory)];
        let mut found = Vec::new();
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                found.push((path.clone(), fs::read(path).unwrap()));
            }
        }
        found.sort();
        found
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_comes_next() {
    let machine = Machine::new("dry");
    let before = machine.files(".");
    let finished = machine.migrate(&[]);
    assert_eq!((finished.error.as_str(), finished.code), ("", 0));
    for word in ["10-mosquitto.conf", "20-listener.conf", "certs/acl", "mosquitto.db", "--apply"] {
        assert!(finished.output.contains(word), "{word}: {}", finished.output);
    }
    assert_eq!(machine.files("."), before);
}

#[test]
fn the_configuration_and_the_database_are_taken_over() {
    let machine = Machine::new("apply");
    let theirs = [machine.files("mosquitto"), machine.files("db")];
    let finished = machine.migrate(&["--apply"]);
    assert_eq!((finished.error.as_str(), finished.code), ("", 0));
    assert!(finished.output.contains("retained messages"), "{}", finished.output);
    assert_eq!([machine.files("mosquitto"), machine.files("db")], theirs);
    let at = machine.0.display();
    let main = machine.text("brooklet/conf.d/10-mosquitto.conf");
    assert!(main.contains("# My broker\n"), "{main}");
    let log = if Path::new(LOGS).is_dir() {
        format!("\nlog_dest file {LOGS}/mosquitto.log\n")
    } else {
        format!("\n# not taken over: log_dest file {at}/mosquitto.log\n")
    };
    assert!(main.contains(&log), "{main}");
    assert!(main.contains(&format!("\nacl_file {at}/brooklet/certs/acl\n")), "{main}");
    for keyword in OF_THE_SERVICE {
        assert!(!main.contains(&format!("\n{keyword} ")), "{main}");
    }
    let included = machine.text("brooklet/conf.d/20-listener.conf");
    assert!(included.ends_with("\nlistener 18830\nmax_qos 1\n"), "{included}");
    assert_eq!(machine.text("brooklet/certs/acl"), "topic read #\n");
    let again = machine.migrate(&["--apply"]);
    assert!(again.code == 1 && again.error.contains("exists already"), "{again:?}");
}

/// The service can make sockets and logs only in directories of its own.
#[test]
fn sockets_and_logs_move_to_where_the_service_can_write() {
    let machine = Machine::new("sockets");
    machine.write(
        "mosquitto/conf.d/listener.conf",
        "listener 18830\nlistener 0 /run/mosquitto/mqtt.sock\nlistener 0 /tmp/mqtt.sock\n\
         listener 0 /run/brooklet/own.sock\n",
    );
    let moved = [
        "/run/mosquitto/mqtt.sock becomes /run/brooklet/mqtt.sock,",
        "/tmp/mqtt.sock becomes /run/brooklet/2-mqtt.sock,",
    ];
    let log = format!("the log file {}/mosquitto.log ", machine.0.display());
    for flags in [&[][..], &["--apply"]] {
        let finished = machine.migrate(flags);
        assert_eq!((finished.error.as_str(), finished.code), ("", 0));
        for line in moved.iter().copied().chain([&*log]) {
            assert!(finished.output.contains(line), "{line}: {}", finished.output);
        }
        assert!(!finished.output.contains("own.sock"), "{}", finished.output);
    }
    let text = machine.text("brooklet/conf.d/20-listener.conf");
    let expected = "\nlistener 18830\nlistener 0 /run/brooklet/mqtt.sock\nlistener 0 /run/brooklet/2-mqtt.sock\n\
                    listener 0 /run/brooklet/own.sock\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn files_that_the_service_cannot_read_are_named() {
    let machine = Machine::new("unreadable");
    for (line, told) in [
        ("acl_file /run/user/1/acl", "the file /run/user/1/acl stays where the service cannot read it"),
        ("capath /tmp/cas", "the directory /tmp/cas stays where the service cannot read it"),
        ("keyfile /etc/ssl/a.key", ""),
        ("certfile /homes/a.crt", ""),
    ] {
        let (statements, _) = file::parse(line.as_bytes(), "a.conf");
        let mut plan = machine.plan();
        assert_eq!(plan.converted(&statements[0], line).unwrap(), format!("{line}\n"));
        let text = plan.tell("a.conf", None);
        assert!(text.contains(told) && text.contains("stays") != told.is_empty(), "{line}: {text}");
    }
}

#[test]
fn a_failed_attempt_leaves_nothing() {
    let machine = Machine::new("failed");
    let before = machine.files(".");
    let database = machine.0.join("db/mosquitto.db");
    fs::write(&database, &fs::read(&database).unwrap()[..100]).unwrap();
    let finished = machine.migrate(&["--apply"]);
    assert!(finished.code == 1 && finished.error.contains("mosquitto.db"), "{finished:?}");
    machine.write("mosquitto/mosquitto.conf", "listner 1\n");
    let finished = machine.migrate(&["--apply"]);
    assert!(finished.code == 3 && finished.error.contains("listner"), "{finished:?}");
    let names = |files: Vec<(PathBuf, Vec<u8>)>| files.into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(names(machine.files(".")), names(before));
}

#[test]
fn what_any_keyword_names_is_copied_or_belongs_to_the_service() {
    let machine = Machine::new("keywords");
    let [theirs, ours] = ["mosquitto", "brooklet"].map(|name| machine.0.join(name));
    let mut copied = 0;
    for (keyword, word) in keywords().flat_map(|keyword| ["", "file ", "0 "].map(|word| (keyword, word))) {
        // The words are a part of a path where there is nothing else.
        let Some((named, place)) = keyword.path_in(&format!("{word}/x")) else { continue };
        if place.start != word.len() {
            continue;
        }
        let name = if named == Named::Directory { "certs" } else { "certs/acl" };
        let line = format!("{} {word}{}", keyword.name, theirs.join(name).display());
        let (statements, _) = file::parse(line.as_bytes(), "a.conf");
        let mut plan = machine.plan();
        let converted = plan.converted(&statements[0], &line).unwrap();
        if OF_THE_SERVICE.contains(&keyword.name) || keyword.name == "log_dest" {
            assert!(
                !converted.contains("/certs") || converted.starts_with("# not taken over: "),
                "{converted}"
            );
        } else if named == Named::Socket {
            assert_eq!(converted, format!("{} {word}{SOCKETS}/acl\n", keyword.name));
        } else {
            assert_eq!(converted, format!("{} {word}{}\n", keyword.name, ours.join(name).display()));
            assert_eq!(plan.files.len(), 1, "{line}");
            assert_eq!(plan.files[0].path, ours.join("certs/acl"), "{line}");
            copied += 1;
        }
    }
    assert!(copied >= 7, "{copied}");
}

#[cfg(all(feature = "bridge", feature = "tls"))]
#[test]
fn a_directory_is_copied_with_its_files() {
    let machine = Machine::new("directory");
    let at = machine.0.display();
    fs::create_dir_all(machine.0.join("mosquitto/cas/more")).unwrap();
    let openssl = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=authority", "-keyout", "/dev/null", "-out", "mosquitto/cas/ca.pem"])
        .current_dir(&machine.0)
        .output();
    assert!(openssl.as_ref().is_ok_and(|output| output.status.success()), "{openssl:?}");
    std::os::unix::fs::symlink("ca.pem", machine.0.join("mosquitto/cas/1234.0")).unwrap();
    let bridge = format!("connection far\naddress far.test\ntopic #\nbridge_capath {at}/mosquitto/cas\n");
    machine.write("mosquitto/conf.d/bridge.conf", &bridge);
    let database = fs::read(machine.0.join("db/mosquitto.db")).unwrap();
    fs::write(machine.0.join("db/mosquitto.db"), &database[..100]).unwrap();
    let before = machine.files("brooklet");
    let finished = machine.migrate(&["--apply"]);
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(machine.files("brooklet") == before && !machine.0.join("brooklet/cas").exists());
    fs::write(machine.0.join("db/mosquitto.db"), database).unwrap();
    let finished = machine.migrate(&["--apply"]);
    assert_eq!((finished.error.as_str(), finished.code), ("", 0));
    let converted = machine.text("brooklet/conf.d/20-bridge.conf");
    assert!(converted.contains(&format!("\nbridge_capath {at}/brooklet/cas\n")), "{converted}");
    for name in ["ca.pem", "1234.0"] {
        assert_eq!(machine.text(&format!("brooklet/cas/{name}")), machine.text("mosquitto/cas/ca.pem"));
    }
    assert!(!machine.0.join("brooklet/cas/more").exists());
    let mode = fs::metadata(machine.0.join("brooklet/cas")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, DIRECTORY_MODE);
}

#[test]
fn an_empty_directory_is_made() {
    let machine = Machine::new("empty");
    let mut plan = machine.plan();
    fs::create_dir(machine.0.join("mosquitto/none")).unwrap();
    plan.copied(Named::Directory, &machine.0.join("mosquitto/none")).unwrap();
    plan.write(&mut Vec::new()).unwrap();
    assert!(machine.0.join("brooklet/none").is_dir());
}

#[test]
fn what_is_not_below_the_directory_stays_where_it_is() {
    let machine = Machine::new("elsewhere");
    let at = machine.0.display();
    machine.write("acl", "topic read #\n");
    machine.write("mosquitto/conf.d/listener.conf", &format!("acl_file {at}/mosquitto/../acl\n"));
    machine.write("mosquitto/mosquitto.conf", &format!("include_dir {at}/mosquitto/conf.d\n"));
    let finished = machine.migrate(&["--apply"]);
    assert_eq!((finished.error.as_str(), finished.code), ("", 0));
    let converted = machine.text("brooklet/conf.d/20-listener.conf");
    assert!(converted.ends_with(&format!("\nacl_file {at}/mosquitto/../acl\n")), "{converted}");
}

#[test]
fn invalid_arguments_are_refused() {
    assert_eq!(run(&["a".to_owned(), "b".to_owned()]).code, 3);
    assert_eq!(run(&["--bogus".to_owned()]).code, 3);
    assert!(run(&["--help".to_owned()]).output.contains("brooklet migrate"));
}
