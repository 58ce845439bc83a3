//! The user that the process runs as: a broker that was started as root switches to a user with fewer rights once its
//! ports are bound and its files opened, before it serves clients. Without the feature `system` it cannot, and says
//! so.

use std::fs;
use std::io;
#[cfg(not(feature = "system"))]
use std::os::unix::fs::MetadataExt;
#[cfg(feature = "system")]
use std::path::Path;

use log::warn;

use crate::base::escape::Escaped;
use crate::settings::{ConfigError, Given, Process};

/// The file with the groups of this machine.
const GROUPS: &str = "/etc/group";

/// The users to switch to if the operator has not named one: the first of these that exists. The packages make the first
/// of them, and their service runs as that user. So a start by root and `--test-config` mean the same user as the service,
/// also on a machine that has mosquitto.
#[cfg(feature = "system")]
const USUAL: [&str; 3] = ["brooklet", "mosquitto", "nobody"];

/// Gives up the rights of root permanently and switches to the user that `process` specifies, by number or by name, or
/// otherwise to the first of `brooklet`, `mosquitto` and `nobody` that exists. Nothing happens if the process does not
/// run as root, or if that user is root. The log files get the new owner; `give_to` is called with the numbers of the
/// user and its group to give it other files.
/// Returns the user that the process has switched to.
///
/// # Errors
///
/// There is no such user, or the system refuses. The process must not serve then.
#[cfg(feature = "system")]
pub fn drop_rights(process: &Process, give_to: impl FnOnce(u32, u32)) -> Result<Option<String>, ConfigError> {
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

    use crate::logging;

    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let Some(chosen) = wanted(process, &read_accounts("/etc/passwd")?)? else {
        warn!("Running as root, because the configuration says so.");
        return Ok(None);
    };
    let source = match (process.user_number, process.group_number) {
        (Some(_), _) => "PUID in the environment",
        (None, Some(_)) => "PGID in the environment",
        (None, None) => process.user.as_ref().and_then(Given::place).unwrap_or("user"),
    };
    let config_error = |what: &str, why: nix::Error| {
        ConfigError::new(source, format!("unable to {what} of '{}': {}", Escaped(&chosen.name), why.desc()))
    };
    logging::give_to(chosen.user, chosen.group);
    give_to(chosen.user, chosen.group);
    let groups: Vec<Gid> =
        groups_of(&chosen, &read_accounts(GROUPS)?).into_iter().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(|why| config_error("take the groups", why))?;
    setgid(Gid::from_raw(chosen.group)).map_err(|why| config_error("take the group", why))?;
    setuid(Uid::from_raw(chosen.user)).map_err(|why| config_error("take the rights", why))?;
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(ConfigError::new(
            source,
            "the rights of root could be taken back, so they are not given up",
        ));
    }
    Ok(Some(chosen.name))
}

/// A user of this machine.
#[cfg(feature = "system")]
#[derive(Debug, PartialEq, Eq)]
struct Account {
    name: String,
    user: u32,
    group: u32,
}

/// Reads the users or the groups of this machine. Only its own files are searched: other name services are made for
/// people, and their libraries would stay loaded for as long as the broker runs. Without the file, there are none: a
/// container knows its users by number.
fn read_accounts(path: &str) -> Result<String, ConfigError> {
    match fs::read_to_string(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|why| ConfigError::new(path, format!("unable to read it: {why}"))),
    }
}

/// The number of a group, which is given by its name or number.
///
/// # Errors
///
/// There is no such group. The text says so.
pub(super) fn group_number(group: &str) -> Result<u32, String> {
    if let Some(number) = group.parse().ok().filter(|&number| number != u32::MAX) {
        return Ok(number);
    }
    let groups = read_accounts(GROUPS).map_err(|why| why.to_string())?;
    let number_of = |line: &str| {
        let mut parts = line.split(':');
        if parts.next()? == group { parts.nth(1)?.parse().ok() } else { None }
    };
    groups.lines().find_map(number_of).ok_or_else(|| format!("there is no group '{}'", Escaped(group)))
}

/// Checks in advance whether [`drop_rights`] would find a user to switch to.
///
/// # Errors
///
/// There is no such user, or the build cannot switch users.
#[cfg(feature = "system")]
pub fn check_user(process: &Process) -> Result<(), ConfigError> {
    if nix::unistd::Uid::effective().is_root() {
        wanted(process, &read_accounts("/etc/passwd")?).map(drop)
    } else {
        Ok(())
    }
}

