//! `brooklet passwd`: adds, changes and deletes users in a password file, with the options of mosquitto_passwd.
//!
//! The file is replaced atomically, so that it is never read while incomplete. A new file can be read only by its
//! owner.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use getopts::{Matches, Options as Parser};

use super::finished::{Finished, failed, options};
use crate::auth::access_control::{FILE_MAXIMUM, random};
use crate::auth::passwords::{self, Kind, NO_PASSWORD, Passwords, ROUNDS_MAXIMUM, Secret};
use crate::auth::scram;
use crate::base::byte_order_mark::{MISPLACED, SKIPPED, after_mark};
use crate::base::escape::Escaped;
use crate::base::files;
use crate::settings::{ConfigError, ConfigErrors};

const USAGE: &str = "\
Usage: brooklet passwd [-H KIND] [-I ROUNDS] [-c] FILE USER
       brooklet passwd [-H KIND] [-I ROUNDS] [-c] -b FILE USER PASSWORD
       brooklet passwd -D FILE USER
       brooklet passwd [-H KIND] [-I ROUNDS] -U FILE

Adds a user to a password file or changes the password of a user, deletes a user, or hashes the plain passwords in a
file. Without -b, it prompts for the password, or reads it from standard input, one line, if that is no terminal.";

/// A file cannot be read or written, the user does not exist, or the like.
const EXIT_FAILURE: u8 = 1;

/// The rounds of PBKDF2 that mosquitto 2.1 uses.
const ROUNDS: u32 = 1_000;
/// The length in bytes of the longest password that fits into a CONNECT.
const PASSWORD_MAXIMUM: usize = 65_535;

fn parser() -> Parser {
    let mut parser = Parser::new();
    parser.optflag("c", "create", "create the file; an existing one is overwritten");
    parser.optflag("b", "batch", "the password is the last argument, where other users can see it");
    parser.optflag("D", "delete", "delete the user");
    parser.optflag("U", "update", "hash the plain passwords in a file; hashes are not changed");
    parser.optopt(
        "H",
        "hash",
        "sha512-pbkdf2 (the default), argon2id, scram-sha-256 (for MQTT 5.0 clients that support it; passwords work as \
         well) or sha512",
        "KIND",
    );
    parser.optopt("I", "iterations", "rounds of sha512-pbkdf2 (1000) or scram-sha-256 (4096)", "ROUNDS");
    parser.optflag("h", "help", "print this help and exit");
    parser
}

pub(super) fn run(arguments: &[String]) -> Finished {
    let matches = match options("passwd", USAGE, &parser(), arguments) {
        Ok(matches) => matches,
        Err(finished) => return finished,
    };
    let job = match Job::from(&matches) {
        Ok(job) => job,
        Err(error) => return failed(&error),
    };
    match job.run() {
        Ok(warnings) => Finished { warnings, ..Finished::default() },
        Err(error) => Finished { error, code: EXIT_FAILURE, ..Finished::default() },
    }
}

/// What to do.
struct Job {
    file: PathBuf,
    is_new: bool,
    kind: Kind,
    change: Change,
}

enum Change {
    /// With this password, or with a prompt if there is none.
    Set {
        user: String,
        password: Option<String>,
    },
    Delete {
        user: String,
    },
    Hash,
}

impl Job {
    fn from(matches: &Matches) -> Result<Self, String> {
        let is_given = |name: &str| matches.opt_present(name);
        let (is_new, is_batch) = (is_given("c"), is_given("b"));
        let user = |name: &String| match passwords::check_name(name) {
            Ok(trimmed) if trimmed == name => Ok(name.clone()),
            Ok(_) => Err("the user name has white space at its start or end".to_owned()),
            Err(what) => Err(what.to_owned()),
        };
        let (file, change) = match (matches.free.as_slice(), is_given("D"), is_given("U"), is_batch) {
            ([file], false, true, false) if !is_new => (file, Change::Hash),
            ([file, name], true, false, false) if !is_new => (file, Change::Delete { user: user(name)? }),
            ([file, name], false, false, false) => (file, Change::Set { user: user(name)?, password: None }),
            ([file, name, password], false, false, true) => {
                (file, Change::Set { user: user(name)?, password: Some(password.clone()) })
            }
            (_, is_delete, is_update, _) => {
                let expected = match () {
                    () if is_delete => "-D FILE USER",
                    () if is_update => "-U FILE",
                    () if is_batch => "[-c] -b FILE USER PASSWORD",
                    () => "[-c] FILE USER",
                };
                return Err(format!(
                    "these options and arguments cannot be combined, expected {expected}. Try brooklet passwd --help."
                ));
            }
        };
        Ok(Self { file: file.into(), is_new, kind: kind(matches)?, change })
    }

