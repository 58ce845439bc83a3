//! `brooklet migrate`: takes over the configuration and the database of mosquitto, whose files it only reads.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path, PathBuf};

use getopts::Options as Parser;

use super::finished::{Finished, failed, options};
use super::import::import_into;
use super::{absolute, with_environment};
use crate::base::escape::Escaped;
use crate::base::files;
use crate::config::file::{self, CommandLine, Named, Statement};
use crate::settings::Settings;

const USAGE: &str = "\
Usage: brooklet migrate [--apply] [--to DIRECTORY] [FILE]

Takes over the configuration of mosquitto in FILE, /etc/mosquitto/mosquitto.conf if none is given, and its database.
Prints what it would do; with --apply it does that, or nothing if something fails. The files of mosquitto are only read.

The statements become files in conf.d of DIRECTORY, and brooklet.conf there is written if it does not exist. Files beside
FILE that it names, such as those with passwords and certificates, are copied, and so are those in directories. What
belongs to the service is not taken over: the user, the pid file, and where the database is. The service can write only to
directories of its own: a socket moves to /run/brooklet, and a log file to /var/log/brooklet, or it is not taken over if
there is no such directory. Neither mosquitto nor Brooklet may be running.";

/// Where the configuration of mosquitto is if no file is given.
const MOSQUITTO: &str = "/etc/mosquitto/mosquitto.conf";
/// Where the configuration goes if no directory is given.
const BROOKLET: &str = "/etc/brooklet";
/// The main file of the packages.
const MAIN: &str = include_str!("../../../packages/debian/brooklet.conf");
/// The directory for log files, if there is one. The packages make it.
const LOGS: &str = "/var/log/brooklet";
/// The directory for sockets. The service makes it when it starts.
const SOCKETS: &str = "/run/brooklet";
/// All directories that the service can write to.
const WRITABLE: [&str; 4] = [SOCKETS, "/var/run/brooklet", "/var/lib/brooklet", LOGS];
/// Directories that the service does not see, or sees as empty.
const UNREADABLE: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
/// The maximum size of a file to copy, and of all files together.
const FILE_MAXIMUM: u64 = 16 * 1024 * 1024;
const TOTAL_MAXIMUM: u64 = 64 * 1024 * 1024;
/// The permissions of a new directory. Its group is that of the broker.
const DIRECTORY_MODE: u32 = 0o750;

/// Something cannot be read or written.
const EXIT_FAILURE: u8 = 1;

/// These belong to the service that runs the broker.
const OF_THE_SERVICE: [&str; 5] =
    ["include_dir", "persistence_file", "persistence_location", "pid_file", "user"];

/// A file to write.
struct Planned {
    path: PathBuf,
    bytes: Vec<u8>,
    /// The file that it is made from.
    from: PathBuf,
}

/// A path that the service cannot use as it is.
struct Remark {
    /// What is there.
    what: &'static str,
    from: PathBuf,
    outcome: Outcome,
}

/// What becomes of such a path.
enum Outcome {
    Moves(PathBuf),
    IsNotTakenOver,
    Stays,
}

impl fmt::Display for Remark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the {} {} ", self.what, shown(&self.from))?;
        match &self.outcome {
            Outcome::Moves(to) => write!(formatter, "becomes {}, where the service can write", shown(to)),
            Outcome::IsNotTakenOver => write!(formatter, "is not taken over, since there is no {LOGS}"),
            Outcome::Stays => {
                formatter.write_str("stays where the service cannot read it; move it elsewhere")
            }
        }
    }
}