/// What the user of the running broker may do with files: that of this process, or the one that root switches to.
#[cfg(feature = "system")]
#[derive(Debug)]
pub struct Rights(Option<(Account, Vec<u32>)>);

#[cfg(feature = "system")]
impl Rights {
    /// The rights after the switch; `None` if there is no such user.
    pub fn of(process: &Process) -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            return Some(Self(None));
        }
        let account = wanted(process, &read_accounts("/etc/passwd").ok()?).ok()?;
        let groups = fs::read_to_string(GROUPS).unwrap_or_default();
        Some(Self(account.map(|account| {
            let groups = groups_of(&account, &groups);
            (account, groups)
        })))
    }

    /// Whether files are written by this process as the user that it has now.
    pub const fn are_own(&self) -> bool {
        self.0.is_none()
    }

    /// Says which user that is.
    pub fn user(&self) -> String {
        match &self.0 {
            None => "the user of this process".to_owned(),
            Some((Account { name, .. }, _)) => {
                format!("the user '{}', which a start as root switches to,", Escaped(name))
            }
        }
    }

    /// Whether the user may read and write a file, or read, write and search a directory, and reach it. Access control
    /// lists are not considered for the user that root switches to.
    pub fn allow(&self, path: &Path) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt as _;

        use nix::unistd::{AccessFlags, access};

        let path = path.canonicalize()?;
        let found = path.metadata()?;
        let needed = if found.is_dir() { 0o7 } else { 0o6 };
        let Some((account, groups)) = &self.0 else {
            let flags = AccessFlags::R_OK | AccessFlags::W_OK;
            let flags = if found.is_dir() { flags | AccessFlags::X_OK } else { flags };
            return Ok(access(&path, flags).is_ok());
        };
        let allows = |found: &fs::Metadata, needed: u32| {
            let shift = match () {
                () if found.uid() == account.user => 6,
                () if groups.contains(&found.gid()) => 3,
                () => 0,
            };
            (found.mode() >> shift) & needed == needed
        };
        let mut is_reached = true;
        for directory in path.ancestors().skip(1) {
            is_reached &= allows(&directory.metadata()?, 0o1);
        }
        Ok(is_reached && allows(&found, needed))
    }
}

/// The user that root is to switch to; `None` for root. A user known by number only has the group with that number
/// unless another one is specified.
#[cfg(feature = "system")]
fn wanted(process: &Process, accounts: &str) -> Result<Option<Account>, ConfigError> {
    let &Process { user_number, group_number, .. } = process;
    let chosen = match user_number {
        None => choose(process.user.as_ref(), accounts)?,
        Some(number) => {
            let known = accounts.lines().filter_map(account).find(|account| account.user == number);
            Some(known.unwrap_or_else(|| Account { name: number.to_string(), user: number, group: number }))
        }
    };
    Ok(chosen.map(|account| Account { group: group_number.unwrap_or(account.group), ..account }))
}

/// The user with this name, or the first usual one that exists; `None` for root.
#[cfg(feature = "system")]
fn choose(user: Option<&Given<String>>, accounts: &str) -> Result<Option<Account>, ConfigError> {
    let names = user.map_or(USUAL.to_vec(), |user| vec![&**user]);
    let find = |name: &&str| accounts.lines().filter_map(account).find(|account| account.name == **name);
    match names.iter().find_map(find) {
        Some(account) if account.user == 0 => Ok(None),
        Some(account) => Ok(Some(account)),
        None => {
            let text =
                format!("there is no user '{}' to become instead of root", Escaped(&names.join("', '")));
            Err(user.map_or_else(|| ConfigError::new("user", &*text), |user| user.error("user", &text)))
        }
    }
}

/// Parses one line of the users: name, password, user number, group number, and fields that are not needed here.
#[cfg(feature = "system")]
fn account(line: &str) -> Option<Account> {
    let mut parts = line.split(':');
    let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
    let mut numbers = parts.skip(1).map(str::parse);
    Some(Account { name, user: numbers.next()?.ok()?, group: numbers.next()?.ok()? })
}