    /// Changes the file. Returns what is wrong with its other lines, and what the broker would say about the file as it
    /// was.
    fn run(self) -> Result<Vec<ConfigError>, String> {
        let bytes = if self.is_new { Vec::new() } else { self.read()? };
        let name = self.file.to_string_lossy();
        let mut warnings = ConfigErrors::about(&name);
        let text = after_mark(&bytes);
        if text.is_some() {
            warnings.push("1:1", SKIPPED);
        }
        let text = decode(&name, text.unwrap_or(&bytes))?;
        let changed = match self.change {
            Change::Set { user, password } => {
                let password = password.map_or_else(ask_for_password, Ok)?;
                with_user(text, &user, &line(&user, &password, self.kind)?)
            }
            Change::Delete { user } => without_user(text, &user)?,
            Change::Hash => hashed(&name, text, self.kind)?,
        };
        replace(&self.file, changed.as_bytes())
            .map_err(|why| format!("{}: cannot be written: {why}", Escaped(&name)))?;
        let wrong = Passwords::parse(&name, changed.as_bytes()).err().unwrap_or_default();
        Ok([warnings.into_list(), wrong].concat())
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        let name = self.file.to_string_lossy();
        let bytes = files::read(&self.file, FILE_MAXIMUM).map_err(|why| {
            let is_missing =
                why.kind() == io::ErrorKind::NotFound && matches!(self.change, Change::Set { .. });
            let advice = if is_missing { "; -c creates it" } else { "" };
            format!("{}: cannot be read: {why}{advice}", Escaped(&name))
        })?;
        bytes.ok_or_else(|| format!("{}: too long, expected at most 64 MiB", Escaped(&name)))
    }
}

/// The text of a file. An error has the place of the first byte that is no text.
fn decode<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, String> {
    std::str::from_utf8(bytes).map_err(|error| {
        let (valid, _) = bytes.split_at(error.valid_up_to());
        let line = valid.split(|&byte| byte == b'\n').count();
        let column = valid.rsplit(|&byte| byte == b'\n').next().map_or(1, |last| last.len() + 1);
        format!("{}:{line}:{column}: not UTF-8", Escaped(name))
    })
}

fn kind(matches: &Matches) -> Result<Kind, String> {
    let rounds = matches.opt_str("I").map(|text| {
        text.parse()
            .ok()
            .filter(|rounds| (1..=ROUNDS_MAXIMUM).contains(rounds))
            .ok_or_else(|| format!("invalid rounds '{}', expected 1 to {ROUNDS_MAXIMUM}", Escaped(&text)))
    });
    let rounds = rounds.transpose()?;
    match (matches.opt_str("H").as_deref(), rounds) {
        (None | Some("sha512-pbkdf2"), _) => Ok(Kind::Pbkdf2 { rounds: rounds.unwrap_or(ROUNDS) }),
        (Some("scram-sha-256"), _) => Ok(Kind::Scram { rounds: rounds.unwrap_or(scram::ROUNDS) }),
        (Some("sha512"), None) => Ok(Kind::Sha512),
        (Some("argon2id"), None) => Ok(Kind::Argon2id),
        (Some("sha512" | "argon2id"), Some(_)) => Err("this kind of hash has no rounds".to_owned()),
        (Some(other), _) => {
            let other = Escaped(other);
            Err(format!("unknown hash '{other}', expected sha512-pbkdf2, argon2id, scram-sha-256 or sha512"))
        }
    }
}

fn ask_for_password() -> Result<String, String> {
    let input = io::stdin();
    if !input.is_terminal() {
        return read_password(input.lock());
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt).map_err(|why| format!("unable to prompt for a password: {why}"))
    };
    let password = ask("Password: ")?;
    if ask("Reenter password: ")? != password {
        return Err("the passwords do not match".to_owned());
    }
    Ok(password)
}