/// What to do.
struct Plan {
    /// The directory of FILE.
    theirs: PathBuf,
    /// The directory to write to.
    ours: PathBuf,
    /// Directories that may remain empty.
    directories: Vec<PathBuf>,
    files: Vec<Planned>,
    remarks: Vec<Remark>,
    /// How many more bytes of files may be copied.
    room: u64,
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
        [] => MOSQUITTO.to_owned(),
        [file] => absolute(file.clone()),
        _ => return failed("expected one FILE. Try brooklet migrate --help."),
    };
    let to = matches.opt_str("to").map_or_else(|| BROOKLET.to_owned(), absolute);
    let settings = match load(&from) {
        Ok(settings) => settings,
        Err(errors) => return failed(&errors),
    };
    let done = Plan::new(Path::new(&from), Path::new(&to))
        .and_then(|plan| plan.check().map(|()| plan))
        .and_then(|plan| {
            let database = settings.persistence.and_then(|it| it.database_of_mosquitto);
            if matches.opt_present("apply") {
                plan.apply(&from, database)
            } else {
                Ok(plan.tell(&from, database))
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
            directories: Vec::new(),
            files: Vec::new(),
            remarks: Vec::new(),
            room: TOTAL_MAXIMUM,
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
        let bytes = self.read(from)?;
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
                let directory = files::absolute(Path::new(&statement.value));
                included.extend(file::files_of(&directory).unwrap_or_default());
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
        let Some((named, path)) = statement.path() else { return Ok(format!("{}\n", line.trim_end())) };
        let from = files::absolute(Path::new(path));
        let is_log = keyword == "log_dest";
        if (is_log || named == Named::Socket) && !WRITABLE.iter().any(|there| from.starts_with(there)) {
            let to = self.moved(if is_log { "log file" } else { "socket" }, &from);
            let taken = to.map(|to| format!("{keyword} {}\n", statement.value_with(&to.to_string_lossy())));
            return Ok(taken.unwrap_or_else(|| format!("# not taken over: {}\n", line.trim())));
        }
        let copy = self.copied(named, &from)?;
        if copy.is_none() && UNREADABLE.iter().any(|there| from.starts_with(there)) {
            let what = if named == Named::Directory { "directory" } else { "file" };
            self.remarks.push(Remark { what, from: from.clone(), outcome: Outcome::Stays });
        }
        let to = copy.unwrap_or(from);
        Ok(format!("{keyword} {}\n", statement.value_with(&to.to_string_lossy())))
    }

    /// Plans to move what the broker writes at a path. Returns the new path; `None` if there is no directory for it.
    fn moved(&mut self, what: &'static str, from: &Path) -> Option<PathBuf> {
        let directory = if what == "socket" { SOCKETS } else { LOGS };
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let mut to = Path::new(directory).join(&*name);
        let is_taken = |to: &Path, remarks: &[Remark]| {
            remarks.iter().any(|other| matches!(&other.outcome, Outcome::Moves(taken) if taken == to))
        };
        for number in 2.. {
            if !is_taken(&to, &self.remarks) {
                break;
            }
            to.set_file_name(format!("{number}-{name}"));
        }
        // The service makes the directory for sockets.
        let to = Some(to).filter(|_| directory == SOCKETS || Path::new(LOGS).is_dir());
        let outcome = to.clone().map_or(Outcome::IsNotTakenOver, Outcome::Moves);
        self.remarks.push(Remark { what, from: from.to_owned(), outcome });
        to
    }

    /// Plans to copy what a path names, if it is beside the main file. Returns the path of the copy.
    fn copied(&mut self, named: Named, from: &Path) -> Result<Option<PathBuf>, String> {
        let beside = from.strip_prefix(&self.theirs).ok();
        let is_below = |path: &&Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        let Some(beside) = beside.filter(is_below) else { return Ok(None) };
        let to = self.ours.join(beside);
        match named {
            Named::File => self.copy(from, &to)?,
            Named::Directory => {
                for file in files_of(from)? {
                    self.copy(&file, &to.join(file.file_name().unwrap_or_default()))?;
                }
                self.directories.push(to.clone());
            }
            Named::Socket => return Ok(None),
        }
        Ok(Some(to))
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<(), String> {
        if !self.files.iter().any(|planned| planned.path == to) {
            let bytes = self.read(from)?;
            self.files.push(Planned { path: to.to_owned(), bytes, from: from.to_owned() });
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let most = self.room.min(FILE_MAXIMUM);
        let bytes = files::read(path, most).map_err(|why| unreadable(path, &why))?;
        let bytes = bytes.ok_or_else(|| {
            format!("{}: too long, expected at most 16 MiB, and 64 MiB for all files together", shown(path))
        })?;
        self.room -= bytes.len() as u64;
        Ok(bytes)
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
        for remark in &self.remarks {
            let _ = writeln!(text, "{remark}");
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
        let mut made = Vec::new();
        let done = self.write(&mut made).and_then(|()| {
            let main = self.ours.join("brooklet.conf").display().to_string();
            let settings = load(&main)?;
            give(&made, &settings)
                .map_err(|why| format!("the new files cannot be given to the broker's user: {why}"))?;
            database.map_or(Ok(String::new()), |database| import_into(&database, &settings, &main))
        });
        done.map(|imported| {
            let files = self.files.iter().map(|planned| format!("wrote {}\n", shown(&planned.path)));
            let remarks = self.remarks.iter().map(|remark| format!("{remark}\n"));
            files.chain(remarks).collect::<String>() + &imported
        })
        .inspect_err(|_| {
            // What remains of a failed attempt would be in the way of the next one.
            for path in made.iter().rev() {
                let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
            }
        })
    }

    /// Writes the files, and lists what it makes, in order.
    #[expect(clippy::disallowed_methods, reason = "these files are new, and nothing is opened that exists")]
    fn write(&self, made: &mut Vec<PathBuf>) -> Result<(), String> {
        for directory in &self.directories {
            make_directory(directory, made)
                .map_err(|why| format!("{}: cannot be made: {why}", shown(directory)))?;
        }
        for planned in &self.files {
            let mut create = || -> io::Result<()> {
                make_directory(planned.path.parent().unwrap_or(Path::new("")), made)?;
                // They may have secrets.
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&planned.path)?;
                made.push(planned.path.clone());
                file.write_all(&planned.bytes)
            };
            create().map_err(|why| format!("{}: cannot be written: {why}", shown(&planned.path)))?;
        }
        Ok(())
    }
}

/// Makes a directory and those above it, unless they are there, and adds them to the list.
fn make_directory(directory: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        fs::create_dir(path)?;
        made.push(path.to_owned());
        // Whatever the umask of root is, the broker can enter it.
        fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE))?;
    }
    Ok(())
}

/// Gives files to the user that owns the directory of the store, which runs the broker, and directories to its group.
fn give(made: &[PathBuf], settings: &Settings) -> io::Result<()> {
    let Some(persistence) = &settings.persistence else { return Ok(()) };
    let owner = fs::metadata(&persistence.directory)?;
    for path in made {
        let own = fs::metadata(path)?;
        if own.uid() != owner.uid() {
            let user = (!own.is_dir()).then_some(owner.uid());
            chown(path, user, Some(owner.gid()))?;
        }
    }
    Ok(())
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

/// The files in a directory, in order.
fn files_of(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|why| unreadable(directory, &why))?;
    let mut paths: Vec<PathBuf> =
        entries.iter().map(fs::DirEntry::path).filter(|path| path.is_file()).collect();
    paths.sort_unstable();
    Ok(paths)
}

fn unreadable(path: &Path, why: &io::Error) -> String {
    format!("{}: cannot be read: {why}", shown(path))
}

fn shown(path: &Path) -> String {
    Escaped(&path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests;
