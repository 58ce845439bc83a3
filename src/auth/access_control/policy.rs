//! The security policy of one listener, read from its files, and the warnings about those files.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::auth::acl::Acl;
use crate::auth::passwords::Passwords;
use crate::base::escape::Escaped;
use crate::base::files;
use crate::settings::{ConfigError, Given, Security};

/// Maximum size of a password or ACL file, in bytes. Larger files are refused.
pub const FILE_MAXIMUM: u64 = 64 * 1024 * 1024;

/// Who may connect and what each client may do, as read from the files.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) security: Rc<Security>,
    pub(super) passwords: Option<Rc<Passwords>>,
    /// The users before the last reload.
    pub(super) former: Option<Rc<Passwords>>,
    pub(super) acl: Option<Rc<Acl>>,
    pub(super) warnings: Vec<ConfigError>,
}

impl Policy {
    pub(super) fn load(security: &Rc<Security>) -> Result<Self, Vec<ConfigError>> {
        let mut warnings = Vec::new();
        let mut wrong = Vec::new();
        let read = |path: &Given<PathBuf>, keyword| read_file(path, keyword).map_err(|error| vec![error]);
        let passwords = security.passwords.as_ref().and_then(|path| {
            let read = read(path, "password_file").and_then(|bytes| Passwords::parse(&name_of(path), &bytes));
            warnings.extend(warning_of_mode(path));
            read.map_err(|errors| wrong.extend(errors)).ok()
        });
        let acl = security.access.as_ref().and_then(|path| {
            let read = read(path, "acl_file").and_then(|bytes| Acl::parse(&name_of(path), &bytes));
            read.map_err(|errors| wrong.extend(errors)).ok()
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        if let (Some(passwords), Some(path)) = (&passwords, &security.passwords) {
            warnings.extend(passwords.warnings().iter().map(|warning| located(warning, path)));
        }
        if let (Some(acl), Some(path)) = (&acl, &security.access) {
            warnings.extend(acl.warnings().iter().map(|warning| located(warning, path)));
        }
        let is_open = passwords.is_none() && security.allows_anonymous;
        if let (Some(path), true) =
            (&security.access, is_open && acl.as_ref().is_some_and(Acl::is_about_users))
        {
            let what =
                "rules for users, but no password file: a client has the rights of any user name it gives";
            warnings.push(path.error_in(what));
        }
        let (passwords, acl) = (passwords.map(Rc::new), acl.map(Rc::new));
        Ok(Self { security: security.clone(), passwords, former: None, acl, warnings })
    }

    pub(super) fn grants_everything(&self) -> bool {
        self.security.allows_anonymous && self.passwords.is_none() && self.acl.is_none()
    }
}

/// A warning about a whole file names the line that has its path.
fn located(warning: &ConfigError, path: &Given<PathBuf>) -> ConfigError {
    if warning.place == name_of(path) { path.error_in(&warning.text) } else { warning.clone() }
}

fn name_of(path: &Path) -> String {
    Escaped(&path.to_string_lossy()).to_string()
}

/// Returns the bytes of the file that `keyword` names.
///
/// # Errors
///
/// If the file cannot be read, or is longer than 64 MiB.
pub fn read_file(path: &Given<PathBuf>, keyword: &str) -> Result<Vec<u8>, ConfigError> {
    match files::read(path, FILE_MAXIMUM) {
        Err(why) => Err(unreadable(path, keyword, &why)),
        Ok(None) => Err(path.error_in(format_args!("too long, expected at most 64 MiB ({keyword})"))),
        Ok(Some(bytes)) => Ok(bytes),
    }
}

/// The error for a file or directory that `keyword` names and that cannot be read, with advice where there is any.
pub fn unreadable(path: &Given<PathBuf>, keyword: &str, why: &io::Error) -> ConfigError {
    let advice = match (why.kind(), keyword) {
        (io::ErrorKind::NotFound, "password_file") if cfg!(feature = "passwords") => {
            "; make one with `brooklet passwd -c`"
        }
        (io::ErrorKind::PermissionDenied, _) => "; give it to the broker's user",
        _ => "",
    };
    path.error_in(format_args!("it cannot be read ({keyword}): {why}{advice}"))
}

/// The warning about a file with secrets that every user of the machine can read.
pub fn warning_of_mode(path: &Given<PathBuf>) -> Option<ConfigError> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o777;
    let what = format!("every user of this machine can read it (mode {mode:04o}), expected mode 0600");
    (mode & 0o004 != 0).then(|| path.error_in(what))
}