/// Reads a password, which ends with the line or with the input.
fn read_password(input: impl BufRead) -> Result<String, String> {
    // One more byte than a password may have, and the end of the line.
    let most = u64::try_from(PASSWORD_MAXIMUM + 3).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    let read = input.take(most).read_until(b'\n', &mut line);
    read.map_err(|why| format!("unable to read the password from standard input: {why}"))?;
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if password.is_empty() {
        return Err("standard input, which is no terminal, has no password in its first line".to_owned());
    }
    String::from_utf8(password.to_vec()).map_err(|_| "the password is not UTF-8".to_owned())
}

/// Creates the line of a user.
fn line(user: &str, password: &str, kind: Kind) -> Result<String, String> {
    match password.len() {
        0 => return Err("the password is empty".to_owned()),
        1..=PASSWORD_MAXIMUM => {}
        _ => return Err("the password is longer than 65535 bytes".to_owned()),
    }
    let salt = random().map_err(|why| format!("unable to get random bytes: {why}"))?;
    let secret = Secret::new(kind, password.as_bytes(), &salt)?;
    Ok(format!("{user}:{secret}"))
}

/// Replaces the line of a user, or appends it.
fn with_user(text: &str, user: &str, line: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter_mut().find(|other| passwords::user_of_line(other) == Some(user)) {
        Some(known) => *known = line,
        None => lines.push(line),
    }
    joined(lines)
}

fn without_user(text: &str, user: &str) -> Result<String, String> {
    let (gone, lines): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| passwords::user_of_line(line) == Some(user));
    if gone.is_empty() {
        return Err(format!("the user {} is not in the file", Escaped(user)));
    }
    Ok(joined(lines))
}

/// Replaces plain passwords by hashes. An error is what the broker would say about the file as well.
fn hashed(name: &str, text: &str, kind: Kind) -> Result<String, String> {
    let mut lines = Vec::new();
    let mut wrong = ConfigErrors::about(name);
    for (text, number) in text.lines().zip(1_usize..) {
        match hashed_line(text, kind) {
            Ok(line) => lines.push(line),
            Err((column, what)) => wrong.push(format_args!("{number}:{column}"), what),
        }
    }
    let wrong = wrong.into_list();
    if wrong.is_empty() {
        return Ok(joined(lines));
    }
    Err(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// A fault comes with its column.
fn hashed_line(text: &str, kind: Kind) -> Result<Cow<'_, str>, (usize, String)> {
    if after_mark(text.as_bytes()).is_some() {
        return Err((1, MISPLACED.to_owned()));
    }
    let Some(user) = passwords::user_of_line(text) else { return Ok(text.into()) };
    let (name, password) = text.split_once(':').unwrap_or((text, ""));
    let wrong = |what: String| (name.len() + 2, what);
    let is_hash =
        ["$6$", "$7$", "$argon2id$", "SCRAM-SHA-256$"].iter().any(|mark| password.starts_with(mark));
    if is_hash {
        // A malformed hash is an error, not a plain password.
        Secret::parse(password.trim_end()).map_err(wrong)?;
        return Ok(text.into());
    }
    let user = passwords::check_name(user).map_err(|what| (1, what.to_owned()))?;
    if password.trim_end().is_empty() {
        return Err(wrong(NO_PASSWORD.to_owned()));
    }
    line(user, password, kind).map(Cow::from).map_err(wrong)
}

fn joined(lines: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    lines.into_iter().map(|line| format!("{}\n", line.as_ref())).collect()
}

/// Replaces the contents of a file atomically. An existing file keeps its owner, its group and its permissions, so that
/// the broker can still read it.
#[expect(clippy::disallowed_methods, reason = "opening a new file does not block")]
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // The target of a link is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = directory.join(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let outcome = write_draft(&mut file, &path, &draft, bytes).and_then(|()| fs::rename(&draft, &path));
    if outcome.is_err() {
        // An incomplete draft is useless.
        let _ = fs::remove_file(&draft);
        return outcome;
    }
    open_directory(directory)?.sync_all()
}