/// The group of a user and the groups that list the user: each line has a name, a password, a number and the members.
#[cfg(feature = "system")]
fn groups_of(account: &Account, groups: &str) -> Vec<u32> {
    let naming = groups.lines().filter_map(|line| {
        let mut parts = line.split(':').skip(2);
        let number = parts.next()?.parse().ok()?;
        parts.next()?.split(',').any(|member| member == account.name).then_some(number)
    });
    std::iter::once(account.group).chain(naming).collect()
}

/// The same where it is not possible: root stays root, unless another user was specified.
#[cfg(not(feature = "system"))]
pub fn drop_rights(
    process: &Process,
    _give_to: impl FnOnce(u32, u32),
) -> Result<Option<String>, ConfigError> {
    check_user(process)?;
    if is_root() {
        warn!(
            "Running as root: this build cannot become another user, because it lacks the feature `system`."
        );
    }
    Ok(None)
}

/// As above.
#[cfg(not(feature = "system"))]
pub fn check_user(process: &Process) -> Result<(), ConfigError> {
    let named = process.user.clone().filter(|name| **name != *"root");
    let number = [("PUID", process.user_number), ("PGID", process.group_number)].into_iter().find_map(
        |(name, number)| Some(Given::at(format_args!("{name} in the environment"), number?.to_string())),
    );
    let Some(name) = number.or(named).filter(|_| is_root()) else { return Ok(()) };
    let text = format!(
        "this build cannot become '{}': it lacks the feature `system`; start it as that user, or say `user root`",
        Escaped(&name)
    );
    Err(name.error("user", text))
}

#[cfg(not(feature = "system"))]
fn is_root() -> bool {
    // The directory of a process belongs to the user that it runs as.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Denies these permissions to all files that the process creates from now on.
///
/// # Errors
///
/// This build cannot do that.
#[cfg(feature = "system")]
pub fn set_file_mask(mask: u32) -> Result<(), ConfigError> {
    use nix::sys::stat::{Mode, umask};
    umask(Mode::from_bits_truncate(mask));
    Ok(())
}

/// As above.
#[cfg(not(feature = "system"))]
pub fn set_file_mask(_mask: u32) -> Result<(), ConfigError> {
    Err(ConfigError::new("UMASK_SET", "this build cannot apply it: it lacks the feature `system`"))
}

#[cfg(all(test, feature = "system"))]
mod tests {
    use super::*;
    #[test]
    fn a_user_has_to_be_there() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nbad\n:x:7:7\nbad:x:a:1::\nmosquitto:x:56:78::\nbrooklet:x:12:34:,,,:/:/bin/false";
        let error =
            choose(Some(&"no-such-user".to_owned().into()), users).expect_err("there is none").to_string();
        assert_eq!(error, "user: there is no user 'no-such-user' to become instead of root");
        assert!(choose(Some(&"root".to_owned().into()), users).expect("there is one").is_none());
        let account = choose(None, users).expect("there is one").expect("it is not root");
        assert_eq!(account, Account { name: "brooklet".to_owned(), user: 12, group: 34 });
        let of_mosquitto = choose(Some(&"mosquitto".to_owned().into()), users).expect("there is one");
        assert_eq!(of_mosquitto.map(|account| account.user), Some(56));
        let numbers = |user_number, group_number| Process { user_number, group_number, ..Process::default() };
        for (process, expected) in [
            (numbers(None, None), ("brooklet", 12, 34)),
            (numbers(None, Some(5)), ("brooklet", 12, 5)),
            (numbers(Some(12), None), ("brooklet", 12, 34)),
            (numbers(Some(9), None), ("9", 9, 9)),
            (numbers(Some(9), Some(8)), ("9", 9, 8)),
        ] {
            let account = wanted(&process, users).expect("there is one").expect("it is not root");
            assert_eq!((account.name.as_str(), account.user, account.group), expected);
        }
        let groups =
            "root:x:0:\nkeys:x:5:daemon,brooklet\nalmost:x:6:brooklets\nbad:x:-1:brooklet\nssl:x:9:brooklet";
        assert_eq!(groups_of(&account, groups), [34, 5, 9]);
    }

    #[test]
    fn a_group_has_a_name_or_a_number() {
        assert_eq!((group_number("root"), group_number("17")), (Ok(0), Ok(17)));
        for unknown in ["", "-1", "4294967295", "no such group"] {
            assert_eq!(group_number(unknown), Err(format!("there is no group '{unknown}'")));
        }
    }
}
