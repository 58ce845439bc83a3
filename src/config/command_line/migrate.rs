//! `brooklet migrate`: takes over the configuration and the database of mosquitto, whose files it only reads.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use getopts::Options as Parser;

use super::finished::{Finished, failed, options};
use super::import::import_into;
use super::with_environment;
use crate::base::escape::Escaped;
use crate::base::files;
use crate::config::file::{self, CommandLine, Statement};
use crate::settings::Settings;

const USAGE: &str = "\
Usage: brooklet migrate [--apply] [--to DIRECTORY] [FILE]

Takes over the configuration of mosquitto in FILE, /etc/mosquitto/mosquitto.conf if none is given, and its database.
Prints what it would do; with --apply it does that, or nothing if something fails. The files of mosquitto are only read.

The statements become files in conf.d of DIRECTORY, and brooklet.conf there is written if it does not exist. Files beside
FILE that it names, such as those with passwords and certificates, are copied. What belongs to the service is not taken
over: the user, the pid file, and where the database is; nor is a log file if there is no /var/log/brooklet. Neither
mosquitto nor Brooklet may be running.";

/// Where the configuration of mosquitto is if no file is given.
const MOSQUITTO: &str = "/etc/mosquitto/mosquitto.conf";
/// Where the configuration goes if no directory is given.
const BROOKLET: &str = "/etc/brooklet";
/// The main file of the packages.
const MAIN: &str = include_str!("../../../packages/debian/brooklet.conf");
/// The directory for log files, if there is one. The packages make it.
const LOGS: &str = "/var/log/brooklet";
/// The maximum size of a file to copy.
const FILE_MAXIMUM: u64 = 16 * 1024 * 1024;

/// Something cannot be read or written.
const EXIT_FAILURE: u8 = 1;

/// These belong to the service that runs the broker.
const OF_THE_SERVICE: [&str; 5] =
    ["include_dir", "persistence_file", "persistence_location", "pid_file", "user"];
/// These name files.
const FILES: [&str; 9] = [
    "acl_file",
    "bridge_cafile",
    "bridge_certfile",
    "bridge_keyfile",
    "cafile",
    "certfile",
    "crlfile",
    "keyfile",
    "password_file",
];

/// A file to write.
struct Planned {
    path: PathBuf,
    bytes: Vec<u8>,
    /// The file that it is made from.
    from: PathBuf,
}

/// What to do.
struct Plan {
    /// The directory of FILE.
    theirs: PathBuf,
    /// The directory to write to.
    ours: PathBuf,
    files: Vec<Planned>,
}

fn parser() -> Parser {
    let mut parser = Parser::new();
    parser.optflag("", "apply", "do it, instead of printing what would be done");
    parser.optopt("", "to", "the directory for the configuration (default /etc/brooklet)", "DIRECTORY");
    parser.optflag("h", "help", "print this help and exit");
    parser
}

pub(super) fn run(arguments: &[String]) -> Finished {
    let matches = match options("migrate", USAGE, &parser(), arguments) {
        Ok(matches) => matches,
        Err(finished) => return finished,
    };
    let from = match matches.free.as_slice() {
        [] => MOSQUITTO,
        [file] => file,
        _ => return failed("expected one FILE. Try brooklet migrate --help."),
    };
    let to = matches.opt_str("to").unwrap_or_else(|| BROOKLET.to_owned());
    let settings = match load(from) {
        Ok(settings) => settings,
        Err(errors) => return failed(&errors),
    };
    let done = Plan::new(Path::new(from), Path::new(&to))
        .and_then(|plan| plan.check().map(|()| plan))
        .and_then(|plan| {
            let database = settings.persistence.and_then(|it| it.database_of_mosquitto);
            if matches.opt_present("apply") {
                plan.apply(from, database)
            } else {
                Ok(plan.tell(from, database))
            }
        });
    match done {
        Ok(output) => Finished { output, ..Finished::default() },
        Err(error) => Finished { error, code: EXIT_FAILURE, ..Finished::default() },
    }
}