fn write_draft(file: &mut File, path: &Path, draft: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    if let Ok(former) = path.metadata() {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (former.uid(), former.gid()) {
            chown(draft, Some(former.uid()), Some(former.gid()))?;
        }
        // After the owner, since a change of that takes permissions away.
        file.set_permissions(former.permissions())?;
    }
    file.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "this floor may open files")]
fn open_directory(directory: &Path) -> io::Result<File> {
    File::open(directory)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests are about files")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn passwd(line: &str) -> Finished {
        run(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_password_that_is_piped_is_one_line() {
        for (input, password) in [
            (&b"secret\n"[..], "secret"),
            (b"secret", "secret"),
            (b"secret\r\nmore\n", "secret"),
            (b" se cret \n", " se cret "),
        ] {
            assert_eq!(read_password(input).as_deref(), Ok(password));
        }
        for input in [&b""[..], b"\n", b"\r\n", b"\xff\n"] {
            assert!(read_password(input).is_err(), "{input:?}");
        }
        let long = read_password(&[b'x'; PASSWORD_MAXIMUM + 100][..]).unwrap();
        assert!(line("ann", &long, Kind::Sha512).is_err());
    }

    fn read(path: &Path) -> Passwords {
        Passwords::parse("file", &fs::read_to_string(path).unwrap().into_bytes()).unwrap()
    }

    fn passes(path: &Path, user: &str, password: &str) -> bool {
        read(path).trial(user, b"key").is_some_and(|trial| trial.passes(password.as_bytes()))
    }

    /// A file that is removed when dropped.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("brooklet-passwd-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn users_are_added_changed_and_deleted() {
        let place = Place::new("users");
        let file = place.0.display();
        let missing = passwd(&format!("-b {file} ann x"));
        assert!(missing.code == EXIT_FAILURE && missing.error.ends_with("; -c creates it"), "{missing:?}");
        let missing = passwd(&format!("-D {file} ann"));
        assert!(missing.code == EXIT_FAILURE && !missing.error.contains("-c"), "{missing:?}");
        assert_eq!(passwd(&format!("-c -b {file} ann pencil")).error, "");
        assert_eq!(place.0.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&place.0, format!("# kept\n{}", fs::read_to_string(&place.0).unwrap())).unwrap();
        for kind in ["sha512", "argon2id", "sha512-pbkdf2 -I 3", "scram-sha-256 -I 3"] {
            assert_eq!(passwd(&format!("-b -H {kind} {file} bob {}", kind.len())).error, "", "{kind}");
            assert!(passes(&place.0, "bob", &kind.len().to_string()), "{kind}");
        }
        assert!(passes(&place.0, "ann", "pencil") && !passes(&place.0, "ann", "eraser"));
        assert_eq!(passwd(&format!("-b {file} ann eraser")).code, 0);
        assert!(!passes(&place.0, "ann", "pencil") && passes(&place.0, "ann", "eraser"));
        assert_eq!(passwd(&format!("-D {file} bob")).code, 0);
        assert_eq!(passwd(&format!("-D {file} bob")).code, EXIT_FAILURE);
        let text = fs::read_to_string(&place.0).unwrap();
        assert!(text.starts_with("# kept\nann:$7$1000$") && text.lines().count() == 2, "{text}");
    }

    #[test]
    fn plain_passwords_are_hashed_once() {
        let place = Place::new("plain");
        let file = place.0.display();
        fs::write(&place.0, "# plain\nann:pen:cil\n\nbob:$eraser\n").unwrap();
        assert_eq!(passwd(&format!("-U {file}")).error, "");
        let once = fs::read_to_string(&place.0).unwrap();
        assert!(passes(&place.0, "ann", "pen:cil") && passes(&place.0, "bob", "$eraser"));
        assert_eq!(passwd(&format!("-U {file}")).code, 0);
        assert_eq!(fs::read_to_string(&place.0).unwrap(), once);
        fs::write(&place.0, "ann:$7$cut\n").unwrap();
        let finished = passwd(&format!("-U {file}"));
        assert!(finished.error.starts_with(&format!("{file}:1:5: a cut hash")), "{finished:?}");
    }

    /// Only root can test the owner.
    #[test]
    fn an_existing_file_keeps_its_owner_group_and_permissions() {
        let place = Place::new("owner");
        let file = place.0.display();
        fs::write(&place.0, "ann:plain\nbob:plain\n").unwrap();
        let own = place.0.metadata().unwrap();
        let (user, group) = if own.uid() == 0 { (1883, 1884) } else { (own.uid(), own.gid()) };
        chown(&place.0, Some(user), Some(group)).unwrap();
        for (mode, line) in [
            (0o644, format!("-U {file}")),
            (0o640, format!("-b {file} ann pencil")),
            (0o440, format!("-D {file} bob")),
            (0o600, format!("-c -b {file} ann pencil")),
        ] {
            fs::set_permissions(&place.0, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(passwd(&line).error, "", "{line}");
            let now = place.0.metadata().unwrap();
            assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (user, group, mode), "{line}");
        }
    }

    #[test]
    fn what_the_broker_refuses_is_named_with_its_line() {
        let place = Place::new("refused");
        let file = place.0.display();
        let text = "\u{feff}ann:pencil\nbob:\n";
        fs::write(&place.0, text).unwrap();
        let finished = passwd(&format!("-U {file}"));
        assert_eq!(finished.error, format!("{file}:2:5: {NO_PASSWORD}"));
        assert_eq!(fs::read_to_string(&place.0).unwrap(), text, "nothing has changed");
        let finished = passwd(&format!("-b {file} bob eraser"));
        let warnings: Vec<String> = finished.warnings.iter().map(ToString::to_string).collect();
        assert_eq!((finished.code, warnings.len()), (0, 2), "{finished:?}");
        assert_eq!(warnings[0], format!("{file}:1:1: {SKIPPED}"));
        assert!(warnings[1].starts_with(&format!("{file}:1:5: a plain password")), "{warnings:?}");
        assert_eq!(passwd(&format!("-U {file}")), Finished::default());
        assert!(passes(&place.0, "ann", "pencil") && passes(&place.0, "bob", "eraser"));
        assert_eq!(passwd(&format!("-D {file} ann")), Finished::default());
        for (text, at) in
            [("ann:\u{e9}\n\u{feff}bob:x\n", "2:1: a byte order mark"), ("ann: \n", "1:5: no password")]
        {
            fs::write(&place.0, text).unwrap();
            let finished = passwd(&format!("-U {file}"));
            assert!(finished.error.starts_with(&format!("{file}:{at}")), "{finished:?}");
        }
        let marked = passwd(&format!("-b {file} \u{feff}ann pencil"));
        assert!(marked.error.contains("starts with a byte order mark"), "{marked:?}");
        fs::write(&place.0, b"ann:x\nbo\xe9:x\n").unwrap();
        assert_eq!(passwd(&format!("-D {file} ann")).error, format!("{file}:2:3: not UTF-8"));
    }

    #[test]
    fn a_link_stays_a_link() {
        let (place, link) = (Place::new("target"), Place::new("link"));
        fs::write(&place.0, "").unwrap();
        std::os::unix::fs::symlink(&place.0, &link.0).unwrap();
        assert_eq!(passwd(&format!("-b {} ann pencil", link.0.display())).error, "");
        assert!(link.0.symlink_metadata().unwrap().is_symlink() && passes(&place.0, "ann", "pencil"));
    }

    #[test]
    fn invalid_combinations_of_arguments_are_refused() {
        for (line, word) in [
            ("file", "expected [-c] FILE USER"),
            ("-b file user", "expected [-c] -b FILE USER PASSWORD"),
            ("-c -D file user", "expected -D FILE USER"),
            ("-U -D file", "expected -D FILE USER"),
            ("-U file user", "expected -U FILE"),
            ("-H md5 file user", "'md5'"),
            ("-I 0 file user", "'0'"),
            ("-H sha512 -I 3 file user", "rounds"),
            ("-b file us:er x", "':'"),
            ("-x", "'x'"),
        ] {
            let finished = passwd(line);
            assert!(finished.code == 3 && finished.error.contains(word), "{line}: {finished:?}");
        }
        assert!(passwd("--help").output.contains("brooklet passwd"));
    }
}