/// Reads and checks a configuration. The errors are lines.
fn load(path: &str) -> Result<Settings, String> {
    let outcome = file::load(Some(path), &with_environment(CommandLine::default()));
    let errors = match &outcome.settings {
        Some(settings) if outcome.errors.is_empty() => file::check(settings).errors,
        _ => outcome.errors,
    };
    match outcome.settings {
        Some(settings) if errors.is_empty() => Ok(settings),
        _ => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

impl Plan {
    fn new(from: &Path, to: &Path) -> Result<Self, String> {
        let mut plan = Self {
            theirs: from.parent().unwrap_or(Path::new("")).to_owned(),
            ours: to.to_owned(),
            files: Vec::new(),
        };
        let main = to.join("brooklet.conf");
        if !main.exists() {
            let ours = to.display().to_string();
            let bytes = MAIN.replace(BROOKLET, &ours).into_bytes();
            plan.files.push(Planned { path: main, bytes, from: PathBuf::from("the default") });
        }
        let included = plan.convert(from, "10-mosquitto.conf")?;
        for path in included {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            plan.convert(&path, &format!("20-{name}"))?;
        }
        Ok(plan)
    }

    /// Plans a file of statements, and the files that it names. Returns the files that it includes.
    fn convert(&mut self, from: &Path, name: &str) -> Result<Vec<PathBuf>, String> {
        let bytes = read(from)?;
        let (statements, _) = file::parse(&bytes, &from.display().to_string());
        let mut statements = statements.into_iter().peekable();
        let mut text = format!("# From {}\n", shown(from));
        let mut included = Vec::new();
        for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let Some(statement) = statements.next_if(|statement| statement.place.line == index + 1) else {
                text += &format!("{line}\n");
                continue;
            };
            if statement.written == "include_dir" {
                included.extend(file::files_of(Path::new(&statement.value)).unwrap_or_default());
            }
            text += &self.converted(&statement, line)?;
        }
        let path = self.ours.join("conf.d").join(name);
        self.files.push(Planned { path, bytes: text.into_bytes(), from: from.to_owned() });
        Ok(included)
    }

    /// The line that takes over a statement.
    fn converted(&mut self, statement: &Statement, line: &str) -> Result<String, String> {
        let (keyword, value) = (statement.written.as_str(), statement.value.as_str());
        // The main file has this already.
        if OF_THE_SERVICE.contains(&keyword) || (keyword, value) == ("persistence", "true") {
            return Ok(format!("# not taken over: {}\n", line.trim()));
        }
        if let ("log_dest", Some(file)) = (keyword, value.strip_prefix("file ")) {
            let name = Path::new(file.trim()).file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(match Path::new(LOGS).is_dir() {
                true => format!("log_dest file {LOGS}/{name}\n"),
                false => format!("# not taken over: {}\n", line.trim()),
            });
        }
        let beside = Path::new(value).strip_prefix(&self.theirs).ok().filter(|_| FILES.contains(&keyword));
        let Some(beside) = beside else { return Ok(format!("{}\n", line.trim_end())) };
        let (path, from) = (self.ours.join(beside), PathBuf::from(value));
        if !self.files.iter().any(|planned| planned.path == path) {
            self.files.push(Planned { path: path.clone(), bytes: read(&from)?, from });
        }
        Ok(format!("{keyword} {}\n", path.display()))
    }

    /// Nothing is overwritten.
    fn check(&self) -> Result<(), String> {
        match self.files.iter().find(|planned| planned.path.exists()) {
            Some(planned) => Err(format!(
                "{}: this exists already, and nothing is overwritten; move it away",
                shown(&planned.path)
            )),
            None => Ok(()),
        }
    }

    fn tell(&self, from: &str, database: Option<PathBuf>) -> String {
        let mut text = String::new();
        for Planned { path, from, .. } in &self.files {
            let _ = writeln!(text, "would write {} from {}", shown(path), shown(from));
        }
        match database {
            Some(database) => {
                let _ = writeln!(text, "would import {}", shown(&database));
            }
            None => text += "there is no database to import\n",
        }
        let is_usual = from == MOSQUITTO && self.ours == Path::new(BROOKLET);
        let arguments =
            if is_usual { String::new() } else { format!(" --to {} {}", shown(&self.ours), Escaped(from)) };
        let _ = writeln!(
            text,
            "Nothing was changed. To change over:\n  systemctl disable --now mosquitto\n  brooklet migrate --apply{arguments}\n  \
             systemctl enable --now brooklet"
        );
        text
    }

    fn apply(&self, from: &str, database: Option<PathBuf>) -> Result<String, String> {
        if is_running(from) {
            return Err(format!("mosquitto is running with {}; stop it first", Escaped(from)));
        }
        let mut written = Vec::new();
        let done = self.write(&mut written).and_then(|()| {
            let main = self.ours.join("brooklet.conf").display().to_string();
            let settings = load(&main)?;
            self.give(&settings)
                .map_err(|why| format!("the new files cannot be given to the broker's user: {why}"))?;
            database.map_or(Ok(String::new()), |database| import_into(&database, &settings, &main))
        });
        done.map(|imported| {
            let lines: String = written.iter().map(|path| format!("wrote {}\n", shown(path))).collect();
            lines + &imported
        })
        .inspect_err(|_| {
            // What remains of a failed attempt would be in the way of the next one.
            written.iter().for_each(|path| drop(fs::remove_file(path)));
        })
    }

    #[expect(clippy::disallowed_methods, reason = "these files are new, and nothing is opened that exists")]
    fn write(&self, written: &mut Vec<PathBuf>) -> Result<(), String> {
        for planned in &self.files {
            let mut create = || -> io::Result<()> {
                fs::create_dir_all(planned.path.parent().unwrap_or(Path::new("")))?;
                // They may have secrets.
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&planned.path)?;
                written.push(planned.path.clone());
                file.write_all(&planned.bytes)
            };
            create().map_err(|why| format!("{}: cannot be written: {why}", shown(&planned.path)))?;
        }
        Ok(())
    }

    /// Gives the files to the user that owns the directory of the store, who runs the broker.
    fn give(&self, settings: &Settings) -> io::Result<()> {
        let Some(persistence) = &settings.persistence else { return Ok(()) };
        let owner = fs::metadata(&persistence.directory)?;
        for planned in &self.files {
            let own = fs::metadata(&planned.path)?;
            if own.uid() != owner.uid() {
                chown(&planned.path, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        Ok(())
    }
}

/// Whether a mosquitto with this configuration is running. Its database would be incomplete.
fn is_running(configuration: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| files::read(&process.path().join("cmdline"), FILE_MAXIMUM).ok()?).any(
        |line| {
            let mut words = line.split(|&byte| byte == 0);
            words.next().is_some_and(|name| name.ends_with(b"mosquitto"))
                && words.any(|word| word == configuration.as_bytes())
        },
    )
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes =
        files::read(path, FILE_MAXIMUM).map_err(|why| format!("{}: cannot be read: {why}", shown(path)))?;
    bytes.ok_or_else(|| format!("{}: it has more than {FILE_MAXIMUM} bytes", shown(path)))
}

fn shown(path: &Path) -> String {
    Escaped(&path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests are about files")]

    use super::*;

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
        let names =
            |files: Vec<(PathBuf, Vec<u8>)>| files.into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(names(machine.files(".")), names(before));
    }

    #[test]
    fn invalid_arguments_are_refused() {
        assert_eq!(run(&["a".to_owned(), "b".to_owned()]).code, 3);
        assert_eq!(run(&["--bogus".to_owned()]).code, 3);
        assert!(run(&["--help".to_owned()]).output.contains("brooklet migrate"));
    }
}
